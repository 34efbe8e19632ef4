//! Reports of runs that were drawn.

use super::*;
use crate::measure::{Figures, Measured, SeqSet};
use crate::publish::Published;
use crate::server::Sample;

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
        published: vec![(0..4).map(|at| (10 + at, 1_000 + 200 * at)).collect()],
        checked: Checked::default(),
        figures: Figures::new(),
        lag: Durations::new(),
        busy: 0.1,
    }
}

fn terms(viewers: usize, observer: &Observer) -> Terms<'_> {
    Terms {
        mode: "pull",
        stream: "live",
        viewers,
        observer,
        soak: None,
        planned_s: 0.000_8,
        limit_p99_ms: None,
        joins: false,
        refusals_pass: false,
        correctness_only: false,
        closed_loop: false,
    }
}

fn told(viewers: &[&str]) -> Report {
    report(&seen(viewers), &terms(viewers.len(), &Observer::default()))
}

#[test]
fn everybody_served_is_good() {
    let report = told(&["####", "####"]);
    assert!(report.passed, "{}", report.text());
    assert_eq!((report.served, report.missed, report.chunks_due), (2, 0, 4));
}

#[test]
fn one_missing_chunk_of_one_viewer_fails_the_run() {
    let report = told(&["####", "##.#"]);
    assert!(!report.passed);
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
    let mut report = told(&["####"]);
    report.publishing_failed();
    assert!(!report.passed && report.text().starts_with("FAIL"), "{}", report.text());
}

#[test]
fn viewers_that_were_never_begun_are_counted() {
    let report = report(&seen(&["####"]), &terms(3, &Observer::default()));
    assert!(!report.passed);
    assert_eq!(report.not_served.values().sum::<usize>(), 2);
}

#[test]
fn a_run_that_was_interrupted_fails_though_everybody_was_served_until_then() {
    let observer = Observer::default();
    let report = report(&seen(&["####"]), &Terms { planned_s: 1_800.0, ..terms(1, &observer) });
    assert_eq!((report.passed, report.served), (false, 1));
    assert!(report.text().starts_with("FAIL: it ended early: after 0 of 1800 s"), "{}", report.text());
}

#[test]
fn a_soak_that_is_too_short_to_judge_fails_unless_only_correctness_is_asked_for() {
    let observer = Observer::default();
    let sample = |at_s: u32| Sample { at_s: at_s.into(), rss_kib: 1, anon_kib: 1, descriptors: 1 };
    let soak = |samples: u32| {
        let samples: Vec<Sample> = (0..samples).map(sample).collect();
        Terms { soak: Some(crate::soak::judge(&samples, samples.len() as f64)), ..terms(1, &observer) }
    };
    assert!(report(&seen(&["####"]), &soak(60)).passed);
    let short = report(&seen(&["####"]), &soak(9));
    assert!(!short.passed && short.text().contains("(9): a longer soak"), "{}", short.text());
    assert!(report(&seen(&["####"]), &Terms { correctness_only: true, ..soak(9) }).passed);
}

#[test]
fn a_silent_publisher_serves_nobody() {
    let mut seen = seen(&["####"]);
    seen.span = Measured { start_us: 50_000, end_us: 60_000 };
    assert!(!report(&seen, &terms(1, &Observer::default())).passed);
}

#[test]
fn a_busy_tool_says_so() {
    let mut seen = seen(&["####"]);
    seen.busy = 0.95;
    let report = report(&seen, &terms(1, &Observer::default()));
    assert!(report.tool.is_bottleneck && !report.passed && report.text().starts_with("FAIL: the load tool itself"));
    let observer = Observer::default();
    let report = super::report(&seen, &Terms { correctness_only: true, ..terms(1, &observer) });
    assert!(report.tool.is_bottleneck && report.passed, "{}", report.text());
}

#[test]
fn lag_counts_as_far_as_it_is_in_the_lateness() {
    let mut seen = seen(&["####"]);
    seen.lag.record_many(60_000, 100);
    seen.figures.lateness.record_many(150_000, 100);
    assert!(!report(&seen, &terms(1, &Observer::default())).tool.is_bottleneck, "less than half");
    seen.figures.lateness = Durations::new();
    seen.figures.lateness.record_many(100_000, 100);
    assert!(report(&seen, &terms(1, &Observer::default())).tool.is_bottleneck, "more than half");
}

#[test]
fn a_publisher_behind_its_schedule_fails_the_run() {
    let mut published = Published::default();
    published.late.record_many(30_000, 100);
    let mut observer = Observer::default();
    observer.published = Some(published);
    let report = report(&seen(&["####"]), &terms(1, &observer));
    assert!(report.text().starts_with("FAIL: the publisher fell behind"), "{}", report.text());
}

#[test]
fn who_comes_and_goes_by_plan_is_due_what_lies_between() {
    let mut seen = seen(&["####", ".##.", ".#.#"]);
    for account in &mut seen.accounts[1..] {
        account.intended_us = 1_100;
        account.left_us = Some(1_700);
        // Its first chunk is 11: what is drawn before that never was.
        let mut got = SeqSet::default();
        for seq in (11..14).filter(|seq| account.got.contains(*seq)) {
            got.insert(seq);
        }
        account.got = got;
    }
    let report = report(&seen, &terms(3, &Observer::default()));
    assert_eq!((report.viewers, report.served, report.missed), (3, 2, 1), "the third lacks 12");
}

#[test]
fn bad_viewers_need_not_be_served_but_must_not_be_lied_to() {
    let mut seen = seen(&["####", "#...", "...."]);
    seen.accounts[1].temper = Temper::Slow;
    seen.accounts[2].temper = Temper::Stopped;
    let report = report(&seen, &terms(3, &Observer::default()));
    assert!(report.passed, "{}", report.text());
    assert_eq!((report.viewers, report.bad.as_ref().map(|bad| bad.joins.len())), (1, Some(2)));
    seen.accounts[1].wrong = 1;
    assert!(!super::report(&seen, &terms(3, &Observer::default())).passed);
}

#[test]
fn refusals_fail_a_run_unless_they_may_be() {
    let mut seen = seen(&["####", "...."]);
    seen.accounts[1].trouble = Some(Trouble::Refused("full".to_owned()));
    let observer = Observer::default();
    let report = report(&seen, &terms(2, &observer));
    assert_eq!((report.passed, report.refused["full"]), (false, 1));
    assert!(super::report(&seen, &Terms { refusals_pass: true, ..terms(2, &observer) }).passed);
}

#[test]
fn a_limit_is_a_limit() {
    let mut seen = seen(&["####"]);
    seen.figures.lateness.record_many(150_000, 100);
    let observer = Observer::default();
    assert!(report(&seen, &Terms { limit_p99_ms: Some(200.0), ..terms(1, &observer) }).passed);
    assert!(!report(&seen, &Terms { limit_p99_ms: Some(100.0), ..terms(1, &observer) }).passed);
}

#[test]
fn a_page_holds_all_that_it_needs() {
    let mut seen = seen(&["####", ".###"]);
    (1..500).for_each(|ms| seen.figures.lateness.record(ms * 1_000));
    let mut report = report(&seen, &terms(2, &Observer::default()));
    report.command = vec!["weircast-load".to_owned(), "<script>".to_owned()];
    let page = page(&report);
    for part in ["<svg", "FAIL", "&lt;script&gt;", "prefers-color-scheme: dark", "chunks missed"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    for alien in ["http://", "https://", "<script", "@import", "NaN", "inf"] {
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(alien), "{alien} in {page}");
    }
}
