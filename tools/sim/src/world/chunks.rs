//! Chunks as the simulator has them: names and contents, no bytes.
//!
//! Each chunk that a publisher sends is entered here once; what travels is its place in this table and a *content*: a
//! number that stands for the payload and follows from stream position and take (a run of the publisher's encoder: the
//! same payload sent again under a new term has the same content). A chunk whose content is not the right one is corrupt.

use cache_core::prng::mix;
use cache_core::time::{Time, WallClock};
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::{CHUNK_PREFIX_BYTES, ChunkHeader};

/// The publisher's wall clock at the simulation's time zero (some day in 2023).
pub(crate) const WALL_AT_ZERO: WallClock = WallClock::from_micros(1_700_000_000_000_000);

/// What a cut chunk is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) seq: ChunkSeq,
    pub(crate) epoch: Epoch,
    pub(crate) at: Time,
    pub(crate) take: u32,
    pub(crate) join_point: bool,
}

/// Every chunk that was ever sent by a publisher.
#[derive(Debug)]
pub(crate) struct Chunks {
    stream: StreamId,
    payload_bytes: u32,
    all: Vec<Cut>,
}

impl Chunks {
    /// None yet; each has `payload_bytes`.
    pub(crate) fn new(stream: StreamId, payload_bytes: u32) -> Chunks {
        Chunks { stream, payload_bytes, all: Vec::new() }
    }

    /// Enters a chunk; its place.
    pub(crate) fn enter(&mut self, cut: Cut) -> u32 {
        self.all.push(cut);
        self.all.len() as u32 - 1
    }

    /// The chunk at a place.
    pub(crate) fn get(&self, chunk: u32) -> &Cut {
        &self.all[chunk as usize]
    }

    /// Its right content.
    pub(crate) fn content(&self, chunk: u32) -> u64 {
        let cut = self.get(chunk);
        mix(cut.seq.get() ^ (u64::from(cut.take) << 48) ^ self.stream.0)
    }

    /// Bytes of a chunk's frame.
    pub(crate) const fn frame_bytes(&self) -> u64 {
        CHUNK_PREFIX_BYTES as u64 + self.payload_bytes as u64
    }

    /// Its header. Hash and signature are left empty: what they prove, the content does.
    pub(crate) fn header(&self, chunk: u32) -> ChunkHeader {
        let cut = self.get(chunk);
        ChunkHeader {
            stream: self.stream,
            epoch: cut.epoch,
            seq: cut.seq,
            published: WALL_AT_ZERO.after(cut.at.since(Time::ZERO)),
            payload_len: self.payload_bytes,
            tables_len: if cut.join_point { 376 } else { 0 },
            duration_ms: 200,
            key_frame: cut.join_point.then_some(0),
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        }
    }
}
