//! Whether a chunk goes into the ring: one judge per stream, for publishers and for pulls alike.
//!
//! ```text
//!   epoch   older  ......... Fenced
//!           known  seq < next  Duplicate   already there: acknowledged again, not stored again
//!                  seq = next  Append      gap 0
//!                  seq > next  Append      gap > 0: what is missing stays missing, numbers only go forward
//!           newer  ......... as known; the stream's epoch rises with the chunk
//! ```
//! Signatures are not judged here: [`crate::sign::KeyRing`] does, once the payload is there.

use crate::units::{ChunkSeq, Epoch};
use crate::wire::ChunkHeader;

/// Sequence numbers from here on are refused: at five chunks a second a stream gets there after 1.7 million years,
/// and below it no sum of sequence numbers can overflow.
pub const SEQ_END: ChunkSeq = ChunkSeq::new(1 << 48);

/// The first number of a stream that a publisher brings along lies below: half of all numbers are left to those who follow.
pub const FIRST_SEQ_END: ChunkSeq = ChunkSeq::new(1 << 47);

/// So far may a publisher's next chunk be ahead of the last: 58 hours, more than a stream is kept without its publisher
/// (`stall_forget_s` is a day at most). Whoever wanted to use the numbers up would send hundreds of millions of chunks.
pub const PUBLISHER_GAP_MAX: u64 = 1 << 20;

/// Terms that a publisher chooses for itself, where no index server grants them, lie below: the clock's milliseconds until the
/// year 10 889. Above it there is room for whoever comes next.
pub const OWN_EPOCH_END: Epoch = Epoch(1 << 48);

/// What to do with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store it; `gap` chunks before it never came (0 for the first chunk of a stream).
    Append {
        /// Missing chunks in front of it.
        gap: u64,
    },
    /// It is there, or its place was passed: say so again, store nothing.
    Duplicate,
    /// It is of an older epoch: its sender has been taken over.
    Fenced,
    /// Its number is beyond [`SEQ_END`], or too far ahead for a publisher.
    OutOfRange,
}

/// Where a stream's numbering stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingest {
    epoch: Epoch,
    next: ChunkSeq,
    head: Option<ChunkSeq>,
}

impl Ingest {
    /// A stream of which nothing is stored and whose first chunk should be `next`.
    pub const fn starting_at(epoch: Epoch, next: ChunkSeq) -> Ingest {
        Ingest { epoch, next, head: None }
    }

    /// A stream whose newest stored chunk is `head`, and whose next is `next`: above `head`, or it is taken for that.
    pub fn inherited(epoch: Epoch, head: ChunkSeq, next: ChunkSeq) -> Ingest {
        Ingest { epoch, next: next.max(head.next()), head: Some(head) }
    }

    /// The newest epoch that was let in.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number that the next chunk should have.
    pub const fn next(&self) -> ChunkSeq {
        self.next
    }

    /// The newest chunk stored, once there is one.
    pub const fn head(&self) -> Option<ChunkSeq> {
        self.head
    }

    /// Lets a publisher of `epoch` in: a newer epoch fences all older ones. False, and nothing changed, when `epoch`
    /// is itself fenced.
    pub fn admit(&mut self, epoch: Epoch) -> bool {
        if epoch < self.epoch {
            return false;
        }
        self.epoch = epoch;
        true
    }

    /// Raises `next`: the publisher may have been elsewhere meanwhile, and who followed it there would take lower numbers for
    /// what they have. Numbers never go back.
    pub fn expect_from(&mut self, next: ChunkSeq) {
        if next < SEQ_END {
            self.next = self.next.max(next);
        }
    }

    /// Judges a chunk by its epoch and number. Changes nothing.
    pub fn judge(&self, epoch: Epoch, seq: ChunkSeq) -> Verdict {
        if epoch < self.epoch {
            return Verdict::Fenced;
        }
        if seq >= SEQ_END {
            return Verdict::OutOfRange;
        }
        match seq.since(self.next) {
            None => Verdict::Duplicate,
            Some(gap) => Verdict::Append { gap: if self.head.is_some() { gap } else { 0 } },
        }
    }

    /// As [`Ingest::judge`], of a publisher's chunk: whoever has a name for a while must not leave it without numbers. (What a
    /// pull brings has been judged so where it was published.)
    pub fn judge_published(&self, epoch: Epoch, seq: ChunkSeq) -> Verdict {
        match self.judge(epoch, seq) {
            Verdict::Append { gap } if gap > PUBLISHER_GAP_MAX => Verdict::OutOfRange,
            // At `next` it goes on from what the index server knows.
            Verdict::Append { .. } if self.head.is_none() && seq >= FIRST_SEQ_END.max(self.next.next()) => {
                Verdict::OutOfRange
            }
            verdict => verdict,
        }
    }

    /// Notes that the chunk was stored. It must have been judged [`Verdict::Append`].
    pub fn stored(&mut self, header: &ChunkHeader) {
        debug_assert!(matches!(self.judge(header.epoch, header.seq), Verdict::Append { .. }));
        self.epoch = header.epoch;
        self.next = header.seq.next();
        self.head = Some(header.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallClock;
    use crate::units::StreamId;

    fn header(epoch: u64, seq: u64) -> ChunkHeader {
        ChunkHeader {
            stream: StreamId(1),
            epoch: Epoch(epoch),
            seq: ChunkSeq::new(seq),
            published: WallClock::default(),
            payload_len: 0,
            tables_len: 0,
            duration_ms: 200,
            key_frame: None,
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        }
    }

    /// Judges and, when it is let in, stores.
    fn offer(ingest: &mut Ingest, epoch: u64, seq: u64) -> Verdict {
        let header = header(epoch, seq);
        let verdict = ingest.judge(header.epoch, header.seq);
        if let Verdict::Append { .. } = verdict {
            ingest.stored(&header);
        }
        verdict
    }

    #[test]
    fn chunks_in_order_are_stored_and_a_repeated_one_is_not() {
        let mut ingest = Ingest::default();
        assert_eq!(ingest.head(), None);
        assert_eq!(offer(&mut ingest, 1, 0), Verdict::Append { gap: 0 });
        assert_eq!(offer(&mut ingest, 1, 1), Verdict::Append { gap: 0 });
        assert_eq!(offer(&mut ingest, 1, 1), Verdict::Duplicate);
        assert_eq!(offer(&mut ingest, 1, 0), Verdict::Duplicate);
        assert_eq!(ingest.head(), Some(ChunkSeq::new(1)));
    }

    #[test]
    fn a_gap_is_noted_and_numbers_never_go_back() {
        let mut ingest = Ingest::default();
        offer(&mut ingest, 1, 0);
        assert_eq!(offer(&mut ingest, 1, 4), Verdict::Append { gap: 3 });
        assert_eq!(offer(&mut ingest, 1, 2), Verdict::Duplicate);
        assert_eq!(ingest.next(), ChunkSeq::new(5));
    }

    #[test]
    fn the_first_chunk_may_have_any_number_and_is_no_gap() {
        let mut ingest = Ingest::default();
        assert_eq!(offer(&mut ingest, 1, 70_000), Verdict::Append { gap: 0 });
    }

    #[test]
    fn a_newer_epoch_fences_the_older_and_goes_on_in_number() {
        let mut ingest = Ingest::default();
        offer(&mut ingest, 1, 0);
        assert!(ingest.admit(Epoch(2)));
        assert_eq!(offer(&mut ingest, 1, 1), Verdict::Fenced);
        assert_eq!(offer(&mut ingest, 2, 1), Verdict::Append { gap: 0 });
        assert!(!ingest.admit(Epoch(1)));
    }

    #[test]
    fn a_pull_carries_a_new_epoch_in_by_its_chunks() {
        let mut ingest = Ingest::default();
        offer(&mut ingest, 1, 9);
        assert_eq!(offer(&mut ingest, 3, 10), Verdict::Append { gap: 0 });
        assert_eq!(offer(&mut ingest, 2, 11), Verdict::Fenced);
    }

    #[test]
    fn a_number_out_of_the_world_is_refused() {
        let mut ingest = Ingest::default();
        assert_eq!(offer(&mut ingest, 1, u64::MAX), Verdict::OutOfRange);
        assert_eq!(offer(&mut ingest, 1, SEQ_END.get() - 1), Verdict::Append { gap: 0 });
    }

    #[test]
    fn a_publisher_leaves_numbers_to_those_who_follow() {
        let judged = |ingest: &Ingest, seq| ingest.judge_published(Epoch(1), ChunkSeq::new(seq));
        let mut ingest = Ingest::default();
        for seq in [FIRST_SEQ_END.get(), SEQ_END.get() - 1, SEQ_END.get()] {
            assert_eq!(judged(&ingest, seq), Verdict::OutOfRange, "{seq}");
        }
        assert_eq!(judged(&ingest, FIRST_SEQ_END.get() - 1), Verdict::Append { gap: 0 });
        let above = Ingest::starting_at(Epoch(1), ChunkSeq::new(SEQ_END.get() - 9));
        assert_eq!(judged(&above, SEQ_END.get() - 9), Verdict::Append { gap: 0 }, "what the index server knows holds");
        offer(&mut ingest, 1, 5);
        assert_eq!(judged(&ingest, 6 + PUBLISHER_GAP_MAX), Verdict::Append { gap: PUBLISHER_GAP_MAX });
        assert_eq!(judged(&ingest, 7 + PUBLISHER_GAP_MAX), Verdict::OutOfRange);
        assert_eq!(
            ingest.judge(Epoch(1), ChunkSeq::new(SEQ_END.get() - 1)),
            Verdict::Append { gap: SEQ_END.get() - 7 }
        );
    }

    #[test]
    fn the_index_says_where_numbering_goes_on_but_not_backwards() {
        let mut ingest = Ingest::starting_at(Epoch(1), ChunkSeq::FIRST);
        ingest.expect_from(ChunkSeq::new(500));
        assert_eq!(ingest.next(), ChunkSeq::new(500));
        offer(&mut ingest, 1, 500);
        ingest.expect_from(ChunkSeq::new(7));
        assert_eq!(ingest.next(), ChunkSeq::new(501), "what is stored stays");
        ingest.expect_from(ChunkSeq::new(900));
        assert_eq!((ingest.head(), ingest.next()), (Some(ChunkSeq::new(500)), ChunkSeq::new(900)));
        assert_eq!(offer(&mut ingest, 1, 900), Verdict::Append { gap: 0 });
    }
}
