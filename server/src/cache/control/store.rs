//! Chunks into the ring, and the stream table beside it: whatever is in the one is in the other.

use std::collections::BTreeMap;

use cache_core::outbox::Outbox;
use cache_core::proto::cache::ingest::Verdict;
use cache_core::proto::cache::streams::{StreamOutput, Streams, Tenure};
use cache_core::ring::{ChunkMeta, Reader, Ring, RingError, StreamSlot, Writer};
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::index::HoldState;
use cache_core::wire::{CHUNK_PREFIX_BYTES, ChunkHeader};

use crate::host::clock::wall;

/// The ring's writing end and the table.
#[derive(Debug)]
pub(super) struct Store {
    writer: Writer,
    /// Control's own reader, for what is shown.
    reader: Reader,
    /// For what the board says of each stream.
    ring: Ring,
    slots: BTreeMap<StreamId, StreamSlot>,
    /// The table. Its outputs go to `out`.
    pub(super) streams: Streams,
    /// Decisions that have not been carried out.
    pub(super) out: Outbox<StreamOutput>,
    /// Not before then is a dropped chunk worth another line in the log.
    warn_again_at: Time,
}

/// A full ring drops chunks by the thousand; the counter `chunks_without_memory` has them all (our guess: a person looks
/// at a log as often).
const WARN_EVERY: Span = Span::from_secs(10);

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It is in the ring.
    Yes,
    /// It was there, or its place was passed.
    Duplicate,
    /// Its source's turn is over.
    Fenced,
    /// Its number makes no sense.
    OutOfRange,
    /// The ring had no room; it is lost.
    NoMemory,
}

impl Store {
    pub(super) fn new(writer: Writer, reader: Reader, ring: Ring, streams: Streams) -> Store {
        Store { writer, reader, ring, slots: BTreeMap::new(), streams, out: Outbox::new(), warn_again_at: Time::ZERO }
    }

    /// Judges a chunk and stores it. `header` has been checked against `payload`, or was made here.
    ///
    /// The payload is copied into its slot, once: it is received and checked in the connection's own memory, so that
    /// no sender, however slow, holds a piece of the ring, and nothing unverified ever stands in it. Cost beside the
    /// check: some 5 us of copying for 50 KB (our guess, not measured).
    pub(super) fn append(&mut self, now: Time, tenure: Tenure, header: &ChunkHeader, payload: &[u8]) -> Stored {
        let id = header.stream;
        match self.streams.judge(id, tenure, header.epoch, header.seq) {
            Verdict::Append { .. } => {}
            Verdict::Duplicate => return Stored::Duplicate,
            Verdict::Fenced => return Stored::Fenced,
            Verdict::OutOfRange => return Stored::OutOfRange,
        }
        match self.put(header, payload) {
            Ok(()) => {
                self.streams.stored(now, id, header, &mut self.out);
                Stored::Yes
            }
            Err(error) => {
                if self.warn_again_at <= now {
                    self.warn_again_at = now.after(WARN_EVERY);
                    tracing::warn!(stream = %id, seq = %header.seq, %error, "chunk dropped");
                }
                Stored::NoMemory
            }
        }
    }

    fn put(&mut self, header: &ChunkHeader, payload: &[u8]) -> Result<(), RingError> {
        let slot = match self.slots.get(&header.stream) {
            Some(slot) => *slot,
            None => {
                let slot = self.writer.open_stream(header.stream)?;
                self.slots.insert(header.stream, slot);
                let name = self.streams.get(header.stream).map_or("", |stream| stream.name().as_str());
                self.ring.board().stream(slot).begin(name);
                slot
            }
        };
        let mut reservation = self.writer.reserve(slot, CHUNK_PREFIX_BYTES + payload.len())?;
        let bytes = self.writer.bytes_mut(&mut reservation);
        bytes[..CHUNK_PREFIX_BYTES].copy_from_slice(&chunk_prefix(header));
        bytes[CHUNK_PREFIX_BYTES..].copy_from_slice(payload);
        let meta = ChunkMeta {
            seq: header.seq,
            epoch: header.epoch,
            published: header.published,
            payload_len: header.payload_len,
            tables_len: header.tables_len,
            key_frame: header.key_frame,
            duration_ms: header.duration_ms,
            discontinuity: header.discontinuity,
            end: header.end,
        };
        // The table has judged its number: it is the newest.
        self.writer.publish(reservation, meta);
        self.ring.board().stream(slot).stored(payload.len() as u64, wall());
        Ok(())
    }

    /// Shows on the board how the streams stand. Cost: 2 stores and a short text for each.
    pub(super) fn show(&self) {
        for (id, stream) in self.streams.iter() {
            let Some(slot) = self.slots.get(&id) else { continue };
            let state = match stream.state() {
                HoldState::Origin => "origin",
                HoldState::Relay => "relay",
                HoldState::Fetching => "fetching",
                HoldState::Stalled => "stalled",
                HoldState::Ended => "ended",
            };
            self.ring.board().stream(*slot).state(state, stream.viewers(), stream.missing());
        }
    }

    /// Gives a stream's memory back.
    pub(super) fn close(&mut self, id: StreamId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.writer.close_stream(slot);
        }
    }

    /// The oldest chunk kept.
    pub(super) fn oldest(&self, id: StreamId) -> Option<ChunkSeq> {
        self.reader.oldest(*self.slots.get(&id)?)
    }
}
