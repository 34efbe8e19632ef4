//! An outcome as one page: no script, no font, nothing to load; for dark and light.

use std::fmt::Write;

use super::outcome::Outcome;
use super::plot::{Curve, Plot, Point, escaped};
use super::{Sample, estimate::Estimate, metric, text};

/// What every page of the simulator looks like. `.c0` to `.c5` are the curves' colours.
pub const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1d21; --paper: #fff; --faint: #8a929c; --line: #d6dbe1; --good: #16794a;
  --bad: #b3261e; --c0: #2563a8; --c1: #b35c00; --c2: #16794a; --c3: #8a3fa0; --c4: #b3261e; --c5: #5d6a78; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --faint: #8a929c; --line: #333a43;
  --good: #58c48e; --bad: #ff8a80; --c0: #7db4f0; --c1: #f0a860; --c2: #58c48e; --c3: #d19be6; --c4: #ff8a80;
  --c5: #a9b4c0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem }
.pass { color: var(--good) } .fail { color: var(--bad) }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } td.is { color: var(--faint) }
tr + tr td { border-top: 1px solid var(--line) }
svg { width: 100%; max-width: 45rem; height: auto; display: block } svg text { fill: var(--faint); font-size: 11px }
.axis { stroke: var(--line); stroke-width: 1 } .curve { fill: none; stroke: currentColor; stroke-width: 1.8 }
.dashed { stroke-dasharray: 5 4 } .band { fill: currentColor; opacity: .15 } .dot { fill: currentColor }
.mark { fill: var(--bad); opacity: .18 } pre { white-space: pre-wrap; overflow-wrap: anywhere }
.c0 { color: var(--c0) } .c1 { color: var(--c1) } .c2 { color: var(--c2) } .c3 { color: var(--c3) }
.c4 { color: var(--c4) } .c5 { color: var(--c5) }
";

/// A page with a title and a body that is already HTML.
pub fn frame(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n{body}</body></html>\n"
    )
}

/// The page of an outcome; `command` is what made it.
pub fn page(outcome: &Outcome, command: &str) -> String {
    let mut body = String::new();
    // String's Write cannot fail.
    let _ = write_body(&mut body, outcome, command);
    frame(&format!("weircast-sim: {}", outcome.scenario.name), &body)
}

fn write_body(f: &mut String, outcome: &Outcome, command: &str) -> std::fmt::Result {
    let (class, word) = if outcome.passed() { ("pass", "passed") } else { ("fail", "failed") };
    writeln!(f, "<h1>{}: <span class=\"{class}\">{word}</span></h1>", escaped(&outcome.scenario.name))?;
    let (runs, scenario) = (outcome.runs.len(), &outcome.scenario);
    let (peers, seconds) = (scenario.audience.peers, scenario.duration_s);
    writeln!(f, "<p>{peers} peers, {seconds} simulated seconds, {runs} seeds, warm-up {} s.</p>", scenario.warmup_s)?;
    let broken: String = outcome.runs.iter().map(text::violations).collect();
    if !broken.is_empty() {
        writeln!(f, "<h2 class=\"fail\">Broken invariants</h2><pre class=\"fail\">{}</pre>", escaped(&broken))?;
    }
    write_verdicts(f, outcome)?;
    write_metrics(f, outcome)?;
    write_quantiles(f, outcome)?;
    write_series(f, outcome)?;
    if !scenario.faults.is_empty() {
        writeln!(f, "<h2>Faults</h2><table>")?;
        for fault in &scenario.faults {
            writeln!(f, "<tr><td class=\"n\">{} s</td><td>{}</td></tr>", fault.at_s, escaped(&fault.to_string()))?;
        }
        writeln!(f, "</table>")?;
    }
    writeln!(f, "<h2>Run</h2><pre>{}</pre><table>", escaped(command))?;
    for run in &outcome.runs {
        let (seed, digest, events) = (run.report.seed, &run.report.digest, run.report.events);
        writeln!(f, "<tr><td>seed {seed}</td><td>digest {}</td><td>{events} events</td></tr>", escaped(digest))?;
    }
    writeln!(f, "</table><h2>Scenario</h2><pre>{}</pre>", escaped(&toml::to_string(scenario).unwrap_or_default()))
}

fn write_verdicts(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let verdicts = outcome.verdicts();
    if verdicts.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "<h2>Expected</h2><table><tr><th></th><th>bound</th><th class=\"n\">at</th><th class=\"n\">worst</th></tr>"
    )?;
    for verdict in verdicts {
        let (class, word) = if verdict.kept { ("pass", "PASS") } else { ("fail", "FAIL") };
        let value = verdict.value.map_or("no value".to_owned(), |value| format!("{value:.6}"));
        writeln!(
            f,
            "<tr><td class=\"{class}\">{word}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{value}</td></tr>",
            verdict.bound, verdict.limit
        )?;
    }
    writeln!(f, "</table>")
}

fn write_metrics(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let several = outcome.runs.len() > 1;
    let head = if several { "<th class=\"n\">95 % within</th>" } else { "" };
    writeln!(f, "<h2>Metrics</h2><table><tr><th></th><th class=\"n\">mean</th>{head}<th></th></tr>")?;
    for metric in metric::all() {
        let Some(estimate) = outcome.estimate(metric.name) else { continue };
        let half =
            if several { format!("<td class=\"n\">± {}</td>", metric.shown(estimate.half)) } else { String::new() };
        let (name, mean, is) = (metric.name, metric.shown(estimate.mean), metric.is);
        writeln!(f, "<tr><td>{name}</td><td class=\"n\">{mean}</td>{half}<td class=\"is\">{is}</td></tr>")?;
    }
    writeln!(f, "</table>")
}

fn write_quantiles(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    const NAMES: [&str; 5] = ["mean", "p50", "p95", "p99", "max"];
    let curve = |which: usize| {
        let values = outcome.runs.iter().map(|run| {
            let q = metric::quantiles(&run.report)[which].1;
            [q.mean, q.p50, q.p95, q.p99, q.max]
        });
        let values: Vec<[f64; 5]> = values.collect();
        let point = |at: usize| banded(at as f64, &values.iter().map(|five| five[at]).collect::<Vec<f64>>());
        (0..NAMES.len()).filter_map(point).collect::<Vec<Point>>()
    };
    for (which, (name, _)) in outcome.runs.iter().take(1).flat_map(|run| metric::quantiles(&run.report)).enumerate() {
        let plot = Plot {
            curves: vec![Curve { points: curve(which), ..Curve::default() }],
            names: NAMES.map(str::to_owned).to_vec(),
            y_in_sight: vec![0.0],
            dots: true,
            ..Plot::default()
        };
        writeln!(f, "<h2>Quantiles of {name}, ms</h2>{}", plot.svg())?;
    }
    Ok(())
}

/// Where a number stands in a sample.
type Column = fn(&Sample) -> f64;

/// A drawing over time.
struct Series {
    title: &'static str,
    curves: &'static [(&'static str, Column)],
    share: bool,
    in_sight: &'static [f64],
}

const SERIES: &[Series] = &[
    Series {
        title: "Viewers",
        curves: &[("alive", |s| f64::from(s.viewers)), ("playing", |s| f64::from(s.playing))],
        share: false,
        in_sight: &[0.0],
    },
    Series { title: "Continuity", curves: &[("", |s| s.continuity)], share: true, in_sight: &[1.0] },
    Series {
        title: "Viewers that stand still",
        curves: &[("", |s| f64::from(s.stalled))],
        share: false,
        in_sight: &[0.0, 1.0],
    },
    Series { title: "Offload", curves: &[("", |s| s.offload)], share: true, in_sight: &[0.0, 1.0] },
    Series { title: "From caches, kbit/s", curves: &[("", |s| s.cache_kbps)], share: false, in_sight: &[0.0] },
];

fn write_series(f: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let end = outcome.scenario.duration_s as f64;
    let mark = |fault: &crate::scenario::Fault| (fault.at_s, fault.ends_s().unwrap_or(end), fault.to_string());
    let marks: Vec<_> = outcome.scenario.faults.iter().map(mark).collect();
    for series in SERIES {
        let curve = |(name, get): &(&str, Column)| {
            let name = (*name).to_owned();
            Curve { name, points: over_time(outcome, *get), dashed: false }
        };
        let plot = Plot {
            x_label: "simulated seconds".to_owned(),
            curves: series.curves.iter().map(curve).collect(),
            marks: marks.clone(),
            share: series.share,
            y_in_sight: series.in_sight.to_vec(),
            ..Plot::default()
        };
        writeln!(f, "<h2>{}</h2>{}", series.title, plot.svg())?;
    }
    Ok(())
}

/// One column of the samples, second by second over all runs.
fn over_time(outcome: &Outcome, get: Column) -> Vec<Point> {
    let longest = outcome.runs.iter().map(|run| run.report.series.len()).max().unwrap_or(0);
    let at = |second: usize| {
        let samples = outcome.runs.iter().filter_map(|run| run.report.series.get(second));
        let values: Vec<f64> = samples.clone().map(get).filter(|value| value.is_finite()).collect();
        banded(f64::from(samples.clone().next()?.at_s), &values)
    };
    (0..longest).filter_map(at).collect()
}

/// The mean of several seeds with its band.
pub fn banded(x: f64, values: &[f64]) -> Option<Point> {
    let Estimate { mean, half, .. } = Estimate::of(values)?;
    Some(Point { x, y: mean, low: mean - half, high: mean + half })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::tests::outcome;

    #[test]
    fn a_page_needs_nothing_else() {
        let page = page(&outcome(), "weircast-sim run x.toml");
        for word in ["<script", "http:", "https:", "url(", "@import", "NaN", "<fork>"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_broken_comes_first() {
        let page = page(&outcome(), "");
        let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is on the page"));
        assert!(place("Broken invariants") < place("Expected") && place("Expected") < place("Metrics"));
        assert!(page.contains("weircast-sim replay 2 x.toml"));
        assert!(page.contains("<title>cache 0 killed, back after 5 s</title>"), "faults are marked");
    }

    #[test]
    fn every_element_that_is_opened_is_closed() {
        let page = page(&outcome(), "");
        for tag in ["table", "tr", "td", "th", "svg", "text", "title", "h2", "pre", "rect"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
