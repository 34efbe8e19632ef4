//! Runs of one scenario with several seeds, judged; the JSON that is written and read again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::estimate::Estimate;
use super::{Report, metric};
use crate::scenario::expect::Verdict;
use crate::scenario::file::Source;
use crate::scenario::{Scenario, random};

/// Where a scenario comes from, as a command line says it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Files and settings.
    Files(Source),
    /// The seed, by [`random::scenario`].
    Torture,
}

impl Origin {
    /// The scenario for `seed`.
    pub fn scenario(&self, seed: u64) -> Result<Scenario, crate::scenario::file::BadFile> {
        match self {
            Origin::Files(source) => source.load(),
            Origin::Torture => Ok(random::scenario(seed)),
        }
    }

    /// The command that runs `seed` again.
    pub fn replay(&self, seed: u64) -> String {
        let words = match self {
            Origin::Files(source) => source.words(),
            Origin::Torture => vec!["--torture".to_owned()],
        };
        format!("weircast-sim replay {seed} {}", words.join(" "))
    }
}

/// A run with its numbers by name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// What came out.
    pub report: Report,
    /// The metrics by name: what another revision can still read.
    pub values: BTreeMap<String, f64>,
    /// The command that runs it again.
    pub replay: String,
}

/// Runs of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What was simulated.
    pub scenario: Scenario,
    /// In the order of their seeds; at least one.
    pub runs: Vec<Run>,
}

/// What is read of an outcome, whichever revision wrote it: names and numbers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Read {
    /// The runs.
    pub runs: Vec<ReadRun>,
}

/// One run of [`Read`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReadRun {
    /// The part of the report that is needed.
    pub report: ReadReport,
    /// The metrics by name.
    pub values: BTreeMap<String, f64>,
}

/// One report of [`ReadRun`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ReadReport {
    /// The seed.
    pub seed: u64,
    /// The trace's digest.
    pub digest: String,
}

/// Why no outcome was read.
#[derive(Debug, thiserror::Error)]
pub enum BadOutcome {
    /// Not there, not readable.
    #[error("{0} cannot be read: check the path ({1})")]
    Unreadable(String, std::io::Error),
    /// Something else than `run --json` writes.
    #[error("{0} is no report: write one with `weircast-sim run FILE --json {0}` ({1})")]
    Unclear(String, serde_json::Error),
}

/// Reads what `run --json` wrote.
pub fn read(path: &Path) -> Result<Read, BadOutcome> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| BadOutcome::Unreadable(name.clone(), error))?;
    serde_json::from_str(&text).map_err(|error| BadOutcome::Unclear(name, error))
}

impl Outcome {
    /// Puts reports beside their numbers.
    pub fn new(scenario: Scenario, origin: &Origin, reports: Vec<Report>) -> Outcome {
        let run = |report: Report| {
            let values = metric::values(&scenario, &report);
            Run { replay: origin.replay(report.seed), values, report }
        };
        let runs = reports.into_iter().map(run).collect();
        Outcome { scenario, runs }
    }

    /// Each bound of the scenario against the worst run.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.scenario.expect.verdicts(self.runs.iter().map(|run| &run.values))
    }

    /// Whether every bound is kept and every invariant held.
    pub fn passed(&self) -> bool {
        self.verdicts().iter().all(|verdict| verdict.kept) && self.violations() == 0
    }

    /// Broken invariants of all runs.
    pub fn violations(&self) -> usize {
        self.runs.iter().map(|run| run.report.violations.len()).sum()
    }

    /// The runs' values of one metric.
    pub fn values_of(&self, name: &str) -> Vec<f64> {
        self.runs.iter().filter_map(|run| run.values.get(name).copied()).collect()
    }

    /// The runs' mean of one metric.
    pub fn estimate(&self, name: &str) -> Option<Estimate> {
        Estimate::of(&self.values_of(name))
    }

    /// The outcome as JSON that `compare` reads.
    pub fn json(&self) -> String {
        // Maps with text keys and finite numbers: it can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::{Quantiles, Sample, Violation};
    use crate::scenario::{Expect, Fault, Trouble, Who};

    /// A made-up report.
    pub(crate) fn report(seed: u64, continuity: f64) -> Report {
        let mut report = Report {
            scenario: "made up".to_owned(),
            seed,
            digest: format!("{seed:016x}"),
            simulated_s: 60.0,
            events: 1_000,
            ..Report::default()
        };
        report.metrics.continuity = continuity;
        report.metrics.offload = 0.9;
        report.metrics.startup_ms = Quantiles { mean: 500.0, p50: 450.0, p95: 800.0, p99: 900.0, max: 950.0 };
        let sample = |at_s: u32| Sample { at_s, viewers: 10 + at_s, playing: 9, continuity, ..Sample::default() };
        report.series = (0..60).map(sample).collect();
        report.cost.wall_s = 2.0;
        report
    }

    /// A made-up outcome of three seeds; one run breaks an invariant.
    pub(crate) fn outcome() -> Outcome {
        let expect: Expect = serde_json::from_str(r#"{"continuity_min":0.99,"lag_p95_ms_max":6000}"#).expect("bounds");
        let fault = Fault { at_s: 20.0, what: Trouble::Kill { who: Who::Cache(0), for_s: Some(5.0) } };
        let scenario = Scenario { expect, faults: vec![fault], duration_s: 60, warmup_s: 10, ..Scenario::default() };
        let mut reports: Vec<Report> = (1..=3).map(|seed| report(seed, 0.98 + seed as f64 / 200.0)).collect();
        reports[1].violations.push(Violation {
            invariant: "one sequence".to_owned(),
            at_s: 31.5,
            what: "a <fork>".to_owned(),
        });
        let source = Source { file: Some("x.toml".into()), set: vec!["a.b=1".to_owned()], ..Source::default() };
        Outcome::new(scenario, &Origin::Files(source), reports)
    }

    #[test]
    fn a_run_says_the_command_that_replays_it() {
        assert_eq!(outcome().runs[1].replay, "weircast-sim replay 2 x.toml --set 'a.b=1'");
        assert_eq!(Origin::Torture.replay(9), "weircast-sim replay 9 --torture");
    }

    #[test]
    fn bounds_and_invariants_decide() {
        let mut outcome = outcome();
        assert!(!outcome.passed(), "0.985 is below 0.99");
        outcome.runs.remove(0);
        assert!(outcome.verdicts().iter().all(|verdict| verdict.kept));
        assert!(!outcome.passed(), "an invariant is broken");
        outcome.runs.remove(0);
        assert!(outcome.passed());
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), outcome().json()).expect("written");
        let read = read(file.path()).expect("a report");
        assert_eq!(read.runs.len(), 3);
        assert_eq!((read.runs[1].report.seed, read.runs[1].values["continuity"]), (2, 0.99));
        std::fs::write(file.path(), "[]").expect("written");
        assert!(super::read(file.path()).expect_err("no report").to_string().contains("is no report"));
    }
}
