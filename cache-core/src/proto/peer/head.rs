//! The newest chunk of the stream, as far as a peer can know it.
//!
//! What is certain comes from chunks whose signature was checked and from what a cache says; partners' maps are hints
//! and move nothing here, so that a liar cannot push the head. In between the head is estimated by the clock, one chunk
//! per 200 ms. The estimate decides what is asked ahead of time; what play-out may call *missed* (it exists and is not
//! here) is decided by certainty alone.

use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq};

/// How far the estimate may run ahead of the newest certain chunk: 2 s. Our guess: more than a chunk takes through
/// the swarm; less than would be asked for in vain when the publisher falls silent.
const LEAD_MAX: u64 = 10;

/// A lag of the certain behind the estimate that is taken as the way through the swarm, in chunks. Our guess.
const LAG_NORMAL: u64 = 3;

/// The share of a greater lag that corrects the estimate each time. Our guess: smooth over jitter, there in seconds.
const CORRECTION: u64 = 4;

/// Ages beyond this are all the same: 36 000 years.
const AGE_MAX_US: i64 = 1 << 60;

/// An estimate of the head and of each chunk's time of publishing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    newest: ChunkSeq,
    /// `anchor` was published at `at`.
    anchor: ChunkSeq,
    at: Time,
}

impl Head {
    /// The head is `newest` at `now`.
    pub(super) const fn new(newest: ChunkSeq, now: Time) -> Head {
        Head { newest, anchor: newest, at: now }
    }

    /// The newest chunk that certainly exists.
    pub(super) const fn newest(&self) -> ChunkSeq {
        self.newest
    }

    /// The newest chunk by the clock.
    pub(super) fn estimate(&self, now: Time) -> ChunkSeq {
        self.by_clock(now).min(self.newest.ahead(LEAD_MAX)).max(self.newest)
    }

    /// `seq` certainly exists at `now`.
    pub(super) fn observe(&mut self, seq: ChunkSeq, now: Time) {
        if seq <= self.newest {
            return;
        }
        self.newest = seq;
        match self.by_clock(now).since(seq) {
            // Earlier than expected, or the stream went on after a silence.
            None => (self.anchor, self.at) = (seq, now),
            Some(lag) if lag > LEAD_MAX => (self.anchor, self.at) = (seq, now),
            Some(lag) if lag > LAG_NORMAL => {
                self.at = self.at.after(Span::from_micros(lag * CHUNK_SPAN.micros() / CORRECTION))
            }
            Some(_) => {}
        }
    }

    /// How long ago `seq` was published, in microseconds; negative when it will be.
    pub(super) fn age_us(&self, seq: ChunkSeq, now: Time) -> i64 {
        let since_anchor = (now.micros() as i64).saturating_sub(self.at.micros() as i64);
        let chunks = (seq.get() as i64).saturating_sub(self.anchor.get() as i64);
        let age = since_anchor.saturating_sub(chunks.saturating_mul(CHUNK_SPAN.micros() as i64));
        // A publisher may number its chunks as it likes; what is reckoned with an age must not overflow either.
        age.clamp(-AGE_MAX_US, AGE_MAX_US)
    }

    fn by_clock(&self, now: Time) -> ChunkSeq {
        self.anchor.ahead(now.since(self.at).micros() / CHUNK_SPAN.micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u64) -> ChunkSeq {
        ChunkSeq::new(n)
    }

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    #[test]
    fn the_head_goes_on_by_the_clock_but_not_far() {
        let head = Head::new(seq(100), ms(5_000));
        assert_eq!(head.estimate(ms(5_199)), seq(100));
        assert_eq!(head.estimate(ms(6_000)), seq(105));
        assert_eq!(head.estimate(ms(60_000)), seq(110), "a silent publisher makes no chunks");
        assert_eq!(head.newest(), seq(100));
        assert_eq!(head.age_us(seq(105), ms(6_500)), 500_000);
        assert_eq!(head.age_us(seq(110), ms(6_500)), -500_000);
    }

    #[test]
    fn numbers_that_jump_across_the_world_do_not_overflow() {
        let mut head = Head::new(seq(0), ms(5_000));
        assert_eq!(head.age_us(seq(u64::MAX / 2), ms(5_000)), -AGE_MAX_US);
        head.observe(seq(u64::MAX / 2), ms(5_000));
        assert_eq!(head.age_us(seq(0), ms(5_000)), AGE_MAX_US);
    }

    #[test]
    fn an_early_chunk_corrects_at_once_a_late_one_slowly_a_silence_at_once() {
        let mut head = Head::new(seq(100), ms(5_000));
        head.observe(seq(103), ms(5_100));
        assert_eq!(head.age_us(seq(103), ms(5_100)), 0);
        head.observe(seq(104), ms(6_700));
        let lag = head.age_us(seq(104), ms(6_700));
        assert_eq!(lag, 1_400_000 - 1_400_000 / 4, "7 chunks late: a quarter is taken as the publisher's");
        head.observe(seq(105), ms(20_000));
        assert_eq!(head.age_us(seq(105), ms(20_000)), 0);
    }
}
