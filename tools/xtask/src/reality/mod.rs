//! `cargo xtask reality`: real peers in namespaces of their own, and the simulator with the same parameters.
//!
//! ```text
//!            plan: who arrives when, where, with which links                     one plan, carried out twice
//!           /                                              \
//!   real: weircast-peer x N, tbf on every link      simulated: weircast_sim::world::run, several seeds
//!           \                                              /
//!            figures: offload, start-up, continuity, ...            differ by at most 10 %, or the command fails
//! ```
//! | module | its one job |
//! |---|---|
//! | [`plan`] | the parameters, and what follows from them for both sides |
//! | [`real`] | the programs, started, ended and asked for their reports |
//! | [`simulated`] | the simulator's runs |
//! | [`figures`] | the figures of a run, and how far two of them are apart |
//! | [`load`] | what the machine had left while the real peers ran |
//!
//! There is no delay to choose: links here have none to speak of, so the one that is there is measured and simulated.

mod figures;
mod load;
mod plan;
mod real;
mod simulated;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use weircast_testbed::{Programs, namespaces};

use crate::cargo;
use crate::perf::outcome::Outcome;
use crate::perf::{facts, record};
use figures::Comparison;
use plan::Plan;
use real::Real;

/// How far offload, start-up and continuity may be apart.
const APART_MAX: f64 = 0.10;

/// The record's name.
const NAME: &str = "reality";

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Peers.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    peers: u32,
    /// How long it runs, from the first arrival on.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// The peers arrive evenly over so many seconds.
    #[arg(long, default_value_t = 20.0)]
    arrive: f64,
    /// The stream, kbit/s.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(150..=20_000))]
    kbps: u64,
    /// Uplink of each peer over the stream's rate.
    #[arg(long, default_value_t = 1.3)]
    uplink: f64,
    /// Downlink of each peer over the stream's rate.
    #[arg(long, default_value_t = 4.0)]
    downlink: f64,
    /// Share of its uplink that each peer is told to give, in chunk bytes; packets' heads, acknowledgements and what it
    /// says besides need the rest. 0: it is told nothing.
    #[arg(long, default_value_t = 0.95)]
    grant: f64,
    /// Regions, a square number.
    #[arg(long, default_value_t = 16)]
    regions: u32,
    /// Of the first simulated run; the peers' places follow from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated runs, of which the mean counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Leaves the result in perf/.
    #[arg(long)]
    record: bool,
    /// Uses the programs beside this one (a debug build), builds nothing, and judges no difference: does it run?
    #[arg(long, conflicts_with = "record")]
    quick: bool,
    /// Runs no real peers: takes plan and figures of a run that --json or --record has left.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["record", "quick"])]
    against: Option<PathBuf>,
    /// Writes both sides' figures to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the command at once; the guard ends its programs, the next run removes its namespaces.
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let host = facts::machine();
    let Some((plan, real)) = real_side(options, &stop)? else { return Ok(()) };
    eprintln!("simulated: {} runs with the same parameters", options.runs);
    // The real side took minutes: whatever becomes of the rest, it is kept.
    write(options, &json!({"plan": plan, "real": real}))?;
    let (simulated, broken) = simulated::run(&plan, options.runs, &stop)?;
    let comparison = Comparison::new(&real.figures, &simulated, APART_MAX);
    println!("\n{}\n\n{}\n{}", plan.line(), comparison.table(), real.load.line());
    let troubles: Vec<String> = real.troubles.iter().cloned().chain(broken).collect();
    for trouble in &troubles {
        println!("TROUBLE: {trouble}");
    }
    let all = json!({
        "plan": plan, "real": real, "simulated": simulated, "apart_max": APART_MAX, "apart": comparison.apart(),
    });
    write(options, &all)?;
    if options.record {
        let outcome = Outcome { runs: vec![all], ..comparison.outcome(&troubles) };
        let perf = cargo::root()?.join("perf");
        let command = options.command();
        let place = record::raw(&perf, NAME, &command, &host, &outcome)?;
        let today = facts::today();
        let text = format!(
            "{}\n{}\n\n{}\n\n`{command}`, {today}: [figures]({place}), {}.\n",
            outcome.table(),
            plan.line(),
            real.load.line(),
            facts::line(&host)
        );
        record::into_readme(&perf, NAME, &text)?;
    }
    if let [first, ..] = troubles.as_slice() {
        bail!("{} things did not go well; the first: {first}", troubles.len());
    }
    if !options.quick {
        comparison.verdict()?;
    }
    Ok(())
}

/// Leaves `figures` where --json says.
fn write(options: &Options, figures: &Value) -> Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}: check --json", path.display()))
}

/// A run, new or recorded; nothing, said, where a quick one is not permitted.
fn real_side(options: &Options, stop: &AtomicBool) -> Result<Option<(Plan, Real)>> {
    if let Some(path) = &options.against {
        return recorded(path).with_context(|| format!("{} holds no run", path.display())).map(Some);
    }
    let mut plan = Plan::new(options)?;
    if let Err(error) = namespaces::permitted() {
        if options.quick {
            println!("SKIP: {error:#}");
            return Ok(None);
        }
        return Err(error.context("the real side needs network namespaces"));
    }
    let programs = programs(options.quick)?;
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    eprintln!("real: {}", plan.line());
    let real = real::run(&plan, &programs, stop)?;
    plan.measured(&real);
    Ok(Some((plan, real)))
}

fn recorded(path: &Path) -> Result<(Plan, Real)> {
    let all: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    // A record has the run among others of its experiment.
    let run = all.pointer("/runs/0").unwrap_or(&all);
    let part = |name: &str| run.get(name).cloned().with_context(|| format!("no `{name}`"));
    Ok((serde_json::from_value(part("plan")?)?, serde_json::from_value(part("real")?)?))
}

/// Release programs of this tree, just built; those beside this one when `quick`.
fn programs(quick: bool) -> Result<Programs> {
    if quick || std::env::var_os(weircast_testbed::programs::BIN_DIR_VARIABLE).is_some() {
        return Programs::find();
    }
    let mut build = cargo::cargo()?;
    cargo::step("building", build.args(["build", "--release", "--workspace", "--bins"]))?;
    Ok(Programs::in_dir(&cargo::target_dir()?.join("release")))
}

impl Options {
    fn command(&self) -> String {
        let Options { peers, seconds, arrive, kbps, uplink, downlink, grant, regions, seed, runs, .. } = self;
        format!(
            "cargo xtask reality --peers {peers} --seconds {seconds} --arrive {arrive} --kbps {kbps} --uplink {uplink} \
             --downlink {downlink} --grant {grant} --regions {regions} --seed {seed} --runs {runs} --record"
        )
    }
}
