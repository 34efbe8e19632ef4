//! What a viewer gets, defined once for real and simulated peers: start-up, continuity, stalls, lag.
//!
//! ```text
//!  started        first chunk         a chunk missed    nothing to play     left
//!     |<- start-up ->|#####|#####|#####|.....|#####|#####|            |#####|
//!                                      |<-- a stall      |<- a stall ->|
//! ```
//! | | |
//! |---|---|
//! | start-up | from the peer's start to its first chunk played |
//! | due | each chunk whose time came, the first excepted: played, missed, or left out |
//! | continuity | played over due; 1 before any was due |
//! | stall | a time in which nothing was shown: chunks missed or left out, or play-out standing still; what follows without a chunk between is one |
//! | lag | the moment of play-out less the publisher's clock in the chunk's header |
//!
//! The driver feeds it with what it alone knows: the moment of each [`super::Output::Play`] and
//! [`super::Output::Missed`], how long the chunk lasts, and its lag by its own wall clock.

use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq};

/// Later than this behind the end of the chunk before, play-out stood still. Our guess: half a chunk, more than the
/// play-out's slew and a scheduler's delay, less than what a player bridges unseen.
pub const STILL_AFTER: Span = Span::from_millis(100);

/// What one viewer got, from [`Quality::new`], or from [`Quality::begin_again`] on.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    started: Time,
    startup: Option<Span>,
    last: Option<Last>,
    /// Since when it is counted.
    since: Time,
    /// Of the stall that has not ended.
    open: Span,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    seq: ChunkSeq,
    /// When the next one is due.
    until: Time,
}

/// Sums; none ever falls but by [`Quality::begin_again`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks due.
    pub due: u64,
    /// Those of them that were played.
    pub played: u64,
    /// Stalls that have begun.
    pub stalls: u64,
    /// Their length together.
    pub stalled: Span,
    /// The longest.
    pub stall_longest: Span,
    /// Time of watching: from the first chunk (or from the new beginning) to what was told last.
    pub watched: Span,
}

impl Counts {
    /// Played over due; 1 before any was due.
    pub fn continuity(&self) -> f64 {
        if self.due == 0 { 1.0 } else { self.played as f64 / self.due as f64 }
    }
}

impl Quality {
    /// Of a peer that is started now.
    pub fn new(started: Time) -> Quality {
        Quality { started, startup: None, last: None, since: started, open: Span::ZERO, counts: Counts::default() }
    }

    /// Chunk `seq` is played from `now` on and lasts `lasts`.
    pub fn played(&mut self, now: Time, seq: ChunkSeq, lasts: Span) {
        let first = self.last.is_none();
        self.pass(now, seq);
        if first {
            self.startup = Some(now.since(self.started));
            self.since = now;
        } else {
            self.counts.due += 1;
            self.counts.played += 1;
        }
        self.open = Span::ZERO;
        self.until(seq, now.after(lasts));
    }

    /// Chunk `seq` was due now and is not there; play-out goes on behind it.
    pub fn missed(&mut self, now: Time, seq: ChunkSeq) {
        if self.last.is_none() {
            return;
        }
        self.pass(now, seq);
        self.counts.due += 1;
        self.stall(CHUNK_SPAN);
        self.until(seq, now.after(CHUNK_SPAN));
    }

    /// It is over: a stall that lasts ends now.
    pub fn finish(&mut self, now: Time) {
        if let Some(last) = self.last {
            self.pass(now, last.seq.next());
            self.until(last.seq, now);
            self.open = Span::ZERO;
        }
    }

    /// Counts anew from `now` on (a warm-up has ended); start-up and the place in the stream stay. A stall that has
    /// begun counts from here.
    pub fn begin_again(&mut self, now: Time) {
        self.counts = Counts::default();
        self.open = Span::ZERO;
        self.since = now;
        if let Some(last) = &mut self.last {
            last.until = last.until.max(now);
        }
    }

    /// From the start to the first chunk played, once there was one.
    pub const fn startup(&self) -> Option<Span> {
        self.startup
    }

    /// The sums.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether something is shown at `now`, or was a moment ago.
    pub fn is_playing(&self, now: Time) -> bool {
        self.open == Span::ZERO && self.last.is_some_and(|last| now <= last.until.after(STILL_AFTER))
    }

    /// For how long nothing has been shown at `now`, chunks missed included; zero while something is. Before the first chunk
    /// it counts from the start.
    pub fn standing(&self, now: Time) -> Span {
        let Some(last) = self.last else { return now.since(self.started) };
        let late = now.since(last.until);
        if late > STILL_AFTER { self.open.plus(late) } else { self.open }
    }

    /// Takes in the time since the chunk before, and chunks that were left out in front of `seq`.
    fn pass(&mut self, now: Time, seq: ChunkSeq) {
        let Some(last) = self.last else { return };
        let left_out = seq.since(last.seq.next()).unwrap_or(0);
        self.counts.due += left_out;
        let late = now.since(last.until);
        if late > STILL_AFTER {
            self.stall(late);
        } else if left_out > 0 {
            self.stall(CHUNK_SPAN.times(left_out));
        }
    }

    fn until(&mut self, seq: ChunkSeq, until: Time) {
        self.last = Some(Last { seq, until });
        self.counts.watched = until.since(self.since);
    }

    fn stall(&mut self, more: Span) {
        self.counts.stalls += u64::from(self.open == Span::ZERO);
        self.open = self.open.plus(more);
        self.counts.stalled = self.counts.stalled.plus(more);
        self.counts.stall_longest = self.counts.stall_longest.max(self.open);
    }
}

/// How lags or start-up times are spread: counted in steps of 10 ms up to a bound, above which all share the last step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    bins: Vec<u64>,
    count: u64,
    sum: Span,
    max: Span,
}

/// Width of a step.
pub const SPREAD_STEP: Span = Span::from_millis(10);

/// Steps: up to 2 minutes, far more than any window.
const SPREAD_BINS: usize = 12_000;

impl Spread {
    /// Counts one value.
    pub fn record(&mut self, value: Span) {
        let bin = ((value.micros() / SPREAD_STEP.micros()) as usize).min(SPREAD_BINS - 1);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
        self.count += 1;
        self.sum = self.sum.plus(value);
        self.max = self.max.max(value);
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; zero without any.
    pub fn mean(&self) -> Span {
        Span::from_micros(self.sum.micros().checked_div(self.count).unwrap_or(0))
    }

    /// The greatest.
    pub const fn max(&self) -> Span {
        self.max
    }

    /// The upper edge of the step below or in which `permille` thousandths of all values are, at most the greatest value;
    /// `None` without any.
    pub fn quantile(&self, permille: u64) -> Option<Span> {
        let wanted = (self.count * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        let bin = self.bins.iter().position(|bin| {
            seen += bin;
            seen >= wanted
        })?;
        Some(SPREAD_STEP.times(bin as u64 + 1).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = CHUNK_SPAN;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// Plays the drawing from 1 s on: `#` a chunk in time, `.` one missed, `_` 200 ms in which nothing happens, `x` one that
    /// is left out without a word.
    fn seen(drawing: &str) -> Quality {
        let mut quality = Quality::new(at(400));
        let (mut now, mut seq) = (at(1_000), ChunkSeq::new(7));
        for mark in drawing.bytes() {
            match mark {
                b'#' => quality.played(now, seq, SPAN),
                b'.' => quality.missed(now, seq),
                _ => {}
            }
            if mark != b'x' {
                now = now.after(SPAN);
            }
            if mark != b'_' {
                seq = seq.next();
            }
        }
        quality
    }

    fn of(drawing: &str) -> (u64, u64, u64, u64) {
        let counts = *seen(drawing).counts();
        (counts.due, counts.played, counts.stalls, counts.stall_longest.millis())
    }

    #[test]
    fn the_first_chunk_ends_the_start_up_and_is_not_due() {
        assert_eq!(seen("#").startup(), Some(Span::from_millis(600)));
        assert_eq!(of("###"), (2, 2, 0, 0));
        assert_eq!(seen("__").startup(), None);
    }

    #[test]
    fn missed_chunks_in_a_row_are_one_stall() {
        assert_eq!(of("##..#.#"), (6, 3, 2, 400));
    }

    #[test]
    fn standing_still_is_a_stall_and_so_is_what_is_left_out() {
        assert_eq!(of("##___#"), (2, 2, 1, 600));
        assert_eq!(of("##x#"), (3, 2, 1, 200));
        assert_eq!(of("##.__#"), (3, 2, 1, 600), "a missed chunk and the pause behind it are one");
    }

    #[test]
    fn a_little_late_is_no_stall() {
        let mut quality = seen("##");
        quality.played(at(1_490), ChunkSeq::new(9), SPAN);
        assert_eq!(quality.counts().stalls, 0);
        assert!(quality.is_playing(at(1_700)) && !quality.is_playing(at(1_800)));
    }

    #[test]
    fn who_stands_still_is_told_from_who_misses_a_chunk() {
        let standing = |drawing, ms| seen(drawing).standing(at(ms)).millis();
        assert_eq!((standing("####", 1_900), standing("####", 2_000)), (0, 200));
        assert_eq!((standing("##..", 1_800), standing("##..", 2_500)), (400, 1_100), "the missed ones count");
        assert_eq!(standing("##..#", 2_000), 0);
        assert_eq!(Quality::new(at(400)).standing(at(1_000)).millis(), 600);
    }

    #[test]
    fn a_stall_at_the_end_counts_and_the_warm_up_does_not() {
        let mut quality = seen("##..#");
        quality.begin_again(at(2_000));
        assert_eq!(*quality.counts(), Counts::default());
        quality.finish(at(5_000));
        assert_eq!((quality.counts().stalls, quality.counts().stalled.millis()), (1, 3_000));
    }

    #[test]
    fn a_spread_has_quantiles_within_a_step() {
        let mut spread = Spread::default();
        assert_eq!(spread.quantile(500), None);
        (1..=100).for_each(|n| spread.record(Span::from_millis(n * 10)));
        assert_eq!(spread.quantile(500).map(Span::millis), Some(510), "500 ms is in the step from 500 on");
        assert_eq!((spread.quantile(1_000).map(Span::millis), spread.mean().millis()), (Some(1_000), 505));
        spread.record(Span::from_secs(10_000));
        assert_eq!(spread.max(), Span::from_secs(10_000));
    }
}
