//! An uplink that is cut for a while, as a step function of time.
//!
//! ```text
//!  rate   full ______                    ______________
//!                    |__          ______|   the last throttle ends
//!                       |________|     one of two ends
//! ```
//! What is queued while a throttle holds leaves slowly as long as it holds, and at the full rate behind its end: its end is
//! known when it begins. Of one that begins later nothing is known: what was queued before it leaves as it was to.

use cache_core::time::Time;

/// The throttles of one uplink, in the order of their ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throttles(Vec<Throttle>);

/// A part of the rate, until a moment.
#[derive(Clone, Copy, Debug)]
struct Throttle {
    until: u64,
    ppm: u64,
}

impl Throttles {
    /// Until then `ppm` millionths are left of what the others leave.
    pub(crate) fn begin(&mut self, until: Time, ppm: u64) {
        let until = until.micros();
        let at = self.0.partition_point(|other| other.until <= until);
        self.0.insert(at, Throttle { until, ppm });
    }

    /// Those that are over at `now` are forgotten.
    pub(crate) fn end(&mut self, now: Time) {
        self.0.retain(|throttle| throttle.until > now.micros());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they leave, at a moment, of an uplink of `full` bits per second: 1 at the least. 0, unlimited, stays so.
    pub(crate) fn bps_at(&self, full: u64, at: u64) -> u64 {
        if full == 0 {
            return 0;
        }
        let cuts = self.0.iter().filter(|throttle| throttle.until > at);
        cuts.fold(full, |bps, throttle| (bps * throttle.ppm / 1_000_000).max(1))
    }

    /// When `bytes` that begin to leave at `begin` have left.
    pub(crate) fn through(&self, full: u64, begin: u64, bytes: u64) -> u64 {
        if full == 0 {
            return begin;
        }
        let (mut at, mut left) = (begin, bytes * 8_000_000);
        for throttle in &self.0 {
            let bps = self.bps_at(full, at);
            let most = throttle.until.saturating_sub(at).saturating_mul(bps);
            if left <= most {
                return at + left.div_ceil(bps);
            }
            left -= most;
            at = at.max(throttle.until);
        }
        at + left.div_ceil(full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Time {
        Time::from_millis(n)
    }

    /// 8 kbit/s: a byte takes a millisecond.
    const FULL: u64 = 8_000;

    #[test]
    fn what_a_throttle_has_not_let_through_leaves_fast_behind_its_end() {
        let mut throttles = Throttles::default();
        throttles.begin(ms(1_000), 100_000);
        let left = |begin: u64, bytes| throttles.through(FULL, begin * 1_000, bytes) / 1_000;
        assert_eq!(left(0, 50), 500, "a tenth of the rate");
        assert_eq!(left(0, 100), 1_000);
        assert_eq!(left(0, 300), 1_200, "100 slowly, 200 fast");
        assert_eq!(left(2_000, 300), 2_300);
    }

    #[test]
    fn two_throttles_multiply_and_each_ends_at_its_own_time() {
        let mut throttles = Throttles::default();
        throttles.begin(ms(2_000), 500_000);
        throttles.begin(ms(1_000), 200_000);
        assert_eq!([0, 1_500, 2_500].map(|at| throttles.bps_at(FULL, at * 1_000)), [800, 4_000, 8_000]);
        throttles.end(ms(1_000));
        assert_eq!([0, 1_500, 2_500].map(|at| throttles.bps_at(FULL, at * 1_000)), [4_000, 4_000, 8_000]);
        throttles.end(ms(2_000));
        assert!(throttles.is_empty());
    }

    #[test]
    fn nothing_at_all_is_one_bit_per_second_and_unlimited_stays_unlimited() {
        let mut throttles = Throttles::default();
        throttles.begin(ms(1_000), 0);
        assert_eq!(throttles.bps_at(FULL, 0), 1);
        assert_eq!(throttles.through(FULL, 0, 10) / 1_000, 1_009, "one bit, and the rest behind the end");
        assert_eq!((throttles.bps_at(0, 0), throttles.through(0, 7, 10)), (0, 7));
    }
}
