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
use super::event::LinkId;
use super::head::Head;
use super::partners::Partners;
use super::play_buffer::PlayBuffer;
use super::playout::Playout;
use super::request_rate::equation_four;
use super::requests::{Expired, Requests, request_frames};
use super::turn::Turn;
use super::{rarest, seeding, urgent};
use crate::peer_id::PeerId;
use crate::prng::Prng;
use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq, StreamId};
use crate::wire::BufferMap;

/// Most chunks open at the cache at once. Our guess: twice the default play delay.
const CACHE_OPEN_MAX: usize = 64;

/// A partner as a source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Who.
    pub link: LinkId,
    /// What it announces.
    pub map: BufferMap,
    /// Chunks that it may still be asked.
    pub room: u32,
}

/// The peer's view of the stream that a plan is made for.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) stream: StreamId,
    pub(super) me: PeerId,
    /// Everybody known, for seeding.
    pub(super) others: &'a [PeerId],
    pub(super) buffer: &'a PlayBuffer,
    pub(super) head: &'a Head,
    pub(super) playout: &'a Playout,
    /// When the peer began to want chunks.
    pub(super) began: Time,
}

/// Gives each of `seqs`, in their order, to the source with the most room that holds it, ties at random. Sources lose
/// room as they are chosen; chunks that no source with room holds are left out.
pub fn choose(seqs: &[ChunkSeq], sources: &mut [Source], rng: &mut Prng) -> Vec<(ChunkSeq, LinkId)> {
    let mut chosen = Vec::new();
    for seq in seqs {
        let best = sources
            .iter_mut()
            .filter(|source| source.room > 0 && source.map.holds(*seq))
            .max_by_key(|source| (source.room, rng.next_u64()));
        if let Some(source) = best {
            source.room -= 1;
            chosen.push((*seq, source.link));
        }
    }
    chosen
}

/// Open requests and the periods of eq. (5).
#[derive(Clone, Debug, Default)]
pub(super) struct Scheduler {
    pub(super) requests: Requests,
    next_period: Time,
}

impl Scheduler {
    /// Charges what is late, then asks for what is missing. Gives the partners that left too much unanswered.
    pub(super) fn run(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        partners: &mut Partners,
        cache: &mut CacheLink,
    ) -> Vec<LinkId> {
        let struck = self.expire(t, view, partners, cache);
        let ahead = view.head.estimate(t.now).ahead(t.tuning().seed_ahead_chunks + 1);
        let announced = partners.iter().filter_map(|(_, p)| p.map.newest()).max().map_or(ahead, ChunkSeq::next);
        let missing: Vec<ChunkSeq> = view.buffer.missing(ahead.max(announced)).collect();
        self.roll(t, missing.iter().filter(|seq| **seq < ahead).count(), partners);
        self.ask_partners(t, view, &missing, partners, cache.open().is_some());
        self.ask_cache(t, view, &missing, partners, cache);
        struck
    }

    fn expire(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        partners: &mut Partners,
        cache: &mut CacheLink,
    ) -> Vec<LinkId> {
        let mut struck = Vec::new();
        let cache_deadline = t.now.after(t.tuning().cache_timeout());
        for (_, late) in self.requests.expire(t.now, view.head.newest(), cache_deadline) {
            match late {
                Expired::Cache => {
                    t.stats.timeouts_caches += 1;
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
        struck
    }

    fn roll(&mut self, t: &Turn<'_>, needed: usize, partners: &mut Partners) {
        if self.next_period <= t.now {
            self.next_period = t.in_ms(t.tuning().request_period_ms);
            let tuning = t.tuning();
            let high = equation_four(tuning.request_share, needed, partners.len(), tuning.request_floor);
            partners.iter_mut().for_each(|(_, partner)| partner.rate.roll(t.now, tuning, high));
        }
    }

    fn ask_partners(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        missing: &[ChunkSeq],
        partners: &mut Partners,
        cache_is_open: bool,
    ) {
        let mut sources: Vec<Source> = partners
            .iter()
            .map(|(link, partner)| Source { link, map: partner.map, room: partner.rate.room() })
            .filter(|source| source.room > 0)
            .collect();
        if sources.is_empty() {
            return;
        }
        let reserve = view.pace(t).reserve;
        let wanted = missing.iter().copied().filter(|seq| {
            let left_to_cache = cache_is_open && urgent::needs_cache(view.left(*seq, t.now), reserve, false);
            !left_to_cache && !self.requests.is_open(*seq) && self.requests.may_ask(*seq, t.now)
        });
        let zone_end = urgent::zone_end(view.buffer, t.tuning());
        let (mut order, mut normal): (Vec<ChunkSeq>, Vec<ChunkSeq>) = wanted.partition(|seq| *seq < zone_end);
        let holders = |seq| sources.iter().filter(|source| source.map.holds(seq)).count();
        normal.retain(|seq| holders(*seq) > 0);
        rarest::order(&mut normal, holders, t.rng);
        order.extend(normal);
        let mut chosen = choose(&order, &mut sources, t.rng);
        chosen.sort_by_key(|(seq, link)| (*link, *seq));
        for asked in chosen.chunk_by(|a, b| a.1 == b.1) {
            let link = asked[0].1;
            let Some(partner) = partners.get_mut(link) else { continue };
            for (seq, _) in asked {
                let patience = urgent::patience(view.left(*seq, t.now), t.tuning());
                self.requests.asked_partner(*seq, link, t.now.after(patience));
                partner.rate.asked();
                t.stats.requests_to_peers += 1;
            }
            let seqs: Vec<ChunkSeq> = asked.iter().map(|(seq, _)| *seq).collect();
            request_frames(view.stream, &seqs).into_iter().for_each(|frame| t.send(link, frame));
        }
    }

    fn ask_cache(
        &mut self,
        t: &mut Turn<'_>,
        view: &View<'_>,
        missing: &[ChunkSeq],
        partners: &Partners,
        cache: &CacheLink,
    ) {
        let Some(link) = cache.open() else { return };
        let pace = view.pace(t);
        let ahead = view.head.estimate(t.now).ahead(t.tuning().seed_ahead_chunks);
        let mut open = self.requests.open_at_cache();
        let mut asked = Vec::new();
        for seq in missing.iter().copied().take_while(|seq| *seq <= ahead) {
            if self.requests.is_open_at_cache(seq) || !self.requests.may_ask_cache(seq, t.now) {
                continue;
            }
            let at_partner = self.requests.is_open_at_partner(seq);
            let last_resort =
                seq <= view.head.newest() && urgent::needs_cache(view.left(seq, t.now), pace.reserve, at_partner);
            if !last_resort && (at_partner || !view.seeds(seq, partners, pace.seed_step, t.now)) {
                continue;
            }
            if open >= CACHE_OPEN_MAX {
                t.stats.requests_over_limit += 1;
                break;
            }
            open += 1;
            *(if last_resort { &mut t.stats.requests_last_resort } else { &mut t.stats.requests_seed }) += 1;
            self.requests.asked_cache(seq, link, t.now.after(t.tuning().cache_timeout()));
            asked.push(seq);
        }
        cache.request(t, view.stream, &asked);
    }
}

impl View<'_> {
    fn left(&self, seq: ChunkSeq, now: Time) -> Span {
        self.playout.time_left(seq, self.buffer.position(), self.head, now)
    }

    fn pace(&self, t: &Turn<'_>) -> super::playout::Pace {
        self.playout.pace(self.buffer.position(), self.head, t.tuning(), t.now)
    }

    /// Whether this peer is to fetch `seq` from the cache for the others: no partner announces it, and its rank and
    /// the time since it was published (or we began) make it responsible.
    fn seeds(&self, seq: ChunkSeq, partners: &Partners, step: Span, now: Time) -> bool {
        if partners.iter().any(|(_, partner)| partner.map.holds(seq)) {
            return false;
        }
        let age = Span::from_micros(self.head.age_us(seq, now).max(0) as u64);
        let waited = age.min(now.since(self.began));
        seeding::is_responsible(seeding::rank(seq, self.me, self.others), waited, step)
    }
}

/// Chunks between two tries of a chunk whose epoch has no key.
pub(super) const UNKNOWN_EPOCH_PAUSE: Span = CHUNK_SPAN;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Partners drawn: what each holds from chunk 100 on, and its room.
    fn sources(drawn: &[(&str, u32)]) -> Vec<Source> {
        drawn
            .iter()
            .enumerate()
            .map(|(i, (holds, room))| {
                let mut map = BufferMap::new(ChunkSeq::new(100));
                for (at, _) in holds.bytes().enumerate().filter(|(_, b)| *b == b'#') {
                    map.set(ChunkSeq::new(100 + at as u64), true);
                }
                Source { link: LinkId(i as u32 + 1), map, room: *room }
            })
            .collect()
    }

    fn chosen(wanted: &[u64], drawn: &[(&str, u32)]) -> Vec<(u64, u32)> {
        let wanted: Vec<_> = wanted.iter().copied().map(ChunkSeq::new).collect();
        let chosen = choose(&wanted, &mut sources(drawn), &mut Prng::new(3));
        chosen.into_iter().map(|(seq, link)| (seq.get(), link.0)).collect()
    }

    #[test]
    fn cannot_pick_what_no_partner_announces() {
        assert_eq!(chosen(&[102, 103], &[("##..", 9), ("###.", 9)]), [(102, 2)]);
    }

    #[test]
    fn the_first_in_order_gets_the_last_room() {
        assert_eq!(chosen(&[103, 100, 101], &[("####", 2)]), [(103, 1), (100, 1)]);
    }

    #[test]
    fn the_partner_with_the_most_room_is_asked() {
        assert_eq!(chosen(&[100, 101, 102], &[("###", 1), ("###", 4)]), [(100, 2), (101, 2), (102, 2)]);
    }

    proptest! {
        #[test]
        fn never_beyond_a_partners_room_or_map(
            maps in prop::collection::vec((prop::collection::vec(any::<bool>(), 64), 0u32..8), 0..8),
            wanted in prop::collection::btree_set(100u64..164, 0..64),
            seed in any::<u64>(),
        ) {
            let drawn: Vec<(String, u32)> = maps.iter()
                .map(|(bits, room)| (bits.iter().map(|b| if *b { '#' } else { '.' }).collect(), *room)).collect();
            let drawn: Vec<(&str, u32)> = drawn.iter().map(|(s, r)| (s.as_str(), *r)).collect();
            let before = sources(&drawn);
            let wanted: Vec<_> = wanted.into_iter().map(ChunkSeq::new).collect();
            let mut after = before.clone();
            let chosen = choose(&wanted, &mut after, &mut Prng::new(seed));
            let mut seqs: Vec<_> = chosen.iter().map(|(seq, _)| *seq).collect();
            prop_assert!(seqs.iter().all(|seq| wanted.contains(seq)));
            seqs.dedup();
            prop_assert_eq!(seqs.len(), chosen.len(), "no chunk twice");
            for source in &before {
                let asked: Vec<_> = chosen.iter().filter(|(_, link)| *link == source.link).collect();
                prop_assert!(asked.len() as u32 <= source.room);
                prop_assert!(asked.iter().all(|(seq, _)| source.map.holds(*seq)));
            }
            // Nothing is left out that somebody with room left holds.
            for seq in wanted.iter().filter(|seq| !seqs.contains(seq)) {
                prop_assert!(after.iter().all(|s| s.room == 0 || !s.map.holds(*seq)));
            }
        }
    }
}
