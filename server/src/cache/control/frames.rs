//! Frames off a link, one after the other, with a bound on memory and on time.
//!
//! The buffer holds one frame at the most: 4 KiB + 8 for a control frame, and it grows to a chunk's size only after
//! that chunk's head and header have been read and found within the limits. A chunk is told in two steps, header and
//! payload, so that who takes it can judge the first while the second is on its way.

use std::io;

use cache_core::time::Span;
use cache_core::wire::frame::FrameHead;
use cache_core::wire::{
    CHUNK_HEADER_BYTES, CHUNK_PREFIX_BYTES, ChunkHeader, DecodeError, FRAME_HEAD_BYTES, Frame, KIND_CHUNK,
};

use super::link::Link;
use super::wait::within;

/// Room that a link begins with: control frames, and small chunks (our guess: 100 kbit/s at 200 ms).
const BUFFER_BYTES: usize = 8 << 10;

/// So much of a payload is waited for before it is looked at: what BLAKE3 takes side by side.
const PIECE_BYTES: usize = 16 << 10;

/// What has come.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Not a chunk, whole.
    Frame(Frame),
    /// A chunk's header. [`Frames::payload`] gives the rest; without it there is no next frame.
    Chunk(ChunkHeader),
}

/// Why there is no next frame. The link is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The other side closed, between two frames.
    #[error("the connection was closed")]
    Closed,
    /// Nothing came.
    #[error("nothing was sent for too long")]
    Silent,
    /// A frame was begun and not finished.
    #[error("a frame was begun and not finished in time")]
    Unfinished,
    /// What came cannot be read: framing is lost.
    #[error("unreadable: {0}")]
    Bad(#[from] DecodeError),
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    fn of(error: io::Error) -> FrameError {
        if error.kind() == io::ErrorKind::TimedOut { FrameError::Unfinished } else { error.into() }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a frame's first byte.
    pub(super) idle: Span,
    /// For its last, from the first on.
    pub(super) whole: Span,
}

/// The reading side of a link.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Frames {
    /// Begins with bytes that were read before.
    pub(super) fn after(read: Vec<u8>) -> Frames {
        let end = read.len();
        let mut buffer = read;
        buffer.resize(end.max(BUFFER_BYTES), 0);
        Frames { buffer, start: 0, end }
    }

    /// The next frame, or a chunk's header.
    pub(super) async fn next(&mut self, link: &Link, patience: Patience) -> Result<Incoming, FrameError> {
        if self.end == self.start {
            let began = self.fill(link, 1, patience.idle).await;
            began.map_err(|error| if matches!(error, FrameError::Unfinished) { FrameError::Silent } else { error })?;
        }
        let whole = patience.whole;
        self.fill(link, FRAME_HEAD_BYTES, whole).await?;
        let head = FrameHead::decode(self.peek()?)?;
        let len = FRAME_HEAD_BYTES + head.body_len;
        if head.kind != KIND_CHUNK {
            self.fill(link, len, whole).await?;
            let frame = self.consume(len);
            return Ok(Incoming::Frame(Frame::decode(head.kind, &frame[FRAME_HEAD_BYTES..])?));
        }
        self.fill(link, CHUNK_PREFIX_BYTES, whole).await?;
        let prefix: &[u8; CHUNK_PREFIX_BYTES] = self.peek()?;
        let header = ChunkHeader::decode(&prefix[FRAME_HEAD_BYTES..])?;
        if CHUNK_HEADER_BYTES + header.payload_len as usize != head.body_len {
            return Err(DecodeError::Value("chunk length").into());
        }
        Ok(Incoming::Chunk(header))
    }

    /// The payload of the chunk whose header came last. `look` is shown all of it, piece by piece while it comes.
    pub(super) async fn payload(
        &mut self,
        link: &Link,
        header: &ChunkHeader,
        whole: Span,
        mut look: impl FnMut(&[u8]),
    ) -> Result<&[u8], FrameError> {
        let len = CHUNK_PREFIX_BYTES + header.payload_len as usize;
        self.make_room(len);
        let mut looked = CHUNK_PREFIX_BYTES;
        let filling = async {
            loop {
                let there = (self.end - self.start).min(len);
                if there == len || there >= looked + PIECE_BYTES {
                    look(&self.buffer[self.start + looked..self.start + there]);
                    looked = there;
                }
                if there == len {
                    return Ok(());
                }
                match link.read(&mut self.buffer[self.end..]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => self.end += n,
                }
            }
        };
        within(whole, filling).await.map_err(FrameError::of)?;
        Ok(&self.consume(len)[CHUNK_PREFIX_BYTES..])
    }

    /// Makes the buffer hold `need` unread bytes.
    fn make_room(&mut self, need: usize) {
        if self.start + need > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < need {
            self.buffer.resize(need, 0);
        }
    }

    fn peek<const N: usize>(&self) -> Result<&[u8; N], DecodeError> {
        self.buffer[self.start..self.end].first_chunk().ok_or(DecodeError::Truncated)
    }

    fn consume(&mut self, len: usize) -> &[u8] {
        let from = self.start;
        self.start += len;
        &self.buffer[from..self.start]
    }

    /// Reads until `need` unread bytes are there.
    async fn fill(&mut self, link: &Link, need: usize, span: Span) -> Result<(), FrameError> {
        if self.end - self.start >= need {
            return Ok(());
        }
        if self.start == self.end {
            // A chunk's bytes are mostly all there: with room for a whole one a single read takes them.
            (self.start, self.end) = (0, 0);
        }
        self.make_room(need);
        let filling = async {
            while self.end - self.start < need {
                match link.read(&mut self.buffer[self.end..]).await? {
                    0 if self.end == self.start => return Ok(false),
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => self.end += n,
                }
            }
            Ok(true)
        };
        match within(span, filling).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(FrameError::Closed),
            Err(error) => Err(FrameError::of(error)),
        }
    }
}
