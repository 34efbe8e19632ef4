//! How far a calibration can be trusted: how its rounds scatter, and whether what is planned lies among its rates.
//!
//! ```text
//!  capacity, by round     6 100   6 450   6 300     the middle counts; (most - least) / middle: 5.6 % scatter
//!  2, 4, 8, 16 Mbit/s     a stream of 3 lies between two; of 20, or with 8 left out of 10, nothing was measured near
//! ```

use crate::calibration::{Calibration, Capacity, Round, Way};
use crate::cost::{GAP_MAX, Place};

/// Rounds that scatter by more than this are told: a tenth is what a prediction may be off.
pub const DOUBT_MIN: f64 = 0.10;

/// Rates that `calibrate` measures, kbit/s.
pub const RATES: std::ops::RangeInclusive<u64> = 100..=40_000;

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

/// Each capacity with its rounds, and the costs that follow.
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
        line
    };
    let mut lines: Vec<String> = calibration.capacities.iter().map(line).collect();
    for way in [Way::Http, Way::Pull, Way::Push] {
        let cost = calibration.send(way);
        if cost.measured == way {
            lines.push(format!("{}: a chunk costs {}", way.word(), cost.text()));
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
    }
    for way in [Way::Http, Way::Pull, Way::Push] {
        let cost = calibration.send(way);
        let mended = cost.mended();
        if cost.measured == way && !mended.is_empty() {
            doubts.push(format!(
                "by {} larger chunks came out cheaper at {} kbit/s, and their mean stands for each; measure more rounds of \
                 them: `weircast-plan calibrate --add --ways {} --kbps {}`",
                way.word(),
                listed(&mended, ", "),
                way.word(),
                listed(&mended, ",")
            ));
        }
    }
    doubts
}

/// Of streams of these rates, sent by these ways: those that nothing was measured near, and what to measure. Of a way that
/// was not measured the one that stands for it counts.
pub fn gaps(calibration: &Calibration, sent: &[(Way, f64)]) -> Vec<String> {
    let mut far: Vec<(Way, f64, Place)> = Vec::new();
    for (way, kbps) in sent {
        // What cannot be measured has its nearest in what can.
        let kbps = kbps.clamp(*RATES.start() as f64, *RATES.end() as f64).round();
        let cost = calibration.send(*way);
        let (way, place) = (cost.measured, cost.place(kbps));
        let is_near = matches!(place, Place::Between(below, above) if above <= GAP_MAX * below);
        if !is_near && !far.iter().any(|(other, at, _)| (*other, *at) == (way, kbps)) {
            far.push((way, kbps, place));
        }
    }
    let mut gaps = Vec::new();
    for way in [Way::Http, Way::Pull, Way::Push] {
        let mut of_way: Vec<(f64, Place)> =
            far.iter().filter(|(other, ..)| *other == way).map(|(_, kbps, place)| (*kbps, *place)).collect();
        of_way.sort_by(|a, b| a.0.total_cmp(&b.0));
        if of_way.is_empty() {
            continue;
        }
        let told = of_way.iter().take(GAPS_SHOWN);
        let more = of_way.len().saturating_sub(GAPS_SHOWN);
        let places: Vec<String> = told.clone().map(|(kbps, place)| format!("{kbps} kbit/s is {place}")).collect();
        let more = if more > 0 { format!("; and {more} rates more") } else { String::new() };
        let rates: Vec<f64> = told.map(|(kbps, _)| *kbps).collect();
        gaps.push(format!(
            "no rate near enough was measured by {}: {}{more}; a prediction between rates more than {GAP_MAX} times apart, or \
             outside them, can be off by more than a tenth: `weircast-plan calibrate --add --ways {} --kbps {}`",
            way.word(),
            places.join("; "),
            way.word(),
            listed(&rates, ",")
        ));
    }
    gaps
}

/// So many rates are told of one by one; one of each factor of two there is would be nine.
const GAPS_SHOWN: usize = 9;

fn listed(rates: &[f64], between: &str) -> String {
    rates.iter().map(f64::to_string).collect::<Vec<_>>().join(between)
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
    fn a_larger_chunk_that_came_out_cheaper_is_told() {
        let of = |kbps, us: f64| capacity(kbps, &[1e6 / (5.0 * us)], 0.0);
        let said = doubts(&with(vec![of(4_000.0, 10.0), of(8_000.0, 40.0), of(16_000.0, 36.0)]));
        let [one] = &said[..] else { panic!("{said:?}") };
        assert!(one.starts_with("by http larger chunks came out cheaper at 8000, 16000 kbit/s"), "{one}");
        assert!(one.ends_with("calibrate --add --ways http --kbps 8000,16000`"), "{one}");
        // Bent, and rising: nothing to tell, and every rate costs what was measured.
        let bent = with(vec![of(4_000.0, 17.7), of(8_000.0, 38.0), of(16_000.0, 55.0)]);
        assert_eq!(doubts(&bent), [""; 0]);
        let shown = lines(&bent).join("\n");
        let costs = "http: a chunk costs 17.70 us at 4000 kbit/s, 38.00 us at 8000 kbit/s, 55.00 us at 16000 kbit/s";
        assert!(shown.contains(costs), "{shown}");
    }

    #[test]
    fn a_rate_that_nothing_was_measured_near_is_told_with_what_to_measure() {
        let at = |kbps: f64| capacity(kbps, &[4e7 / kbps], 0.0);
        let grid = with(vec![at(2_000.0), at(4_000.0), at(16_000.0)]);
        let told = |sent: &[f64]| gaps(&grid, &sent.iter().map(|kbps| (Way::Http, *kbps)).collect::<Vec<_>>());
        assert_eq!(told(&[2_000.0, 2_500.0, 4_000.0, 16_000.0]), [""; 0]);
        let said = told(&[8_000.0, 3_000.0, 1_500.0, 8_000.0, 20_000.0]);
        let [one] = &said[..] else { panic!("{said:?}") };
        assert!(one.contains("1500 kbit/s is below 2000, the lowest; 8000 kbit/s is between 4000 and 16000"), "{one}");
        assert!(one.contains("20000 kbit/s is above 16000"), "{one}");
        assert!(one.ends_with("`weircast-plan calibrate --add --ways http --kbps 1500,8000,20000`"), "{one}");
        // What calibrate cannot measure is not asked for.
        assert!(told(&[50.0])[0].ends_with("--kbps 100`"), "{:?}", told(&[50.0]));
        // Each way is measured for itself; http stands for one that was not.
        let both = with(vec![at(2_000.0), Capacity { way: Way::Pull, ..at(1_000.0) }]);
        let said = gaps(&both, &[(Way::Push, 1_000.0), (Way::Http, 1_000.0), (Way::Pull, 1_000.0)]);
        let [one] = &said[..] else { panic!("{said:?}") };
        assert!(one.contains("by http: 1000 kbit/s is below 2000"), "{one}");
    }
}
