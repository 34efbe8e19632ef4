//! Which chunks are asked of whom, until when.
//!
//! A chunk is open at one partner at most, and at the cache besides when little time is left. A request that was not
//! answered in time is no longer open, but its chunk may still come: it stays *owed* until the window has moved past
//! it, so that a late answer is told apart from a chunk that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::event::LinkId;
use crate::limits::{RUNS_PER_REQUEST_MAX, WINDOW_CHUNKS};
use crate::time::Time;
use crate::units::{ChunkSeq, StreamId};
use crate::wire::List;
use crate::wire::exchange::{Request, Run};

/// A request that was not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// By this partner.
    Partner(LinkId),
    /// By the cache.
    Cache,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    partner: Option<(LinkId, Time)>,
    cache: Option<Time>,
}

impl Open {
    const fn is_none(&self) -> bool {
        self.partner.is_none() && self.cache.is_none()
    }
}

/// Open requests. All maps hold chunks of the window only: at most 256 entries (for `owed`, 256 per link).
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<ChunkSeq, Open>,
    owed: BTreeSet<(LinkId, ChunkSeq)>,
    /// Chunks not to be asked for before a moment: no key of their epoch is known.
    held_off: BTreeMap<ChunkSeq, Time>,
    /// Chunks not to be asked of the cache before a moment: it said that it has not got them.
    not_at_cache: BTreeMap<ChunkSeq, Time>,
}

impl Requests {
    pub(super) fn asked_partner(&mut self, seq: ChunkSeq, link: LinkId, deadline: Time) {
        self.open.entry(seq).or_default().partner = Some((link, deadline));
        self.owed.insert((link, seq));
    }

    pub(super) fn asked_cache(&mut self, seq: ChunkSeq, link: LinkId, deadline: Time) {
        self.open.entry(seq).or_default().cache = Some(deadline);
        self.owed.insert((link, seq));
    }

    pub(super) fn is_open(&self, seq: ChunkSeq) -> bool {
        self.open.contains_key(&seq)
    }

    pub(super) fn is_open_at_partner(&self, seq: ChunkSeq) -> bool {
        self.open.get(&seq).is_some_and(|open| open.partner.is_some())
    }

    pub(super) fn is_open_at_cache(&self, seq: ChunkSeq) -> bool {
        self.open.get(&seq).is_some_and(|open| open.cache.is_some())
    }

    pub(super) fn open_at_cache(&self) -> usize {
        self.open.values().filter(|open| open.cache.is_some()).count()
    }

    /// Whether `link` was asked for `seq`; from here on it owes it no more.
    pub(super) fn settle(&mut self, link: LinkId, seq: ChunkSeq) -> bool {
        self.owed.remove(&(link, seq))
    }

    /// `seq` is here: nobody is waited for. The partner at which it was open, when that is another one than `link`.
    pub(super) fn arrived(&mut self, link: LinkId, seq: ChunkSeq) -> Option<LinkId> {
        self.held_off.remove(&seq);
        self.open.remove(&seq)?.partner.map(|(asked, _)| asked).filter(|asked| *asked != link)
    }

    /// `link` will not give `seq`. Whether it was open there.
    pub(super) fn given_up(&mut self, link: LinkId, seq: ChunkSeq, is_cache: bool) -> bool {
        let Some(open) = self.open.get_mut(&seq) else { return false };
        let was_open = if is_cache {
            open.cache.take().is_some()
        } else {
            open.partner.take_if(|(asked, _)| *asked == link).is_some()
        };
        if open.is_none() {
            self.open.remove(&seq);
        }
        was_open
    }

    pub(super) fn hold_off(&mut self, seq: ChunkSeq, until: Time) {
        self.held_off.insert(seq, until);
    }

    pub(super) fn hold_off_cache(&mut self, seq: ChunkSeq, until: Time) {
        self.not_at_cache.insert(seq, until);
    }

    /// Whether `seq` may be asked of anybody.
    pub(super) fn may_ask(&self, seq: ChunkSeq, now: Time) -> bool {
        self.held_off.get(&seq).is_none_or(|until| *until <= now)
    }

    /// Whether `seq` may be asked of the cache.
    pub(super) fn may_ask_cache(&self, seq: ChunkSeq, now: Time) -> bool {
        self.may_ask(seq, now) && self.not_at_cache.get(&seq).is_none_or(|until| *until <= now)
    }

    /// The keys have come: chunks may be asked for again at once.
    pub(super) fn keys_came(&mut self) {
        self.held_off.clear();
    }

    /// Takes out what is late. A chunk asked of the cache that is newer than `newest` may wait there: it is not
    /// published yet, its clock starts when it is.
    pub(super) fn expire(&mut self, now: Time, newest: ChunkSeq, cache_deadline: Time) -> Vec<(ChunkSeq, Expired)> {
        let mut late = Vec::new();
        for (seq, open) in &mut self.open {
            if let Some((link, _)) = open.partner.take_if(|(_, deadline)| *deadline <= now) {
                late.push((*seq, Expired::Partner(link)));
            }
            match &mut open.cache {
                Some(deadline) if *seq > newest => *deadline = cache_deadline,
                Some(deadline) if *deadline <= now => {
                    open.cache = None;
                    late.push((*seq, Expired::Cache));
                }
                _ => {}
            }
        }
        self.open.retain(|_, open| !open.is_none());
        late
    }

    /// A partner's link is dead.
    pub(super) fn drop_partner(&mut self, link: LinkId) {
        self.retain(|open| {
            open.partner.take_if(|(asked, _)| *asked == link);
        });
        self.owed.retain(|(owing, _)| *owing != link);
    }

    /// The cache's link is dead.
    pub(super) fn drop_cache(&mut self, link: LinkId) {
        self.retain(|open| open.cache = None);
        self.not_at_cache.clear();
        self.owed.retain(|(owing, _)| *owing != link);
    }

    /// The window begins at `base`, play-out at `position`: nothing before it is waited for.
    pub(super) fn forget_before(&mut self, base: ChunkSeq) {
        self.open = self.open.split_off(&base);
        self.held_off = self.held_off.split_off(&base);
        self.not_at_cache = self.not_at_cache.split_off(&base);
        self.owed.retain(|(_, seq)| *seq >= base);
    }

    fn retain(&mut self, mut change: impl FnMut(&mut Open)) {
        self.open.retain(|_, open| {
            change(open);
            !open.is_none()
        });
    }
}

/// `seqs` (ascending) as request frames, runs put together.
pub(super) fn request_frames(stream: StreamId, seqs: &[ChunkSeq]) -> Vec<Request> {
    let mut runs: Vec<Run> = Vec::new();
    for seq in seqs {
        match runs.last_mut() {
            Some(run) if run.first.ahead(u64::from(run.count)) == *seq && u64::from(run.count) < WINDOW_CHUNKS => {
                run.count += 1;
            }
            _ => runs.push(Run { first: *seq, count: 1 }),
        }
    }
    runs.chunks(RUNS_PER_REQUEST_MAX)
        .map(|runs| Request { stream, runs: List::first_of(runs.iter().cloned()) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LinkId = LinkId(1);
    const CACHE: LinkId = LinkId(9);

    fn seq(n: u64) -> ChunkSeq {
        ChunkSeq::new(n)
    }

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    #[test]
    fn a_late_chunk_was_asked_for_an_unasked_one_was_not() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(100));
        assert_eq!(requests.expire(ms(99), seq(9), Time::NEVER), []);
        assert_eq!(requests.expire(ms(100), seq(9), Time::NEVER), [(seq(5), Expired::Partner(A))]);
        assert!(!requests.is_open(seq(5)));
        assert!(requests.settle(A, seq(5)) && !requests.settle(A, seq(5)) && !requests.settle(A, seq(6)));
    }

    #[test]
    fn a_request_waits_at_the_cache_until_its_chunk_is_published() {
        let mut requests = Requests::default();
        requests.asked_cache(seq(5), CACHE, ms(100));
        assert_eq!(requests.expire(ms(500), seq(4), ms(600)), []);
        assert_eq!(requests.expire(ms(599), seq(5), ms(700)), []);
        assert_eq!(requests.expire(ms(600), seq(5), ms(700)), [(seq(5), Expired::Cache)]);
    }

    #[test]
    fn the_last_resort_does_not_end_the_request_at_the_partner() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(100));
        requests.asked_cache(seq(5), CACHE, ms(100));
        assert!(requests.given_up(CACHE, seq(5), true));
        assert!(requests.is_open_at_partner(seq(5)) && !requests.is_open_at_cache(seq(5)));
        assert_eq!(requests.arrived(CACHE, seq(5)), Some(A), "the cache was quicker");
        assert!(!requests.is_open(seq(5)));
    }

    #[test]
    fn a_dead_link_frees_its_chunks() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(100));
        requests.asked_cache(seq(6), CACHE, ms(100));
        requests.drop_partner(A);
        requests.drop_cache(CACHE);
        assert!(!requests.is_open(seq(5)) && !requests.is_open(seq(6)) && requests.owed.is_empty());
    }

    #[test]
    fn neighbouring_chunks_are_one_run() {
        let seqs: Vec<_> = [1, 2, 3, 7, 9, 10].map(seq).into();
        let frames = request_frames(StreamId(1), &seqs);
        let runs: Vec<_> = frames[0].runs.iter().map(|r| (r.first.get(), r.count)).collect();
        assert_eq!(runs, [(1, 3), (7, 1), (9, 2)]);
        let scattered: Vec<_> = (0..100).map(|n| seq(n * 2)).collect();
        assert_eq!(request_frames(StreamId(1), &scattered).len(), 4, "100 runs in frames of 32");
    }
}
