//! The report of a run: the numbers and the verdict, as JSON; [`text`] for a person, [`html`] to look at.

pub(crate) mod files;
mod html;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use html::page;

use crate::measure::{Account, Checked, Durations, Trouble, due};
use crate::server::Observer;
use crate::soak::Soak;
use crate::viewers::{Seen, Temper};

/// Lag of the tool's loop up to which it does not matter: a tenth of a chunk (our guess).
pub(crate) const LAG_MS_MIN: f64 = 20.0;

/// Share of the measured lateness (both at the 99th percentile) that may be the tool's own lag (our guess).
const LAG_SHARE_MAX: f64 = 0.5;

/// Share of the span that a thread may be busy before it counts as the bottleneck (our guess).
const BUSY_MAX: f64 = 0.9;

/// By so much clocks may differ over what a whole span is.
const SPAN_TOLERANCE_S: f64 = 0.001;

/// Who comes this shortly before the measured span's end need not have a chunk in it.
const TOO_LATE_US: u64 = 2_000_000;

/// Quantiles of a duration in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    fn of(durations: &Durations) -> Quantiles {
        let ms = |quantile| durations.ms(quantile);
        Quantiles { p50: ms(0.5), p95: ms(0.95), p99: ms(0.99), p999: ms(0.999), max: ms(1.0) }
    }

    fn of_some(durations: &Durations) -> Option<Quantiles> {
        (durations.count() > 0).then(|| Quantiles::of(durations))
    }
}

/// How the tool itself fared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tool {
    /// How long arrived bytes may have waited for the tool to read them.
    pub(crate) lag_ms: Quantiles,
    /// The busiest thread's share of the measured span.
    pub(crate) busy: f64,
    /// How late the publisher's own chunks left the tool, if it published.
    pub(crate) publish_lateness_ms: Option<Quantiles>,
    /// From a chunk's first byte to its last: how long the server took to take it.
    pub(crate) upload_ms: Option<Quantiles>,
    /// The publisher fell behind its schedule.
    pub(crate) publisher_behind: bool,
    /// Whether the tool, not the server, limits these numbers, and by what.
    pub(crate) is_bottleneck: bool,
    pub(crate) limits: Vec<String>,
}

/// The server's process over the measured span.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) cpu_s: f64,
    /// Over the bytes that the viewers received in the span.
    pub(crate) cpu_s_per_gib: f64,
    /// Before the first join, at the span's beginning, at its end.
    pub(crate) rss_kib_idle: u64,
    pub(crate) rss_kib_before: u64,
    pub(crate) rss_kib_after: u64,
    pub(crate) anon_kib_idle: u64,
    pub(crate) anon_kib_before: u64,
    pub(crate) anon_kib_after: u64,
    pub(crate) descriptors_after: u64,
    pub(crate) threads: u64,
}

/// Viewers that behaved badly.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bad {
    /// Joins by temper; who leaves and comes back counts each time.
    pub(crate) joins: BTreeMap<Temper, usize>,
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) wrong: u64,
    pub(crate) skipped: u64,
    pub(crate) lateness_ms: Quantiles,
    /// How their connections ended, by reason, where it was not by plan.
    pub(crate) ended: BTreeMap<String, usize>,
}

/// One level of a ramp.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Level {
    pub(crate) viewers: usize,
    pub(crate) served: usize,
    pub(crate) lateness_p99_ms: f64,
    pub(crate) busy: f64,
    pub(crate) passed: bool,
    pub(crate) why: Vec<String>,
}

/// What a ramp found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RampFound {
    /// The most viewers that were served in time; `None`: not even the first level.
    pub(crate) largest: Option<usize>,
    /// In the order in which they were tried.
    pub(crate) levels: Vec<Level>,
}

/// A run, added up. Chunks of bad viewers are in [`Bad`] and nowhere else.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) passed: bool,
    /// Why it did not.
    pub(crate) why: Vec<String>,
    /// Good viewers. Who took another's place counts too.
    pub(crate) viewers: usize,
    pub(crate) served: usize,
    pub(crate) mode: String,
    pub(crate) stream: String,
    pub(crate) streams: usize,
    /// Length of the measured span.
    pub(crate) seconds: f64,
    /// Chunks due to each viewer in the span (of the first stream, when there are several).
    pub(crate) chunks_due: u64,
    /// Chunks received by all viewers, the time before the span included, and their bytes.
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    /// Bytes that came in the span, to bad viewers too, and what that is in a second.
    pub(crate) bytes_measured: u64,
    pub(crate) gbit_per_s: f64,
    pub(crate) wrong: u64,
    /// Due chunks that did not come.
    pub(crate) missed: u64,
    /// Chunks that the cache said it leaves out.
    pub(crate) skipped: u64,
    /// Over due chunks: arrival of the last byte minus the publisher's clock.
    pub(crate) lateness_ms: Quantiles,
    /// The same minus the moment at which the chunk's upload was complete, where that is known.
    pub(crate) lateness_from_upload_ms: Option<Quantiles>,
    /// From a viewer's scheduled join to its first byte, and to its first whole chunk.
    pub(crate) first_byte_ms: Quantiles,
    pub(crate) join_ms: Quantiles,
    /// Joins that were refused, by reason; those that were sent elsewhere, and went.
    pub(crate) refused: BTreeMap<String, usize>,
    pub(crate) sent_elsewhere: usize,
    pub(crate) redirects_followed: u64,
    /// How the chunks of all viewers were verified.
    pub(crate) verified: Checked,
    pub(crate) tool: Tool,
    /// The run's own publisher failed: the stream broke off.
    pub(crate) publisher_failed: bool,
    /// Viewers that were not served, by reason.
    pub(crate) not_served: BTreeMap<String, usize>,
    pub(crate) bad: Option<Bad>,
    pub(crate) server: Option<Server>,
    pub(crate) soak: Option<Soak>,
    pub(crate) ramp: Option<RampFound>,
    /// The command, and the machine.
    pub(crate) command: Vec<String>,
    pub(crate) host: Host,
    /// What the page draws.
    #[serde(skip)]
    pub(crate) curves: Vec<(&'static str, Durations)>,
}

/// What the numbers depend on.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cpus: usize,
    pub(crate) memory_mib: u64,
    pub(crate) descriptors_max: u64,
}

/// What a run was, apart from what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) mode: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) viewers: usize,
    pub(crate) observer: &'a Observer,
    pub(crate) soak: Option<Soak>,
    /// How long the measured span was to be.
    pub(crate) planned_s: f64,
    pub(crate) limit_p99_ms: Option<f64>,
    /// Joins are what is measured: every one counts.
    pub(crate) joins: bool,
    /// Refused joins do not fail the run.
    pub(crate) refusals_pass: bool,
    /// Nor does the tool's slowness.
    pub(crate) correctness_only: bool,
    /// Lateness means nothing: it follows from how many ask at once.
    pub(crate) closed_loop: bool,
}

/// Adds up what was seen.
pub(crate) fn report(seen: &Seen, terms: &Terms<'_>) -> Report {
    let dues: Vec<std::ops::Range<u64>> = seen.published.iter().map(|published| due(published, seen.span)).collect();
    let (mut join, mut first_byte) = (Durations::new(), Durations::new());
    let mut not_served: BTreeMap<String, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut sums = Account::default();
    let (mut viewers, mut served, mut missed, mut bytes_measured, mut sent_elsewhere) = (0, 0, 0, 0, 0);
    let mut refusals = 0;
    for account in &seen.accounts {
        bytes_measured += account.span_bytes;
        if account.temper != Temper::Good {
            continue;
        }
        let comes_too_late = !terms.joins
            && account.intended_us >= seen.span.start_us
            && account.intended_us + TOO_LATE_US > seen.span.end_us;
        if comes_too_late && account.joined_us.is_none() && account.trouble.is_none() {
            continue;
        }
        viewers += 1;
        sums.chunks += account.chunks;
        sums.bytes += account.bytes;
        sums.wrong += account.wrong;
        sums.skipped += account.skipped;
        sums.redirected += account.redirected;
        sent_elsewhere += usize::from(account.sent_elsewhere);
        if let Some(joined_us) = account.joined_us {
            join.record(joined_us.saturating_sub(account.intended_us));
        }
        if let Some(first_us) = account.first_byte_us {
            first_byte.record(first_us.saturating_sub(account.intended_us));
        }
        let due = due_to(account, &dues[account.stream], seen.span.start_us);
        let lacks = due.filter(|seq| !account.got.contains(*seq)).count() as u64;
        missed += lacks;
        if let (None, Some(Trouble::Refused(why))) = (account.joined_us, &account.trouble) {
            *refused.entry(why.clone()).or_default() += 1;
            refusals += usize::from(terms.refusals_pass);
        }
        match reason(account, lacks, dues[account.stream].is_empty()) {
            None => served += 1,
            Some(why) => *not_served.entry(why).or_default() += 1,
        }
    }
    let never_begun = terms.viewers.saturating_sub(seen.accounts.len());
    if never_begun > 0 {
        viewers += never_begun;
        not_served.insert("its turn to join had not come".to_owned(), never_begun);
    }
    let seconds = (seen.span.end_us - seen.span.start_us) as f64 / 1e6;
    let lateness_ms = Quantiles::of(&seen.figures.lateness);
    let mut report = Report {
        passed: false,
        why: Vec::new(),
        viewers,
        served,
        mode: terms.mode.to_owned(),
        stream: terms.stream.to_owned(),
        streams: dues.len(),
        seconds,
        chunks_due: dues.first().map_or(0, |due| due.end - due.start),
        chunks: sums.chunks,
        bytes: sums.bytes,
        bytes_measured,
        gbit_per_s: if seconds > 0.0 { bytes_measured as f64 * 8.0 / 1e9 / seconds } else { 0.0 },
        wrong: sums.wrong,
        missed,
        skipped: sums.skipped,
        lateness_ms,
        lateness_from_upload_ms: Quantiles::of_some(&seen.figures.from_upload),
        first_byte_ms: Quantiles::of(&first_byte),
        join_ms: Quantiles::of(&join),
        refused,
        sent_elsewhere,
        redirects_followed: sums.redirected,
        verified: seen.checked,
        tool: tool(seen, terms, &lateness_ms),
        publisher_failed: false,
        not_served,
        bad: bad(seen),
        server: server(terms.observer, bytes_measured),
        soak: terms.soak.clone(),
        ramp: None,
        command: std::env::args().collect(),
        host: host(),
        curves: vec![
            ("lateness", seen.figures.lateness.clone()),
            ("lateness from the upload", seen.figures.from_upload.clone()),
            ("lateness of bad viewers", seen.figures.bad_lateness.clone()),
            ("first byte", first_byte),
            ("join", join),
            ("the tool's own lag", seen.lag.clone()),
        ],
    };
    report.why = why(&report, terms, refusals);
    report.passed = report.why.is_empty();
    report
}

impl Report {
    /// The run's own publisher has failed.
    pub(crate) fn publishing_failed(&mut self) {
        self.publisher_failed = true;
        self.passed = false;
        self.why.insert(0, "publishing failed: the stream broke off".to_owned());
    }
}

/// The chunks that were due to this viewer: all, or for one that came or left within the span, those between its first
/// and its last.
fn due_to(account: &Account, due: &std::ops::Range<u64>, start_us: u64) -> std::ops::Range<u64> {
    let Some((first, last)) = account.got.ends() else { return due.clone() };
    let from = if account.intended_us >= start_us { due.start.max(first) } else { due.start };
    let to = if account.left_us.is_some() { due.end.min(last + 1) } else { due.end };
    from..to.max(from)
}

/// Why a viewer does not count as served.
fn reason(account: &Account, lacks: u64, nothing_due: bool) -> Option<String> {
    if let Some(trouble) = account.trouble.as_ref().filter(|_| lacks > 0 || account.joined_us.is_none()) {
        return Some(trouble.to_string());
    }
    if account.joined_us.is_none() {
        return Some("no chunk arrived in time to join".to_owned());
    }
    if account.wrong > 0 {
        return Some("wrong bytes".to_owned());
    }
    if nothing_due {
        return Some("the publisher was silent in the measured span".to_owned());
    }
    (lacks > 0).then(|| "chunks missed".to_owned())
}

/// Everything that keeps the run from passing.
fn why(report: &Report, terms: &Terms<'_>, refusals: usize) -> Vec<String> {
    let mut why = Vec::new();
    if report.viewers == 0 {
        why.push("nobody was there to be served".to_owned());
    }
    if report.served + refusals < report.viewers {
        why.push(format!("{} of {} viewers were not served", report.viewers - report.served, report.viewers));
    }
    if report.wrong > 0 {
        why.push(format!("{} chunks were wrong", report.wrong));
    }
    if let Some(bad) = report.bad.as_ref().filter(|bad| bad.wrong > 0) {
        why.push(format!("{} chunks to bad viewers were wrong", bad.wrong));
    }
    if report.seconds < terms.planned_s - SPAN_TOLERANCE_S {
        why.push(format!("it ended early: after {:.0} of {:.0} s", report.seconds, terms.planned_s));
    }
    if let Some(limit) = terms.limit_p99_ms.filter(|limit| report.lateness_ms.p99 > *limit) {
        why.push(format!("lateness p99 {:.1} ms is over the limit of {limit} ms", report.lateness_ms.p99));
    }
    if let Some(soak) = &report.soak {
        why.extend(soak.growing());
        if !soak.is_judged() && !terms.correctness_only {
            why.push(format!(
                "too few looks at the server's memory to judge it ({}): a longer soak",
                soak.samples.len()
            ));
        }
    }
    if !terms.correctness_only && report.tool.publisher_behind {
        why.push("the publisher fell behind its schedule".to_owned());
    } else if !terms.correctness_only && report.tool.is_bottleneck {
        why.push("the load tool itself is the bottleneck".to_owned());
    }
    why
}

fn tool(seen: &Seen, terms: &Terms<'_>, lateness_ms: &Quantiles) -> Tool {
    let published = terms.observer.published.as_ref();
    let publish_lateness_ms = published.and_then(|published| Quantiles::of_some(&published.late));
    let upload_ms = published.and_then(|published| Quantiles::of_some(&published.upload));
    let lag_ms = Quantiles::of(&seen.lag);
    let publisher_behind = publish_lateness_ms.is_some_and(|late| late.p99 > LAG_MS_MIN);
    // Where every answer is the cause of the next request, lag only makes the load smaller.
    let mut limits = Vec::new();
    if publisher_behind {
        limits.push("its publisher was late".to_owned());
    }
    if seen.busy > BUSY_MAX {
        limits.push(format!("a thread of its was busy for {:.0} % of the time", 100.0 * seen.busy));
    }
    let lags = !terms.closed_loop && lag_ms.p99 > LAG_MS_MIN.max(LAG_SHARE_MAX * lateness_ms.p99);
    if lags {
        let (lag, share) = (lag_ms.p99, 100.0 * LAG_SHARE_MAX);
        limits.push(format!("its own lag (p99 {lag:.1} ms) is over {share:.0} % of the lateness"));
    }
    let is_bottleneck = !limits.is_empty();
    Tool { lag_ms, busy: seen.busy, publish_lateness_ms, upload_ms, publisher_behind, is_bottleneck, limits }
}

fn bad(seen: &Seen) -> Option<Bad> {
    let mut bad = Bad {
        joins: BTreeMap::new(),
        chunks: 0,
        bytes: 0,
        wrong: 0,
        skipped: 0,
        lateness_ms: Quantiles::of(&seen.figures.bad_lateness),
        ended: BTreeMap::new(),
    };
    for account in seen.accounts.iter().filter(|account| account.temper != Temper::Good) {
        *bad.joins.entry(account.temper).or_default() += 1;
        bad.chunks += account.chunks;
        bad.bytes += account.bytes;
        bad.wrong += account.wrong;
        bad.skipped += account.skipped;
        if let Some(trouble) = &account.trouble {
            *bad.ended.entry(trouble.to_string()).or_default() += 1;
        }
    }
    (!bad.joins.is_empty()).then_some(bad)
}

fn server(observer: &Observer, bytes: u64) -> Option<Server> {
    let (idle, start, stop) = (observer.idle?, observer.start?, observer.stop?);
    let cpu_s = stop.cpu_s - start.cpu_s;
    let gib = bytes as f64 / f64::from(1 << 30);
    Some(Server {
        cpu_s,
        cpu_s_per_gib: if gib > 0.0 { cpu_s / gib } else { 0.0 },
        rss_kib_idle: idle.rss_kib,
        rss_kib_before: start.rss_kib,
        rss_kib_after: stop.rss_kib,
        anon_kib_idle: idle.anon_kib,
        anon_kib_before: start.anon_kib,
        anon_kib_after: stop.anon_kib,
        descriptors_after: stop.descriptors,
        threads: stop.threads,
    })
}

fn host() -> Host {
    let uname = rustix::system::uname();
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory_kib = field("/proc/meminfo", "MemTotal");
    Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        cpu: field("/proc/cpuinfo", "model name"),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: memory_kib.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0_u64) / 1024,
        descriptors_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
