//! Chunks into the ring, and the stream table beside it: whatever is in the one is in the other.

use std::collections::BTreeMap;

use cache_core::outbox::Outbox;
use cache_core::proto::cache::ingest::Verdict;
use cache_core::proto::cache::replacement::Standing;
use cache_core::proto::cache::streams::{StreamOutput, Streams, Tenure};
use cache_core::ring::{ChunkMeta, Reader, RingError, StreamSlot, Writer};
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{CHUNK_PREFIX_BYTES, ChunkHeader};

use super::note::{Note, TakenOver};
use super::retention::Retention;

/// The ring's writing end and the table.
#[derive(Debug)]
pub(super) struct Store {
    writer: Writer,
    retention: Retention,
    /// Control's own reader, for what is shown.
    reader: Reader,
    slots: BTreeMap<StreamId, StreamSlot>,
    /// For the next process; into the ring as soon as the stream is there.
    notes: BTreeMap<StreamId, Vec<u8>>,
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

fn tell(writer: &mut Writer, slot: StreamSlot, standing: Standing) {
    writer.set_rank(slot, standing.rank);
    writer.protect_from(slot, standing.protect_from);
}

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
    pub(super) fn new(writer: Writer, retention: Retention, reader: Reader, streams: Streams) -> Store {
        Store {
            writer,
            retention,
            reader,
            slots: BTreeMap::new(),
            notes: BTreeMap::new(),
            streams,
            out: Outbox::new(),
            warn_again_at: Time::ZERO,
        }
    }

    /// Enters a stream that was in the ring when this process began; one for which there is no room is closed.
    pub(super) fn take_over(&mut self, now: Time, stream: TakenOver) {
        let TakenOver { id, slot, was, .. } = stream;
        self.slots.insert(id, slot);
        self.writer.set_retain(slot, self.retention.chunks(&was.name));
        if !self.streams.inherit(now, id, was, &mut self.out) {
            tracing::warn!(stream = %id, "no room for a stream of the former process: raise streams_max");
            self.close(id);
        }
    }

    /// Keeps `note` with the stream for the process that takes the ring over.
    pub(super) fn note(&mut self, id: StreamId, note: &Note) {
        let note = note.encode();
        if let Some(slot) = self.slots.get(&id)
            && let Err(error) = self.writer.set_note(*slot, &note)
        {
            tracing::warn!(stream = %id, %error, "a restart will not find this stream");
        }
        self.notes.insert(id, note);
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
                if let Some(stream) = self.streams.get(header.stream) {
                    self.writer.set_retain(slot, self.retention.chunks(stream.name()));
                }
                self.slots.insert(header.stream, slot);
                // Before the first chunk: a stream without a name would be lost to the next process.
                if let Some(note) = self.notes.get(&header.stream) {
                    self.writer.set_note(slot, note)?;
                }
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
        Ok(())
    }

    /// A shard's viewers of a stream: how many, and the lowest position among them.
    pub(super) fn viewers(&mut self, now: Time, shard: u16, id: StreamId, count: u32, lowest: Option<ChunkSeq>) {
        self.streams.viewers(now, shard, id, count, lowest);
        self.rank(now, id);
    }

    /// Tells the ring how every stream stands when memory is short: some change with time alone. Cost: a walk over all
    /// streams.
    pub(super) fn rank_all(&mut self, now: Time) {
        let Store { streams, slots, writer, .. } = self;
        for (id, stream) in streams.iter() {
            if let Some(slot) = slots.get(&id) {
                tell(writer, *slot, stream.standing(now));
            }
        }
    }

    fn rank(&mut self, now: Time, id: StreamId) {
        if let (Some(slot), Some(stream)) = (self.slots.get(&id), self.streams.get(id)) {
            tell(&mut self.writer, *slot, stream.standing(now));
        }
    }

    /// Whether [`Store::tidy`] has something to do, as far as can be said without trying.
    pub(super) fn is_untidy(&self) -> bool {
        self.writer.is_untidy()
    }

    /// Makes a segment clean ahead of need; false when nothing is left to do.
    pub(super) fn tidy(&mut self) -> bool {
        self.writer.tidy()
    }

    /// Gives a stream's memory back.
    pub(super) fn close(&mut self, id: StreamId) {
        self.notes.remove(&id);
        if let Some(slot) = self.slots.remove(&id) {
            self.writer.close_stream(slot);
        }
    }

    /// The oldest chunk kept.
    pub(super) fn oldest(&self, id: StreamId) -> Option<ChunkSeq> {
        self.reader.oldest(*self.slots.get(&id)?)
    }
}
