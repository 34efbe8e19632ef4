//! Streaming in the reduced model: one chunk per cycle of 200 ms through the mesh, by buffer maps.
//!
//! ```text
//!  plan     each peer reads its partners' maps of the last cycle and asks for chunks    (reads maps, writes own requests)
//!  serve    each peer looks at its partners' requests and grants within its uplink      (writes own credit, grants)
//!  take in  what was granted is held; the cache gives what nobody will in time; one chunk is played   (writes own map)
//!  renew    some peers are replaced; who has too few partners dials one member         (one thread)
//! ```
//! In each step a peer writes what is its own alone, and grants are bits set in any order: the result is the same with any
//! number of threads.
//!
//! The production code's own: `Tuning` (eqs. (1), (2), zones, reserves), `BufferMap`, the order of fetching
//! (`rules::order`, `rules::choose`), the last resort (`rules::needs_cache`), seeding
//! (`rules::is_responsible`), the index's answer and the draw by tier ([`super::mesh`]). Reduced: a hop takes one cycle, whatever
//! the distance; a request is answered or lost within its cycle; at most [`ROOM`] chunks per partner and cycle stand for
//! eq. (5); maps are never old; downlinks are wide; the exchange of the worst partners is left out; a newcomer's first
//! chunks come from the cache in one cycle.

mod phases;

use cache_core::limits::HISTORY_CHUNKS;
use cache_core::proto::peer::Tuning;
use cache_core::units::ChunkSeq;
use cache_core::wire::BufferMap;
use serde::{Deserialize, Serialize};

use super::mesh::{Answer, Index, Mesh};
use super::places::{Places, region_at};
use super::{dice, peak_rss};

/// Chunks asked of one partner in a cycle at most. Our guess for eq. (5) at its usual work: the floor L.
const ROOM: u32 = 2;

/// Chunks asked of all partners in a cycle at most: bits of a grant.
const REQUESTS: usize = 8;

/// Uplink saved up by an idle peer at most, in cycles' worth. Our guess for a queue that drains in a second.
const CREDIT_CYCLES: f32 = 5.0;

/// The first chunk that anybody plays: there is a whole window before it.
const FIRST_CHUNK: u32 = 1_000;

/// What is simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmPlan {
    /// Peers.
    pub peers: u32,
    /// Regions along a side of the square.
    pub side: u32,
    /// Cities along a region's side, areas along a city's: how finely a PeerID says where a peer is.
    pub finer: u32,
    /// How the index answers.
    pub answer: Answer,
    /// Simulated seconds.
    pub duration_s: u32,
    /// Of these left out of the metrics.
    pub warmup_s: u32,
    /// Mean uplink over the stream's rate; peers' are uniform between half and one and a half of it.
    pub uplink: f32,
    /// Share that uploads nothing.
    pub free_riders: f32,
    /// What the cache can send, in viewers' streams; 0: unlimited.
    pub cache_streams: u32,
    /// The cache serves the last resort and seeds by rank. `false`: one source gives each chunk to as many peers as its
    /// uplink of `cache_streams` carries, and nobody has a last resort.
    pub cdn: bool,
    /// Share of all peers replaced per second.
    pub replaced_per_s: f64,
    /// Peers' numbers.
    pub tuning: Tuning,
}

/// What came out; shares and the like over the time after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwarmOutcome {
    /// Chunks played in time over chunks due.
    pub continuity: f64,
    /// Chunks from peers over all received.
    pub offload: f64,
    /// Chunks between peers of different regions over all between peers.
    pub inter_region_share: f64,
    /// Chunks that crossed between regions, the cache's included, over chunks played.
    pub inter_region_traffic: f64,
    /// Chunks over the cache's links into other regions than its own, over chunks played.
    pub cache_inter_region: f64,
    /// Mean distance between partners.
    pub delay_factor: f64,
    /// The same, weighted by the chunks that went over each link.
    pub delay_factor_used: f64,
    /// Chunks fetched from the cache for others, over chunks played.
    pub seeded: f64,
    /// Chunks fetched from the cache because little time was left, over chunks played.
    pub last_resort: f64,
    /// Partners of a peer, mean.
    pub partners: f64,
    /// Requests to partners that were not granted.
    pub refused_share: f64,
    /// Continuity of each simulated second, from the first.
    pub series: Vec<f64>,
    /// Inter-region traffic of each simulated second.
    pub inter_region_series: Vec<f64>,
    /// Peer actions (a plan, a service, a taking in): three per peer and cycle.
    pub events: u64,
    /// Final state, folded; independent of threads.
    pub digest: u64,
    /// Bytes of the arrays.
    pub bytes: u64,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SwarmCost {
    /// Places, index and mesh.
    pub build_s: f64,
    /// All cycles.
    pub run_s: f64,
    /// The process's peak so far, bytes.
    pub peak_rss: u64,
}

/// A request to a partner.
#[derive(Clone, Copy, Debug, Default)]
struct Ask {
    partner: u32,
    seq: u32,
}

/// A peer's requests of a cycle.
#[derive(Clone, Copy, Debug, Default)]
struct Asks {
    list: [Ask; REQUESTS],
    len: u8,
    /// Which of the newest 64 chunks some partner announces; the lowest bit is the 63rd before the newest.
    announced: u64,
}

/// What a peer holds and plays.
#[derive(Clone, Copy, Debug)]
struct Viewer {
    map: BufferMap,
    /// Played next.
    position: ChunkSeq,
    /// When it came: the newest chunk then; 0: it comes in this cycle.
    began: u32,
}

/// Counts of a thread; sums do not depend on the order.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    due: u64,
    played: u64,
    from_peers: u64,
    between_regions: u64,
    seeded: u64,
    last_resort: u64,
    burst: u64,
    cache_other_region: u64,
    refused: u64,
    asked_of_cache: u64,
    /// In 2^-32 of the square's side: whole numbers, because sums of fractions depend on their order.
    distance: u64,
}

impl Counts {
    fn add(&mut self, o: &Counts) {
        self.due += o.due;
        self.played += o.played;
        self.from_peers += o.from_peers;
        self.between_regions += o.between_regions;
        self.seeded += o.seeded;
        self.last_resort += o.last_resort;
        self.burst += o.burst;
        self.cache_other_region += o.cache_other_region;
        self.refused += o.refused;
        self.asked_of_cache += o.asked_of_cache;
        self.distance += o.distance;
    }
}

/// All peers.
struct Swarm<'a> {
    plan: &'a SwarmPlan,
    seed: u64,
    threads: usize,
    places: Places,
    mesh: Mesh,
    viewers: Vec<Viewer>,
    uplink: Vec<f32>,
    credit: Vec<f32>,
    asks: Vec<Asks>,
    grants: Vec<std::sync::atomic::AtomicU8>,
    /// The cache's region: the middle of the square.
    cache_region: u16,
    /// Last cycle's demand on the cache.
    cache_demand: u64,
}

/// Runs `plan`; the outcome depends on it and `seed` alone. `progress` is told each simulated second.
pub fn run(plan: &SwarmPlan, seed: u64, threads: usize, progress: &mut dyn FnMut(u32)) -> (SwarmOutcome, SwarmCost) {
    let began = std::time::Instant::now();
    let threads = threads.clamp(1, 256);
    let places = Places::random(plan.peers, plan.side, plan.finer, &mut dice(seed, 0, u32::MAX));
    let index = Index::new(&places, plan.answer, &plan.tuning);
    let mesh = Mesh::build(&places, &index, &plan.tuning, 0, seed, threads);
    let index = (plan.replaced_per_s > 0.0).then_some(index);
    let mut swarm = Swarm::new(plan, seed, threads, places, mesh);
    let build_s = began.elapsed().as_secs_f64();
    let (mut total, mut series, mut crossing) = (Counts::default(), Vec::new(), Vec::new());
    let first = FIRST_CHUNK + u32::from(plan.tuning.back_chunks());
    for second in 0..plan.duration_s {
        let mut counts = Counts::default();
        for cycle in second * 5..second * 5 + 5 {
            counts.add(&swarm.cycle(first + cycle, index.as_ref()));
        }
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        series.push(share(counts.played, counts.due));
        crossing.push(share(counts.between_regions + counts.cache_other_region, counts.played));
        if second >= plan.warmup_s {
            total.add(&counts);
        }
        progress(second + 1);
    }
    let mut outcome = swarm.outcome(&total);
    (outcome.series, outcome.inter_region_series) = (series, crossing);
    outcome.events = 15 * u64::from(plan.duration_s) * u64::from(plan.peers);
    let cost = SwarmCost { build_s, run_s: began.elapsed().as_secs_f64() - build_s, peak_rss: peak_rss() };
    (outcome, cost)
}

impl<'a> Swarm<'a> {
    fn new(plan: &'a SwarmPlan, seed: u64, threads: usize, places: Places, mesh: Mesh) -> Swarm<'a> {
        let count = plan.peers as usize;
        let uplink = (0..plan.peers).map(|node| {
            let mut rng = dice(seed, 5, node);
            let unit = |rng: &mut cache_core::prng::Prng| rng.below(1 << 20) as f32 / (1u32 << 20) as f32;
            if unit(&mut rng) < plan.free_riders { 0.0 } else { plan.uplink * (0.5 + unit(&mut rng)) }
        });
        Swarm {
            plan,
            seed,
            threads,
            cache_region: region_at([0.5, 0.5], plan.side),
            uplink: uplink.collect(),
            credit: vec![0.0; count],
            asks: vec![Asks::default(); count],
            grants: (0..count).map(|_| std::sync::atomic::AtomicU8::new(0)).collect(),
            viewers: vec![Viewer::new(HISTORY_CHUNKS, 0); count],
            cache_demand: 0,
            places,
            mesh,
        }
    }

    fn outcome(&self, c: &Counts) -> SwarmOutcome {
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let from_cache = c.seeded + c.last_resort + c.burst;
        let crossed = c.between_regions + c.cache_other_region;
        let digest = self.viewers.iter().enumerate().fold(0u64, |sum, (node, v)| {
            let word = v.position.get() << 16 ^ v.map.held_from(v.position) ^ (node as u64) << 32;
            sum.wrapping_add(cache_core::prng::mix(word))
        });
        let arrays = self.places.bytes()
            + self.mesh.bytes()
            + self.viewers.len() * (size_of::<Viewer>() + size_of::<Asks>() + 2 * size_of::<f32>() + 1);
        SwarmOutcome {
            continuity: share(c.played, c.due),
            offload: share(c.from_peers, c.from_peers + from_cache),
            inter_region_share: share(c.between_regions, c.from_peers),
            inter_region_traffic: share(crossed, c.played),
            cache_inter_region: share(c.cache_other_region, c.played),
            delay_factor: self.mesh.delay_factor(&self.places),
            delay_factor_used: c.distance as f64 / (1u64 << 32) as f64 / c.from_peers.max(1) as f64,
            seeded: share(c.seeded, c.played),
            last_resort: share(c.last_resort, c.played),
            partners: self.mesh.partners_mean(),
            refused_share: share(c.refused, c.refused + c.from_peers),
            digest,
            bytes: arrays as u64,
            ..SwarmOutcome::default()
        }
    }
}

impl Viewer {
    fn new(position: u64, began: u32) -> Viewer {
        let position = ChunkSeq::new(position);
        Viewer { map: BufferMap::new(position.back(HISTORY_CHUNKS)), position, began }
    }
}

#[cfg(test)]
mod tests;
