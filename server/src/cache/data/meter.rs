//! How a shard spends its time: pure, from two clock readings in each turn.
//!
//! ```text
//!      enter    woke                     done   enter
//!  ----|........|#########################|......|####        '#' at work, '.' waiting in the kernel
//!               |  turn                   |
//!       slot of 250 ms ---------------------------|--------   readings are of the last four slots, a second or so
//! ```
//! A chunk's **fan-out time** is from when the shard sees it published until every viewer that was due has had its turn:
//! was sent it, was found to take no more, or skipped. It is what lateness is made of here. The run queue is first in,
//! first out, so it has ended when as many have left the queue as had entered it when the chunk came.

use std::collections::VecDeque;

use cache_core::proto::cache::admission::MEASURED_EVERY;
use cache_core::time::{Span, Time};

/// Slots that a reading covers.
const SLOTS: usize = 4;

/// Fan-outs under way at once that are timed: a chunk of each of 1024 streams. More are not timed; those before them end
/// later than most of theirs.
const FANOUTS_MAX: usize = 1024;

/// Longest wait that is counted: after a long rest the first busy slots must show.
const SLOT_MAX: Span = MEASURED_EVERY.times(2);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    span: Span,
    worked: Span,
    turn_max: Span,
    fanout_max: Span,
    bytes: u64,
}

/// A publication whose viewers are being served.
#[derive(Clone, Copy, Debug)]
struct Fanout {
    /// It has ended when so many have left the run queue.
    until: u64,
    since: Time,
}

/// The meter of one shard.
#[derive(Debug)]
pub(super) struct Meter {
    slot: Slot,
    slot_at: Time,
    past: [Slot; SLOTS],
    bytes_sent: u64,
    queued: u64,
    left: u64,
    fanouts: VecDeque<Fanout>,
}

/// What a shard has measured of itself, once in 250 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Share of the last second at work.
    pub(super) busy_permille: u16,
    /// Longest turn of the last second.
    pub(super) turn_max: Span,
    /// Longest fan-out of the last second.
    pub(super) fanout_max: Span,
    /// Longest fan-out since the last reading; one that has not ended counts as long as it has lasted.
    pub(super) fanout: Span,
    /// Chunk bytes sent per second over the last second.
    pub(super) bytes_per_s: u64,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter {
            slot: Slot::default(),
            slot_at: Time::ZERO,
            past: [Slot::default(); SLOTS],
            bytes_sent: 0,
            queued: 0,
            left: 0,
            fanouts: VecDeque::with_capacity(FANOUTS_MAX),
        }
    }

    /// A connection has entered the run queue.
    pub(super) fn queued(&mut self) {
        self.queued += 1;
    }

    /// The one at the front of the run queue has had its turn.
    pub(super) fn served(&mut self) {
        self.left += 1;
    }

    /// A chunk was seen published, and all who are due are in the run queue.
    pub(super) fn published(&mut self, now: Time) {
        if self.queued > self.left && self.fanouts.len() < FANOUTS_MAX {
            self.fanouts.push_back(Fanout { until: self.queued, since: now });
        }
    }

    /// A turn that began at `woke` is done; `bytes_sent` is a counter. A reading when one is due.
    pub(super) fn turn(&mut self, woke: Time, done: Time, bytes_sent: u64) -> Option<Reading> {
        let worked = done.since(woke);
        self.slot.worked = self.slot.worked.plus(worked);
        self.slot.turn_max = self.slot.turn_max.max(worked);
        while let Some(fanout) = self.fanouts.front().filter(|fanout| fanout.until <= self.left) {
            self.slot.fanout_max = self.slot.fanout_max.max(done.since(fanout.since));
            self.fanouts.pop_front();
        }
        let span = done.since(self.slot_at);
        (span >= MEASURED_EVERY).then(|| {
            self.slot.span = span.min(SLOT_MAX).max(self.slot.worked);
            self.slot.bytes = bytes_sent.wrapping_sub(self.bytes_sent);
            self.bytes_sent = bytes_sent;
            if let Some(oldest) = self.fanouts.front() {
                self.slot.fanout_max = self.slot.fanout_max.max(done.since(oldest.since));
            }
            self.past.rotate_right(1);
            self.past[0] = std::mem::take(&mut self.slot);
            self.slot_at = done;
            self.reading()
        })
    }

    /// The shard was stopped until `now`: what was under way tells nothing of how long it takes.
    pub(super) fn forget(&mut self, now: Time) {
        self.slot = Slot::default();
        self.slot_at = now;
        self.fanouts.clear();
    }

    /// Whether next to nothing has happened for a second: there is nothing to measure until something does.
    pub(super) fn is_at_rest(&self) -> bool {
        let reading = self.reading();
        self.fanouts.is_empty()
            && (reading.busy_permille, reading.bytes_per_s, reading.fanout_max) == (0, 0, Span::ZERO)
    }

    fn reading(&self) -> Reading {
        let sum = |of: fn(&Slot) -> Span| self.past.iter().fold(Span::ZERO, |sum, slot| sum.plus(of(slot)));
        let max = |of: fn(&Slot) -> Span| self.past.iter().map(of).max().unwrap_or_default();
        let span = sum(|slot| slot.span).micros().max(1);
        let bytes: u64 = self.past.iter().map(|slot| slot.bytes).sum();
        Reading {
            busy_permille: (sum(|slot| slot.worked).micros().saturating_mul(1_000) / span).min(1_000) as u16,
            turn_max: max(|slot| slot.turn_max),
            fanout_max: max(|slot| slot.fanout_max),
            fanout: self.past[0].fanout_max,
            bytes_per_s: bytes.saturating_mul(1_000_000) / span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// Runs turns of `work` ms at the beginning of each 50 ms, from `from` to `to`; the last reading.
    fn run(meter: &mut Meter, from: u64, to: u64, work: u64, bytes: &mut u64) -> Option<Reading> {
        let mut last = None;
        for at in (from..to).step_by(50) {
            *bytes += 1_000;
            last = meter.turn(ms(at), ms(at + work), *bytes).or(last);
        }
        last
    }

    #[test]
    fn the_busy_share_is_that_of_the_last_second() {
        let (mut meter, mut bytes) = (Meter::new(), 0);
        let reading = run(&mut meter, 0, 3_000, 10, &mut bytes).expect("it is due every 250 ms");
        assert_eq!((reading.busy_permille, reading.turn_max), (200, Span::from_millis(10)));
        assert_eq!(reading.bytes_per_s, 20_000);
        let reading = run(&mut meter, 3_000, 5_000, 40, &mut bytes).expect("it is due");
        assert_eq!((reading.busy_permille, reading.turn_max), (800, Span::from_millis(40)));
        assert!(!meter.is_at_rest());
    }

    #[test]
    fn a_long_rest_hides_no_work_behind_it_and_ends_in_silence() {
        let (mut meter, mut bytes) = (Meter::new(), 0);
        run(&mut meter, 0, 1_000, 40, &mut bytes);
        let reading = meter.turn(ms(60_000), ms(60_001), bytes).expect("it is due");
        assert!(reading.busy_permille >= 400, "{}", reading.busy_permille);
        for at in [61_000, 62_000, 63_000, 64_000] {
            meter.turn(ms(at), ms(at), bytes);
        }
        assert!(meter.is_at_rest());
    }

    #[test]
    fn a_stop_is_neither_work_nor_fan_out() {
        let (mut meter, mut bytes) = (Meter::new(), 0);
        run(&mut meter, 0, 1_000, 10, &mut bytes);
        meter.queued();
        meter.published(ms(1_000));
        meter.forget(ms(6_000));
        meter.served();
        let reading = run(&mut meter, 6_000, 7_000, 10, &mut bytes).expect("it is due");
        assert!(reading.busy_permille <= 250 && reading.fanout_max == Span::ZERO, "{reading:?}");
    }

    #[test]
    fn a_fan_out_lasts_until_the_last_viewer_that_was_due_has_had_its_turn() {
        let mut meter = Meter::new();
        meter.queued();
        meter.served();
        meter.published(ms(0));
        (0..3).for_each(|_| meter.queued());
        meter.published(ms(10));
        meter.queued();
        meter.served();
        meter.served();
        let half = meter.turn(ms(10), ms(260), 0).expect("it is due");
        assert_eq!(half.fanout, Span::from_millis(250), "it goes on");
        meter.served();
        assert_eq!(meter.turn(ms(260), ms(300), 0), None);
        let ended = meter.turn(ms(500), ms(510), 0).expect("it is due");
        assert_eq!(ended.fanout, Span::from_millis(290), "the fourth came later and is not waited for");
        let quiet = meter.turn(ms(760), ms(760), 0).expect("it is due");
        assert_eq!((quiet.fanout, quiet.fanout_max), (Span::ZERO, Span::from_millis(290)));
    }
}
