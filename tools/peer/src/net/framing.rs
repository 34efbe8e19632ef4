//! Bytes to frames, however they are cut up on the way.
//!
//! ```text
//!   head 8 --> body <= 4096 -----------------------------> Incoming::Frame
//!      \-----> chunk header 144 --> payload <= 1 MiB ----> Incoming::Chunk   one buffer: prefix and payload as sent
//! ```
//! The head is checked before its body is made room for, a chunk's header before its payload is. A payload is read
//! from the socket straight into its buffer ([`FrameReader::payload_room`]), which stays as it is until the chunk is
//! forgotten: prefix and payload together are the frame that other peers are sent.
//!
//! Before a link's first frame is whole its sender is nobody: that frame is no chunk and is short.

use bytes::Bytes;
use cache_core::wire::{
    CHUNK_HEADER_BYTES, CHUNK_PREFIX_BYTES, ChunkHeader, DecodeError, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK,
};

/// Longest body of a link's first frame: a Hello with a ticket has under 300 bytes, a list of partners in front of a
/// refusal under 900.
const FIRST_BODY_BYTES_MAX: usize = 1024;

/// What a link brought.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// A frame.
    Frame(Frame),
    /// A chunk, not checked.
    Chunk(Chunk),
}

/// A chunk's frame as it goes over a link.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Its header, decoded.
    pub(crate) header: ChunkHeader,
    /// [`CHUNK_PREFIX_BYTES`], then the payload.
    pub(crate) frame: Bytes,
}

impl Chunk {
    /// The payload: tables, then transport stream.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.frame[CHUNK_PREFIX_BYTES..]
    }

    /// The tables alone; shares the frame's memory.
    pub(crate) fn tables(&self) -> Bytes {
        self.frame.slice(CHUNK_PREFIX_BYTES..CHUNK_PREFIX_BYTES + usize::from(self.header.tables_len))
    }

    /// The transport stream alone; shares the frame's memory.
    pub(crate) fn transport_stream(&self) -> Bytes {
        self.frame.slice(CHUNK_PREFIX_BYTES + usize::from(self.header.tables_len)..)
    }
}

/// Puts frames together. After an error framing is lost: the link has to be closed.
#[derive(Debug)]
pub(crate) struct FrameReader {
    /// Frame head, and a chunk's header behind it.
    prefix: [u8; CHUNK_PREFIX_BYTES],
    got: usize,
    state: State,
    first: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body { kind: u8, want: usize, body: Vec<u8> },
    ChunkHeader { body_len: usize },
    Payload { header: ChunkHeader, frame: Vec<u8>, filled: usize },
}

impl FrameReader {
    /// At the beginning of a frame.
    pub(crate) const fn new() -> FrameReader {
        FrameReader { prefix: [0; CHUNK_PREFIX_BYTES], got: 0, state: State::Head, first: true }
    }

    /// Whether a frame has begun and is not whole.
    pub(crate) const fn is_within_frame(&self) -> bool {
        self.got > 0
    }

    /// The rest of a payload that has begun: read into it, then tell [`FrameReader::filled`]. `None` elsewhere.
    pub(crate) fn payload_room(&mut self) -> Option<&mut [u8]> {
        match &mut self.state {
            State::Payload { frame, filled, .. } => Some(&mut frame[*filled..]),
            _ => None,
        }
    }

    /// `len` bytes of [`FrameReader::payload_room`] were filled. The chunk, when that was the last of them.
    pub(crate) fn filled(&mut self, len: usize) -> Option<Incoming> {
        if let State::Payload { filled, .. } = &mut self.state {
            *filled += len;
        }
        self.take_chunk()
    }

    /// Takes in `bytes`, adding what is whole to `out`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<Incoming>) -> Result<(), DecodeError> {
        loop {
            match &mut self.state {
                State::Head => {
                    if !fill(&mut self.prefix[..FRAME_HEAD_BYTES], &mut self.got, &mut bytes) {
                        return Ok(());
                    }
                    self.begin_body()?;
                }
                State::Body { kind, want, body } => {
                    let (now, rest) = bytes.split_at(bytes.len().min(*want - body.len()));
                    body.extend_from_slice(now);
                    bytes = rest;
                    if body.len() < *want {
                        return Ok(());
                    }
                    out.push(Incoming::Frame(Frame::decode(*kind, body)?));
                    self.restart();
                }
                State::ChunkHeader { body_len } => {
                    let body_len = *body_len;
                    if !fill(&mut self.prefix, &mut self.got, &mut bytes) {
                        return Ok(());
                    }
                    self.begin_payload(body_len)?;
                }
                State::Payload { frame, filled, .. } => {
                    let (now, rest) = bytes.split_at(bytes.len().min(frame.len() - *filled));
                    frame[*filled..*filled + now.len()].copy_from_slice(now);
                    *filled += now.len();
                    bytes = rest;
                    match self.take_chunk() {
                        Some(chunk) => out.push(chunk),
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    fn begin_body(&mut self) -> Result<(), DecodeError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        head.copy_from_slice(&self.prefix[..FRAME_HEAD_BYTES]);
        let FrameHead { kind, body_len } = FrameHead::decode(&head)?;
        if self.first && (kind == KIND_CHUNK || body_len > FIRST_BODY_BYTES_MAX) {
            return Err(DecodeError::Value("first frame"));
        }
        self.state = match kind {
            KIND_CHUNK if body_len < CHUNK_HEADER_BYTES => return Err(DecodeError::Truncated),
            KIND_CHUNK => State::ChunkHeader { body_len },
            kind => State::Body { kind, want: body_len, body: Vec::with_capacity(body_len) },
        };
        Ok(())
    }

    fn begin_payload(&mut self, body_len: usize) -> Result<(), DecodeError> {
        let header = ChunkHeader::decode(&self.prefix[FRAME_HEAD_BYTES..])?;
        if body_len != CHUNK_HEADER_BYTES + header.payload_len as usize {
            return Err(DecodeError::Value("chunk frame length"));
        }
        let mut frame = vec![0; FRAME_HEAD_BYTES + body_len];
        frame[..CHUNK_PREFIX_BYTES].copy_from_slice(&self.prefix);
        self.state = State::Payload { header, frame, filled: CHUNK_PREFIX_BYTES };
        Ok(())
    }

    fn take_chunk(&mut self) -> Option<Incoming> {
        match &mut self.state {
            State::Payload { header, frame, filled } if *filled == frame.len() => {
                let chunk = Chunk { header: *header, frame: std::mem::take(frame).into() };
                self.restart();
                Some(Incoming::Chunk(chunk))
            }
            _ => None,
        }
    }

    fn restart(&mut self) {
        self.state = State::Head;
        self.got = 0;
        self.first = false;
    }
}

/// Moves bytes from the front of `from` behind the first `got` of `to`. True when `to` is full.
fn fill(to: &mut [u8], got: &mut usize, from: &mut &[u8]) -> bool {
    let (now, rest) = from.split_at(from.len().min(to.len() - *got));
    to[*got..*got + now.len()].copy_from_slice(now);
    *got += now.len();
    *from = rest;
    *got == to.len()
}

#[cfg(test)]
mod tests {
    use cache_core::limits::CHUNK_PAYLOAD_BYTES_MAX;
    use cache_core::units::{ChunkSeq, StreamId};
    use cache_core::wire::exchange::{Ack, PartnersQuery};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::chunk;

    fn ack(seq: u64) -> Frame {
        Ack { stream: StreamId(1), seq: ChunkSeq::new(seq) }.into()
    }

    /// A stream of frames and chunks with what should come out.
    fn conversation(lens: &[usize]) -> (Vec<u8>, Vec<Incoming>) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (i, len) in lens.iter().enumerate() {
            ack(i as u64).encode(&mut bytes);
            expected.push(Incoming::Frame(ack(i as u64)));
            let chunk = chunk(i as u64, *len);
            bytes.extend_from_slice(&chunk.frame);
            expected.push(Incoming::Chunk(chunk));
            Frame::from(PartnersQuery {}).encode(&mut bytes);
            expected.push(Incoming::Frame(PartnersQuery {}.into()));
        }
        (bytes, expected)
    }

    proptest! {
        #[test]
        fn fragmentation_changes_nothing(
            lens in prop::collection::vec(0usize..3_000, 0..5),
            cuts in prop::collection::vec((1usize..700, any::<bool>()), 1..40),
        ) {
            let (bytes, expected) = conversation(&lens);
            let (mut reader, mut out, mut rest) = (FrameReader::new(), Vec::new(), &bytes[..]);
            for (len, straight) in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let mut len = (*len).min(rest.len());
                match reader.payload_room().filter(|_| *straight) {
                    Some(room) => {
                        len = len.min(room.len());
                        room[..len].copy_from_slice(&rest[..len]);
                        out.extend(reader.filled(len));
                    }
                    None => reader.feed(&rest[..len], &mut out).expect("well formed"),
                }
                rest = &rest[len..];
            }
            prop_assert_eq!(out, expected);
            prop_assert!(!reader.is_within_frame());
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut reader = FrameReader::new();
            let _ = reader.feed(&bytes, &mut Vec::new());
        }

        #[test]
        fn a_damaged_byte_never_panics(at in 0usize..400, value: u8) {
            let (mut bytes, _) = conversation(&[120, 7]);
            bytes[at] = value;
            let mut reader = FrameReader::new();
            let _ = reader.feed(&bytes, &mut Vec::new());
        }
    }

    /// A reader that has seen a first frame.
    fn greeted() -> FrameReader {
        let (mut reader, mut bytes) = (FrameReader::new(), Vec::new());
        ack(0).encode(&mut bytes);
        reader.feed(&bytes, &mut Vec::new()).expect("a frame");
        reader
    }

    #[test]
    fn a_stranger_cannot_begin_with_a_chunk_or_a_long_frame() {
        for head in [FrameHead { kind: KIND_CHUNK, body_len: 300 }, FrameHead { kind: 2, body_len: 1_025 }] {
            let refused = FrameReader::new().feed(&head.encode(), &mut Vec::new());
            assert_eq!(refused, Err(DecodeError::Value("first frame")));
            assert_eq!(greeted().feed(&head.encode(), &mut Vec::new()), Ok(()));
        }
    }

    #[test]
    fn an_oversize_chunk_is_refused_by_its_head_alone() {
        let head = FrameHead { kind: KIND_CHUNK, body_len: CHUNK_HEADER_BYTES + CHUNK_PAYLOAD_BYTES_MAX + 1 };
        let refused = greeted().feed(&head.encode(), &mut Vec::new());
        assert!(matches!(refused, Err(DecodeError::TooLong { .. })), "{refused:?}");
    }

    #[test]
    fn a_length_that_lies_about_its_header_gets_no_buffer() {
        let chunk = chunk(1, 1_000);
        let mut frame = chunk.frame[..CHUNK_PREFIX_BYTES].to_vec();
        frame[..8].copy_from_slice(&FrameHead { kind: KIND_CHUNK, body_len: 900_000 }.encode());
        let mut reader = greeted();
        let refused = reader.feed(&frame, &mut Vec::new());
        assert_eq!(refused, Err(DecodeError::Value("chunk frame length")));
        assert!(reader.payload_room().is_none());
    }

    #[test]
    fn a_kind_nobody_knows_loses_framing() {
        let head = FrameHead { kind: 99, body_len: 0 };
        assert_eq!(FrameReader::new().feed(&head.encode(), &mut Vec::new()), Err(DecodeError::Kind(99)));
    }
}
