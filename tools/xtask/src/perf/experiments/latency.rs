//! From publishing a chunk to its arrival at one peer, on an idle cache.

use anyhow::Result;

use crate::perf::load::Load;
use crate::perf::ours;
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::Stage;

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["measured", "p50 ms", "p99 ms"]);
    let mut figures = Figures::default();
    for _ in 0..stage.pairs {
        let server = ours::cache(stage, "")?;
        let load = Load::new("run").with("--cache", server.address).words("-n 1 --mode push");
        let report = load.with("--seconds", stage.pick(30, 2)).run(stage, &server)?;
        report.judge("one peer", &mut outcome);
        for q in ["p50", "p99"] {
            figures.add(q, report.need(&format!("lateness_ms.{q}"))?);
        }
        outcome.runs.push(report.value);
    }
    let what = "scheduled moment of a chunk to its last byte, verified".to_owned();
    outcome.row([what, figures.shown("p50", 3), figures.shown("p99", 3)]);
    Ok(outcome)
}
