//! The simulator's side: the same plan, several seeds.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use weircast_sim::world;

use super::figures::Figures;
use super::plan::Plan;

/// Figures of each run, and the invariants that did not hold.
pub(crate) fn run(plan: &Plan, runs: u16, stop: &AtomicBool) -> Result<(Vec<Figures>, Vec<String>)> {
    let (mut figures, mut broken) = (Vec::new(), Vec::new());
    for seed in plan.seed..plan.seed + u64::from(runs) {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        let report = world::run(&plan.scenario, seed, &mut |_| {});
        figures.push(Figures::of_report(&report));
        let words = report.violations.iter().map(|v| format!("simulated seed {seed}: {}: {}", v.invariant, v.what));
        // Whatever else a run breaks follows from its first, or will be seen when that is mended.
        broken.extend(words.take(1));
    }
    Ok((figures, broken))
}
