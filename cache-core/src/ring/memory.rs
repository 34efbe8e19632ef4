//! Mapped memory: every unsafe access of the ring stands in this file.
//!
//! The file is mapped twice. [`Words`] is its control area: shared, and only ever touched as atomic words, which is
//! what makes concurrent access by threads and processes sound. [`Slabs`] is the payload: plain bytes, which one
//! writer fills before they are published and which nobody changes afterwards while they are leased; whoever asks for
//! them says which of the two it is.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::io::Errno;

use super::config::RingConfig;
use super::error::RingError;
use super::layout::{Layout, SEGMENT_BYTES};
use super::shm::{self, SlabFile, errno};
use super::sync::AtomicU64;

/// The control area, as atomic words. May be mapped read-only: then nothing may be stored, and loads are relaxed
/// ([`super::sync::load_acquire`]).
#[derive(Debug)]
pub(super) struct Words {
    map: MmapRaw,
    count: usize,
}

impl Words {
    fn map(file: &SlabFile, layout: &Layout) -> std::io::Result<Words> {
        let map = MmapOptions::new().len(layout.payload_offset as usize).map_raw(&file.as_fd())?;
        populate(&map, 0, map.len())?;
        Ok(Words { map, count: layout.control_words })
    }

    /// The control area of `file`, read-only. The caller has checked that the file is as long as `layout` says; a ring's
    /// file is never made shorter. Mapped up to the payload: a hugetlbfs maps whole pages of 2 MiB only.
    pub(super) fn map_read_only(file: BorrowedFd<'_>, layout: &Layout) -> std::io::Result<Words> {
        let map = MmapOptions::new().len(layout.payload_offset as usize).map_raw_read_only(&file)?;
        Ok(Words { map, count: layout.control_words })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is at least `count` words long (both constructors), page aligned, lives as long as `self`,
        // and holds integers, for which any bits will do. In this process it is reached through these atomics only;
        // other processes that map it (observers) only read.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), self.count) }
    }
}

/// The payload: `segments` segments of 2 MiB.
#[derive(Debug)]
pub(super) struct Slabs {
    file: SlabFile,
    map: MmapRaw,
    payload_offset: u64,
}

/// Makes the file of a new ring, all zero, with every page there, and maps it.
pub(super) fn create(config: &RingConfig, layout: &Layout) -> Result<(Words, Slabs), RingError> {
    let (words, slabs) = map(SlabFile::create(config, layout.file_bytes())?, layout)?;
    populate(&slabs.map, 0, slabs.map.len()).map_err(|e| shm::failed("map", &slabs.file.place())(errno(&e)))?;
    Ok((words, slabs))
}

/// Maps a file that is as long as `layout` says and has all of its pages. Those of the payload are entered into the page
/// table when they are touched: for a file full of chunks that are sent by sendfile most never are.
pub(super) fn map(file: SlabFile, layout: &Layout) -> Result<(Words, Slabs), RingError> {
    let failed = |e: std::io::Error| shm::failed("map", &file.place())(errno(&e));
    let words = Words::map(&file, layout).map_err(failed)?;
    let map = MmapOptions::new()
        .offset(layout.payload_offset)
        .len(layout.payload_bytes() as usize)
        .map_raw(&file.as_fd())
        .map_err(failed)?;
    // A core dump is for finding bugs, not for gigabytes of video. Without it the dump is merely large.
    let _ = map.advise(Advice::DontDump);
    Ok((words, Slabs { file, map, payload_offset: layout.payload_offset }))
}

impl Slabs {
    /// `len` bytes at `file_offset`.
    ///
    /// # Safety
    /// Until the slice is dropped nothing writes to the range or renews its segment: the caller holds a lease of the
    /// segment, and the range is published.
    pub(super) unsafe fn bytes(&self, file_offset: u64, len: usize) -> &[u8] {
        let at = self.check(file_offset, len);
        // SAFETY: `check` has shown that the range is inside the mapping; the caller promises that it does not change.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at), len) }
    }

    /// `len` bytes at `file_offset`, to be filled.
    ///
    /// # Safety
    /// Until the slice is dropped nothing else reads or writes the range in this process or renews its segment: it is
    /// a live reservation's, which only the one writer hands out.
    #[allow(clippy::mut_from_ref, reason = "the bytes are shared memory; who may write is the caller's promise")]
    pub(super) unsafe fn bytes_mut(&self, file_offset: u64, len: usize) -> &mut [u8] {
        let at = self.check(file_offset, len);
        // SAFETY: `check` has shown that the range is inside the mapping; the caller promises that it is its own.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(at), len) }
    }

    /// Fresh pages for the segment at `file_offset`. After an error it must not be touched again.
    pub(super) fn renew(&self, file_offset: u64) -> Result<(), Errno> {
        let at = self.check(file_offset, SEGMENT_BYTES as usize);
        self.file.renew(file_offset, SEGMENT_BYTES)?;
        populate(&self.map, at, SEGMENT_BYTES as usize).map_err(|e| errno(&e))
    }

    /// Enters all pages into the page table.
    pub(super) fn enter_pages(&self) {
        // Where there is no such advice (before Linux 5.14) they are entered when they are touched.
        let _ = self.map.advise(Advice::PopulateRead);
    }

    /// Sets the file's time of change to now.
    pub(super) fn touch(&self) -> Result<(), RingError> {
        self.file.touch()
    }

    /// The whole mapping.
    pub(super) fn payload(&self) -> *const [u8] {
        std::ptr::slice_from_raw_parts(self.map.as_ptr(), self.map.len())
    }

    /// The file, for sendfile.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where the range begins in the mapping. A range outside it is a bug of the ring.
    fn check(&self, file_offset: u64, len: usize) -> usize {
        let at = file_offset.checked_sub(self.payload_offset).expect("chunks lie behind the control area") as usize;
        assert!(len <= self.map.len() && at <= self.map.len() - len, "chunks lie inside the file");
        at
    }
}

/// Enters the pages into the page table, so that first touches do not fault one by one.
fn populate(map: &MmapRaw, offset: usize, len: usize) -> std::io::Result<()> {
    match map.advise_range(Advice::PopulateWrite, offset, len) {
        // Before Linux 5.14 there is no such advice; the pages are allocated all the same, and touches merely fault.
        Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        other => other,
    }
}
