//! Bytes of a native link, taken apart into frames. A chunk is compared while it arrives and is not kept; only the
//! first arrival of each is collected, to be verified in full. Without verifying, a chunk's head is read and its payload
//! is left to the kernel to throw away ([`Appetite::Discard`]).

use std::rc::Rc;

use cache_core::limits::CONTROL_BODY_BYTES_MAX;
use cache_core::wire::{
    CHUNK_HEADER_BYTES, CHUNK_PREFIX_BYTES, ChunkHeader, DecodeError, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK,
};

use super::library::{Chunk, Library};
use super::{Appetite, Discarded};

/// What has arrived whole.
#[derive(Debug)]
pub(crate) enum Arrival {
    Frame(Frame),
    Chunk {
        header: ChunkHeader,
        /// Header and payload.
        bytes: u64,
        /// Not found wrong (which a chunk that is not looked at never is).
        right: bool,
    },
    /// A chunk of an earlier publisher, not looked at.
    Earlier,
}

/// Where in a frame the link is.
#[derive(Debug)]
enum At {
    Head,
    Body {
        kind: u8,
        len: usize,
    },
    ChunkHeader {
        payload_len: usize,
    },
    Compare {
        header: ChunkHeader,
        twin: Rc<Chunk>,
        done: usize,
        same: bool,
    },
    Collect {
        header: ChunkHeader,
        payload: Vec<u8>,
    },
    Discard {
        header: ChunkHeader,
        left: usize,
    },
    /// An earlier publisher's chunk.
    Pass {
        left: usize,
    },
}

/// The reading side of a native link.
#[derive(Debug)]
pub(crate) struct Intake {
    at: At,
    /// Head, control body or chunk header as far as it has come: bounded by the largest of them.
    part: Vec<u8>,
    verify: bool,
}

impl Intake {
    /// With `verify` every chunk is verified; without it their payloads are not looked at.
    pub(crate) fn new(verify: bool) -> Intake {
        Intake { at: At::Head, part: Vec::new(), verify }
    }

    /// Takes `bytes`; what becomes whole is handed to `arrived` in order. After an error framing is lost.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        library: &mut Library,
        mut arrived: impl FnMut(Arrival, &mut Library),
    ) -> Result<(), DecodeError> {
        library.checked.bytes_read += bytes.len() as u64;
        while !bytes.is_empty() || self.is_whole() {
            bytes = self.step(bytes, library, &mut arrived)?;
        }
        Ok(())
    }

    /// What is wanted next.
    pub(crate) fn wants(&self) -> Appetite {
        let missing = |len: usize| Appetite::Read(len - self.part.len());
        match &self.at {
            At::Discard { left, .. } | At::Pass { left } => Appetite::Discard(*left),
            _ if self.verify => Appetite::Read(usize::MAX),
            // A chunk is what comes most often.
            At::Head => missing(CHUNK_PREFIX_BYTES),
            At::Body { len, .. } => missing(*len),
            At::ChunkHeader { .. } => missing(CHUNK_HEADER_BYTES),
            At::Compare { .. } | At::Collect { .. } => Appetite::Read(usize::MAX),
        }
    }

    /// `len` bytes were thrown away unread, no more than [`Intake::wants`] allowed.
    pub(crate) fn discarded(
        &mut self,
        len: usize,
        library: &mut Library,
        mut arrived: impl FnMut(Arrival, &mut Library),
    ) -> Discarded {
        let (At::Discard { left, .. } | At::Pass { left }) = &mut self.at else {
            debug_assert!(false, "nothing was to be discarded");
            return Discarded::Part;
        };
        *left = left.saturating_sub(len);
        library.checked.bytes_discarded += len as u64;
        if *left > 0 {
            return Discarded::Part;
        }
        self.pass(library, &mut arrived);
        Discarded::Whole
    }

    /// The end of a payload that nobody looked at.
    fn pass(&mut self, library: &mut Library, arrived: &mut impl FnMut(Arrival, &mut Library)) {
        match std::mem::replace(&mut self.at, At::Head) {
            At::Discard { header, .. } => {
                let right = library.note(&header);
                self.end(header, right, library, arrived);
            }
            _ => {
                self.part.clear();
                arrived(Arrival::Earlier, library);
            }
        }
    }

    /// Whether the present part needs no further byte (an empty payload or body).
    fn is_whole(&self) -> bool {
        match &self.at {
            At::Head => false,
            At::Body { len, .. } => self.part.len() == *len,
            At::ChunkHeader { .. } => false,
            At::Compare { twin, done, .. } => *done == twin.payload.len(),
            At::Collect { header, payload } => payload.len() == header.payload_len as usize,
            At::Discard { left, .. } | At::Pass { left } => *left == 0,
        }
    }

    /// Takes some of `bytes` and returns the rest.
    fn step<'b>(
        &mut self,
        bytes: &'b [u8],
        library: &mut Library,
        arrived: &mut impl FnMut(Arrival, &mut Library),
    ) -> Result<&'b [u8], DecodeError> {
        match &mut self.at {
            At::Head => {
                let (whole, rest) = fill(&mut self.part, FRAME_HEAD_BYTES, bytes);
                if whole {
                    let head: &[u8; FRAME_HEAD_BYTES] = self.part.first_chunk().ok_or(DecodeError::Truncated)?;
                    self.at = begin(FrameHead::decode(head)?)?;
                    self.part.clear();
                }
                Ok(rest)
            }
            At::Body { kind, len } => {
                let (whole, rest) = fill(&mut self.part, *len, bytes);
                if whole {
                    let frame = Frame::decode(*kind, &self.part)?;
                    self.part.clear();
                    self.at = At::Head;
                    arrived(Arrival::Frame(frame), library);
                }
                Ok(rest)
            }
            At::ChunkHeader { payload_len } => {
                let (whole, rest) = fill(&mut self.part, CHUNK_HEADER_BYTES, bytes);
                if whole {
                    let header = ChunkHeader::decode(&self.part)?;
                    if header.payload_len as usize != *payload_len {
                        return Err(DecodeError::Value("chunk length"));
                    }
                    self.at = self.receive(header, library);
                    if !matches!(self.at, At::Collect { .. }) {
                        self.part.clear();
                    }
                }
                Ok(rest)
            }
            At::Compare { header, twin, done, same } => {
                let len = bytes.len().min(twin.payload.len() - *done);
                let (some, rest) = bytes.split_at(len);
                *same &= twin.payload[*done..*done + len] == *some;
                *done += len;
                if *done == twin.payload.len() {
                    let (header, right) = (*header, *same);
                    library.checked.by_comparison += 1;
                    self.end(header, right, library, arrived);
                }
                Ok(rest)
            }
            At::Collect { header, payload } => {
                let len = bytes.len().min(header.payload_len as usize - payload.len());
                let (some, rest) = bytes.split_at(len);
                payload.extend_from_slice(some);
                if payload.len() == header.payload_len as usize {
                    let (header, payload) = (*header, std::mem::take(payload));
                    let bytes: &[u8; CHUNK_HEADER_BYTES] = self.part.first_chunk().ok_or(DecodeError::Truncated)?;
                    let right = library.judge(&header, bytes, payload);
                    self.end(header, right, library, arrived);
                }
                Ok(rest)
            }
            At::Discard { left, .. } | At::Pass { left } => {
                let len = bytes.len().min(*left);
                *left -= len;
                if *left == 0 {
                    self.pass(library, arrived);
                }
                Ok(&bytes[len..])
            }
        }
    }

    /// How the payload behind `header` (whose bytes are in `part`) is taken.
    fn receive(&self, header: ChunkHeader, library: &Library) -> At {
        if library.is_earlier(&header) {
            return At::Pass { left: header.payload_len as usize };
        }
        if !self.verify {
            return At::Discard { header, left: header.payload_len as usize };
        }
        let twin = self.part.first_chunk().and_then(|bytes| library.twin(header.seq.get(), bytes));
        match twin {
            Some(twin) => At::Compare { header, twin, done: 0, same: true },
            // Its length was checked against the largest chunk.
            None => At::Collect { header, payload: Vec::with_capacity(header.payload_len as usize) },
        }
    }

    fn end(
        &mut self,
        header: ChunkHeader,
        right: bool,
        library: &mut Library,
        arrived: &mut impl FnMut(Arrival, &mut Library),
    ) {
        self.at = At::Head;
        self.part.clear();
        let bytes = (CHUNK_HEADER_BYTES + header.payload_len as usize) as u64;
        arrived(Arrival::Chunk { header, bytes, right }, library);
    }
}

/// What comes behind a frame head.
fn begin(head: FrameHead) -> Result<At, DecodeError> {
    if head.kind != KIND_CHUNK {
        debug_assert!(head.body_len <= CONTROL_BODY_BYTES_MAX, "the head was checked");
        return Ok(At::Body { kind: head.kind, len: head.body_len });
    }
    let payload_len = head.body_len.checked_sub(CHUNK_HEADER_BYTES).ok_or(DecodeError::Truncated)?;
    Ok(At::ChunkHeader { payload_len })
}

/// Moves bytes into `part` until it is `len` long; whether it is, and the rest.
fn fill<'b>(part: &mut Vec<u8>, len: usize, bytes: &'b [u8]) -> (bool, &'b [u8]) {
    let (some, rest) = bytes.split_at(bytes.len().min(len - part.len()));
    part.extend_from_slice(some);
    (part.len() == len, rest)
}
