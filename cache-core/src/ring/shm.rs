//! The file: made, locked, filled with pages up front, and its segments' pages renewed.
//!
//! A mapping of a file that has no pages kills the process with SIGBUS when it first touches one that cannot be had.
//! So every page is allocated before the first use: too little space is an error that says how much is missing.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FileType, FlockOperation, FsWord, MemfdFlags, Mode, OFlags, SealFlags, StatFs};
use rustix::fs::{Timespec, Timestamps};
use rustix::io::Errno;

use super::config::{Backing, RingConfig};
use super::error::RingError;
use super::layout::{MAGIC, SEGMENT_BYTES};
use super::room;

/// The locked file of this process's ring. Dropped, a file with a name is removed, or kept for the next process.
#[derive(Debug)]
pub(super) struct SlabFile {
    fd: OwnedFd,
    path: Option<PathBuf>,
    keep: bool,
}

impl SlabFile {
    /// A new file of `bytes` zero bytes, all of them allocated.
    pub(super) fn create(config: &RingConfig, bytes: u64) -> Result<SlabFile, RingError> {
        match &config.backing {
            Backing::Memfd => {
                let file = SlabFile { fd: memfd().map_err(failed("create", "a memfd"))?, path: None, keep: false };
                file.allocate_all(bytes)?;
                Ok(file)
            }
            Backing::File(path) => {
                // One that could not be filled is of no use to anybody.
                let mut file = SlabFile::fill_up(named(path)?, path, false, bytes)?;
                file.set_keep(config.keep_file);
                Ok(file)
            }
        }
    }

    /// The locked file `fd` at `path` made `bytes` long, with every page there: none when it is new, and those that a
    /// process gave up and was killed before it took new ones. After an error it is gone; one with `keep` stays.
    pub(super) fn fill_up(fd: OwnedFd, path: &Path, keep: bool, bytes: u64) -> Result<SlabFile, RingError> {
        let file = SlabFile { fd, path: Some(path.to_owned()), keep };
        file.allocate_all(bytes)?;
        Ok(file)
    }

    /// Sets the file's time of change to now.
    pub(super) fn touch(&self) -> Result<(), RingError> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        rustix::fs::futimens(&self.fd, &times).map_err(failed("touch", &self.place()))
    }

    /// Whether the file stays when this is dropped.
    pub(super) fn set_keep(&mut self, keep: bool) {
        self.keep = keep;
    }

    /// Gives the pages of `bytes` bytes at `offset` up and takes fresh ones, zeroed. After an error the range may have
    /// no pages: it must not be touched again.
    pub(super) fn renew(&self, offset: u64, bytes: u64) -> Result<(), Errno> {
        debug_assert!(offset.is_multiple_of(SEGMENT_BYTES) && bytes.is_multiple_of(SEGMENT_BYTES));
        self.allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)?;
        self.allocate(FallocateFlags::empty(), offset, bytes)
    }

    /// A signal ends the call early and undoes it, so it is made again.
    fn allocate(&self, flags: FallocateFlags, offset: u64, bytes: u64) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.fd, flags, offset, bytes))
    }

    fn allocate_all(&self, bytes: u64) -> Result<(), RingError> {
        let place = self.place();
        let system = rustix::fs::fstatfs(&self.fd).map_err(failed("ask for the free space of", &place))?;
        let stat = rustix::fs::fstat(&self.fd).map_err(failed("look at", &place))?;
        let there = stat.st_blocks as u64 * 512;
        // A file without a hole, as a kill mostly leaves it: to have the kernel look at each page takes 70 ms for each GiB
        // (measured; 2 vCPU EPYC that had other work too, pages of 4 KiB).
        if stat.st_size as u64 == bytes && there >= bytes {
            return Ok(());
        }
        let available = available(&system, &place)?.saturating_add(there);
        let no_room = |available: u64| RingError::NoRoom {
            place: place.clone(),
            needed: bytes,
            available,
            missing: bytes.saturating_sub(available),
        };
        if available < bytes {
            return Err(no_room(available));
        }
        rustix::fs::ftruncate(&self.fd, bytes).map_err(failed("size", &place))?;
        match self.allocate(FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // Someone else took the space meanwhile, or a limit we could not see stands in the way.
            Err(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
                let rest =
                    rustix::fs::fstatfs(&self.fd).ok().and_then(|fs| self::available(&fs, &place).ok()).unwrap_or(0);
                return Err(no_room(rest.min(bytes - 1)));
            }
            Err(errno) => return Err(failed("allocate", &place)(errno)),
        }
        if self.path.is_none() {
            rustix::fs::fcntl_add_seals(&self.fd, SealFlags::SHRINK | SealFlags::GROW)
                .map_err(failed("seal", &place))?;
        }
        Ok(())
    }

    /// The file's name for a message.
    pub(super) fn place(&self) -> String {
        self.path.as_ref().map_or_else(|| "memory (memfd)".to_owned(), |path| path.display().to_string())
    }
}

impl AsFd for SlabFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SlabFile {
    fn drop(&mut self) {
        if let (Some(path), false) = (&self.path, self.keep) {
            // While the lock is held the name is this file's, unless the owner removed it and somebody made another. Nothing
            // can be done when it cannot be removed.
            if rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink > 0) {
                let _ = rustix::fs::unlink(path);
            }
        }
    }
}

/// What `statfs` calls the file systems that keep files in memory and can punch holes into them (linux/magic.h).
const HUGETLBFS_MAGIC: FsWord = 0x9584_58f6;
const TMPFS_MAGIC: FsWord = 0x0102_1994;

fn keeps_in_memory(system: &StatFs) -> bool {
    [TMPFS_MAGIC, HUGETLBFS_MAGIC].contains(&system.f_type)
}

/// Whether the file at `path` is on a file system that keeps it in memory.
pub(super) fn is_in_memory(file: &OwnedFd, path: &Path) -> Result<bool, RingError> {
    let system = rustix::fs::fstatfs(file).map_err(failed("look at", &path.display().to_string()))?;
    Ok(keeps_in_memory(&system))
}

fn memfd() -> Result<OwnedFd, Errno> {
    rustix::fs::memfd_create("weircast-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
}

/// A new, locked file at `path`. An old ring there whose process has died is replaced: an observer that still maps it
/// keeps the old one. What is no ring is left alone.
fn named(path: &Path) -> Result<OwnedFd, RingError> {
    if let Some(old) = open_locked(path)? {
        check_is_replaceable(&old, path)?;
        rustix::fs::unlink(path).map_err(failed("replace", &path.display().to_string()))?;
    }
    make(path)
}

/// The regular file of ours at `path`, locked; `None` when there is none.
pub(super) fn open_locked(path: &Path) -> Result<Option<OwnedFd>, RingError> {
    let place = path.display().to_string();
    loop {
        let old = match open(path, OFlags::NONBLOCK) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(failed("open", &place))?,
        };
        let stat = rustix::fs::fstat(&old).map_err(failed("look at", &place))?;
        let foreign = |why| Err(RingError::Foreign { path: path.to_owned(), why });
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return foreign("it is no regular file");
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return foreign("it is another user's");
        }
        lock(&old, path)?;
        // Whoever had the lock may have removed the file before letting go of it.
        if rustix::fs::fstat(&old).map_err(failed("look at", &place))?.st_nlink > 0 {
            return Ok(Some(old));
        }
    }
}

/// A new, locked file at `path`, where there is none.
pub(super) fn make(path: &Path) -> Result<OwnedFd, RingError> {
    let new = match open(path, OFlags::CREATE | OFlags::EXCL) {
        Err(Errno::EXIST) => return Err(RingError::InUse { path: path.to_owned() }),
        made => made.map_err(failed("create", &path.display().to_string()))?,
    };
    lock(&new, path)?;
    // From the first moment the file says whose it is, lest a process killed before it is complete leave one behind that
    // the next takes for a stranger's. A hugetlbfs takes no writes; there the word comes with the tables.
    let _ = rustix::io::pwrite(&new, &MAGIC.to_ne_bytes(), 0);
    Ok(new)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | flags, Mode::from_raw_mode(0o640))
}

fn lock(fd: &OwnedFd, path: &Path) -> Result<(), RingError> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(RingError::InUse { path: path.to_owned() }),
        other => other.map_err(failed("lock", &path.display().to_string())),
    }
}

/// Only what a ring left behind is replaced, or an empty file.
fn check_is_replaceable(fd: &OwnedFd, path: &Path) -> Result<(), RingError> {
    let mut magic = [0; 8];
    let got = rustix::io::pread(fd, &mut magic, 0).map_err(failed("read", &path.display().to_string()))?;
    if got == 0 || u64::from_ne_bytes(magic) == MAGIC {
        return Ok(());
    }
    Err(RingError::Foreign { path: path.to_owned(), why: "it holds something else" })
}

/// Bytes that can be had: of the file system where it has a size, and of memory, out of which huge pages have been set
/// aside beforehand.
fn available(system: &StatFs, place: &str) -> Result<u64, RingError> {
    if !keeps_in_memory(system) {
        return Err(RingError::NotInMemory { place: place.to_owned() });
    }
    let of_file_system =
        if system.f_blocks == 0 { u64::MAX } else { system.f_bavail.saturating_mul(system.f_bsize as u64) };
    let of_memory =
        if system.f_type == HUGETLBFS_MAGIC { u64::MAX } else { room::memory_available().unwrap_or(u64::MAX) };
    Ok(of_file_system.min(of_memory))
}

/// Bytes that a ring's file could have in `directory`, without making one.
///
/// # Errors
/// [`RingError::NotInMemory`] on a disk, [`RingError::Io`] when there is no such directory.
pub fn available_in(directory: &Path) -> Result<u64, RingError> {
    let place = directory.display().to_string();
    let system = rustix::fs::statfs(directory).map_err(failed("ask for the free space of", &place))?;
    available(&system, &place)
}

/// Whether `directory` is on a hugetlbfs. Rings there cannot be sent by sendfile or splice: the kernel reads such files in
/// no way that hands pages on. False where it cannot be looked at.
pub fn is_hugetlbfs(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|system| system.f_type == HUGETLBFS_MAGIC)
}

/// Opens the file of someone else's ring to look at it. Opening a pipe would wait for its other end.
pub(super) fn open_read_only(path: &Path) -> Result<File, RingError> {
    let open = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    Ok(File::from(open.map_err(failed("open", &path.display().to_string()))?))
}

/// Dresses a system call's error.
pub(super) fn failed(what: &'static str, place: &str) -> impl Fn(Errno) -> RingError {
    let place = place.to_owned();
    move |errno| RingError::Io { what, place: place.clone(), errno }
}

/// The number in an error of the standard library's.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
