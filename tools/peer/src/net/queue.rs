//! Frames and chunks that wait for the socket, in order.
//!
//! Chunks stand here as references to the store's bytes and go to the kernel from there. The queue is bounded twice:
//! by chunks and by bytes of control frames. A link whose queue is full is too slow and is closed by its owner.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use cache_core::limits::WINDOW_CHUNKS;
use cache_core::units::ChunkSeq;

/// Most chunks in one queue: a whole window; nobody can want more.
pub(crate) const CHUNKS_QUEUED_MAX: usize = WINDOW_CHUNKS as usize;

/// Most bytes of control frames in one queue. Our guess: minutes of announcements, far above any healthy backlog.
pub(crate) const CONTROL_QUEUED_BYTES_MAX: usize = 256 << 10;

/// Pieces handed to the kernel in one call. Our guess: a burst of small frames and a few chunks.
const PIECES_PER_WRITE: usize = 16;

/// The queue has no room; nothing was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// A chunk that is out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Which.
    pub(crate) seq: ChunkSeq,
    /// Bytes that were written since the start when its last was.
    pub(crate) end: u64,
}

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Piece>,
    chunks: usize,
    control_bytes: usize,
    chunks_begun: u64,
    written: u64,
}

#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    sent: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Control,
    /// A part of a chunk's frame that is not its last.
    ChunkFront,
    /// The last, or only, part: when it is out, so is the chunk.
    Chunk(ChunkSeq),
}

impl WriteQueue {
    /// Adds an encoded frame.
    pub(crate) fn push_frame(&mut self, bytes: Vec<u8>) -> Result<(), QueueFull> {
        if self.control_bytes + bytes.len() > CONTROL_QUEUED_BYTES_MAX {
            return Err(QueueFull);
        }
        self.control_bytes += bytes.len();
        self.pieces.push_back(Piece { bytes: bytes.into(), sent: 0, kind: Kind::Control });
        Ok(())
    }

    /// Adds a chunk's frame, whole or as prefix and payload.
    pub(crate) fn push_chunk(&mut self, seq: ChunkSeq, front: Option<Bytes>, rest: Bytes) -> Result<(), QueueFull> {
        if self.chunks >= CHUNKS_QUEUED_MAX {
            return Err(QueueFull);
        }
        self.chunks += 1;
        self.pieces.extend(front.map(|bytes| Piece { bytes, sent: 0, kind: Kind::ChunkFront }));
        self.pieces.push_back(Piece { bytes: rest, sent: 0, kind: Kind::Chunk(seq) });
        Ok(())
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many chunks wait, one that is half out included.
    pub(crate) const fn chunks(&self) -> usize {
        self.chunks
    }

    /// Bytes written since the start.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// How many chunks have begun to go out since the start.
    pub(crate) const fn chunks_begun(&self) -> u64 {
        self.chunks_begun
    }

    /// Drops every piece of a chunk of which no byte is out. Control frames stay.
    pub(crate) fn drop_unsent(&mut self) {
        let chunks = &mut self.chunks;
        self.pieces.retain(|piece| {
            let stays = piece.kind == Kind::Control || piece.sent > 0;
            *chunks -= usize::from(!stays && matches!(piece.kind, Kind::Chunk(_)));
            stays
        });
    }

    /// Writes until `to` takes no more, the queue is empty or `budget` bytes are out. Chunks that are out whole are
    /// added to `done`. The number of bytes written; an error other than `WouldBlock` is the stream's end.
    pub(crate) fn flush(&mut self, to: &mut impl Write, budget: usize, done: &mut Vec<Written>) -> io::Result<usize> {
        let mut total = 0;
        while !self.pieces.is_empty() && total < budget {
            let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(&piece.bytes[piece.sent..]);
                count += 1;
            }
            let written = match to.write_vectored(&slices[..count]) {
                Ok(0) if !self.front_is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            total += written;
            self.advance(written, done);
        }
        Ok(total)
    }

    fn front_is_empty(&self) -> bool {
        self.pieces.front().is_none_or(|piece| piece.sent == piece.bytes.len())
    }

    fn advance(&mut self, mut written: usize, done: &mut Vec<Written>) {
        while let Some(piece) = self.pieces.front_mut() {
            let now = written.min(piece.bytes.len() - piece.sent);
            self.chunks_begun += u64::from(now > 0 && piece.sent == 0 && piece.kind != Kind::Control);
            piece.sent += now;
            written -= now;
            self.written += now as u64;
            if piece.sent < piece.bytes.len() {
                return;
            }
            match piece.kind {
                Kind::Control => self.control_bytes -= piece.bytes.len(),
                Kind::ChunkFront => {}
                Kind::Chunk(seq) => {
                    self.chunks -= 1;
                    done.push(Written { seq, end: self.written });
                }
            }
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::chunk;

    #[test]
    fn what_has_begun_is_finished_and_the_rest_can_be_dropped() {
        let (mut queue, mut to) = (WriteQueue::default(), Trickle { taken: Vec::new(), each: 60, calls: 0 });
        for seq in 0..3 {
            queue.push_chunk(ChunkSeq::new(seq), None, Bytes::from(vec![seq as u8; 100])).expect("room");
        }
        queue.flush(&mut to, 1, &mut Vec::new()).expect("no failure");
        queue.drop_unsent();
        queue.push_chunk(ChunkSeq::new(9), None, Bytes::from(vec![9; 10])).expect("room");
        while !queue.is_empty() {
            queue.flush(&mut to, usize::MAX, &mut Vec::new()).expect("no failure");
        }
        assert_eq!(to.taken, [vec![0; 100], vec![9; 10]].concat());
        assert_eq!((queue.chunks(), queue.chunks_begun()), (0, 2));
    }

    /// Takes some bytes each time, then none.
    struct Trickle {
        taken: Vec<u8>,
        each: usize,
        calls: usize,
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let now = bytes.len().min(self.each);
            self.taken.extend_from_slice(&bytes[..now]);
            Ok(now)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn every_byte_goes_out_once_and_in_order(
            each in 1usize..900,
            items in prop::collection::vec((0usize..2_000, any::<bool>()), 0..12),
        ) {
            let (mut queue, mut expected, mut ends) = (WriteQueue::default(), Vec::new(), Vec::new());
            for (i, (len, split)) in items.iter().enumerate() {
                let chunk = chunk(i as u64, *len);
                expected.extend_from_slice(&chunk.frame);
                let (front, rest) = if *split {
                    (Some(chunk.frame.slice(..100)), chunk.frame.slice(100..))
                } else {
                    (None, chunk.frame)
                };
                queue.push_chunk(ChunkSeq::new(i as u64), front, rest).expect("room");
                ends.push(Written { seq: ChunkSeq::new(i as u64), end: expected.len() as u64 });
                queue.push_frame(vec![i as u8; 9]).expect("room");
                expected.extend_from_slice(&[i as u8; 9]);
            }
            let (mut to, mut done) = (Trickle { taken: Vec::new(), each, calls: 0 }, Vec::new());
            while !queue.is_empty() {
                queue.flush(&mut to, usize::MAX, &mut done).expect("no failure");
            }
            prop_assert_eq!(to.taken, expected);
            prop_assert_eq!(done, ends);
            prop_assert_eq!((queue.chunks, queue.control_bytes), (0, 0));
        }
    }

    #[test]
    fn a_window_of_chunks_fills_it() {
        let (mut queue, chunk) = (WriteQueue::default(), chunk(0, 10));
        for seq in 0..CHUNKS_QUEUED_MAX as u64 {
            queue.push_chunk(ChunkSeq::new(seq), None, chunk.frame.clone()).expect("room");
        }
        assert_eq!(queue.push_chunk(ChunkSeq::FIRST, None, chunk.frame), Err(QueueFull));
    }

    #[test]
    fn control_frames_are_bounded_too() {
        let mut queue = WriteQueue::default();
        let fitting = (0..).take_while(|_| queue.push_frame(vec![0; 1 << 10]).is_ok()).count();
        assert_eq!(fitting, CONTROL_QUEUED_BYTES_MAX >> 10);
    }
}
