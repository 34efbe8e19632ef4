//! The nodes of a scenario, and the luck that each part gets.

use cache_core::proto::index::{Index, IndexConfig};
use cache_core::proto::route::domains::{Domain, Domains};
use cache_core::proto::route::{Route, RouteConfig};
use cache_core::sign::{CookieJar, stream_id};
use cache_core::time::{Span, Time};
use cache_core::units::{CHUNK_SPAN, DomainId};
use cache_core::wire::StreamName;

use super::cache::{CacheNode, CacheTerms};
use super::chunks::{Chunks, WALL_AT_ZERO};
use super::event::Event;
use super::fabric::{Fabric, Role};
use super::measure::Measure;
use super::place::{Map, network_of};
use super::publisher::Publisher;
use super::server::{Machine, Server};
use super::{World, chance};
use crate::invariants::Invariants;
use crate::scenario::{Scenario, UplinkClass};

/// How long the stream has run when the first viewer comes, beside the play delay: the servers need two reports to
/// know each other, and a cache that pulls begins 8 s behind.
const RUN_UP: Span = Span::from_secs(12);

/// The downlink of who has none given, over the stream's rate. Our guess: an asymmetric line.
const DOWN_DEFAULT: f64 = 4.0;

/// The uplink of who has none given: the paper's "good" audience, and the reach that is asked for.
const UP_DEFAULT: f64 = 1.3;

/// The stream of every simulation.
pub(super) fn stream_name() -> StreamName {
    StreamName::new("simulated").unwrap_or_else(|_| unreachable!("letters are a name"))
}

/// A rate in bits per second: `factor` times the stream's.
pub(super) fn rate_bps(factor: f64, stream_kbps: u64) -> u64 {
    (factor * stream_kbps as f64 * 1_000.0) as u64
}

/// The classes of uplinks, one at the least.
pub(super) fn classes(scenario: &Scenario) -> Vec<UplinkClass> {
    if scenario.audience.uplink.is_empty() {
        vec![UplinkClass { share: 1.0, up: UP_DEFAULT, down: DOWN_DEFAULT }]
    } else {
        scenario.audience.uplink.clone()
    }
}

fn jar(seed: u64, purpose: &str) -> CookieJar {
    let mut rng = chance::stream(seed, purpose);
    let mut key = [0; 32];
    key.chunks_exact_mut(8).for_each(|eight| eight.copy_from_slice(&rng.next_u64().to_le_bytes()));
    CookieJar::new(key)
}

impl World {
    /// The world of a checked scenario, at time zero.
    pub(super) fn new(scenario: &Scenario, seed: u64) -> World {
        let name = stream_name();
        let origin = Time::ZERO.after(RUN_UP).after(Span::from_millis(scenario.peer.play_delay_ms));
        let map = Map::new(&scenario.network);
        let bytes_per_s = scenario.stream.kbps * 125;
        let payload = (bytes_per_s * CHUNK_SPAN.millis() / 1_000) as u32;
        let network = &scenario.network;
        let mut fabric = Fabric::new(
            map,
            Chunks::new(stream_id(&name), payload.max(1)),
            chance::stream(seed, "network"),
            network.loss_permille,
            network.jitter,
            Invariants::new(origin),
        );
        let domains = network.domains.max(1);
        let regions_of = |domain: u16| -> Vec<u32> {
            (0..fabric_regions(&fabric)).filter(|r| r % u32::from(domains) == u32::from(domain)).collect()
        };
        let homes: Vec<Vec<u32>> = (0..domains).map(regions_of).collect();

        let middle = super::place::Point { x: 1 << 15, y: 1 << 15 };
        let index_nodes: Vec<u32> = (0..domains)
            .map(|domain| {
                let at = if domains == 1 { middle } else { middle_of(&fabric, &homes[usize::from(domain)], 0, 1) };
                fabric.add_server(Role::Index(domain), at, domain)
            })
            .collect();
        let route_node = fabric.add_server(Role::Route, middle, 0);
        let mut servers: Vec<Server> = index_nodes
            .iter()
            .enumerate()
            .map(|(domain, node)| {
                Server::new(*node, index(scenario, seed, domain as u16, fabric.host(route_node).addr()))
            })
            .collect();
        servers.push(Server::new(route_node, route(&fabric, seed, &index_nodes, &homes)));

        let caches = caches(&mut fabric, scenario, seed, &index_nodes, &homes);
        let publisher_node = fabric.add_server(Role::Publisher, middle, 0);
        let publisher = Publisher::new(
            publisher_node,
            &name,
            vec![fabric.host(index_nodes[0]).addr()],
            scenario.stream.first_chunk,
            scenario.stream.join_point_chunks,
            chance::stream(seed, "publisher"),
        );
        let mut world = World {
            first_peer: fabric.hosts.len() as u32,
            cache_sent: vec![0; caches.len()],
            scenario: scenario.clone(),
            seed,
            origin,
            fabric,
            measure: Measure::default(),
            out: cache_core::outbox::Outbox::new(),
            servers,
            caches,
            publisher,
            peers: Vec::new(),
            alive: Vec::new(),
            place_of: Vec::new(),
            deferred: Default::default(),
            coming_back: Default::default(),
            luck: chance::stream(seed, "audience"),
            events: 0,
            seconds: 0,
            recovery_checked: false,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for cache in &mut self.caches {
            cache.start(&mut self.fabric);
        }
        self.publisher.start(&mut self.fabric);
        self.fabric.at(self.origin, Event::Second);
        self.schedule_audience();
        for number in 0..self.scenario.faults.len() {
            let at = self.origin.after(Span::from_micros((self.scenario.faults[number].at_s * 1e6) as u64));
            self.fabric.at(at, Event::Fault { number: number as u32, over: false });
        }
    }
}

fn fabric_regions(fabric: &Fabric) -> u32 {
    fabric.map.regions()
}

/// The middle of the region at `number / of` of a domain's regions.
fn middle_of(fabric: &Fabric, regions: &[u32], number: usize, of: usize) -> super::place::Point {
    let at = (2 * number + 1) * regions.len() / (2 * of.max(1));
    fabric.map.middle(regions.get(at.min(regions.len().saturating_sub(1))).copied().unwrap_or(0))
}

/// An index server of a domain that knows nobody.
pub(super) fn index(scenario: &Scenario, seed: u64, domain: u16, route: std::net::SocketAddr) -> Machine {
    let mut config = IndexConfig::new(DomainId(domain + 1), WALL_AT_ZERO);
    config.routes = vec![route];
    if !scenario.network.index_by_location {
        config.random_members_percent = 100;
    }
    let purpose = format!("index {domain}");
    Machine::Index(Index::new(config, jar(seed, &purpose), chance::stream(seed, &purpose).next_u64()))
}

/// A route server that knows no peer and no stream.
pub(super) fn route(fabric: &Fabric, seed: u64, indexes: &[u32], homes: &[Vec<u32>]) -> Machine {
    let domain = |(at, node): (usize, &u32)| Domain {
        id: DomainId(at as u16 + 1),
        name: format!("domain {}", at + 1),
        indexes: vec![fabric.host(*node).addr()],
        cidrs: homes[at].iter().map(|region| network_of(*region)).collect(),
        locations: Vec::new(),
    };
    let all: Vec<Domain> = indexes.iter().enumerate().map(domain).collect();
    // They cannot contradict each other: each region is in one.
    let mut config = RouteConfig::new(Domains::new(all).unwrap_or_default());
    config.locations = fabric.map.locations();
    Machine::Route(Route::new(config, jar(seed, "route"), chance::stream(seed, "route").next_u64(), None))
}

fn caches(fabric: &mut Fabric, scenario: &Scenario, seed: u64, indexes: &[u32], homes: &[Vec<u32>]) -> Vec<CacheNode> {
    let (cdn, wanted) = (scenario.stream.cdn, &scenario.caches);
    let count = if cdn { usize::from(wanted.count.max(1)) } else { 1 };
    let best = classes(scenario).iter().map(|class| class.up).fold(0.0, f64::max);
    // Without the CDN one peer is the source: it refuses nobody, because nobody could watch without it.
    let (up_bps, viewers_max, admits) = match (cdn, wanted.up_kbps) {
        (true, up_kbps) => (up_kbps * 1_000, wanted.viewers_max, up_kbps > 0),
        (false, 0) => (rate_bps(best, scenario.stream.kbps), 0, false),
        (false, up_kbps) => (up_kbps * 1_000, 0, false),
    };
    let mut all = Vec::new();
    for (domain, regions) in homes.iter().enumerate() {
        for number in 0..count {
            let at = middle_of(fabric, regions, number, count);
            let node = fabric.add_server(Role::Cache(all.len() as u16), at, domain as u16);
            fabric.hosts[node as usize].up_bps = up_bps;
            let index = fabric.host(indexes[domain]).addr();
            let terms = CacheTerms { viewers_max, admits };
            let luck = chance::stream(seed, &format!("cache {}", all.len())).next_u64();
            all.push(CacheNode::new(fabric, node, &stream_name(), vec![index], terms, luck));
        }
    }
    all
}
