//! The chunks that a publisher keeps: those that are not acknowledged, and, as far as there is room, those before them
//! for a cache that is behind.
//!
//! ```text
//!   first kept        next_ack           next_send        end
//!      |  acknowledged  |   on the way      |   waiting     |
//!      v----------------v-------------------v---------------v
//! ```
//! Numbers are without gaps. Bounded by [`KEPT_CHUNKS_MAX`] and [`KEPT_BYTES_MAX`]: the oldest goes; when it was not
//! acknowledged it is lost, which is counted, and the chunk behind it is marked as a discontinuity.

use std::collections::VecDeque;

use bytes::Bytes;
use cache_core::limits::WINDOW_CHUNKS;
use cache_core::units::ChunkSeq;
use cache_core::wire::ChunkHeader;

/// Most chunks kept: a window; older ones nobody can play.
pub(crate) const KEPT_CHUNKS_MAX: usize = WINDOW_CHUNKS as usize;

/// Most bytes kept. Our guess: a window at 10 Mbit/s.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 20;

/// How many acknowledged chunks are sent again to a cache that does not have them. Our guess: 10 s, what viewers still
/// have in front of their play position.
const RESEND_ACKED_MAX: u64 = 50;

/// A chunk; its header has no epoch, hash or signature before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct KeptChunk {
    /// With its present number.
    pub(crate) header: ChunkHeader,
    /// Tables, then transport stream.
    pub(crate) payload: Bytes,
    sent: bool,
}

/// Kept chunks, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    chunks: VecDeque<KeptChunk>,
    bytes: usize,
    first: ChunkSeq,
    next_ack: ChunkSeq,
    next_send: ChunkSeq,
    sent_any: bool,
    lost: u64,
}

impl Kept {
    /// The number that the next chunk gets.
    pub(crate) fn end(&self) -> ChunkSeq {
        self.first.ahead(self.chunks.len() as u64)
    }

    /// Chunks sent and not acknowledged.
    pub(crate) fn on_the_way(&self) -> u64 {
        self.next_send.since(self.next_ack).unwrap_or(0)
    }

    /// Chunks not acknowledged.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.end().since(self.next_ack).unwrap_or(0)
    }

    /// Chunks that had to go before they were acknowledged.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds a chunk, which gets the next number.
    pub(crate) fn push(&mut self, mut header: ChunkHeader, payload: Bytes) {
        header.seq = self.end();
        self.bytes += payload.len();
        self.chunks.push_back(KeptChunk { header, payload, sent: false });
        while self.chunks.len() > KEPT_CHUNKS_MAX || self.bytes > KEPT_BYTES_MAX && self.chunks.len() > 1 {
            self.drop_first();
        }
    }

    /// Everything up to `seq` is in the cache. What was never sent cannot be acknowledged.
    pub(crate) fn acknowledge(&mut self, seq: ChunkSeq) {
        self.next_ack = self.next_ack.max(seq.next().min(self.next_send));
    }

    /// A cache goes on at `next`: places what is sent from here on.
    ///
    /// Before the first chunk is sent, its word is taken as it is. Later a number beyond ours was used by somebody else:
    /// what was never sent moves behind it, what was sent is done with.
    pub(crate) fn go_on_at(&mut self, next: ChunkSeq) {
        if self.sent_any && next <= self.end() {
            let oldest = self.next_ack.back(RESEND_ACKED_MAX).max(self.first);
            self.next_send = next.max(oldest);
        } else {
            while self.chunks.front().is_some_and(|chunk| chunk.sent) {
                self.drop_first();
            }
            self.first = next;
            self.next_send = next;
            for (seq, chunk) in (next.get()..).zip(&mut self.chunks) {
                chunk.header.seq = ChunkSeq::new(seq);
            }
        }
        self.next_ack = self.next_send;
    }

    /// The next chunk to send.
    pub(crate) fn take_next(&mut self) -> Option<&KeptChunk> {
        let at = self.next_send.since(self.first)?;
        let chunk = self.chunks.get_mut(at as usize)?;
        chunk.sent = true;
        self.sent_any = true;
        self.next_send = self.next_send.next();
        Some(chunk)
    }

    fn drop_first(&mut self) {
        let Some(first) = self.chunks.pop_front() else { return };
        self.bytes -= first.payload.len();
        self.first = self.first.next();
        if self.next_ack < self.first {
            self.lost += 1;
            self.next_ack = self.first;
            if let Some(behind) = self.chunks.front_mut() {
                behind.header.discontinuity = true;
            }
        }
        self.next_send = self.next_send.max(self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::chunk;

    fn kept(count: u64) -> Kept {
        let mut kept = Kept::default();
        (0..count).for_each(|i| kept.push(chunk(0, 10).header, Bytes::from(i.to_string())));
        kept
    }

    fn seq(seq: u64) -> ChunkSeq {
        ChunkSeq::new(seq)
    }

    /// Number and payload of what is sent next, all of it.
    fn sent(kept: &mut Kept) -> Vec<(u64, String)> {
        let next = |kept: &mut Kept| {
            let chunk = kept.take_next()?;
            Some((chunk.header.seq.get(), String::from_utf8(chunk.payload.to_vec()).expect("digits")))
        };
        std::iter::from_fn(|| next(kept)).collect()
    }

    fn pairs(pairs: &[(u64, u64)]) -> Vec<(u64, String)> {
        pairs.iter().map(|(seq, name)| (*seq, name.to_string())).collect()
    }

    #[test]
    fn numbering_goes_on_where_the_cache_says() {
        let mut kept = kept(2);
        kept.go_on_at(seq(70));
        kept.push(chunk(0, 10).header, Bytes::from("2"));
        assert_eq!(sent(&mut kept), pairs(&[(70, 0), (71, 1), (72, 2)]));
        assert_eq!((kept.on_the_way(), kept.end()), (3, seq(73)));
    }

    #[test]
    fn after_a_lost_link_the_cache_says_what_it_has() {
        let mut kept = kept(5);
        kept.go_on_at(seq(0));
        sent(&mut kept);
        kept.acknowledge(seq(1));
        kept.go_on_at(seq(3));
        assert_eq!(sent(&mut kept), pairs(&[(3, 3), (4, 4)]), "2 had arrived, its acknowledgement had not");
        kept.acknowledge(seq(4));
        assert_eq!(kept.unacknowledged(), 0);
    }

    #[test]
    fn another_cache_that_is_behind_gets_acknowledged_chunks_again_but_no_old_ones() {
        let mut kept = kept(100);
        kept.go_on_at(seq(0));
        sent(&mut kept);
        kept.acknowledge(seq(99));
        kept.go_on_at(seq(97));
        assert_eq!(sent(&mut kept), pairs(&[(97, 97), (98, 98), (99, 99)]));
        kept.acknowledge(seq(99));
        kept.go_on_at(seq(0));
        assert_eq!(sent(&mut kept).len() as u64, RESEND_ACKED_MAX);
    }

    #[test]
    fn numbers_that_somebody_else_used_are_not_used_again() {
        let mut kept = kept(3);
        kept.go_on_at(seq(0));
        kept.take_next();
        kept.go_on_at(seq(50));
        assert_eq!(sent(&mut kept), pairs(&[(50, 1), (51, 2)]), "0 may be in the stream already");
    }

    #[test]
    fn while_no_cache_is_there_the_oldest_is_lost_and_the_gap_is_marked() {
        let mut kept = kept(1);
        sent(&mut kept);
        kept.acknowledge(seq(0));
        (0..KEPT_CHUNKS_MAX + 3).for_each(|_| kept.push(chunk(0, 10).header, Bytes::new()));
        assert_eq!((kept.lost(), kept.unacknowledged()), (3, KEPT_CHUNKS_MAX as u64));
        kept.go_on_at(seq(1));
        let first = kept.take_next().expect("kept");
        assert_eq!((first.header.seq, first.header.discontinuity), (seq(4), true));
        assert!(!kept.take_next().expect("kept").header.discontinuity);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut kept = Kept::default();
        let big = Bytes::from(vec![0; 1 << 20]);
        (0..100).for_each(|_| kept.push(chunk(0, 10).header, big.clone()));
        assert_eq!((kept.chunks.len(), kept.lost()), (64, 36));
    }

    #[test]
    fn acknowledged_chunks_make_room_without_loss() {
        let mut kept = kept(10);
        kept.go_on_at(seq(0));
        sent(&mut kept);
        kept.acknowledge(seq(1_000));
        (0..KEPT_CHUNKS_MAX).for_each(|_| kept.push(chunk(0, 10).header, Bytes::new()));
        assert_eq!((kept.lost(), kept.unacknowledged()), (0, KEPT_CHUNKS_MAX as u64));
    }
}
