//! A real shard on a port of its own, a ring to publish into, and a plain blocking client.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cache_core::peer_id::PeerId;
use cache_core::ring::{ChunkMeta, PREFIX_BYTES, Recycle, Ring, RingConfig, StreamSlot, Writer};
use cache_core::sign::{PublisherKey, payload_hash, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::exchange::{Hello, Open, Request, Role, Run, StreamInfo, Subscribe};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{
    Blob, CHUNK_HEADER_BYTES, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, List, StreamName,
};
use weircast_server::cache::bridge::{ToControl, ToShard};
use weircast_server::cache::data::{self, SendBackend, ShardConfig, ShardHandle};

/// A test that hangs for this long has failed; nothing is timed by it.
pub const HANG: Duration = Duration::from_secs(60);

/// A transport-stream packet.
pub const PACKET: usize = 188;

/// Waits until `done`; panics with `what` when the test hangs.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

pub fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a good name")
}

pub fn seq(number: u64) -> ChunkSeq {
    ChunkSeq::new(number)
}

/// What a chunk is made of.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Packets of transport stream.
    pub packets: usize,
    /// Packets of tables in front of them.
    pub tables: usize,
    /// The packet with the first key frame.
    pub key_frame: Option<usize>,
    pub end: bool,
}

/// 40 packets and nothing special.
pub const PLAIN: Kind = Kind { packets: 40, tables: 0, key_frame: None, end: false };
/// A viewer can begin at packet 5.
pub const JOIN: Kind = Kind { packets: 40, tables: 2, key_frame: Some(5), end: false };

/// The payload of chunk `seq` of `stream`: each packet says whose it is and where it stands, and the rest of it follows
/// from that, so that a byte in the wrong place cannot look right.
pub fn payload(stream: StreamId, seq: u64, kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((kind.tables + kind.packets) * PACKET);
    for index in 0..kind.tables + kind.packets {
        let seed = stream.0 ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (index as u64) << 40;
        let mut packet = [0u8; PACKET];
        packet[0] = 0x47;
        for (i, word) in packet[1..185].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&cache_core::prng::mix(seed.wrapping_add(i as u64)).to_le_bytes());
        }
        bytes.extend_from_slice(&packet);
    }
    bytes
}

/// The ring's writing side and a stream in it.
pub struct Source {
    pub writer: Writer,
    pub ring: Ring,
    pub id: StreamId,
    pub slot: StreamSlot,
    key: PublisherKey,
}

impl Source {
    /// A ring of `mib` MiB with the open stream "news".
    pub fn new(mib: u64, recycle: Recycle) -> Source {
        let config = RingConfig { recycle, readers_max: 4, ..RingConfig::memfd(mib << 20) };
        let (mut writer, ring) = Ring::create(&config).expect("memory for the ring");
        let id = stream_id(&name("news"));
        let slot = writer.open_stream(id).expect("the first stream");
        Source { writer, ring, id, slot, key: PublisherKey::from_seed(&[7; 32]) }
    }

    pub fn publish(&mut self, number: u64, kind: Kind) {
        let payload = payload(self.id, number, kind);
        self.publish_bytes(number, kind, &payload);
    }

    pub fn publish_bytes(&mut self, number: u64, kind: Kind, payload: &[u8]) {
        let mut header = ChunkHeader {
            stream: self.id,
            epoch: Epoch(1),
            seq: seq(number),
            published: WallClock::from_micros(1_000_000 + number),
            payload_len: payload.len() as u32,
            tables_len: (kind.tables * PACKET) as u16,
            duration_ms: 200,
            key_frame: kind.key_frame.map(|packet| (packet * PACKET) as u32),
            discontinuity: false,
            end: kind.end,
            hash: [0; 32],
            signature: [0; 64],
        };
        self.key.sign_chunk(&mut header, payload);
        let mut reserved = self.writer.reserve(self.slot, PREFIX_BYTES + payload.len()).expect("room in the ring");
        let bytes = self.writer.bytes_mut(&mut reserved);
        bytes[..PREFIX_BYTES].copy_from_slice(&chunk_prefix(&header));
        bytes[PREFIX_BYTES..].copy_from_slice(payload);
        let meta = ChunkMeta {
            seq: header.seq,
            epoch: header.epoch,
            published: header.published,
            payload_len: header.payload_len,
            tables_len: header.tables_len,
            key_frame: header.key_frame,
            duration_ms: header.duration_ms,
            discontinuity: header.discontinuity,
            end: header.end,
        };
        assert!(self.writer.publish(reserved, meta), "chunk {number} is new");
    }
}

/// A source and a shard that serves it.
pub struct Stage {
    pub source: Source,
    pub shard: ShardHandle,
    pub addr: SocketAddr,
}

impl Stage {
    /// A ring of 32 MiB and a shard with `change`d defaults.
    pub fn new(change: impl FnOnce(&mut ShardConfig)) -> Stage {
        Stage::on(Source::new(32, Recycle::Punch), change)
    }

    pub fn on(source: Source, change: impl FnOnce(&mut ShardConfig)) -> Stage {
        let listener = data::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shard = start(0, &source.ring, listener, addr, change);
        Stage { source, shard, addr }
    }

    /// Publishes and tells the shard.
    pub fn publish(&mut self, number: u64, kind: Kind) {
        self.source.publish(number, kind);
        self.tell(ToShard::Published { stream: self.source.id });
    }

    pub fn tell(&mut self, message: ToShard) {
        assert!(self.shard.tell(message).is_ok(), "the queue has room");
    }

    /// The next message from the shard that is no count of viewers.
    pub fn hear(&mut self) -> ToControl {
        loop {
            match hear_any(&mut self.shard) {
                ToControl::Viewers { .. } => {}
                message => return message,
            }
        }
    }

    pub fn viewer(&self) -> Client {
        Client::viewer(self.addr)
    }

    /// Stops the shard and proves that nothing was left behind.
    pub fn stop(mut self) {
        self.tell(ToShard::Stop);
        while !matches!(hear_any(&mut self.shard), ToControl::Stopped) {}
        assert!(self.shard.join(), "the shard did not panic");
    }
}

pub fn hear_any(shard: &mut ShardHandle) -> ToControl {
    let mut heard = None;
    until("the shard says something", || {
        heard = shard.hear();
        heard.is_some()
    });
    heard.expect("it has")
}

pub fn start(
    index: u32,
    ring: &Ring,
    listener: std::net::TcpListener,
    addr: SocketAddr,
    change: impl FnOnce(&mut ShardConfig),
) -> ShardHandle {
    let mut config = ShardConfig { connections_max: 100, send: SendBackend::Sendfile, ..ShardConfig::new(addr) };
    change(&mut config);
    data::start(index, config, listener, ring.reader(index).expect("a reader"), ring.clone()).expect("a shard")
}

/// What a viewer gets.
#[derive(Debug)]
pub enum Got {
    Frame(Frame),
    Chunk(ChunkHeader, Vec<u8>),
    /// The connection has ended.
    End,
}

/// A viewer: a blocking socket.
#[derive(Debug)]
pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        let socket = TcpStream::connect(addr).expect("the shard listens");
        socket.set_read_timeout(Some(HANG)).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        Client(socket)
    }

    /// Connected and welcomed.
    pub fn viewer(addr: SocketAddr) -> Client {
        let mut client = Client::connect(addr);
        client.send(hello(Role::Viewer));
        assert!(matches!(client.frame(), Frame::Welcome(_)));
        client
    }

    /// Connected, welcomed, and "news" opened.
    pub fn watching(addr: SocketAddr) -> (Client, StreamInfo) {
        let mut client = Client::viewer(addr);
        let info = client.open("news", 0);
        (client, info)
    }

    pub fn send(&mut self, frame: impl Into<Frame>) {
        let mut bytes = Vec::new();
        frame.into().encode(&mut bytes);
        self.0.write_all(&bytes).expect("the shard reads");
    }

    pub fn open(&mut self, stream: &str, back: u16) -> StreamInfo {
        self.send(Open { stream: name(stream), back });
        match self.frame() {
            Frame::StreamInfo(info) => info,
            other => panic!("{other:?} instead of StreamInfo"),
        }
    }

    pub fn request(&mut self, stream: StreamId, runs: &[(u64, u16)]) {
        let runs = runs.iter().map(|&(first, count)| Run { first: seq(first), count });
        self.send(Request { stream, runs: List::first_of(runs), within_ms: 0 });
    }

    pub fn subscribe(&mut self, stream: StreamId, from: u64) {
        self.send(Subscribe { stream, from: seq(from) });
    }

    /// The next thing, whole. Chunks have passed their hash.
    pub fn next(&mut self) -> Got {
        let mut head = [0; FRAME_HEAD_BYTES];
        if !self.fill(&mut head) {
            return Got::End;
        }
        let head = FrameHead::decode(&head).expect("a frame begins");
        let mut body = vec![0; head.body_len];
        if !self.fill(&mut body) {
            return Got::End;
        }
        if head.kind != KIND_CHUNK {
            return Got::Frame(Frame::decode(head.kind, &body).expect("a good frame"));
        }
        let header = ChunkHeader::decode(&body).expect("a good chunk header");
        let payload = body.split_off(CHUNK_HEADER_BYTES);
        assert_eq!(payload_hash(&payload), header.hash, "chunk {} has the bytes that were signed", header.seq);
        Got::Chunk(header, payload)
    }

    pub fn frame(&mut self) -> Frame {
        match self.next() {
            Got::Frame(frame) => frame,
            other => panic!("{other:?} instead of a frame"),
        }
    }

    /// The next thing must be a chunk; its number.
    pub fn chunk(&mut self) -> u64 {
        match self.next() {
            Got::Chunk(header, _) => header.seq.get(),
            other => panic!("{other:?} instead of a chunk"),
        }
    }

    pub fn ended(&mut self) -> bool {
        matches!(self.next(), Got::End)
    }

    /// Reads until `bytes` is full; false when the connection ends before.
    pub fn fill(&mut self, bytes: &mut [u8]) -> bool {
        let mut at = 0;
        while at < bytes.len() {
            match self.0.read(&mut bytes[at..]) {
                Ok(0) => return false,
                Ok(count) => at += count,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("the shard said nothing: {error}"),
            }
        }
        true
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = [0; 65_536];
        loop {
            match self.0.read(&mut part) {
                Ok(0) => return all,
                Ok(count) => all.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
                Err(error) => panic!("the shard said nothing: {error}"),
            }
        }
    }
}

pub fn hello(role: Role) -> Hello {
    Hello { role, peer: PeerId::NONE, stream: StreamId(0), domain: DomainId(0), listen: None, ticket: Blob::default() }
}
