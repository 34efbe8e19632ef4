//! Messages with the route server.

use std::net::SocketAddr;

use super::codec::{Blob, List, wire_struct};
use super::index::StreamKey;
use super::name::StreamName;
use crate::limits::{CACHES_PER_ANSWER_MAX, INDEXES_PER_ANSWER_MAX, KEYS_PER_STREAM_MAX, TICKET_BYTES_MAX};
use crate::peer_id::PeerId;
use crate::units::{ChunkSeq, DomainId, Epoch};

wire_struct! {
    /// A peer asks for an id and its domain. Location follows from the datagram's source address.
    pub struct RouteJoin {
        /// The id that the peer had, to keep it; [`PeerId::NONE`] at first.
        pub previous: PeerId,
        /// A join ticket; may be empty.
        pub ticket: Blob<TICKET_BYTES_MAX>,
    }
}

wire_struct! {
    /// The peer's id, domain and index servers.
    pub struct RouteJoined {
        /// The id, unique until the lease ends.
        pub peer: PeerId,
        /// For how long, in seconds; asking again with `previous` renews it.
        pub lease_s: u32,
        /// The domain.
        pub domain: DomainId,
        /// Its index servers, in the order to try.
        pub indexes: List<SocketAddr, INDEXES_PER_ANSWER_MAX>,
        /// The address that the peer was seen at.
        pub seen: SocketAddr,
    }
}

wire_struct! {
    /// The peer gives its id back.
    pub struct RouteLeave {
        /// The id.
        pub peer: PeerId,
    }
}

wire_struct! {
    /// An index server tells that its domain's caches hold a stream. Repeated while they do; forgotten after 15 s
    /// (our guess: three periods) without.
    pub struct StreamAnnounce {
        /// The domain that speaks.
        pub domain: DomainId,
        /// The stream.
        pub stream: StreamName,
        /// Whether the publisher is in this domain (the keys of a domain that is not the publisher's are ignored
        /// while the publisher's domain speaks).
        pub origin: bool,
        /// The publisher's term.
        pub epoch: Epoch,
        /// The newest chunk there.
        pub head: ChunkSeq,
        /// The publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
        /// Caches that serve it, least loaded first.
        pub caches: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
        /// False: the domain no longer holds it.
        pub live: bool,
    }
}

wire_struct! {
    /// The announcement was taken.
    pub struct StreamAnnounceAck {}
}

wire_struct! {
    /// An index server asks which other domains' caches hold a stream.
    pub struct LocateStream {
        /// The domain that asks; its own caches are left out of the answer.
        pub domain: DomainId,
        /// The stream.
        pub stream: StreamName,
    }
}

wire_struct! {
    /// Where the stream is. Refused with `UnknownStream` when nowhere.
    pub struct StreamLocated {
        /// The stream.
        pub stream: StreamName,
        /// The publisher's term.
        pub epoch: Epoch,
        /// Whether the publisher is in another domain than the one that asks.
        pub origin: bool,
        /// The publishers' keys.
        pub keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
        /// Caches of other domains, the publisher's domain first; none when only the asking domain holds it.
        pub caches: List<SocketAddr, CACHES_PER_ANSWER_MAX>,
    }
}
