//! Many runs side by side: jobs go to threads one by one, results come back in the jobs' order, so that nothing
//! depends on how many threads there are.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::report::{Progress, Report, Violation};
use crate::scenario::Scenario;
use crate::world;

/// One run to be made.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// What; checked.
    pub scenario: &'a Scenario,
    /// With which seed.
    pub seed: u64,
}

/// How far all jobs are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Jobs that are done.
    pub done: usize,
    /// Of so many.
    pub jobs: usize,
    /// Simulated seconds of all jobs together, of `of_s`.
    pub simulated_s: f64,
    /// Simulated seconds that there are.
    pub of_s: f64,
    /// Events carried out.
    pub events: u64,
    /// Events per second by the clock.
    pub events_per_s: f64,
    /// Viewers alive in the run that told last.
    pub viewers: u32,
}

/// What all threads share.
struct Shared<'a> {
    jobs: &'a [Job<'a>],
    next: AtomicUsize,
    done: AtomicUsize,
    simulated_ms: AtomicU64,
    of_ms: u64,
    events: AtomicU64,
    begun: Instant,
    stop: &'a AtomicBool,
    show: Mutex<&'a mut (dyn FnMut(Standing) + Send)>,
}

/// Runs `jobs` in at most `threads` threads. Once `stop` is set no further job begins, and those that run end where
/// they are: [`is_whole`] tells their reports. `show` is told about once per simulated second of any job.
pub fn run(
    jobs: &[Job<'_>],
    threads: usize,
    stop: &AtomicBool,
    show: &mut (dyn FnMut(Standing) + Send),
) -> Vec<Option<Report>> {
    let shared = Shared {
        jobs,
        next: AtomicUsize::new(0),
        done: AtomicUsize::new(0),
        simulated_ms: AtomicU64::new(0),
        of_ms: jobs.iter().map(|job| job.scenario.duration_s * 1_000).sum(),
        events: AtomicU64::new(0),
        begun: Instant::now(),
        stop,
        show: Mutex::new(show),
    };
    let mut reports: Vec<Option<Report>> = jobs.iter().map(|_| None).collect();
    let threads = threads.clamp(1, jobs.len().max(1));
    let parts: Vec<Vec<(usize, Report)>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&shared))).collect();
        let own = work(&shared);
        let joined = others.into_iter().map(|other| match other.join() {
            Ok(part) => part,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.chain([own]).collect()
    });
    for (number, report) in parts.into_iter().flatten() {
        reports[number] = Some(report);
    }
    reports
}

fn work(shared: &Shared<'_>) -> Vec<(usize, Report)> {
    let mut done = Vec::new();
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(job) = shared.jobs.get(number).filter(|_| !shared.stop.load(Ordering::Relaxed)) else { return done };
        let mut before = Progress::default();
        let mut tell = |progress| {
            shared.tell(before, progress);
            before = progress;
            if shared.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let attempt = AssertUnwindSafe(|| world::run_while(job.scenario, job.seed, &mut tell));
        let report = catch_unwind(attempt).unwrap_or_else(|panic| panicked(job, &*panic));
        shared.done.fetch_add(1, Ordering::Relaxed);
        done.push((number, report));
    }
}

/// A panic is a broken invariant like others: it has a seed, and the other jobs go on.
fn panicked(job: &Job<'_>, panic: &(dyn Any + Send)) -> Report {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let violation =
        Violation { invariant: "no panic".to_owned(), at_s: 0.0, what: said.unwrap_or("without a word").to_owned() };
    Report { scenario: job.scenario.name.clone(), seed: job.seed, violations: vec![violation], ..Report::default() }
}

impl Shared<'_> {
    fn tell(&self, before: Progress, now: Progress) {
        let ms = ((now.simulated_s - before.simulated_s) * 1e3).max(0.0) as u64;
        let simulated_ms = self.simulated_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        let new = now.events.saturating_sub(before.events);
        let events = self.events.fetch_add(new, Ordering::Relaxed) + new;
        let standing = Standing {
            done: self.done.load(Ordering::Relaxed),
            jobs: self.jobs.len(),
            simulated_s: simulated_ms as f64 / 1e3,
            of_s: self.of_ms as f64 / 1e3,
            events,
            events_per_s: events as f64 / self.begun.elapsed().as_secs_f64().max(1e-6),
            viewers: now.viewers,
        };
        // Whoever shows at the moment shows enough.
        if let Ok(mut show) = self.show.try_lock() {
            show(standing);
        }
    }
}

/// Whether a run went on to its end, or broke.
pub fn is_whole(scenario: &Scenario, report: &Report) -> bool {
    report.simulated_s >= scenario.duration_s as f64 || !report.violations.is_empty()
}

/// As many threads as the machine has cores.
pub fn threads_of_machine() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut scenario = Scenario { duration_s: 2, warmup_s: 1, ..Scenario::default() };
        scenario.audience.peers = 3;
        let jobs: Vec<Job<'_>> = (0..9).map(|seed| Job { scenario: &scenario, seed }).collect();
        let stop = AtomicBool::new(false);
        let seeds = |threads| {
            let reports = run(&jobs, threads, &stop, &mut |_| {});
            reports.into_iter().map(|report| report.map(|report| (report.seed, report.digest))).collect::<Vec<_>>()
        };
        let (one, four) = (seeds(1), seeds(4));
        assert_eq!(one, four);
        assert!(one.iter().zip(0..).all(|(got, seed)| got.as_ref().is_some_and(|got| got.0 == seed)));
    }

    #[test]
    fn nothing_begins_after_the_stop() {
        let scenario = Scenario::default();
        let jobs = [Job { scenario: &scenario, seed: 1 }];
        assert_eq!(run(&jobs, 2, &AtomicBool::new(true), &mut |_| {}), [None]);
    }
}
