//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::sign::KeyRing;
use cache_core::units::{Epoch, StreamId};
use cache_core::wire::StreamName;
use cache_core::wire::index::StreamKey;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::viewers::{Verify, Wants, Way};

/// Puts a Weircast cache under load and proves that it serves: publishes a stream, watches it with N viewers,
/// verifies every byte and measures how late each chunk comes.
///
/// A run passes (exit code 0) only when every one of the N viewers got every chunk of the measured span.
#[derive(Debug, Parser)]
#[command(name = "weircast-load", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Publishes a stream and watches it with N viewers. Try: weircast-load run --cache 127.0.0.1:PORT -n 100
    Run(Run),
    /// Publishes a stream until Ctrl-C or for --seconds.
    Publish(Publish),
    /// Watches a stream that somebody else publishes.
    Viewers(Viewers),
    /// Checks whether this machine has room for the viewers and the cache can be reached; starts nothing.
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The cache to reach; without it only this machine is looked at.
    #[arg(long)]
    pub(crate) cache: Option<SocketAddr>,
    /// Viewers.
    #[arg(short = 'n', long = "viewers", default_value_t = 100, value_parser = viewers)]
    pub(crate) viewers: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The cache to load.
    #[arg(long)]
    pub(crate) cache: SocketAddr,
    #[command(flatten)]
    pub(crate) stream: Stream,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The cache to publish to.
    #[arg(long)]
    pub(crate) to: SocketAddr,
    #[command(flatten)]
    pub(crate) stream: Stream,
    /// Ends after so many seconds; without it, on Ctrl-C.
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Viewers {
    /// The cache to watch at.
    #[arg(long)]
    pub(crate) cache: SocketAddr,
    /// The stream's name.
    #[arg(long)]
    pub(crate) stream: StreamName,
    /// The publisher's public key, as `weircast-load publish` prints it: EPOCH:HEX. May be repeated. Without one,
    /// chunks are verified by hash and payload only, and the report says so.
    #[arg(long, value_parser = key)]
    pub(crate) key: Vec<(u64, [u8; 32])>,
    /// The stream is the built-in generator's: its payload is checked too (the only check there is over HTTP).
    #[arg(long)]
    pub(crate) generated: bool,
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Debug, Args)]
pub(crate) struct Stream {
    /// The stream's name.
    #[arg(long, default_value = "load")]
    pub(crate) stream: StreamName,
    /// Rate of the generated stream, which checks itself.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=40_000))]
    pub(crate) kbps: u64,
    /// Publishes this MPEG-TS file, over and over, instead of a generated stream.
    #[arg(long)]
    pub(crate) input: Option<PathBuf>,
    /// Uploads by HTTP PUT (the cache slices and signs) instead of Weircast's protocol. Needed for a cache with an
    /// index, which takes native publishers only under a term that its index granted.
    #[arg(long)]
    pub(crate) http: bool,
    /// The name's publish secret, for --http.
    #[arg(long)]
    pub(crate) secret: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Viewers.
    #[arg(short = 'n', long = "viewers", default_value_t = 100, value_parser = viewers)]
    pub(crate) viewers: usize,
    /// How they get the stream.
    #[arg(long, value_enum, default_value_t = Mode::Pull)]
    pub(crate) mode: Mode,
    /// Length of the measured span, which begins when all have joined.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Joins begun in a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) joins_per_second: u64,
    /// Requests that a pull viewer keeps waiting at the cache.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) ahead: u16,
    /// Whose chunks are verified: `all`, `sample:K` (every K-th viewer's) or `none`.
    #[arg(long, default_value = "all", value_parser = verify)]
    pub(crate) verify: Verify,
    /// Threads for the viewers.
    #[arg(long, default_value_t = 1, value_parser = threads)]
    pub(crate) threads: usize,
    /// Writes the report to this file as JSON too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// How viewers get the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Each chunk is asked for ahead of time.
    Pull,
    /// The cache pushes each new chunk.
    Push,
    /// GET /live/NAME.ts, as a player does it.
    Http,
}

impl Load {
    /// Whether the switches go together.
    pub(crate) fn check(&self, generated: bool) -> anyhow::Result<()> {
        if self.mode == Mode::Http && !generated {
            anyhow::bail!(
                "--mode http can only judge the generated stream: leave out --input, or say --generated if the publisher \
                 is another weircast-load"
            );
        }
        if self.mode == Mode::Http && self.verify != Verify::All {
            anyhow::bail!("--mode http tells chunks apart by verifying them: leave out --verify");
        }
        Ok(())
    }

    pub(crate) fn way(&self) -> Way {
        match self.mode {
            Mode::Pull => Way::Native(Wants::Pull { ahead: self.ahead }),
            Mode::Push => Way::Native(Wants::Push),
            Mode::Http => Way::Http,
        }
    }

    pub(crate) fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Pull => "pull",
            Mode::Push => "push",
            Mode::Http => "http",
        }
    }
}

/// The keys of a stream as the command line gave them.
pub(crate) fn key_ring(stream: StreamId, keys: &[(u64, [u8; 32])]) -> KeyRing {
    let keys: Vec<StreamKey> = keys.iter().map(|(epoch, key)| StreamKey { epoch: Epoch(*epoch), key: *key }).collect();
    let mut ring = KeyRing::new(stream);
    ring.replace(&keys);
    ring
}

/// As [`key`] reads it.
pub(crate) fn key_text(epoch: Epoch, key: &[u8; 32]) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", epoch.0)
}

fn key(text: &str) -> Result<(u64, [u8; 32]), String> {
    let wrong = || "a key is EPOCH:HEX with 64 hexadecimal digits".to_owned();
    let (epoch, hex) = text.split_once(':').ok_or_else(wrong)?;
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok((epoch.parse().map_err(|_| wrong())?, bytes))
}

fn verify(text: &str) -> Result<Verify, String> {
    match text.split_once(':') {
        None if text == "all" => Ok(Verify::All),
        None if text == "none" => Ok(Verify::None),
        Some(("sample", every)) => match every.parse() {
            Ok(every @ 1..) => Ok(Verify::Sample(every)),
            _ => Err("sample:K takes a number from 1 on".to_owned()),
        },
        _ => Err("one of `all`, `sample:K`, `none`".to_owned()),
    }
}

/// More viewers than there are loopback sources is nobody's machine (our guess).
fn viewers(text: &str) -> Result<usize, String> {
    ranged(text, 1_000_000)
}

fn threads(text: &str) -> Result<usize, String> {
    ranged(text, 256)
}

fn ranged(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("a number from 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_printed_key_is_read_back() {
        let bytes = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(key(&key_text(Epoch(9), &bytes)), Ok((9, bytes)));
        for wrong in ["", "9", "9:00", "x:00", &format!("9:{}", "é".repeat(32)), &format!("9:{}", "+1".repeat(32))] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_to_verify() {
        assert_eq!(verify("sample:8"), Ok(Verify::Sample(8)));
        assert!(verify("sample:0").is_err() && verify("some").is_err());
    }
}
