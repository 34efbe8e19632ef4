//! The reading end of the ring, one for each shard.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::Core;
use super::chunk::ChunkRef;
use super::config::Recycle;
use super::layout::SEGMENT_BYTES;
use super::lease::Row;
use super::view::View;

/// One shard's reader: all questions of [`View`], and leases. `Send`, not `Sync`: it writes its row of lease counters
/// without a locked instruction, because nobody else does.
///
/// ```compile_fail,E0277
/// fn shared_by_threads<T: Sync>() {}
/// shared_by_threads::<cache_core::ring::Reader>();
/// ```
#[derive(Debug)]
pub struct Reader {
    core: Arc<Core>,
    view: View,
    index: u32,
    one_thread: PhantomData<Cell<()>>,
}

/// A promise of the ring that a chunk's segment keeps its bytes and pages until the lease is handed back with
/// [`Reader::release`]. One that is dropped instead holds its segment for as long as the ring lives.
#[derive(Debug)]
#[must_use = "a lease that is not released holds its segment for ever"]
pub struct Lease {
    ring: u64,
    reader: u32,
    segment: u32,
    file_offset: u64,
    len: u32,
}

impl Reader {
    pub(super) fn new(core: Arc<Core>, index: u32) -> Reader {
        Reader { view: View::new(core.control.clone()), core, index, one_thread: PhantomData }
    }

    /// The chunk, good to be leased: as it is, or, if it is [suspect](ChunkRef::suspect), when `is_whole` says so of its
    /// bytes (prefix and payload). `None` when it is gone or broken; a broken one is found by nobody any more. Cost for
    /// a chunk that is not suspect: none; else `is_whole`, once in the life of the process (or once for each reader, when
    /// several come at the same moment).
    pub fn vouch(&self, chunk: ChunkRef, is_whole: impl FnOnce(&[u8]) -> bool) -> Option<ChunkRef> {
        if !chunk.suspect {
            return Some(chunk);
        }
        let trusted = ChunkRef { suspect: false, ..chunk };
        let lease = self.lease(&trusted)?;
        let whole = is_whole(self.bytes(&lease));
        self.release(lease);
        let control = &self.core.control;
        control.verdicts.set(control.layout.row(chunk.slot.index, chunk.seq.get()), whole);
        whole.then_some(trusted)
    }

    /// Leases a chunk's bytes; `None` when they are gone, or suspect ([`Reader::vouch`] comes first). Leases of one chunk,
    /// or of many in one segment, add up. Cost: one full fence.
    pub fn lease(&self, chunk: &ChunkRef) -> Option<Lease> {
        if chunk.suspect {
            return None;
        }
        let layout = &self.core.control.layout;
        if chunk.segment >= layout.segments {
            return None;
        }
        let start = chunk.file_offset.checked_sub(layout.segment_offset(chunk.segment))?;
        let end = start.checked_add(u64::from(chunk.len)).filter(|end| *end <= SEGMENT_BYTES)? as u32;
        let taken = self.row().take(&self.core.control, chunk.segment, chunk.generation, end);
        let unprotected = self.core.recycle == Recycle::InPlaceUnprotected;
        let leased = taken || unprotected && self.row().take_anyway(chunk.segment);
        leased.then_some(Lease {
            ring: self.core.id,
            reader: self.index,
            segment: chunk.segment,
            file_offset: chunk.file_offset,
            len: chunk.len,
        })
    }

    /// Ends a lease: the kernel and this thread are done with the bytes.
    ///
    /// # Panics
    /// When the lease is another reader's.
    pub fn release(&self, lease: Lease) {
        self.check(&lease);
        self.row().give_back(lease.segment);
    }

    /// The leased bytes: prefix and payload, as they go on the wire.
    ///
    /// # Panics
    /// When the lease is another reader's.
    pub fn bytes<'a>(&'a self, lease: &'a Lease) -> &'a [u8] {
        self.check(lease);
        // SAFETY: `lease` ascertained that the range is published and that the writer leaves the segment alone until the
        // lease is released, which consumes it and so ends this borrow. Published bytes are not written to.
        unsafe { self.core.slabs.bytes(lease.file_offset, lease.len as usize) }
    }

    fn check(&self, lease: &Lease) {
        assert!(lease.ring == self.core.id && lease.reader == self.index, "a lease goes back to its own reader");
    }

    fn row(&self) -> &Row {
        self.core.leases.row(self.index).expect("Ring::reader made no reader without a row")
    }
}

impl Deref for Reader {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}
