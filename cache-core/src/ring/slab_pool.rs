//! The writer's books of the segments: which are free, whose the others are, and which is filled next.
//!
//! ```text
//!             take                         expired          due, nobody leases it: renewed
//!   free ------------> a stream's own -----+---------> expired ----+--------------> taken by the next stream,
//!     ^                  |   stream closed '---------> orphaned ---+                or free (tidied ahead of need)
//!     |                  | evicted: the ring is short              | due, leased
//!     |                  v                                         v
//!     '--- renewed --- (as above)            quarantined: its leases end, then it is renewed
//!                                            pages cannot be renewed: retired, for good
//! ```
//! A segment belongs to one stream and is given up whole. Segments stay as they are for as long as possible, so that
//! slow readers get all the time there is; only when one is needed, or is about to be ([`SlabPool::tidy`]), is one made
//! clean, in the order of [`Rank`].
//!
//! # Who loses when the ring is short
//! Each stream has a rank and may be protected from a chunk on (`Writer::set_rank`, `Writer::protect_from`; what they
//! should be is decided in `proto::cache::replacement`). The stream of the lowest rank loses its oldest segment; of one
//! rank, the segment that was begun first. A segment with a protected chunk is never taken: rather is the asking stream
//! refused, or one of a lower rank loses the segment that it was filling, and is refused next.
//!
//! # Cost
//! Every place of a segment is a queue (`queues.rs`) and the order of losers is a tournament (`losers.rs`): taking,
//! expiring and losing one cost the same for ten segments and for a million. Among leased segments the pool looks at
//! [`LOOK`] for one that is not.

use std::sync::Arc;

use super::Core;
use super::attach::Scan;
use super::config::Recycle;
use super::lease::give_up;
use super::losers::Losers;
use super::queues::Queues;
use super::stats::Counter;
use crate::units::ChunkSeq;

/// What a segment is doing; each but the last is a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Clean; no chunk was ever read from it, or not since it was renewed.
    Free,
    /// Given up while it was leased.
    Quarantined,
    /// Of a closed stream.
    Orphaned,
    /// All of its chunks have left their stream's window.
    Expired,
    /// Holds chunks of the stream with this number, oldest segment first; the last is being filled.
    Of(u32),
    /// Without pages.
    Retired,
}

/// In which order segments are taken. Of one rank the first in its queue that nobody leases is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    /// Nothing need be done.
    Free,
    /// In quarantine, its leases ended.
    Released,
    /// Of a closed stream, or expired.
    Unreadable,
    /// The oldest of the stream that loses first. A stream's newest segment is not counted.
    Oldest,
    /// The asking stream's only one: a live stream with a short memory is better than a dead one.
    OwnNewest,
    /// The only one of a stream of lower rank: everything else is protected.
    LesserNewest,
}

/// Segments that are looked at for one that nobody leases (our guess: leases are short, and so are queues of leased
/// segments; it bounds the writer's time).
const LOOK: usize = 64;

/// What the pool knows of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    head: Option<ChunkSeq>,
    /// The segment that is being filled.
    newest: Option<u32>,
    /// Newest chunks that have not expired.
    retain: u64,
    /// The least loses first.
    rank: u64,
    /// Chunks from here on are not taken.
    protected_from: Option<ChunkSeq>,
}

/// One segment's books.
#[derive(Debug)]
struct Slab {
    place: Place,
    /// When it was begun, in segments begun before.
    born: u64,
    /// Its newest chunk.
    newest: Option<ChunkSeq>,
    /// Held a second time by a live reservation in it.
    hold: Arc<()>,
    /// Filled by a process that has died, whose sends nobody knows: its pages are given up before it is filled again,
    /// whatever [`Recycle`] says.
    inherited: bool,
}

/// The books.
#[derive(Debug, Default)]
pub(super) struct SlabPool {
    slabs: Vec<Slab>,
    owners: Vec<Owner>,
    queues: Queues,
    losers: Losers,
    births: u64,
}

impl SlabPool {
    /// All segments free, all streams without a chunk.
    pub(super) fn new(core: &Core) -> SlabPool {
        let (segments, streams) = (core.control.layout.segments, core.control.layout.streams);
        let slab = || Slab { place: Place::Free, born: 0, newest: None, hold: Arc::new(()), inherited: false };
        let mut queues = Queues::new(segments, Place::QUEUES_BEFORE_STREAMS + streams as usize);
        for segment in 0..segments {
            queues.push(0, segment);
            core.control.count(Counter::segments_free);
        }
        SlabPool {
            slabs: (0..segments).map(|_| slab()).collect(),
            owners: vec![Owner::default(); streams as usize],
            queues,
            losers: Losers::new(streams),
            births: 0,
        }
    }

    /// All segments in use, as [`super::attach`] found them: each a stream's, or nobody's. None is clean.
    pub(super) fn inherit(core: &Core, scan: &Scan) -> SlabPool {
        let (segments, streams) = (core.control.layout.segments, core.control.layout.streams);
        let mut pool = SlabPool {
            slabs: Vec::with_capacity(segments as usize),
            owners: vec![Owner::default(); streams as usize],
            queues: Queues::new(segments, Place::QUEUES_BEFORE_STREAMS + streams as usize),
            losers: Losers::new(streams),
            births: scan.claims.iter().map(|claim| claim.born).max().unwrap_or(0),
        };
        for claim in &scan.claims {
            core.control.count(Counter::segments_in_use);
            let place = claim.stream.map_or(Place::Orphaned, Place::Of);
            let (born, newest) = (claim.born, claim.newest);
            pool.slabs.push(Slab { place, born, newest, hold: Arc::new(()), inherited: true });
        }
        let mut oldest_first: Vec<u32> = (0..segments).collect();
        oldest_first.sort_by_key(|segment| pool.slabs[*segment as usize].born);
        for segment in oldest_first {
            pool.queues.push(pool.slabs[segment as usize].place.queue(), segment);
        }
        for found in &scan.streams {
            let stream = found.slot.index;
            let retain = core.control.stream(stream).retain(core.control.layout.retain);
            let (head, newest) = (Some(found.head), Some(found.newest_segment));
            pool.owners[stream as usize] = Owner { head, newest, retain, ..Owner::default() };
            pool.expire(core, stream);
        }
        pool
    }

    /// Stream `stream` is new and keeps its newest `retain` chunks.
    pub(super) fn open(&mut self, stream: u32, retain: u64) {
        self.owners[stream as usize] = Owner { retain, ..Owner::default() };
    }

    /// Leaves the segments of a closed stream without an owner. Their chunks stay readable to who knows their names.
    pub(super) fn close(&mut self, core: &Core, stream: u32) {
        while let Some(segment) = self.queues.first(Place::Of(stream).queue()) {
            self.enter(core, segment, Place::Orphaned);
        }
        self.owners[stream as usize] = Owner::default();
    }

    /// The stream's newest chunk.
    pub(super) fn head(&self, stream: u32) -> Option<ChunkSeq> {
        self.owners[stream as usize].head
    }

    /// The segment that the stream fills.
    pub(super) fn newest(&self, stream: u32) -> Option<u32> {
        self.owners[stream as usize].newest
    }

    /// Newest chunks of the stream that have not expired.
    pub(super) fn retain(&self, stream: u32) -> u64 {
        self.owners[stream as usize].retain
    }

    /// See `Writer::set_retain`.
    pub(super) fn set_retain(&mut self, core: &Core, stream: u32, retain: u64) {
        self.owners[stream as usize].retain = retain;
        self.expire(core, stream);
    }

    /// See `Writer::set_rank`.
    pub(super) fn set_rank(&mut self, stream: u32, rank: u64) {
        self.owners[stream as usize].rank = rank;
        self.rank_again(stream);
    }

    /// See `Writer::protect_from`.
    pub(super) fn protect_from(&mut self, stream: u32, seq: Option<ChunkSeq>) {
        self.owners[stream as usize].protected_from = seq;
        self.rank_again(stream);
    }

    /// A clean segment for stream `stream` to fill, at the cost of others if need be; `None`, counted, when there is
    /// none.
    pub(super) fn take(&mut self, core: &Core, stream: u32) -> Option<u32> {
        loop {
            let Some((rank, segment)) = self.next(core, stream) else {
                core.control.count(Counter::no_space);
                return None;
            };
            if matches!(rank, Rank::Oldest | Rank::OwnNewest | Rank::LesserNewest) {
                core.control.count(Counter::evicted);
                if !self.give_up(core, segment) {
                    // The others of this rank that were looked at are leased too: to give them up would free nothing.
                    core.control.count(Counter::no_space);
                    return None;
                }
            }
            if rank == Rank::Unreadable && !self.give_up(core, segment) {
                continue;
            }
            if rank == Rank::Free || self.renew(core, segment) {
                self.births += 1;
                let slab = &mut self.slabs[segment as usize];
                (slab.born, slab.newest) = (self.births, None);
                self.owners[stream as usize].newest = Some(segment);
                self.enter(core, segment, Place::Of(stream));
                self.expire(core, stream);
                return Some(segment);
            }
        }
    }

    /// Makes one segment clean ahead of need, when fewer than `stock` are free; whether it did. Those that hold nothing
    /// readable are used; only below `stock_evicted` free ones does a stream lose one before it must. Leased ones and
    /// protected ones are left alone.
    pub(super) fn tidy(&mut self, core: &Core, stock: u32, stock_evicted: u32) -> bool {
        let free = self.free();
        if free >= stock {
            return false;
        }
        let unreadable = self.released(core).map(|segment| (Rank::Released, segment)).or_else(|| self.unreadable(core));
        let Some((rank, segment)) = unreadable.or_else(|| {
            let oldest = if free < stock_evicted { self.oldest(core) } else { None };
            Some((Rank::Oldest, oldest?))
        }) else {
            return false;
        };
        if rank != Rank::Released {
            if leased(core, segment) {
                return false;
            }
            if rank == Rank::Oldest {
                core.control.count(Counter::evicted);
            }
            if !self.give_up(core, segment) {
                return false;
            }
        }
        if self.renew(core, segment) {
            self.enter(core, segment, Place::Free);
        }
        true
    }

    /// Segments that are clean.
    pub(super) fn free(&self) -> u32 {
        self.queues.len(Place::Free.queue())
    }

    /// Notes that chunk `seq` of stream `stream` has been published in segment `segment`.
    pub(super) fn note(&mut self, core: &Core, stream: u32, segment: u32, seq: ChunkSeq) {
        let newest = &mut self.slabs[segment as usize].newest;
        *newest = (*newest).max(Some(seq));
        let head = &mut self.owners[stream as usize].head;
        if head.is_none_or(|head| seq > head) {
            *head = Some(seq);
            self.expire(core, stream);
        }
    }

    /// What a reservation in segment `segment` holds on to: the segment is not given up meanwhile.
    pub(super) fn hold(&self, segment: u32) -> &Arc<()> {
        &self.slabs[segment as usize].hold
    }

    /// Whether a reservation in segment `segment` is alive.
    pub(super) fn reserved(&self, segment: u32) -> bool {
        Arc::strong_count(self.hold(segment)) > 1
    }

    fn next(&mut self, core: &Core, stream: u32) -> Option<(Rank, u32)> {
        if let Some(segment) = self.queues.first(Place::Free.queue()) {
            return Some((Rank::Free, segment));
        }
        if let Some(segment) = self.released(core) {
            return Some((Rank::Released, segment));
        }
        self.unreadable(core)
            .or_else(|| Some((Rank::Oldest, self.oldest(core)?)))
            .or_else(|| self.last_resort(core, stream))
    }

    /// One in quarantine whose leases have ended.
    fn released(&mut self, core: &Core) -> Option<u32> {
        self.look(Place::Quarantined, |segment| !leased(core, segment))
    }

    /// One without a readable chunk, not leased if there is such a one.
    fn unreadable(&self, core: &Core) -> Option<(Rank, u32)> {
        for place in [Place::Orphaned, Place::Expired] {
            let mut given = self.queues.iter(place.queue()).take(LOOK).filter(|segment| !self.reserved(*segment));
            let first = given.next();
            let loose = first.into_iter().chain(given).find(|segment| !leased(core, *segment));
            if let Some(segment) = loose.or(first) {
                return Some((Rank::Unreadable, segment));
            }
        }
        None
    }

    /// The first of the queue that `good` is said of, of [`LOOK`]. Those in front of it go to the end, so that another
    /// call looks at others.
    fn look(&mut self, place: Place, good: impl Fn(u32) -> bool) -> Option<u32> {
        let queue = place.queue();
        for _ in 0..self.queues.len(queue).min(LOOK as u32) {
            let first = self.queues.first(queue)?;
            if good(first) {
                return Some(first);
            }
            self.queues.remove(queue, first);
            self.queues.push(queue, first);
        }
        None
    }

    /// The oldest segment of the stream that loses first; of its next streams and segments when that is leased, and
    /// leased after all when all that were looked at are.
    fn oldest(&mut self, core: &Core) -> Option<u32> {
        let mut passed = [(0, None); LOOK];
        let (mut first, mut found) = (None, None);
        let mut looks = 0;
        for place in &mut passed {
            let Some(stream) = self.losers.least() else { break };
            *place = (stream, self.losers.key(stream));
            self.losers.set(stream, None);
            for segment in self.queues.iter(Place::Of(stream).queue()) {
                if looks == LOOK || !self.may_lose(stream, segment) {
                    break;
                }
                looks += 1;
                first = first.or(Some(segment));
                if !leased(core, segment) {
                    found = Some(segment);
                    break;
                }
            }
            if found.is_some() || looks == LOOK {
                break;
            }
        }
        for (stream, key) in passed {
            if key.is_some() {
                self.losers.set(stream, key);
            }
        }
        found.or(first)
    }

    /// When every stream has its newest segment only, or needs what it has: the asking stream's own, else that of the
    /// stream of the lowest rank below. Cost: a look at every stream, when the ring is too small for what is watched.
    fn last_resort(&self, core: &Core, stream: u32) -> Option<(Rank, u32)> {
        let asking = self.owners[stream as usize];
        let loose = |segment: u32, owner: &Owner| {
            !self.reserved(segment) && !is_protected(self.slabs[segment as usize].newest, owner.protected_from)
        };
        if let Some(segment) = asking.newest
            && loose(segment, &asking)
        {
            return Some((Rank::OwnNewest, segment));
        }
        let lesser = self.owners.iter().filter(|owner| owner.rank < asking.rank);
        let newest = lesser.filter_map(|owner| Some((owner.rank, owner.newest?, owner)));
        let loose = newest.filter(|(_, segment, owner)| loose(*segment, owner));
        let least = loose.min_by_key(|(rank, segment, _)| (*rank, self.slabs[*segment as usize].born));
        match least {
            Some((_, segment, _)) => Some((Rank::LesserNewest, segment)),
            None => {
                let withheld = |owner: &Owner| {
                    let newest = owner.newest.and_then(|segment| self.slabs[segment as usize].newest);
                    is_protected(newest, owner.protected_from)
                };
                if self.owners.iter().any(withheld) {
                    core.control.count(Counter::withheld);
                }
                None
            }
        }
    }

    /// Whether the stream may lose this segment of its own.
    fn may_lose(&self, stream: u32, segment: u32) -> bool {
        let owner = &self.owners[stream as usize];
        owner.newest != Some(segment) && !is_protected(self.slabs[segment as usize].newest, owner.protected_from)
    }

    /// Moves what has left the stream's window to the expired.
    fn expire(&mut self, core: &Core, stream: u32) {
        let owner = self.owners[stream as usize];
        while let Some(first) = self.queues.first(Place::Of(stream).queue()) {
            if owner.newest == Some(first) || !expired(self.slabs[first as usize].newest, owner.head, owner.retain) {
                break;
            }
            self.enter(core, first, Place::Expired);
        }
        self.rank_again(stream);
    }

    /// Puts the stream where its rank and its oldest segment belong.
    fn rank_again(&mut self, stream: u32) {
        let oldest = self.queues.first(Place::Of(stream).queue()).filter(|oldest| self.may_lose(stream, *oldest));
        let rank = self.owners[stream as usize].rank;
        self.losers.set(stream, oldest.map(|oldest| (rank, self.slabs[oldest as usize].born)));
    }

    /// Ends the chunks of segment `segment`; whether it can be filled again at once. If not it is in quarantine.
    fn give_up(&mut self, core: &Core, segment: u32) -> bool {
        give_up(&core.control, segment);
        if let Place::Of(stream) = self.slabs[segment as usize].place {
            self.owners[stream as usize].newest.take_if(|newest| *newest == segment);
        }
        let leased = leased(core, segment);
        if leased {
            core.control.count(Counter::quarantined);
            self.enter(core, segment, Place::Quarantined);
        }
        !leased
    }

    /// Makes segment `segment` clean; false, and it is retired, when its pages cannot be had again.
    fn renew(&mut self, core: &Core, segment: u32) -> bool {
        let renewed = match core.recycle {
            Recycle::InPlace | Recycle::InPlaceUnprotected if !self.slabs[segment as usize].inherited => true,
            _ => core.slabs.renew(core.control.layout.segment_offset(segment)).is_ok(),
        };
        if renewed {
            self.slabs[segment as usize].inherited = false;
            core.control.count(Counter::recycled);
        } else {
            self.enter(core, segment, Place::Retired);
        }
        renewed
    }

    fn enter(&mut self, core: &Core, segment: u32, place: Place) {
        let before = std::mem::replace(&mut self.slabs[segment as usize].place, place);
        core.control.uncount(before.level());
        core.control.count(place.level());
        if before != Place::Retired {
            self.queues.remove(before.queue(), segment);
        }
        if place != Place::Retired {
            self.queues.push(place.queue(), segment);
        }
        if let Place::Of(stream) = before {
            self.rank_again(stream);
        }
    }
}

impl Place {
    const QUEUES_BEFORE_STREAMS: usize = 4;

    /// The queue in which segments of this place stand. Retired ones stand in none.
    fn queue(self) -> usize {
        match self {
            Place::Free => 0,
            Place::Quarantined => 1,
            Place::Orphaned => 2,
            Place::Expired | Place::Retired => 3,
            Place::Of(stream) => Place::QUEUES_BEFORE_STREAMS + stream as usize,
        }
    }

    fn level(self) -> Counter {
        match self {
            Place::Free => Counter::segments_free,
            Place::Of(_) | Place::Orphaned | Place::Expired => Counter::segments_in_use,
            Place::Quarantined => Counter::segments_quarantined,
            Place::Retired => Counter::segments_retired,
        }
    }
}

fn leased(core: &Core, segment: u32) -> bool {
    core.recycle != Recycle::InPlaceUnprotected && core.leases.any(segment)
}

/// Whether a segment whose newest chunk is `newest` holds one of those that are protected.
fn is_protected(newest: Option<ChunkSeq>, protected_from: Option<ChunkSeq>) -> bool {
    matches!((newest, protected_from), (Some(newest), Some(from)) if newest >= from)
}

/// Whether chunk `newest`, and so every older one, has left the window that ends at `head`. A segment without a chunk
/// has nothing to lose.
fn expired(newest: Option<ChunkSeq>, head: Option<ChunkSeq>, retain: u64) -> bool {
    match (newest, head) {
        (Some(newest), Some(head)) => head.since(newest).is_some_and(|age| age >= retain),
        _ => true,
    }
}
