//! The writing end of the ring: one for all streams of a cache server.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Core;
use super::attach::Scan;
use super::chunk::{ChunkMeta, StreamSlot};
use super::config::Recycle;
use super::descriptor::{Entry, seal};
use super::error::RingError;
use super::layout::{CHUNK_ALIGN, CHUNK_BYTES_MAX, PREFIX_BYTES, SEGMENT_BYTES};
use super::note::NOTE_BYTES_MAX;
use super::slab_pool::SlabPool;
use super::stats::Counter;
use super::stream_entry::NO_HEAD;
use super::sync::Ordering;
use crate::units::{ChunkSeq, StreamId};

/// Segments that [`Writer::tidy`] keeps clean, one in [`STOCK_SHARE`] of all and no more than this: streams that began
/// together and have the same rate need new ones together. It costs nobody a chunk, for what they held has expired.
const STOCK: u32 = 1024;
const STOCK_SHARE: u32 = 4;

/// Segments that it gives up ahead of need although their chunks have not expired, one in [`STOCK_EVICTED_SHARE`] and
/// no more than this (our guess).
const STOCK_EVICTED: u32 = 8;
const STOCK_EVICTED_SHARE: u32 = 256;

/// The single writer. `Send`, not `Sync`: control's thread has it. It never waits for a reader.
///
/// ```compile_fail,E0277
/// fn shared_by_threads<T: Sync>() {}
/// shared_by_threads::<cache_core::ring::Writer>();
/// ```
#[derive(Debug)]
pub struct Writer {
    core: Arc<Core>,
    pool: SlabPool,
    streams: Vec<Option<OpenStream>>,
    one_thread: PhantomData<Cell<()>>,
}

#[derive(Clone, Copy, Debug)]
struct OpenStream {
    id: StreamId,
    generation: u64,
    /// Where the next chunk begins in the stream's newest segment.
    fill: u32,
}

/// Room for one chunk that no reader sees. It may be held for as long as receiving takes; dropped (a cancelled task)
/// it is abandoned.
#[derive(Debug)]
#[must_use = "a reservation is published or abandoned"]
pub struct Reservation {
    slot: StreamSlot,
    segment: u32,
    generation: u64,
    offset: u32,
    len: u32,
    hold: Arc<()>,
}

impl Reservation {
    /// The stream it is for.
    pub fn slot(&self) -> StreamSlot {
        self.slot
    }
}

impl Writer {
    pub(super) fn new(core: Arc<Core>) -> Writer {
        Writer { pool: SlabPool::new(&core), ..Writer::blank(core) }
    }

    fn blank(core: Arc<Core>) -> Writer {
        let streams = core.control.layout.streams as usize;
        Writer { pool: SlabPool::default(), streams: vec![None; streams], core, one_thread: PhantomData }
    }

    /// The writer of a ring that another process left: its streams are open, and each one's next chunk goes
    /// where [`super::attach`] says.
    pub(super) fn inherit(core: Arc<Core>, scan: &Scan) -> Writer {
        let mut writer = Writer { pool: SlabPool::inherit(&core, scan), ..Writer::blank(core) };
        for found in &scan.streams {
            let (slot, index) = (found.slot, found.slot.index as usize);
            writer.streams[index] = Some(OpenStream { id: found.id, generation: slot.generation, fill: found.fill });
            writer.core.control.count(Counter::streams_open);
        }
        writer
    }

    /// Opens a stream, without a chunk.
    ///
    /// # Errors
    /// [`RingError::StreamOpen`] or [`RingError::StreamsFull`].
    pub fn open_stream(&mut self, id: StreamId) -> Result<StreamSlot, RingError> {
        if self.streams.iter().flatten().any(|open| open.id == id) {
            return Err(RingError::StreamOpen(id));
        }
        let free = self.streams.iter().position(Option::is_none);
        let index = free.ok_or(RingError::StreamsFull { max: self.core.control.layout.streams })? as u32;
        let generation = self.core.control.stream(index).open(id);
        self.core.control.use_stream(index);
        self.core.control.count(Counter::streams_open);
        self.pool.open(index, self.core.control.layout.retain);
        self.streams[index as usize] = Some(OpenStream { id, generation, fill: 0 });
        Ok(StreamSlot { index, generation })
    }

    /// Closes a stream: it is found no more, and its segments are the first to be filled again; until then who has a
    /// chunk's name may go on sending it. A stream that is closed already stays so.
    pub fn close_stream(&mut self, slot: StreamSlot) {
        if self.open(slot).is_err() {
            return;
        }
        self.core.control.stream(slot.index).close();
        for seq in 0..self.core.control.layout.retain {
            self.core.control.descriptor(slot.index, ChunkSeq::new(seq)).clear();
        }
        self.core.control.uncount(Counter::streams_open);
        self.pool.close(&self.core, slot.index);
        self.streams[slot.index as usize] = None;
    }

    /// Keeps no more than the stream's newest `chunks` chunks from now on, at least 1. Older ones have expired, for good:
    /// the number is only ever lowered, from the ring's `retain_chunks`, with which a stream begins that is opened or
    /// inherited. Of a closed stream nothing is changed.
    pub fn set_retain(&mut self, slot: StreamSlot, chunks: u64) {
        if self.open(slot).is_ok() {
            let chunks = chunks.clamp(1, self.pool.retain(slot.index));
            self.core.control.stream(slot.index).set_retain(chunks);
            self.pool.set_retain(&self.core, slot.index, chunks);
        }
    }

    /// When the ring is short the open stream of the lowest rank loses its oldest segment; of several, the one whose
    /// oldest segment was begun first. An opened stream has rank 0.
    pub fn set_rank(&mut self, slot: StreamSlot, rank: u64) {
        if self.open(slot).is_ok() {
            self.pool.set_rank(slot.index, rank);
        }
    }

    /// No chunk of the stream from `seq` on is taken before it has expired; `None` ends that. Where nothing else is
    /// left, [`Writer::reserve`] refuses ([`RingStats::withheld`](super::RingStats::withheld)) the stream that asks, or
    /// takes the segment that a stream of lower rank was filling. An opened stream has no protection.
    pub fn protect_from(&mut self, slot: StreamSlot, seq: Option<ChunkSeq>) {
        if self.open(slot).is_ok() {
            self.pool.protect_from(slot.index, seq);
        }
    }

    /// Whether [`Writer::tidy`] may have something to do. Cost: next to none.
    pub fn is_untidy(&self) -> bool {
        self.core.recycle == Recycle::Punch && self.pool.free() < self.stock()
    }

    /// Makes one segment clean ahead of need, so that a later [`Writer::reserve`] finds it so; false when there are
    /// enough (a quarter) or none can be had. To be called when nothing waits, until it says false. Cost: that of a
    /// recycling, or next to none. With it the longest `reserve` takes 23 us instead of 1.8 ms (pages of 4 KiB, measured:
    /// `examples/ring_reserve.rs`).
    pub fn tidy(&mut self) -> bool {
        let evicted = (self.core.control.layout.segments / STOCK_EVICTED_SHARE).clamp(1, STOCK_EVICTED);
        self.is_untidy() && self.pool.tidy(&self.core, self.stock(), evicted)
    }

    /// Keeps `note` with the stream until it is closed, in place of the one before: whoever takes the ring over finds it
    /// in [`InheritedStream::note`](super::InheritedStream::note), this one or, when the process was killed on the way,
    /// the one before, never a mixture.
    ///
    /// # Errors
    /// [`RingError::StreamGone`] or [`RingError::NoteLength`]; the note before stays.
    pub fn set_note(&mut self, slot: StreamSlot, note: &[u8]) -> Result<(), RingError> {
        let id = self.open(slot)?.id;
        if note.len() > NOTE_BYTES_MAX {
            return Err(RingError::NoteLength { len: note.len(), max: NOTE_BYTES_MAX });
        }
        let control = &self.core.control;
        let count = control.stream(slot.index).notes().wrapping_add(1);
        control.note(slot.index, count).write(id, note);
        control.stream(slot.index).note_written(count);
        Ok(())
    }

    /// Reserves `len` bytes, prefix included, for the stream's next chunk: at most one reservation for each stream at a
    /// time. Cost: next to none but for the first chunk in a segment, when another one may have to be recycled (unless
    /// [`Writer::tidy`] has done it). With
    /// [`Recycle::Punch`](super::Recycle::Punch) that takes 2 ms for pages of 4 KiB and 60 us for a huge page (measured;
    /// 2 vCPU EPYC, memfd and tmpfs mounted `huge=always`).
    ///
    /// # Errors
    /// [`RingError::StreamGone`], [`RingError::Length`], [`RingError::Reserved`] or [`RingError::NoSpace`].
    pub fn reserve(&mut self, slot: StreamSlot, len: usize) -> Result<Reservation, RingError> {
        let fill = self.open(slot)?.fill;
        if !(PREFIX_BYTES..=CHUNK_BYTES_MAX).contains(&len) {
            return Err(RingError::Length { len, min: PREFIX_BYTES, max: CHUNK_BYTES_MAX });
        }
        let newest = self.pool.newest(slot.index);
        if newest.is_some_and(|segment| self.pool.reserved(segment)) {
            return Err(RingError::Reserved);
        }
        let (segment, offset) = match newest {
            Some(segment) if u64::from(fill) + len as u64 <= SEGMENT_BYTES => (segment, fill),
            _ => (self.begin_segment(slot)?, 0),
        };
        Ok(Reservation {
            slot,
            segment,
            generation: self.core.control.generation(segment).load(Ordering::Relaxed),
            offset,
            len: len as u32,
            hold: self.pool.hold(segment).clone(),
        })
    }

    /// The reserved bytes, to be filled. What stands in them at first is unspecified.
    ///
    /// # Panics
    /// When the reservation is another ring's.
    pub fn bytes_mut(&mut self, r: &mut Reservation) -> &mut [u8] {
        self.check(r);
        let at = self.core.control.layout.segment_offset(r.segment) + u64::from(r.offset);
        // SAFETY: the reservation lives, so its segment is not given up, and no other reservation has the range: there
        // is one at a time in a segment, each behind what is published, and `self` is borrowed for writing.
        unsafe { self.core.slabs.bytes_mut(at, r.len as usize) }
    }

    /// Publishes the filled chunk: with one store every reader can see it. False, counted, and nothing published when
    /// the stream has been closed meanwhile or when `meta.seq` is there already or older than the window. Numbers may
    /// leave gaps; one that was left out may come late, while it is in the window.
    ///
    /// # Panics
    /// When `meta` speaks of another length than was reserved, or the reservation is another ring's.
    pub fn publish(&mut self, r: Reservation, meta: ChunkMeta) -> bool {
        self.check(&r);
        assert_eq!(meta.payload_len as usize + PREFIX_BYTES, r.len as usize, "what is published is what was reserved");
        let accepted = self.open(r.slot).is_ok() && self.is_new(r.slot, meta.seq);
        if !accepted {
            self.core.control.count(Counter::publish_refused);
            return false;
        }
        let mut entry =
            Entry { segment: r.segment, offset: r.offset, generation: r.generation, meta, inherited: false, seal: 0 };
        entry.seal = self.seal(&r, &entry);
        let control = &self.core.control;
        let end = r.offset + r.len;
        // In this order, so that whoever takes the file over after a kill between two stores believes what is there: the
        // segment's bytes, that they count, the descriptor (its version odd meanwhile), and last the head, which alone
        // says that the chunk is published.
        control.filled(r.segment).store(u64::from(end), Ordering::Release);
        control.descriptor(r.slot.index, meta.seq).write(&entry);
        if self.pool.head(r.slot.index).is_none_or(|head| meta.seq > head) {
            control.stream(r.slot.index).advance(meta.seq);
        }
        control.count(Counter::published);
        self.pool.note(&self.core, r.slot.index, r.segment, meta.seq);
        if let Some(stream) = &mut self.streams[r.slot.index as usize] {
            stream.fill = end.next_multiple_of(CHUNK_ALIGN as u32);
        }
        true
    }

    /// Gives a reservation back unpublished; the next one of the stream takes the same bytes. So does dropping it.
    pub fn abandon(&mut self, r: Reservation) {
        drop(r);
    }

    fn stock(&self) -> u32 {
        (self.core.control.layout.segments / STOCK_SHARE).clamp(1, STOCK)
    }

    fn open(&self, slot: StreamSlot) -> Result<&OpenStream, RingError> {
        let stream = self.streams.get(slot.index as usize).and_then(Option::as_ref);
        stream.filter(|open| open.generation == slot.generation).ok_or(RingError::StreamGone)
    }

    fn begin_segment(&mut self, slot: StreamSlot) -> Result<u32, RingError> {
        let segment = self.pool.take(&self.core, slot.index).ok_or(RingError::NoSpace)?;
        if let Some(stream) = &mut self.streams[slot.index as usize] {
            stream.fill = 0;
        }
        Ok(segment)
    }

    fn is_new(&self, slot: StreamSlot, seq: ChunkSeq) -> bool {
        let Some(head) = self.pool.head(slot.index) else { return seq.get() != NO_HEAD };
        match head.since(seq) {
            None => seq.get() != NO_HEAD,
            Some(age) if age >= self.pool.retain(slot.index) => false,
            Some(_) => {
                let there = self.core.control.descriptor(slot.index, seq).read();
                there.is_none_or(|entry| entry.meta.seq != seq || !self.is_alive(&entry))
            }
        }
    }

    fn seal(&self, r: &Reservation, entry: &Entry) -> u32 {
        let at = self.core.control.layout.segment_offset(r.segment) + u64::from(r.offset);
        // SAFETY: nothing writes to the range: only this writer could, and it is here.
        let prefix = unsafe { self.core.slabs.bytes(at, PREFIX_BYTES) };
        let id = self.streams[r.slot.index as usize].map_or(StreamId(0), |open| open.id);
        seal(id, entry, prefix)
    }

    fn is_alive(&self, entry: &Entry) -> bool {
        // A cleared descriptor names segment 0 in generation 0, which no segment has.
        self.core.control.generation(entry.segment).load(Ordering::Relaxed) == entry.generation
    }

    fn check(&self, r: &Reservation) {
        let ours = (r.segment < self.core.control.layout.segments) && Arc::ptr_eq(self.pool.hold(r.segment), &r.hold);
        assert!(ours, "a reservation goes back to the ring that gave it");
    }
}
