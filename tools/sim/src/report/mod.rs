//! What came out of a run. Nothing in it depends on the machine or on the time that the run took, but for [`Cost`].
//!
//! | module | its one job |
//! |---|---|
//! | [`metric`] | every metric by its name: unit, which way is better, where it stands |
//! | [`outcome`] | runs of one scenario with several seeds, judged; the JSON that is written and read again |
//! | [`text`], [`csv`], [`html`] | the same for people, for tables, and as one page |
//! | [`plot`] | the page's drawings |
//! | [`estimate`] | means with their confidence |

pub mod csv;
pub mod estimate;
pub mod html;
pub mod metric;
pub mod outcome;
pub mod plot;
pub mod text;

use serde::{Deserialize, Serialize};

/// A run's result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Every event of the run, folded into 64 bits, in hexadecimal: equal runs have equal digests.
    pub digest: String,
    /// Simulated seconds.
    pub simulated_s: f64,
    /// Events carried out.
    pub events: u64,
    /// The numbers.
    pub metrics: Metrics,
    /// One sample each simulated second.
    pub series: Vec<Sample>,
    /// Invariants that did not hold.
    pub violations: Vec<Violation>,
    /// What the run cost on this machine; not part of what is compared.
    pub cost: Cost,
}

/// The metrics of a run, over all viewers, from the end of the warm-up on. Definitions are those of
/// `cache_core::proto::peer` where it has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Viewers that ever started.
    pub viewers: u64,
    /// Those that gave up (nobody answered, no cache took them) and tried again as a new viewer.
    pub gave_up: u64,
    /// From the start of a peer to its first chunk played, in milliseconds.
    pub startup_ms: Quantiles,
    /// Chunks played in time over chunks due, of all viewers together.
    pub continuity: f64,
    /// The continuity that all but the worst 1 % of viewers reach.
    pub continuity_p1: f64,
    /// Share of viewers without a stall or a missed chunk.
    pub smooth_viewers: f64,
    /// Stalls per hour of watching. A stall: play-out stood still, or chunks were missed; those in a row are one.
    pub stalls_per_hour: f64,
    /// The longest stall of any viewer, in milliseconds.
    pub stall_longest_ms: f64,
    /// From a chunk's publishing to its being played, in milliseconds.
    pub lag_ms: Quantiles,
    /// Chunk bytes that peers got from peers over all that they got.
    pub offload: f64,
    /// Chunk bytes between peers of different regions over all chunk bytes between peers.
    pub inter_region_share: f64,
    /// Chunk bytes that crossed from one region to another, caches' included, over the bytes that all viewers played: the
    /// paper's figs. 7 and 8.
    pub inter_region_traffic: f64,
    /// Mean distance between partners in the unit square: the paper's delay factor (figs. 5 and 6).
    pub delay_factor: f64,
    /// Bytes that are not chunks over all bytes, at peers.
    pub control_overhead: f64,
    /// Partners per peer, mean.
    pub partners: f64,
    /// Chunk bytes received more than once over all received.
    pub duplicate_share: f64,
    /// Of those: from caches, when a partner had been quicker.
    pub duplicate_cache_share: f64,
    /// Chunks that a partner pushed, over all chunks played.
    pub pushed_share: f64,
    /// Requests that were refused, over all chunks played.
    pub refused_share: f64,
    /// Requests that partners did not answer in time, over all chunks played.
    pub late_share: f64,
    /// Chunks fetched from caches, by cause, over all chunks played: as the peer responsible for them.
    pub seeded_share: f64,
    /// The same, because little time was left.
    pub last_resort_share: f64,
    /// Mean upload of the peers that upload at all, over the stream's rate.
    pub upload_mean: f64,
    /// Busiest cache in the busiest second, kbit/s.
    pub cache_peak_kbps: f64,
}

/// Quantiles of one quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Mean.
    pub mean: f64,
    /// Half are below.
    pub p50: f64,
    /// 95 % are below.
    pub p95: f64,
    /// 99 % are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Second since the start.
    pub at_s: u32,
    /// Viewers alive.
    pub viewers: u32,
    /// Viewers that play.
    pub playing: u32,
    /// Continuity in this second.
    pub continuity: f64,
    /// Offload in this second.
    pub offload: f64,
    /// What caches sent, kbit/s.
    pub cache_kbps: f64,
    /// Viewers that stand still.
    pub stalled: u32,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which: the checker's name.
    pub invariant: String,
    /// When, in simulated seconds.
    pub at_s: f64,
    /// What was seen.
    pub what: String,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds by the clock.
    pub wall_s: f64,
    /// Events per second.
    pub events_per_s: f64,
    /// Largest resident memory of the process, MiB.
    pub peak_rss_mib: f64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Simulated seconds.
    pub simulated_s: f64,
    /// Of so many.
    pub of_s: f64,
    /// Events so far.
    pub events: u64,
    /// Viewers alive.
    pub viewers: u32,
}
