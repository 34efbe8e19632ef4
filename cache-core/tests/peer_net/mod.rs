//! A small network in memory: peers' machines joined by links with latency and uplinks with a rate, a cache, an index
//! and a route server that speak the wire messages. Virtual time; the same seed gives the same run to the last message.
//!
//! A chunk's content is a number that follows from stream position and epoch, so that every chunk played can be checked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::peer_id::{Location, PeerId};
use cache_core::prng::{Prng, mix};
use cache_core::proto::peer::{End, Input, LinkId, Output, Peer, PeerConfig, Tuning};
use cache_core::sign::{ChunkFault, stream_id};
use cache_core::time::{Span, Time, WallClock};
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::datagram::{Challenge, Cookie, Datagram, Message};
use cache_core::wire::exchange::{Ended, PeerEntry, StreamInfo, Unavailable, Welcome};
use cache_core::wire::index::{Joined, Keys, PeerHeartbeatAck, StreamKey};
use cache_core::wire::route::RouteJoined;
use cache_core::wire::{BufferMap, ChunkHeader, Frame, List, RefusalReason, Refused, StreamName};

pub(crate) const CHUNK_BYTES: u32 = 50_000;
const SERVER: NodeId = 0;
const FIRST_VIEWER: NodeId = 10;
/// Every tenth chunk is a join point: a key frame each 2 s.
const JOIN_POINTS: u64 = 10;

pub(crate) type NodeId = usize;

#[derive(Debug)]
enum Event {
    Tick(NodeId),
    Publish,
    Datagram { to: NodeId, from: NodeId, datagram: Datagram },
    Dialled { conn: usize },
    Link { conn: usize, side: usize, what: What },
    Sent { node: NodeId, link: LinkId, seq: ChunkSeq },
}

#[derive(Debug)]
enum What {
    Connected,
    Closed,
    Frame(Frame),
    Chunk(ChunkHeader, u64),
}

#[derive(Debug)]
struct Conn {
    ends: [(NodeId, LinkId); 2],
    open: bool,
    /// Nothing overtakes: the arrival of the newest message in each direction.
    arrival: [Time; 2],
}

/// A peer's driver: what it stores and what it played.
pub(crate) struct Viewer {
    pub(crate) peer: Peer,
    store: BTreeMap<ChunkSeq, (ChunkHeader, u64)>,
    epochs: Vec<Epoch>,
    pub(crate) conns: BTreeMap<LinkId, usize>,
    uplink_free: Time,
    tick_at: Time,
    pub(crate) launched: Time,
    pub(crate) played: Vec<(ChunkSeq, Time)>,
    pub(crate) missed: usize,
    pub(crate) end: Option<End>,
    pub(crate) alive: bool,
    /// Corrupts every chunk that it sends.
    pub(crate) polluter: bool,
    /// Announces everything and sends nothing.
    pub(crate) liar: bool,
    /// Takes in and sends nothing, and its links stay open.
    pub(crate) frozen: bool,
}

#[derive(Default)]
pub(crate) struct Cache {
    conns: BTreeMap<LinkId, usize>,
    parked: BTreeSet<(ChunkSeq, LinkId)>,
    pub(crate) alive: bool,
    pub(crate) chunks_sent: u64,
}

pub(crate) struct Net {
    pub(crate) now: Time,
    rng: Prng,
    order: u64,
    events: BinaryHeap<Reverse<(Time, u64, usize)>>,
    bodies: BTreeMap<usize, Event>,
    pub(crate) viewers: BTreeMap<NodeId, Viewer>,
    pub(crate) caches: BTreeMap<NodeId, Cache>,
    conns: Vec<Conn>,
    next_node: NodeId,
    /// What is published: by sequence, its epoch and when.
    pub(crate) published: BTreeMap<ChunkSeq, (Epoch, Time)>,
    pub(crate) epoch: Epoch,
    pub(crate) next_seq: ChunkSeq,
    pub(crate) publishing: bool,
    pub(crate) end_next: bool,
    pub(crate) index_up: bool,
    registered: BTreeMap<PeerId, SocketAddr>,
    /// Everything that was decided, folded into one number, if `traced`.
    pub(crate) digest: u64,
    pub(crate) traced: bool,
    pub(crate) uplink_kbps: u64,
    pub(crate) regions: u16,
    pub(crate) datagram_loss_percent: usize,
}

pub(crate) fn name() -> StreamName {
    StreamName::new("news").expect("a name")
}

fn stream() -> StreamId {
    stream_id(&name())
}

pub(crate) fn addr(node: NodeId) -> SocketAddr {
    SocketAddr::from(([10, 0, (node >> 8) as u8, node as u8], 7_000))
}

fn node_of(addr: SocketAddr) -> NodeId {
    match addr {
        SocketAddr::V4(v4) => usize::from(u16::from_be_bytes([v4.ip().octets()[2], v4.ip().octets()[3]])),
        SocketAddr::V6(_) => SERVER,
    }
}

/// The area of a node's address among `regions`.
pub(crate) fn region(addr: SocketAddr, regions: usize) -> usize {
    node_of(addr) % regions
}

/// Whether a viewer, not a cache, has this address.
pub(crate) fn is_viewer(addr: SocketAddr) -> bool {
    node_of(addr) >= FIRST_VIEWER
}

/// A chunk's right content.
pub(crate) fn content(seq: ChunkSeq, epoch: Epoch) -> u64 {
    mix(seq.get() ^ epoch.0 << 48)
}

fn header(seq: ChunkSeq, epoch: Epoch, at: Time, end: bool) -> ChunkHeader {
    ChunkHeader {
        stream: stream(),
        epoch,
        seq,
        published: WallClock::from_micros(at.micros()),
        payload_len: CHUNK_BYTES,
        tables_len: 0,
        duration_ms: 200,
        key_frame: None,
        discontinuity: false,
        end,
        hash: [0; 32],
        signature: [0; 64],
    }
}

impl Net {
    /// A publisher whose next chunk is `first`, `caches` caches (nodes 1..), one server for route and index.
    pub(crate) fn new(seed: u64, first: u64, caches: usize) -> Net {
        let mut net = Net {
            now: Time::from_millis(1_000),
            rng: Prng::new(seed),
            order: 0,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            viewers: BTreeMap::new(),
            caches: (1..=caches).map(|n| (n, Cache { alive: true, ..Cache::default() })).collect(),
            conns: Vec::new(),
            next_node: FIRST_VIEWER,
            published: BTreeMap::new(),
            epoch: Epoch(1),
            next_seq: ChunkSeq::new(first),
            publishing: true,
            end_next: false,
            index_up: true,
            registered: BTreeMap::new(),
            digest: 0,
            traced: false,
            datagram_loss_percent: 0,
            uplink_kbps: 20_000,
            regions: 1,
        };
        net.at(net.now, Event::Publish);
        net
    }

    /// A viewer that starts now.
    pub(crate) fn watch(&mut self, tuning: Tuning) -> NodeId {
        let node = self.next_node;
        self.next_node += 1;
        let config = PeerConfig { stream: name(), routes: vec![addr(SERVER)], listen: Some(addr(node)), tuning };
        let viewer = Viewer {
            peer: Peer::new(config, self.rng.next_u64()),
            store: BTreeMap::new(),
            epochs: Vec::new(),
            conns: BTreeMap::new(),
            uplink_free: Time::ZERO,
            tick_at: Time::NEVER,
            launched: self.now,
            played: Vec::new(),
            missed: 0,
            end: None,
            alive: true,
            polluter: false,
            liar: false,
            frozen: false,
        };
        self.viewers.insert(node, viewer);
        self.tell(node, Input::Start);
        node
    }

    pub(crate) fn run(&mut self, ms: u64) {
        let until = self.now.after(Span::from_millis(ms));
        while let Some(Reverse((at, _, body))) = self.events.peek().copied()
            && at <= until
        {
            self.events.pop();
            self.now = at;
            let event = self.bodies.remove(&body).expect("an event has a body");
            self.happen(event);
        }
        self.now = until;
    }

    /// Killed: the kernel closes its links.
    pub(crate) fn kill(&mut self, node: NodeId) {
        self.viewers.get_mut(&node).into_iter().for_each(|v| v.alive = false);
        self.caches.get_mut(&node).into_iter().for_each(|c| c.alive = false);
        for conn in 0..self.conns.len() {
            for side in 0..2 {
                if self.conns[conn].ends[side].0 == node {
                    self.close(conn, side);
                }
            }
        }
    }

    pub(crate) fn tell(&mut self, node: NodeId, input: Input) {
        let Some(viewer) = self.viewers.get_mut(&node).filter(|v| v.alive && !v.frozen) else { return };
        let mut out = Outbox::new();
        let arrived = if let Input::Chunk { header, .. } = &input { Some(*header) } else { None };
        viewer.peer.handle(self.now, input, &mut out);
        // What was due has been done, whatever came: a driver that calls at this time does not call for ever.
        assert!(viewer.peer.next_timeout() > self.now, "due in the past after a call at {:?}", self.now);
        let outputs: Vec<Output> = out.drain().collect();
        for output in outputs {
            if self.traced {
                self.digest = mix(self.digest ^ fold(&format!("{node} {} {output:?}", self.now.micros())));
            }
            self.carry_out(node, output, arrived.as_ref());
        }
        self.arm(node);
    }

    fn arm(&mut self, node: NodeId) {
        let Some(viewer) = self.viewers.get_mut(&node) else { return };
        let next = viewer.peer.next_timeout().max(self.now);
        if next < viewer.tick_at {
            viewer.tick_at = next;
            self.at(next, Event::Tick(node));
        }
    }

    fn at(&mut self, at: Time, event: Event) {
        if matches!(event, Event::Datagram { .. }) && self.rng.below(100) < self.datagram_loss_percent {
            return;
        }
        self.order += 1;
        self.events.push(Reverse((at, self.order, self.order as usize)));
        self.bodies.insert(self.order as usize, event);
    }

    fn latency(&mut self) -> Span {
        Span::from_micros(15_000 + self.rng.below(10_000) as u64)
    }

    fn carry_out(&mut self, node: NodeId, output: Output, arrived: Option<&ChunkHeader>) {
        let now = self.now;
        let viewer = self.viewers.get_mut(&node).expect("a viewer");
        match output {
            Output::Datagram { to, datagram } => {
                let at = now.after(self.latency());
                self.at(at, Event::Datagram { to: node_of(to), from: node, datagram });
            }
            Output::Connect { link, to } => {
                let conn = self.conns.len();
                let ends = [(node, link), (node_of(to), LinkId(u32::MAX))];
                self.conns.push(Conn { ends, open: true, arrival: [now; 2] });
                viewer.conns.insert(link, conn);
                let at = now.after(self.latency());
                self.at(at, Event::Dialled { conn });
            }
            Output::Send { link, mut frame } => {
                if viewer.liar
                    && let Frame::Gossip(gossip) = &mut frame
                {
                    let mut all = BufferMap::from_wire(&gossip.map, self.next_seq);
                    (0..256).for_each(|n| _ = all.set(all.base().ahead(n), true));
                    gossip.map = all.to_wire();
                }
                let Some(conn) = viewer.conns.get(&link).copied() else { return };
                self.send(conn, node, What::Frame(frame), now);
            }
            Output::SendChunk { link, seq } if viewer.liar => self.at(now, Event::Sent { node, link, seq }),
            Output::SendChunk { link, seq } => {
                let (header, mut content) = viewer.store[&seq];
                if viewer.polluter {
                    content ^= 1;
                }
                let done = viewer.uplink_free.max(now).after(transfer(self.uplink_kbps));
                viewer.uplink_free = done;
                if let Some(conn) = viewer.conns.get(&link).copied() {
                    self.send(conn, node, What::Chunk(header, content), done);
                }
                self.at(done, Event::Sent { node, link, seq });
            }
            Output::Close { link } => {
                if let Some(conn) = viewer.conns.remove(&link) {
                    let side = usize::from(self.conns[conn].ends[0] != (node, link));
                    self.close(conn, side);
                }
            }
            Output::Keys { keys } => viewer.epochs = keys.iter().map(|k| k.epoch).collect(),
            Output::Keep { seq } => {
                let header = *arrived.expect("only a chunk that came can be kept");
                assert_eq!(header.seq, seq);
                viewer.store.insert(seq, (header, content(seq, header.epoch)));
            }
            Output::Forget { before } => viewer.store = viewer.store.split_off(&before.back(20)),
            Output::Play { seq } => {
                let (header, got) = viewer.store.get(&seq).expect("what is played is kept");
                assert_eq!(*got, content(seq, self.published[&seq].0), "right content");
                assert_eq!(header.seq, seq);
                assert!(viewer.played.last().is_none_or(|(last, _)| *last < seq), "in order, none twice");
                viewer.played.push((seq, now));
            }
            Output::Missed { .. } => viewer.missed += 1,
            Output::Finished { end } => viewer.end = Some(end),
        }
    }

    fn send(&mut self, conn: usize, from: NodeId, what: What, ready: Time) {
        let at = ready.after(self.latency());
        let conn_ = &mut self.conns[conn];
        let side = usize::from(conn_.ends[0].0 == from);
        if conn_.open || matches!(what, What::Closed) {
            let at = at.max(conn_.arrival[side]);
            conn_.arrival[side] = at;
            self.at(at, Event::Link { conn, side, what });
        }
    }

    fn close(&mut self, conn: usize, side: usize) {
        if self.conns[conn].open {
            let node = self.conns[conn].ends[side].0;
            self.send(conn, node, What::Closed, self.now);
            self.conns[conn].open = false;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node) => {
                let Some(viewer) = self.viewers.get_mut(&node).filter(|v| v.tick_at == self.now) else { return };
                viewer.tick_at = Time::NEVER;
                if viewer.alive && !viewer.frozen && viewer.peer.next_timeout() <= self.now {
                    self.tell(node, Input::Tick);
                }
                if self.viewers[&node].alive && !self.viewers[&node].frozen {
                    self.arm(node);
                }
            }
            Event::Publish => {
                if self.publishing {
                    let seq = self.next_seq;
                    self.published.insert(seq, (self.epoch, self.now));
                    self.next_seq = seq.next();
                    let nodes: Vec<NodeId> = self.caches.keys().copied().collect();
                    nodes.into_iter().for_each(|node| self.serve_parked(node, seq));
                    self.publishing = !self.end_next;
                }
                self.at(self.now.after(Span::from_millis(200)), Event::Publish);
            }
            Event::Datagram { to: SERVER, from, datagram } => self.server(from, datagram),
            Event::Datagram { to, from, datagram } => self.tell(to, Input::Datagram { from: addr(from), datagram }),
            Event::Dialled { conn } => self.dialled(conn),
            Event::Sent { node, link, seq } => {
                if self.viewers.get(&node).is_some_and(|v| v.conns.contains_key(&link)) {
                    self.tell(node, Input::ChunkSent { link, seq });
                }
            }
            Event::Link { conn, side, what } => {
                let (node, link) = self.conns[conn].ends[side];
                if let Some(cache) = self.caches.get(&node) {
                    if cache.alive {
                        self.cache(node, conn, link, what);
                    }
                    return;
                }
                let Some(viewer) = self.viewers.get_mut(&node).filter(|v| v.conns.contains_key(&link)) else { return };
                let input = match what {
                    What::Connected => Input::Connected { link },
                    What::Closed => {
                        viewer.conns.remove(&link);
                        Input::Closed { link }
                    }
                    What::Frame(frame) => Input::Frame { link, frame },
                    What::Chunk(header, got) => {
                        let checked = if !viewer.epochs.contains(&header.epoch) {
                            Err(ChunkFault::UnknownEpoch(header.epoch))
                        } else if got != content(header.seq, header.epoch) {
                            Err(ChunkFault::Payload(header.seq))
                        } else {
                            Ok(())
                        };
                        Input::Chunk { link, header, checked }
                    }
                };
                self.tell(node, input);
            }
        }
    }

    fn dialled(&mut self, conn: usize) {
        let (from, to) = (self.conns[conn].ends[0].0, self.conns[conn].ends[1].0);
        if let Some(cache) = self.caches.get_mut(&to).filter(|c| c.alive) {
            let link = LinkId(conn as u32);
            cache.conns.insert(link, conn);
            self.conns[conn].ends[1].1 = link;
        } else if let Some(viewer) = self.viewers.get_mut(&to).filter(|v| v.alive && v.end.is_none()) {
            let link = viewer.peer.new_link();
            viewer.conns.insert(link, conn);
            self.conns[conn].ends[1].1 = link;
            self.tell(to, Input::Accepted { link, from: SocketAddr::new(addr(from).ip(), 40_000) });
        } else {
            return self.close(conn, 1);
        }
        self.send(conn, to, What::Connected, self.now);
    }

    fn cache(&mut self, node: NodeId, conn: usize, link: LinkId, what: What) {
        let head = self.next_seq.back(1);
        let oldest = head.back(290).max(*self.published.keys().next().unwrap_or(&head));
        let mut replies: Vec<Frame> = Vec::new();
        let mut chunks = Vec::new();
        match what {
            What::Closed => {
                let cache = self.caches.get_mut(&node).expect("a cache");
                cache.conns.remove(&link);
                cache.parked.retain(|(_, parked)| *parked != link);
            }
            What::Frame(Frame::Hello(_)) => replies.push(Welcome { peer: PeerId::NONE, nonce: [0; 16] }.into()),
            What::Frame(Frame::Open(open)) => {
                let wanted = head.back(u64::from(open.back));
                let begin = ChunkSeq::new(wanted.get() / JOIN_POINTS * JOIN_POINTS).max(oldest);
                let clock = WallClock::from_micros(0);
                let (stream, epoch, spare_permille) = (stream(), self.epoch, 500);
                let info = StreamInfo { stream, epoch, oldest, head, head_published: clock, begin, spare_permille };
                replies.push(info.into());
            }
            What::Frame(Frame::Request(request)) => {
                for seq in request.runs.iter().flat_map(|r| (0..u64::from(r.count)).map(|n| r.first.ahead(n))) {
                    if seq < oldest || seq > head.ahead(256) {
                        let reason = if seq < oldest { RefusalReason::Gone } else { RefusalReason::NotYet };
                        replies.push(Unavailable { stream: stream(), reason, first: seq, count: 1 }.into());
                    } else if seq <= head {
                        chunks.push(seq);
                    } else {
                        self.caches.get_mut(&node).expect("a cache").parked.insert((seq, link));
                        if self.end_next && !self.publishing {
                            replies.push(Ended { stream: stream(), last: head }.into());
                        }
                    }
                }
            }
            What::Frame(_) | What::Connected | What::Chunk(..) => {}
        }
        replies.into_iter().for_each(|frame| self.send(conn, node, What::Frame(frame), self.now));
        chunks.into_iter().for_each(|seq| self.cache_sends(node, conn, seq));
    }

    fn serve_parked(&mut self, node: NodeId, seq: ChunkSeq) {
        let cache = self.caches.get_mut(&node).expect("a cache");
        let waiting: Vec<LinkId> = cache.parked.iter().filter(|(s, _)| *s == seq).map(|(_, link)| *link).collect();
        cache.parked.retain(|(s, _)| *s != seq);
        for link in waiting {
            let conn = self.caches[&node].conns.get(&link).copied();
            conn.into_iter().for_each(|conn| self.cache_sends(node, conn, seq));
        }
    }

    fn cache_sends(&mut self, node: NodeId, conn: usize, seq: ChunkSeq) {
        if self.caches[&node].alive {
            self.caches.get_mut(&node).expect("a cache").chunks_sent += 1;
            let (epoch, at) = self.published[&seq];
            let end = self.end_next && seq.next() == self.next_seq;
            self.send(conn, node, What::Chunk(header(seq, epoch, at, end), content(seq, epoch)), self.now);
        }
    }

    fn server(&mut self, from: NodeId, asked: Datagram) {
        if !self.index_up {
            return;
        }
        let size = self.registered.len() as u32;
        let keys = || List::first_of([StreamKey { epoch: self.epoch, key: [0; 32] }]);
        let cookie = Cookie([7; 16]);
        let reply: Message = match asked.message {
            _ if asked.cookie != cookie => Challenge {}.into(),
            Message::RouteJoin(_) => {
                let location = Location { country: 86, area: from as u16 % self.regions, ..Location::default() };
                RouteJoined {
                    peer: PeerId::new(location, from as u16),
                    lease_s: 60,
                    domain: DomainId(1),
                    indexes: List::first_of([addr(SERVER)]),
                    seen: addr(from),
                }
                .into()
            }
            Message::Join(_) if self.published.is_empty() => Refused::for_now(RefusalReason::UnknownStream, 500).into(),
            Message::Join(join) => {
                self.registered.insert(join.peer, addr(from));
                let me = join.peer;
                let mut others: Vec<PeerEntry> = self
                    .registered
                    .iter()
                    .filter(|(id, _)| **id != me)
                    .map(|(peer, addr)| PeerEntry { peer: *peer, addr: *addr })
                    .collect();
                self.rng.shuffle(&mut others);
                others.sort_by_key(|e| Reverse(me.tier(e.peer)));
                Joined {
                    stream: stream(),
                    size: self.registered.len() as u32,
                    heartbeat_ms: 5_000,
                    seen: addr(from),
                    keys: keys(),
                    caches: List::first_of(self.caches.keys().map(|n| addr(*n))),
                    members: List::first_of(others),
                }
                .into()
            }
            Message::PeerHeartbeat(beat) if self.registered.contains_key(&beat.peer) => {
                PeerHeartbeatAck { stream: stream(), size }.into()
            }
            Message::PeerHeartbeat(_) => Refused::because(RefusalReason::NotJoined).into(),
            Message::KeysQuery(_) => Keys { stream: stream(), keys: keys() }.into(),
            Message::PeerLeave(leave) => {
                self.registered.remove(&leave.peer);
                return;
            }
            _ => return,
        };
        let datagram = Datagram { exchange: asked.exchange, cookie, message: reply };
        let at = self.now.after(self.latency());
        self.at(at, Event::Datagram { to: from, from: SERVER, datagram });
    }

    /// Links that stand between each two viewers.
    pub(crate) fn links_of_pairs(&self) -> Vec<usize> {
        let mut pairs: BTreeMap<(NodeId, NodeId), usize> = BTreeMap::new();
        for conn in self.conns.iter().filter(|c| c.open && c.ends.iter().all(|(n, _)| *n >= FIRST_VIEWER)) {
            let [(a, _), (b, _)] = conn.ends;
            *pairs.entry((a.min(b), a.max(b))).or_default() += 1;
        }
        pairs.into_values().collect()
    }

    /// The index forgets the dead.
    pub(crate) fn expire_dead(&mut self) {
        let viewers = &self.viewers;
        self.registered.retain(|_, addr| viewers.get(&node_of(*addr)).is_some_and(|v| v.alive));
    }

    /// Forgets everybody: the index was restarted.
    pub(crate) fn restart_index(&mut self) {
        self.registered.clear();
    }

    pub(crate) fn registered(&self) -> usize {
        self.registered.len()
    }
}

fn transfer(kbps: u64) -> Span {
    Span::from_micros(u64::from(CHUNK_BYTES) * 8 * 1_000 / kbps)
}

fn fold(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
