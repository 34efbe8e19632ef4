//! One key over many values, each with several seeds: curves with their confidence.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use crate::crew::{self, Job, Standing};
use crate::report::estimate::Estimate;
use crate::report::html::{banded, frame};
use crate::report::metric::{self, Metric, Unit};
use crate::report::outcome::{Origin, Outcome};
use crate::report::plot::{Curve, Plot, Point, escaped};
use crate::report::{Report, csv, text};
use crate::scenario::file::{BadFile, Source};
use crate::scenario::{Scenario, Sweep};

/// Settings at which all seeds are run.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Value of the key that tells curves apart; empty when there is none.
    pub curve: String,
    /// Value of the key on the x axis.
    pub value: String,
    /// The value as a number; its place in the list when it is none.
    pub x: f64,
    /// What is run.
    pub scenario: Scenario,
    /// Where it comes from.
    pub origin: Origin,
}

/// All settings of a sweep.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sweep.
    pub sweep: Sweep,
    /// In the order curve by curve.
    pub settings: Vec<Setting>,
    /// First seed; all settings have the same seeds.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Swept {
    /// What was planned.
    pub plan: Plan,
    /// For each setting its runs; `None` when none was finished.
    pub outcomes: Vec<Option<Outcome>>,
}

/// A setting's means, as JSON has them.
#[derive(Serialize)]
struct Row<'a> {
    curve: &'a str,
    value: &'a str,
    metric: &'static str,
    mean: f64,
    within: Option<f64>,
    seeds: usize,
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &toml::Value) -> Option<f64> {
    match value {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        _ => None,
    }
}

impl Plan {
    /// The settings of the sweep that `source` has; `None` without a table `[sweep]`.
    pub fn new(source: &Source, seed: u64) -> Result<Option<Plan>, BadFile> {
        let Some(sweep) = source.load()?.sweep else { return Ok(None) };
        let numbers = sweep.values.iter().all(|value| number(value).is_some());
        let curves: Vec<Option<&toml::Value>> = match &sweep.curves {
            None => vec![None],
            Some(curves) => curves.values.iter().map(Some).collect(),
        };
        let mut settings = Vec::new();
        for curve in curves {
            for (place, value) in sweep.values.iter().enumerate() {
                let mut set = vec![format!("{}={value}", sweep.key)];
                if let (Some(keys), Some(curve)) = (&sweep.curves, curve) {
                    set.push(format!("{}={curve}", keys.key));
                }
                let scenario = source.load_with(&set)?;
                let set = source.set.iter().cloned().chain(set).collect();
                settings.push(Setting {
                    curve: curve.map(shown).unwrap_or_default(),
                    value: shown(value),
                    x: number(value).filter(|_| numbers).unwrap_or(place as f64),
                    scenario,
                    origin: Origin::Files(Source { set, ..source.clone() }),
                });
            }
        }
        Ok(Some(Plan { sweep, settings, seed }))
    }

    /// Runs everything; what is not finished when `stop` is set is left out.
    pub fn run(self, threads: usize, stop: &AtomicBool, show: &mut (dyn FnMut(Standing) + Send)) -> Swept {
        let seeds = self.seed..self.seed + self.sweep.seeds;
        let jobs = self
            .settings
            .iter()
            .flat_map(|setting| seeds.clone().map(|seed| Job { scenario: &setting.scenario, seed }));
        let jobs: Vec<Job<'_>> = jobs.collect();
        let mut reports = crew::run(&jobs, threads, stop, show).into_iter();
        let outcomes = self.settings.iter().map(|setting| {
            let runs = reports.by_ref().take(self.sweep.seeds as usize).flatten();
            let runs: Vec<Report> = runs.filter(|report| crew::is_whole(&setting.scenario, report)).collect();
            (!runs.is_empty()).then(|| Outcome::new(setting.scenario.clone(), &setting.origin, runs))
        });
        let outcomes = outcomes.collect();
        Swept { plan: self, outcomes }
    }
}

impl Swept {
    fn finished(&self) -> impl Iterator<Item = (&Setting, &Outcome)> {
        self.plan
            .settings
            .iter()
            .zip(&self.outcomes)
            .filter_map(|(setting, outcome)| Some((setting, outcome.as_ref()?)))
    }

    /// Whether every setting kept its bounds and invariants, and none was left out.
    pub fn passed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.as_ref().is_some_and(Outcome::passed))
    }

    fn drawn(&self) -> impl Iterator<Item = &'static Metric> {
        self.plan.sweep.drawn().into_iter().filter_map(metric::named)
    }

    /// The curves' names, in their order.
    fn curves(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for setting in &self.plan.settings {
            if !names.contains(&setting.curve.as_str()) {
                names.push(&setting.curve);
            }
        }
        names
    }

    /// A table for each drawn metric: values downwards, curves to the right; broken things first.
    pub fn text(&self) -> String {
        let mut text = self.broken();
        for metric in self.drawn() {
            let _ = write!(text, "{} by {}\n{:>16}", metric.name, self.plan.sweep.key, "");
            for curve in self.curves() {
                let _ = write!(text, "{curve:>26}");
            }
            text.push('\n');
            for value in self.settings_of(self.curves()[0]) {
                let _ = write!(text, "{:>16}", value.value);
                for curve in self.curves() {
                    let same =
                        |(setting, _): &(&Setting, &Outcome)| setting.curve == curve && setting.value == value.value;
                    let estimate = self.finished().find(same).and_then(|(_, outcome)| outcome.estimate(metric.name));
                    let cell = estimate.map_or("-".to_owned(), |estimate| cell(metric, &estimate));
                    let _ = write!(text, "{cell:>26}");
                }
                text.push('\n');
            }
        }
        text
    }

    fn settings_of<'a>(&'a self, curve: &'a str) -> impl Iterator<Item = &'a Setting> {
        self.plan.settings.iter().filter(move |setting| setting.curve == curve)
    }

    /// Broken invariants and bounds, with their commands.
    fn broken(&self) -> String {
        let mut lines = String::new();
        for (setting, outcome) in self.finished() {
            lines.extend(outcome.runs.iter().map(text::violations));
            for verdict in outcome.verdicts().iter().filter(|verdict| !verdict.kept) {
                let value = verdict.value.map_or("no value".to_owned(), |value| format!("{value:.6}"));
                let (at, curve) = (&setting.value, &setting.curve);
                let _ = writeln!(lines, "FAIL  at {at} {curve}: {} {} is {value}", verdict.bound, verdict.limit);
            }
        }
        let missing = self.outcomes.iter().filter(|outcome| outcome.is_none()).count();
        if missing > 0 {
            let _ = writeln!(lines, "{missing} settings were not finished");
        }
        lines
    }

    /// All metrics: one row for each run.
    pub fn csv(&self) -> String {
        let names: Vec<&str> = metric::all().map(|metric| metric.name).collect();
        let mut text = format!("curve,value,seed,digest,{}\n", names.join(","));
        for (setting, outcome) in self.finished() {
            for run in &outcome.runs {
                let (curve, value) = (csv::field(&setting.curve), csv::field(&setting.value));
                let _ = write!(text, "{curve},{value},{},{}", run.report.seed, run.report.digest);
                for name in &names {
                    let _ = write!(text, ",{}", run.values.get(*name).map_or(String::new(), f64::to_string));
                }
                text.push('\n');
            }
        }
        text
    }

    /// Means of all metrics at all settings.
    pub fn json(&self) -> String {
        let rows: Vec<Row<'_>> = self.finished().flat_map(|(setting, outcome)| rows(setting, outcome)).collect();
        let json = serde_json::json!({ "key": self.plan.sweep.key, "rows": rows });
        format!("{json:#}\n")
    }

    /// The page: a drawing for each drawn metric, then the tables.
    pub fn html(&self, command: &str) -> String {
        let name = self.plan.settings.first().map_or("", |setting| &setting.scenario.name);
        let (class, word) = if self.passed() { ("pass", "passed") } else { ("fail", "failed") };
        let key = escaped(&self.plan.sweep.key);
        let mut body = format!("<h1>{}: <span class=\"{class}\">{word}</span></h1>\n", escaped(name));
        let seeds = self.plan.sweep.seeds;
        let _ = writeln!(body, "<p>Over {key}; mean of {seeds} seeds with its 95 % confidence.</p>");
        let broken = self.broken();
        if !broken.is_empty() {
            let _ = writeln!(body, "<h2>Not kept</h2><pre class=\"fail\">{}</pre>", escaped(&broken));
        }
        for metric in self.drawn() {
            let _ = writeln!(body, "<h2>{}</h2><p>{}</p>{}", metric.name, metric.is, self.plot(metric).svg());
        }
        let _ = writeln!(body, "<h2>Numbers</h2><pre>{}</pre>", escaped(&self.text()));
        let _ = writeln!(body, "<h2>Run</h2><pre>{}</pre>", escaped(command));
        frame(&format!("weircast-sim: {name}"), &body)
    }

    /// The drawing of one metric.
    pub fn plot(&self, metric: &Metric) -> Plot {
        let point = |(setting, outcome): (&Setting, &Outcome)| banded(setting.x, &outcome.values_of(metric.name));
        let of =
            |curve: &str| self.finished().filter(|(setting, _)| setting.curve == curve).filter_map(point).collect();
        let curves = self.curves();
        let mut lines: Vec<Curve> =
            curves.iter().map(|curve| Curve { name: (*curve).to_owned(), points: of(curve), dashed: false }).collect();
        if let Some((name, theory)) = theory(metric.name) {
            let first = self.settings_of(curves[0]);
            let points = first.map(|setting| Point::exact(setting.x, theory(&setting.scenario))).collect();
            lines.push(Curve { name: name.to_owned(), points, dashed: true });
        }
        let sweep = &self.plan.sweep;
        let named = sweep.values.iter().any(|value| number(value).is_none());
        Plot {
            x_label: sweep.key.clone(),
            curves: lines,
            names: if named { sweep.values.iter().map(shown).collect() } else { Vec::new() },
            share: metric.unit == Unit::Share,
            dots: true,
            ..Plot::default()
        }
    }
}

/// What theory says of a metric, for the drawing.
type Theory = (&'static str, fn(&Scenario) -> f64);

fn theory(name: &str) -> Option<Theory> {
    match name {
        "offload" => Some(("min((N-1)/N, uplink)", metric::offload_bound)),
        "inter_region_share" => {
            Some(("floor (R-1)/N", |s| f64::from(s.network.regions - 1) / f64::from(s.audience.peers)))
        }
        _ => None,
    }
}

fn rows<'a>(setting: &'a Setting, outcome: &'a Outcome) -> impl Iterator<Item = Row<'a>> {
    metric::all().filter_map(move |metric| {
        let Estimate { mean, half, count } = outcome.estimate(metric.name)?;
        let within = half.is_finite().then_some(half);
        Some(Row { curve: &setting.curve, value: &setting.value, metric: metric.name, mean, within, seeds: count })
    })
}

fn cell(metric: &Metric, estimate: &Estimate) -> String {
    match estimate.half.is_finite() {
        true => format!("{} ± {}", metric.shown(estimate.mean), metric.shown(estimate.half)),
        false => metric.shown(estimate.mean),
    }
}

/// The sweep of a command line over a file's: key, values and seeds that are given win.
pub fn settings(key: Option<&str>, values: &[String], seeds: Option<u64>) -> Vec<String> {
    let mut set = Vec::new();
    if let Some(key) = key {
        set.push(format!("sweep.key=\"{key}\""));
    }
    if !values.is_empty() {
        set.push(format!("sweep.values=[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(",")));
    }
    set.extend(seeds.map(|seeds| format!("sweep.seeds={seeds}")));
    set
}

/// A value as TOML writes it.
fn quoted(text: &str) -> String {
    let is_value = toml::from_str::<toml::Table>(&format!("value = {text}")).is_ok();
    if is_value { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

/// The source with a sweep's words from the command line.
pub fn with_words(source: &Source, words: Vec<String>) -> Source {
    let set = source.set.iter().cloned().chain(words).collect();
    let file: Option<PathBuf> = source.file.clone();
    Source { file, with: source.with.clone(), set }
}

#[cfg(test)]
mod tests;
