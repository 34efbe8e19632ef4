//! A connection: what a shard knows of one socket.
//!
//! ```text
//!  Handshake ---------> Native ----+
//!      |  \---> Http, Asker -------+--> Lingering --> Closing --> (gone)
//!      +--> (handed to control)    |        answered; the other side may close first
//!                                  +----------------> Closing
//!                                           cut off: waits for its operations' last completions
//! ```
//! What goes out is ordered: the chunk that is half sent, then `answers`, then what the viewer's machine says next.
//! A connection with an operation under way keeps its descriptor and its place, so that no completion can meet another
//! connection's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cache_core::proto::cache::viewer::{Playout, Track};
use cache_core::ring::ChunkRef;
use cache_core::time::Time;
use cache_core::units::StreamId;
use smallvec::SmallVec;

use super::asker::Asker;
use super::config::Way;
use super::inbox::Inbox;
use crate::uring::{Operation, Token};

/// A connection's place in the shard's table.
pub(super) type Key = u32;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The socket; gone once it was handed over or closed.
    pub(super) socket: OwnedFd,
    /// Tells this tenant of the place from earlier ones.
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// How its chunks are sent.
    pub(super) way: Way,
    pub(super) under_way: UnderWay,
    /// Whether it stands in the run queue.
    pub(super) queued: bool,
    /// Messages not yet in the socket.
    pub(super) answers: Answers,
    /// The chunk that is being sent.
    pub(super) sending: Option<Sending>,
    /// To be closed, politely, once everything above is sent.
    pub(super) finishing: bool,
    /// The handshake's, lingering's, an asker's, or that of a cache that takes no chunks.
    pub(super) deadline: Time,
    /// When it last took a byte, or last had nothing to take.
    pub(super) progress_at: Time,
}

// Thousands of them stand in one table; measured kernel memory for both ends of a socket is 8-10 KB on top.
const _: () = assert!(size_of::<Connection>() <= 640, "a connection's own memory is well under 1 KB");

/// Operations of the ring that hold the descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) receive: bool,
    pub(super) writable: bool,
    pub(super) zero_copy: bool,
}

impl UnderWay {
    pub(super) fn none(self) -> bool {
        self == UnderWay::default()
    }

    /// Whether sending has to wait for a completion.
    pub(super) fn sending_waits(self) -> bool {
        self.writable || self.zero_copy
    }
}

/// What a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Unknown so far; the bytes received.
    Handshake(Vec<u8>),
    /// A viewer over Weircast's protocol.
    Native(Native),
    /// A viewer over HTTP.
    Http(Http),
    /// Somebody who asks for chunks over HTTP, one by one.
    Asker(Asker),
    /// Answered for good: what still comes is discarded until the other side closes.
    Lingering,
    /// Cut off: gone when its operations are.
    Closing,
}

impl Phase {
    /// Whether behind the answers a chunk follows at once, so that both may go in one packet.
    pub(super) fn body_follows(&self) -> bool {
        matches!(self, Phase::Asker(asker) if asker.body_follows())
    }
}

/// A viewer over Weircast's protocol.
#[derive(Debug, Default)]
pub(super) struct Native {
    pub(super) inbox: Inbox,
    /// Its streams.
    pub(super) joined: SmallVec<[Joined; 1]>,
    /// Which of them is asked first for something to send.
    pub(super) turn: usize,
    /// Another cache, served beyond the limits on viewers.
    pub(super) is_cache: bool,
}

/// A stream that a connection has opened.
#[derive(Debug)]
pub(super) struct Joined {
    /// The stream's place in the shard's table.
    pub(super) stream: u32,
    pub(super) id: StreamId,
    /// This connection's place among the stream's viewers.
    pub(super) place: u32,
    /// Opened and not answered: the `back` of its Open.
    pub(super) waiting: Option<u16>,
    pub(super) track: Track,
}

/// A viewer over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) stream: u32,
    pub(super) place: u32,
    /// The stream is not there yet: nothing was answered.
    pub(super) waiting: bool,
    pub(super) head_only: bool,
    /// It has been sent a place to begin: the next one is a skip.
    pub(super) begun: bool,
    pub(super) playout: Playout,
}

impl Native {
    /// Whether chunks of some stream are pushed to it, or owed.
    pub(super) fn takes_chunks(&self) -> bool {
        self.joined.iter().any(|joined| joined.track.subscribed() || joined.track.outstanding() > 0)
    }

    /// Its machine for a stream, if it has opened that one.
    pub(super) fn tracks_of(&mut self, stream: u32) -> impl Iterator<Item = &mut Track> {
        self.joined.iter_mut().filter(move |joined| joined.stream == stream).map(|joined| &mut joined.track)
    }
}

/// A chunk, or the parts of it that are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) chunk: ChunkRef,
    /// From where to where in the slot; the second is empty for most.
    pub(super) parts: [(u32, u32); 2],
    /// A byte of it is in the socket: it goes whole, or the connection ends.
    pub(super) started: bool,
}

impl Sending {
    /// The whole frame.
    pub(super) fn frame(chunk: ChunkRef) -> Sending {
        Sending { chunk, parts: [(0, chunk.len), (0, 0)], started: false }
    }

    /// What is left of the part that is being sent: where, and how many bytes; `None` when all is sent.
    pub(super) fn rest(&self) -> Option<(u32, u32)> {
        self.parts.iter().find(|(from, to)| from < to).map(|(from, to)| (*from, to - from))
    }

    /// `count` more bytes are in the socket.
    pub(super) fn advance(&mut self, count: u32) {
        self.started = true;
        if let Some((from, _)) = self.parts.iter_mut().find(|(from, to)| from < to) {
            *from += count;
        }
    }
}

/// Messages on their way out.
#[derive(Debug, Default)]
pub(super) struct Answers {
    bytes: Vec<u8>,
    sent: usize,
}

impl Answers {
    /// What is not in the socket yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Where to append.
    pub(super) fn append(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// `count` more bytes are in the socket.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Answers::default();
    }
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, generation: u32, way: Way, now: Time, deadline: Time) -> Connection {
        Connection {
            socket,
            generation,
            phase: Phase::Handshake(Vec::new()),
            way,
            under_way: UnderWay::default(),
            queued: false,
            answers: Answers::default(),
            sending: None,
            finishing: false,
            deadline,
            progress_at: now,
        }
    }

    /// The token of `operation` on this connection, which stands at `key`.
    pub(super) fn token(&self, operation: Operation, key: Key) -> Token {
        Token::new(operation, self.generation, key)
    }

    /// Whether something is waiting for the socket to take it.
    pub(super) fn has_pending(&self) -> bool {
        self.sending.is_some() || !self.answers.rest().is_empty()
    }

    /// A message is about to be appended: with nothing pending before, the time of no progress begins.
    pub(super) fn about_to_append(&mut self, now: Time) {
        if !self.has_pending() {
            self.progress_at = now;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
