//! The pump: carries out what a connection's machine says, until its socket is full, its turn is over or there is
//! nothing more.

use std::os::fd::AsFd;

use cache_core::limits::TABLES_BYTES_MAX;
use cache_core::proto::cache::viewer::{Answer, Next, PlayoutNext};
use cache_core::ring::ChunkRef;
use cache_core::wire::CHUNK_PREFIX_BYTES;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::config::Way;
use super::connection::{Key, Phase, Sending};
use super::native::frame_of;
use super::sender::{Owner, Sent};
use super::shard::Shard;
use super::shelf::Shelf;
use super::streams::State;
use crate::uring::{Completion, Operation, ZeroCopyEvent};

/// What a step of the pump leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More may be to do.
    Again,
    /// Nothing more, or the socket is full.
    Done,
}

impl Shard {
    /// Sends what there is to send to one connection, `turn_bytes` at most.
    pub(super) fn pump(&mut self, key: Key) {
        let mut budget = self.config.turn_bytes;
        while self.step(key, &mut budget) == Step::Again {}
    }

    fn step(&mut self, key: Key, budget: &mut u32) -> Step {
        let Some(connection) = self.connections.get_mut(key as usize) else { return Step::Done };
        if connection.under_way.sending_waits() || matches!(connection.phase, Phase::Closing) {
            return Step::Done;
        }
        if !connection.has_pending() {
            connection.progress_at = self.now;
        }
        if *budget == 0 {
            self.schedule(key);
            return Step::Done;
        }
        if let Some(sending) = connection.sending {
            self.send_chunk(key, &sending, budget)
        } else if !connection.answers.rest().is_empty() {
            self.send_answers(key)
        } else {
            self.next(key)
        }
    }

    fn send_chunk(&mut self, key: Key, sending: &Sending, budget: &mut u32) -> Step {
        let connection = &mut self.connections[key as usize];
        let Some((from, rest)) = sending.rest() else {
            connection.sending = None;
            self.links.counters.chunks_sent.one();
            return Step::Again;
        };
        let len = rest.min(*budget);
        let owner: Owner = (key, connection.generation);
        let (way, socket) = (connection.way, connection.socket.as_fd());
        match self.sender.send(&mut self.uring, way, socket, &sending.chunk, (from, len), owner) {
            Sent::Bytes(count) => {
                *budget -= count;
                self.progress(key, count);
                Step::Again
            }
            Sent::UnderWay => {
                connection.under_way.zero_copy = true;
                self.links.counters.zero_copy_sends.one();
                Step::Done
            }
            Sent::Blocked => self.wait_writable(key),
            Sent::Gone if !sending.started => {
                self.lost(key, &sending.chunk);
                Step::Again
            }
            Sent::Gone => {
                self.links.counters.cut_recycled.one();
                self.cut(key);
                Step::Done
            }
            Sent::Failed => self.send_failed(key),
        }
    }

    /// `count` more bytes of the chunk are in the socket.
    fn progress(&mut self, key: Key, count: u32) {
        self.links.counters.chunk_bytes_sent.add(u64::from(count));
        let connection = &mut self.connections[key as usize];
        connection.progress_at = self.now;
        if let Some(sending) = &mut connection.sending {
            sending.advance(count);
        }
    }

    fn send_answers(&mut self, key: Key) -> Step {
        let connection = &mut self.connections[key as usize];
        let more = connection.phase.body_follows();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | if more { SendFlags::MORE } else { SendFlags::empty() };
        match rustix::net::send(&connection.socket, connection.answers.rest(), flags) {
            Ok(count) => {
                self.links.counters.message_bytes_sent.add(count as u64);
                connection.progress_at = self.now;
                connection.answers.advance(count);
                Step::Again
            }
            Err(Errno::AGAIN | Errno::INTR) => self.wait_writable(key),
            Err(_) => self.send_failed(key),
        }
    }

    fn wait_writable(&mut self, key: Key) -> Step {
        self.links.counters.sends_blocked.one();
        let connection = &mut self.connections[key as usize];
        connection.under_way.writable = true;
        let token = connection.token(Operation::Writable, key);
        self.uring.poll_writable(connection.as_fd(), token);
        Step::Done
    }

    fn send_failed(&mut self, key: Key) -> Step {
        self.links.counters.send_failures.one();
        self.close(key);
        Step::Done
    }

    pub(super) fn on_writable(&mut self, completion: &Completion) {
        let Some(key) = self.tenant(completion) else { return };
        let connection = &mut self.connections[key as usize];
        connection.under_way.writable = false;
        match connection.phase {
            Phase::Closing => self.retire_if_idle(key),
            _ => self.schedule(key),
        }
    }

    pub(super) fn on_zero_copy(&mut self, completion: &Completion) {
        let (sent, freed) = self.sender.complete(completion);
        if let Some(ZeroCopyEvent::Sent((key, generation), result)) = sent
            && self.connections.get(key as usize).is_some_and(|connection| connection.generation == generation)
        {
            self.on_zero_copy_sent(key, result);
        }
        let Some(ZeroCopyEvent::Freed { owner: (key, generation), copied }) = freed else { return };
        let counters = &self.links.counters;
        counters.zero_copy_notified.one();
        if copied {
            counters.zero_copy_copied.one();
        }
        counters
            .zero_copy_copied_permille
            .set(counters.zero_copy_copied.get() * 1000 / counters.zero_copy_notified.get());
        if copied
            && let Some(connection) = self.connections.get_mut(key as usize)
            && connection.generation == generation
            && connection.way == Way::ZeroCopy
            && !self.config.zero_copy_despite_copies
        {
            self.links.counters.zero_copy_fallbacks.one();
            connection.way = self.config.send.instead_of_zero_copy().first();
        }
    }

    fn on_zero_copy_sent(&mut self, key: Key, result: Result<u32, Errno>) {
        let connection = &mut self.connections[key as usize];
        connection.under_way.zero_copy = false;
        match (&connection.phase, result) {
            (Phase::Closing, _) => self.retire_if_idle(key),
            (_, Ok(count)) if count > 0 => {
                self.progress(key, count);
                self.schedule(key);
            }
            (_, Err(Errno::INTR)) => self.schedule(key),
            (_, Err(Errno::AGAIN)) => {
                self.wait_writable(key);
            }
            // INVAL: a kernel that does not report usage (before 6.2).
            (_, Err(error @ (Errno::NOMEM | Errno::OPNOTSUPP | Errno::NOBUFS | Errno::INVAL))) => {
                let instead = self.config.send.instead_of_zero_copy();
                if !std::mem::replace(&mut self.warned_zero_copy, true) {
                    tracing::warn!(
                        %error,
                        ?instead,
                        "zero-copy sends fail here, viewers are served without; if it is memory, raise the \
                         locked-memory limit (LimitMEMLOCK=), else set `send` to sendfile"
                    );
                }
                self.links.counters.zero_copy_fallbacks.one();
                self.config.send = instead;
                connection.way = instead.first();
                self.schedule(key);
            }
            _ => {
                self.send_failed(key);
            }
        }
    }

    /// Asks the connection's machine for the next thing.
    fn next(&mut self, key: Key) -> Step {
        let connection = &mut self.connections[key as usize];
        match connection.phase {
            Phase::Native(_) => self.next_native(key),
            Phase::Http(_) => self.next_http(key),
            Phase::Asker(_) => self.next_asked(key),
            _ if connection.finishing => {
                self.linger(key);
                Step::Done
            }
            _ => Step::Done,
        }
    }

    fn next_native(&mut self, key: Key) -> Step {
        let Shard { connections, streams, sender, links, patience, .. } = self;
        let connection = &mut connections[key as usize];
        let Phase::Native(native) = &mut connection.phase else { return Step::Done };
        let count = native.joined.len();
        for at in (0..count).map(|i| (native.turn + i) % count) {
            let joined = &mut native.joined[at];
            let State::Live(slot) = streams.get(joined.stream).state else { continue };
            if joined.waiting.is_some() {
                continue;
            }
            let shelf = Shelf::new(sender.reader(), slot);
            let answer = match joined.track.next(&shelf, *patience) {
                Next::Idle => continue,
                Next::Say(answer) => Some(answer),
                Next::Chunk(seq) => match shelf.chunk(seq) {
                    Some(chunk) => {
                        connection.sending = Some(Sending::frame(chunk));
                        None
                    }
                    None => joined.track.lost(seq),
                },
            };
            match answer {
                Some(Answer::Unavailable { count, .. }) => links.counters.chunks_unavailable.add(u64::from(count)),
                Some(Answer::Skipped(_)) => links.counters.skips.one(),
                Some(Answer::Ended(_)) | None => {}
            }
            if let Some(answer) = answer {
                frame_of(joined.id, answer).encode(connection.answers.append());
            }
            native.turn = (at + 1) % count;
            return Step::Again;
        }
        Step::Done
    }

    fn next_http(&mut self, key: Key) -> Step {
        let Shard { connections, streams, sender, links, patience, .. } = self;
        let connection = &mut connections[key as usize];
        let Phase::Http(http) = &mut connection.phase else { return Step::Done };
        let State::Live(slot) = streams.get(http.stream).state else { return Step::Done };
        let shelf = Shelf::new(sender.reader(), slot);
        let (seq, begin) = match http.playout.next(&shelf, *patience) {
            PlayoutNext::Idle => return Step::Done,
            PlayoutNext::End => {
                self.finish(key);
                return Step::Done;
            }
            PlayoutNext::Begin(seq) => (seq, true),
            PlayoutNext::Chunk(seq) => (seq, false),
        };
        match shelf.chunk(seq) {
            Some(chunk) => {
                let again = begin && std::mem::replace(&mut http.begun, true);
                links.counters.skips.add(u64::from(again));
                connection.sending = Some(transport_stream(chunk, begin));
            }
            None => http.playout.lost(seq),
        }
        Step::Again
    }

    /// A chunk's place was recycled before its first byte was sent.
    fn lost(&mut self, key: Key, chunk: &ChunkRef) {
        let Shard { connections, streams, links, .. } = self;
        let connection = &mut connections[key as usize];
        connection.sending = None;
        match &mut connection.phase {
            Phase::Native(native) => {
                let of_chunk =
                    |stream: u32| matches!(streams.get(stream).state, State::Live(slot) if slot == chunk.slot);
                let Some(joined) = native.joined.iter_mut().find(|joined| of_chunk(joined.stream)) else { return };
                if let Some(answer) = joined.track.lost(chunk.seq) {
                    links.counters.chunks_unavailable.one();
                    frame_of(joined.id, answer).encode(connection.answers.append());
                }
            }
            Phase::Http(http) => http.playout.lost(chunk.seq),
            _ => {}
        }
    }
}

/// The parts of `chunk`'s slot that an HTTP viewer gets. One that begins gets the tables, then the transport stream
/// from the key frame on.
fn transport_stream(chunk: ChunkRef, begin: bool) -> Sending {
    let prefix = CHUNK_PREFIX_BYTES as u32;
    let media = prefix + u32::from(chunk.meta.tables_len);
    let parts = match begin {
        true => [(prefix, media), (media.saturating_add(chunk.meta.key_frame.unwrap_or(0)), chunk.len)],
        false => [(media, chunk.len), (0, 0)],
    };
    Sending { chunk, parts, started: false }
}

const _: () = assert!(TABLES_BYTES_MAX <= u16::MAX as usize, "tables_len is 16 bits");
