//! What one server of each kind is asked for, of each of its resources.
//!
//! | | cores | control's thread | network card | memory | descriptors |
//! |---|---|---|---|---|---|
//! | cache | sending to players, peers, caches; taking in | taking in: one thread | the fuller direction | the ring, links, sources, the reserve | one a link, the reserve |
//! | index | questions: one thread | | questions and answers | peers | the least |
//! | route | questions: one thread | | questions and answers | leased ids | the least |

use serde::Serialize;

use cache_core::limits::DESCRIPTORS_MIN;
use cache_core::proto::index::IndexConfig;
use cache_core::proto::index::config::PEER_MEMORY_BYTES;
use cache_core::proto::route::ids::{ID_MEMORY_BYTES, IdsConfig};
use cache_core::time::WallClock;
use cache_core::units::DomainId;
use cache_core::wire::datagram::Message;
use cache_core::wire::index::{PeerHeartbeat, PeerHeartbeatAck};

use crate::calibration::{Calibration, Way};
use crate::cost::SendCost;
use crate::demand::Local;
use crate::scenario::{Hardware, Scenario};
use crate::sizes;

/// What can be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Processor time.
    Cores,
    /// Processor time of the one thread that takes chunks in.
    ControlThread,
    /// The network card, in its fuller direction.
    Nic,
    /// Memory.
    Memory,
    /// Descriptors.
    Descriptors,
}

impl Resource {
    /// Its name in reports.
    pub const fn text(self) -> &'static str {
        match self {
            Resource::Cores => "cores",
            Resource::ControlThread => "control's thread",
            Resource::Nic => "NIC",
            Resource::Memory => "memory",
            Resource::Descriptors => "descriptors",
        }
    }
}

/// How full one resource of one server is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Which.
    pub resource: Resource,
    /// What is asked of it.
    pub used: f64,
    /// What there is.
    pub there: f64,
    /// Of both.
    pub unit: &'static str,
    /// How `used` comes about.
    pub working: String,
}

impl Usage {
    /// Of what there is; above 1 it does not suffice.
    pub fn share(&self) -> f64 {
        self.used / self.there
    }
}

/// The fullest.
pub fn bottleneck(usages: &[Usage]) -> &Usage {
    let fullest = usages.iter().max_by(|a, b| a.share().total_cmp(&b.share()));
    fullest.expect("every server has resources")
}

/// What the caches of one domain must do together, and how it divides.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheWork {
    players_core_s: f64,
    peers_core_s: f64,
    sent_bps: f64,
    links: f64,
    /// Streams by the number of caches that each of them fills into, ascending.
    groups: Vec<Group>,
    /// Pulls by other domains, bits per second.
    served_bps: f64,
    served_core_s: f64,
    served_links: f64,
    largest_bps: f64,
    largest_segments: u64,
    largest_source_bytes: f64,
    other_domains: f64,
}

/// Streams that are on so many caches, if there are as many.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Group {
    caches: u32,
    streams: f64,
    bps: f64,
    segments: f64,
    source_bytes: f64,
    push_core_s: f64,
}

/// A cache's ring.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ring {
    /// Segments of 2 MiB.
    pub segments: u64,
    /// Streams in it.
    pub streams: f64,
    /// The whole file; infinite when no ring can be so large.
    pub mib: f64,
}

/// What a plan is made with.
#[derive(Clone, Debug)]
pub struct Costs {
    /// To players.
    pub http: SendCost,
    /// To peers.
    pub pull: SendCost,
    /// To caches.
    pub push: SendCost,
    /// Taking a chunk in, core-seconds.
    pub ingest_s: f64,
    /// Memory of a link, bytes: what admission books, or what was measured when that is more.
    pub link_bytes: f64,
    /// A heartbeat at an index server, core-seconds.
    pub index_s: f64,
    /// A join there with all its datagrams, core-seconds.
    pub index_join_s: f64,
    /// A question at a route server, core-seconds.
    pub route_s: f64,
    /// A join there with all its datagrams, core-seconds.
    pub route_join_s: f64,
}

impl Costs {
    /// Those of a checked calibration.
    pub fn of(calibration: &Calibration) -> Costs {
        Costs {
            http: calibration.send(Way::Http),
            pull: calibration.send(Way::Pull),
            push: calibration.send(Way::Push),
            ingest_s: calibration.ingest_us / 1e6,
            link_bytes: calibration.viewer_bytes.max(sizes::LINK_BYTES as f64),
            index_s: calibration.index_question_us / 1e6,
            index_join_s: calibration.index_join_us / 1e6,
            route_s: calibration.route_question_us / 1e6,
            route_join_s: calibration.route_join_us / 1e6,
        }
    }
}

/// What all domains' streams have to do with each other: how many domains hold a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pulls {
    /// Between domains, bits per second, all together.
    pub bps: f64,
    /// How many.
    pub links: f64,
    /// What sending them costs, core-seconds per second.
    pub core_s: f64,
    /// Domains.
    pub domains: f64,
}

impl Pulls {
    /// Every domain that holds a stream pulls it once, but for the one in which it is published.
    pub fn between(domains: &[Vec<Local>], costs: &Costs) -> Pulls {
        let mut pulls = Pulls { domains: domains.len() as f64, ..Pulls::default() };
        let Some(first) = domains.first() else { return pulls };
        for (at, class) in first.iter().enumerate() {
            let holders: f64 = domains.iter().map(|locals| locals[at].held).sum();
            let links = class.count * (holders - 1.0).max(0.0);
            pulls.links += links;
            pulls.bps += links * sizes::line_bps(class.kbps);
            pulls.core_s += links * sizes::CHUNKS_PER_S * costs.push.core_s(sizes::chunk_bytes(class.kbps));
        }
        pulls
    }
}

impl CacheWork {
    /// The work of a domain with these streams.
    pub fn of(scenario: &Scenario, costs: &Costs, locals: &[Local], pulls: &Pulls) -> CacheWork {
        let hardware = &scenario.cache;
        let room = 1.0 - scenario.headroom;
        let window = scenario.window_chunks as u64;
        let mut work = CacheWork {
            players_core_s: 0.0,
            peers_core_s: 0.0,
            sent_bps: 0.0,
            links: 0.0,
            groups: Vec::new(),
            served_bps: pulls.bps / pulls.domains,
            served_core_s: pulls.core_s / pulls.domains,
            served_links: pulls.links / pulls.domains,
            largest_bps: 0.0,
            largest_segments: 0,
            largest_source_bytes: 0.0,
            other_domains: pulls.domains - 1.0,
        };
        for local in locals {
            let (bytes, bps) = (sizes::chunk_bytes(local.kbps), sizes::line_bps(local.kbps));
            let segments = sizes::segments(local.kbps, window);
            let players_core_s = local.players * sizes::CHUNKS_PER_S * costs.http.core_s(bytes);
            let peers_core_s = local.copies * sizes::CHUNKS_PER_S * costs.pull.core_s(bytes);
            let sent_bps = bps * (local.players + local.copies);
            let links = local.players + local.peers;
            let alone = [
                (players_core_s + peers_core_s) / hardware.cores,
                sent_bps / (hardware.nic_mbps * 1e6),
                links * costs.link_bytes / (hardware.memory_mib as f64 * MIB),
                links / hardware.descriptors as f64,
            ];
            // A stream spills over to the next cache when its own is full; other streams are there too, so it is reckoned
            // by halves of a cache (our guess).
            let caches = (2.0 * alone.into_iter().fold(0.0, f64::max) / room).ceil().clamp(1.0, 1e6) as u32;
            let streams = local.count * local.held;
            work.players_core_s += local.count * players_core_s;
            work.peers_core_s += local.count * peers_core_s;
            work.sent_bps += local.count * sent_bps;
            work.links += local.count * links;
            work.largest_bps = work.largest_bps.max(bps);
            work.largest_segments = work.largest_segments.max(segments);
            work.largest_source_bytes = work.largest_source_bytes.max(sizes::source_bytes(local.kbps) as f64);
            work.groups.push(Group {
                caches,
                streams,
                bps: streams * bps,
                segments: streams * segments as f64,
                source_bytes: streams * sizes::source_bytes(local.kbps) as f64,
                push_core_s: streams * sizes::CHUNKS_PER_S * costs.push.core_s(bytes),
            });
        }
        work.groups.sort_by_key(|group| group.caches);
        work.groups.dedup_by(|group, into| {
            let same = group.caches == into.caches;
            if same {
                into.streams += group.streams;
                into.bps += group.bps;
                into.segments += group.segments;
                into.source_bytes += group.source_bytes;
                into.push_core_s += group.push_core_s;
            }
            same
        });
        work
    }

    /// Bits per second that caches of the domain pull from each other when there are `caches` of them.
    pub fn pulled_inside_bps(&self, caches: u32) -> f64 {
        self.groups.iter().map(|group| group.bps * f64::from(group.caches.min(caches) - 1)).sum()
    }

    /// The ring of one of `caches` (at least 1).
    pub fn ring(&self, scenario: &Scenario, caches: u32) -> Ring {
        let each = f64::from(caches.max(1));
        let on = |group: &Group| f64::from(group.caches.min(caches));
        let copies: f64 = self.groups.iter().map(|group| group.streams * on(group)).sum();
        let segments: f64 = self.groups.iter().map(|group| group.segments * on(group)).sum();
        let streams = (copies / each).ceil().max(1.0);
        let segments = ((segments / each).ceil() as u64).max(self.largest_segments);
        let bytes = sizes::ring_bytes(segments, streams as u64, scenario.window_chunks as u64);
        Ring { segments, streams, mib: bytes.map_or(f64::INFINITY, |bytes| bytes as f64 / MIB) }
    }

    /// How full one of `caches` is (at least 1), each having the same part. The ring's memory alone can be more than any
    /// ring may have: then memory is full without end.
    pub fn usages(&self, scenario: &Scenario, costs: &Costs, caches: u32) -> Vec<Usage> {
        let hardware = &scenario.cache;
        let each = f64::from(caches.max(1));
        let on = |group: &Group| f64::from(group.caches.min(caches));
        let copies: f64 = self.groups.iter().map(|group| group.streams * on(group)).sum();
        let taken_bps: f64 = self.groups.iter().map(|group| group.bps * on(group)).sum();
        let inside_core_s: f64 = self.groups.iter().map(|group| group.push_core_s * (on(group) - 1.0)).sum();
        let inside_links = self.groups.iter().map(|group| group.streams * (on(group) - 1.0)).sum::<f64>();

        let ingest = copies / each * sizes::CHUNKS_PER_S * costs.ingest_s;
        let (players, peers) = (self.players_core_s / each, self.peers_core_s / each);
        let caches_core_s = (inside_core_s + self.served_core_s) / each;
        let cores = players + peers + caches_core_s + ingest;

        let to_viewers = self.sent_bps / each / 1e6;
        // The cache to which a stream is published serves every pull of it.
        let on_most = self.groups.last().map_or(1.0, on);
        let of_largest = self.largest_bps * (self.other_domains + on_most - 1.0);
        let to_caches = ((self.served_bps + self.pulled_inside_bps(caches)) / each).max(of_largest) / 1e6;
        let (out, taken) = (to_viewers + to_caches, taken_bps / each / 1e6);

        let Ring { segments, streams, mib: ring } = self.ring(scenario, caches);
        let links = self.links / each;
        let (link_mib, reserve) = (links * costs.link_bytes / MIB, sizes::RESERVE_BYTES as f64 / MIB);
        let source_bytes = self.groups.iter().map(|group| group.source_bytes * on(group)).sum::<f64>() / each;
        let sources_mib = source_bytes.max(self.largest_source_bytes) / MIB;
        let memory = ring + link_mib + sources_mib + reserve;

        let pulls = (inside_links + self.served_links) / each + streams;
        let beside = sizes::DESCRIPTORS_BESIDE as f64;
        vec![
            Usage {
                resource: Resource::Cores,
                used: cores,
                there: hardware.cores,
                unit: "cores",
                working: format!(
                    "to players {players:.3} + to peers {peers:.3} + to caches {caches_core_s:.3} + taking in {ingest:.3} = \
                     {cores:.3}"
                ),
            },
            Usage {
                resource: Resource::ControlThread,
                used: ingest,
                there: 1.0,
                unit: "cores",
                working: format!(
                    "{:.1} streams x {} chunks/s x {:.0} us = {ingest:.3}",
                    copies / each,
                    sizes::CHUNKS_PER_S,
                    costs.ingest_s * 1e6
                ),
            },
            Usage {
                resource: Resource::Nic,
                used: out.max(taken),
                there: hardware.nic_mbps,
                unit: "Mbit/s",
                working: format!(
                    "out: to viewers {to_viewers:.1} + to caches {to_caches:.1} = {out:.1}; in: {taken:.1}; the fuller counts"
                ),
            },
            Usage {
                resource: Resource::Memory,
                used: memory,
                there: hardware.memory_mib as f64,
                unit: "MiB",
                working: format!(
                    "ring {ring:.0} ({segments} segments of 2 MiB and tables for {streams:.0} streams) + {links:.0} links x \
                     {:.1} KiB = {link_mib:.0} + publishers and pulls {sources_mib:.1} + reserve {reserve:.0} = {memory:.0}",
                    costs.link_bytes / 1024.0
                ),
            },
            Usage {
                resource: Resource::Descriptors,
                used: links + pulls + beside,
                there: hardware.descriptors as f64,
                unit: "descriptors",
                working: format!(
                    "{links:.0} links + {pulls:.0} publishers and pulls + {beside:.0} = {:.0}",
                    links + pulls + beside
                ),
            },
        ]
    }
}

const MIB: f64 = 1024.0 * 1024.0;

/// A join takes three datagrams: the question twice, because the first is answered with a challenge, and the farewell.
pub(crate) const DATAGRAMS_PER_JOIN: f64 = 3.0;

/// How full the index server of a domain with `peers` is: every one of its index servers can be the one that answers.
pub fn index_usages(scenario: &Scenario, costs: &Costs, peers: f64) -> Vec<Usage> {
    let hardware = scenario.index.as_ref().unwrap_or(&scenario.cache);
    let config = IndexConfig::new(DomainId(1), WallClock::from_micros(0));
    let heartbeats = peers * 1e3 / config.heartbeat.millis() as f64;
    let joins = peers * scenario.audience.replaced_per_s;
    let beat: Message = PeerHeartbeat { stream: Default::default(), peer: Default::default() }.into();
    let ack: Message = PeerHeartbeatAck { stream: Default::default(), size: 0 }.into();
    let beat_bytes = sizes::datagram_bytes(beat).max(sizes::datagram_bytes(ack)) as f64;
    let join_bytes = cache_core::limits::DATAGRAM_BYTES_MAX as f64 + sizes::DATAGRAM_AROUND as f64;
    let mbps = (heartbeats * beat_bytes + joins * DATAGRAMS_PER_JOIN * join_bytes) * 8.0 / 1e6;
    let memory = peers * PEER_MEMORY_BYTES as f64 / MIB;
    datagram_server(
        hardware,
        (
            heartbeats * costs.index_s + joins * costs.index_join_s,
            format!(
                "{heartbeats:.0} heartbeats/s x {:.1} us + {joins:.0} joins/s x {:.1} us",
                costs.index_s * 1e6,
                costs.index_join_s * 1e6
            ),
        ),
        (mbps, format!("heartbeats x {beat_bytes:.0} B + joins x {DATAGRAMS_PER_JOIN} x {join_bytes:.0} B")),
        (memory, format!("{peers:.0} peers x {PEER_MEMORY_BYTES} B")),
    )
}

/// How full the route server is, for `peers` in all domains and `announced` streams (once for each domain that holds one).
pub fn route_usages(scenario: &Scenario, costs: &Costs, peers: f64, announced: f64) -> Vec<Usage> {
    let hardware = scenario.route.as_ref().unwrap_or(&scenario.cache);
    let lease_s = IdsConfig::default().lease.millis() as f64 / 1e3;
    let renewals = peers / (lease_s / 2.0);
    let joins = peers * scenario.audience.replaced_per_s;
    let announcements = announced / ANNOUNCED_EVERY_S;
    let questions = renewals + announcements;
    let datagrams = questions + joins * DATAGRAMS_PER_JOIN;
    let bytes = cache_core::limits::DATAGRAM_BYTES_MAX as f64 + sizes::DATAGRAM_AROUND as f64;
    // Ids of those who have left stay leased until their lease ends, unless they said farewell.
    let ids = peers;
    let working = format!(
        "({renewals:.0} renewals/s + {announcements:.0} announcements/s) x {:.1} us + {joins:.0} joins/s x {:.1} us",
        costs.route_s * 1e6,
        costs.route_join_s * 1e6
    );
    datagram_server(
        hardware,
        (questions * costs.route_s + joins * costs.route_join_s, working),
        (datagrams * bytes * 8.0 / 1e6, format!("{datagrams:.0} questions/s x {bytes:.0} B at the most")),
        (ids * ID_MEMORY_BYTES as f64 / MIB, format!("{ids:.0} ids x {ID_MEMORY_BYTES} B")),
    )
}

/// How often an index server announces a stream: a third of the time for which the route server believes it.
const ANNOUNCED_EVERY_S: f64 = 5.0;

fn datagram_server(
    hardware: &Hardware,
    (core, core_working): (f64, String),
    (mbps, nic_working): (f64, String),
    (mib, memory_working): (f64, String),
) -> Vec<Usage> {
    let usage = |resource, used, there, unit, working| Usage { resource, used, there, unit, working };
    vec![
        // One thread.
        usage(
            Resource::Cores,
            core,
            hardware.cores.min(1.0),
            "cores",
            format!("{core_working} = {core:.3}; one thread"),
        ),
        usage(Resource::Nic, mbps, hardware.nic_mbps, "Mbit/s", format!("{nic_working} = {mbps:.2}")),
        usage(Resource::Memory, mib, hardware.memory_mib as f64, "MiB", format!("{memory_working} = {mib:.1}")),
        usage(
            Resource::Descriptors,
            DESCRIPTORS_MIN as f64,
            hardware.descriptors as f64,
            "descriptors",
            "its sockets and files; none for each peer".to_owned(),
        ),
    ]
}
