//! The control area as tables: the layout put over its words.

use super::descriptor::Descriptor;
use super::layout::{DESCRIPTOR_WORDS, Layout, MAGIC, NOTE_WORDS, STREAM_WORDS, VERSION, header};
use super::memory::Words;
use super::note::NoteCell;
use super::stats::{COUNTERS, Counter, RingStats};
use super::stream_entry::StreamEntry;
use super::sync::{AtomicU64, Ordering, load_acquire};
use super::verdicts::Verdicts;
use crate::units::ChunkSeq;

/// The tables that every reader, the writer and observers share.
#[derive(Debug)]
pub(super) struct Control {
    words: Words,
    pub(super) layout: Layout,
    /// What this process found out about inherited chunks.
    pub(super) verdicts: Verdicts,
}

impl Control {
    /// Puts `layout` over `words`. An index outside a table panics: who takes one from outside checks it first.
    pub(super) fn new(words: Words, layout: Layout) -> Control {
        Control { words, layout, verdicts: Verdicts::none() }
    }

    /// Fills in the tables of a new file, the version last.
    pub(super) fn format(&self) {
        for segment in 0..self.layout.segments {
            // 0 is the generation of no segment.
            self.generation(segment).store(1, Ordering::Relaxed);
        }
        let facts = [
            (header::MAGIC, MAGIC),
            (header::BUDGET_BYTES, self.layout.budget_bytes),
            (header::STREAMS_MAX, u64::from(self.layout.streams)),
            (header::RETAIN_CHUNKS, self.layout.retain),
        ];
        for (word, value) in facts {
            self.words[word].store(value, Ordering::Relaxed);
        }
        self.words[header::VERSION].store(VERSION, Ordering::Release);
    }

    /// A segment's generation: it goes up when the segment is given up, and what was written under an older one is gone.
    pub(super) fn generation(&self, segment: u32) -> &AtomicU64 {
        &self.words[self.layout.segment_entry(segment)]
    }

    /// Bytes of a segment, from its start, that are published.
    pub(super) fn filled(&self, segment: u32) -> &AtomicU64 {
        &self.words[self.layout.segment_entry(segment) + 1]
    }

    /// A stream's entry.
    pub(super) fn stream(&self, index: u32) -> StreamEntry<'_> {
        let at = self.layout.stream_entry(index);
        StreamEntry(&self.words[at..at + STREAM_WORDS])
    }

    /// One of a stream's two note cells, counted on: `cell % 2`.
    pub(super) fn note(&self, index: u32, cell: u64) -> NoteCell<'_> {
        let at = self.layout.note(index, cell);
        NoteCell(&self.words[at..at + NOTE_WORDS])
    }

    /// How many stream entries were ever open.
    pub(super) fn streams_used(&self) -> u32 {
        load_acquire(&self.words[header::STREAMS_USED]).min(u64::from(self.layout.streams)) as u32
    }

    /// Notes that entry `index` is or was open. The writer only.
    pub(super) fn use_stream(&self, index: u32) {
        if index >= self.streams_used() {
            self.words[header::STREAMS_USED].store(u64::from(index) + 1, Ordering::Release);
        }
    }

    /// The descriptor of chunk `seq` of stream `index`, or of another one that has the same place.
    pub(super) fn descriptor(&self, index: u32, seq: ChunkSeq) -> Descriptor<'_> {
        let at = self.layout.descriptor(index, seq.get());
        Descriptor(&self.words[at..at + DESCRIPTOR_WORDS])
    }

    /// States how many stream entries were ever open, in a file that another process left. The writer only.
    pub(super) fn set_streams_used(&self, count: u32) {
        self.words[header::STREAMS_USED].store(u64::from(count), Ordering::Release);
    }

    /// All counters 0 again. The writer only.
    pub(super) fn reset_counters(&self) {
        self.counters().iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Adds to a counter. The writer only, so it is a load and a store.
    pub(super) fn count(&self, counter: Counter) {
        let word = &self.counters()[counter as usize];
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes one from a counter that is a level. The writer only.
    pub(super) fn uncount(&self, counter: Counter) {
        let word = &self.counters()[counter as usize];
        word.store(word.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// All counters.
    pub(super) fn stats(&self) -> RingStats {
        RingStats::read(self.counters())
    }

    fn counters(&self) -> &[AtomicU64] {
        &self.words[header::COUNTERS..header::COUNTERS + COUNTERS]
    }
}
