//! What this process knows of the chunks that it inherited: nothing yet, that one is whole, or that one is not.
//!
//! One byte for each descriptor, in the process's own memory: the next process begins anew. Only a descriptor that says
//! `inherited` is looked up here, and such a one is never written again but by a later chunk, which says nothing of the
//! kind. So a verdict is final, all readers may give it, and plain stores suffice.

use super::sync::{AtomicU32, Ordering};

const WHOLE: u32 = 1;
const BROKEN: u32 = 2;

/// The table; empty for a ring that was made anew, and for an observer.
#[derive(Debug)]
pub(super) struct Verdicts(Box<[AtomicU32]>);

/// What is known of an inherited chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Unknown,
    Whole,
    Broken,
}

impl Verdicts {
    pub(super) fn none() -> Verdicts {
        Verdicts(Box::default())
    }

    /// For `rows` descriptors, of which nothing is known.
    pub(super) fn unknown(rows: usize) -> Verdicts {
        Verdicts((0..rows).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether this is a ring that was made anew.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, row: usize) -> Verdict {
        match self.0.get(row).map(|word| word.load(Ordering::Relaxed)) {
            Some(WHOLE) => Verdict::Whole,
            Some(BROKEN) => Verdict::Broken,
            _ => Verdict::Unknown,
        }
    }

    pub(super) fn set(&self, row: usize, whole: bool) {
        if let Some(word) = self.0.get(row) {
            word.store(if whole { WHOLE } else { BROKEN }, Ordering::Relaxed);
        }
    }

    /// How many chunks were found whole, and how many broken.
    pub(super) fn count(&self) -> (u64, u64) {
        let of = |what| self.0.iter().filter(|word| word.load(Ordering::Relaxed) == what).count() as u64;
        (of(WHOLE), of(BROKEN))
    }
}
