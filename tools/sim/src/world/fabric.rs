//! The network: hosts with access links of a rate, paths with a delay, links that keep their order, datagrams that get
//! lost.
//!
//! ```text
//!  sender's uplink (FIFO, rate) ---- propagation + jitter ----> receiver's downlink (FIFO, rate) ---> the machine
//!  |== message ==|                                              |== message ==|
//!  the uplink is taken when a message is sent; the downlink when its last byte would be there through an idle one
//! ```
//! A message goes through as it comes (cut through): with equal rates on both sides it arrives one transmission time
//! and one propagation after it was begun. On a link (TCP) nothing overtakes, and a packet lost delays its message, and so all
//! behind it, by a round trip and 200 ms. A partition delays what is on links until it is healed, a round trip and those
//! 200 ms, and loses datagrams. Rates of 0 are unlimited.
//!
//! What is left out: congestion control (a link takes the rate that both access links leave at once), buffers that
//! overflow, the sharing of an uplink by several chunks at a time (one follows the other).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cache_core::prng::{Prng, mix};
use cache_core::sign::ClusterKey;
use cache_core::time::{Span, Time};
use cache_core::wire::{Datagram, FRAME_HEAD_BYTES, Frame};

use super::chunks::Chunks;
use super::event::{Event, What};
use super::partitions::Partition;
use super::place::{self, Map, Owner, Point};
use super::queue::Queue;
use super::throttles::Throttles;
use crate::invariants::{Fact, Invariants};

/// What a lost packet costs on a link beside a round trip: the least retransmission timeout of common stacks.
pub(crate) const RETRANSMIT_US: u64 = 200_000;

/// Payload of a TCP segment.
const SEGMENT_BYTES: u64 = 1_448;

/// IP and TCP headers, time stamps included, of each segment.
const HEADERS_BYTES: u64 = 52;

/// A frame that tells of one chunk: its head, a count, a number.
const NEWS_BYTES: u64 = FRAME_HEAD_BYTES as u64 + 1 + 8;

/// IP and UDP headers of a datagram.
const DATAGRAM_HEADERS_BYTES: u64 = 28;

const SEGMENTS_MAX: usize = 1_024;

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Route,
    Index(u16),
    Cache(u16),
    Publisher,
    Peer,
}

/// A host and its access link. Each message looks at two of thousands, in no order: so it is one line of the processor's
/// cache, and so is a [`Link`].
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Host {
    pub(crate) role: Role,
    addr: std::net::SocketAddrV4,
    pub(crate) at: Point,
    pub(crate) region: u32,
    pub(crate) domain: u16,
    /// Bits per second; 0: unlimited.
    pub(crate) up_bps: u64,
    pub(crate) down_bps: u64,
    up_free: u64,
    down_free: u64,
    /// Its process runs.
    pub(crate) alive: bool,
    /// Its process stands still.
    pub(crate) stopped: bool,
    /// Links to it can be made, and datagrams reach it unasked.
    pub(crate) dialable: bool,
    /// It says that it has sent what it has not (a liar).
    pub(crate) feigns: bool,
}

impl Host {
    /// `addr` is one of the map's, which are of IPv4.
    pub(crate) fn new(role: Role, addr: SocketAddr, at: Point, region: u32, domain: u16) -> Host {
        let addr = match addr {
            SocketAddr::V4(addr) => addr,
            SocketAddr::V6(_) => std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0),
        };
        let (up_bps, down_bps, up_free, down_free) = (0, 0, 0, 0);
        let (alive, stopped, dialable, feigns) = (true, false, true, false);
        Host { role, addr, at, region, domain, up_bps, down_bps, up_free, down_free, alive, stopped, dialable, feigns }
    }

    /// Its address.
    pub(crate) const fn addr(&self) -> SocketAddr {
        SocketAddr::V4(self.addr)
    }

    /// Takes the uplink for `bytes` from `now` on, behind what is there: when the first and the last byte leave.
    fn occupy_up(&mut self, now: u64, bytes: u64) -> (u64, u64) {
        let begin = self.up_free.max(now);
        self.up_free = begin + transmission_us(bytes, self.up_bps);
        (begin, self.up_free)
    }

    /// The same while the uplink is throttled.
    fn occupy_throttled_up(&mut self, now: u64, bytes: u64, throttles: &Throttles) -> (u64, u64) {
        let begin = self.up_free.max(now);
        self.up_free = throttles.through(self.up_bps, begin, bytes);
        (begin, self.up_free)
    }

    /// Takes the downlink for `bytes` whose last one would be there `now`: when it is.
    ///
    /// `largest_us` is the time of the largest message, which may have begun so long ago: a small one that arrives while it
    /// comes in takes its own time only, and not what the large one has used until then.
    fn occupy_down(&mut self, now: u64, bytes: u64, largest_us: u64) -> u64 {
        if self.down_bps == 0 {
            return now;
        }
        self.down_free = self.down_free.max(now.saturating_sub(largest_us)) + transmission_us(bytes, self.down_bps);
        now.max(self.down_free)
    }

    /// How much is queued in front of the uplink.
    pub(crate) fn backlog(&self, now: Time) -> Span {
        Span::from_micros(self.up_free.saturating_sub(now.micros()))
    }

    /// What was queued is gone with the process.
    pub(crate) fn forget_queues(&mut self) {
        (self.up_free, self.down_free) = (0, 0);
    }
}

/// How long `bytes` take at `bps`, rounded up; 0 when that is unlimited.
pub(crate) const fn transmission_us(bytes: u64, bps: u64) -> u64 {
    if bps == 0 { 0 } else { (bytes * 8_000_000).div_ceil(bps) }
}

/// A TCP link, or the attempt at one.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Link {
    /// Side 0 dialled.
    pub(crate) nodes: [u32; 2],
    /// What each side calls it.
    pub(crate) names: [u32; 2],
    pub(crate) open: [bool; 2],
    /// When the newest message of each side arrives.
    arrival: [u64; 2],
    delay_us: u32,
    /// Events that name it.
    pending: u32,
    /// A partition has held something up on it.
    pub(crate) held: bool,
}

/// Bytes on the network. Chunk bytes are those of whole frames, as machines count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Chunk bytes that peers have begun to send to peers.
    pub(crate) peers_sent: u64,
    /// Of those: delivered to a machine.
    pub(crate) peers_delivered: u64,
    /// Of those: lost with a link or a process.
    pub(crate) peers_lost: u64,
    /// Of those: on the way.
    pub(crate) peers_in_flight: u64,
    /// Of those: in front of an uplink, its sender not told.
    pub(crate) peers_in_uplink: u64,
    /// Of those: through the uplink of a sender who counts it no more.
    pub(crate) peers_untold: u64,
    /// Chunk bytes delivered from caches to peers.
    pub(crate) caches_delivered: u64,
    /// Chunk bytes that caches have begun to send to peers and caches.
    pub(crate) caches_sent: u64,
    /// Chunk bytes between peers of different regions.
    pub(crate) peers_across: u64,
    /// Chunk bytes between caches and peers of different regions.
    pub(crate) caches_across: u64,
    /// Bytes that are not chunks, sent or received by peers.
    pub(crate) control: u64,
}

/// The network and all that is on its way.
#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) now: Time,
    pub(crate) queue: Queue<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) links: Vec<Link>,
    free: Vec<u32>,
    pub(crate) chunks: Chunks,
    pub(crate) map: Map,
    pub(crate) partitions: Vec<Partition>,
    /// When the last of what partitions have held up so far is sent again.
    pub(crate) held_until: Time,
    /// Of the nodes whose uplinks are cut at present.
    pub(crate) throttles: BTreeMap<u32, Throttles>,
    pub(crate) traffic: Traffic,
    pub(crate) invariants: Invariants,
    pub(crate) digest: u64,
    rng: Prng,
    cluster: ClusterKey,
    loss_ppm: u64,
    /// By segments of a message: how often, in a million, one of them is lost.
    loss_of: Vec<u32>,
    jitter_ppm: u64,
    servers: Vec<u32>,
    /// By block of addresses, then by number in it.
    peers: Vec<Vec<u32>>,
    scratch: Vec<u8>,
}

impl Fabric {
    pub(crate) fn new(
        map: Map,
        chunks: Chunks,
        rng: Prng,
        loss_permille: f64,
        jitter: f64,
        invariants: Invariants,
    ) -> Fabric {
        let loss_ppm = (loss_permille * 1_000.0) as u64;
        let mut kept = 1_000_000_000_000u64;
        let loss_of = (0..=SEGMENTS_MAX)
            .map(|_| {
                let lost = ((1_000_000_000_000 - kept) / 1_000_000) as u32;
                kept = kept / 1_000_000 * (1_000_000 - loss_ppm.min(1_000_000));
                lost
            })
            .collect();
        Fabric {
            now: Time::ZERO,
            queue: Queue::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            free: Vec::new(),
            chunks,
            partitions: Vec::new(),
            held_until: Time::ZERO,
            throttles: BTreeMap::new(),
            traffic: Traffic::default(),
            invariants,
            digest: 0,
            rng,
            cluster: ClusterKey::derive("simulated"),
            loss_ppm,
            loss_of,
            jitter_ppm: (jitter * 1_000_000.0) as u64,
            servers: Vec::new(),
            peers: (0..map.blocks()).map(|_| Vec::new()).collect(),
            map,
            scratch: Vec::new(),
        }
    }

    /// Adds a server.
    pub(crate) fn add_server(&mut self, role: Role, at: Point, domain: u16) -> u32 {
        let addr = place::server_addr(self.servers.len() as u32);
        let region = self.map.region(at);
        let node = self.hosts.len() as u32;
        self.servers.push(node);
        self.hosts.push(Host::new(role, addr, at, region, domain));
        node
    }

    /// Adds a peer with an address of its place; `None` when they are used up.
    pub(crate) fn add_peer(&mut self, at: Point, domain: u16) -> Option<u32> {
        let region = self.map.region(at);
        let node = self.hosts.len() as u32;
        let block = self.map.block(at);
        let here = &mut self.peers[block as usize];
        let number = here.len() as u32;
        if number >= self.map.peers_per_block_max() {
            return None;
        }
        here.push(node);
        self.hosts.push(Host::new(Role::Peer, self.map.peer_addr(block, number), at, region, domain));
        Some(node)
    }

    /// Who has an address.
    pub(crate) fn node_at(&self, addr: SocketAddr) -> Option<u32> {
        match self.map.owner(addr)? {
            Owner::Server(number) => self.servers.get(number as usize).copied(),
            Owner::Peer { block, number } => self.peers.get(block as usize)?.get(number as usize).copied(),
        }
    }

    /// A node.
    pub(crate) fn host(&self, node: u32) -> &Host {
        &self.hosts[node as usize]
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.queue.put(at, event);
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.invariants.see(self.now, &fact);
    }

    /// Folds something that was decided into the run's digest.
    pub(crate) fn fold(&mut self, value: u64) {
        self.digest = mix(self.digest ^ value);
    }

    fn delay_us(&mut self, base: u64) -> u64 {
        let most = base * self.jitter_ppm / 1_000_000;
        base + self.rng.below(most as usize + 1) as u64
    }

    /// When `bytes` sent now by `from` would be at `to`, and when the last one leaves.
    fn transmit(&mut self, from: u32, to: u32, bytes: u64, base_us: u64) -> (u64, u64) {
        let delay = self.delay_us(base_us);
        let down_bps = self.host(to).down_bps;
        let now = self.now.micros();
        let host = &mut self.hosts[from as usize];
        let (begin, end) = match self.throttles.get(&from) {
            None => host.occupy_up(now, bytes),
            Some(throttles) => host.occupy_throttled_up(now, bytes, throttles),
        };
        (end, (end + delay).max(begin + delay + transmission_us(bytes, down_bps)))
    }

    /// Sends a datagram.
    pub(crate) fn datagram(&mut self, from: u32, to: SocketAddr, body: Datagram) {
        let Some(bytes) = body.encode(&self.cluster).map(|packet| packet.len() as u64 + DATAGRAM_HEADERS_BYTES) else {
            return;
        };
        let Some(to_node) = self.node_at(to) else { return };
        let translated = to.port() == place::TRANSLATED_PORT;
        let unasked = !self.host(to_node).dialable && !translated;
        self.count_control(from, to_node, bytes);
        let base = self.map.delay_us(self.host(from).at, self.host(to_node).at);
        let (_, arrival) = self.transmit(from, to_node, bytes, base);
        let lost = self.loss_ppm > 0 && (self.rng.below(1_000_000) as u64) < self.loss_ppm;
        if lost || unasked || self.cut_off(from, to_node).is_some() {
            return;
        }
        let body = Box::new(body);
        let event = Event::Datagram { to: to_node, from, bytes: bytes as u16, through: false, body };
        self.at(Time::from_micros(arrival), event);
    }

    /// The address that a node's datagrams come from.
    pub(crate) fn source(&self, node: u32) -> SocketAddr {
        let host = self.host(node);
        let mut addr = host.addr();
        if !host.dialable {
            addr.set_port(place::TRANSLATED_PORT);
        }
        addr
    }

    fn count_control(&mut self, from: u32, to: u32, bytes: u64) {
        let peers = [from, to].iter().filter(|n| self.host(**n).role == Role::Peer).count() as u64;
        self.traffic.control += peers * bytes;
    }

    /// Whether a message that arrives now must wait for its receiver's downlink; then it is put back.
    pub(crate) fn waits(&mut self, event: Event) -> Option<Event> {
        if self.is_refused(&event) {
            return Some(event);
        }
        let (to, bytes, through) = match &event {
            Event::Datagram { to, bytes, through, .. } => (*to, u64::from(*bytes), *through),
            Event::Link { link, side, through, what } => {
                let to = self.links[*link as usize].nodes[1 - usize::from(*side)];
                (to, self.bytes_of(what), *through)
            }
            _ => return Some(event),
        };
        let now = self.now.micros();
        let largest = transmission_us(self.wire_bytes_of_chunk(), self.host(to).down_bps);
        let there = if through { now } else { self.hosts[to as usize].occupy_down(now, bytes, largest) };
        if there <= now {
            return Some(event);
        }
        let later = match event {
            Event::Datagram { to, from, bytes, body, .. } => Event::Datagram { to, from, bytes, through: true, body },
            Event::Link { link, side, what, .. } => Event::Link { link, side, through: true, what },
            other => other,
        };
        self.at(Time::from_micros(there), later);
        None
    }

    fn bytes_of(&self, what: &What) -> u64 {
        match what {
            What::Syn | What::SynAck | What::Closed => HEADERS_BYTES,
            What::Frame { bytes, .. } => u64::from(*bytes),
            What::News { .. } => NEWS_BYTES + HEADERS_BYTES,
            What::Chunk { .. } => self.wire_bytes_of_chunk(),
        }
    }

    /// A chunk's frame with the headers of its segments.
    fn wire_bytes_of_chunk(&self) -> u64 {
        let frame = self.chunks.frame_bytes();
        frame + frame.div_ceil(SEGMENT_BYTES) * HEADERS_BYTES
    }

    /// How long a chunk takes through a node's uplink.
    pub(crate) fn chunk_transmission(&self, node: u32) -> Span {
        let full = self.host(node).up_bps;
        let bps = self.throttles.get(&node).map_or(full, |throttles| throttles.bps_at(full, self.now.micros()));
        Span::from_micros(transmission_us(self.wire_bytes_of_chunk(), bps))
    }

    /// Asks for a link; `name` is what the dialler calls it.
    pub(crate) fn dial(&mut self, from: u32, name: u32, to: SocketAddr) -> u32 {
        let to_node = self.node_at(to).unwrap_or(from);
        let delay_us = self.map.delay_us(self.host(from).at, self.host(to_node).at) as u32;
        let link = Link {
            nodes: [from, to_node],
            names: [name, 0],
            open: [true, false],
            arrival: [0; 2],
            delay_us,
            pending: 0,
            held: false,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.links[place as usize] = link;
                place
            }
            None => {
                self.links.push(link);
                self.links.len() as u32 - 1
            }
        };
        self.put_on(place, 0, What::Syn);
        place
    }

    /// Sends something over a link. When the last byte leaves.
    fn put_on(&mut self, link: u32, side: usize, what: What) -> Time {
        let bytes = self.bytes_of(&what);
        let Link { nodes, delay_us, .. } = self.links[link as usize];
        let (from, to) = (nodes[side], nodes[1 - side]);
        let (end, mut arrival) = self.transmit(from, to, bytes, u64::from(delay_us));
        if self.loss_ppm > 0 {
            let segments = (bytes / SEGMENT_BYTES) as usize + 1;
            let odds = self.loss_of[segments.min(SEGMENTS_MAX)];
            if (self.rng.below(1_000_000) as u32) < odds {
                arrival += 2 * u64::from(delay_us) + RETRANSMIT_US;
            }
        }
        let again_us = 2 * u64::from(delay_us) + RETRANSMIT_US;
        let held = self.cut_off(from, to).map(|healed| healed.after(Span::from_micros(again_us)));
        if let Some(held) = held {
            self.held_until = self.held_until.max(held);
            arrival = arrival.max(held.micros());
        }
        if !matches!(what, What::Chunk { .. }) {
            self.count_control(from, to, bytes);
        }
        let link_ = &mut self.links[link as usize];
        arrival = arrival.max(link_.arrival[side]);
        link_.arrival[side] = arrival;
        link_.pending += 1;
        link_.held |= held.is_some();
        self.at(Time::from_micros(arrival), Event::Link { link, side: side as u8, through: false, what });
        Time::from_micros(end)
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, link: u32, side: usize, frame: Frame) {
        if let Frame::Have(have) = &frame
            && let [seq] = *have.seqs
        {
            self.put_on(link, side, What::News { seq });
            return;
        }
        self.scratch.clear();
        frame.encode(&mut self.scratch);
        let bytes = self.scratch.len() as u32 + HEADERS_BYTES as u32;
        self.put_on(link, side, What::Frame { bytes, frame: Box::new(frame) });
    }

    /// Sends a chunk; [`Event::Sent`] follows when its last byte has left.
    pub(crate) fn send_chunk(&mut self, link: u32, side: usize, chunk: u32, content: u64) {
        let end = self.put_on(link, side, What::Chunk { chunk, content });
        let node = self.links[link as usize].nodes[side];
        let bytes = self.chunks.frame_bytes();
        match self.host(node).role {
            Role::Peer => {
                self.traffic.peers_sent += bytes;
                self.traffic.peers_in_flight += bytes;
                self.traffic.peers_in_uplink += bytes;
            }
            Role::Cache(_) => self.traffic.caches_sent += bytes,
            _ => {}
        }
        self.sent_at(end, node, link, chunk);
    }

    /// A chunk has left a peer's uplink; `told`: its machine has counted it.
    pub(crate) fn uplink_left(&mut self, told: bool) {
        let bytes = self.chunks.frame_bytes();
        self.traffic.peers_in_uplink -= bytes;
        self.traffic.peers_untold += if told { 0 } else { bytes };
    }

    /// A chunk is on its way no longer.
    pub(crate) fn chunk_landed(&mut self, from: u32, to: u32) {
        if self.host(from).role == Role::Peer && self.host(to).role == Role::Peer {
            self.traffic.peers_in_flight -= self.chunks.frame_bytes();
        }
    }

    /// Tells `node` at `at` that a chunk has been sent.
    pub(crate) fn sent_at(&mut self, at: Time, node: u32, link: u32, chunk: u32) {
        self.links[link as usize].pending += 1;
        self.at(at, Event::Sent { node, link, chunk });
    }

    /// Closes one side's end when what was sent is out.
    pub(crate) fn close(&mut self, link: u32, side: usize) {
        let link_ = &mut self.links[link as usize];
        if std::mem::take(&mut link_.open[side]) && link_.open[1 - side] {
            self.put_on(link, side, What::Closed);
        }
        self.release(link);
    }

    /// Answers an attempt at a link.
    pub(crate) fn answer_dial(&mut self, link: u32, taken: bool) {
        self.put_on(link, 1, if taken { What::SynAck } else { What::Closed });
    }

    /// An event of the link has been taken out of the queue.
    pub(crate) fn unpend(&mut self, link: u32) {
        self.links[link as usize].pending -= 1;
    }

    /// Gives a link's place back when nobody names it any more.
    pub(crate) fn release(&mut self, link: u32) {
        let link_ = &mut self.links[link as usize];
        if link_.pending == 0 && link_.open == [false; 2] && link_.nodes[0] != u32::MAX {
            link_.nodes = [u32::MAX; 2];
            self.free.push(link);
        }
    }

    /// Counts a chunk that has reached its receiver's machine, or found its link closed.
    pub(crate) fn count_chunk(&mut self, from: u32, to: u32, delivered: bool) {
        let bytes = self.chunks.frame_bytes();
        let (from, to) = (self.host(from), self.host(to));
        if to.role != Role::Peer {
            return;
        }
        let (across, role) = (from.region != to.region, from.role);
        let traffic = &mut self.traffic;
        match role {
            Role::Peer if delivered => {
                traffic.peers_delivered += bytes;
                traffic.peers_across += if across { bytes } else { 0 };
            }
            Role::Peer => traffic.peers_lost += bytes,
            _ if delivered => {
                traffic.caches_delivered += bytes;
                traffic.caches_across += if across { bytes } else { 0 };
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
