//! Where a publisher's transport stream comes from.
//!
//! | `--input` | module | pace |
//! |---|---|---|
//! | a file | [`file`] | its own PCRs |
//! | `-`, a FIFO, a device | [`pipe`] | as it comes, never far ahead of its PCRs |
//! | `udp://IP:PORT` | [`udp`] | as it comes |
//! | `test:KBPS` | [`generated`] | its own clock |

pub(super) mod file;
pub(super) mod generated;
pub(super) mod pipe;
pub(super) mod rtp;
pub(super) mod udp;

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use cache_core::media::NotTransportStream;
use cache_core::time::Time;
use cache_core::units::BitRate;
use mio::{Registry, Waker};

/// Rate of `test:` without a number: the paper's stream.
const TEST_KBPS: u64 = 2_000;

/// Largest rate of `test:`: a chunk of 1 MiB each 200 ms.
const TEST_KBPS_MAX: u64 = 40_000;

/// What an input has at a moment.
#[derive(Debug)]
pub(super) enum Step {
    /// The stream's next bytes; ask again.
    Bytes(Bytes),
    /// Nothing before this time.
    Wait(Time),
    /// Nothing before the poll tells.
    Idle,
    /// The stream is over.
    End,
}

/// Why an input cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    /// Reading failed.
    #[error("the input cannot be read any more: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("{0}")]
    Content(#[from] NotTransportStream),
    /// A file that does not say how fast it plays.
    #[error(
        "the file has no clock (PCR) in its first {0} bytes, so its speed is unknown: send it with ffmpeg -re -i FILE -c copy -f mpegts - | weircast-peer publish NAME --input -"
    )]
    NoClock(u64),
}

/// Any of them.
pub(super) trait Input: std::fmt::Debug {
    /// What there is at `now`.
    fn next(&mut self, now: Time) -> Result<Step, InputError>;
}

/// Opens what `--input` names.
pub(super) fn open(name: &str, repeat: bool, registry: &Registry, waker: Arc<Waker>) -> anyhow::Result<Box<dyn Input>> {
    if let Some(kbps) = name.strip_prefix("test:") {
        let kbps = if kbps.is_empty() { TEST_KBPS } else { kbps.parse().unwrap_or(0) };
        ensure!(
            (1..=TEST_KBPS_MAX).contains(&kbps),
            "--input {name}: the rate is a number of kbit/s from 1 to {TEST_KBPS_MAX}, for example test:2000"
        );
        return Ok(Box::new(generated::Generated::new(BitRate::from_kbps(kbps))));
    }
    if let Some(addr) = name.strip_prefix("udp://") {
        let addr = addr.trim_start_matches('@');
        let addr = addr.parse().with_context(|| format!("--input {name}: expected udp://IP:PORT"))?;
        let udp = udp::UdpInput::open(addr, registry);
        return Ok(Box::new(udp.with_context(|| format!("--input {name}: cannot be received"))?));
    }
    ensure!(!name.contains("://"), "--input {name}: only files, -, udp://IP:PORT and test:KBPS are taken");
    if name == "-" {
        ensure!(!repeat, "--loop needs a file: standard input cannot be read again");
        return Ok(Box::new(pipe::Pipe::spawn(io::stdin(), waker)?));
    }
    let path = Path::new(name);
    let cannot = || format!("--input {name}: the file cannot be read");
    let file = std::fs::File::open(path).with_context(cannot)?;
    let kind = file.metadata().with_context(cannot)?.file_type();
    if kind.is_file() {
        return Ok(Box::new(file::FileInput::new(file, repeat)));
    }
    if kind.is_dir() {
        bail!("--input {name} is a directory: give a file");
    }
    ensure!(!repeat, "--loop needs a file: {name} cannot be read again");
    Ok(Box::new(pipe::Pipe::spawn(file, waker)?))
}
