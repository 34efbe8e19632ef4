//! A long run with viewers that come and go: memory must not grow after the warm-up.

use std::time::Duration;

use anyhow::Result;

use crate::perf::load::Load;
use crate::perf::ours;
use crate::perf::outcome::{Outcome, shown};
use crate::perf::stage::Stage;

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "peers",
        "minutes",
        "churn per minute",
        "served in full",
        "lateness p99 ms",
        "memory grew KiB: second third",
        "last third",
    ]);
    let (peers, minutes) = (stage.pick(5_000, 100), stage.pick(30.0, 0.05));
    let server = ours::cache(stage, "")?;
    let load = Load::new("soak").with("--cache", server.address).with("-n", peers).with("--minutes", minutes);
    let load = load.words("--mode push --churn 10").with("--verify", stage.pick("sample:50", "all"));
    let load = load.limit(Duration::from_secs_f64(minutes * 60.0) + Duration::from_secs(300));
    let report = load.run(stage, &server)?;
    if !report.passed {
        outcome.failures.push(format!("the soak did not pass: {}", report.value));
    }
    outcome.row([
        peers.to_string(),
        minutes.to_string(),
        "10 %".to_owned(),
        format!("{:.0} of {:.0}", report.need("served")?, report.need("viewers")?),
        shown(report.lateness("p99").ok(), 1),
        shown(report.number("soak.anon_kib.before.growth"), 0),
        shown(report.number("soak.anon_kib.last.growth"), 0),
    ]);
    outcome.runs.push(report.value);
    Ok(outcome)
}
