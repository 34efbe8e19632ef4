//! The writer's books of the segments: which are free, whose the others are, and which is filled next.
//!
//! ```text
//!             take                      due, nobody leases it: renew
//!   free ------------> in use ------------------------------------------> in use, of the next stream
//!                        |  due, leased                                     ^
//!                        +---------------> quarantined --- leases ended ----+
//!                                              pages cannot be renewed: retired, for good
//! ```
//! A segment belongs to one stream and is given up whole. Segments stay as they are for as long as possible, so that
//! slow readers get all the time there is; only when one is needed is one made, in the order of [`Rank`].

use std::sync::Arc;

use super::Core;
use super::attach::Claim;
use super::config::Recycle;
use super::lease::give_up;
use super::stats::Counter;
use crate::units::ChunkSeq;

/// What a segment is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Clean; no chunk was ever read from it, or not since it was renewed.
    Free,
    /// Holds chunks of the stream with this number; `None` once that was closed.
    InUse(Option<u32>),
    /// Given up while it was leased.
    Quarantined,
    /// Without pages.
    Retired,
}

/// In which order segments are taken; of one rank the one that nobody leases, then the one that was begun first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing need be done.
    Free,
    /// In quarantine, its leases ended.
    Released,
    /// Of a closed stream.
    Orphaned,
    /// All of its chunks have expired, and it is the asking stream's.
    OwnExpired,
    /// All of its chunks have expired.
    Expired,
    /// The oldest of the node, chunks and all: the ring is too small. A stream's newest segment is not taken for
    /// another.
    Oldest,
    /// The asking stream's only one: a live stream with a short memory is better than a dead one.
    OwnNewest,
}

/// What the pool needs to know of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    /// Its newest chunk.
    pub(super) head: Option<ChunkSeq>,
    /// The segment that is being filled.
    pub(super) newest: Option<u32>,
}

/// One segment's books.
#[derive(Debug)]
struct Slab {
    state: State,
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
    births: u64,
}

impl SlabPool {
    /// All segments free.
    pub(super) fn new(core: &Core) -> SlabPool {
        let slab = || Slab { state: State::Free, born: 0, newest: None, hold: Arc::new(()), inherited: false };
        let slabs: Vec<Slab> = (0..core.control.layout.segments).map(|_| slab()).collect();
        slabs.iter().for_each(|_| core.control.count(Counter::segments_free));
        SlabPool { slabs, births: 0 }
    }

    /// All segments in use, as [`super::attach`] found them: each a stream's, or nobody's. None is clean.
    pub(super) fn inherit(core: &Core, claims: &[Claim]) -> SlabPool {
        let slab = |claim: &Claim| {
            core.control.count(Counter::segments_in_use);
            let (owner, born, newest) = (claim.stream, claim.born, claim.newest);
            Slab { state: State::InUse(owner), born, newest, hold: Arc::new(()), inherited: true }
        };
        let births = claims.iter().map(|claim| claim.born).max().unwrap_or(0);
        SlabPool { slabs: claims.iter().map(slab).collect(), births }
    }

    /// A clean segment for stream `wanted_by`, at the cost of others if need be; `None` when there is none.
    pub(super) fn take(&mut self, core: &Core, wanted_by: u32, owners: &mut [Owner]) -> Option<u32> {
        loop {
            let (rank, index) = self.next(core, wanted_by, owners)?;
            let clean = match rank {
                Rank::Free => true,
                Rank::Released => self.renew(core, index),
                Rank::Orphaned | Rank::OwnExpired | Rank::Expired => {
                    self.give_up(core, index) && self.renew(core, index)
                }
                Rank::Oldest | Rank::OwnNewest => {
                    core.control.count(Counter::evicted);
                    owners[wanted_by as usize].newest.take_if(|newest| *newest == index);
                    if !self.give_up(core, index) {
                        // The others of this rank are leased too: giving them up would free nothing now.
                        return None;
                    }
                    self.renew(core, index)
                }
            };
            if clean {
                self.births += 1;
                self.enter(core, index, State::InUse(Some(wanted_by)));
                let slab = &mut self.slabs[index as usize];
                (slab.born, slab.newest) = (self.births, None);
                return Some(index);
            }
        }
    }

    /// Leaves the segments of a closed stream without an owner. Their chunks stay readable to who knows their names.
    pub(super) fn orphan(&mut self, stream: u32) {
        for slab in self.slabs.iter_mut().filter(|slab| slab.state == State::InUse(Some(stream))) {
            slab.state = State::InUse(None);
        }
    }

    /// Notes that chunk `seq` has been published in segment `index`.
    pub(super) fn note(&mut self, index: u32, seq: ChunkSeq) {
        let newest = &mut self.slabs[index as usize].newest;
        *newest = (*newest).max(Some(seq));
    }

    /// What a reservation in segment `index` holds on to: the segment is not given up meanwhile.
    pub(super) fn hold(&self, index: u32) -> &Arc<()> {
        &self.slabs[index as usize].hold
    }

    /// Whether a reservation in segment `index` is alive.
    pub(super) fn reserved(&self, index: u32) -> bool {
        Arc::strong_count(self.hold(index)) > 1
    }

    fn next(&self, core: &Core, wanted_by: u32, owners: &[Owner]) -> Option<(Rank, u32)> {
        let ranked = (0..self.slabs.len() as u32).filter_map(|index| {
            let rank = self.rank(core, index, wanted_by, owners)?;
            let leased = rank > Rank::Released && leased(core, index);
            Some((rank, leased, self.slabs[index as usize].born, index))
        });
        ranked.min().map(|(rank, _, _, index)| (rank, index))
    }

    fn rank(&self, core: &Core, index: u32, wanted_by: u32, owners: &[Owner]) -> Option<Rank> {
        let slab = &self.slabs[index as usize];
        match slab.state {
            State::Retired => None,
            State::Free => Some(Rank::Free),
            State::Quarantined => (!leased(core, index)).then_some(Rank::Released),
            State::InUse(_) if self.reserved(index) => None,
            State::InUse(None) => Some(Rank::Orphaned),
            State::InUse(Some(stream)) => {
                let owner = &owners[stream as usize];
                let own = stream == wanted_by;
                if owner.newest == Some(index) {
                    own.then_some(Rank::OwnNewest)
                } else if !expired(slab.newest, owner.head, core.control.layout.retain) {
                    Some(Rank::Oldest)
                } else {
                    Some(if own { Rank::OwnExpired } else { Rank::Expired })
                }
            }
        }
    }

    /// Ends the chunks of segment `index`; whether it can be filled again at once. If not it is in quarantine.
    fn give_up(&mut self, core: &Core, index: u32) -> bool {
        give_up(&core.control, index);
        let leased = leased(core, index);
        if leased {
            core.control.count(Counter::quarantined);
            self.enter(core, index, State::Quarantined);
        }
        !leased
    }

    /// Makes segment `index` clean; false, and it is retired, when its pages cannot be had again.
    fn renew(&mut self, core: &Core, index: u32) -> bool {
        let renewed = match core.recycle {
            Recycle::InPlace | Recycle::InPlaceUnprotected if !self.slabs[index as usize].inherited => true,
            _ => core.slabs.renew(core.control.layout.segment_offset(index)).is_ok(),
        };
        if renewed {
            self.slabs[index as usize].inherited = false;
            core.control.count(Counter::recycled);
        } else {
            self.enter(core, index, State::Retired);
        }
        renewed
    }

    fn enter(&mut self, core: &Core, index: u32, state: State) {
        let slab = &mut self.slabs[index as usize];
        core.control.uncount(slab.state.level());
        core.control.count(state.level());
        slab.state = state;
    }
}

impl State {
    fn level(self) -> Counter {
        match self {
            State::Free => Counter::segments_free,
            State::InUse(_) => Counter::segments_in_use,
            State::Quarantined => Counter::segments_quarantined,
            State::Retired => Counter::segments_retired,
        }
    }
}

fn leased(core: &Core, index: u32) -> bool {
    core.recycle != Recycle::InPlaceUnprotected && core.leases.any(index)
}

/// Whether chunk `newest`, and so every older one, has left the window that ends at `head`. A segment without a chunk
/// has nothing to lose.
fn expired(newest: Option<ChunkSeq>, head: Option<ChunkSeq>, retain: u64) -> bool {
    match (newest, head) {
        (Some(newest), Some(head)) => head.since(newest).is_some_and(|age| age >= retain),
        _ => true,
    }
}
