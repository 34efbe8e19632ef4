//! `cargo xtask demo` shows the whole system at work; `cargo xtask test` runs every check there is; `cargo xtask
//! perf`, `perf-viewers` and `perf-restart` measure; `cargo xtask reality` holds the simulator against real peers.
//!
//! | module | its one job |
//! |---|---|
//! | [`demo`] | a stream through two domains, with viewers, a live view and a report |
//! | [`perf`] | the experiments of `perf/README.md` |
//! | [`reality`] | real peers in namespaces of their own, and the simulator with the same parameters |
//! | [`restart`] | one of them alone, with everything to choose: kills and restarts |
//! | [`host`] | packages of the machine |
//! | [`test`] | format, clippy, builds and all tests, in order, up to the first failure |
//! | [`cargo`] | running cargo and finding what it built |

mod cargo;
mod demo;
mod host;
mod perf;
mod reality;
mod restart;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Weircast's one-command demo, test and measurement")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Starts a route server and two domains on loopback, publishes a stream into the first and lets viewers join in
    /// both; shows how they fare and ends on Ctrl-C or after --seconds with a report.
    Demo(demo::Options),
    /// Installs what the tests need where it may (Debian packages, as root), then runs format, clippy, build, unit,
    /// property, architecture, end-to-end, documentation and loom tests; stops at the first failure.
    Test,
    /// Measures Weircast beside nginx, icecast2, varnish and the bare ceiling. See perf/README.md.
    Perf(perf::Options),
    /// Measures one cache: N viewers of one stream on one shard, in release. See perf/README.md.
    PerfViewers(perf::ViewersOptions),
    /// Kills a cache under load at random moments, 200 times, starts it again and compares all that it serves with what
    /// was published; tells how long viewers wait.
    PerfRestart(restart::Options),
    /// Runs real peers in network namespaces with rates of their own, and the simulator with the same parameters; fails
    /// when offload, start-up or continuity differ by more than 10 %. Needs root. See perf/README.md.
    Reality(reality::Options),
}

fn main() -> ExitCode {
    // `cargo xtask demo -- --peers 40` works as `cargo xtask demo --peers 40` does.
    let words = std::env::args_os().filter(|word| word != "--");
    let result = match Arguments::parse_from(words).command {
        Task::Demo(options) => demo::run(&options),
        Task::Test => test::run(),
        Task::Perf(options) => perf::run(&options),
        Task::PerfViewers(options) => perf::viewers(&options),
        Task::PerfRestart(options) => restart::run(&options),
        Task::Reality(options) => reality::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
