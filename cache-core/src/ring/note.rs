//! A stream's note: a few bytes that the writer's owner keeps with a stream for whoever takes the ring over.
//!
//! Two cells for each stream. A note is written into the cell that is not current, then the entry's count of notes goes
//! up by one, which makes it current: a process that is killed on the way leaves the former note. The checksum is for
//! files that were damaged otherwise.
//!
//! ```text
//!  word 0      1       2 ...                    63
//!  +---------+-------+--------------------------+
//!  | checksum| length| the bytes, then zeros    |
//!  +---------+-------+--------------------------+
//! ```

use super::layout::NOTE_WORDS;
use super::sync::{AtomicU64, Ordering, fence};
use crate::units::StreamId;

/// Most bytes of a note.
pub const NOTE_BYTES_MAX: usize = (NOTE_WORDS - BYTES) * 8;

const CHECKSUM: usize = 0;
const LENGTH: usize = 1;
const BYTES: usize = 2;

/// One cell in the control area.
#[derive(Clone, Copy)]
pub(super) struct NoteCell<'a>(pub(super) &'a [AtomicU64]);

impl NoteCell<'_> {
    /// Fills the cell. `note.len() <= NOTE_BYTES_MAX`. The writer only, and only a cell that is not current.
    pub(super) fn write(self, id: StreamId, note: &[u8]) {
        // No store below comes before the one that made the other cell current.
        fence(Ordering::Release);
        self.0[CHECKSUM].store(checksum(id, note), Ordering::Relaxed);
        self.0[LENGTH].store(note.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.0[BYTES..].iter().zip(note.chunks(8)) {
            let mut value = [0; 8];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
        }
    }

    /// What the cell says; `None` when it is damaged.
    pub(super) fn read(self, id: StreamId) -> Option<Vec<u8>> {
        let len = usize::try_from(self.0[LENGTH].load(Ordering::Relaxed)).ok().filter(|len| *len <= NOTE_BYTES_MAX)?;
        let words = self.0[BYTES..].iter().map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        let note: Vec<u8> = words.flatten().take(len).collect();
        (self.0[CHECKSUM].load(Ordering::Relaxed) == checksum(id, &note)).then_some(note)
    }
}

/// Over the stream's id too: a note that was moved to another stream is none.
fn checksum(id: StreamId, note: &[u8]) -> u64 {
    let hash = blake3::Hasher::new().update(&id.0.to_ne_bytes()).update(note).finalize();
    u64::from_ne_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}
