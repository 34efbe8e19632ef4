//! The largest number of viewers that is still served in time.

use anyhow::Result;

use crate::perf::load::Report;
use crate::perf::stage::Stage;

/// p99 lateness of a viewer who is served in time: one chunk.
const LIMIT_MS: f64 = 200.0;

/// The search ends when its bounds are this near, as a share (differences below a tenth are noise; our guess).
const NEAR: f64 = 0.06;

/// Joins begun in a second: 10 000 viewers are there in 5 s.
pub(super) const JOINS_PER_SECOND: u32 = 2_000;

/// Whether everybody got everything in time.
pub(super) fn in_time(report: &Report) -> Result<bool> {
    let served = report.need("served")? >= report.need("viewers")?;
    Ok(served && report.lateness("p99")? < LIMIT_MS)
}

/// Searches from `first`, doubling or halving until it lies between two numbers, up to `last`, which it never exceeds;
/// 0 when not even a sixteenth of `first` is served in time. Each probe is a run of its own on a fresh server. Every
/// report goes to `seen`.
pub(super) fn reach(
    stage: &Stage,
    (first, last): (usize, usize),
    mut probe: impl FnMut(usize) -> Result<Report>,
    mut seen: impl FnMut(Report),
) -> Result<usize> {
    let mut found = Bounds { first, last, good: None, bad: None };
    while let Some(at) = found.next() {
        stage.go_on()?;
        let report = probe(at)?;
        let holds = in_time(&report)?;
        eprintln!("    {at}: p99 {:.0} ms, {}", report.lateness("p99")?, if holds { "in time" } else { "not in time" });
        seen(report);
        *(if holds { &mut found.good } else { &mut found.bad }) = Some(at);
    }
    Ok(found.good.unwrap_or(0))
}

/// Between which numbers the answer lies.
struct Bounds {
    first: usize,
    last: usize,
    good: Option<usize>,
    bad: Option<usize>,
}

impl Bounds {
    /// The number to be tried next; `None` when the answer is near enough.
    fn next(&self) -> Option<usize> {
        match (self.good, self.bad) {
            (None, None) => Some(self.first),
            (Some(good), None) => (good < self.last).then(|| (good * 2).min(self.last)),
            (None, Some(bad)) => (bad > self.first / 16).then_some(bad / 2),
            (Some(good), Some(bad)) => ((bad - good) as f64 > NEAR * good as f64).then_some((good + bad) / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bounds;

    /// What a search finds, and in how many runs, where `most` are served in time.
    fn search(most: usize) -> (usize, usize) {
        let (mut found, mut runs) = (Bounds { first: 8_000, last: 16_000, good: None, bad: None }, 0);
        while let Some(at) = found.next() {
            *(if at <= most { &mut found.good } else { &mut found.bad }) = Some(at);
            runs += 1;
        }
        (found.good.unwrap_or(0), runs)
    }

    #[test]
    fn a_search_ends_near_the_largest_number_that_holds() {
        for most in [700, 1_031, 5_000, 7_437, 8_000, 12_345, 15_500] {
            let (found, runs) = search(most);
            assert!(found <= most && most < found + found / 15, "{most}: {found}");
            assert!(runs <= 9, "{most} took {runs} runs");
        }
        assert_eq!(search(20_000), (16_000, 2));
        assert_eq!(search(0).0, 0);
    }
}
