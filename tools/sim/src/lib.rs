//! The simulator: the production state machines of peer, index, route and cache in virtual time on a simulated network.
//!
//! | module | its one job |
//! |---|---|
//! | [`scenario`] | what is simulated: network, stream, caches, audience, faults |
//! | [`world`] | runs it: events in time order, nodes that drive the machines, links with rates and delays |
//! | [`invariants`] | what must hold in every run |
//! | [`report`] | what came out: metrics, series, broken invariants |
//! | [`crew`] | many runs side by side |
//! | [`compare`], [`sweep`], [`torture`] | what is done with many runs |

pub mod compare;
pub mod crew;
pub mod invariants;
pub mod report;
pub mod scenario;
pub mod sweep;
pub mod torture;
pub mod world;
