//! One connection: its stream, what is half received, what waits to be sent, what the kernel holds of it, and since when
//! nothing has moved.
//!
//! ```text
//!   Connecting --> Open --> Closing (queue goes out) --> Lingering (our end shut, theirs drained) --> dropped
//! ```
//! Lingering is there because a socket that is dropped with unread bytes resets the connection, and a reset may
//! destroy what was just sent, for example the reason of a refusal.
//!
//! A chunk is sent when it has left, and that is later than the kernel's taking it:
//! ```text
//!   queue --write--> kernel: waits for the uplink, is on its way --confirmed--> sent
//!                    `-- Link::taken, by the count of bytes written --'
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use cache_core::time::{Span, Time};
use cache_core::units::ChunkSeq;
use cache_core::wire::DecodeError;

use super::framing::{FrameReader, Incoming};
use super::queue::{WriteQueue, Written};
use super::transport::Stream;

/// How long a link may take for its connection and first frame together, and how long a frame that has begun, or a
/// queue that waits, may stand without a byte moving (5 s: the deadline for half handshakes in the fault table).
pub(crate) const PATIENCE: Span = Span::from_secs(5);

/// How long the other end of a closed link may take to close too. Our guess: some round trips.
const LINGER: Span = Span::from_secs(1);

/// Most bytes read from, and written to, one link in one turn, so that a fast one does not starve the others. Our
/// guess: five chunks of a 2 Mbit/s stream.
pub(crate) const BYTES_PER_TURN: usize = 256 << 10;

/// What the other end may have and not have confirmed: it holds a confirmation back for one segment, up to 40 ms long.
/// 1460 is a segment's payload on an Ethernet without options.
const HELD_BACK_BYTES: u64 = 1_460;

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not answered yet.
    Connecting,
    /// In use.
    Open,
    /// Given up by its owner; what is queued goes out first.
    Closing,
    /// Our end is shut.
    Lingering,
}

/// Why a link has ended on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// Closed or reset by the other end, or never made.
    Gone,
    /// Not our frames.
    Garbage(DecodeError),
    /// No first frame, or half a frame, for too long.
    Timeout,
    /// The other end takes, or confirms, nothing.
    SlowReceiver,
    /// Closed by us, and done.
    Finished,
}

/// Whether there may be more to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    /// The stream has no more bytes at present.
    No,
    /// The turn's budget is used up.
    Yes,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link<S> {
    /// The bytes.
    pub(crate) stream: S,
    /// The other end.
    pub(crate) remote: SocketAddr,
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// What waits to go out.
    pub(crate) queue: WriteQueue,
    /// Chunks that the kernel has whole and that have not left.
    taken: VecDeque<Written>,
    /// Bytes of all written that have left.
    left: u64,
    reader: FrameReader,
    heard: bool,
    since: Time,
    moved_in: Time,
    /// When bytes last went out, or, while chunks are owed, when the other end last confirmed some.
    moved_out: Time,
}

impl<S: Stream> Link<S> {
    /// A link that begins at `now`, [`Phase::Connecting`] or [`Phase::Open`].
    pub(crate) fn new(stream: S, remote: SocketAddr, phase: Phase, now: Time) -> Link<S> {
        Link {
            stream,
            remote,
            phase,
            queue: WriteQueue::default(),
            taken: VecDeque::new(),
            left: 0,
            reader: FrameReader::new(),
            heard: false,
            since: now,
            moved_in: now,
            moved_out: now,
        }
    }

    /// Reads what is there, at most [`BYTES_PER_TURN`]; whole frames go to `out`, also when an error follows them.
    pub(crate) fn read(&mut self, now: Time, scratch: &mut [u8], out: &mut Vec<Incoming>) -> Result<More, LinkEnd> {
        let before = out.len();
        let result = self.read_some(now, scratch, out);
        self.heard |= out.len() > before;
        result
    }

    fn read_some(&mut self, now: Time, scratch: &mut [u8], out: &mut Vec<Incoming>) -> Result<More, LinkEnd> {
        let mut total = 0;
        while total < BYTES_PER_TURN {
            let discard = self.phase == Phase::Closing || self.phase == Phase::Lingering;
            let room = self.reader.payload_room().filter(|_| !discard);
            let straight = room.is_some();
            let len = match self.stream.read(room.unwrap_or(scratch)) {
                Ok(0) => return Err(LinkEnd::Gone),
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(More::No),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(LinkEnd::Gone),
            };
            total += len;
            self.moved_in = now;
            if straight {
                out.extend(self.reader.filled(len));
            } else if !discard {
                self.reader.feed(&scratch[..len], out).map_err(LinkEnd::Garbage)?;
            }
        }
        Ok(More::Yes)
    }

    /// Writes what the stream takes, at most [`BYTES_PER_TURN`]. The bytes written.
    pub(crate) fn write(&mut self, now: Time) -> Result<usize, LinkEnd> {
        if self.phase == Phase::Connecting {
            return Ok(0);
        }
        // While chunks are owed, what else the kernel takes says nothing of the other end. A link that closes is not asked
        // for confirmations.
        let is_owed = self.phase == Phase::Open && self.is_settling();
        let mut done = Vec::new();
        let written = self.queue.flush(&mut self.stream, BYTES_PER_TURN, &mut done).map_err(|_| LinkEnd::Gone)?;
        self.taken.extend(done);
        if (written > 0 && !is_owed) || !self.is_moving() {
            self.moved_out = now;
        }
        if self.phase == Phase::Closing && self.queue.is_empty() {
            self.stream.finish().map_err(|_| LinkEnd::Gone)?;
            self.phase = Phase::Lingering;
            self.since = now;
        }
        Ok(written)
    }

    /// Whether the kernel has chunks that have not left.
    pub(crate) fn is_settling(&self) -> bool {
        !self.taken.is_empty()
    }

    /// The other end has not confirmed `outstanding` of the bytes written (`None`: nobody tells, and what is written
    /// counts as gone): the chunks that have left since the last look, in order.
    pub(crate) fn settle(&mut self, now: Time, outstanding: Option<u64>) -> impl Iterator<Item = ChunkSeq> {
        let left = self.queue.written().saturating_sub(outstanding.unwrap_or(0));
        if left > self.left {
            self.left = left;
            self.moved_out = now;
        }
        let gone = self.taken.partition_point(|chunk| chunk.end <= self.left + HELD_BACK_BYTES);
        self.taken.drain(..gone).map(|chunk| chunk.seq)
    }

    /// To be called when something is about to be queued: the clock of a link with nothing to send begins here.
    pub(crate) fn touch(&mut self, now: Time) {
        if !self.is_moving() {
            self.moved_out = now;
        }
    }

    /// Whether something waits here or in the kernel.
    fn is_moving(&self) -> bool {
        !self.queue.is_empty() || self.is_settling()
    }

    /// Why the link has to go at `now`, if it has.
    pub(crate) fn overdue(&self, now: Time) -> Option<LinkEnd> {
        let late = |since: Time| now.since(since) >= PATIENCE;
        match self.phase {
            Phase::Lingering => (now.since(self.since) >= LINGER).then_some(LinkEnd::Finished),
            Phase::Closing => late(self.moved_out).then_some(LinkEnd::Finished),
            Phase::Connecting | Phase::Open if !self.heard && late(self.since) => Some(LinkEnd::Timeout),
            Phase::Open if self.reader.is_within_frame() && late(self.moved_in) => Some(LinkEnd::Timeout),
            Phase::Open if self.is_moving() && late(self.moved_out) => Some(LinkEnd::SlowReceiver),
            Phase::Connecting | Phase::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use cache_core::wire::Frame;
    use cache_core::wire::exchange::PartnersQuery;
    use mio::{Interest, Registry, Token};

    use super::*;
    use crate::testing::chunk;

    /// Says `says`, then nothing; takes at most `takes` bytes.
    struct Fake {
        says: Vec<u8>,
        takes: usize,
    }

    impl Read for Fake {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            if self.says.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let len = to.len().min(self.says.len());
            to[..len].copy_from_slice(&self.says[..len]);
            self.says.drain(..len);
            Ok(len)
        }
    }

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.takes == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let len = bytes.len().min(self.takes);
            self.takes -= len;
            Ok(len)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl mio::event::Source for Fake {
        fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }
        fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
            Ok(())
        }
        fn deregister(&mut self, _: &Registry) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Fake {
        fn connected(&self) -> io::Result<bool> {
            Ok(true)
        }
        fn finish(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn link(says: &[u8], takes: usize) -> Link<Fake> {
        let remote = "127.0.0.1:1".parse().expect("an address");
        Link::new(Fake { says: says.to_vec(), takes }, remote, Phase::Open, Time::ZERO)
    }

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1_000)
    }

    fn query() -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::from(PartnersQuery {}).encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_half_handshake_is_given_five_seconds() {
        let mut link = link(&query()[..5], 0);
        link.read(at(4), &mut [0; 64], &mut Vec::new()).expect("half a frame");
        assert_eq!(link.overdue(at(4)), None);
        assert_eq!(link.overdue(at(5)), Some(LinkEnd::Timeout), "bytes that drip in do not prolong it");
    }

    #[test]
    fn half_a_frame_may_take_long_as_long_as_it_moves() {
        let mut bytes = query();
        bytes.extend_from_slice(&chunk(1, 500).frame[..300]);
        let mut link = link(&bytes, 0);
        let mut out = Vec::new();
        link.read(at(4), &mut [0; 64], &mut out).expect("frames");
        assert_eq!(out, [Incoming::Frame(PartnersQuery {}.into())]);
        assert_eq!((link.overdue(at(8)), link.overdue(at(9))), (None, Some(LinkEnd::Timeout)));
        link.stream.says = chunk(1, 500).frame[300..].to_vec();
        link.read(at(8), &mut [0; 64], &mut out).expect("the rest");
        assert_eq!(out[1], Incoming::Chunk(chunk(1, 500)));
        assert_eq!(link.overdue(at(100)), None, "an idle link may stay");
    }

    #[test]
    fn a_receiver_that_takes_nothing_is_cut_off() {
        let mut link = link(&query(), 100);
        link.read(at(1), &mut [0; 64], &mut Vec::new()).expect("a frame");
        link.touch(at(10));
        link.queue.push_chunk(ChunkSeq::new(1), None, chunk(1, 500).frame).expect("room");
        assert_eq!(link.write(at(11)), Ok(100));
        assert_eq!((link.overdue(at(15)), link.overdue(at(16))), (None, Some(LinkEnd::SlowReceiver)));
    }

    #[test]
    fn a_chunk_has_left_when_the_other_end_has_confirmed_it() {
        let mut link = link(b"", usize::MAX);
        let chunks = [chunk(1, 5_000), chunk(2, 5_000)].map(|chunk| (chunk.header.seq, chunk.frame));
        let each = chunks[0].1.len() as u64;
        for (seq, frame) in &chunks {
            link.queue.push_chunk(*seq, None, frame.clone()).expect("room");
        }
        assert_eq!(link.write(at(1)), Ok(2 * each as usize), "the kernel takes all of it at once");
        let mut settle = |secs, outstanding| link.settle(at(secs), outstanding).map(ChunkSeq::get).collect::<Vec<_>>();
        assert_eq!(settle(1, Some(2 * each)), [0; 0]);
        assert_eq!(settle(2, Some(each + HELD_BACK_BYTES + 1)), [0; 0], "all but a byte of it");
        assert_eq!(settle(3, Some(each + HELD_BACK_BYTES)), [1], "the last segment's confirmation is held back");
        assert_eq!(settle(3, Some(each)), [0; 0], "once");
        assert!(link.is_settling());
        assert_eq!(link.settle(at(4), None).count(), 1, "where nobody tells, what is written has left");
        assert!(!link.is_settling());
    }

    #[test]
    fn a_receiver_that_confirms_nothing_is_cut_off_too() {
        let mut link = link(&query(), 10_000);
        link.read(at(1), &mut [0; 64], &mut Vec::new()).expect("a frame");
        link.touch(at(10));
        link.queue.push_chunk(ChunkSeq::new(1), None, chunk(1, 5_000).frame).expect("room");
        let written = link.write(at(10)).expect("the kernel takes all of it") as u64;
        assert_eq!(link.settle(at(11), Some(written - 1)).count(), 0, "a byte has left");
        assert_eq!(link.settle(at(13), Some(written - 1)).count(), 0);
        assert_eq!((link.overdue(at(15)), link.overdue(at(16))), (None, Some(LinkEnd::SlowReceiver)));
        assert_eq!(link.settle(at(15), Some(0)).count(), 1);
        assert_eq!(link.overdue(at(100)), None, "nothing is owed");
    }

    #[test]
    fn frames_that_the_kernel_takes_do_not_stand_for_confirmations() {
        let mut link = link(&query(), usize::MAX);
        link.read(at(1), &mut [0; 64], &mut Vec::new()).expect("a frame");
        link.touch(at(10));
        link.queue.push_chunk(ChunkSeq::new(1), None, chunk(1, 5_000).frame).expect("room");
        let mut written = link.write(at(10)).expect("the kernel takes all of it") as u64;
        for secs in 11..15 {
            link.touch(at(secs));
            link.queue.push_frame(query()).expect("room");
            written += link.write(at(secs)).expect("the kernel takes it") as u64;
            assert_eq!(link.settle(at(secs), Some(written)).count(), 0, "nothing is confirmed");
            assert_eq!(link.overdue(at(secs)), None);
        }
        assert_eq!(link.overdue(at(15)), Some(LinkEnd::SlowReceiver));
        assert_eq!(link.settle(at(15), Some(written - 1)).count(), 0, "a byte is confirmed");
        assert_eq!((link.overdue(at(19)), link.overdue(at(20))), (None, Some(LinkEnd::SlowReceiver)));
        assert_eq!(link.settle(at(19), Some(0)).count(), 1);
        assert_eq!(link.overdue(at(100)), None, "nothing is owed");
    }

    #[test]
    fn a_link_that_closes_lives_by_what_the_kernel_takes() {
        let mut link = link(b"", 10_000);
        for seq in [1, 2] {
            link.queue.push_chunk(ChunkSeq::new(seq), None, chunk(seq, 8_000).frame).expect("room");
        }
        assert_eq!(link.write(at(1)), Ok(10_000));
        assert!(link.is_settling(), "the first is out whole, the second half");
        link.phase = Phase::Closing;
        link.stream.takes = 100;
        assert_eq!(link.write(at(5)), Ok(100));
        assert_eq!((link.overdue(at(9)), link.overdue(at(10))), (None, Some(LinkEnd::Finished)));
    }

    #[test]
    fn frames_in_front_of_garbage_still_count() {
        let mut bytes = query();
        bytes.extend_from_slice(b"GET / HTTP/1.1");
        let mut out = Vec::new();
        let end = link(&bytes, 0).read(at(1), &mut [0; 64], &mut out);
        assert_eq!(end, Err(LinkEnd::Garbage(DecodeError::Magic)));
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn what_is_queued_goes_out_before_the_link_closes() {
        let mut link = link(b"", 0);
        link.queue.push_frame(query()).expect("room");
        link.phase = Phase::Closing;
        link.write(at(1)).expect("waits");
        assert_eq!(link.phase, Phase::Closing);
        link.stream.takes = 100;
        link.write(at(2)).expect("out");
        assert_eq!(link.phase, Phase::Lingering);
        assert_eq!((link.overdue(at(2)), link.overdue(at(3))), (None, Some(LinkEnd::Finished)));
    }
}
