//! What slow and stopped peers cost the others: the same run with and without them, in turn.

use anyhow::Result;

use super::reach::JOINS_PER_SECOND;
use crate::perf::load::Load;
use crate::perf::ours;
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::Stage;

/// Fewer pairs tell nothing here: the p99 of one run to the next differs by more than the limit.
const PAIRS_MIN: usize = 5;

const WITHOUT: &str = "all good";
const WITH: &str = "10 % slow, 1 % stopped";

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "peers",
        "who",
        "good ones served in full",
        "the good ones' lateness p50 / p99 ms",
        "p99 to that of all good",
    ]);
    let mut figures = Figures::default();
    let peers = stage.pick(2_000, 100);
    for pair in 0..stage.pick(stage.pairs.max(PAIRS_MIN), 1) {
        for who in [WITHOUT, WITH] {
            eprintln!("  {who}, run {}", pair + 1);
            let server = ours::cache(stage, "")?;
            let load = Load::new("run").with("--cache", server.address).with("-n", peers).words("--mode push");
            let load = load.with("--verify", stage.pick("none", "all")).with("--seconds", stage.pick(10, 2));
            let load = load.with("--joins-per-second", JOINS_PER_SECOND);
            let load = if who == WITH { load.words("--slow 10% --stopped 1%") } else { load };
            let report = load.run(stage, &server)?;
            if !report.passed {
                report.judge(who, &mut outcome);
            }
            if !report.is_measured(who, &mut outcome) {
                continue;
            }
            figures.add(format!("{who} good"), report.need("viewers")?);
            figures.add(format!("{who} served"), report.need("served")?);
            figures.add(format!("{who} p50"), report.lateness("p50")?);
            figures.add(format!("{who} p99"), report.lateness("p99")?);
            outcome.runs.push(report.value);
        }
    }
    let times = figures.paired(&format!("{WITH} p99"), &format!("{WITHOUT} p99"));
    outcome.ratio("p99-with-to-without", times);
    for who in [WITHOUT, WITH] {
        let quotient = times.filter(|_| who == WITH).map_or("-".to_owned(), |times| format!("{times:.2} times"));
        let [p50, p99] = ["p50", "p99"].map(|q| figures.shown(&format!("{who} {q}"), 1));
        let [served, good] = ["served", "good"].map(|what| figures.fewest(&format!("{who} {what}")));
        let served = format!("{served} of {good}");
        outcome.row([peers.to_string(), who.to_owned(), served, format!("{p50} / {p99}"), quotient]);
    }
    Ok(outcome)
}
