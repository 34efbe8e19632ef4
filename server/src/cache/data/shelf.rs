//! The ring as a viewer's machine sees it.

use std::cell::Cell;

use cache_core::proto::cache::viewer::{Held, Holdings};
use cache_core::ring::{ChunkRef, Lookup, Reader, StreamSlot};
use cache_core::units::ChunkSeq;

/// One stream of the ring. Remembers the chunk that was last found ready: the one that a machine names next.
pub(super) struct Shelf<'a> {
    reader: &'a Reader,
    slot: StreamSlot,
    found: Cell<Option<ChunkRef>>,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(reader: &'a Reader, slot: StreamSlot) -> Shelf<'a> {
        Shelf { reader, slot, found: Cell::new(None) }
    }

    /// Chunk `seq`, if it is there or was when it was last asked about.
    pub(super) fn chunk(&self, seq: ChunkSeq) -> Option<ChunkRef> {
        if self.found.get().is_none_or(|chunk| chunk.seq != seq) {
            self.held(seq);
        }
        self.found.get().filter(|chunk| chunk.seq == seq)
    }
}

impl Holdings for Shelf<'_> {
    fn head(&self) -> Option<ChunkSeq> {
        self.reader.head(self.slot)
    }
    fn oldest(&self) -> Option<ChunkSeq> {
        self.reader.oldest(self.slot)
    }
    fn held(&self, seq: ChunkSeq) -> Held {
        match self.reader.lookup(self.slot, seq) {
            Lookup::Ready(chunk) => {
                self.found.set(Some(chunk));
                Held::Ready
            }
            Lookup::NotYet => Held::NotYet,
            Lookup::Gone => Held::Gone,
        }
    }
    fn join_point(&self, back: u64) -> Option<ChunkSeq> {
        self.reader.join_point(self.slot, back)
    }
    fn has_tables(&self, seq: ChunkSeq) -> bool {
        matches!(self.reader.lookup(self.slot, seq), Lookup::Ready(chunk) if chunk.meta.tables_len > 0)
    }
}
