//! Predictions against what was measured or simulated apart from them.

use serde::Serialize;

use crate::calibration::{Calibration, Capacity, Way};
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
    let compare = |seen: &Capacity| {
        let cost = calibration.send(seen.way);
        let way = |way: Way| way.word();
        let stand_in =
            if cost.measured == seen.way { String::new() } else { format!("the cost of {}, ", way(cost.measured)) };
        let (kbps, cores, place) = (seen.kbps, seen.cores, cost.place(seen.kbps));
        Compared {
            what: format!("viewers by {} at {kbps} kbit/s on {cores} cores ({stand_in}{place})", way(seen.way)),
            predicted: cost.viewers_max(kbps, cores),
            seen: seen.viewers,
        }
    };
    measured.capacities.iter().map(compare).collect()
}

/// The capacities of `calibration` at the rates `out`, predicted from those at all its other rates. Measured in the same
/// rounds, they share what the machine did meanwhile. Errors: nothing at one of the rates; not two others by the same way to
/// draw a line through.
pub fn left_out(calibration: &Calibration, out: &[f64]) -> Result<Vec<Compared>, CannotLeaveOut> {
    let all = &calibration.capacities;
    if let Some(kbps) = out.iter().find(|kbps| all.iter().all(|capacity| capacity.kbps != **kbps)) {
        let mut rates: Vec<f64> = all.iter().map(|capacity| capacity.kbps).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        let there = rates.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        return Err(CannotLeaveOut::NotThere { kbps: *kbps, there });
    }
    let mut compared = Vec::new();
    for seen in all.iter().filter(|capacity| out.contains(&capacity.kbps)) {
        let is_other =
            |other: &&Capacity| other.way == seen.way && other.cores == seen.cores && !out.contains(&other.kbps);
        let others: Vec<Capacity> = all.iter().filter(is_other).cloned().collect();
        if others.len() < 2 {
            return Err(CannotLeaveOut::TooFew { kbps: seen.kbps, way: seen.way.word(), others: others.len() });
        }
        let rest = Calibration { capacities: others, ..calibration.clone() };
        compared.extend(capacities(&rest, &Calibration { capacities: vec![seen.clone()], ..calibration.clone() }));
    }
    Ok(compared)
}

/// Why a rate cannot be left out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CannotLeaveOut {
    /// It is not there.
    #[error("--leave-out {kbps}: nothing was measured at that rate; there are {there} kbit/s")]
    NotThere {
        /// The rate.
        kbps: f64,
        /// What was measured.
        there: String,
    },
    /// A line takes two.
    #[error(
        "--leave-out {kbps}: by {way} there are {others} rates that are not left out, and a prediction takes two: measure them \
         together, `weircast-plan calibrate --kbps A,{kbps},B`"
    )]
    TooFew {
        /// The rate.
        kbps: f64,
        /// By which way.
        way: &'static str,
        /// How many there are.
        others: usize,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    impl Capacity {
        fn with(self, viewers: f64) -> Capacity {
            Capacity { viewers, ..self }
        }
    }

    #[test]
    fn rates_that_are_left_out_are_predicted_from_the_others_alone() {
        // 2 us + 1 us for each 4000 bytes.
        let viewers = |kbps: f64| 1e6 / (5.0 * (2.0 + crate::sizes::chunk_bytes(kbps) as f64 / 4_000.0));
        let of =
            |way, kbps, factor: f64| Capacity::of_rounds(way, kbps, 1.0, 150.0, vec![]).with(viewers(kbps) * factor);
        let http = [(4e3, 1.0), (6e3, 0.5), (8e3, 0.8), (16e3, 1.0)].map(|(kbps, factor)| of(Way::Http, kbps, factor));
        let all = http.into_iter().chain([of(Way::Push, 4e3, 1.0)]).collect();
        let calibration = Calibration { capacities: all, ..Calibration::recorded() };
        let [one, other] = &left_out(&calibration, &[8e3, 6e3]).expect("two others")[..] else { panic!("two") };
        assert!((one.off_by() - 1.0).abs() < 1e-6 && (other.off_by() - 0.25).abs() < 1e-6, "{one:?} {other:?}");
        assert!(one.what.contains("http at 6000 kbit/s") && one.what.contains("between 4000 and 16000"), "{one:?}");
        // Alone, 8 Mbit/s has a dearer neighbour.
        assert!(left_out(&calibration, &[8e3]).expect("three others")[0].off_by() < 0.0);
        let said = |out: &[f64]| left_out(&calibration, out).expect_err("impossible").to_string();
        assert!(said(&[8e3, 5e3]).contains("there are 4000, 6000, 8000, 16000 kbit/s"), "{}", said(&[8e3, 5e3]));
        assert!(said(&[4e3]).contains("by push there are 0 rates that are not left out"), "{}", said(&[4e3]));
        assert!(said(&[4e3, 6e3, 8e3]).contains("by http there are 1 rates"), "{}", said(&[4e3, 6e3, 8e3]));
    }

    #[test]
    fn a_prediction_that_is_too_far_off_is_told() {
        let one = |predicted| Compared { what: "x".into(), predicted, seen: 100.0 };
        assert!(judge(&[one(109.0), one(91.0)], 0.1).0);
        let (good, lines) = judge(&[one(109.0), one(89.0)], 0.1);
        assert!(!good && lines[1].ends_with("-11.0 %  TOO FAR"), "{lines:?}");
    }
}
