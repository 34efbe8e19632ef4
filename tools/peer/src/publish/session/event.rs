//! What a publisher's machine is told, what it decides, and how it ends.

use std::net::SocketAddr;

use bytes::Bytes;
use cache_core::proto::peer::LinkId;
use cache_core::sign::PublisherKey;
use cache_core::units::{ChunkSeq, Epoch};
use cache_core::wire::datagram::Datagram;
use cache_core::wire::{ChunkHeader, Frame, RefusalReason, StreamName};
use serde::Serialize;

/// Who publishes what.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    /// The name.
    pub(crate) stream: StreamName,
    /// Route servers, in the order to try.
    pub(crate) routes: Vec<SocketAddr>,
    /// The key that signs.
    pub(crate) key: PublisherKey,
    /// The name's secret.
    pub(crate) secret: Option<String>,
    /// Take the name from another publisher; for the first grant only.
    pub(crate) takeover: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Begin.
    Start,
    /// Time has passed.
    Tick,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        datagram: Datagram,
    },
    /// A link of [`Output::Connect`] stands.
    Connected {
        /// Which.
        link: LinkId,
    },
    /// It is gone.
    Closed {
        /// Which.
        link: LinkId,
    },
    /// A frame came.
    Frame {
        /// On this link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// A chunk was cut. Its header's number, epoch, hash and signature are filled in here.
    Cut {
        /// As the slicer made it.
        header: ChunkHeader,
        /// Tables, then transport stream.
        payload: Bytes,
    },
    /// No chunk follows the ones that were cut.
    End,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Datagram,
    },
    /// Make a link; answered by `Connected` or `Closed`.
    Connect {
        /// Its number.
        link: LinkId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send a frame.
    Send {
        /// On this link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// Send a chunk.
    SendChunk {
        /// On this link.
        link: LinkId,
        /// Its number.
        seq: ChunkSeq,
        /// Frame head and signed header.
        prefix: Bytes,
        /// Payload.
        payload: Bytes,
    },
    /// Close a link when what was sent is out.
    Close {
        /// Which.
        link: LinkId,
    },
    /// A cache takes the stream from here on.
    Live {
        /// Which.
        cache: SocketAddr,
        /// The term.
        epoch: Epoch,
        /// The first chunk's number.
        next: ChunkSeq,
    },
    /// It is over; nothing follows.
    Finished {
        /// Why.
        end: End,
    },
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last chunk is in a cache.
    Published,
    /// The input ended, but no cache has confirmed the last chunks.
    Unconfirmed,
    /// A server refused for good.
    Refused(RefusalReason),
    /// No route or index server answered.
    NoAnswer,
    /// No cache could be reached for too long.
    NoCache,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SessionCounters {
    /// Chunks cut.
    pub(crate) chunks_cut: u64,
    /// Chunks handed to links, repetitions included.
    pub(crate) chunks_sent: u64,
    /// Chunks that had to go before a cache confirmed them.
    pub(crate) chunks_lost: u64,
    /// Times that a cache took the stream.
    pub(crate) sessions: u64,
    /// Grants of the index server.
    pub(crate) grants: u64,
    /// Refusals by caches.
    pub(crate) refusals: u64,
    /// Links closed because the cache did not answer in time.
    pub(crate) cache_timeouts: u64,
}
