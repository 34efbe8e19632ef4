//! N viewers: spread over threads and processes, joined by schedule, measured together.
//!
//! ```text
//!  conduct --- crew: threads -------------------- worker (epoll, alarms, accounts) --- viewer --- machine
//!          \-- crew: processes == pipes == conduct's twin in each --- worker ...
//! ```
//! | module | its one job |
//! |---|---|
//! | [`plan`] | what all do |
//! | [`crew`] | workers in threads and processes |
//! | [`worker`], [`wheel`] | one thread's sockets, their readiness and alarms |
//! | [`viewer`] | one socket and what is on it |
//! | [`native`], [`http`], [`get`] | what one viewer says, without a socket |
//! | [`intake`], [`dechunk`] | bytes into frames, and out of chunked encoding |
//! | [`position`], [`layout`] | where in the generated stream a viewer is that reads little of it |
//! | [`library`] | the chunks that were verified in full, and when each was published |
//! | [`sink`] | one viewer's account, written as chunks arrive |

mod crew;
mod dechunk;
mod get;
mod http;
mod intake;
mod layout;
mod library;
mod native;
mod plan;
mod position;
mod sink;
mod viewer;
mod wheel;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_discard;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

pub(crate) use crew::serve_parent;
pub(crate) use native::Wants;
pub(crate) use plan::{Plan, Schedule, Shares, Temper, Verify, Way};

use crate::measure::{Account, Checked, Durations, Figures, Measured, wall_us};
use crate::progress::Progress;
use crew::Crew;
use worker::Harvest;

/// What a machine would like done with the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appetite {
    /// To read so many at most.
    Read(usize),
    /// To have so many at most thrown away.
    Discard(usize),
}

/// Whether what was thrown away ended a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Discarded {
    Part,
    Whole,
}

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
    pub(crate) processes: usize,
    pub(crate) span: Duration,
    /// The measured span begins with the first join, not when all have joined.
    pub(crate) from_first_join: bool,
}

/// Who looks at the server while it is under load.
pub(crate) trait Watcher {
    /// Before the first join.
    fn before(&mut self);
    /// The measured span begins.
    fn begin(&mut self);
    /// Every 20 ms of it.
    fn look(&mut self);
    /// It ends.
    fn end(&mut self);
}

/// What N viewers have seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) span: Measured,
    pub(crate) accounts: Vec<Account>,
    /// Publisher's clock by number, for each stream.
    pub(crate) published: Vec<BTreeMap<u64, u64>>,
    pub(crate) checked: Checked,
    pub(crate) figures: Figures,
    /// How long each ready socket may have waited for the tool, and the busiest thread's share of the span.
    pub(crate) lag: Durations,
    pub(crate) busy: f64,
}

/// Runs the viewers to the end. `interrupted` ends the run early; what was seen until then is still told.
pub(crate) fn watch(
    plan: &Plan,
    extent: Extent,
    watcher: &mut dyn Watcher,
    interrupted: &dyn Fn() -> bool,
) -> Result<Seen> {
    watcher.before();
    let mut crew = Crew::start(plan, extent)?;
    let span = conduct(plan, extent, &mut crew, watcher, interrupted)?;
    let streams = plan.names.len();
    Ok(gather(span, streams, crew.finish()?))
}

/// Waits for joins, sets the measured span, waits for its end.
fn conduct(
    plan: &Plan,
    extent: Extent,
    crew: &mut Crew,
    watcher: &mut dyn Watcher,
    interrupted: &dyn Fn() -> bool,
) -> Result<Measured> {
    let mut progress = Progress::new();
    let length_us = extent.span.as_micros() as u64;
    if !extent.from_first_join {
        let joins = Duration::from_micros(extent.viewers as u64 * 1_000_000 / plan.joins.per_second);
        let deadline_us = plan.joins.first_us + (joins + JOIN_PATIENCE).as_micros() as u64;
        wait_until(deadline_us, |now| {
            crew.look();
            progress.show("joining", crew.joined() + crew.failed(), extent.viewers, now);
            crew.joined() + crew.failed() >= extent.viewers || interrupted()
        });
        progress.clear();
        eprintln!("{} of {} viewers joined", crew.joined(), extent.viewers);
    }
    let start_us = if extent.from_first_join { plan.joins.first_us } else { wall_us() + LEAD_US };
    let mut span = Measured { start_us, end_us: start_us + length_us };
    if (crew.joined() == 0 && !extent.from_first_join) || interrupted() {
        span.end_us = start_us;
        return Ok(span);
    }
    crew.begin(span)?;
    eprintln!("measuring for {:.0} s", extent.span.as_secs_f64());
    wait_until(span.start_us, |_| interrupted());
    watcher.begin();
    wait_until(span.end_us, |now| {
        crew.look();
        watcher.look();
        let gone_s = now.saturating_sub(span.start_us) / 1_000_000;
        progress.show("measuring, seconds", gone_s as usize, (length_us / 1_000_000) as usize, now);
        interrupted()
    });
    watcher.end();
    progress.clear();
    if interrupted() {
        span.end_us = wall_us().clamp(span.start_us, span.end_us);
    }
    wait_until(span.end_us + GRACE.as_micros() as u64, |_| {
        crew.look();
        false
    });
    if extent.from_first_join {
        // The last ones have their time, too.
        wait_until(span.end_us + JOIN_PATIENCE.as_micros() as u64, |_| {
            crew.joined() + crew.failed() >= extent.viewers || interrupted()
        });
    }
    Ok(span)
}

/// Waits until the wall clock shows `until_us` or `done`.
fn wait_until(until_us: u64, mut done: impl FnMut(u64) -> bool) {
    loop {
        let now = wall_us();
        let left = Duration::from_micros(until_us.saturating_sub(now));
        if done(now) || left.is_zero() {
            return;
        }
        std::thread::park_timeout(left.min(LOOK_EVERY));
    }
}

fn gather(span: Measured, streams: usize, harvests: Vec<Harvest>) -> Seen {
    let length_us = (span.end_us - span.start_us).max(1);
    let mut seen = Seen {
        span,
        accounts: Vec::new(),
        published: vec![BTreeMap::new(); streams],
        checked: Checked::default(),
        figures: Figures::new(),
        lag: Durations::new(),
        busy: 0.0,
    };
    for harvest in harvests {
        seen.accounts.extend(harvest.accounts);
        for (all, some) in seen.published.iter_mut().zip(harvest.published) {
            all.extend(some);
        }
        seen.checked.add(&harvest.checked);
        seen.figures.add(&harvest.figures);
        seen.lag.add(&harvest.lag);
        seen.busy = seen.busy.max(harvest.busy_us as f64 / length_us as f64);
    }
    seen
}
