//! The chunks that the peer's machine has said to keep: names to bytes.
//!
//! Bounded by the machine's window: it names what to keep and what to forget, and a window is
//! [`WINDOW_CHUNKS`] chunks. The store refuses more all the same.

use std::collections::BTreeMap;

use cache_core::limits::WINDOW_CHUNKS;
use cache_core::units::ChunkSeq;

use crate::net::framing::Chunk;

/// Most chunks kept: a window, and as much again for a machine that forgets late.
const CHUNKS_KEPT_MAX: usize = 2 * WINDOW_CHUNKS as usize;

/// Kept chunks.
#[derive(Debug, Default)]
pub(crate) struct Store {
    chunks: BTreeMap<ChunkSeq, Chunk>,
    bytes: usize,
    evicted: u64,
}

impl Store {
    /// Keeps `chunk`; the oldest makes room at the limit (counted).
    pub(crate) fn keep(&mut self, chunk: Chunk) {
        self.bytes += chunk.frame.len();
        if let Some(former) = self.chunks.insert(chunk.header.seq, chunk) {
            self.bytes -= former.frame.len();
        }
        while self.chunks.len() > CHUNKS_KEPT_MAX
            && let Some((_, oldest)) = self.chunks.pop_first()
        {
            self.bytes -= oldest.frame.len();
            self.evicted += 1;
        }
    }

    /// Forgets the chunks before `before`. Links that are sending one keep its bytes until it is out.
    pub(crate) fn forget(&mut self, before: ChunkSeq) {
        let kept = self.chunks.split_off(&before);
        self.chunks = kept;
        self.bytes = self.chunks.values().map(|chunk| chunk.frame.len()).sum();
    }

    /// A kept chunk.
    pub(crate) fn get(&self, seq: ChunkSeq) -> Option<&Chunk> {
        self.chunks.get(&seq)
    }

    /// Bytes kept, prefixes included.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Chunks that had to go at the limit.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::chunk;

    #[test]
    fn keeps_until_told_to_forget() {
        let mut store = Store::default();
        for seq in 10..20 {
            store.keep(chunk(seq, 100));
        }
        let one = chunk(10, 100).frame.len();
        store.forget(ChunkSeq::new(15));
        assert!(store.get(ChunkSeq::new(14)).is_none());
        assert_eq!(store.get(ChunkSeq::new(15)), Some(&chunk(15, 100)));
        assert_eq!(store.bytes(), 5 * one);
        store.keep(chunk(15, 100));
        assert_eq!(store.bytes(), 5 * one, "the same chunk again takes no more room");
    }

    #[test]
    fn a_machine_that_never_forgets_is_bounded() {
        let mut store = Store::default();
        for seq in 0..CHUNKS_KEPT_MAX as u64 + 7 {
            store.keep(chunk(seq, 1));
        }
        assert_eq!((store.chunks.len(), store.evicted()), (CHUNKS_KEPT_MAX, 7));
    }
}
