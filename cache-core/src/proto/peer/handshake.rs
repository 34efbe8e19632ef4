//! From a TCP link to a partner: Hello, Welcome, and every reason for "no".
//!
//! ```text
//!  dialled:   Dialling --Connected--> Greeting --Welcome--> partner          each within handshake_ms
//!  accepted:                          Waiting  --Hello----> partner
//! ```
//! Of two links of one pair (both dialled at once) the one that the smaller PeerID made stays; both ends come to the
//! same decision without a word. A full peer answers with its own partner list, then refuses (paper, section 3.1.3).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::event::LinkId;
use super::members::Members;
use super::partners::{Partner, Partners};
use super::turn::Turn;
use crate::peer_id::PeerId;
use crate::time::Time;
use crate::units::{DomainId, StreamId};
use crate::wire::exchange::{Hello, PeerEntry, Role, Welcome};
use crate::wire::{Blob, Frame, RefusalReason};

/// Most accepted links whose Hello has not come. Our guess: with 5 s and a few hundred bytes each, not worth an attack.
const WAITING_MAX: usize = 16;

#[derive(Clone, Debug)]
enum Stage {
    Dialling(PeerEntry),
    Greeting(PeerEntry),
    Waiting(SocketAddr),
}

#[derive(Clone, Debug)]
struct Pending {
    stage: Stage,
    deadline: Time,
}

/// Who we are and what holds for new partners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ourselves {
    pub(super) id: PeerId,
    pub(super) stream: StreamId,
    /// Our domain; 0 before the route server told.
    pub(super) domain: DomainId,
    /// Accepted links at most (eq. (2)).
    pub(super) accepted_max: usize,
}

/// What a frame of a handshake led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing yet, or the link is closed.
    Nothing,
    /// A partner, whose link may replace an older one of the pair.
    Partner { partner: Box<Partner>, replaces: Option<LinkId> },
}

/// Links in their handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshakes(BTreeMap<LinkId, Pending>);

impl Handshakes {
    /// Links that we are making.
    pub(super) fn dialled(&self) -> usize {
        self.0.values().filter(|p| !matches!(p.stage, Stage::Waiting(_))).count()
    }

    pub(super) fn dial(&mut self, t: &mut Turn<'_>, to: PeerEntry) {
        let link = t.connect(to.addr);
        t.stats.dials += 1;
        self.0.insert(link, Pending { stage: Stage::Dialling(to), deadline: t.in_ms(t.tuning().handshake_ms) });
    }

    pub(super) fn accepted(&mut self, t: &mut Turn<'_>, link: LinkId, from: SocketAddr) {
        if self.0.values().filter(|p| matches!(p.stage, Stage::Waiting(_))).count() >= WAITING_MAX {
            t.stats.accepts_over_limit += 1;
            t.close(link);
            return;
        }
        self.0.insert(link, Pending { stage: Stage::Waiting(from), deadline: t.in_ms(t.tuning().handshake_ms) });
    }

    pub(super) fn connected(&mut self, t: &mut Turn<'_>, link: LinkId, us: &Ourselves) {
        let Some(pending) = self.0.get_mut(&link) else { return };
        if let Stage::Dialling(to) = &pending.stage {
            pending.stage = Stage::Greeting(to.clone());
            t.send(link, hello(t, us));
        }
    }

    /// The link is dead. Whether it was one of these.
    pub(super) fn closed(&mut self, t: &mut Turn<'_>, link: LinkId, members: &mut Members) -> bool {
        let Some(pending) = self.0.remove(&link) else { return false };
        if let Stage::Dialling(to) | Stage::Greeting(to) = pending.stage {
            t.stats.dials_failed += 1;
            members.avoid(to.addr, t.in_ms(t.tuning().redial_ms));
        }
        true
    }

    /// Ends what takes too long.
    pub(super) fn expire(&mut self, t: &mut Turn<'_>, members: &mut Members) {
        let late: Vec<LinkId> = self.0.iter().filter(|(_, p)| p.deadline <= t.now).map(|(link, _)| *link).collect();
        for link in late {
            t.stats.handshakes_late += 1;
            t.close(link);
            self.closed(t, link, members);
        }
    }

    /// When [`Handshakes::expire`] has something to do.
    pub(super) fn next_timeout(&self) -> Time {
        self.0.values().map(|p| p.deadline).min().unwrap_or(Time::NEVER)
    }

    /// All links, forgotten.
    pub(super) fn take_links(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.0).into_keys().collect()
    }

    /// Whether the link is in its handshake.
    pub(super) fn has(&self, link: LinkId) -> bool {
        self.0.contains_key(&link)
    }

    /// Takes in a frame; `None` when the link is not in its handshake.
    pub(super) fn frame(
        &mut self,
        t: &mut Turn<'_>,
        link: LinkId,
        frame: &Frame,
        us: &Ourselves,
        partners: &Partners,
        members: &mut Members,
    ) -> Option<Outcome> {
        let stage = self.0.get(&link)?.stage.clone();
        Some(match (stage, frame) {
            (Stage::Waiting(from), Frame::Hello(hello)) => {
                self.0.remove(&link);
                self.hello(t, link, from, hello, us, partners, members)
            }
            (Stage::Greeting(to), Frame::Welcome(welcome)) => {
                self.0.remove(&link);
                welcomed(t, link, &to, welcome, us, partners, members)
            }
            (Stage::Greeting(_), Frame::Partners(list)) => {
                list.peers.iter().filter(|e| e.peer != us.id).for_each(|e| members.learn(e, t.now));
                Outcome::Nothing
            }
            (Stage::Greeting(to), Frame::Refused(refused)) => {
                self.0.remove(&link);
                t.close(link);
                // Busy: the other link of the pair stays. Full: another time.
                if refused.reason != RefusalReason::Busy {
                    members.avoid(to.addr, t.in_ms(t.tuning().redial_ms));
                }
                if refused.reason == RefusalReason::Full {
                    members.learn(&to, t.now);
                }
                Outcome::Nothing
            }
            _ => {
                t.stats.frames_unexpected += 1;
                t.refuse(link, RefusalReason::BadMessage);
                self.closed(t, link, members);
                Outcome::Nothing
            }
        })
    }

    #[allow(clippy::too_many_arguments, reason = "one call site; the world of a handshake")]
    fn hello(
        &mut self,
        t: &mut Turn<'_>,
        link: LinkId,
        from: SocketAddr,
        hello: &Hello,
        us: &Ourselves,
        partners: &Partners,
        members: &mut Members,
    ) -> Outcome {
        let refusal = if hello.role != Role::Peer || hello.peer == PeerId::NONE {
            Some(RefusalReason::BadMessage)
        } else if hello.stream != us.stream {
            Some(RefusalReason::UnknownStream)
        } else if hello.domain != us.domain {
            // Peers of different domains exchange no data (paper, section 2), whoever told them of each other.
            Some(RefusalReason::OtherDomain)
        } else if us.id == PeerId::NONE || hello.peer == us.id {
            Some(RefusalReason::Busy)
        } else if members.is_banned(hello.peer, from.ip(), t.now) {
            Some(RefusalReason::BadSignature)
        } else {
            None
        };
        if let Some(reason) = refusal {
            t.stats.accepts_refused_other += 1;
            t.refuse(link, reason);
            return Outcome::Nothing;
        }
        let ours_stays = us.id < hello.peer;
        let replaces = match partners.link_of(hello.peer) {
            Some((_, true)) if ours_stays => return second_link(t, link),
            // Who only names a partner's id does not take its place.
            Some((older, _)) if !partners.is_at(older, from.ip()) => return second_link(t, link),
            Some((older, _)) => Some(older),
            None => None,
        };
        if let Some(dial) = self.dial_to(hello.peer) {
            if ours_stays {
                return second_link(t, link);
            }
            self.0.remove(&dial);
            t.close(dial);
        }
        if replaces.is_none() && partners.accepted() >= us.accepted_max {
            t.stats.accepts_refused_full += 1;
            let list = partners.list(t, hello.peer);
            t.send(link, list);
            t.refuse(link, RefusalReason::Full);
            return Outcome::Nothing;
        }
        t.send(link, Welcome { peer: us.id, nonce: [0; 16] });
        // Only the address that the link came from is believed: nobody is sent to a third party.
        let addr = hello.listen.map(|listen| SocketAddr::new(from.ip(), listen.port()));
        let partner = Box::new(Partner::new(t, (hello.peer, addr), addr.unwrap_or(from), false));
        Outcome::Partner { partner, replaces }
    }

    fn dial_to(&self, peer: PeerId) -> Option<LinkId> {
        let to_it = |p: &Pending| matches!(&p.stage, Stage::Dialling(to) | Stage::Greeting(to) if to.peer == peer);
        self.0.iter().find(|(_, pending)| to_it(pending)).map(|(link, _)| *link)
    }
}

/// What we say first on a link of our own.
pub(super) fn hello(t: &Turn<'_>, us: &Ourselves) -> Hello {
    Hello {
        role: Role::Peer,
        peer: us.id,
        stream: us.stream,
        domain: us.domain,
        listen: t.config.listen,
        ticket: Blob::default(),
    }
}

fn second_link(t: &mut Turn<'_>, link: LinkId) -> Outcome {
    t.stats.accepts_refused_other += 1;
    t.refuse(link, RefusalReason::Busy);
    Outcome::Nothing
}

fn welcomed(
    t: &mut Turn<'_>,
    link: LinkId,
    to: &PeerEntry,
    welcome: &Welcome,
    us: &Ourselves,
    partners: &Partners,
    members: &mut Members,
) -> Outcome {
    let peer = welcome.peer;
    // A cache, ourselves, or a peer that was banned: no partner.
    if peer == PeerId::NONE || peer == us.id || members.is_banned(peer, to.addr.ip(), t.now) {
        members.avoid(to.addr, t.in_ms(t.tuning().ban_ms));
        t.close(link);
        return Outcome::Nothing;
    }
    let replaces = partners.link_of(peer);
    let elsewhere = replaces.is_some_and(|(older, _)| !partners.is_at(older, to.addr.ip()));
    if elsewhere || replaces.is_some_and(|(_, dialled)| dialled || us.id > peer) {
        t.close(link);
        return Outcome::Nothing;
    }
    let partner = Box::new(Partner::new(t, (peer, Some(to.addr)), to.addr, true));
    Outcome::Partner { partner, replaces: replaces.map(|(older, _)| older) }
}

#[cfg(test)]
mod tests {
    use super::super::config::Tuning;
    use super::super::event::Output;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::wire::BufferMap;

    fn id(n: u64) -> PeerId {
        PeerId::from_bits(n).expect("small")
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn us(n: u64) -> Ourselves {
        Ourselves { id: id(n), stream: StreamId(1), domain: DomainId(1), accepted_max: 2 }
    }

    fn hello_of(n: u64) -> Frame {
        hello_from(DomainId(1), n)
    }

    fn hello_from(domain: DomainId, n: u64) -> Frame {
        let listen = Some(SocketAddr::from(([99, 9, 9, 9], 700)));
        let (role, stream, ticket) = (Role::Peer, StreamId(1), Blob::default());
        Hello { role, peer: id(n), stream, domain, listen, ticket }.into()
    }

    #[derive(Default)]
    struct Side {
        shakes: Handshakes,
        partners: Partners,
        members: Members,
    }

    impl Side {
        /// Accepts a link and its Hello; what was said, and the partner if it became one.
        fn hello(&mut self, world: &mut TestWorld, us: &Ourselves, link: u32, frame: &Frame) -> Vec<&'static str> {
            let mut t = world.turn();
            self.shakes.accepted(&mut t, LinkId(link), addr(50_000));
            self.frame(world, us, link, frame)
        }

        fn frame(&mut self, world: &mut TestWorld, us: &Ourselves, link: u32, frame: &Frame) -> Vec<&'static str> {
            let mut t = world.turn();
            let link = LinkId(link);
            let outcome = self.shakes.frame(&mut t, link, frame, us, &self.partners, &mut self.members);
            let said = world.outputs().into_iter().filter_map(|o| match o {
                Output::Send { frame, .. } => Some(frame.name()),
                Output::Close { .. } => Some("close"),
                _ => None,
            });
            let said = said.collect();
            if let Some(Outcome::Partner { partner, replaces }) = outcome {
                replaces.map(|older| self.partners.remove(older));
                let mut t = world.turn();
                self.partners.add(&mut t, link, *partner, &BufferMap::new(Default::default()));
                world.outputs();
            }
            said
        }
    }

    #[test]
    fn a_hello_is_welcomed_and_only_the_address_seen_is_believed() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        assert_eq!(side.hello(&mut world, &us(1), 1, &hello_of(2)), ["Welcome"]);
        let partner = side.partners.get_mut(LinkId(1)).expect("a partner");
        assert_eq!((partner.id, partner.addr), (id(2), Some(addr(700))));
    }

    #[test]
    fn a_full_peer_names_others_and_refuses() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        for n in 2..=3 {
            side.hello(&mut world, &us(1), n as u32, &hello_of(n));
        }
        assert_eq!(side.hello(&mut world, &us(1), 4, &hello_of(4)), ["Partners", "Refused", "close"]);
        assert_eq!(world.stats.accepts_refused_full, 1);
        assert_eq!(side.hello(&mut world, &us(1), 5, &hello_of(3)), ["Welcome"], "a known pair's new link");
        assert_eq!(side.partners.links(), [LinkId(2), LinkId(5)]);
    }

    #[test]
    fn who_only_names_a_partners_id_does_not_take_its_place() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        assert_eq!(side.hello(&mut world, &us(1), 1, &hello_of(2)), ["Welcome"]);
        side.shakes.accepted(&mut world.turn(), LinkId(5), SocketAddr::from(([10, 0, 0, 66], 1)));
        assert_eq!(side.frame(&mut world, &us(1), 5, &hello_of(2)), ["Refused", "close"]);
        assert_eq!(side.partners.links(), [LinkId(1)]);
        // Nor does a wrong chunk under another's name get that one banned.
        side.members.ban(id(3), SocketAddr::from(([10, 0, 0, 66], 1)).ip(), Time::NEVER);
        assert_eq!(side.hello(&mut world, &us(1), 6, &hello_of(3)), ["Welcome"]);
    }

    #[test]
    fn of_two_links_of_a_pair_the_smaller_ids_stays() {
        for (me, other, said) in [(1, 2, vec!["Refused", "close"]), (2, 1, vec!["close", "Welcome"])] {
            let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
            let mut t = world.turn();
            side.shakes.dial(&mut t, PeerEntry { peer: id(other), addr: addr(1) });
            side.shakes.connected(&mut t, LinkId(1), &us(me));
            world.outputs();
            assert_eq!(side.hello(&mut world, &us(me), 9, &hello_of(other)), said, "we are {me}");
        }
    }

    #[test]
    fn a_peer_of_another_domain_is_no_partner() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        assert_eq!(side.hello(&mut world, &us(1), 1, &hello_from(DomainId(2), 2)), ["Refused", "close"]);
        assert_eq!(side.partners.len(), 0);
    }

    #[test]
    fn strangers_are_refused_with_the_reason() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        side.members.ban(id(4), addr(50_000).ip(), Time::NEVER);
        let mut other_stream = us(1);
        other_stream.stream = StreamId(2);
        for (us, frame) in [(us(1), hello_of(1)), (other_stream, hello_of(2)), (us(1), hello_of(4))] {
            assert_eq!(side.hello(&mut world, &us, 1, &frame), ["Refused", "close"]);
        }
        assert_eq!(world.stats.accepts_refused_other, 3);
        let nonsense = Welcome { peer: id(3), nonce: [0; 16] }.into();
        assert_eq!(side.hello(&mut world, &us(1), 1, &nonsense), ["Refused", "close"]);
        assert_eq!(world.stats.frames_unexpected, 1);
    }

    #[test]
    fn slow_handshakes_and_too_many_of_them_end() {
        let (mut world, mut side) = (TestWorld::new(Tuning::default()), Side::default());
        for link in 0..20 {
            side.shakes.accepted(&mut world.turn(), LinkId(link), addr(5));
        }
        assert_eq!((world.stats.accepts_over_limit, world.outputs().len()), (4, 4));
        world.pass(3_000);
        side.shakes.expire(&mut world.turn(), &mut side.members);
        assert_eq!((world.stats.handshakes_late, world.outputs().len()), (16, 16));
    }
}
