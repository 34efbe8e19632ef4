//! What shards and control tell each other: names, descriptors and answers, never payload.
//!
//! One bounded SPSC queue each way per shard (`rtrb`) and an eventfd doorbell each way. A full queue is counted and
//! never waited for: a lost [`ToShard::Published`] is made good by the next one (a shard reads the ring's head, it does
//! not count messages), and only shards with viewers of the stream hear of it; a full queue to control refuses that connection.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::{RefusalReason, StreamName};

/// From a shard to control.
#[derive(Debug)]
pub enum ToControl {
    /// A publisher over Weircast's protocol: `read` begins with its whole Hello frame, not yet answered.
    NativePublisher {
        /// The connection, with no receive of the shard's ring pending on it.
        socket: OwnedFd,
        /// Its address.
        from: SocketAddr,
        /// Every byte read so far.
        read: Vec<u8>,
    },
    /// An HTTP request that is not a viewer's (PUT, POST, `GET /stats`): `read` holds its whole head.
    Http {
        /// The connection.
        socket: OwnedFd,
        /// Its address.
        from: SocketAddr,
        /// Every byte read so far.
        read: Vec<u8>,
    },
    /// A viewer wants a stream that is not in the ring. Answered once by [`ToShard::StreamReady`] or
    /// [`ToShard::StreamRefused`]; asked once per shard and stream however many viewers wait.
    Want {
        /// The stream.
        stream: StreamName,
    },
    /// How many viewers of a stream a shard has, told when the number changes (at most once per loop turn), and where
    /// they are, told once a second while they move on. Until a shard has told of viewers, and again after it has told
    /// of none, it hears of no chunk of the stream; the first telling is answered by [`ToShard::Published`].
    Viewers {
        /// The stream.
        stream: StreamId,
        /// Viewers on this shard.
        count: u32,
        /// The oldest chunk that one of them is about to be sent, as of the last look; `None` when none waits for any.
        lowest: Option<ChunkSeq>,
    },
    /// The shard has finished draining and has stopped.
    Stopped,
}

/// From control to a shard.
#[derive(Debug)]
pub enum ToShard {
    /// The ring has a newer chunk of this stream.
    Published {
        /// The stream.
        stream: StreamId,
    },
    /// A wanted stream is in the ring with at least one chunk.
    StreamReady {
        /// Its name, as it was wanted.
        name: StreamName,
        /// Its id.
        stream: StreamId,
    },
    /// A wanted stream cannot be had now.
    StreamRefused {
        /// Its name.
        name: StreamName,
        /// Why.
        reason: RefusalReason,
    },
    /// The stream has ended; `last` was its last chunk.
    Ended {
        /// The stream.
        stream: StreamId,
        /// Its last chunk.
        last: ChunkSeq,
    },
    /// Take no new connections, finish what is being sent, tell viewers to go, then stop.
    Drain,
    /// Stop now.
    Stop,
}
