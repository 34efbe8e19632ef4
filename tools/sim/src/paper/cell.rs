//! A cell of the experiment and how it is run.

use cache_core::prng::mix;
use cache_core::proto::peer::Tuning;
use serde::{Deserialize, Serialize};

use crate::cycle::mesh::Answer;
use crate::cycle::places::side_of;
use crate::cycle::swarm::{self, SwarmPlan};
use crate::scenario::{Audience, Caches, Network, Scenario, Stream, UplinkClass};
use crate::world;

/// What carries a cell out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The production machines, event-driven.
    Full,
    /// The reduced cycle model.
    Cycle,
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// Peers.
    pub nodes: u32,
    /// Regions of the square.
    pub regions: u32,
    /// With a cache and an index that answers by location; without, one source of a limited uplink and random answers.
    pub cdn: bool,
    /// Seed.
    pub seed: u64,
    /// Carried out by.
    pub engine: Engine,
}

/// What all cells of an experiment share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Simulated seconds.
    pub duration_s: u32,
    /// Of these left out.
    pub warmup_s: u32,
    /// Mean uplink over the stream's rate.
    pub uplink: f32,
    /// How finely PeerIDs say where a peer is inside its region.
    pub finer: u32,
    /// Reduced model: the index's answer with the CDN.
    pub answer: Answer,
    /// Whole protocol without the CDN: the source's uplink in streams, for each peer.
    pub source: f64,
    /// Whole protocol: random answers although there is a CDN.
    pub random_answers: bool,
    /// Every peer's numbers.
    pub tuning: Tuning,
}

/// What a cell gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gave {
    /// Mean distance between partners (figs. 5, 6).
    pub delay_factor: f64,
    /// Between regions over what is played (figs. 7, 8).
    pub inter_region_traffic: f64,
    /// Between regions over what peers sent each other.
    pub inter_region_share: f64,
    /// Chunks in time over chunks due.
    pub continuity: f64,
    /// From peers over all.
    pub offload: f64,
    /// Start-up, 95 % are below, ms; 0 in the reduced model.
    pub startup_p95_ms: f64,
    /// Bytes that are no chunks over all; 0 in the reduced model.
    pub control_overhead: f64,
    /// Seconds that the run took.
    pub wall_s: f64,
    /// Events.
    pub events: u64,
}

/// Whole protocol without the CDN: the source's uplink in streams, for each peer. Seeding takes a twenty-fifth of a stream for
/// each; the rest is for the beginning, when all come within [`ARRIVE_S`] and begin with what only the source has.
const SOURCE_STREAMS_PER_NODE: f64 = 0.5;

/// Whole protocol: all have come after so many seconds. Our guess.
const ARRIVE_S: f64 = 10.0;

/// Reduced model without the CDN: the source's uplink in streams. Our guess.
const SOURCE_STREAMS: u32 = 8;

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            duration_s: 40,
            warmup_s: 25,
            uplink: 1.3,
            finer: 4,
            answer: Answer::Tiers,
            source: SOURCE_STREAMS_PER_NODE,
            random_answers: false,
            tuning: Tuning::default(),
        }
    }
}

impl Setting {
    /// Tells settings apart: records of another setting are not taken for this one's.
    pub fn mark(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        format!("{:016x}", text.bytes().fold(0u64, |hash, byte| mix(hash ^ u64::from(byte))))
    }

    /// The whole protocol's scenario for `cell`.
    pub fn scenario(&self, cell: Cell) -> Scenario {
        let uplink = vec![UplinkClass { share: 1.0, up: f64::from(self.uplink), down: 4.0 }];
        let stream = Stream { cdn: cell.cdn, ..Stream::default() };
        let streams = (f64::from(cell.nodes) * self.source).max(f64::from(self.uplink)).max(1.0);
        let up_kbps = if cell.cdn { 0 } else { (streams * stream.kbps as f64).round() as u64 };
        Scenario {
            name: format!("paper-{}-{}-{}", cell.nodes, cell.regions, if cell.cdn { "cdn" } else { "p2p" }),
            duration_s: u64::from(self.duration_s),
            warmup_s: u64::from(self.warmup_s),
            stream,
            network: Network {
                regions: cell.regions,
                finer: self.finer,
                index_by_location: cell.cdn && !self.random_answers,
                ..Network::default()
            },
            caches: Caches { up_kbps, ..Caches::default() },
            audience: Audience {
                peers: cell.nodes,
                arrive_over_s: ARRIVE_S,
                session: None,
                uplink,
                ..Audience::default()
            },
            peer: self.tuning.clone(),
            ..Scenario::default()
        }
    }

    /// The reduced model's plan for `cell`.
    pub fn plan(&self, cell: Cell) -> SwarmPlan {
        SwarmPlan {
            peers: cell.nodes,
            side: side_of(cell.regions).unwrap_or(1),
            finer: self.finer,
            answer: if cell.cdn { self.answer } else { Answer::Random },
            duration_s: self.duration_s,
            warmup_s: self.warmup_s,
            uplink: self.uplink,
            free_riders: 0.0,
            cache_streams: if cell.cdn { 0 } else { SOURCE_STREAMS },
            cdn: cell.cdn,
            replaced_per_s: 0.0,
            tuning: self.tuning.clone(),
        }
    }
}

/// Runs `cell` on one thread.
pub fn run(cell: Cell, setting: &Setting) -> Gave {
    let began = std::time::Instant::now();
    let mut gave = match cell.engine {
        Engine::Full => {
            let report = world::run(&setting.scenario(cell), cell.seed, &mut |_| ());
            let m = report.metrics;
            Gave {
                delay_factor: m.delay_factor,
                inter_region_traffic: m.inter_region_traffic,
                inter_region_share: m.inter_region_share,
                continuity: m.continuity,
                offload: m.offload,
                startup_p95_ms: m.startup_ms.p95,
                control_overhead: m.control_overhead,
                events: report.events,
                wall_s: 0.0,
            }
        }
        Engine::Cycle => {
            let (out, _) = swarm::run(&setting.plan(cell), cell.seed, 1, &mut |_| ());
            Gave {
                delay_factor: out.delay_factor,
                inter_region_traffic: out.inter_region_traffic,
                inter_region_share: out.inter_region_share,
                continuity: out.continuity,
                offload: out.offload,
                events: out.events,
                ..Gave::default()
            }
        }
    };
    gave.wall_s = began.elapsed().as_secs_f64();
    gave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_figures_is_a_scenario_that_can_be_run() {
        for engine in [Engine::Full, Engine::Cycle] {
            for (nodes, regions) in [(2, 1), (500, 4), (5_000, 100)] {
                for cdn in [true, false] {
                    let cell = Cell { nodes, regions, cdn, seed: 1, engine };
                    let scenario = Setting::default().scenario(cell);
                    assert_eq!(scenario.check(), Ok(()));
                    assert_eq!((scenario.network.finer, scenario.network.index_by_location), (4, cdn));
                }
            }
        }
        let source = |nodes| {
            let cell = Cell { nodes, regions: 4, cdn: false, seed: 1, engine: Engine::Full };
            Setting::default().scenario(cell).caches.up_kbps
        };
        assert_eq!((source(2), source(500)), (2_600, 500_000), "never weaker than a peer; half a stream for each");
    }
}
