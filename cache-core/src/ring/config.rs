//! What a ring is made of: set once, when it is created.

use std::path::PathBuf;

use crate::limits::WINDOW_CHUNKS;

/// How a ring is to be made. Checked by [`Ring::create`](super::Ring::create).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Where the bytes live.
    pub backing: Backing,
    /// Size of the whole file, descriptors included, in bytes: what is left over behind the last whole segment of
    /// 2 MiB is not allocated.
    pub budget_bytes: u64,
    /// Most streams open at once, 1..=65 536. Each costs 1 216 bytes and 64 for each retained chunk, out of the
    /// budget.
    pub streams_max: u32,
    /// Number of [`Reader`](super::Reader)s, one per shard, 1..=1024.
    pub readers_max: u32,
    /// What is done to a segment before it is filled again.
    pub recycle: Recycle,
    /// Newest chunks of each stream that can be looked up, 1..=65 536. Older ones have expired: their segments are the
    /// first to be filled again.
    pub retain_chunks: u64,
    /// Whether a file with a name stays when the ring ends, for a process that takes it over.
    pub keep_file: bool,
}

impl RingConfig {
    /// A ring of `budget_bytes` in anonymous memory, for 64 streams and one reader, with the paper's window of chunks,
    /// recycled for sendfile.
    pub fn memfd(budget_bytes: u64) -> RingConfig {
        RingConfig {
            backing: Backing::Memfd,
            budget_bytes,
            streams_max: 64,
            readers_max: 1,
            recycle: Recycle::Punch,
            retain_chunks: WINDOW_CHUNKS,
            keep_file: false,
        }
    }
}

/// Where the bytes of a ring live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A memfd: no name in any file system. An observer opens `/proc/PID/fd/N`.
    Memfd,
    /// A file in memory: in `/dev/shm`, another tmpfs (mounted `huge=always` it gives huge pages) or a hugetlbfs with
    /// pages of 2 MiB (which sendfile cannot read). It is locked while the ring lives, and removed with
    /// it unless [`RingConfig::keep_file`] says otherwise. [`Ring::create`](super::Ring::create) makes it anew,
    /// [`Ring::open_or_create`](super::Ring::open_or_create) takes over what a process that has died left there.
    File(PathBuf),
}

/// What makes it safe to fill a segment again although the kernel was once told to send from it. In every form a
/// segment that is leased is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recycle {
    /// Give the segment's pages up whole and take fresh ones. Needed when chunks are sent with sendfile or splice:
    /// socket queues, even the receiver's, go on holding the old pages for as long as they like, and no one tells.
    Punch,
    /// Fill the same pages again. Enough when each lease is held until the kernel is done with the bytes: after the
    /// call for a copying send, after the notification for a zero-copy one.
    InPlace,
    /// Fill the same pages again; leases count for nothing, neither for the writer, who does not wait for them, nor for
    /// a reader, who gets one though the chunk is gone. The negative control of the tests that show what the other two
    /// are for; a slice from [`Reader::bytes`](super::Reader::bytes) may change under its holder, so those tests let
    /// only the kernel read.
    #[doc(hidden)]
    InPlaceUnprotected,
}
