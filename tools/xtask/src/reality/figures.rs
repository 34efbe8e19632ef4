//! The figures of a run, real or simulated, by the definitions of `weircast_sim::report`; and how far two are apart.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use cache_core::proto::peer::quality::Spread;
use cache_core::time::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weircast_sim::report::Report;

use crate::perf::outcome::Outcome;

/// Who never played.
const NEVER_MS: u64 = 3_600_000;

/// What one real viewer says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Viewer {
    /// From its process' beginning to the first chunk played; nothing when none was.
    pub(crate) startup_ms: Option<f64>,
    due: f64,
    played: f64,
    stalls: f64,
    lag_ms: Option<f64>,
    from_peers: f64,
    from_caches: f64,
    to_peers: f64,
    partners: f64,
    seeded: f64,
    last_resort: f64,
    verified: f64,
    duplicate: f64,
}

/// A run's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) offload: f64,
    pub(crate) startup_p50_ms: f64,
    pub(crate) startup_p95_ms: f64,
    pub(crate) continuity: f64,
    pub(crate) stalls_per_hour: f64,
    pub(crate) lag_p50_ms: f64,
    pub(crate) partners: f64,
    pub(crate) seeded_share: f64,
    pub(crate) last_resort_share: f64,
    pub(crate) duplicate_share: f64,
}

/// Name, digits to show, factor to show it with, whether it is judged, the figure.
type Row = (&'static str, usize, f64, bool, fn(&Figures) -> f64);

const ROWS: &[Row] = &[
    ("offload, %", 1, 100.0, true, |f| f.offload),
    ("start-up p50, ms", 0, 1.0, true, |f| f.startup_p50_ms),
    ("start-up p95, ms", 0, 1.0, true, |f| f.startup_p95_ms),
    ("continuity", 5, 1.0, true, |f| f.continuity),
    ("stalls per hour of watching", 2, 1.0, false, |f| f.stalls_per_hour),
    ("lag p50, ms", 0, 1.0, false, |f| f.lag_p50_ms),
    ("partners", 1, 1.0, false, |f| f.partners),
    ("chunks fetched from the cache as responsible peer, %", 1, 100.0, false, |f| f.seeded_share),
    ("chunks fetched from the cache in need, %", 1, 100.0, false, |f| f.last_resort_share),
    ("chunks received twice, %", 2, 100.0, false, |f| f.duplicate_share),
];

impl Viewer {
    /// From a peer's report.
    pub(crate) fn new(report: &Value) -> Viewer {
        let at = |path: &str| report.pointer(path).and_then(Value::as_f64);
        let number = |path: &str| at(path).unwrap_or(0.0);
        Viewer {
            startup_ms: at("/quality/startup_ms"),
            due: number("/quality/chunks_due"),
            played: number("/quality/chunks_played"),
            stalls: number("/quality/stalls"),
            lag_ms: at("/lag_ms/p50"),
            from_peers: number("/bytes_from_peers"),
            from_caches: number("/bytes_from_caches"),
            to_peers: number("/bytes_to_peers"),
            partners: number("/partners"),
            seeded: number("/counters/peer/requests_seed"),
            last_resort: number("/counters/peer/requests_last_resort"),
            verified: number("/chunks_verified"),
            duplicate: number("/counters/peer/chunks_duplicate"),
        }
    }
}

impl Figures {
    /// Of real viewers that watched for `watched` in the mean; spreads are counted as the simulator's. Who never played has
    /// taken two minutes to start, a spread's last step.
    pub(crate) fn of(viewers: &[Viewer], watched: Duration) -> Figures {
        let sum = |of: fn(&Viewer) -> f64| viewers.iter().map(of).sum::<f64>();
        let share = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
        let count = viewers.len() as f64;
        let quantile = |of: fn(&Viewer) -> Option<f64>, permille: u64| {
            let mut spread = Spread::default();
            let ms = |viewer: &Viewer| of(viewer).map_or(NEVER_MS, |ms| ms as u64);
            viewers.iter().for_each(|viewer| spread.record(Span::from_millis(ms(viewer))));
            spread.quantile(permille).map_or(0.0, |span| span.micros() as f64 / 1e3)
        };
        let (received, verified) = (sum(|v| v.from_peers + v.from_caches), sum(|v| v.verified));
        Figures {
            offload: share(sum(|v| v.from_peers), received),
            startup_p50_ms: quantile(|v| v.startup_ms, 500),
            startup_p95_ms: quantile(|v| v.startup_ms, 950),
            continuity: share(sum(|v| v.played), sum(|v| v.due)),
            stalls_per_hour: share(sum(|v| v.stalls), count * watched.as_secs_f64() / 3_600.0),
            lag_p50_ms: quantile(|v| v.lag_ms, 500),
            partners: share(sum(|v| v.partners), count),
            seeded_share: share(sum(|v| v.seeded), sum(|v| v.played)),
            last_resort_share: share(sum(|v| v.last_resort), sum(|v| v.played)),
            duplicate_share: share(sum(|v| v.duplicate), verified + sum(|v| v.duplicate)),
        }
    }

    /// Of a simulated run.
    pub(crate) fn of_report(report: &Report) -> Figures {
        let m = &report.metrics;
        Figures {
            offload: m.offload,
            startup_p50_ms: m.startup_ms.p50,
            startup_p95_ms: m.startup_ms.p95,
            continuity: m.continuity,
            stalls_per_hour: m.stalls_per_hour,
            lag_p50_ms: m.lag_ms.p50,
            partners: m.partners,
            seeded_share: m.seeded_share,
            last_resort_share: m.last_resort_share,
            duplicate_share: m.duplicate_share,
        }
    }
}

/// Real beside simulated.
pub(crate) struct Comparison {
    lines: Vec<Line>,
    apart_max: f64,
}

struct Line {
    name: &'static str,
    cells: Vec<String>,
    /// Share of the simulated figure by which the real one is greater.
    apart: f64,
    judged: bool,
}

impl Comparison {
    /// `simulated`: one or more runs, of which the mean is compared.
    pub(crate) fn new(real: &Figures, simulated: &[Figures], apart_max: f64) -> Comparison {
        let line = |&(name, digits, factor, judged, of): &Row| {
            let all: Vec<f64> = simulated.iter().map(of).collect();
            let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
            let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            let apart = if of(real) == mean { 0.0 } else { of(real) / mean - 1.0 };
            let shown = |value: f64| format!("{:.digits$}", value * factor);
            let far = if !apart.is_finite() { "-".to_owned() } else { format!("{:+.1} %", 100.0 * apart) };
            let cells = vec![
                name.to_owned(),
                shown(of(real)),
                shown(mean),
                format!("{} to {}", shown(least), shown(most)),
                far,
                if judged { format!("{:.0} %", 100.0 * apart_max) } else { String::new() },
            ];
            Line { name, cells, apart, judged }
        };
        Comparison { lines: ROWS.iter().map(line).collect(), apart_max }
    }

    /// By figure: the share of the simulated one by which the real one is greater.
    pub(crate) fn apart(&self) -> BTreeMap<&'static str, f64> {
        self.lines.iter().map(|line| (line.name, line.apart)).collect()
    }

    /// For perf/.
    pub(crate) fn outcome(&self, troubles: &[String]) -> Outcome {
        let mut outcome = Outcome::new(&["", "real", "simulated, mean", "its runs", "real is greater by", "allowed"]);
        for line in &self.lines {
            outcome.row(line.cells.clone());
        }
        outcome.failures = self.failures().chain(troubles.iter().cloned()).collect();
        outcome
    }

    /// For a person.
    pub(crate) fn table(&self) -> String {
        self.outcome(&[]).table()
    }

    fn failures(&self) -> impl Iterator<Item = String> {
        let far = |line: &&Line| line.judged && (!line.apart.is_finite() || line.apart.abs() > self.apart_max);
        self.lines.iter().filter(far).map(|line| format!("{}: {:+.1} %", line.name, 100.0 * line.apart))
    }

    /// An error that names what is too far apart.
    pub(crate) fn verdict(&self) -> Result<()> {
        let far: Vec<String> = self.failures().collect();
        if !far.is_empty() {
            bail!("simulator and reality differ by more than {:.0} %: {}", 100.0 * self.apart_max, far.join("; "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(offload: f64, startup_p95_ms: f64) -> Figures {
        Figures { offload, startup_p50_ms: 100.0, startup_p95_ms, continuity: 1.0, ..Figures::default() }
    }

    #[test]
    fn ten_percent_are_allowed_either_way_and_the_mean_counts() {
        let simulated = [figures(0.8, 100.0), figures(1.0, 300.0)];
        let verdict = |real: Figures| Comparison::new(&real, &simulated, 0.1).verdict();
        assert!(verdict(figures(0.9, 200.0)).is_ok());
        assert!(verdict(figures(0.82, 219.0)).is_ok());
        let said = verdict(figures(0.80, 221.0)).expect_err("both are too far").to_string();
        assert!(said.contains("offload, %: -11.1 %") && said.contains("start-up p95, ms: +10.5 %"), "{said}");
    }

    #[test]
    fn a_figure_that_only_one_side_has_is_too_far() {
        assert!(Comparison::new(&figures(0.9, 1.0), &[Figures::default()], 0.1).verdict().is_err());
        assert!(Comparison::new(&Figures::default(), &[Figures::default()], 0.1).verdict().is_ok());
    }

    #[test]
    fn viewers_are_added_up_by_their_bytes_and_chunks() {
        let report = |startup: &str, peers: u32, caches: u32, played: u32| {
            let text = format!(
                r#"{{"quality":{{"startup_ms":{startup},"chunks_due":10,"chunks_played":{played},"stalls":1}},
                 "bytes_from_peers":{peers},"bytes_from_caches":{caches},"lag_ms":{{"p50":6000}},
                 "counters":{{"peer":{{"requests_seed":1}}}}}}"#
            );
            Viewer::new(&serde_json::from_str(&text).expect("JSON"))
        };
        let viewers = [report("100", 900, 100, 10), report("null", 0, 1_000, 8)];
        let figures = Figures::of(&viewers, Duration::from_secs(1_800));
        assert_eq!((figures.offload, figures.continuity, figures.stalls_per_hour), (0.45, 0.9, 2.0));
        assert_eq!(
            (figures.startup_p50_ms, figures.startup_p95_ms),
            (110.0, 120_000.0),
            "who never played is not forgotten"
        );
        assert_eq!((figures.lag_p50_ms, figures.seeded_share), (6_000.0, 2.0 / 18.0));
    }
}
