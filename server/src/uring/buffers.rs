//! Receive buffers: a pool that the kernel takes from when bytes arrive, so that an idle connection holds none.
//!
//! ```text
//!  entries   | addr len id | addr len id | ...        what the kernel may take, a ring of `count`; the tail is ours
//!               |             |
//!  memory    [ 2 KiB ][ 2 KiB ] ...                   one allocation
//! ```
//! A buffer is with the kernel from [`Buffers::give`] until a completion names it; then it is ours until it is given
//! back. An empty pool ends a multishot receive with ENOBUFS, which is counted and armed again by the owner.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Bytes of one buffer: a request of 32 runs is 337 bytes, an HTTP head of a browser under 1 KiB (our guess).
pub(super) const BUFFER_BYTES: usize = 2048;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// The kernel wants the entries page-aligned.
const PAGE: usize = 4096;

/// The pool. It must be retired ([`Buffers::retire`]) before it is dropped while its ring lives.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// A pool of `count` buffers (a power of two, at most 32 768), all with the kernel of `submitter`'s ring.
    pub(super) fn new(submitter: &Submitter<'_>, count: u16) -> io::Result<Buffers> {
        assert!(count.is_power_of_two(), "the kernel masks with count - 1");
        // SAFETY: neither layout has size zero (count >= 1).
        let (entries, memory) =
            unsafe { (alloc_zeroed(Self::entries_layout(count)), alloc_zeroed(Self::memory_layout(count))) };
        let Some(entries) = NonNull::new(entries.cast::<BufRingEntry>()) else {
            handle_alloc_error(Self::entries_layout(count))
        };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(Self::memory_layout(count)) };
        let mut buffers = Buffers { entries, memory, count, tail: 0 };
        // SAFETY: `entries` is page-aligned, has room for `count` entries and lives until `retire` has taken the
        // group from the ring, or until the ring is gone (`Uring` drops the ring first).
        unsafe { submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, count, GROUP, 0)? };
        for id in 0..count {
            buffers.give(id);
        }
        Ok(buffers)
    }

    /// The first `len` bytes of buffer `id`, which a completion has named and which was not given back since.
    pub(super) fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count && len <= BUFFER_BYTES, "the kernel names a buffer of the group and its length");
        // SAFETY: in bounds by the assertion; initialised (zeroed at first); the kernel wrote it before it posted the
        // completion and does not touch it until `give`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES), len) }
    }

    /// Lends buffer `id` to the kernel (again).
    pub(super) fn give(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names a buffer of the group");
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: both are in bounds (`id < count`, `at < count`). The entry is outside head..tail, where the kernel
        // does not look; its fields are written one by one because entry 0's reserved field is the tail.
        unsafe {
            let buffer = self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES);
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(buffer as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is the reserved field of entry 0, two bytes, aligned, shared with the kernel: written
        // atomically and released after the entry.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Takes the pool from the ring: no receive that starts after this can write into it.
    pub(super) fn retire(&mut self, submitter: &Submitter<'_>) {
        // It fails only when the group is not registered, that is when there is nothing to take away.
        let _ = submitter.unregister_buf_ring(GROUP);
    }

    fn entries_layout(count: u16) -> Layout {
        Layout::array::<BufRingEntry>(usize::from(count))
            .and_then(|layout| layout.align_to(PAGE))
            .expect("at most 32 768 entries of 16 bytes")
    }

    fn memory_layout(count: u16) -> Layout {
        Layout::from_size_align(usize::from(count) * BUFFER_BYTES, PAGE).expect("at most 64 MiB")
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with these layouts. The kernel no longer writes: the group was retired, and a
        // receive runs only inside `Uring::enter` on the thread that is here.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), Self::entries_layout(self.count));
            dealloc(self.memory.as_ptr(), Self::memory_layout(self.count));
        }
    }
}
