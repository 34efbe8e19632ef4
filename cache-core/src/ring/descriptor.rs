//! A chunk's descriptor: eight words, one cache line, guarded by a sequence lock.
//!
//! ```text
//!  word 0        1     2      3          4                  5           6                     7
//!  +-----------+-----+------+----------+------------------+-----------+---------------------+--------------------+
//!  | version   | seq | epoch| published| segment | offset | generation| payload_len | key   | tables dur. flags seal
//!  +-----------+-----+------+----------+------------------+-----------+---------------------+--------------------+
//!  odd: being written                    32        32                  32            32      16     16   4     28
//! ```
//! The writer makes the version odd, writes, makes it even. A reader reads the version, the rest, and the version again;
//! anything but the same even number twice means that the chunk was being replaced by a later one, so it is gone, and
//! there is nothing to retry: reading takes a bounded number of steps whatever the writer does.
//!
//! The same order serves who takes the file over from a process that was killed: a kill falls between two stores, in the
//! order in which they stand in the program, so it leaves the old words under an even version, or the new ones, or an odd
//! version. For what a kill cannot do and a damaged file can, the *seal* is a checksum of 28 bits over the stream's id,
//! the other words and the chunk's prefix; it is looked at when a file is taken over, never otherwise.

use super::chunk::ChunkMeta;
use super::layout::DESCRIPTOR_WORDS;
use super::sync::{AtomicU64, Ordering, fence, load_acquire};
use crate::time::WallClock;
use crate::units::{ChunkSeq, Epoch, StreamId};

const VERSION: usize = 0;
const SEQ: usize = 1;

const NO_KEY_FRAME: u32 = u32::MAX;
const FLAG_DISCONTINUITY: u64 = 1 << 32;
const FLAG_END: u64 = 1 << 33;
const FLAG_INHERITED: u64 = 1 << 34;
const SEAL_SHIFT: u32 = 36;
/// Where tables, duration, flags and seal stand.
const REST: usize = 7;

/// What a descriptor says. Its values are only as good as the file: an observer checks them before use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The segment that holds the chunk.
    pub(super) segment: u32,
    /// Where it begins in there.
    pub(super) offset: u32,
    /// The segment's generation when it was written; 0 in a cleared descriptor, which no segment ever has.
    pub(super) generation: u64,
    /// The chunk.
    pub(super) meta: ChunkMeta,
    /// Written by a process before this one, or before the one that is observed.
    pub(super) inherited: bool,
    /// What [`seal`] said when it was written.
    pub(super) seal: u32,
}

/// The checksum of a descriptor and its chunk's prefix. Cost: BLAKE3 of some 200 bytes, well under 1 us (our guess), once
/// for each chunk.
pub(super) fn seal(id: StreamId, entry: &Entry, prefix: &[u8]) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.0.to_ne_bytes());
    for word in (Entry { inherited: false, seal: 0, ..*entry }).words() {
        hasher.update(&word.to_ne_bytes());
    }
    let hash = hasher.update(prefix).finalize();
    u32::from_ne_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")) >> (SEAL_SHIFT - 32)
}

impl Entry {
    fn words(&self) -> [u64; DESCRIPTOR_WORDS - 1] {
        let meta = &self.meta;
        let flags = (FLAG_DISCONTINUITY * u64::from(meta.discontinuity))
            | (FLAG_END * u64::from(meta.end))
            | (FLAG_INHERITED * u64::from(self.inherited));
        [
            meta.seq.get(),
            meta.epoch.0,
            meta.published.micros(),
            pair(self.segment, self.offset),
            self.generation,
            pair(meta.payload_len, meta.key_frame.unwrap_or(NO_KEY_FRAME)),
            u64::from(meta.tables_len) | u64::from(meta.duration_ms) << 16 | flags | u64::from(self.seal) << SEAL_SHIFT,
        ]
    }
}

/// One descriptor in the control area.
#[derive(Clone, Copy)]
pub(super) struct Descriptor<'a>(pub(super) &'a [AtomicU64]);

impl Descriptor<'_> {
    /// Replaces what it says. The writer only.
    pub(super) fn write(self, entry: &Entry) {
        self.replace(entry.words());
    }

    /// Makes it say nothing. The writer only.
    pub(super) fn clear(self) {
        self.replace([0; DESCRIPTOR_WORDS - 1]);
    }

    /// Whether it says nothing.
    pub(super) fn is_clear(self) -> bool {
        let nothing = self.0[SEQ..].iter().all(|word| word.load(Ordering::Relaxed) == 0);
        nothing && self.0[VERSION].load(Ordering::Relaxed).is_multiple_of(2)
    }

    /// Makes it say nothing, though a process that was killed may have left it half written. The writer only.
    pub(super) fn reset(self) {
        // From an odd version on, so that what follows makes it even.
        let version = self.0[VERSION].load(Ordering::Relaxed);
        self.0[VERSION].store(version & !1, Ordering::Relaxed);
        self.clear();
    }

    /// Marks what it says as inherited: one store, so that a kill leaves it marked or not. The writer only, before there
    /// are readers.
    pub(super) fn inherit(self) {
        let rest = self.0[REST].load(Ordering::Relaxed);
        self.0[REST].store(rest | FLAG_INHERITED, Ordering::Relaxed);
    }

    fn replace(self, words: [u64; DESCRIPTOR_WORDS - 1]) {
        let version = self.0[VERSION].load(Ordering::Relaxed);
        self.0[VERSION].store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees one of the new words sees the odd version (or a later one) as well.
        fence(Ordering::Release);
        for (word, value) in self.0[SEQ..].iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        // Whoever sees the even version sees all of the new words, and the chunk's bytes.
        self.0[VERSION].store(version.wrapping_add(2), Ordering::Release);
    }

    /// What it says; `None` while it is being replaced.
    pub(super) fn read(self) -> Option<Entry> {
        let before = load_acquire(&self.0[VERSION]);
        let [seq, epoch, published, place, generation, sizes, rest] =
            std::array::from_fn(|i| self.0[SEQ + i].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let after = self.0[VERSION].load(Ordering::Relaxed);
        if before % 2 == 1 || before != after {
            return None;
        }
        let (segment, offset) = unpair(place);
        let (payload_len, key_frame) = unpair(sizes);
        Some(Entry {
            segment,
            offset,
            generation,
            meta: ChunkMeta {
                seq: ChunkSeq::new(seq),
                epoch: Epoch(epoch),
                published: WallClock::from_micros(published),
                payload_len,
                tables_len: rest as u16,
                key_frame: (key_frame != NO_KEY_FRAME).then_some(key_frame),
                duration_ms: (rest >> 16) as u16,
                discontinuity: rest & FLAG_DISCONTINUITY != 0,
                end: rest & FLAG_END != 0,
            },
            inherited: rest & FLAG_INHERITED != 0,
            seal: (rest >> SEAL_SHIFT) as u32,
        })
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

const fn unpair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
