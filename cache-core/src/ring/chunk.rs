//! Names: how readers and the writer speak of streams and chunks without touching a byte of them.

use crate::time::WallClock;
use crate::units::{ChunkSeq, Epoch};

/// An open stream's place in the ring. Once the stream is closed the name is dead for good: a later stream in the same
/// place has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamSlot {
    pub(super) index: u32,
    pub(super) generation: u64,
}

/// What the ring keeps of a chunk's header: enough to decide about it without reading its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Number in the stream. `u64::MAX` is not allowed.
    pub seq: ChunkSeq,
    /// The publisher's term.
    pub epoch: Epoch,
    /// The publisher's wall clock.
    pub published: WallClock,
    /// Bytes of payload, tables included; with the prefix of 152 bytes it is the reservation's length.
    pub payload_len: u32,
    /// Bytes of tables in front of the transport stream.
    pub tables_len: u16,
    /// Offset of the first key frame behind the tables.
    pub key_frame: Option<u32>,
    /// Media time in milliseconds.
    pub duration_ms: u16,
    /// The stream's clock does not go on from the chunk before.
    pub discontinuity: bool,
    /// The publisher ended the stream with this chunk.
    pub end: bool,
}

impl ChunkMeta {
    /// Whether a viewer can begin here: the chunk carries tables and a key frame.
    pub const fn is_join_point(&self) -> bool {
        self.tables_len > 0 && self.key_frame.is_some()
    }
}

/// A chunk's place: names and numbers only, freely copied. It goes stale when its segment is recycled;
/// [`Reader::lease`](super::Reader::lease) and [`View::valid`](super::View::valid) tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// The stream.
    pub slot: StreamSlot,
    /// The chunk's number; also in `meta`.
    pub seq: ChunkSeq,
    /// The segment that holds it.
    pub segment: u32,
    /// The segment's generation when the chunk was written.
    pub generation: u64,
    /// Where the prefix begins in [`Ring::file`](super::Ring::file), in bytes.
    pub file_offset: u64,
    /// Bytes of prefix and payload.
    pub len: u32,
    /// What its header says.
    pub meta: ChunkMeta,
    /// It was written by a process that has died since, and its payload has not been checked in this one:
    /// [`Reader::vouch`](super::Reader::vouch) does, and no lease is given before.
    pub suspect: bool,
}

/// The answer to "is this chunk there?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is, or was a moment ago.
    Ready(ChunkRef),
    /// It is newer than the newest: ask again when the stream moves on.
    NotYet,
    /// It is older than the oldest, it was never published (a hole), the stream has been closed, or it was
    /// inherited and did not pass its check.
    Gone,
}
