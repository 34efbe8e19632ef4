//! The simulator: the production state machines of peer, index, route and cache in virtual time on a simulated network.
//!
//! | module | its one job |
//! |---|---|
//! | [`scenario`] | what is simulated: network, stream, caches, audience, faults |
//! | [`world`] | runs it: events in time order, nodes that drive the machines, links with rates and delays |
//! | [`paper`] | the paper's section 4 regenerated |
//! | [`cycle`] | the reduced model: cycle-driven, for a million peers |
//! | [`report`] | what came out: metrics, series, broken invariants |

pub mod cycle;
pub mod paper;
pub mod report;
pub mod scenario;
pub mod world;
