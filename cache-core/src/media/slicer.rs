//! The slicer: a transport stream becomes chunks.
//!
//! A chunk ends where the stream's clock crosses a line of its 200 ms grid (`grid`), always between packets; before
//! it would be over [`CHUNK_PAYLOAD_BYTES_MAX`]; and where the clock jumps, which begins a new grid and marks the chunk
//! behind it. PAT and PMT are copied in front of a chunk with a key frame, of the first one, and of every 25th that
//! has none.
//!
//! True of the result: the chunks' bytes behind their tables, joined, are the input, byte for byte, but for what was
//! stepped over to find sync; they do not depend on how the input was cut into pieces; a chunk is never empty.
//!
//! A chunk is handed out when the first packet of the next has come; when that leaves open whether a key frame began
//! in it (its last packets are the head of a picture), a few packets later.
//!
//! Who calls: a publisher for its input, a cache for an HTTP upload. What it does not do: number, hash and sign.

use super::clock::PublishClock;
use super::framing::{Framer, NotTransportStream};
use super::grid::{Event, Grid, LINE_TICKS};
use super::key_frame::KeyFrameFinder;
use super::packet::Packet;
use super::sealed::{Sealed, SealedQueue};
use super::tables::TableMemory;
use crate::limits::{CHUNK_PAYLOAD_BYTES_MAX, TABLES_BYTES_MAX, TS_PACKET_BYTES};
use crate::outbox::Outbox;
use crate::time::WallClock;
use crate::units::{ChunkSeq, Epoch, StreamId};
use crate::wire::ChunkHeader;

/// Most bytes of a chunk behind its tables, whole packets.
const STREAM_BYTES_MAX: usize = (CHUNK_PAYLOAD_BYTES_MAX - TABLES_BYTES_MAX) / TS_PACKET_BYTES * TS_PACKET_BYTES;

/// How a slicer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlicerConfig {
    /// The stream had chunks before this upload: the first one is marked as a discontinuity.
    pub resumed: bool,
}

/// A chunk without number and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Tables, then the transport stream.
    pub payload: Vec<u8>,
    /// Bytes of tables.
    pub tables_len: u16,
    /// Where the first key frame begins, in bytes from the first one behind the tables.
    pub key_frame: Option<u32>,
    /// Media time in milliseconds.
    pub duration_ms: u16,
    /// The stream's clock does not go on from the chunk before.
    pub discontinuity: bool,
    /// When its last byte was there, on the publisher's smoothed clock.
    pub published: WallClock,
}

impl Slice {
    /// The chunk's header, without hash and signature: [`crate::sign::PublisherKey::sign_chunk`] fills them in. The
    /// caller sets `end` on the stream's last chunk.
    pub fn header(&self, stream: StreamId, epoch: Epoch, seq: ChunkSeq) -> ChunkHeader {
        ChunkHeader {
            stream,
            epoch,
            seq,
            published: self.published,
            payload_len: self.payload.len() as u32,
            tables_len: self.tables_len,
            duration_ms: self.duration_ms,
            key_frame: self.key_frame,
            discontinuity: self.discontinuity,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    /// The transport stream, without the tables in front.
    pub fn stream_bytes(&self) -> &[u8] {
        &self.payload[usize::from(self.tables_len)..]
    }
}

/// What a slicer met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlicerStats {
    /// Packets taken.
    pub packets: u64,
    /// Key frames found.
    pub key_frames: u64,
    /// Jumps of the stream's clock, announced or not.
    pub clock_jumps: u64,
    /// Chunks that were cut because they were full.
    pub full_chunks: u64,
    /// Bytes that belong to no packet.
    pub bytes_skipped: u64,
    /// How often sync was lost.
    pub sync_losses: u64,
}

/// Slices one stream. Memory: a chunk of 1 MiB and its successor's beginning, and the tables.
#[derive(Debug)]
pub struct Slicer {
    framer: Framer,
    cutter: Cutter,
}

impl Slicer {
    /// Before the first byte.
    pub fn new(config: SlicerConfig) -> Slicer {
        Slicer {
            framer: Framer::new(),
            cutter: Cutter {
                grid: Grid::new(),
                clock: PublishClock::default(),
                tables: TableMemory::new(),
                finder: KeyFrameFinder::default(),
                sealed: SealedQueue::default(),
                open: Open { discontinuity: config.resumed, ..Open::default() },
                stats: SlicerStats::default(),
            },
        }
    }

    /// Takes the stream's next bytes, which came at `now`; the chunks that they complete go to `out`, oldest first.
    /// On an error, which is final, the chunks before it are in `out`.
    pub fn push(&mut self, now: WallClock, bytes: &[u8], out: &mut Outbox<Slice>) -> Result<(), NotTransportStream> {
        let Slicer { framer, cutter } = self;
        cutter.grid.bytes_come(now);
        framer.push(bytes, |packet| cutter.take(now, Packet(packet), out))
    }

    /// Ends the stream: what is held becomes its last chunk. There is one whenever a packet came since [`Slicer::new`];
    /// a packet that is not whole is dropped. The slicer is used up.
    pub fn finish(&mut self, now: WallClock, out: &mut Outbox<Slice>) -> Result<(), NotTransportStream> {
        let Slicer { framer, cutter } = self;
        let ended = framer.finish(|packet| cutter.take(now, Packet(packet), out));
        cutter.finish(now, out);
        ended
    }

    /// What was met so far.
    pub fn stats(&self) -> SlicerStats {
        SlicerStats {
            bytes_skipped: self.framer.bytes_skipped(),
            sync_losses: self.framer.sync_losses(),
            ..self.cutter.stats
        }
    }
}

/// What is behind the framing.
#[derive(Debug)]
struct Cutter {
    grid: Grid,
    clock: PublishClock,
    tables: TableMemory,
    finder: KeyFrameFinder,
    sealed: SealedQueue,
    open: Open,
    stats: SlicerStats,
}

/// The chunk that packets are added to.
#[derive(Debug, Default)]
struct Open {
    /// Where it begins in the stream.
    start: u64,
    bytes: Vec<u8>,
    /// Where the packet of the newest PCR begins in `bytes`.
    last_pcr: usize,
    /// Where key frames begin in the stream.
    keys: Vec<u64>,
    /// The tables in force at the first of them.
    key_tables: Vec<u8>,
    discontinuity: bool,
}

impl Cutter {
    fn take(&mut self, now: WallClock, packet: Packet<'_>, out: &mut Outbox<Slice>) {
        let pmt_pid = self.tables.program().and_then(|program| program.pcr_pid);
        match self.grid.packet(now, packet, pmt_pid) {
            Event::Within => {}
            Event::Tick => self.open.last_pcr = self.open.bytes.len(),
            Event::Cross { from, to } => self.cross(now, from, to, out),
            Event::Cut { duration_ms, end, discontinuity } => {
                let published = end.map_or(now, |end| self.clock.stamp(now, end));
                self.clock.reset();
                self.cut_all(duration_ms, published, out);
                self.open.discontinuity |= discontinuity;
                self.stats.clock_jumps += u64::from(discontinuity);
            }
        }
        if self.open.bytes.len() == STREAM_BYTES_MAX {
            let (elapsed, own_clock) = self.grid.elapsed(now);
            let published = if own_clock { self.clock.stamp(now, elapsed) } else { now };
            let duration_ms = self.grid.close(elapsed);
            self.cut_all(duration_ms, published, out);
            self.stats.full_chunks += 1;
        }
        self.append(packet, out);
    }

    fn append(&mut self, packet: Packet<'_>, out: &mut Outbox<Slice>) {
        let at = self.open.start + self.open.bytes.len() as u64;
        self.open.bytes.extend_from_slice(packet.0);
        self.stats.packets += 1;
        if self.tables.push(packet)
            && let Some(program) = self.tables.program()
        {
            self.finder.retarget(program);
        }
        if let Some(key) = self.finder.push(packet, at) {
            self.stats.key_frames += 1;
            if key < self.open.start {
                self.sealed.mark_key(key, self.tables.packets());
            } else {
                if self.open.keys.is_empty() {
                    self.open.key_tables.extend_from_slice(self.tables.packets());
                }
                self.open.keys.push(key);
            }
        }
        self.release_decided(out);
    }

    /// Cuts at every line in `from..=to`, where `from` is the packet at `last_pcr` and `to` the one that comes.
    fn cross(&mut self, now: WallClock, from: u64, to: u64, out: &mut Outbox<Slice>) {
        self.begin_cut(out);
        let first = self.open.start + self.open.last_pcr as u64;
        let end = self.open.start + self.open.bytes.len() as u64;
        let mut line = self.grid.next_line();
        while line <= to {
            let last = to - line < LINE_TICKS;
            // The stream runs evenly between two PCRs (ISO/IEC 13818-1, 2.4.2.3).
            let share = (end - first) * (line - from) / (to - from);
            let place = if last { end } else { first + share / TS_PACKET_BYTES as u64 * TS_PACKET_BYTES as u64 };
            // A chunk is not empty: one without packets gives its time to the next.
            if place > self.open.start {
                let published = self.clock.stamp(now, line);
                let duration_ms = self.grid.close(line);
                self.seal((place - self.open.start) as usize, duration_ms, published);
            }
            line += LINE_TICKS;
        }
        self.open.last_pcr = 0;
        self.release_decided(out);
    }

    fn cut_all(&mut self, duration_ms: u16, published: WallClock, out: &mut Outbox<Slice>) {
        self.begin_cut(out);
        self.seal(self.open.bytes.len(), duration_ms, published);
        self.open.last_pcr = 0;
        self.release_decided(out);
    }

    /// What still waits from the last cut goes out as it is.
    fn begin_cut(&mut self, out: &mut Outbox<Slice>) {
        if !self.sealed.is_empty() {
            self.finder.give_up();
            self.sealed.release(self.tables.packets(), out);
        }
    }

    /// The open chunk's first `len` bytes become a chunk; the rest stays open.
    fn seal(&mut self, len: usize, duration_ms: u16, published: WallClock) {
        if len == 0 {
            return;
        }
        let rest = self.open.bytes.split_off(len);
        let bytes = std::mem::replace(&mut self.open.bytes, rest);
        let start = self.open.start;
        self.open.start += len as u64;
        let inside = self.open.keys.partition_point(|key| *key < self.open.start);
        let key = self.open.keys.drain(..inside).next().map(|at| (at, self.open.key_tables.clone()));
        if self.open.keys.is_empty() {
            self.open.key_tables.clear();
        }
        let discontinuity = std::mem::take(&mut self.open.discontinuity);
        self.sealed.push(Sealed { start, bytes, key, duration_ms, discontinuity, published });
    }

    fn release_decided(&mut self, out: &mut Outbox<Slice>) {
        let open = self.finder.undecided().is_some_and(|at| at < self.open.start);
        if !open && !self.sealed.is_empty() {
            self.sealed.release(self.tables.packets(), out);
        }
    }

    fn finish(&mut self, now: WallClock, out: &mut Outbox<Slice>) {
        let (end, own_clock) = self.grid.end(now);
        let published = if own_clock { self.clock.stamp(now, end) } else { now };
        let duration_ms = self.grid.close(end);
        self.finder.give_up();
        self.cut_all(duration_ms, published, out);
    }
}

const _: () = assert!(STREAM_BYTES_MAX + TABLES_BYTES_MAX <= CHUNK_PAYLOAD_BYTES_MAX);
