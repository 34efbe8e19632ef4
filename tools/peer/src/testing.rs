//! What several modules' tests draw on.
#![allow(clippy::unwrap_used, reason = "tests")]

use cache_core::sign::PublisherKey;
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::ChunkHeader;
use cache_core::wire::frame::chunk_prefix;

use crate::net::framing::Chunk;

/// The publisher of every test chunk.
pub(crate) fn key() -> PublisherKey {
    PublisherKey::from_seed(&[7; 32])
}

/// A signed chunk of stream 1 with `len` bytes of transport stream that begin with its number, and no tables.
pub(crate) fn chunk(seq: u64, len: usize) -> Chunk {
    chunk_with(seq, 0, None, len)
}

/// A signed chunk of stream 1: `tables_len` bytes of `T`, then `len` bytes that begin with its number.
pub(crate) fn chunk_with(seq: u64, tables_len: u16, key_frame: Option<u32>, len: usize) -> Chunk {
    let mut payload = vec![b'T'; usize::from(tables_len)];
    payload.extend(format!("<{seq}>").bytes().chain(std::iter::repeat(b'.')).take(len));
    let mut header = ChunkHeader {
        stream: StreamId(1),
        epoch: Epoch(1),
        seq: ChunkSeq::new(seq),
        published: WallClock::from_micros(1_000_000 + seq * 200_000),
        payload_len: payload.len() as u32,
        tables_len,
        duration_ms: 200,
        key_frame,
        discontinuity: false,
        end: false,
        hash: [0; 32],
        signature: [0; 64],
    };
    key().sign_chunk(&mut header, &payload);
    let mut frame = chunk_prefix(&header).to_vec();
    frame.extend_from_slice(&payload);
    Chunk { header, frame: frame.into() }
}
