//! `weircast-sim`: runs scenarios, compares them, sweeps a key, tortures with random faults, replays seeds.
//!
//! | module | its one job |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`progress`] | a line on a terminal |

mod cli;
mod progress;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use cli::{CheckArgs, Cli, Command, CompareArgs, Output, Over, ReplayArgs, RunArgs, Seeds, SweepArgs, TortureArgs};
use progress::Progress;
use weircast_sim::compare::{self, Side};
use weircast_sim::crew::{self, Job};
use weircast_sim::report::outcome::{self, Origin, Outcome};
use weircast_sim::report::{csv, html, text};
use weircast_sim::scenario::{Scenario, random};
use weircast_sim::sweep::{self, Plan};
use weircast_sim::torture::{self, Until};

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let result = catch_signals(&stop).and_then(|()| match Cli::parse().command {
        Command::Run(arguments) => run(&arguments, &stop),
        Command::Compare(arguments) => compare(&arguments, &stop),
        Command::Replay(arguments) => replay(&arguments, &stop),
        Command::Sweep(arguments) => sweep(&arguments, &stop),
        Command::Torture(arguments) => torture(&arguments, &stop),
        Command::Averaging(arguments) => arguments.run().map(|()| true),
        Command::Swarm(arguments) => arguments.run().map(|()| true),
        Command::Paper(arguments) => arguments.run().map(|()| true),
        Command::Metrics => {
            print!("{}", text::metrics());
            Ok(true)
        }
        Command::Check(arguments) => check(&arguments),
    });
    match result {
        _ if stop.load(Ordering::Relaxed) => ExitCode::from(130),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn catch_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone()).context("cannot catch signals")?;
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    Ok(())
}

fn run(arguments: &RunArgs, stop: &AtomicBool) -> Result<bool> {
    let origin = Origin::Files(arguments.over.source(Some(arguments.file.clone())));
    let Seeds { seed, seeds, threads } = arguments.seeds;
    let seeds: Vec<u64> = (seed..).take(seeds.unwrap_or(1) as usize).collect();
    let outcome = simulate(&origin, &seeds, threads, stop)?;
    print!("{}", text::summary(&outcome));
    write_outcome(&outcome, &arguments.output, arguments.series.as_deref())?;
    Ok(outcome.passed())
}

fn replay(arguments: &ReplayArgs, stop: &AtomicBool) -> Result<bool> {
    let origin = match arguments.torture {
        true => Origin::Torture,
        false => Origin::Files(arguments.over.source(arguments.file.clone())),
    };
    let outcome = simulate(&origin, &[arguments.seed], Some(1), stop)?;
    for fault in &outcome.scenario.faults {
        println!("{:>9.3} s  {fault}", fault.at_s);
    }
    for violation in outcome.runs.iter().flat_map(|run| &run.report.violations) {
        println!("{:>9.3} s  BROKEN  {}: {}", violation.at_s, violation.invariant, violation.what);
    }
    print!("{}", text::summary(&outcome));
    write_outcome(&outcome, &arguments.output, arguments.series.as_deref())?;
    let digest = &outcome.runs[0].report.digest;
    if let Some(expected) = arguments.digest.as_ref().filter(|expected| *expected != digest) {
        println!("FAIL  the trace's digest is {digest}, not {expected}: another revision, or another scenario");
        return Ok(false);
    }
    Ok(outcome.passed())
}

/// Runs an origin's scenario with `seeds`. After Ctrl-C: the runs that went to their end, else those that were cut short.
fn simulate(origin: &Origin, seeds: &[u64], threads: Option<usize>, stop: &AtomicBool) -> Result<Outcome> {
    let scenario = origin.scenario(seeds.first().copied().unwrap_or(0))?;
    let jobs: Vec<Job<'_>> = seeds.iter().map(|&seed| Job { scenario: &scenario, seed }).collect();
    let mut progress = Progress::new();
    let threads = threads.unwrap_or_else(crew::threads_of_machine);
    let reports = crew::run(&jobs, threads, stop, &mut |standing| progress.show(&standing, ""));
    progress.clear();
    let (whole, cut): (Vec<_>, Vec<_>) =
        reports.into_iter().flatten().partition(|report| crew::is_whole(&scenario, report));
    let reports = if whole.is_empty() { cut } else { whole };
    ensure!(!reports.is_empty(), "stopped before a run had begun: nothing to report");
    Ok(Outcome::new(scenario, origin, reports))
}

fn write_outcome(outcome: &Outcome, output: &Output, series: Option<&Path>) -> Result<()> {
    write(output.json.as_deref(), || outcome.json())?;
    write(output.csv.as_deref(), || csv::metrics(outcome))?;
    write(series, || csv::series(outcome))?;
    write(output.html.as_deref(), || html::page(outcome, &command_line()))
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display()))
}

fn command_line() -> String {
    let words = std::env::args().skip(1).map(|word| if word.contains(' ') { format!("'{word}'") } else { word });
    std::iter::once("weircast-sim".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// One side of a comparison, as far as it is known before anything runs.
enum Known {
    Read(Side),
    ToRun(Origin),
}

fn compare(arguments: &CompareArgs, stop: &AtomicBool) -> Result<bool> {
    let over_b = Over {
        with: arguments.over.with.clone(),
        set: arguments.over.set.iter().chain(&arguments.set_b).cloned().collect(),
    };
    let a = known(&arguments.a, &arguments.over)?;
    let b = known(&arguments.b, &over_b)?;
    let Seeds { seed, seeds, threads } = arguments.seeds;
    let seeds: Vec<u64> = match (&a, &b, seeds) {
        (Known::Read(side), _, None) | (_, Known::Read(side), None) => side.keys().copied().collect(),
        _ => (seed..).take(seeds.unwrap_or(5) as usize).collect(),
    };
    let side = |known| -> Result<Side> {
        match known {
            Known::Read(side) => Ok(side),
            Known::ToRun(origin) => {
                let outcome = simulate(&origin, &seeds, threads, stop)?;
                Ok(outcome.runs.into_iter().map(|run| (run.report.seed, run.values)).collect())
            }
        }
    };
    let (a, b) = (side(a)?, side(b)?);
    let name = |path: &Path, set: &[String]| -> String {
        std::iter::once(path.display().to_string()).chain(set.iter().cloned()).collect::<Vec<String>>().join(" ")
    };
    let (name_a, name_b) = (name(&arguments.a, &arguments.over.set), name(&arguments.b, &over_b.set));
    let comparison = compare::compare((&name_a, &a), (&name_b, &b));
    print!("{}", comparison.text());
    write(arguments.json.as_deref(), || comparison.json())?;
    write(arguments.csv.as_deref(), || comparison.csv())?;
    Ok(true)
}

fn known(path: &Path, over: &Over) -> Result<Known> {
    if path.extension().is_some_and(|extension| extension == "json") {
        let runs = outcome::read(path)?.runs.into_iter();
        return Ok(Known::Read(runs.map(|run| (run.report.seed, run.values)).collect()));
    }
    let origin = Origin::Files(over.source(Some(path.to_owned())));
    origin.scenario(0)?;
    Ok(Known::ToRun(origin))
}

fn sweep(arguments: &SweepArgs, stop: &AtomicBool) -> Result<bool> {
    let source = arguments.over.source(Some(arguments.file.clone()));
    let words = sweep::settings(arguments.key.as_deref(), &arguments.values, arguments.seeds.seeds);
    let plan = Plan::new(&sweep::with_words(&source, words), arguments.seeds.seed)?;
    let plan = plan.context("nothing to sweep: give --key and --values, or write a table [sweep] into the scenario")?;
    let mut progress = Progress::new();
    let threads = arguments.seeds.threads.unwrap_or_else(crew::threads_of_machine);
    let swept = plan.run(threads, stop, &mut |standing| progress.show(&standing, ""));
    progress.clear();
    print!("{}", swept.text());
    write(arguments.output.json.as_deref(), || swept.json())?;
    write(arguments.output.csv.as_deref(), || swept.csv())?;
    write(arguments.output.html.as_deref(), || swept.html(&command_line()))?;
    Ok(swept.passed())
}

fn torture(arguments: &TortureArgs, stop: &AtomicBool) -> Result<bool> {
    let new = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 >> 10);
    let seed = arguments.seed.unwrap_or_else(new);
    println!("torture from seed {seed}");
    let minutes = match (arguments.minutes, arguments.hours, arguments.runs) {
        (None, None, None) => Some(1.0),
        (minutes, ..) => minutes,
    };
    for (key, value) in [("--minutes", minutes), ("--hours", arguments.hours)] {
        let good = value.is_none_or(|value| (0.0..=1e6).contains(&value));
        ensure!(good, "{key} {}: must be 0 to 1000000", value.unwrap_or_default());
    }
    let until = Until {
        hours: arguments.hours,
        wall: minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0)),
        runs: arguments.runs,
    };
    let threads = arguments.threads.unwrap_or_else(crew::threads_of_machine);
    let mut progress = Progress::new();
    let mut broke = |broken: &torture::Broken| {
        let first = broken.violations.first();
        let what =
            first.map_or(String::new(), |first| format!("{} at {:.3} s: {}", first.invariant, first.at_s, first.what));
        println!("BROKEN  {what}\n        seed {}: {}", broken.seed, broken.replay);
    };
    let mut show = |standing: crew::Standing, sum: &torture::Tortured| {
        progress.show(&standing, &format!("  {:.2} h, {} broken", sum.simulated_h, sum.broken.len()));
    };
    let sum = torture::run(seed, until, threads, stop, &mut broke, &mut show);
    progress.clear();
    print!("{}", sum.text());
    write(arguments.json.as_deref(), || serde_json::to_string_pretty(&sum).unwrap_or_default() + "\n")?;
    Ok(sum.broken.is_empty())
}

fn check(arguments: &CheckArgs) -> Result<bool> {
    let scenario: Scenario = match arguments.torture {
        Some(seed) => random::scenario(seed),
        None => arguments.over.source(arguments.file.clone()).load()?,
    };
    if arguments.print {
        print!("{}", toml::to_string(&scenario).context("the scenario cannot be written as TOML")?);
    } else {
        println!("ok  {}: {} peers, {} s", scenario.name, scenario.audience.peers, scenario.duration_s);
    }
    Ok(true)
}
