//! What is said of each stream beside its chunks: 128 bytes, written by control.
//!
//! ```text
//!  word 0           1        2       3          4                   6         7                        16
//!  +--------------+--------+--------+---------+-------------------+---------+------------------------+
//!  | generation   | viewers| bytes  | chunks  | state: length and | last    | name: length and       |
//!  | of the slot  |        | in     | missing | 8 bytes           | stored  | 64 bytes               |
//!  +--------------+--------+--------+---------+-------------------+---------+------------------------+
//! ```
//! The generation is stored last and says of which stream the rest is: a slot is used again by later streams.

use super::super::sync::{AtomicU64, Ordering, fence, load_acquire};
use super::{read_text, write_text};
use crate::limits::STREAM_NAME_BYTES_MAX;
use crate::time::WallClock;

/// Words for each stream; none under loom, as for the board.
pub(in super::super) const WORDS: usize = if cfg!(loom) { 0 } else { 16 };

const GENERATION: usize = 0;
const VIEWERS: usize = 1;
const BYTES_IN: usize = 2;
const MISSING: usize = 3;
const STATE: usize = 4;
const STORED: usize = 6;
const NAME: usize = 7;

const _: () = assert!(WORDS == 0 || (WORDS - NAME - 1) * 8 >= STREAM_NAME_BYTES_MAX, "a stream's name fits");

/// The facts of one stream, for control to state.
#[derive(Clone, Copy, Debug)]
pub struct StreamBoard<'a> {
    words: &'a [AtomicU64],
    generation: u64,
}

/// What is said of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamView {
    /// Its name, at most 64 characters.
    pub name: String,
    /// What the cache is to it, in a word.
    pub state: String,
    /// Viewers on all shards, and other caches that pull it.
    pub viewers: u64,
    /// Payload bytes stored since it was opened.
    pub bytes_in: u64,
    /// Chunks that its source skipped.
    pub missing: u64,
    /// When the last chunk was stored, by the node's clock.
    pub stored: WallClock,
}

impl<'a> StreamBoard<'a> {
    pub(super) fn new(words: &'a [AtomicU64], generation: u64) -> StreamBoard<'a> {
        StreamBoard { words, generation }
    }

    /// A stream has been opened: its name, and zeros.
    pub fn begin(self, name: &str) {
        if self.words.is_empty() {
            return;
        }
        self.words[GENERATION].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.words[VIEWERS..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        write_text(&self.words[NAME..], name);
        self.words[GENERATION].store(self.generation, Ordering::Release);
    }

    /// One more chunk, of so many payload bytes, was stored.
    pub fn stored(self, bytes: u64, now: WallClock) {
        if let Some(word) = self.words.get(BYTES_IN) {
            word.store(word.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
            self.words[STORED].store(now.micros(), Ordering::Relaxed);
        }
    }

    /// How it stands now. `state` has at most 8 bytes.
    pub fn state(self, state: &str, viewers: u32, missing: u64) {
        if self.words.is_empty() {
            return;
        }
        write_text(&self.words[STATE..STORED], state);
        self.words[VIEWERS].store(viewers.into(), Ordering::Relaxed);
        self.words[MISSING].store(missing, Ordering::Relaxed);
    }
}

/// What is said of the stream whose slot has `generation`; `None` when it is another's, or nothing.
pub(in super::super) fn read(words: &[AtomicU64], generation: u64) -> Option<StreamView> {
    if words.is_empty() || load_acquire(&words[GENERATION]) != generation {
        return None;
    }
    let number = |at: usize| words[at].load(Ordering::Relaxed);
    let view = StreamView {
        name: read_text(&words[NAME..]),
        state: read_text(&words[STATE..STORED]),
        viewers: number(VIEWERS),
        bytes_in: number(BYTES_IN),
        missing: number(MISSING),
        stored: WallClock::from_micros(number(STORED)),
    };
    fence(Ordering::Acquire);
    (number(GENERATION) == generation).then_some(view)
}
