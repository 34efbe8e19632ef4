//! What can go wrong, and what a person can do about it.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::units::StreamId;

/// Why the ring did not do what it was asked. Nothing was changed, unless a variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A value of [`RingConfig`](super::RingConfig) outside its range.
    #[error("the chunk ring's {key} is {got}, allowed is {min} to {max}")]
    Config {
        /// The field's name.
        key: &'static str,
        /// What it said.
        got: u64,
        /// The least value that works with the other ones.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// Too little memory for the budget, found out before anything was used.
    #[error(
        "the chunk ring needs {needed} bytes in {place}, which has {available} free: {missing} bytes are missing; \
         free them or lower the ring's budget"
    )]
    NoRoom {
        /// The file, or "memory".
        place: String,
        /// Bytes of the whole file.
        needed: u64,
        /// Bytes that were there.
        available: u64,
        /// The difference.
        missing: u64,
    },
    /// The file would be on a disk.
    #[error("{place} is on a disk; the chunk ring belongs in memory: in /dev/shm or on another tmpfs")]
    NotInMemory {
        /// The file.
        place: String,
    },
    /// A system call failed.
    #[error("the chunk ring cannot {what} {place}: {errno}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        place: String,
        /// The system's answer.
        errno: Errno,
    },
    /// The file belongs to a ring that is alive.
    #[error("{path} is the chunk ring of a running process; stop that one or give this one a file of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a chunk ring, or a damaged one.
    #[error("{path} is not a chunk ring ({why}); give another path, or remove the file if nothing needs it")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: &'static str,
    },
    /// The file is a chunk ring of another version of this software.
    #[error("{path} is a chunk ring of layout version {found}, this program reads version {ours}; use the same build")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        ours: u64,
    },
    /// `streams_max` streams are open.
    #[error("all {max} streams of the chunk ring are open; raise streams_max or close one")]
    StreamsFull {
        /// The bound.
        max: u32,
    },
    /// The stream has a slot already.
    #[error("stream {0} is open in the chunk ring already")]
    StreamOpen(StreamId),
    /// The slot's stream has been closed.
    #[error("the stream of this slot has been closed")]
    StreamGone,
    /// A length no chunk has.
    #[error("a chunk of {len} bytes does not fit the ring: {min} to {max} are allowed")]
    Length {
        /// Bytes asked for, prefix included.
        len: usize,
        /// The prefix alone.
        min: usize,
        /// The largest chunk.
        max: usize,
    },
    /// A note over its limit.
    #[error("a note of {len} bytes does not fit the ring: {max} are allowed")]
    NoteLength {
        /// Its bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The stream's last reservation is still held: publish or abandon that one first.
    #[error("the stream has a reservation already")]
    Reserved,
    /// No segment can be given: all are leased, reserved, retired or the newest of another stream. Counted in
    /// [`RingStats::no_space`](super::RingStats::no_space). The chunk is dropped by the caller; at most one leased
    /// segment was put into quarantine, so that its leases run out.
    #[error("no segment of the chunk ring is free or can be freed; raise its budget or lower the number of streams")]
    NoSpace,
    /// There is no such reader.
    #[error("reader {index} of the chunk ring: readers_max is {max}")]
    ReaderIndex {
        /// What was asked for.
        index: u32,
        /// The bound.
        max: u32,
    },
    /// Each reader exists once.
    #[error("reader {index} of the chunk ring has been taken already")]
    ReaderTaken {
        /// What was asked for.
        index: u32,
    },
}
