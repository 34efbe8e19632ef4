//! An allocator that counts: how many bytes are held, and the most that were. For test binaries that use it as
//! `#[global_allocator]` and run their measurements in one thread each.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

pub struct Counting;

fn count(change: isize) {
    // A thread that is ending has no counters any more; what it frees is of no interest.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; the counters are plain cells of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// The most bytes that `work` held at once in this thread, beyond what was held before, and its result.
pub fn most_held<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    ((MOST.get() - before) as usize, result)
}

/// The bytes on the heap that `owner` held.
pub fn held_by<T>(owner: T) -> usize {
    let before = HELD.get();
    drop(owner);
    (before - HELD.get()) as usize
}
