//! N viewers: spread over threads, joined by schedule, measured together.
//!
//! | module | its one job |
//! |---|---|
//! | [`worker`] | one thread's sockets and their readiness |
//! | [`native`], [`http`] | what one viewer says, without a socket |
//! | [`intake`] | bytes into frames, compared while they arrive |
//! | [`library`] | the chunks that were verified in full |
//! | [`sink`] | one viewer's account, written as chunks arrive |

mod http;
mod intake;
mod library;
mod native;
mod sink;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use library::Trust;
pub(crate) use native::Wants;
pub(crate) use worker::{Plan, Verify, Way};

use crate::measure::{Account, Checked, Durations, Measured, wall_us};
use worker::{Harvest, Shared};

/// After the last scheduled join, viewers have this long to get a first chunk (our guess: a join takes well under a
/// second; a cache that has to fetch the stream first takes a few).
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// After the measured span, its chunks may still arrive for this long; what has not arrived then is missed.
const GRACE: Duration = Duration::from_secs(2);

/// Between setting the measured span and its beginning, so that every thread knows it in time.
const LEAD_US: u64 = 300_000;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long to watch, with how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) viewers: usize,
    pub(crate) threads: usize,
    pub(crate) seconds: u64,
}

/// What N viewers have seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) span: Measured,
    pub(crate) accounts: Vec<Account>,
    pub(crate) published: BTreeMap<u64, u64>,
    pub(crate) checked: Checked,
    pub(crate) lateness: Durations,
    /// How long each ready socket may have waited for the tool, and the busiest thread's share of the span.
    pub(crate) lag: Durations,
    pub(crate) busy: f64,
}

/// Runs the viewers to the end. `interrupted` ends the run early; what was seen until then is still told.
pub(crate) fn watch(plan: Plan, extent: Extent, interrupted: &dyn Fn() -> bool) -> Result<Seen> {
    let shared = Arc::new(Shared::default());
    let plan = Arc::new(plan);
    let mut workers = Vec::new();
    for thread in 0..extent.threads {
        let (plan, shared) = (plan.clone(), shared.clone());
        let ids: Vec<usize> = (thread..extent.viewers).step_by(extent.threads).collect();
        let builder = std::thread::Builder::new().name(format!("viewers-{thread}"));
        workers.push(builder.spawn(move || worker::run(&plan, &shared, &ids)).context("cannot start a thread")?);
    }
    let span = conduct(&plan, extent, &shared, interrupted);
    shared.stop.store(true, Ordering::Relaxed);
    let mut harvests = Vec::new();
    for worker in workers {
        let harvest = worker.join().map_err(|_| anyhow::anyhow!("a viewers' thread panicked"))?;
        harvests.push(harvest.context("waiting for sockets failed")?);
    }
    Ok(gather(span, harvests))
}

/// Waits for joins, sets the measured span, waits for its end.
fn conduct(plan: &Plan, extent: Extent, shared: &Shared, interrupted: &dyn Fn() -> bool) -> Measured {
    let joins = Duration::from_micros(extent.viewers as u64 * 1_000_000 / plan.joins_per_second);
    let deadline_us = plan.first_join_us + (joins + JOIN_PATIENCE).as_micros() as u64;
    let settled = || shared.joined.load(Ordering::Relaxed) + shared.failed.load(Ordering::Relaxed) >= extent.viewers;
    wait_until(deadline_us, || settled() || interrupted());
    let joined = shared.joined.load(Ordering::Relaxed);
    eprintln!("{joined} of {} viewers joined", extent.viewers);

    let start_us = wall_us() + LEAD_US;
    let mut span = Measured { start_us, end_us: start_us + extent.seconds * 1_000_000 };
    if joined == 0 || interrupted() {
        span.end_us = start_us;
        return span;
    }
    shared.end_us.store(span.end_us, Ordering::Release);
    shared.start_us.store(span.start_us, Ordering::Release);
    eprintln!("measuring for {} s", extent.seconds);
    wait_until(span.end_us, interrupted);
    if interrupted() {
        span.end_us = wall_us().clamp(span.start_us, span.end_us);
    }
    wait_until(span.end_us + GRACE.as_micros() as u64, || false);
    span
}

/// Waits until the wall clock shows `until_us` or `done`.
fn wait_until(until_us: u64, done: impl Fn() -> bool) {
    while !done() {
        let left = Duration::from_micros(until_us.saturating_sub(wall_us()));
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left.min(LOOK_EVERY));
    }
}

fn gather(span: Measured, harvests: Vec<Harvest>) -> Seen {
    let length = Duration::from_micros((span.end_us - span.start_us).max(1));
    let mut seen = Seen {
        span,
        accounts: Vec::new(),
        published: BTreeMap::new(),
        checked: Checked::default(),
        lateness: Durations::new(),
        lag: Durations::new(),
        busy: 0.0,
    };
    for harvest in harvests {
        seen.accounts.extend(harvest.accounts);
        seen.published.extend(harvest.published);
        seen.checked.add(&harvest.checked);
        seen.lateness.add(&harvest.lateness);
        seen.lag.add(&harvest.lag);
        seen.busy = seen.busy.max(harvest.busy.as_secs_f64() / length.as_secs_f64());
    }
    seen
}
