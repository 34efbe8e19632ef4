//! Datagrams: how messages to and from index and route servers stand in a UDP packet.
//!
//! ```text
//!  0      2       3     4           8                24            len-16 (sealed kinds)
//! +------+-------+-----+-----------+----------------+------- ... -+-----------------+
//! | "WC" |version| kind| exchange  | cookie 16      | body        | cluster tag 16  |
//! +------+-------+-----+-----------+----------------+------- ... -+-----------------+
//! ```
//! *Exchange* is the asker's number; an answer repeats it. The *cookie* proves that the sender receives at its source
//! address: a server answers a datagram without a good one by a [`Challenge`] of 24 bytes (never more than came in),
//! whose cookie field the sender uses from then on. Servers keep nothing for it ([`crate::sign::CookieJar`]).
//!
//! Messages between Weircast's own servers (kinds from 128 up) end in a tag under the cluster's secret
//! ([`ClusterKey`]); without the secret none can be forged.

use super::codec::{DecodeError, Reader, Wire, wire_kinds, wire_struct};
use super::index::*;
use super::refusal::{RefusalReason, Refused};
use super::route::*;
use super::seal::{ClusterKey, TAG_BYTES};
use crate::limits::DATAGRAM_BYTES_MAX;

/// Bytes in front of the body.
pub const DATAGRAM_HEAD_BYTES: usize = 24;

const MAGIC: [u8; 2] = *b"WC";
const FIRST_SEALED_KIND: u8 = 128;

/// An address proof, opaque to its bearer; all zero when there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cookie(pub [u8; 16]);

wire_struct! {
    /// "Prove your address": come again with this datagram's cookie.
    pub struct Challenge {}
}

wire_kinds! {
    /// Every message of a datagram.
    pub enum Message {
        /// Prove your address.
        Challenge = 1,
        /// A typed no.
        Refused = 2,
        /// Peer to route: an id and a domain, please.
        RouteJoin = 3,
        /// Route to peer.
        RouteJoined = 4,
        /// Peer to route: the id is free again.
        RouteLeave = 5,
        /// Peer to index: partners and caches for a stream, please.
        Join = 16,
        /// Index to peer.
        Joined = 17,
        /// Peer to index: still here.
        PeerHeartbeat = 18,
        /// Index to peer.
        PeerHeartbeatAck = 19,
        /// Peer to index: leaving.
        PeerLeave = 20,
        /// Index to peer: the domain's size has changed.
        SizeChanged = 21,
        /// Index to a claimed address: does a peer answer here?
        DialBack = 22,
        /// From there.
        DialBackAck = 23,
        /// Asks for a stream's publisher keys.
        KeysQuery = 24,
        /// The keys.
        Keys = 25,
        /// Publisher, or cache for an HTTP publisher, to index.
        PublishRequest = 26,
        /// Index to publisher.
        PublishGrant = 27,
        /// Cache to index: how it is.
        CacheReport = 128,
        /// Index to cache.
        CacheReportAck = 129,
        /// Cache to index: what it holds.
        CacheStreams = 130,
        /// Index to cache: fetch this stream.
        CachePull = 131,
        /// Cache to index.
        CachePullAck = 132,
        /// Cache to index: a viewer asks for a stream that is not here.
        Resolve = 133,
        /// Index to cache: fetch it there.
        Resolved = 134,
        /// Cache to index: the name and keys of a stream that it holds.
        CacheKeys = 135,
        /// Index to route: a stream that this domain holds.
        StreamAnnounce = 140,
        /// Route to index.
        StreamAnnounceAck = 141,
        /// Index to route: who else holds this stream?
        LocateStream = 142,
        /// Route to index.
        StreamLocated = 143,
    }
}

/// A message with its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The asker's number; repeated in the answer.
    pub exchange: u32,
    /// The sender's address proof, or in a [`Challenge`] the receiver's.
    pub cookie: Cookie,
    /// The message.
    pub message: Message,
}

impl Message {
    /// Whether the message travels between servers only, under the cluster's secret.
    pub const fn is_sealed(&self) -> bool {
        self.kind() >= FIRST_SEALED_KIND
    }

    /// Whether it is a refusal for this reason.
    pub fn refuses(&self, reason: RefusalReason) -> bool {
        matches!(self, Message::Refused(no) if no.reason == reason)
    }
}

impl Datagram {
    /// The packet, at most [`DATAGRAM_BYTES_MAX`] long; `None` when the message does not fit (its maker must shorten
    /// its lists).
    pub fn encode(&self, cluster: &ClusterKey) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        out.push(super::VERSION);
        out.push(self.message.kind());
        self.exchange.put(&mut out);
        self.cookie.0.put(&mut out);
        self.message.put_body(&mut out);
        if self.message.is_sealed() {
            let tag = cluster.tag(&out);
            out.extend_from_slice(&tag);
        }
        (out.len() <= DATAGRAM_BYTES_MAX).then_some(out)
    }

    /// Reads a packet. A sealed message whose tag does not match is [`DecodeError::Value`]`("cluster tag")`.
    pub fn decode(packet: &[u8], cluster: &ClusterKey) -> Result<Datagram, DecodeError> {
        if packet.len() > DATAGRAM_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "datagram", got: packet.len(), max: DATAGRAM_BYTES_MAX });
        }
        let mut r = Reader::new(packet);
        if r.array()? != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = u8::take(&mut r)?;
        if version != super::VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = u8::take(&mut r)?;
        let exchange = u32::take(&mut r)?;
        let cookie = Cookie(r.array()?);
        let mut body = r.rest();
        if kind >= FIRST_SEALED_KIND {
            let (sealed, tag) = packet.split_last_chunk::<TAG_BYTES>().ok_or(DecodeError::Truncated)?;
            body = body.get(..body.len().wrapping_sub(TAG_BYTES)).ok_or(DecodeError::Truncated)?;
            if !cluster.check(sealed, tag) {
                return Err(DecodeError::Value("cluster tag"));
            }
        }
        Ok(Datagram { exchange, cookie, message: Message::take_body(kind, body)? })
    }
}
