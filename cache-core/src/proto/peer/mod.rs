//! The peer's machine.

pub mod config;
pub mod event;
pub mod stats;

pub use config::{BadTuning, PeerConfig, RequestControl, Sliding, Tuning, UrgentZone};
pub use event::{End, Input, LinkId, Output};
pub use stats::{Snapshot, State, Stats};

use crate::outbox::Outbox;
use crate::prng::Prng;
use crate::time::Time;
use crate::units::ChunkSeq;

/// A peer that watches one stream.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    rng: Prng,
    stats: Stats,
    links: u32,
}

impl Peer {
    /// A peer that does nothing before [`Input::Start`]. All its chance follows from `seed`, which should be
    /// unpredictable: it also numbers the first question.
    pub fn new(config: PeerConfig, seed: u64) -> Peer {
        Peer { config, rng: Prng::new(seed), stats: Stats::default(), links: 0 }
    }

    /// The number of a link that somebody else made, for [`Input::Accepted`].
    pub fn new_link(&mut self) -> LinkId {
        self.links = self.links.wrapping_add(1);
        LinkId(self.links)
    }

    /// Takes in what happened; puts what to do into `out`, in order. One call is one complete transition.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        let _ = (now, input, out, &self.config, &mut self.rng);
    }

    /// When to call [`Peer::handle`] with [`Input::Tick`] at the latest; [`Time::NEVER`] when it is over.
    pub fn next_timeout(&self) -> Time {
        Time::NEVER
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How the peer is at `now`.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let _ = now;
        Snapshot {
            peer_id: crate::peer_id::PeerId::NONE,
            domain: None,
            seen: None,
            state: State::Idle,
            position: ChunkSeq::FIRST,
            head: ChunkSeq::FIRST,
            buffer_ms: 0,
            partners: 0,
            members: 0,
            size: 0,
            cache: None,
        }
    }
}
