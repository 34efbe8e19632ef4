//! The peer's machine: how one viewer joins a stream, exchanges it with others and plays it.
//!
//! A peer asks the route server for its id and its domain's index, the index for the stream's caches, keys and some
//! members, and a cache where to begin. From then on it does three things at once: it fetches the chunks of its window
//! from partners, and from the cache what no partner can give in time; it gives its partners what they ask for; and
//! it plays one chunk each 200 ms.
//!
//! ```text
//!   route, index          cache                    partners                      the player
//!        |                  |                         |                              ^
//!      join            cache_link                  neighbourhood                   playout
//!        |                  |                         |                              |
//!  ------+------------------+------- conductor -------+----------- upload -----------+------
//!                                        |                           |               |
//!             scheduler (urgent, rarest, request_rate, seeding; requests)       play_buffer, head
//! ```
//! | file | job | paper |
//! |---|---|---|
//! | [`event`] | what the machine is told, what it decides | |
//! | [`config`] | every number with its key, default and source | eqs. (1), (2) |
//! | `conductor` | who is told what; no algorithm | |
//! | `join` | the dialogue with route and index servers | 3.1.1 |
//! | `members`, `handshake`, `partners`, `worth`, together `neighbourhood` | who is known, how links begin, who stays | 3.1.3-3.1.5, eq. (3) |
//! | `cache_link` | the link to the cache and the next one when it fails | 3.1.2 |
//! | `play_buffer`, `head`, `playout` | the window, the newest chunk, the clock | 3.2.1, 3.2.2 |
//! | `scheduler`, `urgent`, `rarest`, `request_rate`, `requests` | which chunk is asked of whom | 3.2.3, eqs. (4), (5) |
//! | `slots`, `few` | sets of a window's chunks as words; short lists by keys | |
//! | `delivery` | how long a partner takes | |
//! | `seeding` | who fetches a new chunk from the cache | our own |
//! | `upload` | partners' requests within the upload granted | |
//! | [`stats`], [`quality`] | counters and the status line; what the viewer gets | |
//!
//! Deviations from the paper and their reasons stand at the head of the file concerned: `config` (eq. (2) repaired),
//! `request_rate` (eq. (5) repaired), `play_buffer` and `playout` (one hole is missed, not waited for), `seeding`.
//!
//! The machine is pure: the driver brings time, datagrams, frames and checked chunk headers, and carries out what is in
//! the [`Outbox`] in order. The machine never sees a chunk's bytes. Everything it keeps is bounded by the window, by
//! [`crate::limits`] or by a constant beside it.

pub mod config;
pub mod event;
pub mod quality;
pub mod stats;

mod cache_link;
mod conductor;
mod delivery;
mod few;
mod handshake;
mod head;
mod join;
mod members;
mod neighbourhood;
mod partners;
mod play_buffer;
mod playout;
mod rarest;
mod request_rate;
mod requests;
mod scheduler;
mod seeding;
mod slots;
mod turn;
mod upload;
mod urgent;
mod worth;

/// The rules that are pure functions, for who runs them on state of another shape (the simulator's reduced model).
pub mod rules {
    pub use super::members::draw;
    pub use super::rarest::order;
    pub use super::scheduler::{Source, choose};
    pub use super::seeding::is_responsible;
    pub use super::slots::Slots;
    pub use super::urgent::needs_cache;
}

pub use config::{BadTuning, PeerConfig, Profile, RequestControl, Sliding, Tuning, UrgentZone};
pub use event::{End, Input, LinkId, Output};
pub use stats::{Snapshot, State, Stats};

use conductor::Conductor;
use turn::{LinkNames, Turn};

use crate::outbox::Outbox;
use crate::prng::Prng;
use crate::time::Time;

/// A peer that watches one stream.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    rng: Prng,
    stats: Stats,
    links: LinkNames,
    conductor: Conductor,
}

impl Peer {
    /// A peer that does nothing before [`Input::Start`]. All its chance follows from `seed`, which should be
    /// unpredictable: it also numbers the first question.
    pub fn new(config: PeerConfig, seed: u64) -> Peer {
        let mut rng = Prng::new(seed);
        let conductor = Conductor::new(&config, rng.next_u64() as u32);
        Peer { config, rng, stats: Stats::default(), links: LinkNames::default(), conductor }
    }

    /// The number of a link that somebody else made, for [`Input::Accepted`].
    pub fn new_link(&mut self) -> LinkId {
        self.links.next()
    }

    /// Takes in what happened at `now` (never earlier than the call before); puts what to do into `out`, in order. One
    /// call is one complete transition. After [`Output::Finished`] every input is ignored.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        let mut turn =
            Turn { now, config: &self.config, rng: &mut self.rng, stats: &mut self.stats, links: &mut self.links, out };
        self.conductor.handle(&mut turn, input);
    }

    /// When to call [`Peer::handle`] with [`Input::Tick`] at the latest: later than the last call; [`Time::NEVER`] before
    /// the start and when it is over.
    pub fn next_timeout(&self) -> Time {
        self.conductor.next_timeout(&self.config.tuning)
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How the peer is at `now`.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        self.conductor.snapshot(now)
    }
}
