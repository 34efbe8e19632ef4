//! How much is asked of one partner in a period: eq. (5) of the paper, as printed and repaired.
//!
//! R is what was asked and resolved in the period, F what of it came. L is the floor, H comes from eq. (4).
//!
//! ```text
//!  F = R         min(2R, H)
//!  R/2 <= F < R  max(L, 2F - R)
//!  F < R/2       0
//! ```
//! As printed, 0 is absorbing (nothing asked, nothing completed, 0 for ever), and a partner of constant capacity is used
//! to 49-83 % only. The repair keeps the spirit: 0 means "mute for T, then probe with L"; the last failure is remembered
//! as a threshold above which growth is by 1; a partial success goes on with what came. A quota that was not used up
//! says nothing about the partner, so it neither grows nor shrinks.

use super::config::{RequestControl, Tuning};
use crate::time::{Span, Time};

/// Eq. (5) as printed.
pub(super) const fn equation_five(asked: u32, completed: u32, low: u32, high: u32) -> u32 {
    if completed >= asked {
        let twice = asked.saturating_mul(2);
        if twice < high { twice } else { high }
    } else if completed.saturating_mul(2) >= asked {
        let kept = (completed * 2).saturating_sub(asked);
        if kept > low { kept } else { low }
    } else {
        0
    }
}

/// Eq. (4): `H = ceil(k * N / M)` for N needed chunks and M partners; above L, as eq. (5) asks.
pub(super) fn equation_four(k: f64, needed: usize, partners: usize, low: u32) -> u32 {
    let high = (k * needed as f64 / partners.max(1) as f64).ceil() as u32;
    high.max(low + 1)
}

/// One partner's quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestRate {
    quota: u32,
    open: u32,
    completed: u32,
    failed: u32,
    /// The quota was used up in this period.
    used_up: bool,
    /// What came when the partner last failed.
    threshold: Option<u32>,
    muted_until: Option<Time>,
}

impl RequestRate {
    /// A new partner: the floor.
    pub(super) const fn new(low: u32) -> RequestRate {
        RequestRate { quota: low, open: 0, completed: 0, failed: 0, used_up: false, threshold: None, muted_until: None }
    }

    /// How many chunks may still be asked in this period.
    pub(super) const fn room(&self) -> u32 {
        self.quota.saturating_sub(self.open + self.completed + self.failed)
    }

    /// Chunks asked and not resolved.
    pub(super) const fn open(&self) -> u32 {
        self.open
    }

    /// A chunk was asked.
    pub(super) const fn asked(&mut self) {
        self.open += 1;
        if self.room() == 0 {
            self.used_up = true;
        }
    }

    /// It came.
    pub(super) const fn completed(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.completed += 1;
    }

    /// It did not.
    pub(super) const fn failed(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.failed += 1;
    }

    /// The asker no longer wants it: neither success nor failure.
    pub(super) const fn withdrawn(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Ends a period and sets the next one's quota. What is still open counts in the period in which it is resolved.
    pub(super) fn roll(&mut self, now: Time, tuning: &Tuning, high: u32) {
        let (asked, completed) = (self.completed + self.failed, self.completed);
        let low = tuning.request_floor;
        match tuning.request_control {
            RequestControl::Paper if asked > 0 => self.quota = equation_five(asked, completed, low, high),
            RequestControl::Paper => {}
            RequestControl::Repaired => self.repaired(now, asked, completed, low, high, tuning.request_mute_ms),
        }
        (self.completed, self.failed) = (0, 0);
        self.used_up = self.room() == 0;
    }

    fn repaired(&mut self, now: Time, asked: u32, completed: u32, low: u32, high: u32, mute_ms: u64) {
        if let Some(until) = self.muted_until {
            if until <= now {
                (self.muted_until, self.quota) = (None, low);
            }
        } else if completed == asked {
            if self.used_up && asked > 0 {
                self.quota = match self.threshold {
                    Some(threshold) if self.quota >= threshold => self.quota + 1,
                    Some(threshold) => (self.quota * 2).min(threshold),
                    None => self.quota * 2,
                };
            }
            self.quota = self.quota.clamp(low, high);
        } else {
            self.threshold = Some(completed.max(low));
            if completed * 2 >= asked {
                self.quota = completed.max(low);
            } else {
                (self.quota, self.muted_until) = (0, Some(now.after(Span::from_millis(mute_ms))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equation_five_vectors() {
        let vectors = [(4, 4, 8), (16, 16, 16), (8, 7, 6), (8, 4, 2), (8, 3, 0), (5, 3, 2), (5, 2, 0), (0, 0, 0)];
        for (asked, completed, next) in vectors {
            assert_eq!(equation_five(asked, completed, 2, 16), next, "R = {asked}, F = {completed}");
        }
    }

    #[test]
    fn equation_four_is_twice_an_even_share() {
        assert_eq!(equation_four(2.0, 30, 4, 2), 15);
        assert_eq!(equation_four(2.0, 31, 4, 2), 16);
        assert_eq!(equation_four(2.0, 1, 8, 2), 3, "never below L + 1");
        assert_eq!(equation_four(2.0, 10, 0, 2), 20, "no partner: nothing is divided by 0");
    }

    /// The share of a constant capacity that is used over many periods, asking whenever there is room.
    fn use_of(control: RequestControl, capacity: u32) -> f64 {
        let tuning = Tuning { request_control: control, ..Tuning::default() };
        let mut rate = RequestRate::new(tuning.request_floor);
        let mut came = 0;
        for period in 0..1_000u64 {
            let asked = rate.room();
            (0..asked).for_each(|_| rate.asked());
            for i in 0..asked {
                if i < capacity { rate.completed() } else { rate.failed() }
            }
            came += asked.min(capacity);
            rate.roll(Time::from_millis(period * 500), &tuning, 64);
        }
        f64::from(came) / f64::from(capacity * 1_000)
    }

    #[test]
    fn the_repair_uses_a_partners_capacity() {
        for capacity in [4, 8, 16, 32] {
            let (paper, repaired) =
                (use_of(RequestControl::Paper, capacity), use_of(RequestControl::Repaired, capacity));
            assert!(repaired > 0.98 && paper < 0.9, "capacity {capacity}: {repaired} against {paper}");
        }
    }

    #[test]
    fn zero_is_for_ever_in_the_paper_and_a_pause_when_repaired() {
        for (control, comes_back) in [(RequestControl::Paper, false), (RequestControl::Repaired, true)] {
            let tuning = Tuning { request_control: control, ..Tuning::default() };
            let mut rate = RequestRate::new(2);
            (0..2).for_each(|_| rate.asked());
            (0..2).for_each(|_| rate.failed());
            rate.roll(Time::from_millis(500), &tuning, 16);
            assert_eq!(rate.room(), 0);
            rate.roll(Time::from_millis(1_000), &tuning, 16);
            assert_eq!(rate.room(), 0, "muted for a second");
            rate.roll(Time::from_millis(1_500), &tuning, 16);
            assert_eq!(rate.room() == 2, comes_back, "{control:?}");
        }
    }

    #[test]
    fn a_quota_that_is_not_used_up_stays() {
        let tuning = Tuning::default();
        let mut rate = RequestRate::new(4);
        rate.asked();
        rate.completed();
        rate.roll(Time::from_millis(500), &tuning, 16);
        assert_eq!(rate.room(), 4);
        rate.roll(Time::from_millis(1_000), &tuning, 16);
        assert_eq!(rate.room(), 4);
    }
}
