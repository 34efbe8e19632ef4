//! Any message: every field drawn from a seed.
#![allow(unreachable_pub, reason = "used by one test binary")]

use std::net::SocketAddr;

use cache_core::peer_id::PeerId;
use cache_core::prng::Prng;
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::datagram::Challenge;
use cache_core::wire::exchange::*;
use cache_core::wire::index::*;
use cache_core::wire::route::*;
use cache_core::wire::{
    Blob, BufferMap, ChunkHeader, Frame, List, Message, RefusalReason, Refused, StreamName, Text, WireBufferMap,
};

/// How long lists, texts and blobs are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    Any,
    Full,
}

pub struct Draw {
    rng: Prng,
    fill: Fill,
}

impl Draw {
    pub fn new(seed: u64, fill: Fill) -> Draw {
        Draw { rng: Prng::new(seed), fill }
    }

    fn len(&mut self, max: usize) -> usize {
        match self.fill {
            Fill::Any => self.rng.below(max + 1),
            Fill::Full => max,
        }
    }
}

pub trait Any: Sized {
    fn any(draw: &mut Draw) -> Self;
}

macro_rules! any {
    ($($t:ty = |$draw:ident| $make:expr;)*) => {
        $(impl Any for $t { fn any($draw: &mut Draw) -> Self { $make } })*
    };
}

any! {
    u8 = |draw| draw.rng.next_u64() as u8;
    u16 = |draw| draw.rng.next_u64() as u16;
    u32 = |draw| draw.rng.next_u64() as u32;
    u64 = |draw| draw.rng.next_u64() >> (draw.rng.next_u64() & 63);
    bool = |draw| draw.fill == Fill::Full || draw.rng.next_u64() & 1 == 1;
    ChunkSeq = |draw| ChunkSeq::new(Any::any(draw));
    StreamId = |draw| StreamId(Any::any(draw));
    Epoch = |draw| Epoch(Any::any(draw));
    DomainId = |draw| DomainId(Any::any(draw));
    WallClock = |draw| WallClock::from_micros(Any::any(draw));
    PeerId = |draw| PeerId::from_bits(draw.rng.next_u64() >> 8).expect("56 bits");
    SocketAddr = |draw| {
        let (v6, port) = (bool::any(draw), u16::any(draw));
        let mut octets: [u8; 16] = Any::any(draw);
        octets[0] |= 0x20; // So that it is no IPv4 address mapped into IPv6.
        match *octets.first_chunk::<4>().expect("16 octets") {
            _ if v6 => SocketAddr::from((octets, port)),
            v4 => SocketAddr::from((v4, port)),
        }
    };
    Role = |draw| [Role::Peer, Role::Viewer, Role::Cache, Role::Publisher][draw.rng.below(4)];
    HoldState = |draw| {
        use HoldState::*;
        [Origin, Relay, Fetching, Stalled, Ended][draw.rng.below(5)]
    };
    RefusalReason = |draw| RefusalReason::ALL[draw.rng.below(RefusalReason::ALL.len())];
    StreamName = |draw| {
        const LETTERS: &[u8] = b"azAZ09_-.";
        let len = draw.len(63) + 1;
        let letter = |i| {
            let letters = if i == 0 { &LETTERS[..8] } else { LETTERS };
            char::from(letters[draw.rng.below(letters.len())])
        };
        StreamName::new(&(0..len).map(letter).collect::<String>()).expect("a good name")
    };
    WireBufferMap = |draw| {
        let mut map = BufferMap::new(Any::any(draw));
        for slot in 0..256 {
            map.set(map.base().ahead(slot), Any::any(draw));
        }
        map.to_wire()
    };
}

impl<const N: usize> Any for [u8; N] {
    fn any(draw: &mut Draw) -> Self {
        std::array::from_fn(|_| Any::any(draw))
    }
}

impl<T: Any> Any for Option<T> {
    fn any(draw: &mut Draw) -> Self {
        bool::any(draw).then(|| T::any(draw))
    }
}

impl<T: Any, const MAX: usize> Any for List<T, MAX> {
    fn any(draw: &mut Draw) -> Self {
        let len = draw.len(MAX);
        List::first_of((0..len).map(|_| T::any(draw)))
    }
}

impl<const MAX: usize> Any for Blob<MAX> {
    fn any(draw: &mut Draw) -> Self {
        let len = draw.len(MAX);
        Blob::new(&(0..len).map(|_| Any::any(draw)).collect::<Vec<u8>>()).expect("it is not longer than it may be")
    }
}

impl<const MAX: usize> Any for Text<MAX> {
    fn any(draw: &mut Draw) -> Self {
        let len = draw.len(MAX);
        Text::cut(&"aé€".chars().cycle().take(len).collect::<String>())
    }
}

macro_rules! any_struct {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl Any for $name {
            #[allow(unused_variables, reason = "a message may have no field")]
            fn any(draw: &mut Draw) -> Self {
                $name { $($field: Any::any(draw)),* }
            }
        })*
    };
}

any_struct! {
    Hello { role, peer, stream, domain, listen, ticket }
    Welcome { peer, nonce }
    Refused { reason, retry_ms, detail }
    PeerEntry { peer, addr }
    Gossip { map }
    Have { seqs }
    Run { first, count }
    Request { stream, runs, within_ms }
    Unavailable { stream, reason, first, count }
    PartnersQuery {}
    Partners { peers }
    Leave { reason }
    Open { stream, back }
    StreamInfo { stream, epoch, oldest, head, head_published, begin, spare_permille }
    Subscribe { stream, from }
    Unsubscribe { stream }
    Skipped { stream, next }
    Ended { stream, last }
    Publish { stream, epoch, key, signature }
    PublishOk { stream, next }
    Ack { stream, seq }
    TryInstead { caches }
    Follow { subs }
    Leads { subs }
    Challenge {}
    RouteJoin { previous, ticket }
    RouteJoined { peer, lease_s, domain, indexes, seen }
    RouteLeave { peer }
    StreamKey { epoch, key }
    Join { stream, peer, listen, ticket }
    Joined { stream, size, heartbeat_ms, seen, keys, caches, members }
    PeerHeartbeat { stream, peer }
    PeerHeartbeatAck { stream, size }
    PeerLeave { stream, peer }
    SizeChanged { stream, size }
    DialBack { nonce }
    DialBackAck { nonce }
    KeysQuery { stream }
    Keys { stream, keys }
    PublishRequest { stream, key, proof, possession, takeover, at_cache, ticket }
    PublishGrant { stream, epoch, next, caches }
    CacheReport { advertise, load_permille, viewers, draining }
    CacheLoad { addr, load_permille }
    CacheReportAck { others }
    HeldStream { stream, state, epoch, head, viewers }
    CacheStreams { advertise, streams }
    CachePull { stream, keys, parents }
    CachePullAck { stream }
    Resolve { advertise, stream }
    Resolved { stream, keys, parents }
    CacheKeys { advertise, stream, keys }
    StreamAnnounce { domain, stream, origin, epoch, head, keys, caches, live }
    StreamAnnounceAck {}
    LocateStream { domain, stream }
    StreamLocated { stream, epoch, origin, keys, caches }
}

macro_rules! all_of {
    ($list:ident of $whole:ident: $($name:ident)*) => {
        /// One of every kind.
        pub fn $list(draw: &mut Draw) -> Vec<$whole> {
            vec![$($whole::from($name::any(draw))),*]
        }
    };
}

all_of! { any_frames of Frame:
    Hello Welcome Refused Gossip Have Request Unavailable PartnersQuery Partners Leave Open StreamInfo Subscribe
    Unsubscribe Skipped Ended Publish PublishOk Ack TryInstead Follow Leads
}

all_of! { any_messages of Message:
    Challenge Refused RouteJoin RouteJoined RouteLeave Join Joined PeerHeartbeat PeerHeartbeatAck PeerLeave SizeChanged
    DialBack DialBackAck KeysQuery Keys PublishRequest PublishGrant CacheReport CacheReportAck CacheStreams CachePull
    CachePullAck Resolve Resolved CacheKeys StreamAnnounce StreamAnnounceAck LocateStream StreamLocated
}

pub fn any_header(draw: &mut Draw) -> ChunkHeader {
    let packets = draw.rng.below(5_578);
    let tables = draw.rng.below(packets.min(16) + 1);
    let behind = (packets - tables) * 188;
    ChunkHeader {
        stream: Any::any(draw),
        epoch: Any::any(draw),
        seq: Any::any(draw),
        published: Any::any(draw),
        payload_len: (packets * 188) as u32,
        tables_len: (tables * 188) as u16,
        duration_ms: Any::any(draw),
        key_frame: (behind > 0 && bool::any(draw)).then(|| draw.rng.below(behind) as u32),
        discontinuity: Any::any(draw),
        end: Any::any(draw),
        hash: Any::any(draw),
        signature: Any::any(draw),
    }
}
