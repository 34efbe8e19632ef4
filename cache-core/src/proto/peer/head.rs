//! The newest chunk of the stream, as far as a peer can know it.
//!
//! What is certain comes from chunks whose signature was checked and from what a cache says; partners' maps are hints
//! and move nothing here, so that a liar cannot push the head. In between the head is estimated by the clock, one chunk
//! per 200 ms. The estimate decides what is asked ahead of time; what play-out may call *missed* (it exists and is not
//! here) is decided by certainty alone.
//!
//! ```text
//!  publisher's clock:   published   in every chunk's header, signed
//!  ours:                     |<---- offset ---->|<-- on its way -->| came
//! ```
//! When a chunk was published by our clock is its header's time and an *offset*: the least that lay between a chunk's
//! publishing and its coming in the last half minute or minute. So a chunk that was long on its way is told apart from one
//! that was published late: whoever gets everything late knows that there is more, and asks for it.

use crate::time::{Span, Time, WallClock};
use crate::units::{CHUNK_SPAN, ChunkSeq};

/// How far the estimate may run ahead of the newest certain chunk: 2 s. Our guess: more than a chunk takes through
/// the swarm; less than would be asked for in vain when the publisher falls silent.
const LEAD_MAX: u64 = 10;

/// For so long, and at most twice as long, the least offset is remembered. Our guess: long enough for one chunk to come
/// straight from a cache, short against what clocks drift (200 ppm: 12 ms).
const REMEMBERED: Span = Span::from_secs(30);

/// A chunk this much later than the offset says was not on its way so long: the publisher's clock was set back, or
/// another publisher goes on. Our guess: longer than the longest window.
const SET_BACK_US: i64 = 60_000_000;

/// Ages beyond this are all the same: 36 000 years.
const AGE_MAX_US: i64 = 1 << 60;

/// An estimate of the head and of each chunk's time of publishing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    newest: ChunkSeq,
    /// `anchor` was published at `at_us` by our clock.
    anchor: ChunkSeq,
    at_us: i64,
    /// Between the publisher's clock and ours; none before the first chunk.
    offset: Option<Offset>,
}

/// The least offset of the present half minute and of the one before.
#[derive(Clone, Copy, Debug)]
struct Offset {
    before_us: i64,
    present_us: i64,
    since: Time,
}

impl Offset {
    fn least(&self) -> i64 {
        self.before_us.min(self.present_us)
    }

    /// `newest`: of no chunk that was published before one that has come.
    fn observe(&mut self, offset_us: i64, now: Time, newest: bool) {
        if newest && offset_us.saturating_sub(self.least()) > SET_BACK_US {
            *self = Offset { before_us: offset_us, present_us: offset_us, since: now };
        } else if now.since(self.since) >= REMEMBERED {
            *self = Offset { before_us: self.present_us, present_us: offset_us, since: now };
        } else {
            self.present_us = self.present_us.min(offset_us);
        }
    }
}

impl Head {
    /// The head is `newest` at `now`.
    pub(super) fn new(newest: ChunkSeq, now: Time) -> Head {
        Head { newest, anchor: newest, at_us: us(now.micros()), offset: None }
    }

    /// The newest chunk that certainly exists.
    pub(super) const fn newest(&self) -> ChunkSeq {
        self.newest
    }

    /// The newest chunk by the clock.
    pub(super) fn estimate(&self, now: Time) -> ChunkSeq {
        self.by_clock(now).min(self.newest.ahead(LEAD_MAX)).max(self.newest)
    }

    /// The newest chunk that may be asked of the cache as overdue: the estimate, or, when nothing new was heard of for as long as that
    /// runs ahead, one beyond the newest. The publisher is probably silent, and everybody waits: what all have asked for by then
    /// they all get from the cache when it goes on. Who is cut off from the others learns by that one that there is more.
    pub(super) fn overdue(&self, now: Time) -> ChunkSeq {
        let silent = self.by_clock(now) > self.newest.ahead(LEAD_MAX);
        if silent { self.newest.next() } else { self.estimate(now) }
    }

    /// `seq` certainly exists at `now`, as somebody says who need not be right about the time.
    pub(super) fn exists(&mut self, seq: ChunkSeq, now: Time) {
        self.newest = self.newest.max(seq);
        if self.by_clock(now) < seq {
            (self.anchor, self.at_us) = (seq, us(now.micros()));
        }
    }

    /// A chunk whose signature was checked came at `now`; its publisher's clock said `published`.
    pub(super) fn came(&mut self, seq: ChunkSeq, published: WallClock, now: Time) {
        let (published_us, now_us) = (us(published.micros()), us(now.micros()));
        let offset_us = now_us.saturating_sub(published_us);
        // The first one, if it is no news: what was said of the head says how old it is.
        let age_us = if seq <= self.newest { self.age_us(seq, now).max(0) } else { 0 };
        let by_head = offset_us.saturating_sub(age_us);
        let first = Offset { before_us: by_head, present_us: by_head, since: now };
        let mut offset = self.offset.unwrap_or(first);
        let before = offset.least();
        offset.observe(offset_us, now, seq >= self.newest);
        self.offset = Some(offset);
        if seq >= self.newest || seq > self.anchor {
            (self.anchor, self.at_us) = (seq, published_us.saturating_add(offset.least()));
            self.newest = self.newest.max(seq);
        } else {
            // Everything was published earlier than was thought.
            self.at_us = self.at_us.saturating_add(offset.least().saturating_sub(before).min(0));
        }
    }

    /// How long ago `seq` was published, in microseconds; negative when it will be.
    pub(super) fn age_us(&self, seq: ChunkSeq, now: Time) -> i64 {
        let since_anchor = us(now.micros()).saturating_sub(self.at_us);
        let chunks = us(seq.get()).saturating_sub(us(self.anchor.get()));
        let age = since_anchor.saturating_sub(chunks.saturating_mul(CHUNK_SPAN.micros() as i64));
        // A publisher may number its chunks as it likes; what is reckoned with an age must not overflow either.
        age.clamp(-AGE_MAX_US, AGE_MAX_US)
    }

    /// How long ago `seq` was published at least. Reckoned from a chunk at or behind it, if there is one, that is its age; else from
    /// the newest, for a publisher numbers no faster than it plays: from an older one an age would grow with each silence, and
    /// what a publisher goes on with would look stale.
    pub(super) fn age_at_least_us(&self, seq: ChunkSeq, now: Time) -> i64 {
        if seq <= self.anchor {
            return self.age_us(seq, now);
        }
        let behind = us(self.newest.since(seq).unwrap_or(0)).saturating_mul(CHUNK_SPAN.micros() as i64);
        behind.min(self.age_us(seq, now)).min(AGE_MAX_US)
    }

    fn by_clock(&self, now: Time) -> ChunkSeq {
        let since_anchor = us(now.micros()).saturating_sub(self.at_us).max(0) as u64;
        self.anchor.ahead(since_anchor / CHUNK_SPAN.micros())
    }
}

/// A publisher may say any time.
fn us(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX).min(AGE_MAX_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the publisher's clock is ahead of ours in these tests.
    const AHEAD_MS: u64 = 1_000_000;

    fn seq(n: u64) -> ChunkSeq {
        ChunkSeq::new(n)
    }

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    /// Chunk `n`, published at `published_ms` by our clock, comes at `came_ms`.
    fn came(head: &mut Head, n: u64, published_ms: u64, came_ms: u64) {
        head.came(seq(n), WallClock::from_micros((published_ms + AHEAD_MS) * 1_000), ms(came_ms));
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
    fn numbers_and_clocks_that_jump_across_the_world_do_not_overflow() {
        let mut head = Head::new(seq(0), ms(5_000));
        assert_eq!(head.age_us(seq(u64::MAX / 2), ms(5_000)), -AGE_MAX_US);
        for (n, published) in [(5, u64::MAX), (u64::MAX / 2, 0), (u64::MAX, u64::MAX), (7, 0)] {
            head.came(seq(n), WallClock::from_micros(published), ms(5_000));
            head.exists(seq(n), ms(5_000));
            assert!(
                head.age_us(seq(0), ms(u64::MAX / 1_000)).abs() <= AGE_MAX_US && head.estimate(ms(9_000)) >= seq(n)
            );
        }
    }

    #[test]
    fn chunks_that_are_long_on_their_way_do_not_hold_the_head_back() {
        let mut head = Head::new(seq(100), ms(5_000));
        came(&mut head, 101, 5_200, 5_250);
        for n in 102..200 {
            let published = 5_000 + (n - 100) * 200;
            came(&mut head, n, published, published + 1_900);
        }
        let now = 5_000 + 99 * 200 + 1_900;
        assert_eq!(head.age_us(seq(199), ms(now)), 1_850_000, "50 ms are the least that a chunk was on its way");
        assert_eq!(head.estimate(ms(now)), seq(208));
    }

    #[test]
    fn what_was_long_on_its_way_is_not_taken_for_new_and_what_was_quick_corrects_the_rest() {
        let mut head = Head::new(seq(100), ms(5_000));
        came(&mut head, 95, 3_900, 5_050);
        assert_eq!(head.age_us(seq(100), ms(5_050)), 50_000, "as was said of the head, though it was 150 ms");
        came(&mut head, 101, 5_100, 5_150);
        assert_eq!(head.age_us(seq(101), ms(5_150)), 0, "it cannot come before it is published");
        head.exists(seq(103), ms(5_500));
        came(&mut head, 102, 5_300, 5_310);
        assert_eq!(head.age_us(seq(103), ms(5_510)), 50_000, "and so is what is known by hearsay");
    }

    #[test]
    fn a_silence_is_known_at_once() {
        let mut head = Head::new(seq(100), ms(5_000));
        came(&mut head, 101, 5_200, 5_250);
        came(&mut head, 102, 20_000, 20_500);
        assert_eq!((head.age_us(seq(102), ms(20_500)), head.estimate(ms(20_550))), (450_000, seq(104)));
    }

    #[test]
    fn a_publishers_clock_may_be_set() {
        for (by, after_s) in [(-100_000i64, 0), (100_000, 0), (-5_000, 70), (5_000, 0)] {
            let mut head = Head::new(seq(100), ms(5_000));
            for n in 101..=(310 + 5 * after_s) {
                let published = 5_000 + (n - 100) * 200;
                let set = published as i64 + if n > 300 { by } else { 0 };
                let clock = WallClock::from_micros((set + AHEAD_MS as i64) as u64 * 1_000);
                head.came(seq(n), clock, ms(published + 50));
            }
            let (last, now) = (310 + 5 * after_s, 5_000 + (210 + 5 * after_s) * 200 + 50);
            let age = head.age_us(seq(last), ms(now));
            assert!((0..=50_000).contains(&age), "set by {by}: {age}");
        }
    }

    #[test]
    fn of_a_silent_publisher_one_chunk_is_asked_for_and_not_ten() {
        let head = Head::new(seq(100), ms(5_000));
        assert_eq!(head.overdue(ms(6_000)), seq(105), "as long as it is probably not silent");
        assert_eq!(head.overdue(ms(7_000)), seq(110));
        assert_eq!(head.overdue(ms(7_200)), seq(101));
        let mut cut_off = head;
        cut_off.exists(seq(170), ms(20_000));
        assert_eq!(cut_off.overdue(ms(20_000)), seq(175), "who hears of more goes on");
        assert_eq!(cut_off.age_at_least_us(seq(101), ms(20_000)), 69 * 200_000);
    }
}
