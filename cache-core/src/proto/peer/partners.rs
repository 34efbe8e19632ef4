//! Partners: the peers connected, what they hold, and who of them stays (paper, sections 3.1.4 and 3.1.5).
//!
//! Each gossip period every partner is sent our buffer map, which is the heartbeat too; new chunks are announced at
//! once, those that come within `announce_ms` of an announcement together, and pushed right behind it to those that
//! follow in their sub-streams. Who misses three heartbeats is gone. Each longer period the lowest by eq. (3) are
//! exchanged for members. Caches are not here: their upload to us is their purpose, so they are never ranked
//! ([`super::cache_link`]).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::config::Tuning;
use super::delivery::Delivery;
use super::event::LinkId;
use super::few::Few;
use super::follow::sub_of;
use super::request_rate::RequestRate;
use super::turn::Turn;
use super::worth::Worth;
use crate::limits::{HAVE_PER_MESSAGE_MAX, PARTNERS_PER_ANSWER_MAX, WINDOW_CHUNKS};
use crate::peer_id::{PeerId, Tier};
use crate::time::{Span, Time};
use crate::units::ChunkSeq;
use crate::wire::exchange::{Gossip, Have, Leave, Partners as PartnersFrame, PartnersQuery, PeerEntry};
use crate::wire::{BufferMap, List, RefusalReason, WireBufferMap};

/// Questions for partners are answered, and asked, this often at most per link. Our guess.
const QUERY_PERIOD: Span = Span::from_secs(1);

/// Longest that news wait for an uplink that is busy. Our guess: a gossip period.
const ANNOUNCED_WITH: Span = Span::from_secs(1);

/// Chunks in a row that nobody asked for, after which a partner is left. Our guess: what late answers to requests that
/// were repeated bring at most; each costs a signature's check.
const UNASKED_MAX: u32 = 16;

/// A peer on a link of ours.
#[derive(Clone, Debug)]
pub(super) struct Partner {
    pub(super) id: PeerId,
    /// Where it takes connections, if it does: the address seen, with the port it names.
    pub(super) addr: Option<SocketAddr>,
    /// How its bytes are accounted: that address, or the one it connected from.
    pub(super) source: SocketAddr,
    /// Whether the link was made by us.
    pub(super) dialled: bool,
    pub(super) map: BufferMap,
    pub(super) rate: RequestRate,
    pub(super) worth: Worth,
    pub(super) delivery: Delivery,
    /// Requests in a row that were not answered.
    pub(super) strikes: u32,
    /// The sub-streams that it is pushed by us.
    pub(super) followed: u8,
    /// Chunks in a row that nobody asked for.
    unasked: u32,
    since: Time,
    heard: Time,
    /// A map that came before we had a position to read its base by.
    unread: Option<WireBufferMap>,
    answered: Time,
    /// It was asked for its partners, and has not said them.
    asked: bool,
}

impl Partner {
    pub(super) fn new(t: &Turn<'_>, entry: (PeerId, Option<SocketAddr>), source: SocketAddr, dialled: bool) -> Partner {
        Partner {
            id: entry.0,
            addr: entry.1,
            source,
            dialled,
            map: BufferMap::new(ChunkSeq::FIRST),
            rate: RequestRate::new(t.tuning().request_floor),
            worth: Worth::new(t.now),
            delivery: Delivery::default(),
            strikes: 0,
            followed: 0,
            unasked: 0,
            since: t.now,
            heard: t.now,
            unread: None,
            answered: Time::ZERO,
            asked: false,
        }
    }

    /// It gave a chunk that it was asked for; `in_time`: before the request was given up.
    /// `took`: how long after it was asked, if that is still known.
    pub(super) fn delivered(&mut self, seq: ChunkSeq, in_time: bool, took: Option<Span>) {
        (self.strikes, self.unasked) = (0, 0);
        took.into_iter().for_each(|took| self.delivery.observe(took));
        self.worth.downloaded();
        self.map.set(seq, true);
        if in_time {
            self.rate.completed();
        }
    }

    /// It has delivered, and owes no answer: what it does not refuse it sends in the time that it was told.
    pub(super) const fn keeps_its_word(&self) -> bool {
        self.strikes == 0 && self.delivery.mean().is_some()
    }

    /// It said that it cannot give a chunk that it was asked for; `in_time`: before the request was given up. Who has
    /// delivered, and is `busy` now, has not failed: it is to be asked for the next one.
    pub(super) fn refused(&mut self, seq: ChunkSeq, in_time: bool, busy: bool) {
        self.strikes = 0;
        if !in_time {
            return;
        }
        if busy && self.delivery.mean().is_some() {
            self.rate.withdrawn();
        } else {
            self.rate.failed();
        }
        self.map.set(seq, false);
    }

    /// It sent a good chunk that nobody asked for. Whether that was one too many.
    pub(super) const fn sent_unasked(&mut self) -> bool {
        self.unasked += 1;
        self.unasked > UNASKED_MAX
    }

    fn entry(&self) -> Option<PeerEntry> {
        self.addr.map(|addr| PeerEntry { peer: self.id, addr })
    }
}

/// The partner list.
#[derive(Clone, Debug, Default)]
pub(super) struct Partners {
    up: Few<LinkId, Partner>,
    /// Who is on each link: what all are looked through for, without their other state between.
    ids: Few<LinkId, PeerId>,
    /// Chunks held since the last announcement; at most a window.
    fresh: Vec<ChunkSeq>,
    /// Those announced to who follows in their sub-streams, to be sent.
    pushes: VecDeque<(LinkId, ChunkSeq)>,
    announced: Time,
    /// When they are announced.
    announce_at: Option<Time>,
    next_gossip: Time,
    next_exchange: Time,
    next_query: Time,
}

impl Partners {
    pub(super) fn len(&self) -> usize {
        self.up.len()
    }

    pub(super) fn accepted(&self) -> usize {
        self.up.values().filter(|p| !p.dialled).count()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.ids.values().copied()
    }

    pub(super) fn links(&self) -> Vec<LinkId> {
        self.up.keys().copied().collect()
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.up.get(&link).is_some()
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut Partner> {
        self.up.get_mut(&link)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LinkId, &Partner)> + '_ {
        self.up.iter().map(|(link, partner)| (*link, partner))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (LinkId, &mut Partner)> + '_ {
        self.up.iter_mut().map(|(link, partner)| (*link, partner))
    }

    /// The link to `peer`, and whether we made it.
    pub(super) fn link_of(&self, peer: PeerId) -> Option<(LinkId, bool)> {
        let (link, _) = self.ids.iter().find(|(_, id)| **id == peer)?;
        self.up.get(link).map(|partner| (*link, partner.dialled))
    }

    /// The best tier that half of them reach. Who has few of its own city or area has its near ones where most are.
    pub(super) fn near(&self, me: PeerId) -> Tier {
        let reach = |tier: &Tier| self.ids().filter(|id| me.tier(*id) >= *tier).count() * 2 >= self.len();
        self.ids().map(|id| me.tier(id)).filter(reach).max().unwrap_or(Tier::ELSEWHERE)
    }

    /// Whether one of them is in a farther tier than `nearest`.
    pub(super) fn any_outside(&self, me: PeerId, nearest: Tier) -> bool {
        self.ids.values().any(|id| me.tier(*id) < nearest)
    }

    /// A partnership begins: it is told at once what we hold.
    pub(super) fn add(&mut self, t: &mut Turn<'_>, link: LinkId, partner: Partner, map: &BufferMap) {
        self.ids.insert(link, partner.id);
        self.up.insert(link, partner);
        t.send(link, Gossip { map: map.to_wire() });
    }

    pub(super) fn remove(&mut self, link: LinkId) -> Option<Partner> {
        self.ids.remove(&link);
        self.up.remove(&link)
    }

    /// A frame came: the partner lives.
    pub(super) fn heard(&mut self, link: LinkId, now: Time) {
        if let Some(partner) = self.up.get_mut(&link) {
            partner.heard = now;
        }
    }

    /// A partner's map. `position` is ours, to read its base by; `None` before there is one.
    /// Gives the map that was known before and the new one, when it could be read.
    pub(super) fn gossip(
        &mut self,
        link: LinkId,
        wire: WireBufferMap,
        position: Option<ChunkSeq>,
    ) -> Option<(BufferMap, BufferMap)> {
        let partner = self.up.get_mut(&link)?;
        let Some(position) = position else {
            partner.unread = Some(wire);
            return None;
        };
        let before = std::mem::replace(&mut partner.map, BufferMap::from_wire(&wire, position));
        Some((before, partner.map))
    }

    /// Our position is known: maps that came before can be read.
    pub(super) fn begin(&mut self, position: ChunkSeq) {
        for partner in self.up.values_mut() {
            if let Some(wire) = partner.unread.take() {
                partner.map = BufferMap::from_wire(&wire, position);
            }
        }
    }

    /// News of a partner. Chunks that `window` does not reach are of no use to us and are passed over.
    pub(super) fn have(&mut self, link: LinkId, have: &Have, window: &BufferMap) {
        let Some(partner) = self.up.get_mut(&link) else { return };
        for seq in have.seqs.iter().filter(|seq| window.slot(**seq).is_some()) {
            if *seq >= partner.map.end() {
                partner.map.slide_to(seq.next().back(WINDOW_CHUNKS));
            }
            partner.map.set(*seq, true);
        }
    }

    /// A new chunk is held: partners are told by [`Partners::flush`], soon after the announcement before. For so long the uplink is
    /// `busy`: what was said now would not leave earlier.
    pub(super) fn announce(&mut self, t: &Turn<'_>, seq: ChunkSeq, busy: Span) {
        if self.fresh.len() < WINDOW_CHUNKS as usize {
            self.fresh.push(seq);
        }
        if self.announce_at.is_none() {
            let again = self.announced.after(Span::from_millis(t.tuning().announce_ms));
            self.announce_at = Some(again.max(t.now.after(busy.min(ANNOUNCED_WITH))));
        }
    }

    /// When [`Partners::flush`] has something to do.
    pub(super) fn flush_at(&self) -> Time {
        self.announce_at.unwrap_or(Time::NEVER)
    }

    /// When [`Partners::tick`] or [`Partners::silent`] has something to do.
    pub(super) fn next_timeout(&self, tuning: &Tuning) -> Time {
        let heard = self.up.values().map(|p| p.heard).min().unwrap_or(Time::NEVER);
        self.next_gossip.min(heard.after(tuning.silence_max()))
    }

    /// Buffer maps and questions that are due. `short_of_members`: ask for partner lists.
    pub(super) fn tick(&mut self, t: &mut Turn<'_>, map: &BufferMap, short_of_members: bool) {
        if self.next_gossip <= t.now {
            self.next_gossip = t.in_ms(t.tuning().gossip_ms);
            for link in self.up.keys() {
                t.send(*link, Gossip { map: map.to_wire() });
            }
        }
        if short_of_members && self.next_query <= t.now && !self.up.is_empty() {
            self.next_query = t.now.after(QUERY_PERIOD);
            let at = t.rng.below(self.up.len());
            if let Some((link, partner)) = self.up.iter_mut().nth(at) {
                partner.asked = true;
                t.send(*link, PartnersQuery {});
            }
        }
    }

    /// Tells each partner of the new chunks that it does not hold itself and has not played. Who follows is to be sent them
    /// next ([`Partners::take_push`]).
    pub(super) fn flush(&mut self, t: &mut Turn<'_>) {
        if self.announce_at.is_some_and(|at| at <= t.now) {
            self.flush_now(t);
        }
    }

    /// The same before its time, as what is sent next would stand in front of it.
    pub(super) fn flush_now(&mut self, t: &mut Turn<'_>) {
        if self.fresh.is_empty() {
            return;
        }
        (self.announced, self.announce_at) = (t.now, None);
        for (link, partner) in &self.up {
            let is_news = |seq: &ChunkSeq| *seq >= partner.map.base() && !partner.map.holds(*seq);
            let mut news = self.fresh.iter().copied().filter(is_news).peekable();
            while news.peek().is_some() {
                t.send(*link, Have { seqs: List::first_of(news.by_ref().take(HAVE_PER_MESSAGE_MAX)) });
            }
            let follows = |seq: &ChunkSeq| is_news(seq) && partner.followed & sub_of(*seq) != 0;
            self.pushes.extend(self.fresh.iter().copied().filter(follows).map(|seq| (*link, seq)));
        }
        self.fresh.clear();
    }

    /// A chunk that was announced to a partner on this link who follows in its sub-stream. To be taken until there is none.
    pub(super) fn take_push(&mut self) -> Option<(LinkId, ChunkSeq)> {
        self.pushes.pop_front()
    }

    /// Partners that have not been heard for three periods.
    pub(super) fn silent(&self, t: &Turn<'_>) -> Vec<LinkId> {
        let silence = t.tuning().silence_max();
        self.up.iter().filter(|(_, p)| p.heard.after(silence) <= t.now).map(|(link, _)| *link).collect()
    }

    /// Whether the partner list that came on `link` was asked for; once for each question. The newest members stay
    /// longest, so that whoever could name some at will would soon be surrounding us.
    pub(super) fn was_asked(&mut self, link: LinkId) -> bool {
        self.up.get_mut(&link).is_some_and(|partner| std::mem::take(&mut partner.asked))
    }

    /// Whether the partner on `link` is at this address.
    pub(super) fn is_at(&self, link: LinkId, ip: IpAddr) -> bool {
        self.up.get(&link).is_some_and(|partner| partner.source.ip() == ip)
    }

    /// Answers a question for partners, once a second per link at most.
    pub(super) fn answer(&mut self, t: &mut Turn<'_>, link: LinkId) {
        let Some(partner) = self.up.get_mut(&link) else { return };
        if partner.answered.after(QUERY_PERIOD) > t.now && partner.answered > Time::ZERO {
            t.stats.queries_over_limit += 1;
            return;
        }
        partner.answered = t.now;
        let asker = partner.id;
        let list = self.list(t, asker);
        t.send(link, list);
    }

    /// Some of the partners that take connections, at random, without `asker`.
    pub(super) fn list(&self, t: &mut Turn<'_>, asker: PeerId) -> PartnersFrame {
        let mut peers: Vec<PeerEntry> = self.up.values().filter(|p| p.id != asker).filter_map(Partner::entry).collect();
        t.rng.shuffle(&mut peers);
        PartnersFrame { peers: List::<_, PARTNERS_PER_ANSWER_MAX>::first_of(peers) }
    }

    /// Once a period: the `floor(k * partners)` lowest by eq. (3), told so. Partners younger than a period are not
    /// judged, and the only one outside the nearest tier stays.
    pub(super) fn lowest(&mut self, t: &mut Turn<'_>, me: PeerId) -> Vec<LinkId> {
        let period = Span::from_millis(t.tuning().optimise_period_ms);
        if self.next_exchange > t.now {
            return Vec::new();
        }
        let began = self.next_exchange;
        self.next_exchange = t.now.after(period);
        let nearest = self.ids().map(|id| me.tier(id)).max().unwrap_or(Tier::ELSEWHERE);
        let outside = self.ids().filter(|id| me.tier(*id) < nearest).count();
        let mut ranked: Vec<(f64, LinkId)> = self
            .up
            .iter()
            .filter(|(_, p)| p.since.after(period) <= t.now && (outside != 1 || me.tier(p.id) == nearest))
            .map(|(link, p)| (p.worth.value(t.now, t.tuning().download_weight), *link))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.truncate((t.tuning().exchange_share * self.up.len() as f64) as usize);
        self.up.values_mut().for_each(|p| p.worth.roll(began));
        for (_, link) in &ranked {
            t.send(*link, Leave { reason: RefusalReason::Full });
            t.stats.partners_exchanged += 1;
        }
        ranked.into_iter().map(|(_, link)| link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Output;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::wire::Frame;

    fn id(n: u64) -> PeerId {
        PeerId::from_bits(n).expect("small")
    }

    /// `count` partners on links 1.. with ids 101.., all of one area with id 1.
    fn partners(world: &mut TestWorld, count: u64) -> Partners {
        let mut partners = Partners::default();
        let map = BufferMap::new(ChunkSeq::new(100));
        for n in 1..=count {
            let mut t = world.turn();
            let addr = SocketAddr::from(([127, 0, 0, 1], n as u16));
            let partner = Partner::new(&t, (id(100 + n), Some(addr)), addr, true);
            partners.add(&mut t, LinkId(n as u32), partner, &map);
        }
        world.out.drain();
        partners
    }

    fn frames(world: &mut TestWorld) -> Vec<(u32, &'static str)> {
        let name = |o| if let Output::Send { link, frame } = o { Some((link.0, Frame::name(&frame))) } else { None };
        world.outputs().into_iter().filter_map(name).collect()
    }

    #[test]
    fn one_partner_of_the_own_area_does_not_make_all_others_far() {
        let mut world = TestWorld::new(Tuning::default());
        let place = |area: u64, node: u64| id(area << 16 | node);
        let near = |world: &mut TestWorld, ids: &[PeerId]| {
            let mut partners = Partners::default();
            for (n, id) in (1..).zip(ids) {
                let addr = SocketAddr::from(([127, 0, 0, 1], n as u16));
                let mut t = world.turn();
                let partner = Partner::new(&t, (*id, Some(addr)), addr, true);
                partners.add(&mut t, LinkId(n), partner, &BufferMap::new(ChunkSeq::new(100)));
            }
            partners.near(place(1, 9))
        };
        let (own, other) = (place(1, 9).tier(place(1, 1)), place(1, 9).tier(place(2, 1)));
        assert!(own > other);
        assert_eq!(near(&mut world, &[place(1, 1), place(2, 2), place(2, 3)]), other);
        assert_eq!(near(&mut world, &[place(1, 1), place(1, 2), place(2, 3)]), own);
        assert_eq!(near(&mut world, &[place(1, 1), place(2, 2)]), own, "half of them");
        assert_eq!(near(&mut world, &[]), Tier::ELSEWHERE);
    }

    #[test]
    fn who_has_delivered_is_asked_again_when_it_is_busy_and_who_has_not_is_muted() {
        for delivered in [true, false] {
            let mut world = TestWorld::new(Tuning::default());
            let mut partners = partners(&mut world, 1);
            let partner = partners.get_mut(LinkId(1)).expect("there");
            if delivered {
                partner.delivered(ChunkSeq::new(1), true, Some(Span::from_millis(100)));
                partner.rate.roll(world.now, &world.config.tuning, 16);
            }
            partner.strikes = 2;
            partner.rate.asked();
            partner.refused(ChunkSeq::new(100), true, true);
            partner.rate.roll(world.now, &world.config.tuning, 16);
            assert_eq!((partner.rate.room() > 0, partner.strikes), (delivered, 0), "delivered: {delivered}");
        }
    }

    #[test]
    fn a_partner_is_told_only_of_what_it_does_not_hold() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 2);
        let window = BufferMap::new(ChunkSeq::new(100));
        let have = Have { seqs: List::first_of([ChunkSeq::new(110)]) };
        partners.have(LinkId(1), &have, &window);
        partners.announce(&world.turn(), ChunkSeq::new(110), Span::ZERO);
        partners.flush(&mut world.turn());
        assert_eq!(frames(&mut world), [(2, "Have")]);
        // What comes at once behind it waits for a tenth of a second.
        partners.announce(&world.turn(), ChunkSeq::new(111), Span::ZERO);
        partners.announce(&world.turn(), ChunkSeq::new(112), Span::ZERO);
        partners.flush(&mut world.turn());
        assert_eq!((frames(&mut world).len(), partners.flush_at()), (0, world.now.after(Span::from_millis(100))));
        world.pass(100);
        partners.flush(&mut world.turn());
        assert_eq!(frames(&mut world), [(1, "Have"), (2, "Have")]);
    }

    #[test]
    fn what_is_announced_to_a_follower_is_pushed_to_it_and_what_it_holds_is_not() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 3);
        let window = BufferMap::new(ChunkSeq::new(100));
        for link in [1, 2] {
            partners.get_mut(LinkId(link)).expect("there").followed = sub_of(ChunkSeq::new(112));
        }
        partners.have(LinkId(2), &Have { seqs: List::first_of([ChunkSeq::new(112)]) }, &window);
        [111, 112, 113].into_iter().for_each(|n| partners.announce(&world.turn(), ChunkSeq::new(n), Span::ZERO));
        partners.flush(&mut world.turn());
        let pushes: Vec<_> = std::iter::from_fn(|| partners.take_push()).collect();
        assert_eq!(pushes, [(LinkId(1), ChunkSeq::new(112))]);
    }

    #[test]
    fn news_far_outside_the_window_change_nothing() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 1);
        let window = BufferMap::new(ChunkSeq::new(100));
        let have = Have { seqs: List::first_of([ChunkSeq::new(355), ChunkSeq::new(356), ChunkSeq::new(u64::MAX)]) };
        partners.have(LinkId(1), &have, &window);
        let map = partners.get_mut(LinkId(1)).expect("there").map;
        assert_eq!(map.iter().collect::<Vec<_>>(), [ChunkSeq::new(355)]);
    }

    #[test]
    fn a_map_that_came_too_early_is_read_when_the_position_is_known() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 1);
        let mut theirs = BufferMap::new(ChunkSeq::new(70_000));
        theirs.set(ChunkSeq::new(70_003), true);
        partners.gossip(LinkId(1), theirs.to_wire(), None);
        partners.begin(ChunkSeq::new(70_010));
        assert!(partners.get_mut(LinkId(1)).expect("there").map.holds(ChunkSeq::new(70_003)));
    }

    #[test]
    fn unasked_chunks_are_borne_for_a_while() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 1);
        let partner = partners.get_mut(LinkId(1)).expect("there");
        assert!((0..16).all(|_| !partner.sent_unasked()));
        partner.delivered(ChunkSeq::new(101), true, None);
        assert!((0..16).all(|_| !partner.sent_unasked()), "in a row");
        assert!(partner.sent_unasked());
    }

    #[test]
    fn three_missed_heartbeats_and_it_is_gone() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 2);
        world.pass(2_999);
        partners.heard(LinkId(2), world.now);
        assert!(partners.silent(&world.turn()).is_empty());
        world.pass(1);
        assert_eq!(partners.silent(&world.turn()), [LinkId(1)]);
    }

    #[test]
    fn the_lowest_fifth_is_exchanged_but_not_the_young() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 10);
        for (link, partner) in partners.iter_mut() {
            (0..link.0).for_each(|_| partner.worth.downloaded());
        }
        world.pass(5_000);
        assert_eq!(partners.lowest(&mut world.turn(), id(1)), [], "nobody is older than a period");
        world.pass(10_000);
        assert_eq!(partners.lowest(&mut world.turn(), id(1)), [LinkId(1), LinkId(2)]);
        assert_eq!(frames(&mut world), [(1, "Leave"), (2, "Leave")]);
        assert_eq!(partners.lowest(&mut world.turn(), id(1)), [], "once a period");
    }

    #[test]
    fn a_partner_list_is_taken_once_for_each_question() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 1);
        let window = BufferMap::new(ChunkSeq::new(100));
        assert!(!partners.was_asked(LinkId(1)));
        partners.tick(&mut world.turn(), &window, true);
        assert!(frames(&mut world).contains(&(1, "PartnersQuery")));
        assert!(partners.was_asked(LinkId(1)) && !partners.was_asked(LinkId(1)));
    }

    #[test]
    fn questions_for_partners_are_answered_once_a_second() {
        let mut world = TestWorld::new(Tuning::default());
        let mut partners = partners(&mut world, 3);
        partners.answer(&mut world.turn(), LinkId(1));
        let answer = world.outputs().pop();
        let Some(Output::Send { frame: Frame::Partners(list), .. }) = answer else { panic!("no list: {answer:?}") };
        let mut named: Vec<_> = list.peers.iter().map(|e| e.peer).collect();
        named.sort();
        assert_eq!(named, [id(102), id(103)], "not itself");
        partners.answer(&mut world.turn(), LinkId(1));
        assert_eq!((world.outputs().len(), world.stats.queries_over_limit), (0, 1));
    }
}
