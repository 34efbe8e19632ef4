//! The urgent zone: the third of the window behind the play position, fetched at once, earliest deadline first
//! (paper, section 3.2.3), and the rule of the last resort.
//!
//! A chunk is asked of partners as long as there is time, and of the cache when less than the reserve is left before it
//! is played. During start-up that is so at once for the first chunks: the burst comes from the cache.

use super::config::Tuning;
use super::play_buffer::PlayBuffer;
use crate::time::Span;
use crate::units::ChunkSeq;

/// The first chunk behind the urgent zone.
pub(super) fn zone_end(buffer: &PlayBuffer, tuning: &Tuning) -> ChunkSeq {
    buffer.position().ahead(tuning.urgent_chunks())
}

/// The least time before its play-out at which a chunk is asked of the cache, whoever else was asked. Chunks are looked at
/// on each beat of the play-out, when what is left is a multiple of 200 ms: so two beats see it, and half of one is spare
/// (our guess).
const LEAST_RESERVE: Span = Span::from_millis(500);

/// The same when nobody has been asked: a beat earlier, so that a packet that is lost on the way from the cache (a round trip and
/// 200 ms) does not cost the chunk.
const LEAST_RESERVE_ALONE: Span = Span::from_millis(700);

/// Whether a chunk that is played in `left` is to be asked of the cache: below the reserve when no partner has been
/// asked, below a third of it (our guess) whether or not; and in any case in the last 700 or 500 ms.
pub fn needs_cache(left: Span, reserve: Span, open_at_partner: bool) -> bool {
    if open_at_partner {
        left < Span::from_micros(reserve.micros() / 3).max(LEAST_RESERVE)
    } else {
        left < reserve.max(LEAST_RESERVE_ALONE)
    }
}

/// Whether a chunk that is played in `left` is not asked of partners outside the nearest tier yet: somebody nearer is
/// likely to have it before half of the play delay (our guess) is over.
pub(super) const fn waits_for_near(left: Span, play_delay: Span) -> bool {
    left.micros() >= play_delay.micros() / 2
}

/// Whether a chunk that is played in `left` is not asked of anybody yet as it is to be pushed: who leads in its sub-stream has a
/// third of the play delay (our guess) to announce it.
pub(super) const fn waits_for_leader(left: Span, play_delay: Span) -> bool {
    left.micros() >= play_delay.micros() / 3 * 2
}

/// How long to wait for a partner's answer: a third of the time that is left, so that a second partner and the cache can be
/// asked after it; as long as its chunks take (`usual`, once known) when that is more, up to half of the time that is left;
/// within the configured bounds.
pub(super) fn patience(left: Span, usual: Option<Span>, tuning: &Tuning) -> Span {
    let (third, half) = (left.millis() / 3, left.millis() / 2);
    let wait = usual.map_or(third, |usual| usual.millis().clamp(third, half));
    Span::from_millis(wait.clamp(tuning.request_timeout_min_ms, tuning.request_timeout_ms))
}

#[cfg(test)]
mod tests {
    use super::super::config::Profile;
    use super::*;

    fn ms(n: u64) -> Span {
        Span::from_millis(n)
    }

    #[test]
    fn the_cache_is_the_last_resort() {
        let reserve = ms(1_500);
        assert!(!needs_cache(ms(1_500), reserve, false));
        assert!(needs_cache(ms(1_499), reserve, false));
        assert!(!needs_cache(ms(500), reserve, true), "a partner is at it");
        assert!(needs_cache(ms(499), reserve, true));
    }

    #[test]
    fn two_beats_of_the_play_out_see_a_chunk_that_needs_the_cache_however_short_the_lag() {
        for (reserve, open_at_partner) in [(0, false), (100, true), (333, true), (333, false)] {
            let seen = [800, 600, 400, 200].map(|left| needs_cache(ms(left), ms(reserve), open_at_partner));
            assert_eq!(seen, [false, !open_at_partner, true, true], "reserve {reserve}");
        }
    }

    #[test]
    fn far_partners_are_asked_in_the_second_half_of_the_play_delay_and_before_the_cache() {
        assert!(waits_for_near(ms(3_000), ms(6_000)) && !waits_for_near(ms(2_999), ms(6_000)));
        for profile in [Profile::Classic, Profile::Mid, Profile::Low].map(Profile::tuning) {
            let (reserve, delay) = (profile.cache_reserve(), profile.play_delay());
            assert!(!waits_for_near(reserve, delay), "time for a far partner is left before the cache is asked");
            assert!(!waits_for_leader(delay.minus(delay), delay) && waits_for_leader(delay, delay));
        }
    }

    #[test]
    fn less_time_less_patience() {
        let tuning = Tuning::default();
        let wait = |left| patience(ms(left), None, &tuning).millis();
        assert_eq!([wait(9_000), wait(1_800), wait(100)], [1_000, 600, 300]);
        let wait = |usual| patience(ms(1_800), Some(ms(usual)), &tuning).millis();
        assert_eq!([wait(100), wait(750), wait(2_000)], [600, 750, 900], "a slow partner is waited for longer");
    }
}
