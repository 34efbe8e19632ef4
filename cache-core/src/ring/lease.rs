//! Leases: why no byte changes while someone reads it.
//!
//! Each reader has a row of counters, one for each segment, on cache lines of its own: it alone writes them, with plain
//! loads and stores. The writer sums a column when it wants a segment back.
//!
//! ```text
//!   reader (lease)                          writer (reuse)
//!   count[me][segment] += 1                 generation[segment] += 1
//!   ---- fence SeqCst ----                  ---- fence SeqCst ----
//!   generation[segment] == the chunk's ?    count[*][segment] all 0 ?
//!     yes: leased                             yes: reuse
//!     no:  count -= 1, gone                   no:  quarantine
//! ```
//! Of two sequentially consistent fences one is first. If the reader's is, the writer sees its count and leaves the
//! segment alone; if the writer's is, the reader sees the new generation and takes its count back. It cannot be that
//! neither sees the other, which is all that is needed; both may see the other, which costs a little time only.
//! A release is a store with release order, which the writer's sum acquires: all that was read under the lease was read
//! before the segment is filled again.

use crossbeam::utils::CachePadded;

use super::control::Control;
use super::sync::{AtomicU32, Ordering, fence, load_acquire};

/// What one fetch of the processor brings: rows never share one.
type Line = CachePadded<[AtomicU32; LINE]>;

/// Fills two cache lines of 64 bytes, which processors fetch in pairs.
const LINE: usize = 32;

/// The counters of all readers. They live and die with the process: the file does not hold them.
#[derive(Debug)]
pub(super) struct Leases {
    rows: Vec<Row>,
}

/// One reader's counters.
#[derive(Debug)]
pub(super) struct Row(Box<[Line]>);

impl Leases {
    pub(super) fn new(readers: u32, segments: u32) -> Leases {
        let line = || CachePadded::new(std::array::from_fn(|_| AtomicU32::new(0)));
        let row = || Row((0..segments as usize).step_by(LINE).map(|_| line()).collect());
        Leases { rows: (0..readers).map(|_| row()).collect() }
    }

    /// The row of reader `index`, if there is such a reader.
    pub(super) fn row(&self, index: u32) -> Option<&Row> {
        self.rows.get(index as usize)
    }

    /// Whether anyone holds a lease of `segment`, or is about to find out that it is too late for one. When
    /// [`give_up`] has been called before and this says no, nobody ever will until the segment is published anew.
    pub(super) fn any(&self, segment: u32) -> bool {
        self.rows.iter().any(|row| row.count(segment).load(Ordering::Acquire) != 0)
    }
}

impl Row {
    fn count(&self, segment: u32) -> &AtomicU32 {
        &self.0[segment as usize / LINE][segment as usize % LINE]
    }

    /// Leases `segment` if its generation is still `generation` and its first `end` bytes are published. This row's
    /// reader only.
    pub(super) fn take(&self, control: &Control, segment: u32, generation: u64, end: u32) -> bool {
        let count = self.count(segment);
        let Some(more) = count.load(Ordering::Relaxed).checked_add(1) else { return false };
        count.store(more, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let leased = load_acquire(control.generation(segment)) == generation
            && load_acquire(control.filled(segment)) >= u64::from(end);
        if !leased {
            self.give_back(segment);
        }
        leased
    }

    /// Leases `segment` whatever it holds: the negative control ([`super::Recycle::InPlaceUnprotected`]). True.
    pub(super) fn take_anyway(&self, segment: u32) -> bool {
        let count = self.count(segment);
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        true
    }

    /// Ends one lease of `segment`. This row's reader only.
    pub(super) fn give_back(&self, segment: u32) {
        let count = self.count(segment);
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Release);
    }
}

/// Ends the life of all chunks in `segment`: no lease of them begins any more. The writer only, before it asks
/// [`Leases::any`].
pub(super) fn give_up(control: &Control, segment: u32) {
    let generation = control.generation(segment);
    // First, so that who sees the new generation sees that nothing of it is published.
    control.filled(segment).store(0, Ordering::Relaxed);
    generation.store(generation.load(Ordering::Relaxed) + 1, Ordering::Release);
    fence(Ordering::SeqCst);
}
