//! What control keeps with each stream in the ring for the process that takes it over: all that the ring does not know.
//!
//! ```text
//!  version 1 | pulled | epoch | next | name | keys, newest first
//! ```

use cache_core::limits::{KEYS_PER_STREAM_MAX, STREAM_NAME_BYTES_MAX};
use cache_core::proto::cache::streams::{FormerStream, Stream};
use cache_core::ring::{InheritedStream, NOTE_BYTES_MAX, StreamSlot};
use cache_core::sign::stream_id;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::StreamName;
use cache_core::wire::codec::{DecodeError, List, Reader, Wire};
use cache_core::wire::index::StreamKey;

const VERSION: u8 = 1;

/// Bytes of the longest note.
const LONGEST: usize = 1 + 1 + 8 + 8 + (1 + STREAM_NAME_BYTES_MAX) + (1 + KEYS_PER_STREAM_MAX * 40);
const _: () = assert!(LONGEST <= NOTE_BYTES_MAX, "every note fits the ring");

/// What is noted of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    name: StreamName,
    pulled: bool,
    epoch: Epoch,
    /// Where numbering goes on at the least: above what the ring knows when its newest chunk was lost.
    next: ChunkSeq,
    keys: List<StreamKey, KEYS_PER_STREAM_MAX>,
}

/// A stream of the process before this one, with all that is known of it.
#[derive(Debug)]
pub(super) struct TakenOver {
    pub(super) id: StreamId,
    pub(super) slot: StreamSlot,
    pub(super) was: FormerStream,
    pub(super) keys: Vec<StreamKey>,
}

impl Note {
    /// The note of a stream in the table with these keys.
    pub(super) fn of(stream: &Stream, keys: Vec<StreamKey>) -> Note {
        Note {
            name: stream.name().clone(),
            pulled: stream.is_pulled(),
            epoch: stream.ingest().epoch(),
            next: stream.ingest().next(),
            keys: List::first_of(keys),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.pulled.put(&mut out);
        self.epoch.put(&mut out);
        self.next.put(&mut out);
        self.name.put(&mut out);
        self.keys.put(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Note, DecodeError> {
        let mut r = Reader::new(bytes);
        if u8::take(&mut r)? != VERSION {
            return Err(DecodeError::Value("note's version"));
        }
        let pulled = bool::take(&mut r)?;
        let epoch = Epoch::take(&mut r)?;
        let next = ChunkSeq::take(&mut r)?;
        let name = StreamName::take(&mut r)?;
        let keys = List::take(&mut r)?;
        r.finish()?;
        Ok(Note { name, pulled, epoch, next, keys })
    }
}

/// What the ring and its note say together; `None` when the note is missing, damaged or another stream's: nobody could
/// ask for such a stream.
pub(super) fn read(found: &InheritedStream) -> Option<TakenOver> {
    let note = Note::decode(&found.note).ok().filter(|note| stream_id(&note.name) == found.id)?;
    let was = FormerStream {
        name: note.name,
        epoch: note.epoch.max(found.epoch),
        head: found.head,
        next: note.next.max(found.next),
        end: found.end,
        pulled: note.pulled,
    };
    Some(TakenOver { id: found.id, slot: found.slot, was, keys: note.keys.into_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Note {
            name: StreamName::new(&"n".repeat(STREAM_NAME_BYTES_MAX)).expect("a name"),
            pulled: true,
            epoch: Epoch(u64::MAX),
            next: ChunkSeq::new(7),
            keys: List::first_of((0..9).map(|n| StreamKey { epoch: Epoch(n), key: [n as u8; 32] })),
        };
        let bytes = note.encode();
        assert_eq!((bytes.len(), Note::decode(&bytes)), (LONGEST, Ok(note)));
        for len in 0..bytes.len() {
            assert!(Note::decode(&bytes[..len]).is_err(), "{len} bytes of it");
        }
    }
}
