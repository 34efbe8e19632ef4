//! Every metric by its name: unit, which way is better, where it stands. Names are those of `[expect]`, of the CSV's
//! columns and of comparisons.

use std::collections::BTreeMap;

use super::{Quantiles, Report};
use crate::scenario::Scenario;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
    /// Neither: it describes.
    Neither,
}

/// How a number is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share, shown in per cent.
    Share,
    /// Milliseconds.
    Ms,
    /// Kilobits per second.
    Kbps,
    /// A plain number.
    Number,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with its unit where it has one.
    pub name: &'static str,
    /// How it is shown.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// What it is, in a clause.
    pub is: &'static str,
    /// Whether it depends on the machine and the moment.
    pub of_machine: bool,
    /// Where it stands.
    get: fn(&Scenario, &Report) -> f64,
}

macro_rules! metrics {
    ($($name:literal $unit:ident $better:ident $is:literal $get:expr;)*) => {
        &[$(Metric { name: $name, unit: Unit::$unit, better: Better::$better, is: $is, of_machine: false, get: $get }),*]
    };
}

/// All of them, in the order in which they are shown.
const OF_RUN: &[Metric] = metrics! {
    "viewers" Number Neither "viewers that ever started" |_, r| r.metrics.viewers as f64;
    "gave_up" Number Lower "viewers that gave up and tried again as new ones" |_, r| r.metrics.gave_up as f64;
    "startup_mean_ms" Ms Lower "from a peer's start to its first chunk played, mean" |_, r| r.metrics.startup_ms.mean;
    "startup_p50_ms" Ms Lower "the same, half are below" |_, r| r.metrics.startup_ms.p50;
    "startup_p95_ms" Ms Lower "the same, 95 % are below" |_, r| r.metrics.startup_ms.p95;
    "startup_p99_ms" Ms Lower "the same, 99 % are below" |_, r| r.metrics.startup_ms.p99;
    "startup_longest_ms" Ms Lower "the same, the longest" |_, r| r.metrics.startup_ms.max;
    "continuity" Share Higher "chunks played in time over chunks due" |_, r| r.metrics.continuity;
    "continuity_p1" Share Higher "what all but the worst 1 % of viewers reach" |_, r| r.metrics.continuity_p1;
    "smooth_viewers" Share Higher "viewers without a stall or a missed chunk" |_, r| r.metrics.smooth_viewers;
    "stalls_per_hour" Number Lower "stalls in an hour of watching" |_, r| r.metrics.stalls_per_hour;
    "stall_longest_ms" Ms Lower "the longest stall of any viewer" |_, r| r.metrics.stall_longest_ms;
    "lag_mean_ms" Ms Lower "from a chunk's publishing to its being played, mean" |_, r| r.metrics.lag_ms.mean;
    "lag_p50_ms" Ms Lower "the same, half are below" |_, r| r.metrics.lag_ms.p50;
    "lag_p95_ms" Ms Lower "the same, 95 % are below" |_, r| r.metrics.lag_ms.p95;
    "lag_p99_ms" Ms Lower "the same, 99 % are below" |_, r| r.metrics.lag_ms.p99;
    "lag_longest_ms" Ms Lower "the same, the longest" |_, r| r.metrics.lag_ms.max;
    "offload" Share Higher "chunk bytes that peers got from peers over all that they got" |_, r| r.metrics.offload;
    "offload_of_bound" Number Higher "offload over min((N-1)/N, mean uplink over the stream's rate)"
        |s, r| r.metrics.offload / offload_bound(s);
    "inter_region_share" Share Lower "chunk bytes between regions over chunk bytes between peers"
        |_, r| r.metrics.inter_region_share;
    "inter_region_traffic" Number Lower "chunk bytes between regions, caches' too, over bytes played"
        |_, r| r.metrics.inter_region_traffic;
    "delay_factor" Number Lower "mean distance between partners in the unit square" |_, r| r.metrics.delay_factor;
    "control_overhead" Share Lower "bytes that are not chunks over all bytes" |_, r| r.metrics.control_overhead;
    "partners" Number Neither "partners of a peer, mean" |_, r| r.metrics.partners;
    "duplicate_share" Share Lower "chunk bytes received more than once" |_, r| r.metrics.duplicate_share;
    "seeded_share" Share Lower "chunks from caches as the responsible peer, over chunks played"
        |_, r| r.metrics.seeded_share;
    "last_resort_share" Share Lower "chunks from caches because little time was left, over chunks played"
        |_, r| r.metrics.last_resort_share;
    "upload_mean" Number Neither "mean upload of peers that upload, over the stream's rate" |_, r| r.metrics.upload_mean;
    "cache_peak_kbps" Kbps Lower "busiest cache in the busiest second" |_, r| r.metrics.cache_peak_kbps;
    "violations" Number Lower "times that an invariant did not hold" |_, r| r.violations.len() as f64;
};

const OF_MACHINE: &[Metric] = &[
    Metric {
        name: "wall_s",
        unit: Unit::Number,
        better: Better::Lower,
        is: "seconds that the run took by the clock",
        of_machine: true,
        get: |_, r| r.cost.wall_s,
    },
    Metric {
        name: "events_per_s",
        unit: Unit::Number,
        better: Better::Higher,
        is: "events carried out in a second by the clock",
        of_machine: true,
        get: |_, r| r.cost.events_per_s,
    },
    Metric {
        name: "speed_up",
        unit: Unit::Number,
        better: Better::Higher,
        is: "simulated seconds in a second by the clock",
        of_machine: true,
        get: |_, r| r.simulated_s / r.cost.wall_s,
    },
    Metric {
        name: "peers_in_real_time",
        unit: Unit::Number,
        better: Better::Higher,
        is: "seconds that all peers were simulated, together, in a second by the clock",
        of_machine: true,
        get: |_, r| r.series.iter().map(|second| f64::from(second.viewers)).sum::<f64>() / r.cost.wall_s,
    },
    Metric {
        name: "peak_rss_mib",
        unit: Unit::Number,
        better: Better::Lower,
        is: "largest resident memory of the process, MiB",
        of_machine: true,
        get: |_, r| r.cost.peak_rss_mib,
    },
];

/// Every metric, those of the machine last.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    OF_RUN.iter().chain(OF_MACHINE)
}

/// The metric of that name.
pub fn named(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.name == name)
}

/// A report's numbers by name; what is no number (0 over 0) is left out.
pub fn values(scenario: &Scenario, report: &Report) -> BTreeMap<String, f64> {
    let named = all().map(|metric| (metric.name.to_owned(), (metric.get)(scenario, report)));
    named.filter(|(_, value)| value.is_finite()).collect()
}

/// The most that peers can give each other: all but one copy, and what their uplinks carry. Free riders' uplinks carry
/// nothing.
pub fn offload_bound(scenario: &Scenario) -> f64 {
    let audience = &scenario.audience;
    let shares: f64 = audience.uplink.iter().map(|class| class.share).sum();
    let mean = match audience.uplink.as_slice() {
        [] => 1.3,
        classes => classes.iter().map(|class| class.share * class.up).sum::<f64>() / shares,
    };
    let uplink = mean * (1.0 - audience.free_riders);
    uplink.min(1.0 - 1.0 / f64::from(audience.peers.max(1)))
}

/// Quantiles of a report that are drawn, with their names.
pub fn quantiles(report: &Report) -> [(&'static str, Quantiles); 2] {
    [("start-up", report.metrics.startup_ms), ("lag", report.metrics.lag_ms)]
}

impl Metric {
    /// A value of it, for people: `99.95 %`, `812 ms`.
    pub fn shown(&self, value: f64) -> String {
        match self.unit {
            // Next to all, a third digit tells 99.95 % from all.
            Unit::Share if value > 0.99 && value < 1.0 => format!("{:.3} %", value * 100.0),
            Unit::Share => format!("{} %", digits(value * 100.0, 2)),
            Unit::Ms => format!("{} ms", digits(value, 1)),
            Unit::Kbps => format!("{} kbit/s", digits(value, 0)),
            Unit::Number => digits(value, 4),
        }
    }
}

/// At most `most` digits behind the point, and about five in all.
fn digits(value: f64, most: usize) -> String {
    let size = value.abs();
    let wanted = match size {
        size if size >= 1_000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 4,
    };
    let text = format!("{value:.*}", wanted.min(most));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::UplinkClass;

    #[test]
    fn names_are_unique() {
        let names: Vec<&str> = all().map(|metric| metric.name).collect();
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut report = Report::default();
        report.metrics.continuity = f64::NAN;
        let values = values(&Scenario::default(), &report);
        assert!(!values.contains_key("continuity") && values.contains_key("offload"));
    }

    #[test]
    fn the_bound_of_offload_follows_uplinks_and_free_riders() {
        let mut scenario = Scenario::default();
        scenario.audience.peers = 100;
        assert_eq!(offload_bound(&scenario), 0.99);
        scenario.audience.free_riders = 0.5;
        assert_eq!(offload_bound(&scenario), 0.65);
        let class = |share, up| UplinkClass { share, up, down: 8.0 };
        scenario.audience.uplink = vec![class(3.0, 0.2), class(1.0, 1.0)];
        assert!((offload_bound(&scenario) - 0.2).abs() < 1e-12, "half of 0.4");
    }

    #[test]
    fn numbers_are_shown_with_their_units() {
        let shown = |name: &str, value| named(name).expect("a metric").shown(value);
        assert_eq!(shown("continuity", 0.999_53), "99.953 %");
        assert_eq!(shown("continuity", 1.0), "100 %");
        assert_eq!(shown("startup_p95_ms", 812.26), "812.3 ms");
        assert_eq!(shown("offload_of_bound", 0.987_65), "0.9877");
        assert_eq!(shown("cache_peak_kbps", 123_456.7), "123457 kbit/s");
    }
}
