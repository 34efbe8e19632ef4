//! How far a calibration can be trusted: how its rounds scatter, and how far its capacities are from the costs planned with.
//!
//! ```text
//!  capacity, by round     6 100   6 450   6 300     the middle counts; (most - least) / middle: 5.6 % scatter
//!  4, 8, 16 Mbit/s        two numbers for three capacities: what each is off from them is its residual
//! ```

use crate::calibration::{Calibration, Capacity, Round, Way};

/// Rounds that scatter by more than this, and residuals above it, are told: a tenth is what a prediction may be off.
pub const DOUBT_MIN: f64 = 0.10;

/// The middle value; of an even number the mean of the two in the middle. `None` of none.
pub fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

/// The most less the least over the middle; 0 of fewer than two.
pub fn scatter(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    middle(values).map_or(0.0, |middle| (most - least) / middle)
}

/// How far what the costs say of `capacity` is off from it, relative: 0.1 is 10 % too many viewers.
pub fn residual(calibration: &Calibration, capacity: &Capacity) -> f64 {
    calibration.viewers_max(capacity.way, capacity.kbps, capacity.cores) / capacity.viewers - 1.0
}

/// Each capacity with its rounds, and what the costs make of it.
pub fn lines(calibration: &Calibration) -> Vec<String> {
    let line = |capacity: &Capacity| {
        let mut line = format!("{}: {:.0} viewers in time", name(capacity), capacity.viewers);
        if let [_, _, ..] = capacity.rounds[..] {
            let each: Vec<String> = capacity.rounds.iter().map(|round| format!("{:.0}", round.viewers)).collect();
            line += &format!(
                " (rounds: {}; scatter {:.1} %, of CPU time for a GiB {:.1} %)",
                each.join(", "),
                100.0 * viewers_scatter(capacity),
                100.0 * cpu_scatter(capacity)
            );
        }
        line + &format!("; the costs say {:+.1} %", 100.0 * residual(calibration, capacity))
    };
    let mut lines: Vec<String> = calibration.capacities.iter().map(line).collect();
    for way in [Way::Http, Way::Pull, Way::Push] {
        let cost = calibration.send(way);
        if cost.measured == way {
            lines.push(format!("{}: a chunk costs {:.2} us + {:.1} us/MiB", way.word(), cost.chunk_us, cost.mib_us));
        }
    }
    lines
}

/// What to know before it is trusted, and what to do.
pub fn doubts(calibration: &Calibration) -> Vec<String> {
    let mut doubts = Vec::new();
    for capacity in &calibration.capacities {
        let scatter = viewers_scatter(capacity);
        if scatter > DOUBT_MIN {
            let why = if cpu_scatter(capacity) > DOUBT_MIN {
                "its CPU time for the same work does so too: something else uses the processor, or its clock changes"
            } else {
                "its CPU time for the same work does not: it waits for its turn"
            };
            doubts.push(format!(
                "the rounds of {} scatter by {:.0} %, and {why}; stop what else runs there, and measure more rounds: \
                 `weircast-plan calibrate --add`",
                name(capacity),
                100.0 * scatter
            ));
        }
        let residual = residual(calibration, capacity);
        if residual.abs() > DOUBT_MIN {
            doubts.push(format!(
                "the costs planned with let expect {:.0} % {} viewers than were measured of {}: calibrate with rates nearer \
                 to those of the streams (--kbps), or with more rounds (--add)",
                100.0 * residual.abs(),
                if residual > 0.0 { "more" } else { "fewer" },
                name(capacity)
            ));
        }
    }
    doubts
}

/// A capacity in words.
pub(crate) fn name(capacity: &Capacity) -> String {
    let cores = if capacity.cores == 1.0 { "1 core".to_owned() } else { format!("{} cores", capacity.cores) };
    format!("{} at {} kbit/s on {cores}", capacity.way.word(), capacity.kbps)
}

fn viewers_scatter(capacity: &Capacity) -> f64 {
    scatter(capacity.rounds.iter().map(|round: &Round| round.viewers))
}

fn cpu_scatter(capacity: &Capacity) -> f64 {
    scatter(capacity.rounds.iter().map(|round| round.cpu_s_per_gib))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(kbps: f64, viewers: &[f64], cpu: f64) -> Capacity {
        let round = |(at, viewers): (usize, &f64)| Round { viewers: *viewers, cpu_s_per_gib: 1.0 + cpu * at as f64 };
        Capacity::of_rounds(Way::Http, kbps, 1.0, 150.0, viewers.iter().enumerate().map(round).collect())
    }

    fn with(capacities: Vec<Capacity>) -> Calibration {
        Calibration { capacities, ..Calibration::recorded() }
    }

    #[test]
    fn the_middle_and_the_scatter() {
        assert_eq!((middle(vec![]), middle(vec![3.0, 1.0, 2.0])), (None, Some(2.0)));
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert!((scatter([90.0, 100.0, 110.0].into_iter()) - 0.2).abs() < 1e-12);
        assert_eq!((scatter([5.0].into_iter()), scatter([].into_iter())), (0.0, 0.0));
    }

    #[test]
    fn rounds_that_scatter_are_told_with_what_to_do() {
        assert_eq!(doubts(&with(vec![capacity(4_000.0, &[960.0, 1_000.0, 1_040.0], 0.0)])), [""; 0]);
        let waits = doubts(&with(vec![capacity(4_000.0, &[900.0, 1_000.0, 1_040.0], 0.0)]));
        assert!(waits[0].contains("http at 4000 kbit/s on 1 core scatter by 14 %"), "{waits:?}");
        assert!(waits[0].contains("waits for its turn") && waits[0].contains("stop what else runs"), "{waits:?}");
        let drifts = doubts(&with(vec![capacity(4_000.0, &[900.0, 1_000.0, 1_040.0], 0.1)]));
        assert!(drifts[0].contains("something else uses the processor"), "{drifts:?}");
    }

    #[test]
    fn more_rates_than_costs_leave_residuals() {
        // 10, 20 and 40 us are no line over 1, 2 and 4 parts of a MiB and a bit; 14 instead of 20 is far off it.
        let of = |kbps, us: f64| capacity(kbps, &[1e6 / (5.0 * us)], 0.0);
        let bent = with(vec![of(4_000.0, 10.0), of(8_000.0, 14.0), of(16_000.0, 40.0)]);
        let said = doubts(&bent);
        assert!(said.iter().any(|line| line.contains("http at 8000 kbit/s")), "{said:?}");
        assert!(residual(&bent, &bent.capacities[1]) < -DOUBT_MIN, "the costs say too few");
        let straight = with(vec![of(4_000.0, 10.0), of(8_000.0, 18.0), of(16_000.0, 34.0)]);
        assert_eq!(doubts(&straight), [""; 0]);
        let shown = lines(&straight).join("\n");
        assert!(shown.contains("; the costs say +0.0 %") || shown.contains("; the costs say -0.0 %"), "{shown}");
        assert!(shown.contains("http: a chunk costs 1.99 us + 83.9 us/MiB"), "{shown}");
    }
}
