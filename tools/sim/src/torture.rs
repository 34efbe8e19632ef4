//! Random scenarios with all faults, seed after seed, until time is up. What breaks says its seed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::crew::{self, Job, Standing};
use crate::report::outcome::Origin;
use crate::report::{Report, Violation};
use crate::scenario::{Scenario, random};

/// Runs of one batch for each thread: few, so that what breaks is said soon; enough that no thread waits long.
const BATCH: usize = 4;

/// When it ends: at whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Until {
    /// Simulated hours.
    pub hours: Option<f64>,
    /// By the clock.
    pub wall: Option<Duration>,
    /// Runs.
    pub runs: Option<u64>,
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Broken {
    /// The seed of the scenario and of the run.
    pub seed: u64,
    /// The command that runs it again.
    pub replay: String,
    /// What did not hold.
    pub violations: Vec<Violation>,
}

/// The sum of a torture.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tortured {
    /// The first seed; those after it follow.
    pub seed: u64,
    /// Runs that ended.
    pub runs: u64,
    /// Simulated hours of them.
    pub simulated_h: f64,
    /// Peers times hours.
    pub viewer_h: f64,
    /// Faults that were carried out.
    pub faults: u64,
    /// Events of all runs.
    pub events: u64,
    /// Seconds by the clock.
    pub wall_s: f64,
    /// The runs that broke something.
    pub broken: Vec<Broken>,
}

impl Tortured {
    fn count(&mut self, scenario: &Scenario, report: Report) {
        self.runs += 1;
        self.events += report.events;
        let hours = report.simulated_s / 3_600.0;
        self.simulated_h += hours;
        self.viewer_h += hours * f64::from(scenario.audience.peers);
        self.faults += scenario.faults.len() as u64;
        if !report.violations.is_empty() {
            let replay = Origin::Torture.replay(report.seed);
            self.broken.push(Broken { seed: report.seed, replay, violations: report.violations });
        }
    }

    /// One sentence, and the seeds of what broke.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} runs from seed {}: {:.2} simulated hours ({:.0} viewer hours), {} faults, {} events in {:.0} s; {} broken\n",
            self.runs,
            self.seed,
            self.simulated_h,
            self.viewer_h,
            self.faults,
            self.events,
            self.wall_s,
            self.broken.len()
        );
        text.extend(self.broken.iter().map(|broken| format!("  {}\n", broken.replay)));
        text
    }
}

/// Tortures from `seed` on. `broke` is told of a run that broke something soon after it ended.
pub fn run(
    seed: u64,
    until: Until,
    threads: usize,
    stop: &AtomicBool,
    broke: &mut dyn FnMut(&Broken),
    show: &mut (dyn FnMut(Standing, &Tortured) + Send),
) -> Tortured {
    let begun = Instant::now();
    let mut sum = Tortured { seed, ..Tortured::default() };
    let mut next = seed;
    let over = |sum: &Tortured| {
        stop.load(Ordering::Relaxed)
            || until.hours.is_some_and(|hours| sum.simulated_h >= hours)
            || until.wall.is_some_and(|wall| begun.elapsed() >= wall)
            || until.runs.is_some_and(|runs| sum.runs >= runs)
    };
    while !over(&sum) {
        let left = until.runs.map_or(u64::MAX, |runs| runs - sum.runs);
        let count = (BATCH * threads.max(1)).min(usize::try_from(left).unwrap_or(usize::MAX));
        let scenarios: Vec<Scenario> = (0..count as u64).map(|at| random::scenario(next.wrapping_add(at))).collect();
        let job = |(at, scenario)| Job { scenario, seed: next.wrapping_add(at as u64) };
        let jobs: Vec<Job<'_>> = scenarios.iter().enumerate().map(job).collect();
        let known = sum.broken.len();
        let so_far = sum.clone();
        let reports = crew::run(&jobs, threads, stop, &mut |standing| show(standing, &so_far));
        for (scenario, report) in scenarios.iter().zip(reports) {
            if let Some(report) = report {
                sum.count(scenario, report);
            }
        }
        sum.broken[known..].iter().for_each(&mut *broke);
        next = next.wrapping_add(count as u64);
    }
    sum.wall_s = begun.elapsed().as_secs_f64();
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::tests::report;

    #[test]
    fn hours_and_faults_add_up_and_what_breaks_says_its_seed() {
        let mut sum = Tortured { seed: 3, ..Tortured::default() };
        for seed in 3..6 {
            let mut report = report(seed, 1.0);
            report.simulated_s = 1_800.0;
            if seed == 4 {
                let violation = Violation { invariant: "x".to_owned(), at_s: 1.0, what: "y".to_owned() };
                report.violations.push(violation);
            }
            sum.count(&random::scenario(seed), report);
        }
        assert_eq!((sum.runs, sum.simulated_h, sum.events), (3, 1.5, 3_000));
        assert_eq!(sum.faults, (3..6).map(|seed| random::scenario(seed).faults.len() as u64).sum::<u64>());
        assert_eq!(sum.broken.iter().map(|broken| broken.seed).collect::<Vec<_>>(), [4]);
        assert!(sum.text().ends_with("1 broken\n  weircast-sim replay 4 --torture\n"), "{}", sum.text());
    }

    #[test]
    fn a_stop_ends_it_before_the_next_batch() {
        let until = Until { runs: Some(1_000_000), ..Until::default() };
        let sum = run(1, until, 1, &AtomicBool::new(true), &mut |_| {}, &mut |_, _| {});
        assert_eq!(sum.runs, 0);
    }
}
