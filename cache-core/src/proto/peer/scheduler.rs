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
use super::delivery::Delivery;
use super::event::LinkId;
use super::follow::{Follow, sub_of};
use super::partners::Partners;
use super::request_rate::equation_four;
use super::requests::{CachePace, Expired, Requests, request_frames};
use super::slots::Slots;
use super::turn::Turn;
use super::view::View;
use super::{rarest, seeding, urgent};
use crate::limits::WINDOW_CHUNKS;
use crate::prng::Prng;
use crate::time::{Span, Time};
use crate::units::ChunkSeq;
use crate::wire::BufferMap;
use crate::wire::exchange::Have;

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
    /// Who pushes what to us.
    pub(super) follow: Follow,
    next_period: Time,
    /// What is missing and asked of nobody since the last run, slot 0 being `base`.
    wanted: Slots,
    base: ChunkSeq,
    /// Somebody holds some of it and has no room in this period.
    waits_for_room: bool,
    /// How often the cache was late of late. Who asks a busy one again each second gets everything twice, and so busies it
    /// for good.
    cache_late: u32,
    /// When the cache's last chunk came, and the newest moment at which one of those that came was asked for.
    cache_came: Time,
    cache_reached: Time,
    scarcity: seeding::Scarcity,
    /// How long its chunks take.
    cache_takes: Delivery,
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
        let patience = self.cache_patience(t.tuning());
        let (fresh, sends_until) = (t.now.after(patience), self.cache_came.after(patience));
        let pace = CachePace { fresh, reached: self.cache_reached, sends_until };
        self.requests.expire(t.now, view.head.newest(), pace, &mut self.scratch.late);
        let mut late_at_cache = false;
        for late in self.scratch.late.drain(..) {
            match late {
                Expired::Cache => {
                    t.stats.timeouts_caches += 1;
                    late_at_cache = true;
                    cache.suspect(t);
                }
                Expired::Partner(link, seq) => {
                    t.stats.timeouts_peers += 1;
                    if self.follow.is_led_by(link, seq) {
                        self.follow.behind(t, seq);
                    }
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

    /// A chunk has come from the cache; `asked`: when it was asked for, if it was open there.
    pub(super) fn cache_sent(&mut self, now: Time, asked: Option<Time>) {
        self.cache_came = now;
        if let Some(asked) = asked {
            if asked < Time::NEVER {
                self.cache_reached = self.cache_reached.max(asked);
                self.cache_takes.observe(now.since(asked));
            }
            self.cache_late = self.cache_late.saturating_sub(1);
        }
    }

    /// A partner's news. What it leads in comes of itself and is waited for like a chunk that was asked for; where nobody
    /// leads, a partner of the nearest tier that has answered all requests of late may.
    pub(super) fn announced(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        partners: &mut Partners,
        link: LinkId,
        have: &Have,
    ) {
        if !t.tuning().push {
            return;
        }
        let near = partners.near(view.me);
        let Some(partner) = partners.get_mut(link) else { return };
        let good = partner.keeps_its_word() && view.me.tier(partner.id) >= near;
        let (buffer, window) = (view.buffer, view.buffer.position()..view.buffer.end());
        for seq in have.seqs.iter().copied().filter(|seq| buffer.map().slot(*seq).is_some()) {
            let lacked = window.contains(&seq) && !buffer.map().holds(seq);
            let may_lead = good && lacked && partner.followed & sub_of(seq) == 0;
            if !self.follow.news(t, link, seq, may_lead) {
                continue;
            }
            if lacked {
                let patience = urgent::patience(view.left(seq, t.now), partner.delivery.at_most(), t.tuning());
                if self.requests.comes(seq, link, t.now, t.now.after(patience)) {
                    partner.rate.asked();
                }
            } else {
                // It was on its way before the partner could know.
                self.requests.comes_in_vain(seq, link);
                if seq >= window.end {
                    self.follow.behind(t, seq);
                }
            }
        }
    }

    /// A chunk has come on `link`, and was lacked or not.
    pub(super) fn came(&mut self, t: &mut Turn<'_>, link: LinkId, seq: ChunkSeq, lacked: bool) {
        let pushed = self.follow.is_led_by(link, seq);
        if lacked {
            t.stats.chunks_pushed += u64::from(pushed);
            self.follow.was_in_time(link, seq);
        } else {
            t.stats.chunks_duplicate += 1;
            t.stats.duplicates_pushed += u64::from(pushed);
        }
    }

    /// How long a chunk asked of the cache is waited for before it is asked for again: as long as its chunks take, if that is more
    /// than is configured. What partners send in between stands in the same downlink.
    fn cache_patience(&self, tuning: &Tuning) -> Span {
        let (least, most) = (tuning.cache_timeout(), tuning.cache_timeout().times(1 << CACHE_DOUBLINGS_MAX));
        let takes = self.cache_takes.at_most().unwrap_or(Span::ZERO).min(most);
        least.times(1 << self.cache_late).max(takes)
    }

    fn roll(&mut self, t: &Turn<'_>, view: &View<'_>, missing: Slots, partners: &mut Partners) {
        if self.next_period <= t.now {
            self.next_period = t.in_ms(t.tuning().request_period_ms);
            let tuning = t.tuning();
            if !view.playout.is_waiting() {
                self.scarcity.roll(Span::from_millis(tuning.request_period_ms));
            }
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
        let pace = view.pace(t);
        let mut first = 0;
        if cache_is_open {
            first = position;
            while first < WINDOW_CHUNKS && view.needs_cache(self.base.ahead(first), pace.reserve, false, t.now) {
                first += 1;
            }
        }
        let pushed = Slots::range(view.pushed_from(t, first, self.base), WINDOW_CHUNKS);
        let pushed = self.follow.waited_for(self.base, partners).and(pushed);
        let wanted = self.wanted.and(announced).and(Slots::range(first, WINDOW_CHUNKS)).without(pushed);
        self.waits_for_room = !wanted.is_empty();
        if wanted.is_empty() {
            return;
        }
        // A partner in a farther tier gives what the nearer ones have not got when its time comes.
        let near = partners.near(view.me);
        let mut far_until = None;
        let Scratch { sources, order, chosen, seqs, .. } = &mut self.scratch;
        sources.clear();
        sources.extend(partners.iter().filter_map(|(link, partner)| {
            let room = partner.rate.room();
            if room == 0 {
                return None;
            }
            let wanted = if view.me.tier(partner.id) < near {
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
        let least = urgent::least_for_cache(pace.reserve, pace.takes).plus(view.uplink_busy);
        for asked in chosen.chunk_by(|a, b| a.0 == b.0) {
            let link = asked[0].0;
            let Some(partner) = partners.get_mut(link) else { continue };
            seqs.clear();
            let mut shortest = Span::from_secs(60);
            for (_, slot) in asked {
                let seq = self.base.ahead(*slot);
                let left = view.left(seq, t.now);
                let usual = partner.delivery.at_most();
                let word = partner.keeps_its_word().then(|| urgent::patience_with_word(left, least, t.tuning()));
                let patience = word.flatten().unwrap_or_else(|| urgent::patience(left, usual, t.tuning()));
                shortest = shortest.min(patience);
                self.requests.asked_partner(seq, link, t.now, t.now.after(patience));
                if !self.follow.is_led_by(link, seq) {
                    self.follow.behind(t, seq);
                }
                partner.rate.asked();
                t.stats.requests_to_peers += 1;
                seqs.push(seq);
            }
            let within = urgent::within(shortest, view.uplink_busy);
            request_frames(view.stream, seqs, within).into_iter().for_each(|frame| t.send(link, frame));
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
        let newest = view.head.overdue(t.now);
        let ahead = newest.ahead(t.tuning().seed_ahead_chunks + 1).since(self.base).unwrap_or(0);
        let mut open = self.requests.open_at_cache();
        let deadline = t.now.after(self.cache_patience(t.tuning()));
        let more = self.scarcity.more(partners.len() + view.members.len());
        let seqs = &mut self.scratch.seqs;
        seqs.clear();
        let not_for_cache = self.requests.not_for_cache(self.base, t.now);
        for slot in missing.and(Slots::range(0, ahead)).without(not_for_cache).iter() {
            let seq = self.base.ahead(slot);
            let at_partner = self.requests.is_open_at_partner(seq);
            let in_hand = at_partner && view.left(seq, t.now) >= pace.takes;
            let last_resort = seq <= newest && view.needs_cache(seq, pace.reserve, in_hand, t.now);
            let may_seed = !at_partner && !announced.contains(slot);
            let stands_for = if t.tuning().push { seeding::representative(seq) } else { seq };
            if !(last_resort || may_seed && view.seeds(seq, stands_for, partners, (pace.seed_step, more), t.now)) {
                continue;
            }
            if open >= CACHE_OPEN_MAX {
                t.stats.requests_over_limit += 1;
                break;
            }
            open += 1;
            if last_resort {
                self.scarcity.asked_late();
                self.follow.behind(t, seq);
            }
            *(if last_resort { &mut t.stats.requests_last_resort } else { &mut t.stats.requests_seed }) += 1;
            let at = if seq > view.head.newest() { Time::NEVER } else { t.now };
            self.requests.asked_cache(seq, link, at, deadline);
            seqs.push(seq);
        }
        cache.request(t, view.stream, seqs);
    }
}

/// Between two tries of a chunk whose epoch has no key: as often as keys are asked for. When they come it is tried at once; one
/// that comes before them is thrown away, and delays them where the downlink is slow.
pub(super) const UNKNOWN_EPOCH_PAUSE: Span = Span::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::super::event::Output;
    use super::super::head::Head;
    use super::super::help::Help;
    use super::super::members::Members;
    use super::super::partners::Partner;
    use super::super::play_buffer::PlayBuffer;
    use super::super::play_buffer::tests::drawn;
    use super::super::playout::Playout;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::peer_id::PeerId;
    use crate::units::StreamId;
    use crate::wire::{Frame, List};

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
    fn a_cache_whose_chunks_take_long_is_waited_for_as_long() {
        let (mut scheduler, tuning) = (Scheduler::default(), Tuning::default());
        assert_eq!(scheduler.cache_patience(&tuning), tuning.cache_timeout());
        let mut sent = |took: u64| {
            (0..50)
                .for_each(|_| scheduler.cache_sent(Time::from_millis(90_000), Some(Time::from_millis(90_000 - took))));
            scheduler.cache_sent(Time::from_millis(90_000), Some(Time::NEVER));
            scheduler.cache_patience(&tuning).millis()
        };
        assert!((2_500..3_000).contains(&sent(2_500)));
        assert_eq!((sent(60_000), sent(50)), (8 * tuning.cache_timeout().millis(), tuning.cache_timeout().millis()));
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

    /// A peer that plays from chunk 100 on, holds 100 and 107, and has two partners that have given it chunks.
    struct Pair {
        world: TestWorld,
        partners: Partners,
        scheduler: Scheduler,
        buffer: PlayBuffer,
    }

    impl Pair {
        fn new() -> Pair {
            let mut world = TestWorld::new(Tuning { push: true, ..Tuning::default() });
            let mut partners = Partners::default();
            for n in 1..=2u16 {
                let mut t = world.turn();
                let (id, addr) = (PeerId::from_bits(n.into()).expect("small"), SocketAddr::from(([127, 0, 0, 1], n)));
                let mut partner = Partner::new(&t, (id, Some(addr)), addr, true);
                partner.delivered(ChunkSeq::new(1), true, Some(Span::from_millis(100)));
                partners.add(&mut t, LinkId(n.into()), partner, &BufferMap::new(ChunkSeq::new(100)));
            }
            world.outputs();
            Pair { world, partners, scheduler: Scheduler::default(), buffer: drawn(100, "#......#") }
        }

        /// What is said after a partner has announced chunks: `1:Follow 1000`, `2:Request 148`.
        fn announces(&mut self, link: u32, seqs: &[u64]) -> Vec<String> {
            let have = Have { seqs: List::first_of(seqs.iter().map(|seq| ChunkSeq::new(*seq))) };
            let (link, me) = (LinkId(link), PeerId::from_bits(9).expect("small"));
            let head = Head::new(ChunkSeq::new(150), self.world.now);
            let (members, playout) = (Members::default(), Playout::new(&self.world.config.tuning));
            let (stream, buffer, began) = (StreamId(1), &self.buffer, self.world.now);
            let (head, playout, uplink_busy) = (&head, &playout, Span::ZERO);
            let help = Help::default();
            let view = View { stream, me, members: &members, buffer, head, playout, help, began, uplink_busy };
            self.partners.have(link, &have, buffer.map());
            let t = &mut self.world.turn();
            self.scheduler.announced(t, &view, &mut self.partners, link, &have);
            self.scheduler.run(t, &view, &mut self.partners, &mut CacheLink::new(), &mut Vec::new());
            let text = |o| match o {
                Output::Send { link, frame: Frame::Follow(f) } => format!("{}:Follow {:b}", link.0, f.subs),
                Output::Send { link, frame: Frame::Request(r) } => {
                    format!("{}:Request {}", link.0, r.runs.iter().map(|run| run.first.to_string()).collect::<String>())
                }
                other => format!("{other:?}"),
            };
            self.world.outputs().into_iter().map(text).collect()
        }

        fn leads(&mut self, link: u32, subs: u8) {
            self.scheduler.follow.answered(&mut self.world.turn(), LinkId(link), subs);
        }
    }

    #[test]
    fn an_announcement_of_who_leads_is_a_request_and_others_are_asked_when_it_does_not_come() {
        let mut pair = Pair::new();
        assert_eq!(pair.announces(1, &[131]), ["1:Follow 1000", "1:Request 131"], "the first one is pulled");
        pair.leads(1, 0b1000);
        assert_eq!(pair.announces(1, &[139]), [""; 0]);
        assert!(pair.scheduler.requests.is_open_at_partner(ChunkSeq::new(139)));
        assert_eq!(pair.announces(2, &[139, 147]), [""; 0], "who leads has time to announce 147");
        assert_eq!(pair.announces(2, &[115]), ["2:Request 115"], "15 chunks are 3 s less what begins it");
        assert_eq!(pair.scheduler.requests.asked_at(LinkId(1), ChunkSeq::new(115)), None);
    }

    #[test]
    fn what_is_pushed_though_it_is_held_is_no_unasked_chunk() {
        let mut pair = Pair::new();
        pair.announces(1, &[131]);
        pair.leads(1, 0b1000);
        assert_eq!(pair.announces(1, &[107]), [""; 0]);
        let requests = &mut pair.scheduler.requests;
        assert!(!requests.is_open_at_partner(ChunkSeq::new(107)));
        assert!(requests.settle(LinkId(1), ChunkSeq::new(107)) && !requests.settle(LinkId(1), ChunkSeq::new(108)));
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
