//! One player's connection: its request, then its queue.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::Shutdown;

use cache_core::time::{Span, Time};
use mio::net::TcpStream;

use crate::net::framing::Chunk;
use crate::net::queue::WriteQueue;
use crate::playout::start::Starter;
use crate::playout::{PlayoutCounters, RECENT_MAX};

/// Longest request head. Our guess: four times what browsers send.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;

/// Most chunks that wait for one player: what it begins with, and 5 s.
pub(super) const QUEUE_CHUNKS_MAX: usize = RECENT_MAX + 25;

/// For a whole request head, and for a player that takes nothing. Our guess for the latter: a person's short pause.
pub(super) const HEAD_PATIENCE: Span = Span::from_secs(5);
pub(super) const TAKE_PATIENCE: Span = Span::from_secs(10);

/// How long a connection may linger after an error was told.
pub(super) const LINGER: Span = Span::from_secs(1);

/// Bytes written to one player in one turn.
pub(super) const BYTES_PER_TURN: usize = 1 << 20;

/// The head in front of the stream.
pub(super) const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n\
                        Accept-Ranges: none\r\nConnection: close\r\n\r\n";

/// A connection.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) stream: TcpStream,
    state: State,
    queue: WriteQueue,
    moved: Time,
}

#[derive(Debug)]
enum State {
    /// Reading the request.
    Head(Vec<u8>),
    /// Playing.
    Stream(Starter),
    /// Everything is said: the queue goes out, then the connection ends.
    Ending { shut: bool },
}

/// What a request head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Incomplete,
    Stream,
    HeadOnly,
    Nothing(&'static str),
}

impl Player {
    /// Nothing is asked yet.
    pub(super) fn new(now: Time, stream: TcpStream) -> Player {
        Player { stream, state: State::Head(Vec::new()), queue: WriteQueue::default(), moved: now }
    }

    /// Whether it has asked for the stream.
    pub(super) const fn is_streaming(&self) -> bool {
        matches!(self.state, State::Stream(_))
    }

    /// Whether nothing waits for it.
    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues a chunk. True when the player is too slow and lost what waited.
    pub(super) fn play(&mut self, now: Time, chunk: &Chunk) -> bool {
        let State::Stream(starter) = &mut self.state else { return false };
        let slow = self.queue.chunks() >= QUEUE_CHUNKS_MAX;
        if slow {
            self.queue.drop_unsent();
            starter.restart();
        }
        if self.queue.is_empty() {
            self.moved = now;
        }
        if let Some(piece) = starter.next(chunk) {
            // There is room: QUEUE_CHUNKS_MAX is below the queue's own limit.
            let _ = self.queue.push_chunk(chunk.header.seq, piece.tables, piece.stream);
        }
        slow
    }

    /// Reads and writes. An error is the connection's end.
    pub(super) fn turn(
        &mut self,
        now: Time,
        path: &str,
        recent: &VecDeque<Chunk>,
        counters: &mut PlayoutCounters,
    ) -> io::Result<usize> {
        self.read(now, path, recent, counters)?;
        let written = self.queue.flush(&mut self.stream, BYTES_PER_TURN, &mut Vec::new())?;
        if written > 0 {
            self.moved = now;
        }
        if let State::Ending { shut: shut @ false } = &mut self.state
            && self.queue.is_empty()
        {
            *shut = true;
            self.moved = now;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(written)
    }

    fn read(
        &mut self,
        now: Time,
        path: &str,
        recent: &VecDeque<Chunk>,
        counters: &mut PlayoutCounters,
    ) -> io::Result<()> {
        let mut buf = [0; 2 << 10];
        // Bounded: a head, or as much as its owner discards of what follows one.
        for _ in 0..HEAD_BYTES_MAX / buf.len() + 1 {
            let len = match self.stream.read(&mut buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            let State::Head(head) = &mut self.state else { continue };
            head.extend_from_slice(&buf[..len]);
            match asked(head, path) {
                Asked::Incomplete => {}
                Asked::Stream => {
                    self.respond(RESPONSE);
                    self.state = State::Stream(Starter::default());
                    counters.players += 1;
                    for chunk in recent {
                        self.play(now, chunk);
                    }
                }
                Asked::HeadOnly => {
                    self.respond(RESPONSE);
                    self.state = State::Ending { shut: false };
                }
                Asked::Nothing(status) => {
                    counters.requests_bad += 1;
                    self.respond(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
                    self.state = State::Ending { shut: false };
                }
            }
        }
        // Somebody talks and talks: not a player.
        Err(io::ErrorKind::InvalidData.into())
    }

    fn respond(&mut self, head: &str) {
        // The queue is empty: a response is the first thing in it.
        let _ = self.queue.push_frame(head.as_bytes().to_vec());
    }

    /// Whether media has gone out to it.
    pub(super) fn has_media_out(&self) -> bool {
        self.queue.chunks_begun() > 0
    }

    /// Whether it has to go at `now`.
    pub(super) fn overdue(&self, now: Time) -> bool {
        let patience = match self.state {
            State::Head(_) => HEAD_PATIENCE,
            State::Ending { shut: true } => LINGER,
            State::Ending { shut: false } => TAKE_PATIENCE,
            State::Stream(_) if self.queue.is_empty() => return false,
            State::Stream(_) => TAKE_PATIENCE,
        };
        now.since(self.moved) >= patience
    }
}

pub(super) fn asked(head: &[u8], path: &str) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => return Asked::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Asked::Nothing("431 Request Header Fields Too Large");
        }
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Asked::Nothing("400 Bad Request"),
    }
    let target = request.path.unwrap_or_default();
    let target = target.split_once('?').map_or(target, |(target, _)| target);
    let known = target == path || target == "/";
    match request.method {
        Some("GET") if known => Asked::Stream,
        Some("HEAD") if known => Asked::HeadOnly,
        Some("GET" | "HEAD") => Asked::Nothing("404 Not Found"),
        _ => Asked::Nothing("405 Method Not Allowed\r\nAllow: GET, HEAD"),
    }
}

const _: () = assert!(QUEUE_CHUNKS_MAX < crate::net::queue::CHUNKS_QUEUED_MAX);
