//! What a peer holds while it watches, and how the scheduler sees it.

use super::head::Head;
use super::help::Help;
use super::members::Members;
use super::partners::Partners;
use super::play_buffer::PlayBuffer;
use super::playout::{Pace, Playout};
use super::turn::Turn;
use super::{seeding, urgent};
use crate::limits::WINDOW_CHUNKS;
use crate::peer_id::PeerId;
use crate::time::{Span, Time};
use crate::units::{ChunkSeq, StreamId};

/// A peer that has no partner so long after it began is cut off from the others: what they seed does not reach it, and it fetches
/// everything itself. Our guess: longer than first links take.
const ALONE: Span = Span::from_secs(3);

/// What exists from the moment on at which a cache has said where to begin.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) buffer: PlayBuffer,
    pub(super) head: Head,
    pub(super) playout: Playout,
    pub(super) began: Time,
}

impl Watching {
    pub(super) fn view<'a>(
        &'a self,
        stream: StreamId,
        me: PeerId,
        members: &'a Members,
        help: Help,
        uplink_busy: Span,
    ) -> View<'a> {
        let Watching { buffer, head, playout, began } = self;
        View { stream, me, members, buffer, head, playout, help, began: *began, uplink_busy }
    }
}

/// The peer's view of the stream that a plan is made for.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) stream: StreamId,
    pub(super) me: PeerId,
    /// Who is known besides the partners, for seeding.
    pub(super) members: &'a Members,
    pub(super) buffer: &'a PlayBuffer,
    pub(super) head: &'a Head,
    pub(super) playout: &'a Playout,
    /// What the cache says that it has left.
    pub(super) help: Help,
    /// When the peer began to want chunks.
    pub(super) began: Time,
    /// For so long a request waits behind what is being uploaded.
    pub(super) uplink_busy: Span,
}

impl View<'_> {
    pub(super) fn left(&self, seq: ChunkSeq, now: Time) -> Span {
        self.playout.time_left(seq, self.buffer.position(), self.head, now)
    }

    /// Whether `seq` is to be asked of the cache now, if a request leaves when the uplink is free.
    pub(super) fn needs_cache(&self, seq: ChunkSeq, reserve: Span, open_at_partner: bool, now: Time) -> bool {
        urgent::needs_cache(self.left(seq, now).minus(self.uplink_busy), reserve, open_at_partner)
    }

    pub(super) fn pace(&self, t: &Turn<'_>) -> Pace {
        let position = self.buffer.position();
        let lag = self.playout.lag(position, self.head, t.now);
        self.help.pace(self.playout.pace(position, self.head, t.tuning(), t.now), lag)
    }

    /// The first slot from `first` on that waits for a near partner.
    pub(super) fn far_until(&self, t: &Turn<'_>, first: u64, base: ChunkSeq) -> u64 {
        let delay = t.tuning().play_delay();
        let waits = |slot: &u64| urgent::waits_for_near(self.left(base.ahead(*slot), t.now), delay);
        (first..WINDOW_CHUNKS).find(waits).unwrap_or(WINDOW_CHUNKS)
    }

    /// The first slot from `first` on that waits for who leads in its sub-stream, if somebody does.
    pub(super) fn pushed_from(&self, t: &Turn<'_>, first: u64, base: ChunkSeq) -> u64 {
        let delay = t.tuning().play_delay();
        let waits = |slot: &u64| urgent::waits_for_leader(self.left(base.ahead(*slot), t.now), delay);
        (first..WINDOW_CHUNKS).find(waits).unwrap_or(WINDOW_CHUNKS)
    }

    /// Whether this peer is to fetch `seq`, which no partner announces, from the cache for the others: its rank and the
    /// time since it was published (or we began) make it responsible.
    /// `stands_for`: the chunk that is drawn for, itself or another. `more`: so many more than one are responsible from the
    /// beginning. Who has no partners is responsible for all.
    pub(super) fn seeds(
        &self,
        seq: ChunkSeq,
        stands_for: ChunkSeq,
        partners: &Partners,
        (step, more): (Span, usize),
        now: Time,
    ) -> bool {
        if partners.len() == 0 && now.since(self.began) >= ALONE {
            return true;
        }
        let age = Span::from_micros(self.head.age_us(seq, now).max(0) as u64);
        let waited = age.min(now.since(self.began));
        seeding::is_responsible(stands_for, self.me, partners.ids().chain(self.members.ids()), waited, step, more)
    }
}
