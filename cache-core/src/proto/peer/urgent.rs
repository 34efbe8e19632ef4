//! The urgent zone: the third of the window behind the play position, fetched at once, earliest deadline first
//! (paper, section 3.2.3), and the rule of the last resort.
//!
//! A chunk is asked of partners as long as there is time, and of the cache when less than the reserve is left before it
//! is played. During start-up that is so at once for the first chunks: the burst comes from the cache.

use super::config::Tuning;
use super::play_buffer::PlayBuffer;
use crate::time::Span;
use crate::units::{CHUNK_SPAN, ChunkSeq};

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

/// Most that a partner is waited for that keeps its word, in times of `request_timeout_ms`, and the least time that is left of a
/// chunk for that. Our guesses: it may die meanwhile; with less time, as always in the low profile, a second try is worth more.
const PROMISED_MAX: u64 = 3;

/// How long to wait for a partner that answers and has delivered: as long as the cache can still be asked after it, since it
/// refuses at once what it cannot have sent by then. `least`: what the cache needs. `None` when little time is left.
pub(super) fn patience_with_word(left: Span, least: Span, tuning: &Tuning) -> Option<Span> {
    let most = Span::from_millis(tuning.request_timeout_ms).times(PROMISED_MAX);
    let wait = left.minus(least).min(most).max(Span::from_millis(tuning.request_timeout_min_ms));
    (left >= most).then_some(wait)
}

/// Most of an answer's time that is kept for the cache. Our guess: what it takes beyond that it waits behind our own uplink, which
/// is reckoned with apart.
const ANSWER_MAX: Span = Span::from_millis(1_100);

/// What is left of a chunk's time when a partner is waited for no longer: what an answer of the cache `takes`, a third of the
/// `reserve` at which it is asked whoever else was, and a beat of the play-out that sees it.
pub(super) fn least_for_cache(reserve: Span, takes: Span) -> Span {
    let third = Span::from_micros(reserve.micros() / 3);
    takes.min(ANSWER_MAX).max(third).max(LEAST_RESERVE_ALONE).plus(CHUNK_SPAN)
}

/// What of a request's time may be spent on the ways there and back, and on a packet that is lost. Our guess: a round trip between
/// continents, a quarter of a time that is short.
const ON_THE_WAY: Span = Span::from_millis(250);

/// What a partner is told of how long it is waited for, if the request leaves when the uplink is free; never zero, which would say
/// nothing.
pub(super) fn within(patience: Span, uplink_busy: Span) -> Span {
    let on_the_way = ON_THE_WAY.min(Span::from_micros(patience.micros() / 4));
    patience.minus(on_the_way).minus(uplink_busy).max(Span::from_millis(1))
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
    fn a_partner_that_keeps_its_word_is_waited_for_until_the_cache_must_be_asked() {
        let tuning = Tuning::default();
        let least = least_for_cache(ms(1_650), ms(300));
        assert_eq!(least.millis(), 900);
        assert_eq!([1_000, 9_000].map(|takes| least_for_cache(ms(1_650), ms(takes)).millis()), [1_200, 1_300]);
        let wait = |left| patience_with_word(ms(left), least, &tuning).map(Span::millis);
        assert_eq!([wait(9_000), wait(3_100), wait(2_999)], [Some(3_000), Some(2_200), None]);
        let low = Profile::Low.tuning();
        assert_eq!(patience_with_word(low.play_delay(), least, &low), None, "a second try is worth more");
    }

    #[test]
    fn what_is_told_leaves_room_for_the_ways() {
        let told = |patience, busy| within(ms(patience), ms(busy)).millis();
        assert_eq!([told(3_000, 0), told(3_000, 600), told(300, 0), told(300, 600)], [2_750, 2_150, 225, 1]);
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
