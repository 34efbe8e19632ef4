//! The simulator's side: the same plan, several seeds.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use weircast_sim::world;

use super::figures::Figures;
use super::plan::Plan;

/// Figures of each run; violated invariants are errors.
pub(crate) fn run(plan: &Plan, runs: u16, stop: &AtomicBool) -> Result<Vec<Figures>> {
    let run = |seed: u64| {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let report = world::run(&plan.scenario, seed, &mut |_| {});
        if let Some(first) = report.violations.first() {
            bail!("seed {seed} breaks {} at {:.1} s: {}", first.invariant, first.at_s, first.what);
        }
        Ok(Figures::of_report(&report))
    };
    (0..u64::from(runs)).map(|at| run(plan.seed + at)).collect()
}
