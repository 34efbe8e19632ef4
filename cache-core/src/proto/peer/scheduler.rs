//! Scheduling: which missing chunk is asked of whom (paper, section 3.2.3).
//!
//! ```text
//!  missing chunks --+-- urgent zone: earliest deadline first --+--> a partner that holds it and has room (eq. (5))
//!                   +-- normal zone: rarest first -------------+
//!                   +-- little time left ----------------------+--> the cache (urgent.rs)
//!                   +-- announced by nobody, responsible ------+--> the cache (seeding.rs)
//! ```
//! [`choose`] is the pure heart: it never names a partner that does not announce the chunk, nor more chunks than a partner
//! has room for. [`Scheduler`] keeps what is open ([`super::requests`]) and charges who does not answer.

use super::cache_link::CacheLink;
use super::config::Tuning;
use super::event::LinkId;
use super::head::Head;
use super::members::Members;
use super::partners::Partners;
use super::play_buffer::PlayBuffer;
use super::playout::Playout;
use super::request_rate::equation_four;
use super::requests::{Expired, Requests, request_frames};
use super::slots::Slots;
use super::turn::Turn;
use super::{rarest, seeding, urgent};
use crate::limits::WINDOW_CHUNKS;
use crate::peer_id::{PeerId, Tier};
use crate::prng::Prng;
use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq, StreamId};
use crate::wire::BufferMap;

/// Most chunks open at the cache at once. Our guess: twice the default play delay.
const CACHE_OPEN_MAX: usize = 64;

/// How often the patience with a cache that is late is doubled. Our guess: three times is long enough for any queue in
/// front of a cache that is worth waiting for.
const CACHE_DOUBLINGS_MAX: u32 = 3;

/// What a partner's chunks are taken to need before the first has come. Our guess: a round trip and a chunk's sending.
const DELIVERY_UNKNOWN: Span = Span::from_millis(250);

/// A partner as a source of what is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Who.
    pub link: LinkId,
    /// What it announces of that, slot 0 being the window's first chunk.
    pub has: Slots,
    /// Chunks that it may still be asked.
    pub room: u32,
    /// When a chunk asked of it now may be here: what its chunks take, in microseconds, for each that is open there.
    pub takes_us: u64,
    /// Chunks open there, and the one that would be next.
    pub turn: u64,
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
    /// When the peer began to want chunks.
    pub(super) began: Time,
}

/// Gives each of `wanted` (slots), in their order, to the source that holds it, has room and promises it soonest, ties at
/// random. Sources lose room as they are chosen; chunks that no source with room holds are left out.
pub fn choose(wanted: &[u64], sources: &mut [Source], rng: &mut Prng, chosen: &mut Vec<(LinkId, u64)>) {
    for slot in wanted {
        let best = sources
            .iter_mut()
            .filter(|source| source.room > 0 && source.has.contains(*slot))
            .min_by_key(|source| (source.takes_us.saturating_mul(source.turn), rng.next_u64()));
        if let Some(source) = best {
            source.room -= 1;
            source.turn += 1;
            chosen.push((source.link, *slot));
        }
    }
}

/// What one run works with, kept for its memory.
#[derive(Clone, Debug, Default)]
struct Scratch {
    sources: Vec<Source>,
    order: Vec<u64>,
    chosen: Vec<(LinkId, u64)>,
    seqs: Vec<ChunkSeq>,
    late: Vec<Expired>,
}

/// Open requests and the periods of eq. (5).
#[derive(Clone, Debug, Default)]
pub(super) struct Scheduler {
    pub(super) requests: Requests,
    next_period: Time,
    /// What is missing and asked of nobody since the last run, slot 0 being `base`.
    wanted: Slots,
    base: ChunkSeq,
    /// Somebody holds some of it and has no room in this period.
    waits_for_room: bool,
    /// How often the cache was late of late. Who asks a busy one again each second gets everything twice, and so busies it
    /// for good.
    cache_late: u32,
    scratch: Scratch,
}

impl Scheduler {
    /// Charges what is late, then asks for what is missing. `struck` gets the partners that left too much unanswered.
    pub(super) fn run(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        partners: &mut Partners,
        cache: &mut CacheLink,
        struck: &mut Vec<LinkId>,
    ) {
        self.expire(t, view, partners, cache, struck);
        let missing = view.buffer.missing();
        self.base = view.buffer.map().base();
        self.roll(t, view, missing, partners);
        let mut announced = (Slots::NONE, Slots::NONE);
        for (_, partner) in partners.iter() {
            let map = Slots::of(&partner.map, self.base);
            announced.0 = announced.0.or(map);
            // Who has left a request unanswered is not believed to have what nobody else announces.
            announced.1 = if partner.strikes == 0 { announced.1.or(map) } else { announced.1 };
        }
        self.wanted = missing.without(self.requests.taken(self.base, t.now));
        self.ask_partners(t, view, announced.0, partners, cache.open().is_some());
        self.ask_cache(t, view, missing, announced.1, partners, cache);
    }

    /// When [`Scheduler::run`] has something to do that no input and no beat of the play-out brings about.
    pub(super) fn next_timeout(&self) -> Time {
        let room = if self.waits_for_room { self.next_period } else { Time::NEVER };
        self.requests.next_timeout().min(room)
    }

    /// Whether one of `seqs` is waited for and asked of nobody.
    pub(super) fn wants(&self, mut seqs: impl Iterator<Item = ChunkSeq>) -> bool {
        seqs.any(|seq| seq.since(self.base).is_some_and(|slot| self.wanted.contains(slot)))
    }

    /// Whether `map` names something that is waited for and asked of nobody, and was not in `before`.
    pub(super) fn wants_of(&self, map: &BufferMap, before: &BufferMap) -> bool {
        let news = Slots::of(map, self.base).and(self.wanted);
        !news.is_empty() && !news.without(Slots::of(before, self.base)).is_empty()
    }

    fn expire(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        partners: &mut Partners,
        cache: &mut CacheLink,
        struck: &mut Vec<LinkId>,
    ) {
        let cache_deadline = t.now.after(self.cache_patience(t.tuning()));
        self.requests.expire(t.now, view.head.newest(), cache_deadline, &mut self.scratch.late);
        let mut late_at_cache = false;
        for late in self.scratch.late.drain(..) {
            match late {
                Expired::Cache => {
                    t.stats.timeouts_caches += 1;
                    late_at_cache = true;
                    cache.suspect(t);
                }
                Expired::Partner(link) => {
                    t.stats.timeouts_peers += 1;
                    let Some(partner) = partners.get_mut(link) else { continue };
                    partner.rate.failed();
                    partner.strikes += 1;
                    if partner.strikes == t.tuning().request_strikes_max {
                        struck.push(link);
                    }
                }
            }
        }
        self.cache_late = (self.cache_late + u32::from(late_at_cache)).min(CACHE_DOUBLINGS_MAX);
    }

    /// A chunk that was open at the cache has come from there.
    pub(super) const fn cache_was_in_time(&mut self) {
        self.cache_late = self.cache_late.saturating_sub(1);
    }

    /// How long a chunk asked of the cache is waited for before it is asked for again.
    fn cache_patience(&self, tuning: &Tuning) -> Span {
        tuning.cache_timeout().times(1 << self.cache_late)
    }

    fn roll(&mut self, t: &Turn<'_>, view: &View<'_>, missing: Slots, partners: &mut Partners) {
        if self.next_period <= t.now {
            self.next_period = t.in_ms(t.tuning().request_period_ms);
            let tuning = t.tuning();
            let ahead = view.head.estimate(t.now).ahead(tuning.seed_ahead_chunks + 1).since(self.base).unwrap_or(0);
            let needed = missing.and(Slots::range(0, ahead)).count();
            let high = equation_four(tuning.request_share, needed, partners.len(), tuning.request_floor);
            partners.iter_mut().for_each(|(_, partner)| partner.rate.roll(t.now, tuning, high));
        }
    }

    fn ask_partners(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        announced: Slots,
        partners: &mut Partners,
        cache_is_open: bool,
    ) {
        // What has little time left is the cache's.
        let position = view.buffer.position().since(self.base).unwrap_or(0);
        let mut first = 0;
        if cache_is_open {
            let reserve = view.pace(t).reserve;
            first = position;
            while first < WINDOW_CHUNKS && urgent::needs_cache(view.left(self.base.ahead(first), t.now), reserve, false)
            {
                first += 1;
            }
        }
        let wanted = self.wanted.and(announced).and(Slots::range(first, WINDOW_CHUNKS));
        self.waits_for_room = !wanted.is_empty();
        if wanted.is_empty() {
            return;
        }
        // A partner in a farther tier gives what the nearer ones have not got when its time comes.
        let nearest = partners.ids().map(|id| view.me.tier(id)).max().unwrap_or(Tier::ELSEWHERE);
        let mut far_until = None;
        let Scratch { sources, order, chosen, seqs, .. } = &mut self.scratch;
        sources.clear();
        sources.extend(partners.iter().filter_map(|(link, partner)| {
            let room = partner.rate.room();
            if room == 0 {
                return None;
            }
            let wanted = if view.me.tier(partner.id) < nearest {
                let far_until = *far_until.get_or_insert_with(|| view.far_until(t, first, self.base));
                wanted.and(Slots::range(first, far_until))
            } else {
                wanted
            };
            let has = Slots::of(&partner.map, self.base).and(wanted);
            let takes_us = partner.delivery.mean().unwrap_or(DELIVERY_UNKNOWN).micros() << (2 * partner.strikes.min(8));
            let turn = u64::from(partner.rate.open()) + 1;
            (!has.is_empty()).then_some(Source { link, has, room, takes_us, turn })
        }));
        if sources.is_empty() {
            return;
        }
        let zone_end = urgent::zone_end(view.buffer, t.tuning()).since(self.base).unwrap_or(0);
        let offered = sources.iter().fold(Slots::NONE, |all, source| all.or(source.has));
        order.clear();
        order.extend(offered.and(Slots::range(0, zone_end)).iter());
        let urgent = order.len();
        order.extend(offered.and(Slots::range(zone_end, WINDOW_CHUNKS)).iter());
        rarest::order(&mut order[urgent..], |slot| sources.iter().filter(|s| s.has.contains(slot)).count(), t.rng);
        chosen.clear();
        choose(order, sources, t.rng, chosen);
        self.waits_for_room = chosen.len() < wanted.count();
        chosen.sort_unstable();
        for asked in chosen.chunk_by(|a, b| a.0 == b.0) {
            let link = asked[0].0;
            let Some(partner) = partners.get_mut(link) else { continue };
            seqs.clear();
            for (_, slot) in asked {
                let seq = self.base.ahead(*slot);
                let patience = urgent::patience(view.left(seq, t.now), partner.delivery.at_most(), t.tuning());
                self.requests.asked_partner(seq, link, t.now, t.now.after(patience));
                partner.rate.asked();
                t.stats.requests_to_peers += 1;
                seqs.push(seq);
            }
            request_frames(view.stream, seqs).into_iter().for_each(|frame| t.send(link, frame));
        }
        let asked = chosen.iter().fold(Slots::NONE, |mut all, (_, slot)| {
            all.insert(*slot);
            all
        });
        self.wanted = self.wanted.without(asked);
    }

    fn ask_cache(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        missing: Slots,
        announced: Slots,
        partners: &Partners,
        cache: &CacheLink,
    ) {
        let Some(link) = cache.open() else { return };
        let pace = view.pace(t);
        // Published by the clock: who gets nothing for a while learns of nothing new, and would wait for ever.
        let newest = view.head.estimate(t.now);
        let ahead = newest.ahead(t.tuning().seed_ahead_chunks + 1).since(self.base).unwrap_or(0);
        let mut open = self.requests.open_at_cache();
        let deadline = t.now.after(self.cache_patience(t.tuning()));
        let seqs = &mut self.scratch.seqs;
        seqs.clear();
        let not_for_cache = self.requests.not_for_cache(self.base, t.now);
        for slot in missing.and(Slots::range(0, ahead)).without(not_for_cache).iter() {
            let seq = self.base.ahead(slot);
            let at_partner = self.requests.is_open_at_partner(seq);
            let last_resort = seq <= newest && urgent::needs_cache(view.left(seq, t.now), pace.reserve, at_partner);
            let may_seed = !at_partner && !announced.contains(slot);
            if !(last_resort || may_seed && view.seeds(seq, partners, pace.seed_step, t.now)) {
                continue;
            }
            if open >= CACHE_OPEN_MAX {
                t.stats.requests_over_limit += 1;
                break;
            }
            open += 1;
            *(if last_resort { &mut t.stats.requests_last_resort } else { &mut t.stats.requests_seed }) += 1;
            self.requests.asked_cache(seq, link, deadline);
            seqs.push(seq);
        }
        cache.request(t, view.stream, seqs);
    }
}

impl View<'_> {
    fn left(&self, seq: ChunkSeq, now: Time) -> Span {
        self.playout.time_left(seq, self.buffer.position(), self.head, now)
    }

    fn pace(&self, t: &Turn<'_>) -> super::playout::Pace {
        self.playout.pace(self.buffer.position(), self.head, t.tuning(), t.now)
    }

    /// The first slot from `first` on that waits for a near partner.
    fn far_until(&self, t: &Turn<'_>, first: u64, base: ChunkSeq) -> u64 {
        let delay = t.tuning().play_delay();
        let waits = |slot: &u64| urgent::waits_for_near(self.left(base.ahead(*slot), t.now), delay);
        (first..WINDOW_CHUNKS).find(waits).unwrap_or(WINDOW_CHUNKS)
    }

    /// Whether this peer is to fetch `seq`, which no partner announces, from the cache for the others: its rank and the
    /// time since it was published (or we began) make it responsible.
    fn seeds(&self, seq: ChunkSeq, partners: &Partners, step: Span, now: Time) -> bool {
        let age = Span::from_micros(self.head.age_us(seq, now).max(0) as u64);
        let waited = age.min(now.since(self.began));
        seeding::is_responsible(seq, self.me, partners.ids().chain(self.members.ids()), waited, step)
    }
}

/// Chunks between two tries of a chunk whose epoch has no key.
pub(super) const UNKNOWN_EPOCH_PAUSE: Span = CHUNK_SPAN;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Partners drawn: what each holds from slot 0 on, and its room.
    fn sources(drawn: &[(&str, u32)]) -> Vec<Source> {
        drawn
            .iter()
            .enumerate()
            .map(|(i, (holds, room))| {
                let mut has = Slots::NONE;
                (0..).zip(holds.bytes()).filter(|(_, b)| *b == b'#').for_each(|(at, _)| has.insert(at));
                Source { link: LinkId(i as u32 + 1), has, room: *room, takes_us: 100 * (i as u64 + 1), turn: 1 }
            })
            .collect()
    }

    fn chosen(wanted: &[u64], drawn: &[(&str, u32)]) -> Vec<(u64, u32)> {
        let mut chosen = Vec::new();
        choose(wanted, &mut sources(drawn), &mut Prng::new(3), &mut chosen);
        chosen.into_iter().map(|(link, slot)| (slot, link.0)).collect()
    }

    #[test]
    fn cannot_pick_what_no_partner_announces() {
        assert_eq!(chosen(&[2, 3], &[("##..", 9), ("###.", 9)]), [(2, 2)]);
    }

    #[test]
    fn the_first_in_order_gets_the_last_room() {
        assert_eq!(chosen(&[3, 0, 1], &[("####", 2)]), [(3, 1), (0, 1)]);
    }

    #[test]
    fn the_quicker_partner_is_asked_until_the_other_would_be_sooner() {
        assert_eq!(chosen(&[0, 1, 2, 3], &[("####", 9), ("..##", 9)]), [(0, 1), (1, 1), (2, 2), (3, 1)]);
    }

    proptest! {
        #[test]
        fn never_beyond_a_partners_room_or_map(
            maps in prop::collection::vec((prop::collection::vec(any::<bool>(), 64), 0u32..8), 0..8),
            wanted in prop::collection::btree_set(0u64..64, 0..64),
            seed in any::<u64>(),
        ) {
            let drawn: Vec<(String, u32)> = maps.iter()
                .map(|(bits, room)| (bits.iter().map(|b| if *b { '#' } else { '.' }).collect(), *room)).collect();
            let drawn: Vec<(&str, u32)> = drawn.iter().map(|(s, r)| (s.as_str(), *r)).collect();
            let before = sources(&drawn);
            let wanted: Vec<_> = wanted.into_iter().collect();
            let (mut after, mut chosen) = (before.clone(), Vec::new());
            choose(&wanted, &mut after, &mut Prng::new(seed), &mut chosen);
            let mut slots: Vec<_> = chosen.iter().map(|(_, slot)| *slot).collect();
            prop_assert!(slots.iter().all(|slot| wanted.contains(slot)));
            slots.dedup();
            prop_assert_eq!(slots.len(), chosen.len(), "no chunk twice");
            for source in &before {
                let asked: Vec<_> = chosen.iter().filter(|(link, _)| *link == source.link).collect();
                prop_assert!(asked.len() as u32 <= source.room);
                prop_assert!(asked.iter().all(|(_, slot)| source.has.contains(*slot)));
            }
            // Nothing is left out that somebody with room left holds.
            for slot in wanted.iter().filter(|slot| !slots.contains(slot)) {
                prop_assert!(after.iter().all(|s| s.room == 0 || !s.has.contains(*slot)));
            }
        }
    }
}
