//! The index machine's settings.

use std::net::SocketAddr;

use super::publish::PublishRules;
use crate::time::{Span, WallClock};
use crate::units::DomainId;

/// Everything that the machine is told at its start.
#[derive(Clone, Debug)]
pub struct IndexConfig {
    /// The domain whose registry this is.
    pub domain: DomainId,
    /// The route servers, in the order to ask them; each is told of every stream. None: the domain stands alone.
    pub routes: Vec<SocketAddr>,
    /// The wall clock at [`crate::time::Time::ZERO`]: epochs begin there, so that they grow across restarts, and go on with
    /// monotonic time, so that a clock that is set does not disturb them.
    pub started: WallClock,
    /// Period of peers' heartbeats: 5 s (our default; the paper gives none).
    pub heartbeat: Span,
    /// Heartbeats that a peer may miss: 3 (our default).
    pub missed_heartbeats: u64,
    /// Members in an answer are this many times ln N: 3 (paper, section 3.1.4: (c+1) ln N with c = 2).
    pub members_factor: f64,
    /// Least members in an answer: 4 (paper, decoded: "at least 4").
    pub members_min: usize,
    /// Share of the members that is taken at random from the whole stream, in percent: 25 (our guess; it keeps the areas'
    /// meshes joined).
    pub random_members_percent: usize,
    /// A cache that has not reported for this long is gone: 3 s, three reports (our guess).
    pub cache_silence: Span,
    /// A publisher that has been silent for this long may be succeeded by another: 3 s (our guess: longer than a
    /// reconnect).
    pub publisher_silence: Span,
    /// Who may publish which names.
    pub publish: PublishRules,
    /// Peers are told of N when it has changed by this many percent; 0: never for this reason. 20 (our guess for the
    /// paper's "certain scale").
    pub size_changed_percent: u64,
    /// Peers are told of N when ln N has changed by this much; 0: never for this reason. 0 by default: 20 percent is
    /// always the smaller change.
    pub size_changed_ln: f64,
    /// Most sizes told in one tick (100 ms): 200, so that a domain of 10 000 is told in 5 s (our guess).
    pub size_changed_per_tick: usize,
    /// Bounds.
    pub bounds: IndexBounds,
}

/// Memory of a peer in the registry, in bytes (`cache-core/tests/memory_of_peers.rs` measures it against this).
pub const PEER_MEMORY_BYTES: u64 = 200;

/// What is held at most. Each bound has its counter in [`super::IndexStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexBounds {
    /// Peers of all streams: a million ([`PEER_MEMORY_BYTES`] each).
    pub peers_max: usize,
    /// Peers of one stream.
    pub peers_per_stream_max: usize,
    /// Peers of all streams behind one /24 (IPv6: /56): 4096 (our guess: a campus or a carrier's translation).
    pub peers_per_prefix_max: u32,
    /// Streams with a name and keys.
    pub streams_max: usize,
    /// Caches.
    pub caches_max: usize,
    /// Streams in caches, counted once for each cache that holds them.
    pub holdings_max: usize,
    /// Streams being located at the route server.
    pub locating_max: usize,
    /// Questions that wait for a stream to be located.
    pub parked_max: usize,
    /// Dial-backs under way.
    pub dial_backs_max: usize,
}

impl Default for IndexBounds {
    fn default() -> IndexBounds {
        IndexBounds {
            peers_max: 1_000_000,
            peers_per_stream_max: 500_000,
            peers_per_prefix_max: 4096,
            streams_max: 20_000,
            caches_max: 256,
            holdings_max: 100_000,
            locating_max: 256,
            parked_max: 4096,
            dial_backs_max: 1024,
        }
    }
}

impl IndexConfig {
    /// `domain`, alone, open to every publisher, and the defaults of all else.
    pub fn new(domain: DomainId, started: WallClock) -> IndexConfig {
        IndexConfig {
            domain,
            routes: Vec::new(),
            started,
            heartbeat: Span::from_secs(5),
            missed_heartbeats: 3,
            members_factor: 3.0,
            members_min: 4,
            random_members_percent: 25,
            cache_silence: Span::from_secs(3),
            publisher_silence: Span::from_secs(3),
            publish: PublishRules::default(),
            size_changed_percent: 20,
            size_changed_ln: 0.0,
            size_changed_per_tick: 200,
            bounds: IndexBounds::default(),
        }
    }

    /// How long a peer that is not heard from is kept.
    pub fn peer_silence(&self) -> Span {
        self.heartbeat.times(self.missed_heartbeats)
    }

    /// How many members a peer of a stream of `size` peers is told of.
    pub fn members_wanted(&self, size: usize) -> usize {
        let wanted = (self.members_factor * (size.max(1) as f64).ln()).ceil() as usize;
        wanted.max(self.members_min).min(crate::limits::MEMBERS_PER_ANSWER_MAX)
    }
}
