//! How far a peer leans on its cache: further while the cache has much left, less as it fills. Our own; the paper does not say.
//!
//! ```text
//!  part of the reserve
//!  11/10                                    _______   asked earlier: a chunk has longer to come
//!    1              ___________________----
//!              ----
//!   2/3 ___----                                       asked last of all: partners have all the time there is
//!       0        300                600      900  1000   of the cache's means are left, in thousandths
//! ```
//! The cache says what it has left in each `StreamInfo`; a peer asks again every few seconds, at a moment of its own
//! (its id decides), so that a domain does not turn as one. What it hears is smoothed, and the part follows it without a step: who
//! leans less makes the cache less busy, which lets it lean more, by less than it leaned less; so it settles. A cache that
//! lies moves the reserve between these bounds, and by the time of its answers to a third of the lag, and nothing else.
//!
//! The same question measures how long the cache's answer takes. A chunk that is asked for later than that comes too late:
//! far from its cache a peer asks earlier, as long as the cache is not short itself.

use super::delivery::Delivery;
use super::playout::Pace;
use crate::peer_id::PeerId;
use crate::prng::mix;
use crate::time::{Span, Time};
use crate::units::CHUNK_SPAN;

/// From one question to the next at the least, and by how much more at the most. Our guess: a second question in the time that
/// the play delay takes, and five chunks' requests for each.
const PERIOD: Span = Span::from_secs(4);
const PERIOD_MORE: Span = Span::from_secs(2);

/// The curve: what is left, in thousandths, and the part of the reserve, in thousandths. Our guesses: the last third is what a
/// crowd that joins needs; above nine tenths the cache is idle. A third instead of two was tried: what is asked so late of a full
/// cache comes too late, and is sent for nothing.
const CURVE: [(u64, u64); 4] = [(0, 667), (300, 1_000), (600, 1_000), (900, 1_100)];

/// What a cache's word counts against what it said before: a half, so that three periods hear it nearly in full (our guess).
const SMOOTHED_BY: u64 = 2;

/// What the cache of the present link has said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Help {
    /// Smoothed, in thousandths; `None` before the first word.
    spare: Option<u64>,
    answers: Delivery,
    asked: Option<Time>,
    next: Option<Time>,
}

impl Help {
    /// The cache has said what it has left.
    pub(super) fn said(&mut self, now: Time, spare_permille: u16) {
        let said = u64::from(spare_permille).min(1_000);
        let before = self.spare.unwrap_or(said);
        // Rounded towards what was said, so that it is reached.
        let step = before.abs_diff(said).div_ceil(SMOOTHED_BY);
        self.spare = Some(if said > before { before + step } else { before - step });
        if let Some(asked) = self.asked.take() {
            self.answers.observe(now.since(asked));
        }
    }

    /// Whether the cache is to be asked now; it counts as asked then. The first question comes when a period has passed.
    pub(super) fn is_due(&mut self, now: Time, me: PeerId) -> bool {
        let Some(next) = self.next else {
            self.next = Some(now.after(period(now, me)));
            return false;
        };
        let due = next <= now;
        if due {
            self.next = Some(now.after(period(now, me)));
            // An answer that is still to come would be taken for this one's.
            self.asked = if self.asked.is_none() { Some(now) } else { None };
        }
        due
    }

    /// The pace of a peer with such a cache. `lag`: how far behind the publisher it plays, a third of which is the most that an
    /// answer's time may ask for.
    pub(super) fn pace(&self, pace: Pace, lag: Span) -> Pace {
        let part = self.part();
        let reserve = Span::from_micros(pace.reserve.micros() * part / 1_000);
        let seed_step = Span::from_micros(pace.seed_step.micros() * 1_000 / part);
        let far = Span::from_micros(lag.micros() / 3).minus(reserve);
        let most = reserve.plus(Span::from_micros(far.micros() / 1_000 * self.leisure()));
        let takes = self.answers.at_most().map_or(Span::ZERO, |answer| answer.plus(CHUNK_SPAN)).min(most);
        Pace { reserve: reserve.max(takes), seed_step, takes }
    }

    /// How far the time of its answers is allowed for, in thousandths: not at all by a cache that is short, fully from twice that on.
    fn leisure(&self) -> u64 {
        let (short, _) = CURVE[1];
        self.spare.map_or(1_000, |spare| (spare.saturating_sub(short) * 1_000 / short).min(1_000))
    }

    /// The part of the configured reserve that holds, in thousandths.
    fn part(&self) -> u64 {
        let Some(spare) = self.spare else { return 1_000 };
        let segment = CURVE.windows(2).find(|two| spare <= two[1].0);
        segment.map_or(CURVE[CURVE.len() - 1].1, |two| {
            let ((from, low), (to, high)) = (two[0], two[1]);
            low + (high - low) * (spare - from) / (to - from)
        })
    }
}

/// Until the next question: another time for each peer and each question.
fn period(now: Time, me: PeerId) -> Span {
    let more = mix(me.bits() ^ now.micros()) % PERIOD_MORE.micros();
    PERIOD.plus(Span::from_micros(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Time {
        Time::from_millis(n)
    }

    const PACE: Pace = Pace { reserve: Span::from_millis(1_500), seed_step: Span::from_secs(1), takes: Span::ZERO };
    const LAG: Span = Span::from_secs(6);

    fn heard(said: &[u16]) -> Help {
        let mut help = Help::default();
        said.iter().for_each(|spare| help.said(at(0), *spare));
        help
    }

    fn reserve(said: &[u16]) -> u64 {
        heard(said).pace(PACE, LAG).reserve.millis()
    }

    #[test]
    fn a_full_cache_is_the_last_resort_and_an_idle_one_is_asked_early() {
        let reserves = [0, 150, 300, 450, 600, 750, 900, 1_000].map(|spare| reserve(&[spare]));
        assert_eq!(reserves, [1_000, 1_249, 1_500, 1_500, 1_500, 1_575, 1_650, 1_650]);
        let step = |spare| heard(&[spare]).pace(PACE, LAG).seed_step.millis();
        assert_eq!([0, 450, 1_000].map(step), [1_499, 1_000, 909], "fewer seed what nobody announces");
    }

    #[test]
    fn a_cache_that_has_said_nothing_is_asked_as_configured() {
        assert_eq!(Help::default().pace(PACE, LAG).reserve, PACE.reserve);
    }

    #[test]
    fn whatever_a_cache_says_the_reserve_stays_within_its_bounds() {
        for said in [[u16::MAX; 3], [0; 3], [u16::MAX, 0, u16::MAX]] {
            assert!((1_000..=1_650).contains(&reserve(&said)), "{said:?}");
        }
    }

    #[test]
    fn one_word_moves_half_of_the_way_and_repeated_it_is_reached() {
        assert_eq!((reserve(&[300, 0]), reserve(&[300, 0, 0])), (1_249, 1_125));
        assert_eq!(reserve(&[300, 0, 0, 0, 0, 0, 0, 0, 0, 0]), reserve(&[0]));
        assert_eq!(
            heard(&[0, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]).spare,
            Some(1_000)
        );
    }

    /// A cache that 100 peers lean on: what they take grows with their reserve, and it says what it has left.
    #[test]
    fn cache_and_peers_settle() {
        let mut peers = [Help::default(); 100];
        let (mut lowest, mut highest) = (u64::MAX, 0);
        for round in 0..60 {
            for turn in 0..100 {
                let part = peers.iter().map(Help::part).sum::<u64>() / 100;
                // At the full reserve they would take 95 % of it.
                let spare = 1_000_u64.saturating_sub(950 * part / 1_000);
                peers[turn].said(at(0), spare as u16);
                if round >= 40 {
                    (lowest, highest) = (lowest.min(spare), highest.max(spare));
                }
            }
        }
        assert!(lowest > 150 && highest - lowest < 20, "between {lowest} and {highest}");
    }

    #[test]
    fn far_from_its_cache_a_peer_asks_earlier_but_not_of_a_full_one() {
        let far = |spare| {
            let mut help = heard(&[spare]);
            help.asked = Some(at(0));
            help.said(at(600), spare);
            help.pace(PACE, LAG)
        };
        let pace = far(600);
        assert_eq!(
            (pace.takes.millis(), pace.reserve.millis()),
            (2_000, 2_000),
            "600 ms, four deviations of 300, a chunk"
        );
        assert_eq!(far(0).reserve.millis(), 1_000);
        assert_eq!(far(450).reserve.millis(), 1_750);
        assert!(far(301).reserve.millis() - far(299).reserve.millis() < 10, "no step");
        let mut near = heard(&[450]);
        near.asked = Some(at(0));
        near.said(at(40), 450);
        let pace = near.pace(PACE, LAG);
        assert_eq!((pace.takes.millis(), pace.reserve.millis()), (320, 1_500));
    }

    #[test]
    fn every_peer_asks_at_moments_of_its_own() {
        let moments = |id| {
            let mut help = Help::default();
            let me = PeerId::from_bits(id).expect("small");
            let due = |ms: &u64| help.is_due(at(*ms), me);
            (0..60_000).step_by(200).filter(due).collect::<Vec<_>>()
        };
        let (one, other) = (moments(1), moments(2));
        assert!((9..=15).contains(&one.len()) && one[0] >= 4_000, "{one:?}");
        assert_ne!(one, other);
        assert!(one.windows(2).all(|two| (4_000..=6_200).contains(&(two[1] - two[0]))), "{one:?}");
    }
}
