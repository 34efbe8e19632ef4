//! The report of a run: text for a person, JSON for a program, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::measure::{Account, Checked, Durations, due};
use crate::viewers::Seen;

/// Lag of the tool's loop above which its own slowness is in the numbers: a tenth of a chunk (our guess).
const LAG_MS_MAX: f64 = 20.0;

/// Share of the span that a thread may be busy before it counts as the bottleneck (our guess).
const BUSY_MAX: f64 = 0.9;

/// Quantiles of a duration in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    fn of(durations: &Durations) -> Quantiles {
        Quantiles { p50: durations.ms(0.5), p95: durations.ms(0.95), p99: durations.ms(0.99), max: durations.ms(1.0) }
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
    /// Whether the tool, not the cache, limits these numbers.
    pub(crate) is_bottleneck: bool,
}

/// A run, added up.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) viewers: usize,
    pub(crate) served: usize,
    pub(crate) mode: String,
    pub(crate) stream: String,
    /// Length of the measured span.
    pub(crate) seconds: f64,
    /// Chunks due to each viewer in the span.
    pub(crate) chunks_due: u64,
    /// Chunks received by all viewers, the time before the span included, and their bytes.
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    pub(crate) wrong: u64,
    /// Due chunks that did not come.
    pub(crate) missed: u64,
    /// Chunks that the cache said it leaves out.
    pub(crate) skipped: u64,
    /// Over due chunks: arrival of the last byte minus the publisher's clock.
    pub(crate) lateness_ms: Quantiles,
    /// From a viewer's scheduled join to its first whole chunk.
    pub(crate) join_ms: Quantiles,
    /// How the chunks of all viewers were verified.
    pub(crate) verified: Checked,
    pub(crate) tool: Tool,
    /// The run's own publisher failed: the stream broke off.
    pub(crate) publisher_failed: bool,
    /// Viewers that were not served, by reason.
    pub(crate) not_served: BTreeMap<String, usize>,
}

/// Who published, and how that went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Published<'a> {
    /// This run, to its end: how late each chunk left.
    ByUs(&'a Durations),
    /// This run, and it failed: what was due after that never came.
    Failed,
    /// Another program.
    Elsewhere,
}

/// Adds up what was seen.
pub(crate) fn report(seen: &Seen, mode: &str, stream: &str, viewers: usize, published: Published<'_>) -> Report {
    let due = due(&seen.published, seen.span);
    let mut join = Durations::new();
    let mut not_served: BTreeMap<String, usize> = BTreeMap::new();
    let (mut chunks, mut bytes, mut wrong, mut missed, mut skipped, mut served) = (0, 0, 0, 0, 0, 0);
    for account in &seen.accounts {
        chunks += account.chunks;
        bytes += account.bytes;
        wrong += account.wrong;
        skipped += account.skipped;
        if let Some(joined_us) = account.joined_us {
            join.record(joined_us.saturating_sub(account.intended_us));
        }
        let lacks = due.clone().filter(|seq| !account.got.contains(*seq)).count() as u64;
        missed += lacks;
        match reason(account, lacks, due.is_empty()) {
            None => served += 1,
            Some(why) => *not_served.entry(why).or_default() += 1,
        }
    }
    let never_begun = viewers.saturating_sub(seen.accounts.len());
    if never_begun > 0 {
        not_served.insert("its turn to join had not come".to_owned(), never_begun);
    }
    let publish_lateness_ms = match published {
        Published::ByUs(late) => Some(Quantiles::of(late)),
        Published::Failed | Published::Elsewhere => None,
    };
    let lag_ms = Quantiles::of(&seen.lag);
    let late = publish_lateness_ms.is_some_and(|late| late.p99 > LAG_MS_MAX);
    let is_bottleneck = lag_ms.p99 > LAG_MS_MAX || seen.busy > BUSY_MAX || late;
    Report {
        viewers,
        served,
        mode: mode.to_owned(),
        stream: stream.to_owned(),
        seconds: (seen.span.end_us - seen.span.start_us) as f64 / 1e6,
        chunks_due: due.end - due.start,
        chunks,
        bytes,
        wrong,
        missed,
        skipped,
        lateness_ms: Quantiles::of(&seen.lateness),
        join_ms: Quantiles::of(&join),
        verified: seen.checked,
        tool: Tool { lag_ms, busy: seen.busy, publish_lateness_ms, is_bottleneck },
        publisher_failed: matches!(published, Published::Failed),
        not_served,
    }
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

impl Report {
    /// Whether every viewer was served and nothing was wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.served == self.viewers && self.wrong == 0 && !self.publisher_failed
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // String's Write cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, f: &mut String) -> std::fmt::Result {
        let row = |name: &str, q: &Quantiles| {
            format!("{name:<10} p50 {:>9.1}  p95 {:>9.1}  p99 {:>9.1}  max {:>9.1}  ms", q.p50, q.p95, q.p99, q.max)
        };
        let gbit = self.bytes as f64 * 8.0 / 1e9;
        writeln!(f, "\n{} {} viewers of {}, measured for {:.1} s", self.viewers, self.mode, self.stream, self.seconds)?;
        writeln!(f, "served     {} of {}", self.served, self.viewers)?;
        writeln!(f, "chunks     {} ({} due to each), {gbit:.2} Gbit", self.chunks, self.chunks_due)?;
        writeln!(f, "           {} wrong, {} missed, {} skipped by the cache", self.wrong, self.missed, self.skipped)?;
        writeln!(f, "{}", row("lateness", &self.lateness_ms))?;
        writeln!(f, "{}", row("join", &self.join_ms))?;
        let v = &self.verified;
        writeln!(
            f,
            "verified   {} by signature, {} by hash alone, {} by payload alone, {} by comparison with one of these, \
             {} not at all",
            v.by_signature, v.by_hash, v.by_payload, v.by_comparison, v.not
        )?;
        writeln!(f, "{}  busy {:.0} %", row("tool lag", &self.tool.lag_ms), 100.0 * self.tool.busy)?;
        if let Some(late) = &self.tool.publish_lateness_ms {
            writeln!(f, "{}", row("published", late))?;
        }
        for (why, count) in &self.not_served {
            writeln!(f, "NOT SERVED {count}: {why}")?;
        }
        if self.publisher_failed {
            writeln!(f, "PUBLISHING FAILED: the stream broke off")?;
        }
        if self.tool.is_bottleneck {
            writeln!(
                f,
                "THE LOAD TOOL ITSELF IS A BOTTLENECK: lateness holds up to {:.1} ms (p99) of its own lag, and the cache may \
                 be better than these numbers. Use more --threads, fewer viewers, --verify sample:K, or a quieter machine.",
                self.tool.lag_ms.p99
            )?;
        }
        writeln!(f, "{}", if self.is_good() { "PASS: every viewer was served" } else { "FAIL" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Measured;

    /// Viewers whose chunks are drawn, one letter for each chunk from number 10 on: `#` came.
    fn seen(viewers: &[&str]) -> Seen {
        let mut accounts = Vec::new();
        for drawn in viewers {
            let mut account = Account { joined_us: drawn.contains('#').then_some(5), ..Account::default() };
            account.got.insert(9);
            for (at, _) in drawn.char_indices().filter(|(_, c)| *c == '#') {
                account.got.insert(10 + at as u64);
            }
            accounts.push(account);
        }
        Seen {
            span: Measured { start_us: 1_000, end_us: 1_800 },
            accounts,
            published: (0..4).map(|at| (10 + at, 1_000 + 200 * at)).collect(),
            checked: Checked::default(),
            lateness: Durations::new(),
            lag: Durations::new(),
            busy: 0.1,
        }
    }

    fn told(viewers: &[&str]) -> Report {
        report(&seen(viewers), "pull", "live", viewers.len(), Published::Elsewhere)
    }

    #[test]
    fn everybody_served_is_good() {
        let report = told(&["####", "####"]);
        assert!(report.is_good(), "{}", report.text());
        assert_eq!((report.served, report.missed, report.chunks_due), (2, 0, 4));
    }

    #[test]
    fn one_missing_chunk_of_one_viewer_fails_the_run() {
        let report = told(&["####", "##.#"]);
        assert!(!report.is_good());
        assert_eq!((report.served, report.missed), (1, 1));
        assert_eq!(report.not_served["chunks missed"], 1);
    }

    #[test]
    fn a_viewer_that_never_joined_fails_the_run() {
        let report = told(&["####", "...."]);
        assert_eq!((report.served, report.not_served["no chunk arrived in time to join"]), (1, 1));
    }

    #[test]
    fn a_stream_that_broke_off_fails_the_run() {
        let report = report(&seen(&["####"]), "pull", "live", 1, Published::Failed);
        assert!(!report.is_good() && report.text().ends_with("FAIL\n"), "{}", report.text());
    }

    #[test]
    fn viewers_that_were_never_begun_are_counted() {
        let report = report(&seen(&["####"]), "pull", "live", 3, Published::Elsewhere);
        assert!(!report.is_good());
        assert_eq!(report.not_served.values().sum::<usize>(), 2);
    }

    #[test]
    fn a_silent_publisher_serves_nobody() {
        let mut seen = seen(&["####"]);
        seen.span = Measured { start_us: 50_000, end_us: 60_000 };
        assert!(!report(&seen, "pull", "live", 1, Published::Elsewhere).is_good());
    }

    #[test]
    fn a_busy_tool_says_so() {
        let mut seen = seen(&["####"]);
        seen.busy = 0.95;
        let report = report(&seen, "pull", "live", 1, Published::Elsewhere);
        assert!(report.tool.is_bottleneck && report.text().contains("BOTTLENECK"));
    }
}
