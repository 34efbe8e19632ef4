//! The steps of a cycle.

use std::sync::atomic::Ordering::Relaxed;

use cache_core::prng::Prng;
use cache_core::proto::peer::event::LinkId;
use cache_core::proto::peer::rules::{self, Slots, Source};
use cache_core::time::Span;
use cache_core::units::{CHUNK_SPAN, ChunkSeq};

use super::super::dice;
use super::super::mesh::Index;
use super::{Ask, Asks, CREDIT_CYCLES, Counts, REQUESTS, ROOM, Swarm, Viewer};

/// What each step draws from its own sequence.
const PLAN: u64 = 1 << 40;
const SERVE: u64 = 2 << 40;
const CACHE: u64 = 3 << 40;
const RENEW: u64 = 4 << 40;

impl Swarm<'_> {
    /// One cycle; `head` is the newest chunk.
    pub(super) fn cycle(&mut self, head: u32, index: Option<&Index>) -> Counts {
        let cycle = u64::from(head);
        let share = self.viewers.len().div_ceil(self.threads).max(1);
        let mut asks = std::mem::take(&mut self.asks);
        std::thread::scope(|scope| {
            for (part, rows) in asks.chunks_mut(share).enumerate() {
                let swarm = &*self;
                scope.spawn(move || swarm.plan_part((part * share) as u32, rows, head));
            }
        });
        self.asks = asks;
        let mut credit = std::mem::take(&mut self.credit);
        std::thread::scope(|scope| {
            for (part, rows) in credit.chunks_mut(share).enumerate() {
                let swarm = &*self;
                scope.spawn(move || swarm.serve_part((part * share) as u32, rows, cycle));
            }
        });
        self.credit = credit;
        let mut viewers = std::mem::take(&mut self.viewers);
        let mut counts = Counts::default();
        let mut parts: Vec<Counts> = Vec::new();
        std::thread::scope(|scope| {
            let swarm = &*self;
            let run = move |(part, rows): (usize, &mut [Viewer])| swarm.take_in_part((part * share) as u32, rows, head);
            let spawned: Vec<_> =
                viewers.chunks_mut(share).enumerate().map(|part| scope.spawn(move || run(part))).collect();
            let joined =
                spawned.into_iter().map(|thread| thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            parts.extend(joined);
        });
        self.viewers = viewers;
        parts.iter().for_each(|part| counts.add(part));
        self.cache_demand = counts.asked_of_cache;
        if let Some(index) = index {
            self.renew(head, index);
        }
        counts
    }

    fn plan_part(&self, first: u32, rows: &mut [Asks], head: u32) {
        let mut sources = Vec::new();
        for (i, asks) in rows.iter_mut().enumerate() {
            let node = first + i as u32;
            asks.len = 0;
            self.grants[node as usize].store(0, Relaxed);
            asks.announced = 0;
            if self.viewers[node as usize].began > 0 {
                self.plan_peer(node, head, &mut sources, asks);
            }
        }
    }

    /// What `node` asks: urgent first, earliest deadline first, then rarest first; each of the partner with most room.
    fn plan_peer(&self, node: u32, head: u32, sources: &mut Vec<Source>, asks: &mut Asks) {
        let (viewer, tuning) = (&self.viewers[node as usize], &self.plan.tuning);
        let partners = self.mesh.partners(node);
        let oldest = ChunkSeq::new(u64::from(head) - 63);
        asks.announced = partners.iter().fold(0, |all, p| all | self.viewers[*p as usize].map.held_from(oldest));
        let (base, newest) = (viewer.map.base(), ChunkSeq::new(u64::from(head)));
        let slot = |seq: ChunkSeq| seq.since(base).unwrap_or(0);
        let wanted = Slots::range(slot(viewer.position), slot(newest)).without(Slots::of(&viewer.map, base));
        sources.clear();
        sources.extend(partners.iter().map(|p| {
            let has = Slots::of(&self.viewers[*p as usize].map, base).and(wanted);
            Source { link: LinkId(*p), has, room: ROOM, takes_us: 1, turn: 1 }
        }));
        let there = sources.iter().fold(Slots::NONE, |all, source| all.or(source.has));
        let left_to_cache =
            |slot| self.plan.cdn && rules::needs_cache(left(base.ahead(slot), viewer.position), reserve(self), false);
        let zone_end = slot(viewer.position) + tuning.urgent_chunks();
        let (mut order, mut normal): (Vec<u64>, Vec<u64>) =
            there.iter().filter(|slot| !left_to_cache(*slot)).partition(|slot| *slot < zone_end);
        if order.is_empty() && normal.is_empty() {
            return;
        }
        let mut rng = dice(self.seed, PLAN | u64::from(head), node);
        if !normal.is_empty() {
            let holders = |slot| sources.iter().filter(|source| source.has.contains(slot)).count();
            rules::order(&mut normal, holders, &mut rng);
            order.extend(normal);
        }
        let mut chosen = Vec::with_capacity(order.len());
        rules::choose(&order, sources, &mut rng, &mut chosen);
        for (link, slot) in chosen.into_iter().take(REQUESTS) {
            asks.list[asks.len as usize] = Ask { partner: link.0, seq: base.ahead(slot).get() as u32 };
            asks.len += 1;
        }
    }

    fn serve_part(&self, first: u32, rows: &mut [f32], cycle: u64) {
        for (i, credit) in rows.iter_mut().enumerate() {
            let node = first + i as u32;
            let gain = self.uplink[node as usize];
            *credit = (*credit + gain).min((gain * CREDIT_CYCLES).max(1.0));
            if *credit >= 1.0 {
                self.serve(node, credit, cycle);
            }
        }
    }

    /// Grants partners' requests one each per round, beginning at a random partner, while there is credit.
    fn serve(&self, node: u32, credit: &mut f32, cycle: u64) {
        let partners = self.mesh.partners(node);
        let start = dice(self.seed, SERVE | cycle, node).below(partners.len());
        for round in 0..ROOM as usize {
            for i in 0..partners.len() {
                let partner = partners[(start + i) % partners.len()];
                let asks = &self.asks[partner as usize];
                let mine = asks.list[..asks.len as usize].iter().enumerate().filter(|(_, ask)| ask.partner == node);
                if let Some((bit, _)) = { mine }.nth(round) {
                    self.grants[partner as usize].fetch_or(1 << bit, Relaxed);
                    *credit -= 1.0;
                    if *credit < 1.0 {
                        return;
                    }
                }
            }
        }
    }

    fn take_in_part(&self, first: u32, rows: &mut [Viewer], head: u32) -> Counts {
        let mut counts = Counts::default();
        for (i, viewer) in rows.iter_mut().enumerate() {
            let node = first + i as u32;
            if viewer.began == 0 {
                self.begin(node, viewer, head, &mut counts);
                continue;
            }
            self.take_granted(node, viewer, &mut counts);
            self.ask_cache(node, viewer, head, &mut counts);
            counts.due += 1;
            counts.played += u64::from(viewer.map.holds(viewer.position));
            viewer.position = viewer.position.next();
            viewer.map.slide_to(viewer.map.base().next());
        }
        counts
    }

    /// A newcomer's window and its first chunks, from the cache at once.
    fn begin(&self, node: u32, viewer: &mut Viewer, head: u32, counts: &mut Counts) {
        let tuning = &self.plan.tuning;
        *viewer = Viewer::new(u64::from(head - u32::from(tuning.back_chunks())), head);
        if self.plan.cdn {
            for i in 0..tuning.startup_chunks {
                viewer.map.set(viewer.position.ahead(i), true);
            }
            counts.burst += tuning.startup_chunks;
            counts.asked_of_cache += tuning.startup_chunks;
            counts.cache_other_region += if self.crosses(node) { tuning.startup_chunks } else { 0 };
        }
    }

    fn take_granted(&self, node: u32, viewer: &mut Viewer, counts: &mut Counts) {
        let asks = &self.asks[node as usize];
        let granted = self.grants[node as usize].load(Relaxed);
        for (bit, ask) in asks.list[..asks.len as usize].iter().enumerate() {
            if granted >> bit & 1 == 0 {
                counts.refused += 1;
                continue;
            }
            viewer.map.set(ChunkSeq::new(u64::from(ask.seq)), true);
            counts.from_peers += 1;
            counts.distance += (self.places.distance(node, ask.partner) * (1u64 << 32) as f64) as u64;
            let regions = &self.places.region;
            counts.between_regions += u64::from(regions[node as usize] != regions[ask.partner as usize]);
        }
    }

    fn crosses(&self, node: u32) -> bool {
        self.places.region[node as usize] != self.cache_region
    }

    /// The last resort, and chunks that `node` is responsible for.
    fn ask_cache(&self, node: u32, viewer: &mut Viewer, head: u32, counts: &mut Counts) {
        let newest = ChunkSeq::new(u64::from(head));
        let mut rng = None;
        let mut from = viewer.position;
        while from <= newest {
            let span = (newest.get() - from.get() + 1).min(64);
            let mut bits = !viewer.map.held_from(from) & (u64::MAX >> (64 - span));
            let partners = self.mesh.partners(node);
            while bits != 0 {
                let seq = from.ahead(u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
                let last_resort = self.plan.cdn && rules::needs_cache(left(seq, viewer.position), reserve(self), false);
                if last_resort || self.seeds(node, viewer, partners, seq, head) {
                    let rng = rng.get_or_insert_with(|| dice(self.seed, CACHE | u64::from(head), node));
                    counts.asked_of_cache += 1;
                    if self.cache_gives(rng) {
                        viewer.map.set(seq, true);
                        *(if last_resort { &mut counts.last_resort } else { &mut counts.seeded }) += 1;
                        counts.cache_other_region += u64::from(self.crosses(node));
                    }
                }
            }
            from = from.ahead(64);
        }
    }

    /// Whether no partner announces `seq` and `node` is responsible for it. Without a CDN the
    /// source gives each new chunk to as many peers as its uplink carries, at random.
    fn seeds(&self, node: u32, viewer: &Viewer, partners: &[u32], seq: ChunkSeq, head: u32) -> bool {
        let age = u64::from(head) - seq.get();
        if !self.plan.cdn {
            let drawn = cache_core::prng::mix(self.seed ^ seq.get() << 32 ^ u64::from(node)) >> 11;
            let odds = f64::from(self.plan.cache_streams) / f64::from(self.plan.peers);
            return age == 0 && (drawn as f64) < odds * (1u64 << 53) as f64;
        }
        let waited = CHUNK_SPAN.times(age.min(u64::from(head - viewer.began)));
        if age >= 64 || self.asks[node as usize].announced >> (63 - age) & 1 == 1 {
            return false;
        }
        let id = |n: &u32| self.places.ids[*n as usize];
        let others = partners.iter().chain(self.mesh.members(node)).map(id);
        let step = Span::from_millis(self.plan.tuning.seed_step_ms);
        rules::is_responsible(seq, self.places.ids[node as usize], others, waited, step, 0)
    }

    /// A cache at its limit gives each request the same odds, by the demand of the cycle before.
    fn cache_gives(&self, rng: &mut Prng) -> bool {
        let budget = u64::from(self.plan.cache_streams);
        let fits = !self.plan.cdn || budget == 0 || self.cache_demand <= budget;
        fits || (rng.below(1 << 30) as u64) < (budget << 30) / self.cache_demand
    }

    /// Replaces peers and lets those that are short of partners dial: each once a second.
    fn renew(&mut self, head: u32, index: &Index) {
        let mut rng = dice(self.seed, RENEW | u64::from(head), 0);
        let peers = self.plan.peers;
        let expected = self.plan.replaced_per_s * f64::from(peers) / 5.0;
        let odd = (rng.below(1 << 20) as f64) < expected.fract() * f64::from(1 << 20);
        for _ in 0..expected as u32 + u32::from(odd) {
            let node = rng.below(peers as usize) as u32;
            self.mesh.replace(&self.places, index, node, &mut rng);
            self.viewers[node as usize] = Viewer::new(u64::from(head), 0);
        }
        let seed = self.seed ^ u64::from(head);
        for node in (head % 5..peers).step_by(5) {
            for _ in 0..4 {
                if !self.mesh.dial(&self.places, node, seed) {
                    break;
                }
            }
        }
    }
}

fn left(seq: ChunkSeq, position: ChunkSeq) -> Span {
    CHUNK_SPAN.times(seq.since(position).unwrap_or(0))
}

fn reserve(swarm: &Swarm<'_>) -> Span {
    Span::from_millis(swarm.plan.tuning.cache_reserve_ms)
}
