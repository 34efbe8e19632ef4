//! Stands in for `memory.rs` under loom: the control area is loom's atomics, the payload is heap, and every access to
//! payload is told to loom, which fails when it is not ordered after the accesses that it conflicts with.
//!
//! Of the bytes of half a segment only the first one exists, and stands for the others: the tests' chunks are 1 MiB
//! (two in a segment) or longer (one), and consist of one byte over and over.

use std::ops::Deref;
use std::os::fd::BorrowedFd;

use loom::cell::UnsafeCell;
use rustix::io::Errno;

use super::config::RingConfig;
use super::error::RingError;
use super::layout::{Layout, SEGMENT_BYTES};
use super::shm::SlabFile;
use super::sync::AtomicU64;

/// What one byte stands for.
const HALF: u64 = SEGMENT_BYTES / 2;

#[derive(Debug)]
pub(super) struct Words(Vec<AtomicU64>);

impl Words {
    pub(super) fn map_read_only(_: BorrowedFd<'_>, _: &Layout) -> std::io::Result<Words> {
        Err(Errno::NOSYS.into())
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

#[derive(Debug)]
pub(super) struct Slabs {
    halves: Vec<UnsafeCell<u8>>,
    payload_offset: u64,
}

// SAFETY: the cells are shared as the mapped bytes are, by the callers' promises; that these are kept is what loom checks.
unsafe impl Sync for Slabs {}

pub(super) fn create(_: &RingConfig, layout: &Layout) -> Result<(Words, Slabs), RingError> {
    let words = (0..layout.control_words).map(|_| AtomicU64::new(0)).collect();
    let halves = (0..layout.segments * 2).map(|_| UnsafeCell::new(0)).collect();
    Ok((Words(words), Slabs { halves, payload_offset: layout.payload_offset }))
}

/// Nothing is taken over under loom.
pub(super) fn map(_: SlabFile, _: &Layout) -> Result<(Words, Slabs), RingError> {
    panic!("there is no file under loom")
}

impl Slabs {
    /// # Safety
    /// As in `memory.rs`.
    pub(super) unsafe fn bytes(&self, file_offset: u64, _: usize) -> &[u8] {
        self.half(file_offset).with(|byte| {
            // SAFETY: the caller promises that nothing writes to the byte; loom has just checked that nothing did.
            unsafe { std::slice::from_ref(&*byte) }
        })
    }

    /// # Safety
    /// As in `memory.rs`.
    #[allow(clippy::mut_from_ref, reason = "as in memory.rs")]
    pub(super) unsafe fn bytes_mut(&self, file_offset: u64, _: usize) -> &mut [u8] {
        self.half(file_offset).with_mut(|byte| {
            // SAFETY: the caller promises that the byte is its own; loom has just checked that everyone else is done.
            unsafe { std::slice::from_mut(&mut *byte) }
        })
    }

    /// Giving pages up is a write to all of them.
    pub(super) fn renew(&self, file_offset: u64) -> Result<(), Errno> {
        for half in [file_offset, file_offset + HALF] {
            self.half(half).with_mut(|_| ());
        }
        Ok(())
    }

    pub(super) fn enter_pages(&self) {}

    pub(super) fn touch(&self) -> Result<(), RingError> {
        Ok(())
    }

    pub(super) fn payload(&self) -> *const [u8] {
        panic!("there is no mapping under loom")
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        panic!("there is no file under loom")
    }

    fn half(&self, file_offset: u64) -> &UnsafeCell<u8> {
        &self.halves[((file_offset - self.payload_offset) / HALF) as usize]
    }
}
