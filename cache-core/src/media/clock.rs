//! The publisher's clock: when a chunk counts as published.
//!
//! The stream's own timeline, laid on the wall clock where it was first met, so that the jitter of an upload does not
//! show in the stamps. In every stamp, with the stream's time at the chunk's end *expected* on the wall clock:
//!
//! | `now` is | stamp | why |
//! |---|---|---|
//! | before `expected` | `now`, and the timeline is moved there | nothing is published before it is there; the earliest arrival is the truest |
//! | up to 200 ms after | `expected` | jitter |
//! | up to 2 s after | `expected`, the timeline moves 10 ms | the stream's clock runs slow, or the upload was held up for good |
//! | more than 2 s after, or the clock was set | `now`, and the timeline is moved there | another upload in effect |
//!
//! All three numbers are our guess: 200 ms is one chunk; 10 ms per chunk, one in twenty, mends a second in 20 s.

use super::pcr::span_of;
use crate::time::{Span, WallClock};

const JITTER_MAX: Span = Span::from_millis(200);
const LATE_MAX: Span = Span::from_secs(2);
const SLEW: Span = Span::from_millis(10);

/// Stamps chunks.
#[derive(Debug, Default)]
pub(super) struct PublishClock {
    /// The wall clock at the stream's time 0.
    anchor: Option<WallClock>,
}

impl PublishClock {
    /// Forgets the timeline: the stream's clock has jumped.
    pub(super) fn reset(&mut self) {
        self.anchor = None;
    }

    /// When a chunk whose last byte came at `now`, at `ticks` of the stream's time, was published.
    pub(super) fn stamp(&mut self, now: WallClock, ticks: u64) -> WallClock {
        let media = span_of(ticks);
        let here = WallClock::from_micros(now.micros().saturating_sub(media.micros()));
        let anchor = self.anchor.get_or_insert(here);
        let expected = anchor.after(media);
        let late = now.since(expected);
        if expected >= now || late > LATE_MAX {
            *anchor = here;
            return now;
        }
        if late > JITTER_MAX {
            *anchor = anchor.after(SLEW);
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::super::pcr::TICKS_PER_MS;
    use super::*;

    const START: u64 = 1_000_000;

    /// Stamps, in milliseconds behind the stream's time, of chunks that arrive so many milliseconds behind it.
    fn stamps(delays_ms: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut clock = PublishClock::default();
        let mut stamp = |(i, delay): (usize, i64)| {
            let media_ms = (i as u64 + 1) * 200;
            let at = ((START + media_ms) as i64 + delay) as u64;
            let stamp = clock.stamp(WallClock::from_micros(at * 1_000), media_ms * TICKS_PER_MS);
            (stamp.micros() / 1_000) as i64 - (START + media_ms) as i64
        };
        delays_ms.into_iter().enumerate().map(&mut stamp).collect()
    }

    #[test]
    fn jitter_does_not_show() {
        assert_eq!(stamps([0, 50, 10, 199, 3]), [0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_earlier_arrival_is_the_truer_one() {
        assert_eq!(stamps([120, 40, 90, 40]), [120, 40, 40, 40]);
    }

    #[test]
    fn a_lasting_delay_is_taken_up_slowly() {
        let stamps = stamps([0].into_iter().chain([500; 60]));
        assert!(stamps.windows(2).all(|pair| (0..=10).contains(&(pair[1] - pair[0]))), "{stamps:?}");
        assert_eq!(stamps.last(), Some(&300), "until it is within the jitter");
    }

    #[test]
    fn another_upload_or_a_clock_that_was_set_starts_anew() {
        assert_eq!(stamps([0, 3_000, 3_100]), [0, 3_000, 3_000]);
        assert_eq!(stamps([0, -900_000, -900_000]), [0, -900_000, -900_000]);
    }
}
