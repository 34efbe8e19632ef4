//! Messages with an index server.

use std::net::SocketAddr;

use super::codec::{Blob, DecodeError, List, Reader, Wire, wire_struct};
use super::exchange::PeerEntry;
use super::name::StreamName;
use crate::limits::{
    CACHES_PER_ANSWER_MAX, KEYS_PER_STREAM_MAX, MEMBERS_PER_ANSWER_MAX, STREAMS_PER_REPORT_MAX, TICKET_BYTES_MAX,
};
use crate::peer_id::PeerId;
use crate::units::{ChunkSeq, Epoch, StreamId};

wire_struct! {
    /// A publisher's public key and the term it signs under.
    pub struct StreamKey {
        /// The term.
        pub epoch: Epoch,
        /// Ed25519.
        pub key: [u8; 32],
    }
}

wire_struct! {
    /// A peer asks for a stream. Asking again refreshes its list.
    pub struct Join {
        /// The stream.
        pub stream: StreamName,
        /// The peer's id.
        pub peer: PeerId,
        /// Where it takes connections; an unspecified address means "where you see me", with this port. Listed at
        /// once when it is the datagram's source, else after a dial-back. `None`: it takes none.
        pub listen: Option<SocketAddr>,
        /// A join ticket; may be empty.
        pub ticket: Blob<TICKET_BYTES_MAX>,
    }
}

wire_struct! {
    /// The stream's caches, keys and some peers.
    pub struct Joined {
        /// The stream.
        pub stream: StreamId,
        /// Peers of the stream in this domain: the paper's N, this peer included.
        pub size: u32,
        /// The period of heartbeats in milliseconds.
        pub heartbeat_ms: u32,
        /// The address that the peer was seen at.
        pub seen: SocketAddr,
        /// The publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
        /// Caches, best first; the first holds the stream or is fetching it.
        pub caches: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
        /// Peers, nearest first, with some at random.
        pub members: List<PeerEntry, MEMBERS_PER_ANSWER_MAX>,
    }
}

wire_struct! {
    /// A peer is still there.
    pub struct PeerHeartbeat {
        /// The stream.
        pub stream: StreamId,
        /// The peer.
        pub peer: PeerId,
    }
}

wire_struct! {
    /// Answer to a heartbeat. A peer that is not known is refused with `NotJoined` instead.
    pub struct PeerHeartbeatAck {
        /// The stream.
        pub stream: StreamId,
        /// N.
        pub size: u32,
    }
}

wire_struct! {
    /// A peer leaves.
    pub struct PeerLeave {
        /// The stream.
        pub stream: StreamId,
        /// The peer.
        pub peer: PeerId,
    }
}

wire_struct! {
    /// N has changed by the paper's "certain scale". It answers no question, so anybody could forge it: a hint to ask by a
    /// heartbeat, whose answer is believed.
    pub struct SizeChanged {
        /// The stream.
        pub stream: StreamId,
        /// N.
        pub size: u32,
    }
}

wire_struct! {
    /// Asks a claimed address whether the peer is there. Sent from the index's own address, 32 bytes, once per join.
    pub struct DialBack {
        /// Returned by the peer.
        pub nonce: u64,
    }
}

wire_struct! {
    /// It is.
    pub struct DialBackAck {
        /// The nonce.
        pub nonce: u64,
    }
}

wire_struct! {
    /// Asks for a stream's keys (after a chunk of an unknown epoch, or for a publisher that connects to a cache).
    pub struct KeysQuery {
        /// The stream.
        pub stream: StreamName,
    }
}

wire_struct! {
    /// A stream's keys, newest epoch first.
    pub struct Keys {
        /// The stream.
        pub stream: StreamId,
        /// The keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
    }
}

wire_struct! {
    /// Asks for the right to publish a name.
    pub struct PublishRequest {
        /// The name.
        pub stream: StreamName,
        /// The key that will sign.
        pub key: [u8; 32],
        /// [`crate::sign::publish_authorisation`] under the name's secret; all zero without one. It covers the
        /// datagram's cookie, so that it is of no use from another address or on another day.
        pub proof: [u8; 32],
        /// Ed25519 by `key` over [`crate::sign::request_proof`]: a publisher's key is known to all its viewers, so naming
        /// it must not be enough to ask in its name.
        pub possession: [u8; 64],
        /// Take the name over though another publisher is live (needs the name's secret).
        pub takeover: bool,
        /// The cache that asks for an HTTP publisher it already has.
        pub at_cache: Option<SocketAddr>,
        /// A ticket; may be empty.
        pub ticket: Blob<TICKET_BYTES_MAX>,
    }
}

wire_struct! {
    /// The right to publish.
    pub struct PublishGrant {
        /// The stream.
        pub stream: StreamId,
        /// The term: greater than any before.
        pub epoch: Epoch,
        /// Where numbering goes on, as far as the index knows; the cache's `PublishOk` is final.
        pub next: ChunkSeq,
        /// Caches to upload to, best first.
        pub caches: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
    }
}

wire_struct! {
    /// How a cache is; once a second. The first one registers it.
    pub struct CacheReport {
        /// Where viewers reach it: its name in the registry.
        pub advertise: SocketAddr,
        /// Load, 0 idle to 1000 full.
        pub load_permille: u16,
        /// Viewers connected.
        pub viewers: u32,
        /// Whether it takes no new viewers because it goes out of service.
        pub draining: bool,
    }
}

wire_struct! {
    /// How loaded a cache is, as another one is told.
    pub struct CacheLoad {
        /// Where viewers reach it.
        pub addr: SocketAddr,
        /// Its load, 0 idle to 1000 full.
        pub load_permille: u16,
    }
}

wire_struct! {
    /// The report was taken. The answer to a [`CacheReport`] names other caches of the domain, for viewers that this one
    /// cannot take.
    pub struct CacheReportAck {
        /// The least loaded others, best first, none that is full or goes out of service.
        pub others: List<CacheLoad, CACHES_PER_ANSWER_MAX>,
    }
}

/// What a cache is to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HoldState {
    /// Its publisher uploads here.
    Origin = 1,
    /// Fetched from another cache.
    Relay = 2,
    /// Being fetched; nothing to serve yet.
    Fetching = 3,
    /// The publisher is silent; the ring still serves.
    Stalled = 4,
    /// Ended or given up.
    Ended = 5,
}

impl Wire for HoldState {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::take(r)? {
            1 => HoldState::Origin,
            2 => HoldState::Relay,
            3 => HoldState::Fetching,
            4 => HoldState::Stalled,
            5 => HoldState::Ended,
            _ => return Err(DecodeError::Value("hold state")),
        })
    }
}

wire_struct! {
    /// One stream in a cache's report.
    pub struct HeldStream {
        /// The stream.
        pub stream: StreamId,
        /// What the cache is to it.
        pub state: HoldState,
        /// The publisher's term.
        pub epoch: Epoch,
        /// The newest chunk.
        pub head: ChunkSeq,
        /// Viewers of it here.
        pub viewers: u32,
    }
}

wire_struct! {
    /// What a cache holds: every stream once a second, several datagrams when there are many, and each at once when
    /// its state changes.
    pub struct CacheStreams {
        /// The cache.
        pub advertise: SocketAddr,
        /// Some of its streams.
        pub streams: List<HeldStream, STREAMS_PER_REPORT_MAX>,
    }
}

wire_struct! {
    /// The name and keys of a stream that the cache holds: sent when the index server has not known the cache (it answers
    /// [`CacheStreams`] with `NotJoined`), so that one that was restarted gets them back. Answered by [`CacheReportAck`].
    pub struct CacheKeys {
        /// The cache.
        pub advertise: SocketAddr,
        /// The stream.
        pub stream: StreamName,
        /// Its publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
    }
}

wire_struct! {
    /// Index to cache: fetch a stream from one of these caches. Repeated until acknowledged; harmless when repeated.
    pub struct CachePull {
        /// The stream.
        pub stream: StreamName,
        /// The publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
        /// Parents, best first.
        pub parents: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
    }
}

wire_struct! {
    /// The cache fetches, or already has the stream.
    pub struct CachePullAck {
        /// The stream.
        pub stream: StreamId,
    }
}

wire_struct! {
    /// A cache asks where to fetch a stream that a viewer wants of it.
    pub struct Resolve {
        /// The cache that asks; never among the answer's parents.
        pub advertise: SocketAddr,
        /// The stream.
        pub stream: StreamName,
    }
}

wire_struct! {
    /// Where to fetch it. Refused with `UnknownStream` when nobody publishes it.
    pub struct Resolved {
        /// The stream.
        pub stream: StreamName,
        /// The publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
        /// Parents, best first.
        pub parents: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
    }
}
