//! Members: the peers heard of and not connected (paper, section 3.1.4), and who of them is dialled next.
//!
//! About 3 ln N are kept. Above that the longest unheard goes, then the farthest; the last member outside the nearest
//! tier stays, so that regions remain connected. Peers that did not take a link are left alone for a while, peers that
//! sent a wrong chunk for long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::few::Few;
use super::turn::Turn;
use crate::peer_id::{PeerId, Tier};
use crate::prng::Prng;
use crate::time::Time;
use crate::wire::exchange::PeerEntry;

/// Most members, whatever comes between two evictions: eq. (1) for the greatest N, an answer of the index and two
/// partner lists.
const MEMBERS_MAX: usize = 192;

/// Most banned peers, and most addresses remembered as failed: the entry that ends first makes room. Our guess.
const REMEMBERED_MAX: usize = 128;

#[derive(Clone, Copy, Debug)]
struct Member {
    addr: SocketAddr,
    heard: Time,
}

/// The member list, the banned, and the addresses to leave alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    known: Few<PeerId, Member>,
    /// By id and address: who only names another's id must not get that one banned.
    banned: BTreeMap<(PeerId, IpAddr), Time>,
    avoided: BTreeMap<SocketAddr, Time>,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.known.keys().copied()
    }

    /// `entry` was heard of at `now`. The address of a known member stays: hearsay does not move it, a dial that fails
    /// removes it.
    pub(super) fn learn(&mut self, entry: &PeerEntry, now: Time) {
        if let Some(member) = self.known.get_mut(&entry.peer) {
            member.heard = now;
        } else if entry.peer != PeerId::NONE
            && !self.is_banned(entry.peer, entry.addr.ip(), now)
            && self.known.len() < MEMBERS_MAX
        {
            self.known.insert(entry.peer, Member { addr: entry.addr, heard: now });
        }
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        self.known.remove(&peer);
    }

    /// Keeps `wanted` members.
    pub(super) fn evict(&mut self, t: &mut Turn<'_>, me: PeerId, wanted: usize) {
        while self.known.len() > wanted {
            let nearest = self.known.keys().map(|id| me.tier(*id)).max().unwrap_or(Tier::ELSEWHERE);
            let outside = self.known.keys().filter(|id| me.tier(**id) < nearest).count();
            let victim = self
                .known
                .iter()
                .filter(|(id, _)| outside != 1 || me.tier(**id) == nearest)
                .min_by_key(|(id, member)| (member.heard, me.tier(**id), t.rng.next_u64()))
                .map(|(id, _)| *id);
            let Some(victim) = victim else { return };
            self.known.remove(&victim);
            t.stats.members_evicted += 1;
        }
    }

    /// A member to dial, taken out of the list: at random from the best tier that has any; from any other tier when
    /// `outside` one is asked for and there is one.
    pub(super) fn pick(&mut self, now: Time, me: PeerId, outside: Option<Tier>, rng: &mut Prng) -> Option<PeerEntry> {
        self.avoided.retain(|_, until| *until > now);
        let free = |(id, m): (&PeerId, &Member)| (!self.avoided.contains_key(&m.addr)).then_some(*id);
        let free: Vec<PeerId> = self.known.iter().filter_map(free).collect();
        let peer = draw(me, &free, outside, rng)?;
        self.known.remove(&peer).map(|member| PeerEntry { peer, addr: member.addr })
    }

    /// Leaves an address alone until then.
    pub(super) fn avoid(&mut self, addr: SocketAddr, until: Time) {
        make_room(&mut self.avoided, addr);
        self.avoided.insert(addr, until);
    }

    /// Refuses a peer at an address until then.
    pub(super) fn ban(&mut self, peer: PeerId, ip: IpAddr, until: Time) {
        if self.known.get(&peer).is_some_and(|member| member.addr.ip() == ip) {
            self.forget(peer);
        }
        make_room(&mut self.banned, (peer, ip));
        self.banned.insert((peer, ip), until);
    }

    pub(super) fn is_banned(&self, peer: PeerId, ip: IpAddr, now: Time) -> bool {
        self.banned.get(&(peer, ip)).is_some_and(|until| *until > now)
    }
}

/// One of `free`: at random from the best tier that has any; when `outside` is given and somebody is farther than that
/// tier, at random from those.
pub fn draw(me: PeerId, free: &[PeerId], outside: Option<Tier>, rng: &mut Prng) -> Option<PeerId> {
    let best = free.iter().map(|id| me.tier(*id)).max()?;
    let mut choice: Vec<PeerId> = match outside {
        Some(nearest) => free.iter().copied().filter(|id| me.tier(*id) < nearest).collect(),
        None => Vec::new(),
    };
    if choice.is_empty() {
        choice = free.iter().copied().filter(|id| me.tier(*id) == best).collect();
    }
    choice.get(rng.below(choice.len())).copied()
}

fn make_room<K: Ord + Copy>(map: &mut BTreeMap<K, Time>, for_key: K) {
    if map.len() >= REMEMBERED_MAX
        && !map.contains_key(&for_key)
        && let Some(first) = map.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key)
    {
        map.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Tuning;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::peer_id::Location;

    fn at(area: u16, node: u16) -> PeerEntry {
        let location = Location { country: 86, carrier: 1, region: 1, city: 1, area };
        PeerEntry { peer: PeerId::new(location, node), addr: SocketAddr::from(([127, 0, 0, 1], area * 100 + node)) }
    }

    const NOW: Time = Time::from_millis(1_000);

    #[test]
    fn the_nearest_tier_is_dialled_first_at_random() {
        let me = at(1, 0).peer;
        let mut picked = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mut members = Members::default();
            [at(1, 1), at(1, 2), at(2, 1)].iter().for_each(|e| members.learn(e, NOW));
            let first = members.pick(NOW, me, None, &mut Prng::new(seed)).expect("there are three");
            assert_eq!(me.tier(first.peer), Tier::SAME_AREA);
            assert_eq!(members.len(), 2, "who is dialled is no longer a member");
            picked.insert(first.peer);
        }
        assert_eq!(picked.len(), 2);
    }

    #[test]
    fn one_from_outside_when_asked_for() {
        let me = at(1, 0).peer;
        let mut members = Members::default();
        [at(1, 1), at(2, 1)].iter().for_each(|e| members.learn(e, NOW));
        let mut pick = || members.pick(NOW, me, Some(Tier::SAME_AREA), &mut Prng::new(1)).map(|e| e.peer);
        assert_eq!(pick(), Some(at(2, 1).peer));
        assert_eq!(pick(), Some(at(1, 1).peer), "none is left outside");
    }

    #[test]
    fn a_peer_that_took_no_link_is_left_alone_for_a_while() {
        let me = at(1, 0).peer;
        let mut members = Members::default();
        members.learn(&at(1, 1), NOW);
        members.avoid(at(1, 1).addr, Time::from_millis(2_000));
        assert_eq!(members.pick(Time::from_millis(1_999), me, None, &mut Prng::new(1)), None);
        assert_eq!(members.pick(Time::from_millis(2_000), me, None, &mut Prng::new(1)), Some(at(1, 1)));
    }

    #[test]
    fn the_longest_unheard_goes_then_the_farthest_but_not_the_last_outsider() {
        let me = at(1, 0).peer;
        let mut world = TestWorld::new(Tuning::default());
        let mut members = Members::default();
        members.learn(&at(2, 1), Time::from_millis(1));
        members.learn(&at(1, 1), Time::from_millis(2));
        members.learn(&at(1, 2), Time::from_millis(3));
        members.evict(&mut world.turn(), me, 2);
        assert_eq!(members.ids().collect::<Vec<_>>(), [at(1, 2).peer, at(2, 1).peer]);
        assert_eq!(world.stats.members_evicted, 1);
        members.learn(&at(3, 1), Time::from_millis(3));
        members.learn(&at(2, 1), Time::from_millis(3));
        members.evict(&mut world.turn(), me, 2);
        assert_eq!(members.len(), 2);
        assert!(members.ids().any(|id| id == at(1, 2).peer), "all heard of at once: the far ones go");
    }

    #[test]
    fn the_banned_are_not_learned_again_and_the_list_of_them_is_bounded() {
        let mut members = Members::default();
        members.learn(&at(1, 1), NOW);
        members.ban(at(1, 1).peer, at(1, 1).addr.ip(), Time::from_millis(5_000));
        members.learn(&at(1, 1), Time::from_millis(4_999));
        assert_eq!(members.len(), 0);
        members.learn(&at(1, 1), Time::from_millis(5_000));
        assert_eq!(members.len(), 1);
        for node in 0..1_000 {
            members.ban(at(9, node).peer, at(9, node).addr.ip(), Time::from_millis(9_000));
        }
        assert_eq!(members.banned.len(), REMEMBERED_MAX);
    }
}
