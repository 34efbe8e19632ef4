//! The window: 256 chunks around the play position (paper, section 3.2.1), or fewer.
//!
//! ```text
//!  base            position                                                   base + 256
//!   |<-- history -->|<---------- urgent ---------->|<--------- normal --------->|
//!   0              48                             133                          256
//!   for others      played next                     fetched rarest first
//! ```
//! The numbers are those of the paper and of the `classic` profile. The window begins a history behind the first chunk to be
//! played (or at the stream's first), so that the play position stands behind the history from the beginning and every chunk
//! is kept that long (9.6 s) after it was played. The buffer remembers which chunks are held and what play-out and
//! upload must know of them; the driver keeps the bytes.

use super::slots::Slots;
use crate::limits::WINDOW_CHUNKS;
use crate::time::Span;
use crate::units::{CHUNK_SPAN, ChunkSeq};
use crate::wire::{BufferMap, CHUNK_PREFIX_BYTES, ChunkHeader};

/// What is remembered of a held chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// How long it plays.
    pub(super) duration: Span,
    /// Bytes of its whole frame.
    pub(super) bytes: u64,
}

/// The same in half the space: thousands of peers may live in one process.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    duration_ms: u16,
    bytes: u32,
}

/// What became of a chunk that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    /// It is held from here on.
    Kept,
    /// It was held already.
    Duplicate,
    /// It has left the window.
    TooOld,
    /// The window does not reach it.
    TooNew,
}

/// The window and its contents.
#[derive(Clone, Debug)]
pub(super) struct PlayBuffer {
    map: BufferMap,
    position: ChunkSeq,
    history: u64,
    /// By `seq` modulo the window's length; meaningful where the map says held.
    held: Box<[Stored]>,
    last: Option<ChunkSeq>,
    strict: bool,
    /// Mean of the frames' bytes, the newest weighing an eighth; 0 before the first.
    mean_bytes: u64,
}

/// Bytes of a chunk's frame.
pub(super) const fn frame_bytes(header: &ChunkHeader) -> u64 {
    CHUNK_PREFIX_BYTES as u64 + header.payload_len as u64
}

impl PlayBuffer {
    /// A window of `chunks` chunks (256 at most), `history` of them behind the play position, for play-out from `begin`
    /// on; nothing held.
    pub(super) fn new(begin: ChunkSeq, chunks: u64, history: u64) -> PlayBuffer {
        PlayBuffer {
            map: BufferMap::new(begin.back(history)),
            position: begin,
            history,
            held: vec![Stored::default(); chunks.clamp(1, WINDOW_CHUNKS) as usize].into_boxed_slice(),
            last: None,
            strict: false,
            mean_bytes: 0,
        }
    }

    /// A window that begins at `begin` itself; play-out begins behind the history (`sliding = "strict"`).
    pub(super) fn strict(begin: ChunkSeq, chunks: u64, history: u64) -> PlayBuffer {
        let mut buffer = PlayBuffer::new(begin.ahead(history), chunks, history);
        buffer.map = BufferMap::new(begin);
        buffer.strict = true;
        buffer
    }

    pub(super) const fn map(&self) -> &BufferMap {
        &self.map
    }

    /// The chunk played next.
    pub(super) const fn position(&self) -> ChunkSeq {
        self.position
    }

    /// The first chunk behind the window.
    pub(super) const fn end(&self) -> ChunkSeq {
        self.map.base().ahead(self.held.len() as u64)
    }

    fn at(&self, seq: ChunkSeq) -> usize {
        (seq.get() % self.held.len() as u64) as usize
    }

    /// The stream's rate, S of eq. (2); 0 before the first chunk.
    pub(super) const fn stream_kbps(&self) -> u64 {
        self.mean_bytes * 8 / CHUNK_SPAN.millis()
    }

    pub(super) fn held(&self, seq: ChunkSeq) -> Option<Held> {
        self.map.holds(seq).then(|| {
            let Stored { duration_ms, bytes } = self.held[self.at(seq)];
            Held { duration: Span::from_millis(u64::from(duration_ms)), bytes: u64::from(bytes) }
        })
    }

    /// Takes in a chunk whose check has passed.
    pub(super) fn insert(&mut self, header: &ChunkHeader) -> Insert {
        if header.seq < self.map.base() {
            return Insert::TooOld;
        }
        if header.seq >= self.end() {
            return Insert::TooNew;
        }
        if self.map.holds(header.seq) {
            return Insert::Duplicate;
        }
        self.map.set(header.seq, true);
        let bytes = frame_bytes(header);
        self.mean_bytes = if self.mean_bytes == 0 { bytes } else { (7 * self.mean_bytes + bytes) / 8 };
        let at = self.at(header.seq);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.held[at] = Stored { duration_ms: header.duration_ms, bytes };
        if header.end {
            self.last = Some(header.seq);
        }
        Insert::Kept
    }

    /// The stream ends with `last`.
    pub(super) fn ends_with(&mut self, last: ChunkSeq) {
        self.last = Some(last);
    }

    /// The stream's last chunk, once known.
    pub(super) const fn last(&self) -> Option<ChunkSeq> {
        self.last
    }

    /// Whether the last chunk is behind the play position.
    pub(super) fn is_past_end(&self) -> bool {
        self.last.is_some_and(|last| last < self.position)
    }

    /// Chunks held without a gap from the play position on.
    pub(super) fn contiguous(&self) -> u64 {
        let mut seq = self.position;
        while self.map.holds(seq) {
            seq = seq.next();
        }
        seq.since(self.position).unwrap_or(0)
    }

    /// Whether `chunks` are held without a gap, or all up to the stream's end.
    pub(super) fn is_ready(&self, chunks: u64) -> bool {
        let contiguous = self.contiguous();
        contiguous >= chunks || self.last.is_some_and(|last| last < self.position.ahead(contiguous))
    }

    /// Whether play-out may move: always, but under `sliding = "strict"` only while the history's slots and the play
    /// position's are all held.
    pub(super) fn gate_is_open(&self) -> bool {
        !self.strict || (self.map.leading() as u64 >= self.history && self.map.holds(self.position))
    }

    /// Moves the play position to `position`, never back, and the window along.
    pub(super) fn move_to(&mut self, position: ChunkSeq) {
        self.position = self.position.max(position);
        let base = self.position.back(self.history);
        if base > self.map.base() {
            self.map.slide_to(base);
        }
    }

    /// What is worth fetching, slot 0 being the window's first chunk: the chunks from the play position on that are not
    /// held, as far as window and stream reach. The strict rule wants the history as well.
    pub(super) fn missing(&self) -> Slots {
        let base = self.map.base();
        let first = if self.strict { 0 } else { self.position.since(base).unwrap_or(0) };
        let end = self.end().min(self.last.map_or(ChunkSeq::new(u64::MAX), ChunkSeq::next));
        Slots::range(first, end.since(base).unwrap_or(0)).without(Slots::of(&self.map, base))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::WallClock;
    use crate::units::{Epoch, StreamId};

    pub(in super::super) fn header(seq: u64) -> ChunkHeader {
        ChunkHeader {
            stream: StreamId(1),
            epoch: Epoch(1),
            seq: ChunkSeq::new(seq),
            published: WallClock::from_micros(seq * 200_000),
            payload_len: 50_000,
            tables_len: 0,
            duration_ms: 200,
            key_frame: None,
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    /// A buffer at play position `position` that holds what is drawn from there on: `#` held.
    pub(in super::super) fn drawn(position: u64, from_position: &str) -> PlayBuffer {
        let mut buffer = PlayBuffer::new(ChunkSeq::new(position), 256, 48);
        for (i, _) in from_position.bytes().enumerate().filter(|(_, b)| *b == b'#') {
            assert_eq!(buffer.insert(&header(position + i as u64)), Insert::Kept);
        }
        buffer
    }

    fn missing(buffer: &PlayBuffer, end: u64) -> Vec<u64> {
        let base = buffer.map().base().get();
        buffer.missing().iter().map(|slot| base + slot).filter(|seq| *seq < end).collect()
    }

    #[test]
    fn the_play_position_stands_at_slot_48() {
        let buffer = drawn(1_000, "");
        assert_eq!(buffer.map().slot(buffer.position()), Some(48));
        assert_eq!((buffer.map().base().get(), buffer.end().get()), (952, 1_208));
    }

    #[test]
    fn near_the_streams_first_chunk_there_is_less_history() {
        let mut buffer = drawn(10, "###");
        assert_eq!(buffer.map().base(), ChunkSeq::FIRST);
        buffer.move_to(ChunkSeq::new(60));
        assert_eq!(buffer.map().base(), ChunkSeq::new(12));
        assert!(buffer.map().holds(ChunkSeq::new(12)) && !buffer.map().holds(ChunkSeq::new(11)));
    }

    #[test]
    fn a_chunk_is_kept_48_chunks_after_it_was_played() {
        let mut buffer = drawn(1_000, "#");
        buffer.move_to(ChunkSeq::new(1_048));
        assert!(buffer.map().holds(ChunkSeq::new(1_000)));
        buffer.move_to(ChunkSeq::new(1_049));
        assert!(!buffer.map().holds(ChunkSeq::new(1_000)));
        assert_eq!(buffer.insert(&header(1_000)), Insert::TooOld);
    }

    #[test]
    fn ready_means_contiguous_or_up_to_the_end() {
        assert!(!drawn(100, "##.####").is_ready(3));
        assert!(drawn(100, "###.").is_ready(3));
        let mut buffer = drawn(100, "##");
        buffer.ends_with(ChunkSeq::new(101));
        assert!(buffer.is_ready(5) && !buffer.is_past_end());
        buffer.move_to(ChunkSeq::new(102));
        assert!(buffer.is_past_end());
    }

    #[test]
    fn nothing_is_missing_behind_the_streams_end() {
        let mut buffer = drawn(100, "#.##..");
        assert_eq!(missing(&buffer, 108), [101, 104, 105, 106, 107]);
        buffer.ends_with(ChunkSeq::new(104));
        assert_eq!(missing(&buffer, 108), [101, 104]);
    }

    #[test]
    fn the_strict_gate_opens_when_the_first_48_are_held_and_wants_them_all() {
        let mut buffer = PlayBuffer::strict(ChunkSeq::new(500), 256, 48);
        assert_eq!(buffer.map().base(), ChunkSeq::new(500));
        assert_eq!(missing(&buffer, 503), [500, 501, 502]);
        for seq in 500..549 {
            assert!(!buffer.gate_is_open());
            buffer.insert(&header(seq));
        }
        assert!(buffer.gate_is_open());
    }

    proptest! {
        /// The buffer against a set of numbers: the same chunks held, missing and reported.
        #[test]
        fn holds_what_a_set_would_hold(
            (window, history) in prop::sample::select(vec![(256u64, 48u64), (64, 16), (16, 4)]),
            begin in 0u64..200_000,
            steps in prop::collection::vec((0u64..320, 0u64..4), 1..200),
        ) {
            let mut buffer = PlayBuffer::new(ChunkSeq::new(begin), window, history);
            let mut set = std::collections::BTreeSet::new();
            let mut position = begin;
            for (offset, advance) in steps {
                let seq = position.saturating_sub(60) + offset;
                let base = buffer.map().base().get();
                let said = buffer.insert(&header(seq));
                let expected = if seq < base { Insert::TooOld } else if seq >= base + window { Insert::TooNew }
                    else if set.insert(seq) { Insert::Kept } else { Insert::Duplicate };
                prop_assert_eq!(said, expected);
                position += advance;
                buffer.move_to(ChunkSeq::new(position));
                set = set.split_off(&position.saturating_sub(history));
                prop_assert_eq!(buffer.map().iter().map(ChunkSeq::get).collect::<Vec<_>>(),
                    set.iter().copied().collect::<Vec<_>>());
                let base = buffer.map().base().get();
                let missing: Vec<u64> = (position..base + window).filter(|seq| !set.contains(seq)).collect();
                prop_assert_eq!(buffer.missing().iter().map(|slot| base + slot).collect::<Vec<_>>(), missing);
            }
        }
    }
}
