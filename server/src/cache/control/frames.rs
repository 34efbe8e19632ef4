//! Frames off a link, one after the other, with a bound on memory and on time.
//!
//! The buffer holds one frame at the most: 4 KiB + 8 for a control frame, and it grows to a chunk's size only after
//! that chunk's head and header have been read and found within the limits. A chunk is told in two steps, header and
//! payload, so that who takes it can judge the first while the second is on its way. After a large chunk the room goes back
//! once small ones follow.
//!
//! Each frame lets other tasks run once, read or buffered before: a sender whose frames are small and dear gets no more
//! than its turn.

use std::io;

use cache_core::time::Span;
use cache_core::wire::frame::FrameHead;
use cache_core::wire::{
    CHUNK_HEADER_BYTES, CHUNK_PREFIX_BYTES, ChunkHeader, DecodeError, FRAME_HEAD_BYTES, Frame, KIND_CHUNK,
};

use super::deadline::within;
use super::link::Link;

/// Room that a link begins with: control frames, and small chunks (our guess: 100 kbit/s at 200 ms).
const BUFFER_BYTES: usize = 8 << 10;

/// So much of a payload is waited for before it is looked at: what BLAKE3 takes side by side.
const PIECE_BYTES: usize = 16 << 10;

/// So many times the last chunk's size is kept as room: chunks with a key frame are larger than others (our guess).
const ROOM_CHUNKS: usize = 4;

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
    /// For each part of it that is waited for, from then on: the head, a control frame's body or a chunk's header.
    pub(super) whole: Span,
}

/// The reading side of a link.
#[derive(Debug)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last chunk's size.
    chunk: usize,
}

impl Frames {
    /// Begins with bytes that were read before.
    pub(super) fn after(read: Vec<u8>) -> Frames {
        let end = read.len();
        let mut buffer = read;
        buffer.resize(end.max(BUFFER_BYTES), 0);
        Frames { buffer, start: 0, end, chunk: 0 }
    }

    /// The next frame, or a chunk's header.
    pub(super) async fn next(&mut self, link: &Link, patience: Patience) -> Result<Incoming, FrameError> {
        if self.end == self.start {
            let began = self.fill(link, 1, patience.idle).await;
            began.map_err(|error| if matches!(error, FrameError::Unfinished) { FrameError::Silent } else { error })?;
        } else {
            // As [`Link::read`] does.
            glommio::executor().yield_now().await;
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
        self.chunk = len;
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

    /// Gives room back that the last chunk did not need.
    fn give_back(&mut self) {
        let there = self.end - self.start;
        let room = BUFFER_BYTES.max(ROOM_CHUNKS * self.chunk).max(there);
        if self.buffer.len() > room {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, there);
            self.buffer.truncate(room);
            self.buffer.shrink_to_fit();
        }
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
        self.give_back();
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::rc::Rc;

    use cache_core::sign::PublisherKey;
    use cache_core::time::WallClock;
    use cache_core::units::{ChunkSeq, Epoch, StreamId};
    use cache_core::wire::frame::chunk_prefix;
    use glommio::LocalExecutorBuilder;

    use super::*;

    const WITHIN: Span = Span::from_secs(60);
    const SMALL_ONES: u64 = 1_000;

    fn chunk(seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut header = ChunkHeader {
            stream: StreamId(1),
            epoch: Epoch(1),
            seq: ChunkSeq::new(seq),
            published: WallClock::from_micros(1),
            payload_len: payload.len() as u32,
            tables_len: 0,
            duration_ms: 200,
            key_frame: None,
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        };
        PublisherKey::from_seed(&[1; 32]).sign_chunk(&mut header, payload);
        [&chunk_prefix(&header)[..], payload].concat()
    }

    fn pair() -> (TcpStream, Link) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (accepted, peer) = listener.accept().expect("accepted");
        (ours, Link::adopt(accepted.into(), peer).expect("a link"))
    }

    #[test]
    fn who_sends_a_large_chunk_and_many_small_ones_gets_no_more_than_its_turn_and_room() {
        let executor = LocalExecutorBuilder::default().make().expect("an executor");
        executor.run(async {
            let (mut ours, link) = pair();
            // What one read brings into the room of a large chunk.
            let mut read = chunk(0, &vec![0x47; 1 << 20]);
            (1..=SMALL_ONES).for_each(|seq| read.extend(chunk(seq, &[])));
            let mut frames = Frames::after(read);
            let turns = Rc::new(Cell::new(0));
            let others = turns.clone();
            let _other = glommio::spawn_local(async move {
                loop {
                    others.set(others.get() + 1);
                    glommio::executor().yield_now().await;
                }
            });
            let patience = Patience { idle: WITHIN, whole: WITHIN };
            for seq in 0..=SMALL_ONES + 1 {
                if seq == SMALL_ONES {
                    assert!(turns.get() >= SMALL_ONES / 2, "others had {} turns beside {seq} frames", turns.get());
                    ours.write_all(&chunk(seq + 1, &[])).expect("sent");
                }
                let Ok(Incoming::Chunk(header)) = frames.next(&link, patience).await else { panic!("no chunk {seq}") };
                assert_eq!(header.seq, ChunkSeq::new(seq));
                frames.payload(&link, &header, WITHIN, |_| ()).await.expect("it is there");
            }
            assert!(frames.buffer.capacity() < 2 * BUFFER_BYTES);
        });
    }
}
