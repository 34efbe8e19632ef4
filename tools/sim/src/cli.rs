//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use weircast_sim::cycle::cli::{AveragingArgs, SwarmArgs};
use weircast_sim::paper::cli::PaperArgs;
use weircast_sim::scenario::file::Source;

/// Exit codes, as `--help` documents them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    every bound is kept and every invariant held
  1    a bound is not kept, or an invariant is broken
  2    the command line or a file has to be mended
  130  ended by Ctrl-C; what was finished is reported";

const EXAMPLES: &str = "\
Examples:
  weircast-sim run tools/sim/scenarios/churn.toml --seeds 5 --html churn.html
  weircast-sim run tools/sim/scenarios/churn.toml --set audience.peers=5000 --json before.json
  weircast-sim compare before.json tools/sim/scenarios/churn.toml
  weircast-sim compare churn.toml churn.toml --set-b peer.request_control=paper --seeds 10
  weircast-sim sweep tools/sim/scenarios/offload-curve.toml --html offload.html
  weircast-sim sweep churn.toml --key peer.members_c --values 1,2,3 --seeds 5
  weircast-sim torture --minutes 10";

/// Runs Weircast's own state machines in virtual time on a simulated network.
#[derive(Debug, Parser)]
#[command(name = "weircast-sim", version, about, max_term_width = 100,
    after_help = EXIT_CODES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a scenario with one seed or several and judges it by its [expect] bounds.
    Run(RunArgs),
    /// Two scenarios, or reports (JSON) of two revisions: per metric the difference with its 95 % confidence.
    Compare(CompareArgs),
    /// Runs one seed again, as a broken invariant says it.
    Replay(ReplayArgs),
    /// One key over many values, several seeds each: curves with confidence bands.
    Sweep(SweepArgs),
    /// Random scenarios with all faults, seed after seed, until time is up.
    Torture(TortureArgs),
    Averaging(AveragingArgs),
    Swarm(SwarmArgs),
    Paper(PaperArgs),
    /// Every metric by its name, for [expect] and --metrics.
    Metrics,
    /// Reads a scenario, says what is wrong with it, or prints it with every key.
    Check(CheckArgs),
}

/// Where a scenario comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct Over {
    /// A file whose keys win over the scenario's; may be repeated, the last wins.
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Vec<PathBuf>,
    /// A value that wins over all files: `audience.peers=5000`, `audience.uplink.0.up=1.5`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Over {
    pub(crate) fn source(&self, file: Option<PathBuf>) -> Source {
        Source { file, with: self.with.clone(), set: self.set.clone() }
    }
}

/// With which seeds, in how many threads.
#[derive(Clone, Debug, Args)]
pub(crate) struct Seeds {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, from the first one on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: Option<u64>,
    /// Runs side by side; results do not depend on it. Default: the machine's cores.
    #[arg(long, value_name = "T")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The scenario (TOML).
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) over: Over,
    #[command(flatten)]
    pub(crate) seeds: Seeds,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Series as a table: one row for each second of each seed.
    #[arg(long, value_name = "FILE")]
    pub(crate) series: Option<PathBuf>,
}

/// What is written besides the summary.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Output {
    /// Everything as JSON; `compare` reads it.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Metrics as a table: one row for each seed.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// One page with plots.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A scenario (TOML), or what `run --json` wrote.
    pub(crate) a: PathBuf,
    /// What is compared with it: the same choice. A scenario beside a report takes the report's seeds.
    pub(crate) b: PathBuf,
    #[command(flatten)]
    pub(crate) over: Over,
    /// A value for B alone; may be repeated. `--set` is for both.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set_b: Vec<String>,
    #[command(flatten)]
    pub(crate) seeds: Seeds,
    /// The comparison as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The comparison as a table.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The seed.
    pub(crate) seed: u64,
    /// The scenario (TOML).
    #[arg(required_unless_present = "torture", conflicts_with = "torture")]
    pub(crate) file: Option<PathBuf>,
    /// The scenario is the seed's own random one.
    #[arg(long, conflicts_with_all = ["with", "set"])]
    pub(crate) torture: bool,
    #[command(flatten)]
    pub(crate) over: Over,
    /// The trace's digest that is expected; another one is an error.
    #[arg(long)]
    pub(crate) digest: Option<String>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Series as a table: one row for each second.
    #[arg(long, value_name = "FILE")]
    pub(crate) series: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The scenario (TOML), with a table [sweep] unless --key and --values say it.
    pub(crate) file: PathBuf,
    /// The key to vary, as for --set.
    #[arg(long, requires = "values")]
    pub(crate) key: Option<String>,
    /// Its values.
    #[arg(long, value_delimiter = ',')]
    pub(crate) values: Vec<String>,
    #[command(flatten)]
    pub(crate) over: Over,
    #[command(flatten)]
    pub(crate) seeds: Seeds,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct TortureArgs {
    /// Simulated hours.
    #[arg(long)]
    pub(crate) hours: Option<f64>,
    /// Minutes by the clock. Default when nothing else ends it: 1.
    #[arg(long)]
    pub(crate) minutes: Option<f64>,
    /// How many scenarios.
    #[arg(long)]
    pub(crate) runs: Option<u64>,
    /// The first seed. Default: a new one each time, which is printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Runs side by side. Default: the machine's cores.
    #[arg(long, value_name = "T")]
    pub(crate) threads: Option<usize>,
    /// The sum as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The scenario (TOML). Without one: the defaults.
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Prints it with every key.
    #[arg(long)]
    pub(crate) print: bool,
    /// The random scenario of this seed instead of a file.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["file", "with", "set"])]
    pub(crate) torture: Option<u64>,
}
