//! What a partner is worth: eq. (3) of the paper, `PW = ((1-p) * upload + p * download) / durTime`.
//!
//! Averaged over the last two periods, so that an old partner is not immortal.

use crate::time::Time;

/// Chunks exchanged with one partner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worth {
    before: Exchanged,
    present: Exchanged,
    since: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Exchanged {
    uploaded: u64,
    downloaded: u64,
}

impl Worth {
    /// Nothing exchanged; the partnership begins at `now`.
    pub(super) const fn new(now: Time) -> Worth {
        let none = Exchanged { uploaded: 0, downloaded: 0 };
        Worth { before: none, present: none, since: now }
    }

    pub(super) const fn uploaded(&mut self) {
        self.present.uploaded += 1;
    }

    pub(super) const fn downloaded(&mut self) {
        self.present.downloaded += 1;
    }

    /// PW in chunks per second at `now`, with p = `download_weight`.
    pub(super) fn value(&self, now: Time, download_weight: f64) -> f64 {
        let uploaded = (self.before.uploaded + self.present.uploaded) as f64;
        let downloaded = (self.before.downloaded + self.present.downloaded) as f64;
        let seconds = now.since(self.since).secs_f64().max(0.001);
        ((1.0 - download_weight) * uploaded + download_weight * downloaded) / seconds
    }

    /// Ends a period that began at `began`: the one before it is forgotten.
    pub(super) const fn roll(&mut self, began: Time) {
        self.before = self.present;
        self.present = Exchanged { uploaded: 0, downloaded: 0 };
        if began.micros() > self.since.micros() {
            self.since = began;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equation_three() {
        let mut worth = Worth::new(Time::ZERO);
        (0..10).for_each(|_| worth.uploaded());
        (0..20).for_each(|_| worth.downloaded());
        let value = worth.value(Time::from_millis(10_000), 0.7);
        assert!((value - 1.7).abs() < 1e-9, "(0.3 * 10 + 0.7 * 20) / 10 s, not {value}");
    }

    #[test]
    fn merits_of_old_are_forgotten() {
        let mut worth = Worth::new(Time::ZERO);
        (0..1_000).for_each(|_| worth.downloaded());
        worth.roll(Time::ZERO);
        assert!(worth.value(Time::from_millis(20_000), 0.7) > 0.0);
        worth.roll(Time::from_millis(10_000));
        assert_eq!(worth.value(Time::from_millis(20_000), 0.7), 0.0);
    }
}
