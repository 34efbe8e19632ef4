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

/// Simulates every swarm of the grid; `tell` hears of each.
pub fn table(
    grid: &Grid,
    latency: Latency,
    origin: &str,
    tell: &mut dyn FnMut(&OffloadRun),
) -> Result<OffloadTable, NoRun> {
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
