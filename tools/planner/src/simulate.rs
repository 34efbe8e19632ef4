//! Makes a table of offload with the simulator: a grid over uplink and peers, some seeds each.

use weircast_sim::report::Report;
use weircast_sim::scenario::{Scenario, UplinkClass};
use weircast_sim::world;

use crate::offload::{OffloadRun, OffloadTable};
use crate::scenario::Latency;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Everything but uplinks and numbers of peers.
    pub base: Scenario,
    /// Mean uplinks over the stream's rate.
    pub uplinks: Vec<f64>,
    /// Peers.
    pub peers: Vec<u32>,
    /// Seeds of each.
    pub seeds: u64,
}

/// A simulated swarm that says nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoRun {
    /// A value of the grid.
    #[error("{key} {got}: {why}")]
    Value {
        /// The option.
        key: &'static str,
        /// What it says.
        got: String,
        /// Why that cannot be, and what to write.
        why: String,
    },
    /// Nobody watched.
    #[error("the simulator had no viewers in the run with uplink {uplink}, {peers} peers and seed {seed}")]
    NoViewers {
        /// Which.
        uplink: f64,
        /// Which.
        peers: u32,
        /// Which.
        seed: u64,
    },
    /// An invariant did not hold.
    #[error(
        "the run with uplink {uplink}, {peers} peers and seed {seed} broke {what}: the table would be of a broken swarm"
    )]
    Violation {
        /// Which.
        uplink: f64,
        /// Which.
        peers: u32,
        /// Which.
        seed: u64,
        /// The invariant.
        what: String,
    },
}

/// Simulates one swarm with each seed; the means.
pub fn swarm(base: &Scenario, uplink: f64, peers: u32, seeds: u64) -> Result<OffloadRun, NoRun> {
    let mut scenario = base.clone();
    scenario.audience.peers = peers;
    // A downlink that is no limit: the table is of uplinks.
    scenario.audience.uplink = vec![UplinkClass { share: 1.0, up: uplink, down: DOWN }];
    let mut sum = OffloadRun { uplink, peers, offload: 0.0, control: 0.0, continuity: 0.0 };
    for seed in 1..=seeds {
        let Report { metrics, violations, .. } = world::run(&scenario, seed, &mut |_| ());
        if metrics.viewers == 0 {
            return Err(NoRun::NoViewers { uplink, peers, seed });
        }
        if let Some(violation) = violations.first() {
            return Err(NoRun::Violation { uplink, peers, seed, what: violation.invariant.clone() });
        }
        sum.offload += metrics.offload / seeds as f64;
        sum.control += metrics.control_overhead / seeds as f64;
        sum.continuity += metrics.continuity / seeds as f64;
    }
    Ok(sum)
}

/// Ten times the stream.
const DOWN: f64 = 10.0;

/// So much of a run counts at least (our guess): less is chance.
const COUNTED_S_MIN: u64 = 30;

impl Grid {
    /// Looks at every value; the first that cannot be is told.
    pub fn check(&self) -> Result<(), NoRun> {
        let no = |key, got: String, why: &str| Err(NoRun::Value { key, got, why: why.to_owned() });
        if let Some(uplink) = self.uplinks.iter().find(|uplink| !(0.0..=100.0).contains(*uplink)) {
            return no(
                "--uplinks",
                uplink.to_string(),
                "mean uplinks over the stream's rate; write 0 to 100: 1.3 for 30 % more",
            );
        }
        if let Some(peers) = self.peers.iter().find(|peers| **peers < 2) {
            return no("--peers", peers.to_string(), "a peer alone gets everything from the cache; write 2 or more");
        }
        let (length, warmup) = (self.base.duration_s, self.base.warmup_s);
        if length < warmup + COUNTED_S_MIN {
            let why = format!(
                "the first {warmup} s are warm-up and do not count, and less than {COUNTED_S_MIN} s more say nothing; write \
                 {} or more",
                warmup + COUNTED_S_MIN
            );
            return no("--seconds", length.to_string(), &why);
        }
        Ok(())
    }
}

/// Simulates every swarm of the grid; `tell` hears of each.
pub fn table(
    grid: &Grid,
    latency: Latency,
    origin: &str,
    tell: &mut dyn FnMut(&OffloadRun),
) -> Result<OffloadTable, NoRun> {
    grid.check()?;
    let mut runs = Vec::new();
    for uplink in &grid.uplinks {
        for peers in &grid.peers {
            let run = swarm(&grid.base, *uplink, *peers, grid.seeds)?;
            tell(&run);
            runs.push(run);
        }
    }
    Ok(OffloadTable { latency, origin: origin.to_owned(), runs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_that_says_nothing_is_refused_before_anything_is_simulated() {
        let base = Scenario { duration_s: 120, warmup_s: 60, ..Default::default() };
        let good = Grid { base, uplinks: vec![1.0], peers: vec![60], seeds: 1 };
        assert_eq!(good.check(), Ok(()));
        let said = |grid: Grid| {
            let none = table(&grid, Latency::Classic, "a test", &mut |_| panic!("a run"));
            none.expect_err("refused").to_string()
        };
        let short = Scenario { duration_s: 80, ..good.base.clone() };
        assert_eq!(
            said(Grid { base: short, ..good.clone() }),
            "--seconds 80: the first 60 s are warm-up and do not count, and less than 30 s more say nothing; write 90 or more"
        );
        assert!(said(Grid { uplinks: vec![-1.0], ..good.clone() }).starts_with("--uplinks -1: "));
        assert!(said(Grid { uplinks: vec![f64::NAN], ..good.clone() }).starts_with("--uplinks NaN: "));
        assert!(said(Grid { peers: vec![60, 0], ..good }).starts_with("--peers 0: "));
    }
}
