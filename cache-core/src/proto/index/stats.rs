//! The index machine's counters.

use super::caches::CacheStats;
use super::pulls::PullStats;
use super::swarm::SwarmStats;
use crate::proto::gate::GateStats;

/// What was done since the start, and what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// What was turned away before it was looked at.
    pub gate: GateStats,
    /// Peers: joined, left, expired, and the bounds that were met.
    pub swarm: SwarmStats,
    /// Caches: reports, expired, and the bounds that were met.
    pub caches: CacheStats,
    /// Streams located and fetched.
    pub pulls: PullStats,
    /// Peers of all streams.
    pub peers: u64,
    /// Streams with peers.
    pub watched_streams: u64,
    /// Streams with a name and keys.
    pub known_streams: u64,
    /// Streams in caches, counted once for each cache.
    pub holdings: u64,
    /// Caches registered.
    pub caches_live: u64,
    /// Streams not learnt or granted: `streams_max`.
    pub streams_full: u64,
    /// Terms granted to publishers.
    pub grants: u64,
    /// Publish requests without the right secret, or not signed by the key they name.
    pub not_authorised: u64,
    /// Publish requests for a name that another holds.
    pub name_taken: u64,
    /// Dial-backs sent.
    pub dial_backs: u64,
    /// Addresses not dialled: `dial_backs_max`, or dialled just before.
    pub dial_backs_turned_away: u64,
    /// Addresses proved by a dial-back.
    pub dial_backs_answered: u64,
    /// Sizes told because N had changed.
    pub sizes_told: u64,
    /// Announcements sent to route servers.
    pub announced: u64,
    /// Announcements put off because too many questions were open.
    pub announcements_put_off: u64,
    /// Streams that caches hold and whose name nobody has said here, met when announcing.
    pub unnamed: u64,
    /// Questions not asked because too many were open.
    pub questions_full: u64,
    /// Questions that belong to another role.
    pub misplaced: u64,
    /// Refusals of all kinds.
    pub refused: u64,
}
