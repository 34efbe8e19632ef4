//! The reduced model: cycle-driven, in the manner of PeerSim. In every cycle each node acts once on its neighbours; there
//! are no messages on a network, no handshakes, no timers of a machine. It is for sizes that the whole protocol does not
//! reach (a million peers) and for comparing the engine with PeerSim's on PeerSim's own example.
//!
//! | module | its one job |
//! |---|---|
//! | [`averaging`] | gossip averaging over a random overlay, swept node by node in each cycle |
//! | [`averaging_events`] | the same example as messages and timers in an event queue |
//! | [`wheel`] | that queue |
//! | [`places`] | where nodes are: the unit square, its regions, PeerIDs |
//! | [`mesh`] | members from the index's answer, partners by tier |
//! | [`swarm`] | streaming over that mesh: buffer maps, requests, uploads, play-out, one chunk per cycle |
//! | [`cli`] | `weircast-sim averaging` and `weircast-sim swarm` |
//!
//! State is in arrays by node number (u32), one array per property. Whatever a node decides in a cycle it draws from a
//! generator of its own ([`dice`]), so that results do not depend on the number of threads.

pub mod averaging;
pub mod averaging_events;
pub mod cli;
pub mod mesh;
pub mod places;
pub mod swarm;
pub mod wheel;

use cache_core::prng::{Prng, mix};

/// The generator of `node` in `cycle`: what it draws depends on nothing that other nodes draw.
pub fn dice(seed: u64, cycle: u64, node: u32) -> Prng {
    Prng::new(mix(seed ^ mix(cycle << 32 | u64::from(node))))
}

/// Folds `word` into `digest`; the order counts.
pub(crate) const fn fold(digest: u64, word: u64) -> u64 {
    (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// The largest resident memory that this process had, in bytes; 0 where the system does not say.
pub fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
