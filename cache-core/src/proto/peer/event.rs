//! What a peer's machine is told and what it decides: five enums, the whole protocol at a glance.
//!
//! The driver (`tools/peer`, or the simulator) owns sockets, bytes and clocks. It verifies every chunk before it tells the
//! machine (the machine never sees bytes), keeps the bytes of chunks that the machine keeps, and names links by the numbers
//! that the machine gives ([`super::Peer::new_link`] for accepted ones, [`Output::Connect`] for its own).

use std::net::SocketAddr;

use crate::sign::ChunkFault;
use crate::units::ChunkSeq;
use crate::wire::datagram::Datagram;
use crate::wire::index::StreamKey;
use crate::wire::{ChunkHeader, Frame, RefusalReason};

/// A TCP link, to a partner or a cache, made or accepted. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Begin: ask the route server.
    Start,
    /// Time has passed ([`super::Peer::next_timeout`]).
    Tick,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        datagram: Datagram,
    },
    /// Somebody connected; the link's number is from [`super::Peer::new_link`].
    Accepted {
        /// The link.
        link: LinkId,
        /// The other end.
        from: SocketAddr,
    },
    /// A link of [`Output::Connect`] stands.
    Connected {
        /// The link.
        link: LinkId,
    },
    /// A link could not be made, was closed or reset by the other end, or lost its framing. Its number is dead.
    Closed {
        /// The link.
        link: LinkId,
    },
    /// A frame came.
    Frame {
        /// On this link.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// A chunk came and was checked. The driver holds its bytes until the next call: it keeps them if this call puts
    /// [`Output::Keep`], else drops them.
    Chunk {
        /// On this link.
        link: LinkId,
        /// Its header.
        header: ChunkHeader,
        /// What the check said.
        checked: Result<(), ChunkFault>,
    },
    /// A chunk of [`Output::SendChunk`] has left: as far as the driver can tell, nothing of it waits on this host any more.
    ChunkSent {
        /// On this link.
        link: LinkId,
        /// The chunk.
        seq: ChunkSeq,
    },
    /// The person wants to end: say farewell.
    Leave,
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Datagram,
    },
    /// Make a TCP link; answered by `Connected` or `Closed`.
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
        /// The frame.
        frame: Frame,
    },
    /// Send a kept chunk; answered by `ChunkSent`. It stays readable until then, whatever `Forget` says.
    SendChunk {
        /// On this link.
        link: LinkId,
        /// The chunk.
        seq: ChunkSeq,
    },
    /// Close a link when what was sent on it is out; no further input of it comes.
    Close {
        /// The link.
        link: LinkId,
    },
    /// Check chunks against these keys from here on.
    Keys {
        /// The stream's keys.
        keys: Vec<StreamKey>,
    },
    /// Keep the bytes of the chunk of this call's `Input::Chunk`.
    Keep {
        /// The chunk.
        seq: ChunkSeq,
    },
    /// Chunks before this one are no longer needed.
    Forget {
        /// The first one still needed.
        before: ChunkSeq,
    },
    /// Play this chunk out; it is kept.
    Play {
        /// The chunk.
        seq: ChunkSeq,
    },
    /// This chunk was due and is not here: play-out goes on without it.
    Missed {
        /// The chunk.
        seq: ChunkSeq,
    },
    /// It is over: links are closed, nothing follows.
    Finished {
        /// Why.
        end: End,
    },
}

/// Why a peer has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the person wished.
    Left,
    /// The publisher ended the stream and the last chunk was played.
    StreamEnded,
    /// A server refused for good.
    Refused(RefusalReason),
    /// No route or index server answered.
    NoAnswer,
    /// The stream's caches cannot be reached.
    NoCache,
}
