//! Where everything stands in the file.
//!
//! ```text
//!  0        4096                                                                payload (2 MiB aligned)
//!  +--------+---------------+--------------+-------------+---------------------------+----------+----------+--
//!  | header | segment table | stream table | notes       | descriptors               | segment 0| segment 1| ...
//!  +--------+---------------+--------------+-------------+---------------------------+----------+----------+--
//!  | 4 KiB  | 16 B each     | 64 B each    | 2 x 512 B   | retain x 64 B each stream | 2 MiB    | 2 MiB    |
//!  |                                       | each stream |                           |          |
//!  |<------------------------------ control area: 64-bit words ----------------------->|<-- chunks, as sent -->
//! ```
//! All of it follows from three numbers, the budget, the streams and the retained chunks: the header states them, and
//! whoever opens the file computes the rest with the same [`Layout::plan`]. The control area is words of 64 bits in
//! the processor's own byte order: the file never leaves its machine.

use super::error::RingError;
use crate::limits::CHUNK_PAYLOAD_BYTES_MAX;

/// Size and alignment of a segment: one huge page, the unit in which pages can be given up without touching those a
/// socket still holds (a punch of part of a huge page zeroes it in place).
pub const SEGMENT_BYTES: u64 = 2 << 20;

/// What stands in front of each chunk's payload: frame head (8) and chunk header (144), exactly as sent.
pub const PREFIX_BYTES: usize = 152;

/// The longest reservation.
pub const CHUNK_BYTES_MAX: usize = PREFIX_BYTES + CHUNK_PAYLOAD_BYTES_MAX;

/// Chunks begin on a cache line of their own, so that filling one does not disturb who reads the one before.
pub(super) const CHUNK_ALIGN: u64 = 64;

/// First word of the file, there from the start.
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"WeirRing");

/// Second word: counted up whenever a ring of one build cannot be read by another. Written last, when everything else
/// stands; it is 0 until then.
pub(super) const VERSION: u64 = 2;

/// Words of the header.
pub(super) mod header {
    pub(in super::super) const MAGIC: usize = 0;
    pub(in super::super) const VERSION: usize = 1;
    pub(in super::super) const BUDGET_BYTES: usize = 2;
    pub(in super::super) const STREAMS_MAX: usize = 3;
    pub(in super::super) const RETAIN_CHUNKS: usize = 4;
    /// Stream slots that were ever open: searches end there.
    pub(in super::super) const STREAMS_USED: usize = 5;
    /// Words from the file that must be there before anything can be said of it.
    pub(in super::super) const WORDS: usize = 6;
    /// Counters, from here to the end of the page, on cache lines of their own.
    pub(in super::super) const COUNTERS: usize = 16;
}

/// One page; under loom, which keeps a history of every word, no more than is used.
const HEADER_WORDS: usize = if cfg!(loom) { 32 } else { 512 };
pub(super) const SEGMENT_WORDS: usize = 2;
pub(super) const STREAM_WORDS: usize = 8;
/// One of a stream's two note cells; under loom, where nobody writes notes, just enough.
pub(super) const NOTE_WORDS: usize = if cfg!(loom) { 2 } else { 64 };
pub(super) const DESCRIPTOR_WORDS: usize = 8;
const WORD_BYTES: u64 = 8;

/// Our guess at what no machine wants: above it the tables alone are gigabytes.
const STREAMS_MAX: u64 = 1 << 16;
const RETAIN_MAX: u64 = 1 << 16;
/// 64 TiB. Segment numbers are 32 bits.
const BUDGET_MAX: u64 = 1 << 46;

const _: () = assert!(CHUNK_BYTES_MAX as u64 <= SEGMENT_BYTES, "a chunk never crosses two segments");
const _: () = assert!(header::COUNTERS + super::stats::COUNTERS <= HEADER_WORDS, "the counters fit the header");
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(CHUNK_ALIGN) && CHUNK_ALIGN.is_power_of_two());
const _: () = assert!(BUDGET_MAX / SEGMENT_BYTES <= u32::MAX as u64, "segments are numbered with 32 bits");
const _: () = assert!(SEGMENT_BYTES <= u32::MAX as u64, "offsets in a segment are kept in 32 bits");
const _: () = assert!(DESCRIPTOR_WORDS as u64 * WORD_BYTES == 64, "a descriptor is one cache line");
const _: () = assert!(STREAM_WORDS as u64 * WORD_BYTES == 64, "a stream's entry is one cache line");

/// The places of all tables. Word numbers count from the file's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) budget_bytes: u64,
    pub(super) streams: u32,
    pub(super) retain: u64,
    pub(super) segments: u32,
    segment_table: usize,
    stream_table: usize,
    notes: usize,
    descriptors: usize,
    /// Words of the control area that are used.
    pub(super) control_words: usize,
    /// First byte of segment 0.
    pub(super) payload_offset: u64,
}

impl Layout {
    /// The layout that these three numbers give, or which of them is out of range. At least two segments must fit: one
    /// to fill, one to serve.
    pub(super) fn plan(budget_bytes: u64, streams: u64, retain: u64) -> Result<Layout, RingError> {
        in_range("streams_max", streams, 1, STREAMS_MAX)?;
        in_range("retain_chunks", retain, 1, RETAIN_MAX)?;
        in_range("budget_bytes", budget_bytes, 0, BUDGET_MAX)?;
        // The segment table has room for as many as if there were nothing else, so that it does not depend on itself.
        let segment_table = HEADER_WORDS;
        let stream_table = line_up(segment_table + (budget_bytes / SEGMENT_BYTES) as usize * SEGMENT_WORDS);
        let notes = stream_table + streams as usize * STREAM_WORDS;
        let descriptors = notes + streams as usize * 2 * NOTE_WORDS;
        let control_words = descriptors + (streams * retain) as usize * DESCRIPTOR_WORDS;
        let payload_offset = (control_words as u64 * WORD_BYTES).next_multiple_of(SEGMENT_BYTES);
        in_range("budget_bytes", budget_bytes, payload_offset + 2 * SEGMENT_BYTES, BUDGET_MAX)?;
        Ok(Layout {
            budget_bytes,
            streams: streams as u32,
            retain,
            segments: ((budget_bytes - payload_offset) / SEGMENT_BYTES) as u32,
            segment_table,
            stream_table,
            notes,
            descriptors,
            control_words,
            payload_offset,
        })
    }

    /// Bytes of the whole file: the control area and whole segments.
    pub(super) fn file_bytes(&self) -> u64 {
        self.payload_offset + self.payload_bytes()
    }

    /// Bytes of all segments.
    pub(super) fn payload_bytes(&self) -> u64 {
        u64::from(self.segments) * SEGMENT_BYTES
    }

    /// First word of segment `index`'s entry. `index < segments`.
    pub(super) fn segment_entry(&self, index: u32) -> usize {
        self.segment_table + index as usize * SEGMENT_WORDS
    }

    /// First word of stream `index`'s entry. `index < streams`.
    pub(super) fn stream_entry(&self, index: u32) -> usize {
        self.stream_table + index as usize * STREAM_WORDS
    }

    /// First word of note cell `cell % 2` of stream `index`. `index < streams`.
    pub(super) fn note(&self, index: u32, cell: u64) -> usize {
        self.notes + (index as usize * 2 + (cell % 2) as usize) * NOTE_WORDS
    }

    /// The number, among all descriptors, of the one in which stream `index` keeps chunk `seq` while it is retained.
    pub(super) fn row(&self, index: u32, seq: u64) -> usize {
        (u64::from(index) * self.retain + seq % self.retain) as usize
    }

    /// Descriptors of all streams.
    pub(super) fn rows(&self) -> usize {
        (u64::from(self.streams) * self.retain) as usize
    }

    /// First word of the descriptor in which stream `index` keeps chunk `seq` while it is retained.
    pub(super) fn descriptor(&self, index: u32, seq: u64) -> usize {
        self.descriptors + self.row(index, seq) * DESCRIPTOR_WORDS
    }

    /// Where segment `index` begins in the file.
    pub(super) fn segment_offset(&self, index: u32) -> u64 {
        self.payload_offset + u64::from(index) * SEGMENT_BYTES
    }
}

fn in_range(key: &'static str, got: u64, min: u64, max: u64) -> Result<(), RingError> {
    if (min..=max).contains(&got) { Ok(()) } else { Err(RingError::Config { key, got, min, max }) }
}

/// Up to the next cache line.
fn line_up(words: usize) -> usize {
    words.next_multiple_of(8)
}
