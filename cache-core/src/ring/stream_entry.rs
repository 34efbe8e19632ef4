//! A stream's entry in the control area: which stream it is and how far it has come.
//!
//! The generation is odd while the stream is open and goes up by one when it opens and when it closes, so a
//! [`StreamSlot`] that was handed out once never fits a later stream. It guards the entry's other words and the
//! stream's descriptors as a descriptor's version guards that: read it, read them, ask again.

use super::layout::STREAM_WORDS;
use super::sync::{AtomicU64, Ordering, fence, load_acquire};
use crate::units::{ChunkSeq, StreamId};

const GENERATION: usize = 0;
const ID: usize = 1;
const HEAD: usize = 2;
/// How many of its newest chunks it keeps; 0: as many as it has descriptors for.
const RETAIN: usize = 7;
const _: () = assert!(RETAIN < STREAM_WORDS);
/// How many notes were written; the newest is in the cell of that number (`note.rs`). 0: none.
const NOTES: usize = 3;
const _: () = assert!(NOTES < STREAM_WORDS);

/// Above any generation that opening and closing can reach: a greater one stands in a damaged file.
const GENERATION_MAX: u64 = 1 << 48;

/// `HEAD` of a stream that has no chunk. No chunk has this number.
pub(super) const NO_HEAD: u64 = u64::MAX;

/// One entry of the stream table.
#[derive(Clone, Copy)]
pub(super) struct StreamEntry<'a>(pub(super) &'a [AtomicU64]);

impl StreamEntry<'_> {
    /// Opens a closed entry for stream `id`, without a chunk; its generation. The writer only.
    pub(super) fn open(self, id: StreamId) -> u64 {
        let generation = self.0[GENERATION].load(Ordering::Relaxed) + 1;
        self.0[ID].store(id.0, Ordering::Relaxed);
        self.0[HEAD].store(NO_HEAD, Ordering::Relaxed);
        self.0[RETAIN].store(0, Ordering::Relaxed);
        self.0[NOTES].store(0, Ordering::Relaxed);
        self.0[GENERATION].store(generation, Ordering::Release);
        generation
    }

    /// Closes an open entry. What is written to it or to its descriptors afterwards is seen only by those who see that
    /// it is closed. The writer only.
    pub(super) fn close(self) {
        let generation = self.0[GENERATION].load(Ordering::Relaxed);
        self.0[GENERATION].store(generation + 1, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// Makes `seq` the newest chunk: with this one store readers can see it. The writer only.
    pub(super) fn advance(self, seq: ChunkSeq) {
        self.0[HEAD].store(seq.get(), Ordering::Release);
    }

    /// Keeps the newest `chunks` only. The writer only.
    pub(super) fn set_retain(self, chunks: u64) {
        self.0[RETAIN].store(chunks, Ordering::Relaxed);
    }

    /// How many of its newest chunks it keeps, of the `most` that it has descriptors for.
    pub(super) fn retain(self, most: u64) -> u64 {
        match self.0[RETAIN].load(Ordering::Relaxed) {
            0 => most,
            chunks => chunks.min(most),
        }
    }

    /// The generation and id; `None` when closed.
    pub(super) fn identity(self) -> Option<(u64, StreamId)> {
        let generation = load_acquire(&self.0[GENERATION]);
        let id = StreamId(self.0[ID].load(Ordering::Relaxed));
        (generation % 2 == 1 && self.is_still(generation)).then_some((generation, id))
    }

    /// Closes the entry whatever it says, in a file that another process left. The writer only.
    pub(super) fn shut(self) {
        let generation = self.0[GENERATION].load(Ordering::Relaxed);
        if generation > GENERATION_MAX {
            self.0[GENERATION].store(0, Ordering::Release);
        } else if generation % 2 == 1 {
            self.close();
        }
    }

    /// Whether the generation is one that an entry can have come to.
    pub(super) fn is_sane(self) -> bool {
        self.0[GENERATION].load(Ordering::Relaxed) <= GENERATION_MAX
    }

    /// How many notes were written.
    pub(super) fn notes(self) -> u64 {
        self.0[NOTES].load(Ordering::Relaxed)
    }

    /// Makes note `count` the newest: with this one store. The writer only.
    pub(super) fn note_written(self, count: u64) {
        self.0[NOTES].store(count, Ordering::Release);
    }

    /// The newest chunk; `None` without one. It is the right stream's if [`StreamEntry::is_still`] says so afterwards.
    pub(super) fn head(self) -> Option<ChunkSeq> {
        let head = load_acquire(&self.0[HEAD]);
        (head != NO_HEAD).then_some(ChunkSeq::new(head))
    }

    /// Whether all that was read of this stream before was of `generation`.
    pub(super) fn is_still(self, generation: u64) -> bool {
        fence(Ordering::Acquire);
        self.0[GENERATION].load(Ordering::Relaxed) == generation
    }
}
