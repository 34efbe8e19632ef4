//! The simulator: the production state machines of peer, index, route and cache in virtual time on a simulated network.
//!
//! | module | its one job |
//! |---|---|
//! | [`scenario`] | what is simulated: network, stream, caches, audience, faults |
//! | [`world`] | runs it: events in time order, nodes that drive the machines, links with rates and delays |
//! | [`invariants`] | what must hold in every run |
//! | [`report`] | what came out: metrics, series, broken invariants |
//! | [`cycle`] | the reduced model: cycle-driven, for a million peers |
//! | [`paper`] | the paper's section 4, regenerated |
//! | [`crew`] | many runs side by side |
//! | [`compare`], [`sweep`], [`torture`] | what is done with many runs |

pub mod compare;
pub mod crew;
pub mod cycle;
pub mod invariants;
pub mod paper;
pub mod report;
pub mod scenario;
pub mod sweep;
pub mod torture;
pub mod world;
