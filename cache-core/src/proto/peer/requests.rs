//! Which chunks are asked of whom, until when.
//!
//! A chunk is open at one partner at most, and at the cache besides when little time is left. A request that was not
//! answered in time is no longer open, but its chunk may still come: it stays *owed* until the window has moved past
//! it, so that a late answer is told apart from a chunk that nobody asked for.

use std::collections::BTreeMap;

use super::event::LinkId;
use super::slots::Slots;
use crate::limits::{RUNS_PER_REQUEST_MAX, WINDOW_CHUNKS};
use crate::time::{Span, Time};
use crate::units::{ChunkSeq, StreamId};
use crate::wire::List;
use crate::wire::exchange::{Request, Run};

/// A request that was not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// By this partner.
    Partner(LinkId, ChunkSeq),
    /// By the cache.
    Cache,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    seq: ChunkSeq,
    partner: Option<Asked>,
    cache: Option<AtCache>,
}

/// At the cache, since and until when.
#[derive(Clone, Copy, Debug)]
struct AtCache {
    /// [`Time::NEVER`] of a chunk that was not published then, or is owed already: it comes out of turn.
    at: Time,
    deadline: Time,
}

/// How the cache answers, for [`Requests::expire`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CachePace {
    /// Until when a chunk is waited for that is asked, or published, now.
    pub(super) fresh: Time,
    /// The moment at which the newest request was made of those whose chunks have come.
    pub(super) reached: Time,
    /// So long it counts as sending: its patience from the last chunk on.
    pub(super) sends_until: Time,
}

/// At a partner, since and until when.
#[derive(Clone, Copy, Debug)]
struct Asked {
    link: LinkId,
    at: Time,
    deadline: Time,
}

impl Open {
    const fn is_none(&self) -> bool {
        self.partner.is_none() && self.cache.is_none()
    }
}

/// Open requests. All lists hold chunks of the window only: at most 256 entries (for `owed`, 256 per link).
#[derive(Clone, Debug)]
pub(super) struct Requests {
    /// Ascending.
    open: Vec<Open>,
    /// Ascending.
    owed: Vec<(LinkId, ChunkSeq)>,
    /// Chunks not to be asked for before a moment: no key of their epoch is known.
    held_off: BTreeMap<ChunkSeq, Time>,
    /// Chunks not to be asked of the cache before a moment: it said that it has not got them.
    not_at_cache: BTreeMap<ChunkSeq, Time>,
    /// No deadline is before this.
    due: Time,
}

impl Default for Requests {
    fn default() -> Requests {
        let (held_off, not_at_cache) = (BTreeMap::new(), BTreeMap::new());
        Requests { open: Vec::new(), owed: Vec::new(), held_off, not_at_cache, due: Time::NEVER }
    }
}

impl Requests {
    pub(super) fn asked_partner(&mut self, seq: ChunkSeq, link: LinkId, at: Time, deadline: Time) {
        self.entry(seq).partner = Some(Asked { link, at, deadline });
        self.owes(link, seq, deadline);
    }

    /// `link`, a partner, sends `seq` without being asked for it. Whether it is waited for there: not when it is open at a partner
    /// already.
    pub(super) fn comes(&mut self, seq: ChunkSeq, link: LinkId, at: Time, deadline: Time) -> bool {
        let free = !self.is_open_at_partner(seq);
        if free {
            self.asked_partner(seq, link, at, deadline);
        } else {
            self.owes(link, seq, deadline);
        }
        free
    }

    /// `link`, a partner, sends `seq`, and nobody waits for it.
    pub(super) fn comes_in_vain(&mut self, seq: ChunkSeq, link: LinkId) {
        self.owes(link, seq, Time::NEVER);
    }

    pub(super) fn asked_cache(&mut self, seq: ChunkSeq, link: LinkId, at: Time, deadline: Time) {
        let again = self.owed.binary_search(&(link, seq)).is_ok();
        self.entry(seq).cache = Some(AtCache { at: if again { Time::NEVER } else { at }, deadline });
        self.owes(link, seq, deadline);
    }

    fn entry(&mut self, seq: ChunkSeq) -> &mut Open {
        let at = self.open.binary_search_by_key(&seq, |open| open.seq).unwrap_or_else(|at| {
            self.open.insert(at, Open { seq, partner: None, cache: None });
            at
        });
        &mut self.open[at]
    }

    fn owes(&mut self, link: LinkId, seq: ChunkSeq, deadline: Time) {
        if let Err(at) = self.owed.binary_search(&(link, seq)) {
            self.owed.insert(at, (link, seq));
        }
        self.due = self.due.min(deadline);
    }

    fn get(&self, seq: ChunkSeq) -> Option<&Open> {
        self.open.binary_search_by_key(&seq, |open| open.seq).ok().map(|at| &self.open[at])
    }

    #[cfg(test)]
    fn is_open(&self, seq: ChunkSeq) -> bool {
        self.get(seq).is_some()
    }

    pub(super) fn is_open_at_partner(&self, seq: ChunkSeq) -> bool {
        self.get(seq).is_some_and(|open| open.partner.is_some())
    }

    #[cfg(test)]
    fn is_open_at_cache(&self, seq: ChunkSeq) -> bool {
        self.get(seq).is_some_and(|open| open.cache.is_some())
    }

    pub(super) fn open_at_cache(&self) -> usize {
        self.open.iter().filter(|open| open.cache.is_some()).count()
    }

    /// The open chunks, slot 0 being `base`, and those that may not be asked of anybody at `now`.
    pub(super) fn taken(&self, base: ChunkSeq, now: Time) -> Slots {
        let mut slots = Slots::NONE;
        let held_off = self.held_off.iter().filter(|(_, until)| **until > now).map(|(seq, _)| *seq);
        for seq in self.open.iter().map(|open| open.seq).chain(held_off) {
            seq.since(base).into_iter().for_each(|slot| slots.insert(slot));
        }
        slots
    }

    /// The chunks that may not be asked of the cache at `now`, slot 0 being `base`: those open there, those it said it has not
    /// got, those of an epoch without a key.
    pub(super) fn not_for_cache(&self, base: ChunkSeq, now: Time) -> Slots {
        let mut slots = Slots::NONE;
        let put_off = [&self.held_off, &self.not_at_cache].into_iter().flatten();
        let put_off = put_off.filter(|(_, until)| **until > now).map(|(seq, _)| *seq);
        for seq in self.open.iter().filter(|open| open.cache.is_some()).map(|open| open.seq).chain(put_off) {
            seq.since(base).into_iter().for_each(|slot| slots.insert(slot));
        }
        slots
    }

    /// When [`Requests::expire`] may have something to do; never later than that.
    pub(super) const fn next_timeout(&self) -> Time {
        self.due
    }

    /// Whether `link` was asked for `seq`; from here on it owes it no more.
    pub(super) fn settle(&mut self, link: LinkId, seq: ChunkSeq) -> bool {
        self.owed.binary_search(&(link, seq)).map(|at| self.owed.remove(at)).is_ok()
    }

    /// Who was asked for `seq`, or announced that it sends it, and may do so still.
    pub(super) fn owing(&self, seq: ChunkSeq) -> impl Iterator<Item = LinkId> + '_ {
        self.owed.iter().filter(move |(_, owed)| *owed == seq).map(|(link, _)| *link)
    }

    /// `seq` is here: nobody is waited for. The partner at which it was open, when that is another one than `link`.
    pub(super) fn arrived(&mut self, link: LinkId, seq: ChunkSeq) -> Option<LinkId> {
        self.held_off.remove(&seq);
        let at = self.open.binary_search_by_key(&seq, |open| open.seq).ok()?;
        self.open.remove(at).partner.map(|asked| asked.link).filter(|asked| *asked != link)
    }

    /// `link` will not give `seq`. Whether it was open there.
    pub(super) fn given_up(&mut self, link: LinkId, seq: ChunkSeq, is_cache: bool) -> bool {
        let Ok(at) = self.open.binary_search_by_key(&seq, |open| open.seq) else { return false };
        let open = &mut self.open[at];
        let was_open = if is_cache {
            open.cache.take().is_some()
        } else {
            open.partner.take_if(|asked| asked.link == link).is_some()
        };
        if open.is_none() {
            self.open.remove(at);
        }
        was_open
    }

    /// When `link`, a partner, was asked for `seq`, if the request is open.
    pub(super) fn asked_at(&self, link: LinkId, seq: ChunkSeq) -> Option<Time> {
        self.get(seq)?.partner.filter(|asked| asked.link == link).map(|asked| asked.at)
    }

    /// When the cache was asked for `seq`, if the request is open; [`Time::NEVER`] when what comes tells nothing of its turn: it was
    /// asked for before it was published, or more than once.
    pub(super) fn asked_cache_at(&self, seq: ChunkSeq) -> Option<Time> {
        self.get(seq)?.cache.map(|asked| asked.at)
    }

    pub(super) fn hold_off(&mut self, seq: ChunkSeq, until: Time) {
        self.held_off.insert(seq, until);
    }

    pub(super) fn hold_off_cache(&mut self, seq: ChunkSeq, until: Time) {
        self.not_at_cache.insert(seq, until);
    }

    /// The keys have come: chunks may be asked for again at once.
    pub(super) fn keys_came(&mut self) {
        self.held_off.clear();
    }

    /// Takes out what is late, into `late`. A chunk asked of the cache that is newer than `newest` may wait there: it is
    /// not published yet, its clock starts when it is. Nor is a chunk late for which the cache was asked after all those
    /// that have come, as long as it sends: it answers in order, so the chunk is on its way, and our own downlink is what is
    /// slow. Asked for again it would come twice and make everything behind it later still.
    pub(super) fn expire(&mut self, now: Time, newest: ChunkSeq, cache: CachePace, late: &mut Vec<Expired>) {
        if self.due > now {
            return;
        }
        self.due = Time::NEVER;
        for open in &mut self.open {
            if let Some(asked) = open.partner.take_if(|asked| asked.deadline <= now) {
                late.push(Expired::Partner(asked.link, open.seq));
            }
            match &mut open.cache {
                Some(asked) if open.seq > newest => asked.deadline = cache.fresh,
                Some(asked) if asked.deadline <= now && asked.at >= cache.reached && cache.sends_until > now => {
                    asked.deadline = cache.sends_until;
                    asked.at = asked.at.min(now);
                }
                Some(asked) if asked.deadline <= now => {
                    open.cache = None;
                    late.push(Expired::Cache);
                }
                _ => {}
            }
            let at_cache = open.cache.map(|asked| asked.deadline);
            let deadlines = open.partner.map(|asked| asked.deadline).into_iter().chain(at_cache);
            self.due = deadlines.fold(self.due, Time::min);
        }
        self.open.retain(|open| !open.is_none());
    }

    /// A partner's link is dead.
    pub(super) fn drop_partner(&mut self, link: LinkId) {
        self.retain(|open| {
            open.partner.take_if(|asked| asked.link == link);
        });
        self.owed.retain(|(owing, _)| *owing != link);
    }

    /// The cache's link is dead.
    pub(super) fn drop_cache(&mut self, link: LinkId) {
        self.retain(|open| open.cache = None);
        self.not_at_cache.clear();
        self.owed.retain(|(owing, _)| *owing != link);
    }

    /// The window begins at `base`: nothing before it is waited for.
    pub(super) fn forget_before(&mut self, base: ChunkSeq) {
        self.open.retain(|open| open.seq >= base);
        self.owed.retain(|(_, seq)| *seq >= base);
        for of in [&mut self.held_off, &mut self.not_at_cache] {
            while of.first_key_value().is_some_and(|(seq, _)| *seq < base) {
                of.pop_first();
            }
        }
    }

    fn retain(&mut self, mut change: impl FnMut(&mut Open)) {
        self.open.retain_mut(|open| {
            change(open);
            !open.is_none()
        });
    }
}

/// `seqs` (ascending) as request frames, runs put together. `within`: how long each is waited for; zero says nothing of it.
pub(super) fn request_frames(stream: StreamId, seqs: &[ChunkSeq], within: Span) -> Vec<Request> {
    let within_ms = u16::try_from(within.millis()).unwrap_or(u16::MAX);
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
        .map(|runs| Request { stream, runs: List::first_of(runs.iter().cloned()), within_ms })
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

    fn expired(requests: &mut Requests, now: u64, newest: u64, fresh: u64) -> Vec<Expired> {
        let mut late = Vec::new();
        let cache = CachePace { fresh: ms(fresh), ..CachePace::default() };
        requests.expire(ms(now), seq(newest), cache, &mut late);
        late
    }

    #[test]
    fn a_late_chunk_was_asked_for_an_unasked_one_was_not() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(10), ms(100));
        assert_eq!((requests.next_timeout(), requests.asked_at(A, seq(5))), (ms(100), Some(ms(10))));
        assert_eq!(expired(&mut requests, 99, 9, 999), []);
        assert_eq!(expired(&mut requests, 100, 9, 999), [Expired::Partner(A, seq(5))]);
        assert_eq!((requests.next_timeout(), requests.is_open(seq(5))), (Time::NEVER, false));
        assert!(requests.settle(A, seq(5)) && !requests.settle(A, seq(5)) && !requests.settle(A, seq(6)));
    }

    #[test]
    fn a_request_waits_at_the_cache_until_its_chunk_is_published() {
        let mut requests = Requests::default();
        requests.asked_cache(seq(5), CACHE, ms(0), ms(100));
        assert_eq!(expired(&mut requests, 500, 4, 600), []);
        assert_eq!(requests.next_timeout(), ms(600));
        assert_eq!(expired(&mut requests, 599, 5, 700), []);
        assert_eq!(expired(&mut requests, 600, 5, 700), [Expired::Cache]);
    }

    #[test]
    fn while_a_cache_sends_only_what_was_asked_before_the_chunks_that_came_is_late() {
        let mut requests = Requests::default();
        for (n, at) in [(5, 0), (6, 100), (7, 200)] {
            requests.asked_cache(seq(n), CACHE, ms(at), ms(at + 1_000));
        }
        let mut late = |now, reached, sends_until| {
            let cache = CachePace { fresh: ms(now + 1_000), reached: ms(reached), sends_until: ms(sends_until) };
            let mut late = Vec::new();
            requests.expire(ms(now), seq(9), cache, &mut late);
            (late.len(), requests.next_timeout())
        };
        assert_eq!(late(1_300, 100, 2_100), (1, ms(2_100)), "the first was passed over, the others are on their way");
        assert_eq!(late(2_100, 100, 2_100), (2, Time::NEVER), "it sends no more");
    }

    #[test]
    fn what_was_asked_before_it_was_published_is_not_overtaken_by_what_was_asked_later() {
        let mut requests = Requests::default();
        requests.asked_cache(seq(5), CACHE, Time::NEVER, ms(1_000));
        let mut late = |now, reached| {
            let cache = CachePace { fresh: ms(now + 1_000), reached: ms(reached), sends_until: ms(now + 500) };
            let mut late = Vec::new();
            requests.expire(ms(now), seq(9), cache, &mut late);
            late.len()
        };
        assert_eq!(late(1_000, 900), 0);
        assert_eq!(late(1_500, 999), 0);
        assert_eq!(late(2_000, 1_001), 1, "it has been published for long, and what was asked for since has come");
    }

    #[test]
    fn the_answer_to_a_first_request_does_not_stand_for_the_second() {
        let mut requests = Requests::default();
        requests.asked_cache(seq(5), CACHE, ms(0), ms(1_000));
        assert_eq!(requests.asked_cache_at(seq(5)), Some(ms(0)));
        assert_eq!(expired(&mut requests, 1_000, 9, 2_000), [Expired::Cache]);
        requests.asked_cache(seq(5), CACHE, ms(1_000), ms(2_000));
        assert_eq!(requests.asked_cache_at(seq(5)), Some(Time::NEVER));
    }

    #[test]
    fn what_is_open_or_held_off_is_taken() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(0), ms(100));
        requests.asked_cache(seq(7), CACHE, ms(0), ms(100));
        requests.hold_off(seq(9), ms(50));
        let taken = |requests: &Requests, now| requests.taken(seq(4), ms(now)).iter().collect::<Vec<_>>();
        assert_eq!(taken(&requests, 49), [1, 3, 5]);
        assert_eq!(taken(&requests, 50), [1, 3]);
        requests.forget_before(seq(6));
        assert_eq!(taken(&requests, 50), [3]);
    }

    #[test]
    fn the_last_resort_does_not_end_the_request_at_the_partner() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(0), ms(100));
        requests.asked_cache(seq(5), CACHE, ms(0), ms(100));
        assert!(requests.given_up(CACHE, seq(5), true));
        assert!(requests.is_open_at_partner(seq(5)) && !requests.is_open_at_cache(seq(5)));
        assert_eq!(requests.arrived(CACHE, seq(5)), Some(A), "the cache was quicker");
        assert!(!requests.is_open(seq(5)));
    }

    #[test]
    fn what_comes_unasked_is_waited_for_unless_somebody_else_was_asked() {
        let mut requests = Requests::default();
        let b = LinkId(2);
        assert!(requests.comes(seq(5), A, ms(10), ms(100)));
        assert!(!requests.comes(seq(5), b, ms(20), ms(110)), "it is open at A");
        assert_eq!(requests.arrived(b, seq(5)), Some(A), "the second was quicker");
        assert_eq!(requests.owing(seq(5)).collect::<Vec<_>>(), [A, b], "both send it");
        assert!(requests.settle(A, seq(5)) && requests.settle(b, seq(5)));
    }

    #[test]
    fn a_dead_link_frees_its_chunks() {
        let mut requests = Requests::default();
        requests.asked_partner(seq(5), A, ms(0), ms(100));
        requests.asked_cache(seq(6), CACHE, ms(0), ms(100));
        requests.drop_partner(A);
        requests.drop_cache(CACHE);
        assert!(!requests.is_open(seq(5)) && !requests.is_open(seq(6)) && requests.owed.is_empty());
    }

    #[test]
    fn neighbouring_chunks_are_one_run() {
        let seqs: Vec<_> = [1, 2, 3, 7, 9, 10].map(seq).into();
        let frames = request_frames(StreamId(1), &seqs, Span::ZERO);
        let runs: Vec<_> = frames[0].runs.iter().map(|r| (r.first.get(), r.count)).collect();
        assert_eq!(runs, [(1, 3), (7, 1), (9, 2)]);
        let scattered: Vec<_> = (0..100).map(|n| seq(n * 2)).collect();
        assert_eq!(request_frames(StreamId(1), &scattered, Span::ZERO).len(), 4, "100 runs in frames of 32");
    }
}
