//! The chunk: 200 ms of media, its header, its signature.
//!
//! ```text
//!  frame head 8 | chunk header 144                                   | payload
//! --------------+----------------------------------------------------+--------------------------
//!  magic kind   | stream epoch seq clock sizes hash ....... signature| tables | transport stream
//!  length       |<------------- signed: 80 bytes ------->|<-- 64 --->| 0..3008|
//! ```
//! The hash is BLAKE3 over the whole payload, so the signature covers every byte. *Tables* are copies of the stream's
//! newest PAT and PMT packets: they stand in front of chunks with a key frame and at least every 25 chunks, so that a
//! viewer can begin there; they are no part of the transport stream and are not played otherwise.

use super::codec::{DecodeError, Reader, Wire};
use crate::limits::{CHUNK_PAYLOAD_BYTES_MAX, TABLES_BYTES_MAX, TS_PACKET_BYTES};
use crate::time::WallClock;
use crate::units::{ChunkSeq, Epoch, StreamId};

/// Bytes of an encoded [`ChunkHeader`].
pub const CHUNK_HEADER_BYTES: usize = 144;

/// The part of it that the signature covers.
pub const CHUNK_SIGNED_BYTES: usize = 80;

const NO_KEY_FRAME: u32 = u32::MAX;
const FLAG_DISCONTINUITY: u8 = 1;
const FLAG_END: u8 = 2;

/// What a publisher says of a chunk, signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The stream.
    pub stream: StreamId,
    /// The publisher's term.
    pub epoch: Epoch,
    /// The chunk's number in the stream.
    pub seq: ChunkSeq,
    /// The publisher's wall clock when the chunk was cut, that is when its last byte was there.
    pub published: WallClock,
    /// Bytes of payload, tables included: at most [`CHUNK_PAYLOAD_BYTES_MAX`].
    pub payload_len: u32,
    /// Bytes of tables in front of the transport stream: a multiple of 188, at most [`TABLES_BYTES_MAX`].
    pub tables_len: u16,
    /// Media time in the chunk in milliseconds; 200 but for the last one before a gap, above 40 Mbit/s (less), and
    /// where a stream sends no packet in 200 ms (more).
    pub duration_ms: u16,
    /// Where the first key frame begins, in bytes from the first byte behind the tables; `None` without one. In a
    /// stream without video, where the first audio frame begins.
    pub key_frame: Option<u32>,
    /// The stream's clock does not go on from the chunk before.
    pub discontinuity: bool,
    /// The last chunk: the publisher has ended the stream.
    pub end: bool,
    /// BLAKE3 of the payload.
    pub hash: [u8; 32],
    /// Ed25519 over the first [`CHUNK_SIGNED_BYTES`].
    pub signature: [u8; 64],
}

impl ChunkHeader {
    /// The encoded header. Cost: a copy of 144 bytes, no allocation.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        let mut b = [0; CHUNK_HEADER_BYTES];
        b[0..8].copy_from_slice(&self.stream.0.to_be_bytes());
        b[8..16].copy_from_slice(&self.epoch.0.to_be_bytes());
        b[16..24].copy_from_slice(&self.seq.get().to_be_bytes());
        b[24..32].copy_from_slice(&self.published.micros().to_be_bytes());
        b[32..36].copy_from_slice(&self.payload_len.to_be_bytes());
        b[36..40].copy_from_slice(&self.key_frame.unwrap_or(NO_KEY_FRAME).to_be_bytes());
        b[40..42].copy_from_slice(&self.tables_len.to_be_bytes());
        b[42..44].copy_from_slice(&self.duration_ms.to_be_bytes());
        b[44] = (FLAG_DISCONTINUITY * u8::from(self.discontinuity)) | (FLAG_END * u8::from(self.end));
        // 45..48 are zero: reserved.
        b[48..80].copy_from_slice(&self.hash);
        b[80..144].copy_from_slice(&self.signature);
        b
    }

    /// Reads a header from the first [`CHUNK_HEADER_BYTES`] of `bytes` and checks its ranges; the signature is
    /// checked by [`crate::sign`].
    pub fn decode(bytes: &[u8]) -> Result<ChunkHeader, DecodeError> {
        let mut r = Reader::new(bytes);
        let stream = StreamId::take(&mut r)?;
        let epoch = Epoch::take(&mut r)?;
        let seq = ChunkSeq::take(&mut r)?;
        let published = WallClock::take(&mut r)?;
        let payload_len = u32::take(&mut r)?;
        let key_frame = u32::take(&mut r)?;
        let tables_len = u16::take(&mut r)?;
        let duration_ms = u16::take(&mut r)?;
        let flags = u8::take(&mut r)?;
        let reserved: [u8; 3] = r.array()?;
        if payload_len as usize > CHUNK_PAYLOAD_BYTES_MAX {
            return Err(DecodeError::TooLong {
                what: "chunk payload",
                got: payload_len as usize,
                max: CHUNK_PAYLOAD_BYTES_MAX,
            });
        }
        let tables = usize::from(tables_len);
        if tables > TABLES_BYTES_MAX || tables % TS_PACKET_BYTES != 0 || tables > payload_len as usize {
            return Err(DecodeError::Value("tables length"));
        }
        let key_frame = (key_frame != NO_KEY_FRAME).then_some(key_frame);
        if key_frame.is_some_and(|at| at as usize >= payload_len as usize - tables) {
            return Err(DecodeError::Value("key-frame offset"));
        }
        if flags & !(FLAG_DISCONTINUITY | FLAG_END) != 0 || reserved != [0; 3] {
            return Err(DecodeError::Value("chunk flags"));
        }
        Ok(ChunkHeader {
            stream,
            epoch,
            seq,
            published,
            payload_len,
            tables_len,
            duration_ms,
            key_frame,
            discontinuity: flags & FLAG_DISCONTINUITY != 0,
            end: flags & FLAG_END != 0,
            hash: r.array()?,
            signature: r.array()?,
        })
    }

    /// The part of the encoded header that is signed.
    pub fn signed_bytes(&self) -> [u8; CHUNK_SIGNED_BYTES] {
        let mut signed = [0; CHUNK_SIGNED_BYTES];
        signed.copy_from_slice(&self.encode()[..CHUNK_SIGNED_BYTES]);
        signed
    }

    /// Whether a viewer can begin here: the chunk carries tables and a key frame.
    pub const fn is_join_point(&self) -> bool {
        self.tables_len > 0 && self.key_frame.is_some()
    }
}
