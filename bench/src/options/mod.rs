//! The command line.
//!
//! | module | its one job |
//! |---|---|
//! | this | the commands and what goes together |
//! | [`parse`] | texts into values |
//! | [`url`] | `http://USER:PASS@HOST:PORT/PATH` |

mod parse;
pub(crate) mod url;

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::wire::StreamName;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use parse::{Ramp, Share, VIEWERS_MAX, key_ring, key_text};
use url::Url;

use crate::viewers::{Shares, Verify, Wants, Way};

/// Puts a Weircast cache, or another server, under load and proves that it serves: publishes streams, watches them with
/// N viewers, verifies what arrives and measures how late each chunk comes.
///
/// A run passes (exit code 0) only when every one of the N viewers got every chunk of the measured span, nothing was
/// wrong, and the tool itself was not what limited the numbers. 1: it did not pass. 2: the command line.
#[derive(Debug, Parser)]
#[command(name = "weircast-load", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Publishes and watches with N viewers. Try: weircast-load run --cache 127.0.0.1:PORT -n 100
    Run(Box<Run>),
    /// Publishes one stream, or many, until Ctrl-C or for --seconds.
    Publish(Box<Publish>),
    /// Watches a stream that somebody else publishes.
    Viewers(Box<Viewers>),
    /// Publishes, and lets viewers join at a rate; measures how long a join takes.
    Joins(Box<Joins>),
    /// Publishes and watches for a long time with viewers that come and go; fails when the server's memory grows.
    Soak(Box<Soak>),
    /// Checks whether this machine has room for the viewers and the cache can be reached; starts nothing.
    Check(Check),
    /// One of the processes of --processes: told what to do through its standard input.
    #[command(hide = true)]
    Crew,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The cache to reach; without it only this machine is looked at.
    #[arg(long, value_parser = parse::address)]
    pub(crate) cache: Option<SocketAddr>,
    /// Viewers.
    #[arg(short = 'n', long = "viewers", default_value_t = 100, value_parser = parse::viewers)]
    pub(crate) viewers: usize,
}

/// What is put under load.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Server {
    /// The Weircast cache.
    #[arg(long, value_parser = parse::address)]
    pub(crate) cache: Option<SocketAddr>,
    /// Another server: where viewers get the stream (`http` mode: an endless transport stream, as icecast gives it) or
    /// files (`get` mode: `{seq}` stands for the chunk's number). `{stream}` stands for the stream's name.
    #[arg(long)]
    pub(crate) url: Option<Url>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) stream: Stream,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) shares: BadShares,
    #[command(flatten)]
    pub(crate) ramp: RampLimit,
}

#[derive(Debug, Args)]
#[group(id = "to_where", required = true, multiple = false, args = ["to", "url"])]
pub(crate) struct Publish {
    /// The cache to publish to.
    #[arg(long, value_parser = parse::address)]
    pub(crate) to: Option<SocketAddr>,
    /// Another server that takes HTTP PUT as icecast does: http://USER:PASS@HOST:PORT/PATH. `{stream}` stands for the
    /// stream's name.
    #[arg(long)]
    pub(crate) url: Option<Url>,
    #[command(flatten)]
    pub(crate) stream: Stream,
    /// Ends after so many seconds; without it, on Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,
    /// Writes the timetable (when each chunk was due and when its last byte was written) to this file while it runs,
    /// for `viewers --times`; put it on a tmpfs. 32 KiB for each stream.
    #[arg(long)]
    pub(crate) times: Option<PathBuf>,
    /// Writes how late chunks left to this file as JSON, at the end.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Falling behind the schedule is told, but fails nothing.
    #[arg(long)]
    pub(crate) correctness_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Viewers {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The stream's name; with --streams M they are NAME-0 to NAME-(M-1).
    #[arg(long, default_value = "load")]
    pub(crate) stream: StreamName,
    /// How many streams there are; viewers are spread over them.
    #[arg(long, default_value_t = 1, value_parser = parse::streams)]
    pub(crate) streams: usize,
    /// Rate of the generated stream, if it is one.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=40_000))]
    pub(crate) kbps: u64,
    /// The publisher's public key, as `weircast-load publish` prints it: EPOCH:HEX. May be repeated. Without one,
    /// chunks are verified by hash and payload only, and the report says so.
    #[arg(long, value_parser = parse::key)]
    pub(crate) key: Vec<(u64, [u8; 32])>,
    /// The stream is the built-in generator's: its payload is checked too (the only check there is over HTTP).
    #[arg(long)]
    pub(crate) generated: bool,
    /// The publisher's timetable (`publish --times`), on the same host: lateness over HTTP is then absolute, and
    /// lateness from the upload is known.
    #[arg(long)]
    pub(crate) times: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) shares: BadShares,
    #[command(flatten)]
    pub(crate) ramp: RampLimit,
}

#[derive(Debug, Args)]
pub(crate) struct Joins {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) stream: Stream,
    /// Joins begun in a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,
    /// How they are spread in time.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(crate) arrivals: Arrivals,
    /// For so long joins are begun.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How long a viewer stays from its first whole chunk on.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    pub(crate) hold_ms: u64,
    /// A viewer that is sent elsewhere goes there.
    #[arg(long)]
    pub(crate) follow: bool,
    /// A join that is refused at once with a reason counts as answered and does not fail the run.
    #[arg(long)]
    pub(crate) refusals_pass: bool,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) stream: Stream,
    /// Viewers at any time.
    #[arg(short = 'n', long = "viewers", default_value_t = 100, value_parser = parse::viewers)]
    pub(crate) viewers: usize,
    /// Length of the measured span in minutes; a fraction is allowed.
    #[arg(long, default_value_t = 30.0, value_parser = parse::minutes)]
    pub(crate) minutes: f64,
    /// Percent of the viewers that leave in a minute; others take their places at once.
    #[arg(long, default_value_t = 10.0, value_parser = parse::percent)]
    pub(crate) churn: f64,
    /// Between two looks at the server's memory. By default a hundredth of the span, 1 to 5 s.
    #[arg(long, value_parser = parse::seconds)]
    pub(crate) sample_every_s: Option<f64>,
    /// Joins begun in a second at the beginning.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) joins_per_second: u64,
    #[command(flatten)]
    pub(crate) shares: BadShares,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Stream {
    /// The stream's name; with --streams M they are NAME-0 to NAME-(M-1).
    #[arg(long, default_value = "load")]
    pub(crate) stream: StreamName,
    /// Publishes so many streams. All carry the same generated payload, each is numbered and signed on its own, and
    /// their chunks are spread evenly over the 200 ms. Viewers are spread over them.
    #[arg(long, default_value_t = 1, value_parser = parse::streams)]
    pub(crate) streams: usize,
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
    /// With --url: where the stream is published when that is not the viewers' URL:
    /// http://USER:PASS@HOST:PORT/PATH.
    #[arg(long)]
    pub(crate) publish_url: Option<Url>,
}

/// How N viewers watch.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    /// Viewers.
    #[arg(short = 'n', long = "viewers", default_value_t = 100, value_parser = parse::viewers)]
    pub(crate) viewers: usize,
    /// Length of the measured span, which begins when all have joined.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Joins begun in a second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) joins_per_second: u64,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// What every command that watches needs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    /// How viewers get the stream. With --url `http` when not said.
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Mode>,
    /// Requests that a pull viewer keeps waiting at the cache.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) ahead: u16,
    /// Whose chunks are verified: `all`, `sample:K` (every K-th viewer's) or `none`. What is not verified is discarded
    /// in the kernel, chunk by chunk, with headers and positions still read.
    #[arg(long, default_value = "all", value_parser = parse::verify)]
    pub(crate) verify: Verify,
    /// Threads for the viewers, in each process.
    #[arg(long, default_value_t = 1, value_parser = parse::threads)]
    pub(crate) threads: usize,
    /// Processes for the viewers, for more of them than one process may have descriptors. 1: in this one.
    #[arg(long, default_value_t = 1, value_parser = parse::processes)]
    pub(crate) processes: usize,
    /// get mode: how far behind the newest chunk a viewer asks.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=250))]
    pub(crate) get_back: u64,
    /// get mode with --url: `{seq}` runs from 0 to this less one.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) get_modulo: Option<u64>,
    /// get mode: each viewer sends its next request as soon as the answer is there, as fast as the server allows.
    /// Measures throughput; lateness means nothing then.
    #[arg(long)]
    pub(crate) closed_loop: bool,
    /// Viewers' threads never sleep: each keeps a CPU busy. A server on the same machine pays for each waking of a client
    /// that sleeps, which a server behind a network does not.
    #[arg(long)]
    pub(crate) spin: bool,
    /// The server's process: its CPU time and memory over the measured span are reported. A master's children count.
    #[arg(long)]
    pub(crate) server_pid: Option<u32>,
    /// Judges only whether everybody was served and every byte right. Slowness of the tool itself is told, but fails
    /// nothing: for checks on a busy machine, not for measurements.
    #[arg(long)]
    pub(crate) correctness_only: bool,
    /// Writes the report to this file as JSON too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Writes the report to this file as one self-contained HTML page too.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}

/// Viewers that behave badly, as shares of all: `0.1` or `10%`. They are counted apart: a run passes when the others
/// were served, and the bad ones got no wrong byte.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct BadShares {
    /// Read at half the stream's rate.
    #[arg(long, default_value_t = Share::NONE, value_parser = parse::share)]
    pub(crate) slow: Share,
    /// Stop reading after their first chunks, and stay.
    #[arg(long, default_value_t = Share::NONE, value_parser = parse::share)]
    pub(crate) stopped: Share,
    /// Leave without a word after 1 to 5 s; another takes the place at once.
    #[arg(long, default_value_t = Share::NONE, value_parser = parse::share)]
    pub(crate) leaving: Share,
    /// Lose their connection after 1 to 5 s and come back within 1 s.
    #[arg(long, default_value_t = Share::NONE, value_parser = parse::share)]
    pub(crate) reconnect: Share,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct RampLimit {
    /// Looks for the most viewers that are served in time: runs FROM, FROM+STEP ... TO viewers until one level fails,
    /// then halves the gap down to an eighth of STEP. -n is not used.
    #[arg(long, value_parser = parse::ramp)]
    pub(crate) ramp: Option<Ramp>,
    /// A run also fails when p99 of the (good) viewers' lateness is above this.
    #[arg(long, value_parser = parse::milliseconds)]
    pub(crate) limit_p99_ms: Option<f64>,
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
    /// One keep-alive GET of a single chunk each 200 ms.
    Get,
}

/// How joins are spread in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// One after the other at even distances.
    Even,
    /// Independent of each other, as people come.
    Poisson,
}

impl Server {
    pub(crate) fn mode(&self, watch: &Watch) -> Mode {
        watch.mode.unwrap_or(if self.url.is_some() { Mode::Http } else { Mode::Pull })
    }

    /// Whether the switches go together; `generated`: the stream is the built-in one.
    pub(crate) fn check(&self, watch: &Watch, generated: bool) -> anyhow::Result<()> {
        let mode = self.mode(watch);
        if self.url.is_some() && matches!(mode, Mode::Pull | Mode::Push) {
            anyhow::bail!("--url is for servers that do not speak Weircast's protocol: --mode http or get");
        }
        if mode == Mode::Http && !generated {
            anyhow::bail!(
                "--mode http can only judge the generated stream: leave out --input, or say --generated if the publisher \
                 is another weircast-load"
            );
        }
        let names_chunks = self.url.as_ref().is_none_or(|url| url.path.contains("{seq}"));
        if mode == Mode::Get && !names_chunks {
            anyhow::bail!("--mode get needs {{seq}} in --url, where the chunk's number stands");
        }
        if mode == Mode::Get && self.url.is_some() && watch.get_modulo.is_none() {
            anyhow::bail!("--mode get with --url needs --get-modulo: how many files there are");
        }
        if mode == Mode::Get && !generated && watch.verify != Verify::None {
            anyhow::bail!("--mode get can only verify the generator's chunks: --generated, or --verify none");
        }
        if watch.closed_loop && mode != Mode::Get {
            anyhow::bail!("--closed-loop is for --mode get");
        }
        if watch.json.is_some() && watch.json == watch.html {
            anyhow::bail!("--json and --html name the same file, and the second would replace the first: one each");
        }
        Ok(())
    }

    pub(crate) fn way(&self, watch: &Watch) -> Way {
        match self.mode(watch) {
            Mode::Pull => Way::Native(Wants::Pull { ahead: watch.ahead }),
            Mode::Push => Way::Native(Wants::Push),
            Mode::Http => Way::Http,
            Mode::Get => Way::Get { back: watch.get_back, modulo: watch.get_modulo, closed_loop: watch.closed_loop },
        }
    }
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Pull => "pull",
            Mode::Push => "push",
            Mode::Http => "http",
            Mode::Get => "get",
        }
    }
}

impl BadShares {
    /// As the viewers' plan takes them; an error when they are more than all.
    pub(crate) fn shares(&self) -> anyhow::Result<Shares> {
        let shares = [self.slow, self.stopped, self.leaving, self.reconnect].map(Share::per_million);
        if shares.iter().sum::<u32>() > 1_000_000 {
            anyhow::bail!("--slow, --stopped, --leaving and --reconnect are more than all viewers together");
        }
        let [slow, stopped, leaving, reconnect] = shares;
        Ok(Shares { slow, stopped, leaving, reconnect })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    fn run(line: &str) -> Box<Run> {
        match parsed(line).expect("a good line").command {
            Task::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_server_is_a_cache_or_a_url() {
        assert!(parsed("weircast-load run").is_err());
        assert!(parsed("weircast-load run --cache 127.0.0.1:1 --url http://127.0.0.1:2/x").is_err());
        let foreign = run("weircast-load run --url http://127.0.0.1:8000/live.ts");
        assert_eq!(foreign.server.mode(&foreign.load.watch), Mode::Http);
        let ours = run("weircast-load run --cache 127.0.0.1:1");
        assert_eq!(ours.server.mode(&ours.load.watch), Mode::Pull);
    }

    #[test]
    fn an_address_is_a_number_with_a_port() {
        for wrong in ["localhost:7400", "127.0.0.1", "127.0.0.1:80000"] {
            let said = parsed(&format!("weircast-load run --cache {wrong}")).expect_err(wrong).to_string();
            assert!(said.contains("as 127.0.0.1:7400"), "{said}");
        }
    }

    #[test]
    fn switches_that_do_not_go_together_are_refused() {
        for line in [
            "weircast-load run --url http://127.0.0.1:1/x --mode pull",
            "weircast-load run --url http://127.0.0.1:1/x --mode get",
            "weircast-load run --url http://127.0.0.1:1/{seq}.ts --mode get",
            "weircast-load run --cache 127.0.0.1:1 --closed-loop",
            "weircast-load run --cache 127.0.0.1:1 --json a --html a",
        ] {
            let run = run(line);
            assert!(run.server.check(&run.load.watch, true).is_err(), "{line}");
        }
        let files = run("weircast-load run --url http://127.0.0.1:1/{seq}.ts --mode get --get-modulo 64");
        assert!(files.server.check(&files.load.watch, true).is_ok());
        assert!(run("weircast-load run --cache 127.0.0.1:1 --slow 60% --leaving 0.5").shares.shares().is_err());
    }
}
