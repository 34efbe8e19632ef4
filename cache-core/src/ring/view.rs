//! What can be asked of the ring without holding anything: streams, heads, chunks. Shared by the readers of a cache
//! server and by observer processes.

use std::sync::Arc;

use super::chunk::{ChunkRef, Lookup, StreamSlot};
use super::control::Control;
use super::layout::{PREFIX_BYTES, SEGMENT_BYTES};
use super::stream_entry::StreamEntry;
use super::sync::load_acquire;
use super::verdicts::Verdict;
use crate::limits::CHUNK_PAYLOAD_BYTES_MAX;
use crate::units::{ChunkSeq, StreamId};

/// Questions to the ring. Every answer was true at some moment during the call; none waits, retries or writes.
#[derive(Clone, Debug)]
pub struct View {
    control: Arc<Control>,
}

impl View {
    pub(super) fn new(control: Arc<Control>) -> View {
        View { control }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// The slot of an open stream. Cost: a walk over the slots in use, so keep the answer.
    pub fn stream(&self, id: StreamId) -> Option<StreamSlot> {
        self.streams().find_map(|(open, slot)| (open == id).then_some(slot))
    }

    /// All open streams.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, StreamSlot)> + '_ {
        (0..self.control.streams_used()).filter_map(|index| {
            let (generation, id) = self.control.stream(index).identity()?;
            Some((id, StreamSlot { index, generation }))
        })
    }

    /// The newest chunk of a stream; `None` when it has none or has been closed.
    pub fn head(&self, slot: StreamSlot) -> Option<ChunkSeq> {
        let entry = self.entry(slot)?;
        let head = entry.head();
        head.filter(|_| entry.is_still(slot.generation))
    }

    /// The oldest chunk that is there. Cost: up to `retain_chunks` descriptors.
    pub fn oldest(&self, slot: StreamSlot) -> Option<ChunkSeq> {
        let head = self.head(slot)?;
        self.first(slot, self.window_start(slot, head), head, |_| true)
    }

    /// Whether chunk `seq` is there. Cost: four cache lines.
    pub fn lookup(&self, slot: StreamSlot, seq: ChunkSeq) -> Lookup {
        let Some(entry) = self.entry(slot) else { return Lookup::Gone };
        let found = self.find(entry, slot, seq);
        if entry.is_still(slot.generation) { found } else { Lookup::Gone }
    }

    /// Where a viewer that wants to be `back` chunks behind the newest begins: the newest chunk at or below that with
    /// tables and a key frame, else the first one above it. `None` when no chunk that is there has both. Cost: up to
    /// `retain_chunks` descriptors.
    pub fn join_point(&self, slot: StreamSlot, back: u64) -> Option<ChunkSeq> {
        let head = self.head(slot)?;
        let wanted = head.back(back);
        let start = self.window_start(slot, head);
        let below = (start.get()..=wanted.get()).rev().map(ChunkSeq::new).find(|seq| self.can_join(slot, *seq));
        below.or_else(|| self.first(slot, wanted.next().max(start), head, |chunk| chunk.meta.is_join_point()))
    }

    /// The first chunk at or above `from` with tables and a key frame. Cost: up to `retain_chunks` descriptors.
    pub fn next_join_point(&self, slot: StreamSlot, from: ChunkSeq) -> Option<ChunkSeq> {
        let head = self.head(slot)?;
        self.first(slot, from.max(self.window_start(slot, head)), head, |chunk| chunk.meta.is_join_point())
    }

    /// Whether the chunk's bytes are still its own. To be asked after they were read or sent without a lease: "yes"
    /// says that all of them were right until this call.
    pub fn valid(&self, chunk: &ChunkRef) -> bool {
        // The bytes are read before the generation is.
        super::sync::fence(super::sync::Ordering::Acquire);
        chunk.segment < self.control.layout.segments
            && load_acquire(self.control.generation(chunk.segment)) == chunk.generation
    }

    fn entry(&self, slot: StreamSlot) -> Option<StreamEntry<'_>> {
        (slot.index < self.control.layout.streams).then(|| self.control.stream(slot.index))
    }

    /// The oldest chunk that an open stream keeps.
    fn window_start(&self, slot: StreamSlot, head: ChunkSeq) -> ChunkSeq {
        head.back(self.control.stream(slot.index).retain(self.control.layout.retain) - 1)
    }

    fn can_join(&self, slot: StreamSlot, seq: ChunkSeq) -> bool {
        matches!(self.lookup(slot, seq), Lookup::Ready(chunk) if chunk.meta.is_join_point())
    }

    /// The first chunk of `from..=to` that is there and is `wanted`.
    fn first(
        &self,
        slot: StreamSlot,
        from: ChunkSeq,
        to: ChunkSeq,
        wanted: impl Fn(&ChunkRef) -> bool,
    ) -> Option<ChunkSeq> {
        (from.get()..=to.get()).map(ChunkSeq::new).find(|seq| match self.lookup(slot, *seq) {
            Lookup::Ready(chunk) => wanted(&chunk),
            Lookup::NotYet | Lookup::Gone => false,
        })
    }

    /// `lookup`, as long as the slot is still the stream's.
    fn find(&self, entry: StreamEntry<'_>, slot: StreamSlot, seq: ChunkSeq) -> Lookup {
        let age = match entry.head() {
            None => return Lookup::NotYet,
            Some(head) => match head.since(seq) {
                None => return Lookup::NotYet,
                Some(age) => age,
            },
        };
        if age >= entry.retain(self.control.layout.retain) {
            return Lookup::Gone;
        }
        self.described(slot, seq).map_or(Lookup::Gone, Lookup::Ready)
    }

    /// What the descriptor of `seq` says, if it is of that chunk and the chunk's segment has not been given up. An
    /// observer may have opened a damaged file, so every number is held against its range.
    fn described(&self, slot: StreamSlot, seq: ChunkSeq) -> Option<ChunkRef> {
        let layout = &self.control.layout;
        let entry = self.control.descriptor(slot.index, seq).read()?;
        let payload_len = entry.meta.payload_len as usize;
        if entry.meta.seq != seq || entry.segment >= layout.segments || payload_len > CHUNK_PAYLOAD_BYTES_MAX {
            return None;
        }
        let suspect = entry.inherited
            && match self.control.verdicts.get(layout.row(slot.index, seq.get())) {
                Verdict::Whole => false,
                Verdict::Unknown => true,
                Verdict::Broken => return None,
            };
        let len = (PREFIX_BYTES + payload_len) as u32;
        let chunk = ChunkRef {
            slot,
            seq,
            segment: entry.segment,
            generation: entry.generation,
            file_offset: layout.segment_offset(entry.segment) + u64::from(entry.offset),
            len,
            meta: entry.meta,
            suspect,
        };
        let inside = u64::from(entry.offset) + u64::from(len) <= SEGMENT_BYTES;
        (inside && self.valid(&chunk)).then_some(chunk)
    }
}
