//! Two scenarios, or two revisions' reports of one: per metric the difference with its confidence, and a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use crate::report::csv;
use crate::report::estimate::Estimate;
use crate::report::metric::{self, Better, Metric};

/// One side: a run's values by its seed.
pub type Side = BTreeMap<u64, BTreeMap<String, f64>>;

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// B is better, with 95 % confidence.
    Better,
    /// B is worse, with 95 % confidence.
    Worse,
    /// B differs with 95 % confidence, and neither way is better.
    Differs,
    /// The seeds show no difference.
    NoDifference,
    /// One seed shows a difference, which says nothing about others.
    Unsure,
}

/// One metric on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The metric.
    pub metric: &'static str,
    /// Mean on the first side.
    pub a: f64,
    /// Mean on the second side.
    pub b: f64,
    /// Mean of B - A.
    pub difference: f64,
    /// Half of its 95 % interval; `None`: a single seed gives none.
    pub within: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

/// Two sides, metric by metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the first side.
    pub a: String,
    /// Name of the second side.
    pub b: String,
    /// Seeds that both have: compared pair by pair. 0: the sides share none and are compared as two samples.
    pub pairs: usize,
    /// The metrics that both have.
    pub rows: Vec<Row>,
}

/// Compares `b` with `a`: by pairs over the seeds that both have, as two samples when they share none.
pub fn compare(a: (&str, &Side), b: (&str, &Side)) -> Comparison {
    let seeds: BTreeSet<u64> = a.1.keys().filter(|seed| b.1.contains_key(seed)).copied().collect();
    let rows = metric::all().filter_map(|metric| row(metric, a.1, b.1, &seeds)).collect();
    Comparison { a: a.0.to_owned(), b: b.0.to_owned(), pairs: seeds.len(), rows }
}

fn row(metric: &'static Metric, a: &Side, b: &Side, seeds: &BTreeSet<u64>) -> Option<Row> {
    let values = |side: &Side| -> Vec<f64> { side.values().filter_map(|run| run.get(metric.name).copied()).collect() };
    let of = |side: &Side, seed: &u64| side.get(seed).and_then(|run| run.get(metric.name)).copied();
    let pairs: Vec<(f64, f64)> = seeds.iter().filter_map(|seed| Some((of(a, seed)?, of(b, seed)?))).collect();
    let mean = |values: &[f64]| Estimate::of(values).map(|estimate| estimate.mean);
    let (mean_a, mean_b, difference) = if seeds.is_empty() {
        let (a, b) = (values(a), values(b));
        (mean(&a)?, mean(&b)?, Estimate::of_difference(&a, &b)?)
    } else {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        (mean(&a)?, mean(&b)?, Estimate::of_pairs(&pairs)?)
    };
    let verdict = verdict(metric.better, &difference);
    let within = difference.half.is_finite().then_some(difference.half);
    Some(Row { metric: metric.name, a: mean_a, b: mean_b, difference: difference.mean, within, verdict })
}

fn verdict(better: Better, difference: &Estimate) -> Verdict {
    if difference.mean == 0.0 {
        return Verdict::NoDifference;
    }
    if difference.half.is_infinite() {
        return Verdict::Unsure;
    }
    match (difference.differs_from_zero(), better, difference.mean > 0.0) {
        (false, ..) => Verdict::NoDifference,
        (true, Better::Neither, _) => Verdict::Differs,
        (true, Better::Higher, true) | (true, Better::Lower, false) => Verdict::Better,
        (true, ..) => Verdict::Worse,
    }
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::Differs => "differs",
            Verdict::NoDifference => "no difference",
            Verdict::Unsure => "one seed: take --seeds 5",
        }
    }
}

impl Comparison {
    /// Aligned lines.
    pub fn text(&self) -> String {
        let mut text = format!("A  {}\nB  {}\n", self.a, self.b);
        let how = match self.pairs {
            0 => "no seed in common: compared as two samples".to_owned(),
            pairs => format!("{pairs} seeds in common: compared pair by pair"),
        };
        let _ = writeln!(text, "{how}\n{:<22} {:>14} {:>14} {:>14}   95 % within", "", "A", "B", "B - A");
        for row in &self.rows {
            let Some(metric) = metric::named(row.metric) else { continue };
            let [a, b, difference] = [row.a, row.b, row.difference].map(|value| metric.shown(value));
            let within = row.within.map_or("-".to_owned(), |within| format!("± {}", metric.shown(within)));
            let words = row.verdict.words();
            let _ = writeln!(text, "{:<22} {a:>14} {b:>14} {difference:>14}   {within:<16} {words}", row.metric);
        }
        text
    }

    /// A table.
    pub fn csv(&self) -> String {
        let mut text = "metric,a,b,difference,within_95,verdict\n".to_owned();
        for Row { metric, a, b, difference, within, verdict } in &self.rows {
            let within = within.map_or(String::new(), |within| within.to_string());
            let _ = writeln!(text, "{metric},{a},{b},{difference},{within},{}", csv::field(verdict.words()));
        }
        text
    }

    /// JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(seeds: std::ops::RangeInclusive<u64>, name: &str, value: impl Fn(u64) -> f64) -> Side {
        seeds.map(|seed| (seed, BTreeMap::from([(name.to_owned(), value(seed))]))).collect()
    }

    fn verdict_of(name: &str, a: Side, b: Side) -> (usize, Verdict) {
        let comparison = compare(("a", &a), ("b", &b));
        let row = comparison.rows.iter().find(|row| row.metric == name).expect("both have it");
        (comparison.pairs, row.verdict)
    }

    #[test]
    fn pairs_tell_a_small_difference_from_large_noise() {
        let noise = |seed: u64| seed as f64 / 10.0;
        let more = |seed: u64| noise(seed) + 0.01 + seed as f64 / 1_000.0;
        let (a, b) = (side(1..=5, "continuity", noise), side(1..=5, "continuity", more));
        assert_eq!(verdict_of("continuity", a.clone(), b.clone()), (5, Verdict::Better));
        assert_eq!(verdict_of("continuity", b, a.clone()), (5, Verdict::Worse));
        let others = side(6..=10, "continuity", |seed| more(seed - 5));
        assert_eq!(verdict_of("continuity", a, others), (0, Verdict::NoDifference), "without pairs it drowns");
    }

    #[test]
    fn lower_is_better_where_it_is() {
        let (a, b) = (side(1..=3, "lag_p95_ms", |_| 6_000.0), side(1..=3, "lag_p95_ms", |seed| 5_000.0 + seed as f64));
        assert_eq!(verdict_of("lag_p95_ms", a, b), (3, Verdict::Better));
        let (a, b) = (side(1..=3, "partners", |_| 6.0), side(1..=3, "partners", |_| 7.0));
        assert_eq!(verdict_of("partners", a, b), (3, Verdict::Differs));
    }

    #[test]
    fn one_seed_shows_nothing_and_equal_runs_do_not_differ() {
        let (a, b) = (side(1..=1, "offload", |_| 0.8), side(1..=1, "offload", |_| 0.9));
        assert_eq!(verdict_of("offload", a.clone(), b).1, Verdict::Unsure);
        assert_eq!(verdict_of("offload", a.clone(), a).1, Verdict::NoDifference);
    }

    #[test]
    fn a_metric_that_one_side_does_not_know_is_left_out() {
        let (a, b) = (side(1..=2, "offload", |_| 0.8), side(1..=2, "from_another_revision", |_| 1.0));
        let comparison = compare(("a", &a), ("b", &b));
        assert_eq!(comparison.rows, []);
    }

    #[test]
    fn tables_say_the_verdict() {
        let (a, b) = (side(1..=3, "offload", |_| 0.9), side(1..=3, "offload", |_| 0.8));
        let comparison = compare(("x.toml", &a), ("y.toml", &b));
        assert!(comparison.text().contains("WORSE"), "{}", comparison.text());
        assert!(
            comparison.csv().lines().nth(1).is_some_and(|line| line.starts_with("offload,0.9")),
            "{}",
            comparison.csv()
        );
    }
}
