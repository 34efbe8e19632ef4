//! The overlay: members by eq. (1) from the index's answer, partners by tier.
//!
//! ```text
//!  index's answer --> members --draw by tier--> dial --> partners      limit of accepted links: eq. (2), repaired
//!                        ^                        | refused
//!                        +-- partners' partners --+  when members run out
//! ```
//! The answer is made by the index's own code (`index::sample::members`), the draw by the peer's (`rules::draw`), the
//! numbers by `Tuning`. A link is held by both sides. Left out: handshakes, periods, the exchange of the worst.

use std::net::SocketAddr;

use cache_core::peer_id::{PeerId, Tier};
use cache_core::prng::Prng;
use cache_core::proto::index::config::{IndexBounds, IndexConfig};
use cache_core::proto::index::sample;
use cache_core::proto::index::swarm::{Swarm, Swarms};
use cache_core::proto::peer::{Tuning, rules};
use cache_core::time::{Span, Time, WallClock};
use cache_core::units::{DomainId, StreamId};

use super::dice;
use super::places::Places;

/// How the index chooses whom it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// As it ships: tier by tier, a quarter at random.
    Tiers,
    /// The nearest in the square: a list sorted by exact location. For up to 20 000 nodes.
    Nearest,
    /// Uniformly at random.
    Random,
}

/// Most nodes for [`Answer::Nearest`], which looks at all pairs.
pub const NEAREST_NODES_MAX: u32 = 20_000;

const STREAM: StreamId = StreamId(1);

/// Who knows and who is linked to whom.
#[derive(Debug)]
pub struct Mesh {
    /// Links of a node at most: those that it dials and those that it accepts.
    room: usize,
    links: Vec<u32>,
    linked: Vec<u8>,
    accepted: Vec<u8>,
    member_room: usize,
    members: Vec<u32>,
    known: Vec<u8>,
    wanted: usize,
    accept: usize,
    /// Dials that were refused.
    pub refused: u64,
}

/// The index server's registry of all nodes.
pub struct Index {
    swarms: Swarms,
    want: usize,
    random_percent: usize,
    answer: Answer,
}

impl Index {
    /// A registry in which every node of `places` is listed.
    pub fn new(places: &Places, answer: Answer, tuning: &Tuning) -> Index {
        let config = IndexConfig::new(DomainId(0), WallClock::from_micros(0));
        let nodes = places.len() as usize;
        let bounds = IndexBounds {
            peers_max: nodes,
            peers_per_stream_max: nodes,
            peers_per_prefix_max: u32::MAX,
            ..IndexBounds::default()
        };
        let mut swarms = Swarms::new(bounds, Span::from_secs(3_600));
        if answer == Answer::Tiers {
            for (node, id) in places.ids.iter().enumerate() {
                let addr = SocketAddr::from(((0x0a00_0000 + node as u32).to_be_bytes(), 1));
                let joined = swarms.join(Time::ZERO, STREAM, *id, addr, Some(addr));
                debug_assert!(joined.is_ok(), "the bounds are the number of nodes");
            }
        }
        let want = tuning.members_wanted(places.len()).min(cache_core::limits::MEMBERS_PER_ANSWER_MAX);
        Index { swarms, want, random_percent: config.random_members_percent, answer }
    }

    fn answer(&self, places: &Places, me: u32, rng: &mut Prng) -> Vec<u32> {
        match self.answer {
            Answer::Tiers => self.by_tiers(places, self.swarms.get(STREAM), me, rng),
            Answer::Nearest => nearest(places, me, self.want),
            Answer::Random => {
                let mut chosen = Vec::with_capacity(self.want);
                while chosen.len() < self.want.min(places.len() as usize - 1) {
                    let node = rng.below(places.len() as usize) as u32;
                    if node != me && !chosen.contains(&node) {
                        chosen.push(node);
                    }
                }
                chosen
            }
        }
    }

    fn by_tiers(&self, places: &Places, swarm: Option<&Swarm>, me: u32, rng: &mut Prng) -> Vec<u32> {
        let Some(swarm) = swarm else { return Vec::new() };
        let entries = sample::members(swarm, places.ids[me as usize], self.want, self.random_percent, rng);
        entries.iter().filter_map(|entry| places.node(entry.peer)).collect()
    }
}

fn nearest(places: &Places, me: u32, want: usize) -> Vec<u32> {
    let mut all: Vec<(f64, u32)> =
        (0..places.len()).filter(|n| *n != me).map(|n| (places.distance(me, n), n)).collect();
    if want < all.len() {
        all.select_nth_unstable_by(want, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(want);
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().map(|(_, node)| node).collect()
}

impl Mesh {
    /// Every node asks `index`, then all dial in turn, one dial each per round, until nobody gets further.
    pub fn build(places: &Places, index: &Index, tuning: &Tuning, stream_kbps: u64, seed: u64, threads: usize) -> Mesh {
        let nodes = places.len();
        let (wanted, accept) = (tuning.partners_wanted(nodes), tuning.accepted_limit(nodes, stream_kbps));
        let (room, member_room) = ((wanted + accept).min(255), index.want);
        let count = nodes as usize;
        let mut mesh = Mesh {
            room,
            links: vec![0; count * room],
            linked: vec![0; count],
            accepted: vec![0; count],
            member_room,
            members: vec![0; count * member_room],
            known: vec![0; count],
            wanted: wanted.min(room).min(count.saturating_sub(1)),
            accept,
            refused: 0,
        };
        mesh.ask_all(places, index, seed, threads);
        let mut order: Vec<u32> = (0..nodes).collect();
        dice(seed, 1, u32::MAX).shuffle(&mut order);
        for _ in 0..2 * mesh.wanted {
            if !order.iter().fold(false, |any, node| mesh.dial(places, *node, seed) | any) {
                break;
            }
        }
        mesh
    }

    fn ask_all(&mut self, places: &Places, index: &Index, seed: u64, threads: usize) {
        let (room, nodes) = (self.member_room, places.ids.len());
        let share = nodes.div_ceil(threads.max(1));
        std::thread::scope(|scope| {
            let rows = self.members.chunks_mut(share * room).zip(self.known.chunks_mut(share));
            for (part, (members, known)) in rows.enumerate() {
                scope.spawn(move || {
                    for (i, (row, known)) in members.chunks_mut(room).zip(known).enumerate() {
                        let me = (part * share + i) as u32;
                        let named = index.answer(places, me, &mut dice(seed, 2, me));
                        row[..named.len()].copy_from_slice(&named);
                        *known = named.len() as u8;
                    }
                });
            }
        });
    }

    /// The partners of `node`.
    pub fn partners(&self, node: u32) -> &[u32] {
        let start = node as usize * self.room;
        &self.links[start..start + self.linked[node as usize] as usize]
    }

    /// The members of `node`.
    pub fn members(&self, node: u32) -> &[u32] {
        let start = node as usize * self.member_room;
        &self.members[start..start + self.known[node as usize] as usize]
    }

    /// Whether `node` wants more partners.
    pub fn is_short(&self, node: u32) -> bool {
        (self.linked[node as usize] as usize) < self.wanted
    }

    /// One dial of `node`, if it wants partners and knows anybody; whether there is reason to try again.
    pub fn dial(&mut self, places: &Places, node: u32, seed: u64) -> bool {
        if !self.is_short(node) {
            return false;
        }
        let me = places.ids[node as usize];
        if self.known[node as usize] == 0 && !self.hear_of_partners_partners(node, seed) {
            return false;
        }
        let id = |n: &u32| places.ids[*n as usize];
        let nearest = self.partners(node).iter().map(|n| me.tier(id(n))).max().unwrap_or(Tier::ELSEWHERE);
        let any_outside = self.partners(node).iter().any(|n| me.tier(id(n)) < nearest);
        let last_place = self.linked[node as usize] as usize + 1 == self.wanted;
        let outside = (last_place && !any_outside).then_some(nearest);
        let free: Vec<PeerId> = self.members(node).iter().map(id).collect();
        let mut rng =
            dice(seed, 3 + u64::from(self.known[node as usize]) * 256 + self.linked[node as usize] as u64, node);
        let Some(drawn) = rules::draw(me, &free, outside, &mut rng) else { return false };
        if let Some(place) = free.iter().position(|id| *id == drawn) {
            let other = self.members(node)[place];
            self.forget(node, place);
            if !self.partners(node).contains(&other) && !self.link(node, other) {
                self.refused += 1;
            }
        }
        true
    }

    fn forget(&mut self, node: u32, place: usize) {
        let (start, last) = (node as usize * self.member_room, self.known[node as usize] as usize - 1);
        self.members.swap(start + place, start + last);
        self.known[node as usize] -= 1;
    }

    fn link(&mut self, from: u32, to: u32) -> bool {
        let (f, t) = (from as usize, to as usize);
        let full = self.accepted[t] as usize >= self.accept || self.linked[t] as usize >= self.room;
        if full || self.linked[f] as usize >= self.room || from == to {
            return false;
        }
        self.links[f * self.room + self.linked[f] as usize] = to;
        self.links[t * self.room + self.linked[t] as usize] = from;
        self.linked[f] += 1;
        self.linked[t] += 1;
        self.accepted[t] += 1;
        true
    }

    /// A node without members asks a partner for its partners.
    fn hear_of_partners_partners(&mut self, node: u32, seed: u64) -> bool {
        let mut rng = dice(seed, 4 + u64::from(self.linked[node as usize]), node);
        let partners = self.partners(node);
        let Some(asked) = partners.get(rng.below(partners.len())) else { return false };
        let mut heard: Vec<u32> =
            self.partners(*asked).iter().copied().filter(|n| *n != node && !partners.contains(n)).collect();
        heard.truncate(self.member_room);
        let start = node as usize * self.member_room;
        self.members[start..start + heard.len()].copy_from_slice(&heard);
        self.known[node as usize] = heard.len() as u8;
        !heard.is_empty()
    }

    /// `node` goes and somebody else comes in its place: links end on both sides, and the newcomer asks the index.
    pub fn replace(&mut self, places: &Places, index: &Index, node: u32, rng: &mut Prng) {
        for other in self.partners(node).to_vec() {
            let start = other as usize * self.room;
            let last = self.linked[other as usize] as usize - 1;
            if let Some(place) = self.partners(other).iter().position(|n| *n == node) {
                self.links.swap(start + place, start + last);
                self.linked[other as usize] -= 1;
                self.accepted[other as usize] = self.accepted[other as usize].saturating_sub(1);
            }
        }
        (self.linked[node as usize], self.accepted[node as usize]) = (0, 0);
        let named = index.answer(places, node, rng);
        let start = node as usize * self.member_room;
        self.members[start..start + named.len()].copy_from_slice(&named);
        self.known[node as usize] = named.len() as u8;
    }

    /// Mean distance of partners, the paper's delay factor.
    pub fn delay_factor(&self, places: &Places) -> f64 {
        self.mean_over_links(places.len(), |a, b| places.distance(a, b))
    }

    /// Share of links between different regions.
    pub fn inter_region_links(&self, places: &Places) -> f64 {
        let differ = |a: u32, b: u32| f64::from(places.region[a as usize] != places.region[b as usize]);
        self.mean_over_links(places.len(), differ)
    }

    /// Partners of a node, mean.
    pub fn partners_mean(&self) -> f64 {
        self.linked.iter().map(|n| f64::from(*n)).sum::<f64>() / self.linked.len().max(1) as f64
    }

    fn mean_over_links(&self, nodes: u32, of: impl Fn(u32, u32) -> f64) -> f64 {
        let all = (0..nodes).flat_map(|a| self.partners(a).iter().map(move |b| (a, *b)));
        let (sum, count) = all.fold((0.0, 0u64), |(sum, count), (a, b)| (sum + of(a, b), count + 1));
        sum / count.max(1) as f64
    }

    /// Bytes of the arrays.
    pub fn bytes(&self) -> usize {
        4 * (self.links.len() + self.members.len()) + self.linked.len() + self.accepted.len() + self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(answer: Answer, threads: usize) -> (Places, Mesh) {
        let places = Places::random(1_000, 4, 4, &mut Prng::new(7));
        let tuning = Tuning::default();
        let index = Index::new(&places, answer, &tuning);
        let mesh = Mesh::build(&places, &index, &tuning, 2_000, 5, threads);
        (places, mesh)
    }

    #[test]
    fn links_are_held_by_both_sides_and_nobody_is_short() {
        for answer in [Answer::Tiers, Answer::Nearest, Answer::Random] {
            let (places, mesh) = mesh(answer, 1);
            for node in 0..places.len() {
                let partners = mesh.partners(node);
                assert!(partners.len() >= 6, "{answer:?} {node}: {}", partners.len());
                assert!(partners.iter().all(|other| *other != node && mesh.partners(*other).contains(&node)));
                let distinct: std::collections::BTreeSet<_> = partners.iter().collect();
                assert_eq!(distinct.len(), partners.len());
            }
        }
    }

    #[test]
    fn what_the_index_answers_decides_how_near_partners_are() {
        let factor = |answer| {
            let (places, mesh) = mesh(answer, 1);
            mesh.delay_factor(&places)
        };
        let (near, tiers, random) = (factor(Answer::Nearest), factor(Answer::Tiers), factor(Answer::Random));
        assert!(near < tiers && tiers < random, "{near} {tiers} {random}");
        assert!((0.3..0.53).contains(&random), "{random}");
    }

    #[test]
    fn threads_change_nothing() {
        let ((_, one), (_, three)) = (mesh(Answer::Tiers, 1), mesh(Answer::Tiers, 3));
        assert_eq!(one.links, three.links);
    }

    #[test]
    fn who_is_replaced_leaves_no_link_behind() {
        let (places, mut mesh) = mesh(Answer::Tiers, 1);
        let index = Index::new(&places, Answer::Tiers, &Tuning::default());
        mesh.replace(&places, &index, 17, &mut Prng::new(1));
        assert!((0..places.len()).all(|node| !mesh.partners(node).contains(&17)));
        while mesh.dial(&places, 17, 99) {}
        assert!(!mesh.is_short(17));
    }
}
