//! Stands in for `memory.rs` under loom: the control area is loom's atomics, the payload is heap, and every access to
//! payload is told to loom, which fails when it is not ordered after the accesses that it conflicts with.
//!
//! A test's chunks are [`UNIT`] bytes, prefix included, and a segment here has room for [`UNITS`] of them.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use loom::cell::UnsafeCell;
use rustix::io::Errno;

use super::config::RingConfig;
use super::error::RingError;
use super::layout::{Layout, SEGMENT_BYTES};
use super::sync::AtomicU64;

/// Bytes that loom watches as one.
const UNIT: usize = 256;

/// Units of a segment that exist.
const UNITS: usize = 2;

#[derive(Debug)]
pub(super) struct Words(Vec<AtomicU64>);

impl Words {
    pub(super) fn map_read_only(_: BorrowedFd<'_>, _: usize) -> std::io::Result<Words> {
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
    units: Vec<UnsafeCell<[u8; UNIT]>>,
    payload_offset: u64,
}

// SAFETY: the units are shared as the mapped bytes are, by the callers' promises; that these are kept is what loom checks.
unsafe impl Sync for Slabs {}

pub(super) fn create(_: &RingConfig, layout: &Layout) -> Result<(Words, Slabs), RingError> {
    let words = (0..layout.control_words).map(|_| AtomicU64::new(0)).collect();
    let units = (0..layout.segments as usize * UNITS).map(|_| UnsafeCell::new([0; UNIT])).collect();
    Ok((Words(words), Slabs { units, payload_offset: layout.payload_offset }))
}

impl Slabs {
    /// # Safety
    /// As in `memory.rs`.
    pub(super) unsafe fn bytes(&self, file_offset: u64, len: usize) -> &[u8] {
        self.unit(file_offset, len).with(|unit| {
            // SAFETY: the caller promises that nothing writes to the unit; loom has just checked that nothing did.
            unsafe { &*unit }
        })
    }

    /// # Safety
    /// As in `memory.rs`.
    #[allow(clippy::mut_from_ref, reason = "as in memory.rs")]
    pub(super) unsafe fn bytes_mut(&self, file_offset: u64, len: usize) -> &mut [u8] {
        self.unit(file_offset, len).with_mut(|unit| {
            // SAFETY: the caller promises that the unit is its own; loom has just checked that everyone else is done.
            unsafe { &mut *unit }
        })
    }

    /// Giving pages up is a write to all of them.
    pub(super) fn renew(&self, file_offset: u64) -> Result<(), Errno> {
        for unit in 0..UNITS {
            self.unit(file_offset + (unit * UNIT) as u64, UNIT).with_mut(|_| ());
        }
        Ok(())
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }

    fn unit(&self, file_offset: u64, len: usize) -> &UnsafeCell<[u8; UNIT]> {
        assert_eq!(len, UNIT, "under loom every chunk is one unit");
        let at = file_offset - self.payload_offset;
        let within = (at % SEGMENT_BYTES) as usize / UNIT;
        assert!(within < UNITS, "under loom a segment has {UNITS} chunks");
        &self.units[(at / SEGMENT_BYTES) as usize * UNITS + within]
    }
}
