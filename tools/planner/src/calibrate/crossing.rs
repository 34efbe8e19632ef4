//! Where the lateness of a cache's viewers crosses its limit, from levels of which each may have been disturbed.
//!
//! ```text
//!  p99 |                  x            x  a hiccup of the machine makes a span late, none makes it early
//!      |                      .*
//!  limit - - - - - - - - -*.-' - - -
//!      |              *.-'|               the line is the middle of all levels near the crossing, so that one or two
//!      |          *.-'    |               disturbed ones do not move it
//!      +------------------'----------- viewers
//!                     the capacity
//! ```
//! First the crossing is bracketed; then levels are spread around it until there are enough of them, and each moves the
//! estimate around which the next ones lie. A level that was wrong in the bracket is so no more than one of several.
//!
//! The line is of logarithms, its slope the repeated median (for each level the middle slope to all others, and of these
//! the middle one): it stands while fewer than half of the levels are wrong.

use crate::trust::middle;

/// Levels spread around the crossing before it counts as found.
const LEVELS: usize = 6;

/// Where they lie, over the estimate as it is by then. Beyond the last it begins again.
const SPREAD: [f64; 8] = [0.9, 1.1, 0.82, 1.02, 0.95, 1.16, 0.86, 1.06];

/// A bracket is near enough when the level that failed has at most this many times the viewers of the one that did not.
const BRACKET: f64 = 1.35;

/// Levels count for the line when they have at most this many times the estimate's viewers, or that part of them.
const NEAR: f64 = 1.4;

/// The estimate moves no further than this at a time.
const STEP: f64 = 1.25;

/// Levels of one search at the most (our guess): a machine on which they do not suffice gives no capacity.
const LEVELS_MAX: usize = 30;

/// A level at which somebody was not served counts as this many times too late.
const FAILED: f64 = 4.0;

/// Lateness grows at least so fast with viewers, as a power of them, and at the most: below, the levels say nothing; above,
/// they are a cliff.
const SLOPE: (f64, f64) = (0.5, 20.0);

/// A level that was run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    viewers: f64,
    /// Lateness over its limit.
    late: f64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// Run so many viewers.
    Level(u64),
    /// So many are the most in time.
    Found(f64),
    /// The most viewers that may be tried are served.
    AllServed,
    /// The levels never agreed on a crossing.
    Lost,
}

/// A search for one capacity.
#[derive(Clone, Debug)]
pub(super) struct Search {
    limit_ms: f64,
    most: f64,
    points: Vec<Point>,
    /// The next level of the bracket, until it is near enough.
    bracket: Option<f64>,
    good: Option<f64>,
    bad: Option<f64>,
    /// Around which levels are spread.
    centre: f64,
    spread: usize,
}

impl Search {
    /// One that begins at `guess` viewers and never tries more than `most`; `is_near`: the guess is a capacity found before,
    /// or follows from a neighbour's, and needs no bracket.
    pub(super) fn new(limit_ms: f64, most: f64, guess: f64, is_near: bool) -> Search {
        let guess = guess.clamp(1.0, most);
        let bracket = (!is_near).then_some(guess);
        Search { limit_ms, most, points: Vec::new(), bracket, good: None, bad: None, centre: guess, spread: 0 }
    }

    /// What to do next.
    pub(super) fn next(&self) -> Next {
        if let Some(viewers) = self.bracket {
            return match self.good {
                Some(good) if good >= self.most => Next::AllServed,
                _ if viewers < 1.0 || self.points.len() >= LEVELS_MAX => Next::Lost,
                _ => Next::Level(viewers.round() as u64),
            };
        }
        let near: Vec<&Point> = self.points.iter().filter(|point| self.is_near(point)).collect();
        let late = near.iter().filter(|point| point.late > 1.0).count();
        let both = near.len() >= LEVELS && late > 0 && late < near.len();
        if both && self.spread >= LEVELS.min(SPREAD.len()) {
            return Next::Found(self.centre);
        }
        if near.len() >= LEVELS && late == 0 && self.centre >= self.most {
            return Next::AllServed;
        }
        if self.points.len() >= LEVELS_MAX {
            return if self.centre * STEP >= self.most { Next::AllServed } else { Next::Lost };
        }
        let viewers = self.centre * SPREAD[self.spread % SPREAD.len()];
        Next::Level(viewers.clamp(1.0, self.most).round() as u64)
    }

    /// A level was run: its 99th percentile of lateness, `None` when somebody was not served.
    pub(super) fn put(&mut self, viewers: u64, p99_ms: Option<f64>) {
        let late = p99_ms.map_or(FAILED, |ms| (ms / self.limit_ms).clamp(1e-3, FAILED));
        let viewers = viewers as f64;
        self.points.push(Point { viewers, late });
        if self.bracket.is_some() {
            self.put_bracket(viewers, late <= 1.0);
        } else {
            self.spread += 1;
            if let Some(crossing) = self.crossing() {
                self.centre = crossing.clamp(self.centre / STEP, self.centre * STEP).clamp(1.0, self.most);
            }
        }
    }

    fn put_bracket(&mut self, viewers: f64, is_good: bool) {
        *(if is_good { &mut self.good } else { &mut self.bad }) = Some(viewers);
        self.bracket = match (self.good, self.bad) {
            (Some(good), Some(bad)) if bad <= good * BRACKET => {
                self.centre = (good * bad).sqrt();
                None
            }
            (Some(good), Some(bad)) => Some((good * bad).sqrt()),
            (Some(good), None) => Some((good * STEP).min(self.most)),
            (None, Some(bad)) => Some(bad / 2.0),
            (None, None) => Some(viewers),
        };
    }

    fn is_near(&self, point: &Point) -> bool {
        (self.centre / NEAR..=self.centre * NEAR).contains(&point.viewers)
    }

    /// Where the line through the levels near the estimate is at the limit.
    fn crossing(&self) -> Option<f64> {
        let near: Vec<(f64, f64)> = self
            .points
            .iter()
            .filter(|point| self.is_near(point))
            .map(|point| (point.viewers.ln(), point.late.ln()))
            .collect();
        let slope_from = |(at, (x, y)): (usize, &(f64, f64))| {
            let others = near.iter().enumerate().filter(|(other, (to, _))| *other != at && (to - x).abs() > 1e-9);
            middle(others.map(|(_, (to, up))| (up - y) / (to - x)).collect())
        };
        let slopes: Vec<f64> = near.iter().enumerate().filter_map(slope_from).collect();
        // Two levels say more of chance than of the slope: as many times the viewers, as many times as late.
        let slope = if near.len() < 3 { 1.0 } else { middle(slopes)?.clamp(SLOPE.0, SLOPE.1) };
        let at_limit = near.iter().map(|(x, y)| x - y / slope).collect();
        Some(middle(at_limit)?.exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: f64 = 150.0;

    /// A server that serves [`Noisy::TRUE`] viewers at the limit; a span is disturbed by `odds`, and then late by up to
    /// three quarters more. Later than a chunk lasts (200 ms), viewers wait for each other and are later and later.
    struct Noisy {
        state: u64,
        odds: f64,
    }

    impl Noisy {
        const TRUE: f64 = 4_000.0;

        fn new(seed: u64, odds: f64) -> Noisy {
            Noisy { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995, odds }
        }

        fn part(&mut self) -> f64 {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 11) as f64 / (1_u64 << 53) as f64
        }

        fn p99_ms(&mut self, viewers: u64) -> Option<f64> {
            let quiet = 10.0 + (LIMIT - 10.0) * viewers as f64 / Noisy::TRUE;
            let overload = if quiet > 200.0 { 1.0 + (quiet - 200.0) / 10.0 } else { 1.0 };
            let jitter = 0.96 + 0.08 * self.part();
            let hiccup = if self.part() < self.odds { 1.1 + 0.65 * self.part() } else { 1.0 };
            let ms = quiet * overload * jitter * hiccup;
            (ms < 1_000.0).then_some(ms)
        }
    }

    fn found(server: &mut Noisy, guess: f64, is_known: bool) -> (f64, usize) {
        let mut search = Search::new(LIMIT, 19_000.0, guess, is_known);
        loop {
            match search.next() {
                Next::Level(viewers) => search.put(viewers, server.p99_ms(viewers)),
                Next::Found(viewers) => return (viewers, search.points.len()),
                other => panic!("{other:?} after {:?}", search.points),
            }
        }
    }

    /// Halving, each level run once and believed: the rule that one disturbed span deceives.
    fn halved(server: &mut Noisy, guess: f64) -> f64 {
        let (mut good, mut bad, mut next) = (500.0, None::<f64>, guess);
        while bad.is_none_or(|bad| bad > good * 1.04) {
            let is_served = server.p99_ms(next as u64).is_some_and(|ms| ms <= LIMIT);
            *(if is_served { &mut good } else { bad.insert(next) }) = next;
            next = bad.map_or(good * 1.12, |bad| (bad * good).sqrt());
        }
        good
    }

    /// Three rounds, the middle.
    fn three(seed: u64, odds: f64) -> f64 {
        let mut server = Noisy::new(seed, odds);
        let first = found(&mut server, 5_000.0, false).0;
        let later = [1, 2].map(|_| found(&mut server, first, true).0);
        middle(vec![first, later[0], later[1]]).expect("three")
    }

    fn off(viewers: f64) -> f64 {
        (viewers / Noisy::TRUE - 1.0).abs()
    }

    #[test]
    fn a_quiet_server_is_found_within_a_few_percent_wherever_the_search_begins() {
        for guess in [700.0, 2_500.0, 4_000.0, 9_000.0, 19_000.0] {
            let (viewers, levels) = found(&mut Noisy::new(1, 0.0), guess, false);
            assert!(off(viewers) < 0.03, "{viewers} from {guess}");
            assert!(levels <= 18, "{levels} levels from {guess}");
        }
        let (_, levels) = found(&mut Noisy::new(1, 0.0), 4_100.0, true);
        assert_eq!(levels, LEVELS, "near a former result a round is short");
        for guess in [2_800.0, 5_600.0] {
            let (viewers, levels) = found(&mut Noisy::new(2, 0.0), guess, true);
            assert!(
                off(viewers) < 0.05 && levels <= LEVELS + 3,
                "{viewers} and {levels} levels from a neighbour's {guess}"
            );
        }
    }

    #[test]
    fn disturbed_spans_deceive_halving_and_not_the_middle_of_rounds() {
        let sorted = |off_by: &dyn Fn(u64) -> f64| {
            let mut all: Vec<f64> = (1..=200).map(off_by).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let old = sorted(&|seed| off(halved(&mut Noisy::new(seed, 0.2), 5_000.0)));
        let new = sorted(&|seed| off(three(seed, 0.2)));
        let beyond = |all: &[f64], much: f64| all.iter().filter(|off_by| **off_by > much).count();
        // Of 200 machines on which every fifth span is disturbed.
        assert!(beyond(&new, 0.05) <= 20 && beyond(&new, 0.1) <= 8, "{new:?}");
        assert!(beyond(&old, 0.05) >= 80 && beyond(&old, 0.1) >= 40, "{old:?}");
        assert!(new[199] < 0.2 && old[180] > 0.3, "the worst: {} and {}", new[199], old[180]);
    }

    #[test]
    fn a_former_result_that_is_far_off_is_left_behind() {
        for former in [2_000.0, 7_000.0] {
            let (viewers, _) = found(&mut Noisy::new(3, 0.0), former, true);
            assert!(off(viewers) < 0.05, "{viewers} from {former}");
        }
    }

    #[test]
    fn a_server_that_serves_all_that_may_be_tried_and_one_that_serves_nobody_are_told() {
        let end = |most: f64, is_known: bool, p99: Option<f64>| {
            let mut search = Search::new(LIMIT, most, 1_000.0, is_known);
            loop {
                match search.next() {
                    Next::Level(viewers) => search.put(viewers, p99),
                    other => return other,
                }
            }
        };
        assert_eq!(end(2_000.0, false, Some(20.0)), Next::AllServed);
        assert_eq!(end(2_000.0, true, Some(20.0)), Next::AllServed);
        let mut search = Search::new(LIMIT, 2_000.0, 1_900.0, true);
        let mut levels = 0;
        while let Next::Level(viewers) = search.next() {
            search.put(viewers, Some(120.0));
            levels += 1;
        }
        assert!(levels <= LEVELS, "it is not asked again and again");
        assert_eq!(end(2_000.0, false, None), Next::Lost);
        assert_eq!(end(2_000.0, true, None), Next::Lost);
    }
}
