//! The ring as a viewer's machine sees it.

use std::cell::Cell;

use cache_core::proto::cache::viewer::{Held, Holdings};
use cache_core::ring::{ChunkRef, Lookup, Reader, StreamSlot};
use cache_core::sign::payload_hash;
use cache_core::units::ChunkSeq;
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{CHUNK_PREFIX_BYTES, ChunkHeader, FRAME_HEAD_BYTES};

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

/// [`Reader::lookup`] for whoever sends what is found: a chunk that a former process left is checked, once, and one that is
/// damaged is gone.
pub(super) fn vouched_lookup(reader: &Reader, slot: StreamSlot, seq: ChunkSeq) -> Lookup {
    match reader.lookup(slot, seq) {
        Lookup::Ready(chunk) => vouched(reader, chunk).map_or(Lookup::Gone, Lookup::Ready),
        other => other,
    }
}

/// The chunk, checked if a former process left it and nobody has done so. `None` when it is damaged or gone.
fn vouched(reader: &Reader, chunk: ChunkRef) -> Option<ChunkRef> {
    if !chunk.suspect {
        return Some(chunk);
    }
    let vouched = reader.vouch(chunk, is_whole);
    if vouched.is_none() && reader.valid(&chunk) {
        tracing::warn!(seq = %chunk.seq, "a chunk that a former process left is damaged: it is not served");
    }
    vouched
}

/// Whether `bytes`, a slot of the ring, are a chunk whose payload is the one that its header speaks of. Cost: BLAKE3 of the
/// payload.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    let Some((prefix, payload)) = bytes.split_at_checked(CHUNK_PREFIX_BYTES) else { return false };
    let header = ChunkHeader::decode(&prefix[FRAME_HEAD_BYTES..]);
    header.is_ok_and(|header| chunk_prefix(&header) == prefix && payload_hash(payload) == header.hash)
}

impl Holdings for Shelf<'_> {
    fn head(&self) -> Option<ChunkSeq> {
        self.reader.head(self.slot)
    }
    fn oldest(&self) -> Option<ChunkSeq> {
        self.reader.oldest(self.slot)
    }
    fn held(&self, seq: ChunkSeq) -> Held {
        match vouched_lookup(self.reader, self.slot, seq) {
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
