//! `weircast-ceiling`: what this machine can do at most: a bare loop that sends chunks from a tmpfs by `sendfile` and
//! does nothing else. No ring, no lease, no limit, no skipping: it is what every measured server is held against, and
//! no server to run.
//!
//! ```text
//!  serve   generator --> slots in a file --sendfile--> whoever sends a GET        (this core)
//!  push    starts `serve`; N sinks that throw away what comes and time it         (the other core)
//!  flood   the same without pace: bytes per second and per CPU-second
//!  files   the same chunks as files, for web servers
//!  relay   a chunk from one socket to another: how soon
//! ```
//! | module | its one job |
//! |---|---|
//! | [`slots`] | the file, and what stands in it |
//! | [`server`] | the loop |
//! | [`relay`] | how soon a first byte can be there |
//! | [`sinks`] | the other end of `push` and `flood` |
//!
//! It speaks as much HTTP as `weircast-load` needs to measure it exactly as it measures the others: `GET /live/NAME.ts`
//! is the stream from its next chunk on, `GET /live/NAME/SEQ.ts` one chunk with the connection kept alive.

mod relay;
mod server;
mod sinks;
mod slots;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// A bare sendfile loop: the ceiling that servers on this machine are held against.
#[derive(Debug, Parser)]
#[command(name = "weircast-ceiling", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Serves the generated stream until it is killed; prints `ready {json}`.
    Serve(Serve),
    /// Sends each chunk to N sinks when it is due; prints how late they came as JSON.
    Push(Push),
    /// Passes chunks from one socket to another; prints how soon the first byte is there as `ready {json}`.
    Relay(Relay),
    /// Writes the generated stream's first chunks as files 0.ts, 1.ts ... for other servers to serve.
    Files(Files),
    /// Sends chunks to N sinks as fast as they go; prints bytes and CPU time as JSON.
    Flood(Flood),
}

/// What is served, and from where.
#[derive(Clone, Debug, Args)]
struct Content {
    /// Where the file of chunks is made; it is deleted at once and stays open.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Rate of the stream; a chunk is 200 ms of it.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=80_000))]
    kbps: u64,
    /// The CPU of the sending thread; any when not said.
    #[arg(long)]
    cpu: Option<usize>,
}

#[derive(Clone, Debug, Args)]
struct Serve {
    #[command(flatten)]
    content: Content,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Every chunk has the same length and no meaning (what `push` and `flood` count with).
    #[arg(long)]
    plain: bool,
    /// Nothing new comes: single chunks are asked for, and none is overwritten meanwhile.
    #[arg(long)]
    still: bool,
    /// Ends with the thread that started it.
    #[arg(long, hide = true)]
    with_parent: bool,
}

#[derive(Clone, Debug, Args)]
struct Relay {
    /// Length of a chunk.
    #[arg(long, default_value_t = 50_000)]
    bytes: usize,
    #[arg(long, default_value_t = 500)]
    chunks: usize,
    /// The CPU of the relay, and that of publisher and peer; any when not said.
    #[arg(long)]
    cpu: Option<usize>,
    #[arg(long)]
    sink_cpu: Option<usize>,
    /// The peer does not sleep until its byte comes.
    #[arg(long)]
    spin: bool,
    /// Between two chunks: long enough that everything has gone to sleep. The longer, the colder are caches.
    #[arg(long, default_value_t = 20)]
    period_ms: u64,
}

#[derive(Clone, Debug, Args)]
struct Files {
    #[command(flatten)]
    content: Content,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    count: u64,
}

#[derive(Clone, Debug, Args)]
struct Push {
    #[command(flatten)]
    content: Content,
    /// Sinks; may be repeated. With --reach-ms, the range to search instead: its smallest and largest.
    #[arg(short = 'n', long = "sinks", default_values_t = [500, 2_000, 5_000])]
    sinks: Vec<usize>,
    /// Finds the largest number of sinks whose p99 lateness is under so many milliseconds.
    #[arg(long)]
    reach_ms: Option<f64>,
    #[command(flatten)]
    span: Span,
}

#[derive(Clone, Debug, Args)]
struct Flood {
    #[command(flatten)]
    content: Content,
    /// Sinks.
    #[arg(short = 'n', long = "sinks", default_value_t = 1_000)]
    sinks: usize,
    #[command(flatten)]
    span: Span,
}

#[derive(Clone, Copy, Debug, Args)]
struct Span {
    /// Length of each measured span.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The CPU of the sinks; any when not said.
    #[arg(long)]
    sink_cpu: Option<usize>,
}

fn main() -> ExitCode {
    let result = make_room().and_then(|()| match Arguments::parse().command {
        Task::Serve(options) => serve(&options),
        Task::Files(options) => slots::files(&options.content.dir, options.content.kbps, options.count),
        Task::Relay(options) => relay::run(&options),
        Task::Push(options) => sinks::push(&options),
        Task::Flood(options) => sinks::flood(&options),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Serve) -> Result<()> {
    if options.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL)).context("no parent-death signal")?;
    }
    pin(options.content.cpu)?;
    server::run(options)
}

/// Raises the soft limit of open files to the hard one.
fn make_room() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

/// Keeps this thread on one CPU.
fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    anyhow::ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))
}
