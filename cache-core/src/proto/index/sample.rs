//! Which peers a peer is told of: the nearest by PeerId, tier by tier and at random inside a tier, and a share from anywhere.
//!
//! Only an index that answers by location gives the paper's figures 5 to 8 (paper, decoded, section 6). A tier is a range of
//! the map that is ordered by PeerId, so that the nearest peers are found without looking at the others:
//!
//! ```text
//!  PeerId   ....[ country [ carrier [ region [ city [ area  me  ] ] ] ] ]....
//!                                            4 ^---- 5: same area
//! ```
//! A tier of few peers is collected and shuffled. In a tier of many one is drawn by descending field by field: a random
//! country, in it a random carrier, and so on to the area; there by a jump to a random number and some random steps, which
//! even out the gaps between numbers.

use std::collections::BTreeSet;

use super::swarm::Swarm;
use crate::peer_id::{PeerId, Tier};
use crate::prng::Prng;
use crate::wire::exchange::PeerEntry;

/// Peers of a tier up to which all are collected. Our guess: three answers' worth.
const COLLECT_MAX: usize = 128;

/// Most steps after a jump into an area. A peer's odds follow the sum of as many gaps in front of it: with 64 random
/// ones they differ by an eighth.
const STEPS: usize = 64;

/// Draws per wanted peer before a tier is given up (draws of peers that are already chosen or not listed).
const DRAWS_PER_PEER: usize = 4;

/// Bits below the fields that two peers of a tier share.
const fn free_bits(tier: u8) -> u32 {
    [56, 48, 44, 38, 32, 16][tier as usize]
}

/// At most `want` peers of `swarm` for `me`: the nearest first, behind them `random_percent` of the answer drawn from the
/// whole stream. Never `me`, nobody twice, only peers with a proved address.
pub fn members(swarm: &Swarm, me: PeerId, want: usize, random_percent: usize, rng: &mut Prng) -> Vec<PeerEntry> {
    let mut picked = Picked { swarm, me, chosen: BTreeSet::new(), entries: Vec::new() };
    let random = (want * random_percent).div_ceil(100).min(want);
    for tier in (Tier::ELSEWHERE.0..=Tier::SAME_AREA.0).rev() {
        picked.nearest_of_tier(tier, want - random, rng);
    }
    for _ in 0..random * DRAWS_PER_PEER {
        if picked.entries.len() >= want {
            break;
        }
        if let Some(id) = swarm.order().get(rng.below(swarm.size())) {
            picked.take(*id);
        }
    }
    picked.entries
}

struct Picked<'a> {
    swarm: &'a Swarm,
    me: PeerId,
    chosen: BTreeSet<PeerId>,
    entries: Vec<PeerEntry>,
}

impl Picked<'_> {
    /// Takes `id` unless it is `me`, taken, or not listed.
    fn take(&mut self, id: PeerId) {
        let listed = self.swarm.peers().get(&id).and_then(|peer| peer.listed);
        if let Some(addr) = listed
            && id != self.me
            && self.chosen.insert(id)
        {
            self.entries.push(PeerEntry { peer: id, addr });
        }
    }

    /// Fills the entries up to `until` from the peers that share `tier`'s fields with `me` and no more.
    fn nearest_of_tier(&mut self, tier: u8, until: usize, rng: &mut Prng) {
        if self.entries.len() >= until {
            return;
        }
        let shell = shell(self.me.bits(), tier);
        let peers = self.swarm.peers();
        let inside = shell.iter().flat_map(|(low, high)| peers.range(key(*low)..=key(*high)));
        let mut few: Vec<PeerId> = inside.take(COLLECT_MAX + 1).map(|(id, _)| *id).collect();
        if few.len() <= COLLECT_MAX {
            rng.shuffle(&mut few);
            for id in few {
                if self.entries.len() < until {
                    self.take(id);
                }
            }
            return;
        }
        for _ in 0..(until - self.entries.len()) * DRAWS_PER_PEER {
            if self.entries.len() >= until {
                return;
            }
            let (low, high) = shell[rng.below(shell.len())];
            if let Some(id) = draw(self.swarm, low, high, rng) {
                self.take(id);
            }
        }
    }
}

/// The ranges of ids that share exactly `tier` fields with `me`.
fn shell(me: u64, tier: u8) -> Vec<(u64, u64)> {
    let range = |free: u32| {
        let low = me >> free << free;
        (low, low | ((1 << free) - 1))
    };
    let (low, high) = range(free_bits(tier));
    if tier == Tier::SAME_AREA.0 {
        return vec![(low, high)];
    }
    let (inner_low, inner_high) = range(free_bits(tier + 1));
    let mut sides = Vec::with_capacity(2);
    if low < inner_low {
        sides.push((low, inner_low - 1));
    }
    if inner_high < high {
        sides.push((inner_high + 1, high));
    }
    sides
}

/// A random peer with an id in `low..=high`.
fn draw(swarm: &Swarm, mut low: u64, mut high: u64, rng: &mut Prng) -> Option<PeerId> {
    let peers = swarm.peers();
    let behind =
        |point: u64, low: u64, high: u64| peers.range(key(point)..=key(high)).chain(peers.range(key(low)..=key(high)));
    for free in [48, 44, 38, 32, 16] {
        if low >> free == high >> free {
            continue;
        }
        let point = low + rng.below((high - low + 1) as usize) as u64;
        let at = behind(point, low, high).next()?.0.bits() >> free << free;
        (low, high) = (low.max(at), high.min(at | ((1 << free) - 1)));
    }
    let point = low + rng.below((high - low + 1) as usize) as u64;
    behind(point, low, high).take(rng.below(STEPS) + 1).last().map(|(id, _)| *id)
}

fn key(bits: u64) -> PeerId {
    PeerId::from_bits(bits).unwrap_or(PeerId::NONE)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::peer_id::Location;
    use crate::prng::mix;
    use crate::proto::index::config::IndexBounds;
    use crate::proto::index::swarm::Swarms;
    use crate::time::{Span, Time};
    use crate::units::StreamId;

    const NEWS: StreamId = StreamId(1);

    fn at(country: u8, city: u8, area: u16, node: u16) -> PeerId {
        PeerId::new(Location { country, carrier: 1, region: 1, city, area }, node)
    }

    fn swarm_of(ids: impl IntoIterator<Item = PeerId>) -> Swarms {
        let mut swarms =
            Swarms::new(IndexBounds { peers_per_prefix_max: u32::MAX, ..IndexBounds::default() }, Span::from_secs(15));
        for (n, id) in ids.into_iter().enumerate() {
            let addr = SocketAddr::from(((0x0a00_0000 + n as u32).to_be_bytes(), 1));
            swarms.join(Time::ZERO, NEWS, id, addr, Some(addr)).expect("room");
        }
        swarms
    }

    fn tiers(swarms: &Swarms, me: PeerId, want: usize, random: usize) -> Vec<u8> {
        let swarm = swarms.get(NEWS).expect("a swarm");
        members(swarm, me, want, random, &mut Prng::new(5)).iter().map(|entry| me.tier(entry.peer).0).collect()
    }

    #[test]
    fn the_nearest_come_first_tier_by_tier() {
        let me = at(86, 1, 1, 0);
        let near = [at(86, 1, 1, 7), at(86, 1, 1, 9)];
        let city = [at(86, 1, 2, 7), at(86, 1, 0, 7)];
        let far = [at(1, 1, 1, 7), at(200, 1, 1, 7)];
        let swarms = swarm_of([me].into_iter().chain(far).chain(city).chain(near));
        assert_eq!(tiers(&swarms, me, 40, 0), [5, 5, 4, 4, 0, 0]);
        assert_eq!(tiers(&swarms, me, 3, 0), [5, 5, 4]);
    }

    #[test]
    fn a_crowded_area_still_leaves_room_for_others() {
        let me = at(86, 1, 1, 0);
        let swarms = swarm_of((0..1_000).map(|n| at(86, 1, 1, n)).chain((0..1_000).map(|n| at(1, 1, 1, n))));
        let tiers = tiers(&swarms, me, 40, 25);
        assert_eq!(tiers.len(), 40);
        assert!(tiers[..30].iter().all(|tier| *tier == 5), "{tiers:?}");
        assert!(tiers[30..].contains(&0), "a share from anywhere: {tiers:?}");
    }

    #[test]
    fn never_oneself_nor_the_unlisted_nor_anybody_twice() {
        let me = at(86, 1, 1, 0);
        let mut swarms = swarm_of((0..300).map(|n| at(86, 1, 1, n)));
        let hidden = at(86, 1, 1, 60_000);
        swarms.join(Time::ZERO, NEWS, hidden, "10.9.9.9:1".parse().expect("an address"), None).expect("room");
        for seed in 0..200 {
            let swarm = swarms.get(NEWS).expect("a swarm");
            let entries = members(swarm, me, 40, 25, &mut Prng::new(seed));
            let ids: BTreeSet<PeerId> = entries.iter().map(|entry| entry.peer).collect();
            assert_eq!(ids.len(), entries.len());
            assert!(!ids.contains(&me) && !ids.contains(&hidden));
        }
    }

    #[test]
    fn inside_a_tier_everybody_is_drawn_about_equally() {
        let me = at(86, 1, 1, 0);
        let swarms = swarm_of((1..=400u32).map(|n| at(86, 1, 1, (mix(u64::from(n)) >> 48) as u16)));
        let swarm = swarms.get(NEWS).expect("a swarm");
        let mut drawn = std::collections::BTreeMap::new();
        for seed in 0..4_000 {
            for entry in members(swarm, me, 10, 0, &mut Prng::new(seed)) {
                *drawn.entry(entry.peer).or_insert(0u32) += 1;
            }
        }
        // 40 000 draws of 400: 100 each, within what gaps and chance do to it.
        assert_eq!(drawn.len(), 400);
        assert!(drawn.values().all(|n| (50..200).contains(n)), "{drawn:?}");
    }
}
