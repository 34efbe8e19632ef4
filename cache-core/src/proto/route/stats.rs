//! The route machine's counters.

use super::ids::IdsStats;
use crate::proto::gate::GateStats;

/// What was done since the start, and what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteStats {
    /// What was turned away before it was looked at.
    pub gate: GateStats,
    /// Ids: issued, renewed, and the bounds that were met.
    pub ids: IdsStats,
    /// Peers with a lease.
    pub peers: u64,
    /// Announcements held.
    pub streams: u64,
    /// Announcements turned away by `streams_max`.
    pub streams_full: u64,
    /// Joins answered with an id.
    pub joined: u64,
    /// Joins from addresses that table or database knew.
    pub located: u64,
    /// Joins from addresses that neither knew.
    pub unlocated: u64,
    /// Joins from addresses of no domain.
    pub no_domain: u64,
    /// Announcements of domains that are not configured.
    pub unknown_domain: u64,
    /// Questions that belong to another role.
    pub misplaced: u64,
    /// Refusals of all kinds.
    pub refused: u64,
}
