//! The chunk ring: where bytes stay.
//!
//! One writer puts each chunk of each stream into shared mapped memory once, with its prefix in front, exactly as it
//! goes on the wire. Every shard's reader, and any observer process that opens the file, finds it there; the kernel
//! sends from there. Nothing is copied in user space, whatever the number of viewers.
//!
//! ```text
//!   control's thread                                                  one thread for each shard
//!   Writer: reserve, fill, publish                                    Reader: lookup, lease, send, release
//!      |                                                                 ^
//!      v                                                                 |
//!   +----------+-------------+---------------+---------------------------+------------------------+
//!   | header,  | segments'   | streams' ids, | descriptors: where each   | segments of 2 MiB:     |
//!   | board    | generations | heads, notes  | stream's newest chunks are| chunks as they are sent|
//!   +----------+-------------+---------------+---------------------------+------------------------+
//!   one file: a memfd, or in a tmpfs or hugetlbfs                        |
//!                                                                        v
//!                                                       RingObserver: another process, which only reads
//! ```
//!
//! # Concepts
//! - A **chunk** is 200 ms of a stream: 152 bytes of prefix and at most 1 MiB of payload, contiguous in the file. A
//!   sub-range of it (the transport stream alone) is contiguous too. Chunks begin on cache lines.
//! - A **segment** is 2 MiB of the file, one huge page. It belongs to one stream, is filled from its start and is given
//!   up as a whole. It is free, in use, quarantined or retired (`slab_pool.rs`).
//! - Its **generation** goes up when it is given up. A [`ChunkRef`] carries the generation under which its chunk was
//!   written: if the two differ, the chunk is gone.
//! - A **descriptor** says where a chunk is. The newest `retain_chunks` of each stream have one (`descriptor.rs`);
//!   older chunks have expired; a stream may keep fewer ([`Writer::set_retain`]). Sequence numbers may leave gaps.
//! - A **lease** keeps a segment from being filled again while the kernel or a thread reads it (`lease.rs`).
//! - The **board** holds the counters of all who work with the ring, and facts of their node (`board.rs`).
//! - **Quarantine**: a segment due for reuse that is leased is set aside and another one taken. The writer never waits.
//!
//! # Sending
//! With SEND_ZC: lease, send, and release at the notification; [`Recycle::InPlace`] is enough. With sendfile: lease,
//! call sendfile on [`Ring::file`], release at once; the pages that socket queues still hold are never written again
//! under [`Recycle::Punch`]. Between two calls for one chunk no lease need be held: the next [`Reader::lease`] says
//! whether the rest is still there, and if it is not, the connection is dropped in the middle of its chunk.
//!
//! # Order of memory
//! Three protocols, one file each: publishing (`stream_entry.rs`: one release store of the head), descriptors
//! (`descriptor.rs`: a sequence lock) and reuse (`lease.rs`: two counters and two fences). `tests/ring_loom.rs` runs
//! all three, as they are, through every interleaving of up to three preemptions.
//!
//! # Restart
//! A file with a name outlives a process that is killed, and on demand ([`RingConfig::keep_file`]) one that ends well.
//! [`Ring::open_or_create`] takes it over (`attach.rs`): streams, chunks and notes stay where they are. Every store of the
//! writer stands in an order that makes what a kill leaves either whole or recognisable; damage is recognised by
//! checksums. An inherited chunk is suspect until its payload has been checked, once, when it is first to be sent.
//!
//! # What it does not do
//! It knows nothing of wire formats but the length of the prefix, verifies no signature or payload, wakes nobody and does
//! not decide what a viewer gets.

mod attach;
mod board;
mod chunk;
mod config;
mod control;
mod descriptor;
mod error;
mod layout;
mod lease;
mod losers;
#[cfg_attr(loom, path = "memory_loom.rs")]
mod memory;
mod need;
mod note;
mod observer;
mod queues;
mod reader;
#[cfg_attr(loom, allow(dead_code, reason = "memory_loom.rs takes its memory from the heap"))]
mod room;
#[cfg_attr(loom, allow(dead_code, reason = "memory_loom.rs has no file"))]
mod shm;
mod slab_pool;
mod stats;
mod stream_entry;
mod sync;
mod verdicts;
mod view;
mod writer;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub use attach::{Found, Inherited, InheritedStream};
pub use board::{
    Board, BoardView, Column, Counter, Kind, Node, NodeView, Row, RowOf, RowView, StreamBoard, StreamView,
};
pub use chunk::{ChunkMeta, ChunkRef, Lookup, StreamSlot};
pub use config::{Backing, Recycle, RingConfig};
pub use error::RingError;
pub use layout::{CHUNK_BYTES_MAX, PREFIX_BYTES, SEGMENT_BYTES};
pub use need::{budget_bytes, segments_of_stream};
pub use note::NOTE_BYTES_MAX;
pub use observer::RingObserver;
pub use reader::{Lease, Reader};
pub use shm::{available_in, is_hugetlbfs};
pub use stats::RingStats;
pub use view::View;
pub use writer::{Reservation, Writer};

/// A handle on the ring for whoever sets a server up or reports on it: gives out the readers, the file and the
/// counters.
#[derive(Clone, Debug)]
pub struct Ring {
    core: Arc<Core>,
}

/// What the writer and all readers of one process share.
#[derive(Debug)]
struct Core {
    /// Tells the rings of one process apart, so that a lease of one is not handed to another.
    id: u64,
    recycle: Recycle,
    control: Arc<control::Control>,
    board: board::Board,
    leases: lease::Leases,
    readers_taken: Vec<AtomicBool>,
    slabs: memory::Slabs,
}

/// More shards than any machine has cores (our guess).
const READERS_MAX: u32 = 1024;

impl Ring {
    /// Makes a ring: allocates and maps all of its memory and touches every page of it, which takes about a second for
    /// each GiB (measured; 2 vCPU EPYC, pages of 4 KiB).
    ///
    /// # Errors
    /// [`RingError::Config`], [`RingError::NoRoom`], [`RingError::NotInMemory`], [`RingError::InUse`],
    /// [`RingError::Foreign`] or [`RingError::Io`]; nothing is left behind.
    pub fn create(config: &RingConfig) -> Result<(Writer, Ring), RingError> {
        let layout = Ring::plan(config)?;
        let (words, slabs) = memory::create(config, &layout)?;
        let control = control::Control::new(words, layout);
        control.format();
        let core = Ring::core(config, control, slabs);
        Ok((Writer::new(core.clone()), Ring { core }))
    }

    /// Takes over the ring that a process which has died left at the configured path, if it is of this layout; else makes
    /// one, as [`Ring::create`] does, but sets aside what is no ring instead of refusing it. `is_whole` judges a chunk by
    /// its prefix and payload, and is asked of each stream's newest one here; the others are [suspect](ChunkRef::suspect).
    ///
    /// Cost of taking over: a look at every descriptor and at the prefix of every chunk, no touch of the rest: see
    /// `perf/README.md`.
    ///
    /// # Errors
    /// As [`Ring::create`]; [`RingError::Foreign`] for what is no regular file of this user's. A ring that cannot be taken
    /// over for want of memory stays as it is.
    pub fn open_or_create(
        config: &RingConfig,
        mut is_whole: impl FnMut(&[u8]) -> bool,
    ) -> Result<(Writer, Ring, Inherited), RingError> {
        let layout = Ring::plan(config)?;
        let (words, slabs, found) = attach::open_or_create(config, &layout)?;
        let mut control = control::Control::new(words, layout);
        if found != Found::Ring {
            control.format();
            let core = Ring::core(config, control, slabs);
            let inherited = Inherited { found, streams: Vec::new(), chunks: 0, torn: 0 };
            return Ok((Writer::new(core.clone()), Ring { core }, inherited));
        }
        control.verdicts = verdicts::Verdicts::unknown(layout.rows());
        let scan = attach::scan(&control, &slabs, &mut is_whole);
        let core = Ring::core(config, control, slabs);
        let inherited = scan.report(found);
        Ok((Writer::inherit(core.clone(), &scan), Ring { core }, inherited))
    }

    fn plan(config: &RingConfig) -> Result<layout::Layout, RingError> {
        if !(1..=READERS_MAX).contains(&config.readers_max) {
            let (got, max) = (u64::from(config.readers_max), u64::from(READERS_MAX));
            return Err(RingError::Config { key: "readers_max", got, min: 1, max });
        }
        layout::Layout::plan(config.budget_bytes, u64::from(config.streams_max), config.retain_chunks)
    }

    fn core(config: &RingConfig, control: control::Control, slabs: memory::Slabs) -> Arc<Core> {
        static RINGS: AtomicU64 = AtomicU64::new(0);
        let control = Arc::new(control);
        Arc::new(Core {
            id: RINGS.fetch_add(1, Ordering::Relaxed),
            recycle: config.recycle,
            board: board::Board::begin(control.clone()),
            leases: lease::Leases::new(config.readers_max, control.layout.segments),
            control,
            readers_taken: (0..config.readers_max).map(|_| AtomicBool::new(false)).collect(),
            slabs,
        })
    }

    /// Reader `index`, one for each shard. Each can be had once in the ring's life.
    pub fn reader(&self, index: u32) -> Result<Reader, RingError> {
        let max = self.core.readers_taken.len() as u32;
        let taken = self.core.readers_taken.get(index as usize).ok_or(RingError::ReaderIndex { index, max })?;
        if taken.swap(true, Ordering::Relaxed) {
            return Err(RingError::ReaderTaken { index });
        }
        Ok(Reader::new(self.core.clone(), index))
    }

    /// The file that [`ChunkRef::file_offset`] counts in.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.core.slabs.file()
    }

    /// Whether a segment's pages may be replaced by others while the ring lives: under [`Recycle::Punch`], and in a ring
    /// that was taken over, whose segments are renewed once each. Memory that is registered with the kernel goes on
    /// meaning the former pages, so such a ring's must not be.
    pub fn renews_pages(&self) -> bool {
        self.core.recycle == Recycle::Punch || !self.core.control.verdicts.is_empty()
    }

    /// How many inherited chunks have been checked in this process and were whole, and how many were broken. Cost: a walk
    /// over one word for each descriptor.
    pub fn inherited_checked(&self) -> (u64, u64) {
        self.core.control.verdicts.count()
    }

    /// Notes on the file that its ring is alive, for those who remove the files of dead ones by their age.
    ///
    /// # Errors
    /// [`RingError::Io`].
    pub fn touch(&self) -> Result<(), RingError> {
        self.core.slabs.touch()
    }

    /// All segments as they are mapped, to be registered with the kernel. Registering pins the pages of that moment: only
    /// under a [`Recycle`] that keeps them do later chunks stand in them.
    pub fn payload(&self) -> *const [u8] {
        self.core.slabs.payload()
    }

    /// Enters the pages of all segments into this process's page table, where they are not yet: in a ring that was taken
    /// over only those are that were looked at. Cost: next to none for huge pages.
    pub fn enter_pages(&self) {
        self.core.slabs.enter_pages();
    }

    /// The counters.
    pub fn stats(&self) -> RingStats {
        self.core.control.stats()
    }

    /// Where the node counts, for observers to see.
    pub fn board(&self) -> &Board {
        &self.core.board
    }
}
