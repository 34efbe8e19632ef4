//! A cache's ring, as far as its machines see it: which chunks there are.

use std::collections::VecDeque;

use cache_core::proto::cache::viewer::{Held, Holdings};
use cache_core::units::ChunkSeq;

/// Chunks that are kept: the server's default, a window.
pub(super) const RETAIN: usize = 256;

/// One chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) seq: ChunkSeq,
    pub(super) chunk: u32,
    pub(super) content: u64,
    join_point: bool,
}

/// The newest chunks, in order; numbers may be missing.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Slot>);

impl Ring {
    /// Appends a chunk, which is newer than all; the oldest may go.
    pub(super) fn append(&mut self, seq: ChunkSeq, chunk: u32, content: u64, join_point: bool) {
        if self.0.len() == RETAIN {
            self.0.pop_front();
        }
        self.0.push_back(Slot { seq, chunk, content, join_point });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn get(&self, seq: ChunkSeq) -> Option<Slot> {
        let first = self.0.front()?.seq;
        // Without gaps its place follows from its number.
        let guess = seq.since(first).map(|at| at as usize)?;
        match self.0.get(guess) {
            Some(slot) if slot.seq == seq => Some(*slot),
            _ => self.0.binary_search_by_key(&seq, |slot| slot.seq).ok().and_then(|at| self.0.get(at)).copied(),
        }
    }

    pub(super) fn newest(&self) -> Option<Slot> {
        self.0.back().copied()
    }
}

impl Holdings for Ring {
    fn head(&self) -> Option<ChunkSeq> {
        self.0.back().map(|slot| slot.seq)
    }

    fn oldest(&self) -> Option<ChunkSeq> {
        self.0.front().map(|slot| slot.seq)
    }

    fn held(&self, seq: ChunkSeq) -> Held {
        match (self.head(), self.get(seq)) {
            (_, Some(_)) => Held::Ready,
            (Some(head), None) if seq <= head => Held::Gone,
            _ => Held::NotYet,
        }
    }

    fn join_point(&self, back: u64) -> Option<ChunkSeq> {
        let most = self.head()?.back(back);
        let joins = || self.0.iter().filter(|slot| slot.join_point).map(|slot| slot.seq);
        joins().rfind(|seq| *seq <= most).or_else(|| joins().next())
    }

    fn has_tables(&self, seq: ChunkSeq) -> bool {
        self.get(seq).is_some_and(|slot| slot.join_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_gaps_are_known() {
        let mut ring = Ring::default();
        (0..300).filter(|n| *n != 100).for_each(|n| ring.append(ChunkSeq::new(n), n as u32, 0, n % 10 == 0));
        let held = |seq| ring.held(ChunkSeq::new(seq));
        assert_eq!((ring.oldest(), ring.head()), (Some(ChunkSeq::new(43)), Some(ChunkSeq::new(299))));
        assert_eq!([held(42), held(43), held(100), held(101), held(299), held(300)], {
            use Held::{Gone, NotYet, Ready};
            [Gone, Ready, Gone, Ready, Ready, NotYet]
        });
        assert_eq!(ring.join_point(0), Some(ChunkSeq::new(290)));
        assert_eq!(ring.join_point(9_999), Some(ChunkSeq::new(50)), "the next above");
        assert_eq!(ring.get(ChunkSeq::new(200)).map(|slot| slot.chunk), Some(200));
    }
}
