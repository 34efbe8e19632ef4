//! `cargo xtask perf`: Weircast beside the rivals and the ceiling, on the same work, in the same run.
//!
//! ```text
//!  core 0     one server at a time: ceiling | weircast-cache | nginx | icecast2 | varnish
//!  core 1...  weircast-load, which publishes and watches
//!             A B C  A B C  ...: drift of the machine hits all alike; each figure is the middle of its runs
//! ```
//! | module | its one job |
//! |---|---|
//! | [`experiments`] | what is measured |
//! | [`stage`] | programs, CPUs, processes, Ctrl-C |
//! | [`janitor`] | cleans up after an end that leaves no time to |
//! | [`memory_files`] | tmpfs with and without huge pages |
//! | [`ours`], [`rivals`] | how each server is started |
//! | [`load`] | one run of the load tool |
//! | [`outcome`] | what an experiment yields; medians, ratios |
//! | [`facts`], [`record`] | what a result is read with, and where it goes |
//! | [`viewers`] | `perf-viewers`: one run with everything to choose |

mod experiments;
pub(crate) mod facts;
mod janitor;
mod load;
mod memory_files;
mod ours;
pub(crate) mod outcome;
pub(crate) mod record;
mod rivals;
mod stage;
mod viewers;

use std::time::Instant;

use anyhow::{Result, bail};
use weircast_testbed::Programs;

use crate::{cargo, host};
use experiments::{ALL, Experiment};
use stage::Stage;

pub(crate) use viewers::{Options as ViewersOptions, viewers};

/// Without a switch: every experiment of the default run, recorded.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Small numbers and short spans, in under three minutes: does everything run, is every byte right and every viewer
    /// served? Judges no time and records nothing.
    #[arg(long)]
    quick: bool,
    /// Uses the debug build, which `cargo build --workspace --bins` makes; only with --quick.
    #[arg(long, requires = "quick")]
    debug: bool,
    /// Runs this experiment, or, when none is called so, all whose names begin so (`get`: get-16, get-50 ...); may be
    /// repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Interleaved repetitions, of which the middle counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: u16,
    /// Prints the result and records nothing.
    #[arg(long)]
    no_record: bool,
    /// Lists the experiments and ends.
    #[arg(long)]
    list: bool,
}

impl Options {
    fn command(&self) -> String {
        let only: String = self.only.iter().map(|name| format!(" --only {name}")).collect();
        format!("cargo xtask perf{only} --pairs {}", self.pairs)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for experiment in ALL {
            let when = if experiment.in_default { "" } else { " (only when named with --only)" };
            println!("{:<12} {}{when}", experiment.name, experiment.about);
        }
        return Ok(());
    }
    let chosen = chosen(&options.only, options.quick)?;
    memory_files::enter_namespace();
    host::install(rivals::PROGRAMS, |program| rivals::find(program).is_some());
    let profile = if options.debug { "debug" } else { "release" };
    build(options.debug)?;
    let programs = Programs::in_dir(&cargo::target_dir()?.join(profile));
    let pairs = if options.quick { 1 } else { usize::from(options.pairs) };
    let stage = Stage::new(programs, options.quick, pairs)?;
    let perf = cargo::root()?.join("perf");
    let baselines = record::baselines(&perf)?;
    let (mut failures, mut worse) = (Vec::new(), false);
    for experiment in chosen {
        let begun = Instant::now();
        eprintln!("\n=== {}: {}", experiment.name, experiment.about);
        let facts = facts::of(&stage);
        let outcome = match (experiment.run)(&stage) {
            Ok(outcome) => outcome,
            Err(error) => {
                stage.go_on()?;
                failures.push(format!("{}: {error:#}", experiment.name));
                eprintln!("FAILED {}", failures[failures.len() - 1]);
                continue;
            }
        };
        let mut text = outcome.table();
        let (lines, is_worse) = record::compare(experiment.name, &outcome, &baselines);
        if !options.quick && !options.no_record {
            let command = options.command();
            let place = record::raw(&perf, experiment.name, &command, &facts, &outcome)?;
            text +=
                &format!("\n`{command}`, {}: [{}]({place}), {}.\n", facts::today(), "raw runs", facts::line(&facts));
            record::into_readme(&perf, experiment.name, &text)?;
        }
        println!("\n{} ({} s)\n\n{text}", experiment.name, begun.elapsed().as_secs());
        if !options.quick {
            lines.iter().for_each(|line| println!("{line}"));
            worse |= is_worse;
        }
        failures.extend(outcome.failures.iter().map(|failure| format!("{}: {failure}", experiment.name)));
    }
    failures.dedup();
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    if !failures.is_empty() {
        bail!("{} things did not hold; see above", failures.len());
    }
    if worse {
        bail!("a ratio got worse than perf/baseline.toml allows; see above. If that is meant, change it there");
    }
    Ok(())
}

fn chosen(only: &[String], quick: bool) -> Result<Vec<&'static Experiment>> {
    let is_named = |experiment: &Experiment, name: &str| match ALL.iter().any(|other| other.name == name) {
        true => experiment.name == name,
        false => experiment.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')),
    };
    if let Some(name) = only.iter().find(|name| !ALL.iter().any(|experiment| is_named(experiment, name))) {
        bail!("there is no experiment {name}; `cargo xtask perf --list` lists them");
    }
    let is_chosen = |experiment: &&Experiment| match only {
        [] if quick => experiment.in_quick,
        [] => experiment.in_default,
        only => only.iter().any(|name| is_named(experiment, name)),
    };
    Ok(ALL.iter().filter(is_chosen).collect())
}

/// One build of the whole workspace: of some packages alone the features would be others, and all be built once more
/// behind the build that `cargo xtask test` has made.
fn build(debug: bool) -> Result<()> {
    let mut build = cargo::cargo()?;
    build.args(["build", "--workspace", "--bins", "--example", "fan_out"]);
    if !debug {
        build.arg("--release");
    }
    cargo::step("building", &mut build)
}

#[cfg(test)]
mod tests {
    use super::chosen;

    fn names(only: &[&str], quick: bool) -> Vec<&'static str> {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        chosen(&only, quick).expect("such experiments").iter().map(|experiment| experiment.name).collect()
    }

    #[test]
    fn a_name_chooses_itself_or_those_that_go_on_from_it() {
        assert_eq!(names(&["get-16"], false), ["get-16"]);
        assert_eq!(names(&["native"], false), ["native"]);
        assert_eq!(names(&["get"], false), ["get-16", "get-50", "get-125", "get-500", "get-most"]);
        assert!(chosen(&["nat".to_owned()], false).is_err());
        assert!(!names(&[], false).contains(&"soak") && names(&[], true).contains(&"soak"));
        assert!(!names(&[], true).contains(&"get-500"));
    }
}
