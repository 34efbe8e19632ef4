//! Frames: how messages stand in a TCP stream.
//!
//! ```text
//!  0      1        2     3      4           8
//! +------+--------+-----+------+-----------+---------
//! | 0xC7 | version| kind| zero | length u32| body ...
//! +------+--------+-----+------+-----------+---------
//! ```
//! 0xC7 is no ASCII letter: one port takes frames and HTTP, told apart by the first byte. After a frame that cannot
//! be read the connection is closed: the next frame's beginning is not known.

use super::codec::DecodeError;
use super::exchange::Frame;
use super::{CHUNK_HEADER_BYTES, VERSION};
use crate::limits::{CHUNK_PAYLOAD_BYTES_MAX, CONTROL_BODY_BYTES_MAX};

/// First byte of every frame.
pub const FRAME_MAGIC: u8 = 0xC7;

/// Bytes in front of a body.
pub const FRAME_HEAD_BYTES: usize = 8;

/// Kind of the one frame whose body is not a [`Frame`]: a chunk's header and payload.
pub const KIND_CHUNK: u8 = 1;

/// Bytes in front of a chunk's payload in a frame (and in a ring's slot): frame head and chunk header.
pub const CHUNK_PREFIX_BYTES: usize = FRAME_HEAD_BYTES + CHUNK_HEADER_BYTES;

/// A checked frame head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The body's kind.
    pub kind: u8,
    /// The body's bytes, within the kind's limit.
    pub body_len: usize,
}

impl FrameHead {
    /// Reads the first [`FRAME_HEAD_BYTES`] of `bytes`. An error means that framing is lost.
    pub fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<FrameHead, DecodeError> {
        let [magic, version, kind, zero, len @ ..] = *bytes;
        if magic != FRAME_MAGIC {
            return Err(DecodeError::Magic);
        }
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        if zero != 0 {
            return Err(DecodeError::Value("frame head"));
        }
        let body_len = u32::from_be_bytes(len) as usize;
        let (what, max) = match kind {
            KIND_CHUNK => ("chunk frame", CHUNK_HEADER_BYTES + CHUNK_PAYLOAD_BYTES_MAX),
            _ => ("frame", CONTROL_BODY_BYTES_MAX),
        };
        if body_len > max {
            return Err(DecodeError::TooLong { what, got: body_len, max });
        }
        Ok(FrameHead { kind, body_len })
    }

    /// The encoded head.
    pub const fn encode(self) -> [u8; FRAME_HEAD_BYTES] {
        let [a, b, c, d] = (self.body_len as u32).to_be_bytes();
        [FRAME_MAGIC, VERSION, self.kind, 0, a, b, c, d]
    }
}

/// The prefix of a chunk's frame: frame head, then `header`.
pub fn chunk_prefix(header: &super::ChunkHeader) -> [u8; CHUNK_PREFIX_BYTES] {
    let mut prefix = [0; CHUNK_PREFIX_BYTES];
    let head = FrameHead { kind: KIND_CHUNK, body_len: CHUNK_HEADER_BYTES + header.payload_len as usize };
    prefix[..FRAME_HEAD_BYTES].copy_from_slice(&head.encode());
    prefix[FRAME_HEAD_BYTES..].copy_from_slice(&header.encode());
    prefix
}

impl Frame {
    /// Appends the whole frame, head and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        self.put_body(out);
        let head = FrameHead { kind: self.kind(), body_len: out.len() - start - FRAME_HEAD_BYTES };
        debug_assert!(head.body_len <= CONTROL_BODY_BYTES_MAX, "{} is over the limit of a control frame", self.name());
        out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&head.encode());
    }

    /// Reads the body of a frame whose head said `kind`, all of it. A chunk's is not read here.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Frame, DecodeError> {
        Frame::take_body(kind, body)
    }
}
