//! The report as one page: no script, no font, nothing to load. Readable in dark and in light.

use std::fmt::Write;

use super::Report;
use crate::measure::Durations;
use crate::soak::Soak;

/// The page's drawings, in pixels of their own.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 36.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 14.0;

/// Tail shares at which the percentile curve is marked: p50 ... p99.999.
const TAILS: [(f64, &str); 7] =
    [(1.0, "0"), (0.5, "50"), (0.1, "90"), (0.01, "99"), (0.001, "99.9"), (1e-4, "99.99"), (1e-5, "99.999")];

/// Bars in a decade of milliseconds.
const BARS_PER_DECADE: f64 = 8.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1d21; --paper: #fff; --faint: #8a929c; --line: #d6dbe1; --good: #16794a;
  --bad: #b3261e; --mark: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --faint: #8a929c; --line: #333a43;
  --good: #58c48e; --bad: #ff8a80; --mark: #7db4f0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem }
.pass { color: var(--good) } .fail { color: var(--bad) }
table { border-collapse: collapse } td, th { padding: .15rem .9rem .15rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
tr + tr td { border-top: 1px solid var(--line) }
svg { width: 100%; max-width: 45rem; height: auto; display: block } svg text { fill: var(--faint); font-size: 11px }
.axis { stroke: var(--line); stroke-width: 1 } .curve { fill: none; stroke: var(--mark); stroke-width: 2 }
.bar { fill: var(--mark) } .limit { stroke: var(--bad); stroke-dasharray: 4 3 } .dot { fill: var(--mark) }
.dot.fail { fill: var(--bad) } pre { white-space: pre-wrap; overflow-wrap: anywhere }
";

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::new();
    // String's Write cannot fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(f: &mut String, report: &Report) -> std::fmt::Result {
    let class = if report.passed { "pass" } else { "fail" };
    writeln!(f, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>weircast-load</title>")?;
    writeln!(f, "<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>")?;
    writeln!(f, "<h1 class=\"{class}\">{}</h1>", escaped(&report.verdict()))?;
    writeln!(
        f,
        "<p>{} {} viewers of {}, measured for {:.1} s: {} served, {} chunks wrong, {} missed, {:.3} Gbit/s.</p>",
        report.viewers,
        report.mode,
        escaped(&report.stream),
        report.seconds,
        report.served,
        report.wrong,
        report.missed,
        report.gbit_per_s
    )?;
    if !report.not_served.is_empty() {
        writeln!(f, "<h2>Not served</h2><table>")?;
        for (why, count) in &report.not_served {
            writeln!(f, "<tr><td class=\"n\">{count}</td><td>{}</td></tr>", escaped(why))?;
        }
        writeln!(f, "</table>")?;
    }
    write_quantiles(f, report)?;
    if let Some(ramp) = &report.ramp {
        let points: Vec<(f64, f64, bool)> =
            ramp.levels.iter().map(|level| (level.viewers as f64, level.lateness_p99_ms, level.passed)).collect();
        writeln!(f, "<h2>Viewers, and the 99th percentile of their lateness in ms</h2>{}", dots(&points))?;
    }
    if let Some(soak) = &report.soak {
        writeln!(f, "<h2>The server's own memory in KiB, by seconds</h2>{}", memory(soak))?;
    }
    for (name, durations) in report.curves.iter().filter(|(_, durations)| durations.count() > 0) {
        writeln!(f, "<h2>{}: percentiles, ms</h2>{}", escaped(name), curve(durations))?;
        writeln!(f, "<h2>{}: how many, by ms</h2>{}", escaped(name), bars(durations))?;
    }
    writeln!(f, "<h2>All numbers</h2><pre>{}</pre>", escaped(&report.text()))?;
    let host = &report.host;
    writeln!(
        f,
        "<h2>Run</h2><pre>{}</pre><p>{} CPUs ({}), {} MiB, Linux {}, at most {} descriptors in a process.</p>",
        escaped(&report.command.join(" ")),
        host.cpus,
        escaped(&host.cpu),
        host.memory_mib,
        escaped(&host.kernel),
        host.descriptors_max
    )?;
    writeln!(f, "</body></html>")
}

fn write_quantiles(f: &mut String, report: &Report) -> std::fmt::Result {
    let heads: String =
        ["p50", "p95", "p99", "p99.9", "max"].map(|head| format!("<th class=\"n\">{head}</th>")).concat();
    writeln!(f, "<h2>Milliseconds</h2><table><tr><th></th>{heads}</tr>")?;
    let mut rows = vec![("lateness", Some(report.lateness_ms))];
    rows.push(("lateness from the upload", report.lateness_from_upload_ms));
    rows.push(("lateness of bad viewers", report.bad.as_ref().map(|bad| bad.lateness_ms)));
    rows.push(("first byte", Some(report.first_byte_ms)));
    rows.push(("join", Some(report.join_ms)));
    rows.push(("the tool's own lag", Some(report.tool.lag_ms)));
    rows.push(("the publisher's own lag", report.tool.publish_lateness_ms));
    for (name, quantiles) in rows {
        let Some(q) = quantiles else { continue };
        let cells = [q.p50, q.p95, q.p99, q.p999, q.max].map(|ms| format!("<td class=\"n\">{ms:.1}</td>")).concat();
        writeln!(f, "<tr><td>{name}</td>{cells}</tr>")?;
    }
    writeln!(f, "</table>")
}

/// A drawing with its axes: places values on it.
struct Plot {
    body: String,
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    fn new(x: (f64, f64), y: (f64, f64)) -> Plot {
        let wide = |(from, to): (f64, f64)| if to > from { (from, to) } else { (from, from + 1.0) };
        let mut plot = Plot { body: String::new(), x: wide(x), y: wide(y) };
        let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        plot.put(format!("<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{base}H{right}\"/>"));
        plot
    }

    fn put(&mut self, what: String) {
        self.body += &what;
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |value: f64, (from, to): (f64, f64)| ((value - from) / (to - from)).clamp(0.0, 1.0);
        let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + wide * part(x, self.x), HEIGHT - BOTTOM - high * part(y, self.y))
    }

    fn mark_x(&mut self, x: f64, label: &str) {
        let (at, y) = (self.at(x, 0.0).0, HEIGHT - BOTTOM + 16.0);
        self.put(format!("<text x=\"{at:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"));
    }

    fn mark_y(&mut self, y: f64, label: &str) {
        let (at, x, right) = (self.at(0.0, y).1, LEFT - 6.0, WIDTH - RIGHT);
        self.put(format!("<path class=\"axis\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
        self.put(format!("<text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", at + 4.0));
    }

    fn line(&mut self, points: &[(f64, f64)]) {
        let places: Vec<String> =
            points.iter().map(|(x, y)| self.at(*x, *y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(format!("<polyline class=\"curve\" points=\"{}\"/>", places.join(" ")));
    }

    fn svg(self) -> String {
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}</svg>", self.body)
    }

    /// Marks whole decades on the y axis, of which `self.y` is the logarithm.
    fn decades_y(&mut self) {
        for decade in self.y.0.ceil() as i32..=self.y.1.floor() as i32 {
            self.mark_y(f64::from(decade), &short(10_f64.powi(decade)));
        }
    }
}

/// Percentiles: the tail's share to the right on a log scale, milliseconds upwards on another.
fn curve(durations: &Durations) -> String {
    let log = |ms: f64| ms.max(0.01).log10();
    let last = (1.0 / durations.count() as f64).max(1e-5);
    let tail_log = |tail: f64| -tail.log10();
    let mut plot = Plot::new((0.0, tail_log(last)), (log(durations.ms(0.0)).floor(), log(durations.ms(1.0)).ceil()));
    plot.decades_y();
    for (tail, name) in TAILS.into_iter().filter(|(tail, _)| *tail >= last) {
        plot.mark_x(tail_log(tail), &format!("{name} %"));
    }
    let steps = 160;
    let points = (0..=steps).map(|step| {
        let x = tail_log(last) * f64::from(step) / f64::from(steps);
        (x, log(durations.ms(1.0 - 10_f64.powf(-x))))
    });
    let points: Vec<(f64, f64)> = points.collect();
    plot.line(&points);
    plot.svg()
}

/// How many lie in each eighth of a decade.
fn bars(durations: &Durations) -> String {
    let bin = |ms: f64| (ms.max(0.01).log10() * BARS_PER_DECADE).floor() as i32;
    let (first, last) = (bin(durations.ms(0.0)), bin(durations.ms(1.0)));
    let edge = |bin: i32| 10_f64.powf(f64::from(bin) / BARS_PER_DECADE);
    let from = |bin: i32| if bin == first { 0.0 } else { edge(bin) };
    let counts: Vec<u64> = (first..=last).map(|bin| durations.between(from(bin), edge(bin + 1))).collect();
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let mut plot = Plot::new((f64::from(first), f64::from(last + 1)), (0.0, most as f64));
    plot.mark_y(most as f64, &short(most as f64));
    for (bin, count) in (first..).zip(&counts) {
        let ((x, y), (right, base)) = (plot.at(f64::from(bin), *count as f64), plot.at(f64::from(bin + 1), 0.0));
        let (wide, high) = ((right - x - 1.0).max(1.0), base - y);
        plot.put(format!("<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"/>"));
    }
    let step = ((last - first) / 8 + 1) as usize;
    for bin in (first..=last + 1).step_by(step) {
        plot.mark_x(f64::from(bin), &short(edge(bin)));
    }
    plot.svg()
}

/// Points by two numbers, upwards on a log scale.
fn dots(points: &[(f64, f64, bool)]) -> String {
    let log = |ms: f64| ms.max(0.01).log10();
    let most = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let (low, high) =
        points.iter().fold((0.0, 0.0), |(low, high): (f64, f64), p| (low.min(log(p.1)), high.max(log(p.1))));
    let mut plot = Plot::new((0.0, most), (low.floor(), high.ceil()));
    plot.decades_y();
    for quarter in 0..=4 {
        let x = most * f64::from(quarter) / 4.0;
        plot.mark_x(x, &short(x));
    }
    for (x, y, passed) in points {
        let (x, y) = plot.at(*x, log(*y));
        let class = if *passed { "dot" } else { "dot fail" };
        plot.put(format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"));
    }
    plot.svg()
}

/// The server's own memory over the span; the judged part begins at the dashed line.
fn memory(soak: &Soak) -> String {
    let points: Vec<(f64, f64)> = soak.samples.iter().map(|sample| (sample.at_s, sample.anon_kib as f64)).collect();
    let end = points.last().map_or(1.0, |point| point.0);
    let most = points.iter().map(|point| point.1).fold(1.0, f64::max);
    let mut plot = Plot::new((0.0, end), (0.0, most));
    for quarter in 0..=4 {
        let part = f64::from(quarter) / 4.0;
        plot.mark_x(end * part, &short(end * part));
        plot.mark_y(most * part, &short(most * part));
    }
    let x = plot.at(soak.judged_from_s, 0.0).0;
    plot.put(format!("<path class=\"limit\" d=\"M{x:.1} {TOP}V{}\"/>", HEIGHT - BOTTOM));
    plot.line(&points);
    plot.svg()
}

/// A number in a few characters.
fn short(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 10_000.0 => format!("{:.0} k", n / 1e3),
        n if n >= 10.0 || n == 0.0 => format!("{n:.0}"),
        n if n >= 1.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
