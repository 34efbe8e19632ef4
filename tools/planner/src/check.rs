//! Predictions against what was measured or simulated apart from them.

use serde::Serialize;

use crate::calibration::{Calibration, Way};
use crate::offload::{Offload, OffloadRun};

/// One prediction and what came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Of what.
    pub what: String,
    /// The planner's number.
    pub predicted: f64,
    /// The measured or simulated one.
    pub seen: f64,
}

impl Compared {
    /// By how much the prediction is off, relative to what came: 0.1 is 10 % too much.
    pub fn off_by(&self) -> f64 {
        self.predicted / self.seen - 1.0
    }
}

/// The capacities of `measured`, predicted with the costs of `calibration`.
pub fn capacities(calibration: &Calibration, measured: &Calibration) -> Vec<Compared> {
    let compare = |seen: &crate::calibration::Capacity| {
        let cost = calibration.send(seen.way).measured;
        let stand_in = if cost == seen.way { String::new() } else { format!(", by the cost of {}", way(cost)) };
        Compared {
            what: format!("viewers by {} at {} kbit/s on {} cores{stand_in}", way(seen.way), seen.kbps, seen.cores),
            predicted: calibration.viewers_max(seen.way, seen.kbps, seen.cores),
            seen: seen.viewers,
        }
    };
    measured.capacities.iter().map(compare).collect()
}

/// The offload of `runs`, predicted with `offload`.
pub fn offloads(offload: &Offload, runs: &[OffloadRun]) -> Vec<Compared> {
    let compare = |run: &OffloadRun| Compared {
        what: format!("offload at uplink {} with {} peers", run.uplink, run.peers),
        predicted: offload.share(run.uplink, f64::from(run.peers)),
        seen: run.offload,
    };
    runs.iter().map(compare).collect()
}

/// Whether every prediction is within `tolerance`, and a line for each.
pub fn judge(compared: &[Compared], tolerance: f64) -> (bool, Vec<String>) {
    let line = |one: &Compared| {
        let verdict = if one.off_by().abs() <= tolerance { "" } else { "  TOO FAR" };
        format!(
            "{}: predicted {:.4}, seen {:.4}: {:+.1} %{verdict}",
            one.what,
            one.predicted,
            one.seen,
            100.0 * one.off_by()
        )
    };
    let all = compared.iter().all(|one| one.off_by().abs() <= tolerance);
    (all, compared.iter().map(line).collect())
}

const fn way(way: Way) -> &'static str {
    way.word()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prediction_that_is_too_far_off_is_told() {
        let one = |predicted| Compared { what: "x".into(), predicted, seen: 100.0 };
        assert!(judge(&[one(109.0), one(91.0)], 0.1).0);
        let (good, lines) = judge(&[one(109.0), one(89.0)], 0.1);
        assert!(!good && lines[1].ends_with("-11.0 %  TOO FAR"), "{lines:?}");
    }
}
