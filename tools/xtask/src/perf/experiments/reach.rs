//! The largest number of viewers that is still served in time.

use anyhow::Result;

use crate::perf::load::Report;
use crate::perf::stage::Stage;

/// p99 lateness of a viewer who is served in time: one chunk.
pub(super) const LIMIT_MS: f64 = 200.0;

/// The search ends when its bounds are this near, as a share (differences below a tenth are noise; our guess).
const NEAR: f64 = 0.05;

/// Joins begun in a second: 10 000 viewers are there in 5 s.
pub(super) const JOINS_PER_SECOND: u32 = 2_000;

/// Whether everybody got everything in time.
pub(super) fn in_time(report: &Report) -> Result<bool> {
    let served = report.need("served")? >= report.need("viewers")?;
    Ok(served && report.lateness("p99")? < LIMIT_MS)
}

/// Searches from `first` up to `last`, which it never exceeds; 0 when `first` is not served in time. Each probe is a run
/// of its own on a fresh server. Every report goes to `seen`.
pub(super) fn reach(
    stage: &Stage,
    first: usize,
    last: usize,
    mut probe: impl FnMut(usize) -> Result<Report>,
    mut seen: impl FnMut(Report),
) -> Result<usize> {
    let mut good = 0;
    let mut bad = None;
    let mut at = first;
    loop {
        stage.go_on()?;
        let report = probe(at)?;
        let holds = in_time(&report)?;
        eprintln!("    {at}: p99 {:.0} ms, {}", report.lateness("p99")?, if holds { "in time" } else { "not in time" });
        seen(report);
        if holds {
            good = at
        } else {
            bad = Some(at)
        }
        at = match bad {
            None if at == last => return Ok(good),
            None => (at * 2).min(last),
            Some(_) if good == 0 => return Ok(0),
            Some(bad) if (bad - good) as f64 <= NEAR * good as f64 => return Ok(good),
            Some(bad) => (good + bad) / 2,
        };
    }
}
