//! The neighbourhood: members, links in their handshake and partners together, and what moves a peer between them.
//!
//! ```text
//!  heard of --learn--> members --dial--> handshakes --Welcome--> partners
//!                         ^                  ^ accepted             |
//!                         +------- exchanged, or full there --------+
//!                                  silent, lost, wrong: gone, and left alone for a while
//! ```

use super::config::Tuning;
use super::event::LinkId;
use super::handshake::Handshakes;
use super::members::Members;
use super::partners::{Partner, Partners};
use super::turn::Turn;
use crate::peer_id::{PeerId, Tier};
use crate::time::{Span, Time};
use crate::wire::exchange::{Leave, PeerEntry};
use crate::wire::{BufferMap, RefusalReason};

/// How long a peer that left too much unanswered is no partner. Our guess: most sessions are over by then or nearly so.
const STRUCK_PAUSE: Span = Span::from_secs(60);

/// Everybody that a peer knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbourhood {
    pub(super) members: Members,
    pub(super) handshakes: Handshakes,
    pub(super) partners: Partners,
}

impl Neighbourhood {
    /// Ends links that are late, silent or low, dials members, tells partners what is new. Gives the links that are
    /// partners' no longer. `size` is N, `map` what we hold.
    pub(super) fn tick(&mut self, t: &mut Turn<'_>, me: PeerId, size: u32, map: &BufferMap) -> Vec<LinkId> {
        self.handshakes.expire(t, &mut self.members);
        let mut gone = self.partners.silent(t);
        for link in &gone {
            t.stats.partners_silent += 1;
            self.part(t, *link, RefusalReason::TooSlow);
        }
        for link in self.partners.lowest(t, me) {
            gone.push(link);
            if let Some(partner) = self.partners.remove(link) {
                t.close(link);
                self.remember(t, me, size, &partner);
            }
        }
        self.refill(t, me, size);
        let short = self.members.len() < self.members_wanted(t, size);
        self.partners.tick(t, map, short);
        gone
    }

    /// Whether more partners are wanted and exist, and nobody is left to dial.
    pub(super) fn is_lonely(&self, t: &Turn<'_>, size: u32) -> bool {
        let have = self.partners.len() + self.handshakes.dialled();
        have < t.tuning().partners_wanted(size) && have + 1 < size as usize
    }

    /// When [`Neighbourhood::tick`] has something to do that no input brings about.
    pub(super) fn next_timeout(&self, tuning: &Tuning) -> Time {
        self.handshakes.next_timeout().min(self.partners.next_timeout(tuning))
    }

    /// Peers that somebody named: members, unless they are partners or ourselves.
    pub(super) fn learn(&mut self, t: &mut Turn<'_>, me: PeerId, size: u32, entries: &[PeerEntry]) {
        for entry in entries.iter().filter(|e| e.peer != me && self.partners.link_of(e.peer).is_none()) {
            self.members.learn(entry, t.now);
        }
        self.members.evict(t, me, t.tuning().members_wanted(size));
    }

    /// Ends a partnership from our side.
    pub(super) fn part(&mut self, t: &mut Turn<'_>, link: LinkId, reason: RefusalReason) {
        if let Some(partner) = self.partners.remove(link) {
            t.send(link, Leave { reason });
            t.close(link);
            self.avoid(t, &partner);
        }
    }

    /// Ends a partnership with who left too much unanswered: too slow, or a liar. It is not taken back for a while.
    pub(super) fn strike(&mut self, t: &mut Turn<'_>, link: LinkId) {
        if let Some(partner) = self.partners.get_mut(link) {
            let (peer, ip) = (partner.id, partner.source.ip());
            self.members.ban(peer, ip, t.now.after(STRUCK_PAUSE));
            self.part(t, link, RefusalReason::TooSlow);
        }
    }

    /// The other side has ended it, or the link broke. `full`: it would have us again.
    pub(super) fn lost(&mut self, t: &mut Turn<'_>, link: LinkId, me: PeerId, size: u32, full: bool) {
        if let Some(partner) = self.partners.remove(link) {
            t.stats.partners_lost += 1;
            if full {
                self.remember(t, me, size, &partner);
            } else {
                self.avoid(t, &partner);
            }
        }
    }

    /// A partner sent a wrong chunk.
    pub(super) fn ban(&mut self, t: &mut Turn<'_>, link: LinkId) {
        if let Some(partner) = self.partners.remove(link) {
            t.stats.peers_banned += 1;
            let until = t.in_ms(t.tuning().ban_ms);
            self.members.ban(partner.id, partner.source.ip(), until);
            if let Some(addr) = partner.addr {
                self.members.avoid(addr, until);
            }
            t.refuse(link, RefusalReason::BadSignature);
        }
    }

    /// Dials members until there are enough partners; the last place is for one from outside the nearest tier.
    fn refill(&mut self, t: &mut Turn<'_>, me: PeerId, size: u32) {
        let wanted = t.tuning().partners_wanted(size);
        let nearest = self.partners.ids().map(|id| me.tier(id)).max().unwrap_or(Tier::ELSEWHERE);
        // Who has nobody at all was cut off, most likely, and not all the others gone: it tries them again sooner.
        let sooner = if self.partners.len() == 0 { t.tuning().redial_ms / 3 * 2 } else { 0 };
        while me != PeerId::NONE && self.partners.len() + self.handshakes.dialled() < wanted {
            let last_place = self.partners.len() + self.handshakes.dialled() + 1 == wanted;
            let outside = (last_place && !self.partners.any_outside(me, nearest)).then_some(nearest);
            let Some(entry) = self.members.pick(t.in_ms(sooner), me, outside, t.rng) else { return };
            self.handshakes.dial(t, entry);
        }
    }

    /// Eq. (1), as far as so many exist.
    fn members_wanted(&self, t: &Turn<'_>, size: u32) -> usize {
        t.tuning().members_wanted(size).min((size as usize).saturating_sub(1 + self.partners.len()))
    }

    /// A former partner is a member again, to be dialled when its time has come.
    fn remember(&mut self, t: &mut Turn<'_>, me: PeerId, size: u32, partner: &Partner) {
        if let Some(addr) = partner.addr {
            self.learn(t, me, size, &[PeerEntry { peer: partner.id, addr }]);
        }
        self.avoid(t, partner);
    }

    fn avoid(&mut self, t: &Turn<'_>, partner: &Partner) {
        if let Some(addr) = partner.addr {
            self.members.avoid(addr, t.in_ms(t.tuning().redial_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::event::Output;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::units::ChunkSeq;

    fn entry(n: u16) -> PeerEntry {
        let peer = PeerId::from_bits(n.into()).expect("small");
        PeerEntry { peer, addr: SocketAddr::from(([10, 0, 0, 1], n)) }
    }

    /// The links that are dialled now.
    fn dials(near: &mut Neighbourhood, world: &mut TestWorld) -> Vec<LinkId> {
        near.partners.heard(LinkId(99), world.now);
        near.tick(&mut world.turn(), entry(1).peer, 10, &BufferMap::new(ChunkSeq::FIRST));
        let dial = |output| if let Output::Connect { link, .. } = output { Some(link) } else { None };
        world.outputs().into_iter().filter_map(dial).collect()
    }

    #[test]
    fn who_has_nobody_at_all_tries_those_again_sooner_who_did_not_answer() {
        for alone in [true, false] {
            let (mut world, mut near) = (TestWorld::new(Tuning::default()), Neighbourhood::default());
            if !alone {
                let mut t = world.turn();
                let partner = Partner::new(&t, (entry(9).peer, None), entry(9).addr, false);
                near.partners.add(&mut t, LinkId(99), partner, &BufferMap::new(ChunkSeq::FIRST));
            }
            near.members.learn(&entry(2), world.now);
            let first = dials(&mut near, &mut world);
            assert_eq!(first.len(), 1);
            near.handshakes.closed(&mut world.turn(), first[0], &mut near.members);
            near.members.learn(&entry(2), world.now);
            let mut again = |ms| {
                world.pass(ms);
                dials(&mut near, &mut world).len()
            };
            assert_eq!([again(3_000), again(400)], [0, usize::from(alone)], "alone: {alone}");
            assert_eq!(again(6_600), usize::from(!alone), "after 10 s by everybody");
        }
    }
}
