//! Golden bytes: one sample of every message, as it stands in `tests/golden/wire.hex`. A difference means that the
//! wire format has changed: then [`cache_core::wire::VERSION`] must, or the change must be taken back.
//!
//! The file is written anew, and never by accident, with
//! `WEIRCAST_GOLDEN=write cargo test -p cache-core --test golden every_message`.

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::limits::{DATAGRAM_BYTES_MAX, REASON_BYTES_MAX};
use cache_core::peer_id::{Location, PeerId};
use cache_core::sign::ClusterKey;
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::codec::{Reader, Wire};
use cache_core::wire::datagram::{Challenge, Cookie};
use cache_core::wire::exchange::*;
use cache_core::wire::frame::{FRAME_HEAD_BYTES, chunk_prefix};
use cache_core::wire::index::*;
use cache_core::wire::route::*;
use cache_core::wire::{
    Blob, BufferMap, CHUNK_PREFIX_BYTES, ChunkHeader, Datagram, DecodeError, Frame, FrameHead, KIND_CHUNK, List,
    Message, RefusalReason, Refused, StreamName, Text,
};

const STREAM: StreamId = StreamId(0x0123_4567_89AB_CDEF);
const EPOCH: Epoch = Epoch(7);
const CLOCK: WallClock = WallClock::from_micros(1_700_000_000_000_000);

fn seq(number: u64) -> ChunkSeq {
    ChunkSeq::new(number)
}

fn name() -> StreamName {
    StreamName::new("news-1.hd").expect("a good name")
}

fn v4(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4_100))
}

fn v6(last: u16) -> SocketAddr {
    SocketAddr::from(([0x2001, 0xDB8, 0, 0, 0, 0, 0, last], 4_101))
}

fn peer(node: u16) -> PeerId {
    PeerId::new(Location { country: 86, carrier: 3, region: 33, city: 61, area: 40_000 }, node)
}

fn entries() -> Vec<PeerEntry> {
    vec![PeerEntry { peer: peer(1), addr: v4(1) }, PeerEntry { peer: peer(2), addr: v6(2) }]
}

fn keys<const MAX: usize>() -> List<StreamKey, MAX> {
    List::first_of([StreamKey { epoch: Epoch(7), key: [0xA7; 32] }, StreamKey { epoch: Epoch(6), key: [0xA6; 32] }])
}

fn caches<const MAX: usize>() -> List<SocketAddr, MAX> {
    List::first_of([v4(10), v6(11)])
}

fn ticket<const MAX: usize>() -> Blob<MAX> {
    Blob::new(b"ticket").expect("it is short")
}

fn refused() -> Refused {
    Refused { reason: RefusalReason::Full, retry_ms: 1_500, detail: Text::<REASON_BYTES_MAX>::cut("no slot left") }
}

fn map() -> BufferMap {
    let mut map = BufferMap::new(seq(65_530));
    for held in [65_530, 65_531, 65_537, 65_785] {
        map.set(seq(held), true);
    }
    map
}

/// One of every frame.
fn frames() -> Vec<Frame> {
    vec![
        Hello {
            role: Role::Peer,
            peer: peer(9),
            stream: STREAM,
            domain: DomainId(2),
            listen: Some(v4(9)),
            ticket: ticket(),
        }
        .into(),
        Welcome { peer: PeerId::NONE, nonce: [0x4E; 16] }.into(),
        refused().into(),
        Gossip { map: map().to_wire() }.into(),
        Have { seqs: List::first_of([seq(65_540), seq(65_541)]) }.into(),
        Request {
            stream: STREAM,
            runs: List::first_of([Run { first: seq(65_538), count: 2 }, Run { first: seq(65_600), count: 1 }]),
            within_ms: 1_200,
        }
        .into(),
        Unavailable { stream: STREAM, reason: RefusalReason::Gone, first: seq(12), count: 3 }.into(),
        PartnersQuery {}.into(),
        Partners { peers: List::first_of(entries()) }.into(),
        Leave { reason: RefusalReason::Leaving }.into(),
        Open { stream: name(), back: 10 }.into(),
        StreamInfo {
            stream: STREAM,
            epoch: EPOCH,
            oldest: seq(65_400),
            head: seq(65_785),
            head_published: CLOCK,
            begin: seq(65_770),
            spare_permille: 750,
        }
        .into(),
        Subscribe { stream: STREAM, from: seq(65_770) }.into(),
        Unsubscribe { stream: STREAM }.into(),
        Skipped { stream: STREAM, next: seq(65_790) }.into(),
        Ended { stream: STREAM, last: seq(65_799) }.into(),
        Publish { stream: name(), epoch: EPOCH, key: [0x4B; 32], signature: [0x53; 64] }.into(),
        PublishOk { stream: STREAM, next: seq(65_786) }.into(),
        Ack { stream: STREAM, seq: seq(65_785) }.into(),
        TryInstead { caches: caches() }.into(),
        Follow { subs: 0b1000_0101 }.into(),
        Leads { subs: 0b0000_0101 }.into(),
    ]
}

/// One of every message.
fn messages() -> Vec<Message> {
    vec![
        Challenge {}.into(),
        refused().into(),
        RouteJoin { previous: peer(9), ticket: ticket() }.into(),
        RouteJoined { peer: peer(9), lease_s: 3_600, domain: DomainId(2), indexes: caches(), seen: v4(9) }.into(),
        RouteLeave { peer: peer(9) }.into(),
        Join { stream: name(), peer: peer(9), listen: Some(v6(9)), ticket: ticket() }.into(),
        Joined {
            stream: STREAM,
            size: 1_000,
            heartbeat_ms: 5_000,
            seen: v4(9),
            keys: keys(),
            caches: caches(),
            members: List::first_of(entries()),
        }
        .into(),
        PeerHeartbeat { stream: STREAM, peer: peer(9) }.into(),
        PeerHeartbeatAck { stream: STREAM, size: 1_001 }.into(),
        PeerLeave { stream: STREAM, peer: peer(9) }.into(),
        SizeChanged { stream: STREAM, size: 1_200 }.into(),
        DialBack { nonce: 0xD1A1 }.into(),
        DialBackAck { nonce: 0xD1A1 }.into(),
        KeysQuery { stream: name() }.into(),
        Keys { stream: STREAM, keys: keys() }.into(),
        PublishRequest {
            stream: name(),
            key: [0x4B; 32],
            proof: [0x50; 32],
            possession: [0x51; 64],
            takeover: true,
            at_cache: None,
            ticket: Blob::default(),
        }
        .into(),
        PublishGrant { stream: STREAM, epoch: EPOCH, next: seq(65_786), caches: caches() }.into(),
        CacheReport { advertise: v4(10), load_permille: 250, viewers: 2_000, draining: false }.into(),
        CacheReportAck { others: List::first_of([CacheLoad { addr: v4(9), load_permille: 250 }]) }.into(),
        CacheStreams {
            advertise: v4(10),
            streams: List::first_of([HeldStream {
                stream: STREAM,
                state: HoldState::Origin,
                epoch: EPOCH,
                head: seq(65_785),
                viewers: 500,
            }]),
        }
        .into(),
        CachePull { stream: name(), keys: keys(), parents: caches() }.into(),
        CachePullAck { stream: STREAM }.into(),
        Resolve { advertise: v4(10), stream: name() }.into(),
        Resolved { stream: name(), keys: keys(), parents: caches() }.into(),
        CacheKeys { advertise: v4(10), stream: name(), keys: keys() }.into(),
        StreamAnnounce {
            domain: DomainId(2),
            stream: name(),
            origin: true,
            epoch: EPOCH,
            head: seq(65_785),
            keys: keys(),
            caches: caches(),
            live: true,
        }
        .into(),
        StreamAnnounceAck {}.into(),
        LocateStream { domain: DomainId(1), stream: name() }.into(),
        StreamLocated { stream: name(), epoch: EPOCH, origin: true, keys: keys(), caches: caches() }.into(),
    ]
}

fn chunk_header() -> ChunkHeader {
    ChunkHeader {
        stream: STREAM,
        epoch: EPOCH,
        seq: seq(65_785),
        published: CLOCK,
        payload_len: 50_008,
        tables_len: 376,
        duration_ms: 200,
        key_frame: Some(188),
        discontinuity: true,
        end: true,
        hash: [0x48; 32],
        signature: [0x53; 64],
    }
}

fn cluster() -> ClusterKey {
    ClusterKey::derive("golden")
}

fn datagram(message: Message) -> Datagram {
    Datagram { exchange: 0x0102_0304, cookie: Cookie([0xC0; 16]), message }
}

/// Every sample, named and encoded, in the order of the file.
fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples = vec![
        ("chunk prefix".to_owned(), chunk_prefix(&chunk_header()).to_vec()),
        ("buffer map".to_owned(), {
            let mut bytes = Vec::new();
            map().to_wire().put(&mut bytes);
            bytes
        }),
    ];
    samples.extend(frames().iter().map(|frame| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        (format!("frame {} {}", frame.kind(), frame.name()), bytes)
    }));
    samples.extend(messages().into_iter().map(|message| {
        let name = format!("datagram {} {}", message.kind(), message.name());
        (name, datagram(message).encode(&cluster()).expect("a sample fits a datagram"))
    }));
    samples
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire.hex")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file's samples: a name, a colon, hex; `#` begins a comment.
fn golden() -> Vec<(String, Vec<u8>)> {
    let text = std::fs::read_to_string(path()).expect("tests/golden/wire.hex can be read");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let (name, hex) = line.split_once(": ").expect("a name and its bytes");
        let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).expect("a hex digit")).collect();
        (name.to_owned(), digits.as_chunks::<2>().0.iter().map(|[high, low]| (high * 16 + low) as u8).collect())
    };
    lines.map(read).collect()
}

#[test]
fn every_message_has_its_golden_bytes() {
    let samples = samples();
    if std::env::var("WEIRCAST_GOLDEN").is_ok_and(|what| what == "write") {
        let mut text =
            "# One sample of every message on the wire; tests/golden.rs says which values they hold.\n".to_owned();
        for (name, bytes) in &samples {
            text.push_str(&format!("{name}: {}\n", hex(bytes)));
        }
        std::fs::write(path(), text).expect("tests/golden/wire.hex can be written");
    }
    let golden = golden();
    for ((name, bytes), (golden_name, golden_bytes)) in samples.iter().zip(&golden) {
        assert_eq!(name, golden_name);
        assert_eq!(hex(bytes), hex(golden_bytes), "{name}: the wire format has changed");
    }
    assert_eq!(samples.len(), golden.len(), "as many samples as golden lines");
}

#[test]
fn golden_bytes_are_read_back() {
    let golden = golden();
    let bytes_of = |wanted: String| {
        &golden.iter().find(|(name, _)| *name == wanted).unwrap_or_else(|| panic!("no golden line {wanted}")).1
    };
    for frame in frames() {
        let bytes = bytes_of(format!("frame {} {}", frame.kind(), frame.name()));
        let (head, body) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>().expect("a frame has a head");
        let head = FrameHead::decode(head).expect("a good head");
        assert_eq!(head, FrameHead { kind: frame.kind(), body_len: body.len() });
        assert_eq!(Frame::decode(head.kind, body), Ok(frame));
    }
    for message in messages() {
        let bytes = bytes_of(format!("datagram {} {}", message.kind(), message.name()));
        assert_eq!(Datagram::decode(bytes, &cluster()), Ok(datagram(message)));
    }
    let prefix = bytes_of("chunk prefix".to_owned());
    assert_eq!(prefix.len(), CHUNK_PREFIX_BYTES);
    let (head, header) = prefix.split_first_chunk::<FRAME_HEAD_BYTES>().expect("a frame has a head");
    assert_eq!(FrameHead::decode(head), Ok(FrameHead { kind: KIND_CHUNK, body_len: 144 + 50_008 }));
    assert_eq!(ChunkHeader::decode(header), Ok(chunk_header()));
    let wire = Wire::take(&mut Reader::new(bytes_of("buffer map".to_owned()))).expect("a buffer map");
    assert_eq!(BufferMap::from_wire(&wire, seq(65_700)), map());
}

#[test]
fn every_kind_has_a_sample_and_no_two_share_one() {
    let knows = |known: Result<(), DecodeError>| !matches!(known, Err(DecodeError::Kind(_)));
    let frame_kinds: Vec<u8> = (0..=u8::MAX).filter(|kind| knows(Frame::decode(*kind, &[]).map(drop))).collect();
    assert_eq!(frames().iter().map(Frame::kind).collect::<Vec<u8>>(), frame_kinds, "in order, each once");

    let message_kinds: Vec<u8> = (0..=u8::MAX)
        .filter(|kind| {
            let Some(mut packet) = datagram(StreamAnnounceAck {}.into()).encode(&cluster()) else { return false };
            packet[3] = *kind;
            if *kind >= 128 {
                let body = packet.len() - 16;
                let tag = cluster().tag(&packet[..body]);
                packet[body..].copy_from_slice(&tag);
            } else {
                packet.truncate(24);
            }
            knows(Datagram::decode(&packet, &cluster()).map(drop))
        })
        .collect();
    assert_eq!(messages().iter().map(Message::kind).collect::<Vec<u8>>(), message_kinds, "in order, each once");
}

#[test]
fn a_challenge_is_not_longer_than_the_shortest_question() {
    let challenge = datagram(Challenge {}.into()).encode(&cluster()).expect("it fits");
    for message in messages() {
        let len = datagram(message).encode(&cluster()).expect("it fits").len();
        assert!((challenge.len()..=DATAGRAM_BYTES_MAX).contains(&len));
    }
}
