//! What goes through a TCP link, between partners and with caches.
//!
//! ```text
//!  connector                         acceptor
//!     | Hello ----------------------->|          both sides' first frame
//!     |<------------ Welcome | Refused|          a refusal closes the link
//!
//!  partners (Role::Peer to a peer; a link is of one stream, the Hello's)
//!     |<-- Gossip (each gossip period; also the heartbeat), Have (at once) -->|
//!     |<-- Request -->|  answered by Chunk frames and Unavailable, in any order
//!     |<-- Follow -->|  answered by Leads; from there on a Have of a sub-stream that is led counts as its chunk's Request
//!     |<-- PartnersQuery / Partners, Leave -->|
//!
//!  with a cache (Role::Peer, Role::Cache or Role::Viewer to a cache; any number of streams)
//!     | Open -----------------------> |  again every few seconds: how much the cache has left
//!     |<----- StreamInfo | Unavailable|
//!     | Request --------------------> |  a chunk up to 256 ahead of the head is waited for, then sent
//!     | Subscribe ------------------> |  every chunk from there on is pushed, in order, Skipped between
//!     |<---------- Ended             |
//!
//!  publisher (Role::Publisher to a cache)
//!     | Publish --------------------> |  signed over the Welcome's nonce
//!     |<-------- PublishOk | Refused  |
//!     | Chunk ... ------------------> |
//!     |<--------- Ack ... | Refused   |
//! ```
//! A `Chunk` frame is a [`super::ChunkHeader`] and its payload ([`super::frame::KIND_CHUNK`]); it is told apart from
//! a [`Frame`] by its kind and never copied into one.

use std::net::SocketAddr;

use super::buffer_map::WireBufferMap;
use super::codec::{Blob, DecodeError, List, Reader, Wire, wire_kinds, wire_struct};
use super::name::StreamName;
use super::refusal::{RefusalReason, Refused};
use crate::limits::{
    CACHES_PER_ANSWER_MAX, HAVE_PER_MESSAGE_MAX, PARTNERS_PER_ANSWER_MAX, RUNS_PER_REQUEST_MAX, TICKET_BYTES_MAX,
};
use crate::peer_id::PeerId;
use crate::time::WallClock;
use crate::units::{ChunkSeq, DomainId, Epoch, StreamId};

/// What the connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A peer: to a peer a partner, to a cache a viewer that also serves others.
    Peer = 1,
    /// A viewer that serves nobody.
    Viewer = 2,
    /// A cache server of another domain, or of this one.
    Cache = 3,
    /// A publisher.
    Publisher = 4,
}

impl Wire for Role {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match u8::take(r)? {
            1 => Role::Peer,
            2 => Role::Viewer,
            3 => Role::Cache,
            4 => Role::Publisher,
            _ => return Err(DecodeError::Value("role")),
        })
    }
}

wire_struct! {
    /// The connector's first frame.
    pub struct Hello {
        /// What the connector is.
        pub role: Role,
        /// Its id; [`PeerId::NONE`] for caches and viewers without one.
        pub peer: PeerId,
        /// The stream of a partner link; to a cache ignored.
        pub stream: StreamId,
        /// The connector's domain: a peer takes partners of its own only. 0 for who has none; to a cache ignored.
        pub domain: DomainId,
        /// Where the connector itself takes connections, if it does.
        pub listen: Option<SocketAddr>,
        /// A join ticket; may be empty.
        pub ticket: Blob<TICKET_BYTES_MAX>,
    }
}

wire_struct! {
    /// The acceptor's first frame when it takes the link.
    pub struct Welcome {
        /// The acceptor's id; [`PeerId::NONE`] for a cache.
        pub peer: PeerId,
        /// Unpredictable; a publisher signs it.
        pub nonce: [u8; 16],
    }
}

wire_struct! {
    /// A peer that one can connect to.
    pub struct PeerEntry {
        /// Its id.
        pub peer: PeerId,
        /// Where it takes connections.
        pub addr: SocketAddr,
    }
}

wire_struct! {
    /// The window's contents; one each gossip period (1 s, our default). Every frame proves life, this one at the least.
    pub struct Gossip {
        /// What the sender holds.
        pub map: WireBufferMap,
    }
}

wire_struct! {
    /// Chunks that the sender holds since its last [`Gossip`]. Who was to send it one of them need not, and then says nothing.
    pub struct Have {
        /// Their numbers.
        pub seqs: List<ChunkSeq, HAVE_PER_MESSAGE_MAX>,
    }
}

wire_struct! {
    /// `count` chunks from `first` on.
    pub struct Run {
        /// The first.
        pub first: ChunkSeq,
        /// How many, at least 1, at most 256.
        pub count: u16,
    }
}

wire_struct! {
    /// Asks for chunks. Each is answered once, by a Chunk frame or within an [`Unavailable`], in any order.
    pub struct Request {
        /// The stream.
        pub stream: StreamId,
        /// What is asked for.
        pub runs: List<Run, RUNS_PER_REQUEST_MAX>,
        /// How long the sender waits for each of them, in milliseconds; 0: it does not say. A peer refuses what it cannot have
        /// sent by then, instead of sending it in vain. Caches pass over it.
        pub within_ms: u16,
    }
}

wire_struct! {
    /// Chunks that were asked for and will not come, or a stream that cannot be opened.
    pub struct Unavailable {
        /// The stream.
        pub stream: StreamId,
        /// Why.
        pub reason: RefusalReason,
        /// Which chunks; `count` 0 means the stream itself.
        pub first: ChunkSeq,
        /// How many from there on.
        pub count: u16,
    }
}

wire_struct! {
    /// Asks a partner to push sub-streams: to send their chunks as soon as it holds them itself. Replaces what was asked
    /// before, so that none ends it. Answered by one [`Leads`]; another is not said before that answer has come or seconds
    /// have passed.
    pub struct Follow {
        /// Bit `seq mod 8` for each sub-stream wanted, the lowest bit for 0 ([`crate::limits::SUB_STREAMS`]).
        pub subs: u8,
    }
}

wire_struct! {
    /// The answer to a [`Follow`]: what the sender pushes from here on. Each [`Have`] of such a chunk that is said behind
    /// this counts as if the receiver had answered it by a [`Request`]: the chunk follows, or an [`Unavailable`]. What the
    /// receiver is known to hold is neither announced nor sent.
    pub struct Leads {
        /// Some of the sub-streams that were asked for.
        pub subs: u8,
    }
}

wire_struct! {
    /// Asks a partner for its partner list.
    pub struct PartnersQuery {}
}

wire_struct! {
    /// The sender's partners: the answer to a [`PartnersQuery`], or what a full peer says before it refuses.
    pub struct Partners {
        /// Some of them, at random when there are more.
        pub peers: List<PeerEntry, PARTNERS_PER_ANSWER_MAX>,
    }
}

wire_struct! {
    /// The sender leaves the stream, or the partnership; the link is closed next.
    pub struct Leave {
        /// Why.
        pub reason: RefusalReason,
    }
}

wire_struct! {
    /// Asks a cache for a stream. When the cache has to fetch it first, the answer waits for it.
    pub struct Open {
        /// The stream's name.
        pub stream: StreamName,
        /// How far behind the newest chunk the viewer would like to begin, in chunks.
        pub back: u16,
    }
}

wire_struct! {
    /// What a cache holds of a stream, and what it has left: the answer to an [`Open`].
    pub struct StreamInfo {
        /// The stream.
        pub stream: StreamId,
        /// The present publisher's term.
        pub epoch: Epoch,
        /// The oldest chunk kept.
        pub oldest: ChunkSeq,
        /// The newest chunk.
        pub head: ChunkSeq,
        /// The newest chunk's publisher's clock.
        pub head_published: WallClock,
        /// Where to begin: the join point nearest below `head - back`, else the next above, else `head`.
        pub begin: ChunkSeq,
        /// What the cache has left of its scarcest means, in thousandths: 1000 idle, 0 full. Peers lean on it accordingly.
        pub spare_permille: u16,
    }
}

wire_struct! {
    /// Asks a cache to push every chunk from `from` on. Replaces an earlier subscription of the same stream.
    pub struct Subscribe {
        /// The stream.
        pub stream: StreamId,
        /// The first chunk wanted; clamped to what the cache keeps.
        pub from: ChunkSeq,
    }
}

wire_struct! {
    /// Ends a subscription.
    pub struct Unsubscribe {
        /// The stream.
        pub stream: StreamId,
    }
}

wire_struct! {
    /// The receiver was too slow, or the publisher left a gap: the push goes on at `next`.
    pub struct Skipped {
        /// The stream.
        pub stream: StreamId,
        /// The next chunk that is pushed.
        pub next: ChunkSeq,
    }
}

wire_struct! {
    /// The stream has ended; `last` was its last chunk.
    pub struct Ended {
        /// The stream.
        pub stream: StreamId,
        /// Its last chunk.
        pub last: ChunkSeq,
    }
}

wire_struct! {
    /// A publisher begins, or goes on after it lost the link.
    pub struct Publish {
        /// The stream's name.
        pub stream: StreamName,
        /// The term that the index granted.
        pub epoch: Epoch,
        /// The key that the index knows under that term.
        pub key: [u8; 32],
        /// Ed25519 by that key over [`crate::sign::publish_proof`].
        pub signature: [u8; 64],
    }
}

wire_struct! {
    /// The cache takes the publisher.
    pub struct PublishOk {
        /// The stream.
        pub stream: StreamId,
        /// The number that the next chunk must have.
        pub next: ChunkSeq,
    }
}

wire_struct! {
    /// Every chunk up to `seq` is in the ring.
    pub struct Ack {
        /// The stream.
        pub stream: StreamId,
        /// The newest chunk that is there.
        pub seq: ChunkSeq,
    }
}

wire_struct! {
    /// Other caches to try, in front of a [`Refused`].
    pub struct TryInstead {
        /// Their addresses.
        pub caches: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
    }
}

wire_kinds! {
    /// Every frame but the chunk's.
    pub enum Frame {
        /// Connector's first.
        Hello = 2,
        /// Acceptor's first.
        Welcome = 3,
        /// A typed no; the link is closed next.
        Refused = 4,
        /// Window contents.
        Gossip = 5,
        /// News since then.
        Have = 6,
        /// Asks for chunks.
        Request = 7,
        /// Chunks that will not come.
        Unavailable = 8,
        /// Asks for partners.
        PartnersQuery = 9,
        /// Partners.
        Partners = 10,
        /// Leaving.
        Leave = 11,
        /// Asks a cache for a stream.
        Open = 12,
        /// What it holds.
        StreamInfo = 13,
        /// Asks for pushes.
        Subscribe = 14,
        /// Ends them.
        Unsubscribe = 15,
        /// A gap in the push.
        Skipped = 16,
        /// The stream's end.
        Ended = 17,
        /// A publisher begins.
        Publish = 18,
        /// It may.
        PublishOk = 19,
        /// Chunks that arrived.
        Ack = 20,
        /// Other caches.
        TryInstead = 21,
        /// Asks a partner to push sub-streams.
        Follow = 22,
        /// The sub-streams that it pushes.
        Leads = 23,
    }
}
