//! Bounds on metrics, and whether a run keeps them.
//!
//! ```toml
//! [expect]
//! continuity_min = 0.9995       # a metric's name and `_min` or `_max`; `weircast-sim metrics` lists the names
//! startup_p95_ms_max = 1000
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check::List;
use crate::report::metric::{self, Metric};

/// Bounds by `METRIC_min` and `METRIC_max`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expect(BTreeMap<String, f64>);

/// One bound against one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The bound, as in the file: `continuity_min`.
    pub bound: String,
    /// Its number.
    pub limit: f64,
    /// The worst value of all runs; `None` when no run has it.
    pub value: Option<f64>,
    /// Whether it is kept. A value that no run has keeps no bound.
    pub kept: bool,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

fn split(bound: &str) -> Option<(&'static Metric, Side)> {
    let (name, side) = match bound.strip_suffix("_min") {
        Some(name) => (name, Side::Min),
        None => (bound.strip_suffix("_max")?, Side::Max),
    };
    metric::named(name).map(|metric| (metric, side))
}

impl Expect {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn check(&self, list: &mut List) {
        for (bound, limit) in &self.0 {
            if split(bound).is_none() {
                let cure =
                    "is no bound: write a metric's name and _min or _max; `weircast-sim metrics` lists the names";
                list.say(format!("expect.{bound}"), limit, cure);
            } else if !limit.is_finite() {
                list.say(format!("expect.{bound}"), limit, "must be a finite number");
            }
        }
    }

    /// Holds each bound against the worst value among several runs' values by metric name.
    pub fn verdicts<'a>(&self, runs: impl Iterator<Item = &'a BTreeMap<String, f64>> + Clone) -> Vec<Verdict> {
        let judge = |(bound, &limit): (&String, &f64)| {
            let (metric, side) = split(bound)?;
            let mut values = runs.clone().map(|values| values.get(metric.name).copied());
            let worst = values.try_fold(None, |worst: Option<f64>, value| {
                let value = value?;
                let next = match side {
                    Side::Min => worst.map_or(value, |worst| worst.min(value)),
                    Side::Max => worst.map_or(value, |worst| worst.max(value)),
                };
                Some(Some(next))
            });
            let value = worst.flatten();
            let kept = value.is_some_and(|value| match side {
                Side::Min => value >= limit,
                Side::Max => value <= limit,
            });
            Some(Verdict { bound: bound.clone(), limit, value, kept })
        };
        self.0.iter().filter_map(judge).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn expect(text: &str) -> Scenario {
        toml::from_str(text).expect("TOML")
    }

    fn values(continuity: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("continuity".to_owned(), continuity)])
    }

    #[test]
    fn the_worst_run_decides() {
        let scenario = expect("[expect]\ncontinuity_min = 0.99\ncontinuity_max = 1.0\n");
        scenario.check().expect("good");
        let runs = [values(0.999), values(0.98), values(1.0)];
        let verdicts = scenario.expect.verdicts(runs.iter());
        let kept: Vec<_> = verdicts.iter().map(|v| (v.bound.as_str(), v.value, v.kept)).collect();
        assert_eq!(kept, [("continuity_max", Some(1.0), true), ("continuity_min", Some(0.98), false)]);
    }

    #[test]
    fn a_metric_that_one_run_has_not_keeps_no_bound() {
        let scenario = expect("[expect]\ncontinuity_min = 0.0\n");
        let runs = [values(1.0), BTreeMap::new()];
        assert!(!scenario.expect.verdicts(runs.iter())[0].kept);
        assert!(!scenario.expect.verdicts([].iter())[0].kept, "without a run nothing is shown");
    }

    #[test]
    fn an_unknown_metric_is_an_error() {
        let said = expect("[expect]\ncontinuty_min = 0.9\n").check().expect_err("misspelt").to_string();
        assert!(said.starts_with("expect.continuty_min = 0.9: is no bound"), "{said}");
        assert!(expect("[expect]\ncontinuity = 0.9\n").check().is_err(), "min or max must be said");
    }
}
