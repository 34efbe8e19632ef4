//! The one place that names the atomics: the processor's, or loom's model of them under `--cfg loom`.
//!
//! Everything in this folder that two threads touch goes through these names, so that `tests/ring_loom.rs` runs the
//! real writer and the real readers through what the memory model allows, and not only what this processor does.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// An acquire load that is allowed on memory mapped read-only too: `std::sync::atomic` promises that of relaxed loads
/// only, so the order comes from a fence behind one. On x86-64 it is the same one instruction.
pub(super) fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}
