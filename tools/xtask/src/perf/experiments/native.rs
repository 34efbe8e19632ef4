//! Push and pull in Weircast's own protocol, by each way of sending. The ceiling is the bare loop that pushes the same
//! bytes over HTTP.

use anyhow::Result;

use super::reach::{JOINS_PER_SECOND, reach};
use crate::perf::load::{Load, Report};
use crate::perf::ours;
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::Stage;

const KBPS: u64 = 2_000;

/// Viewers at which the ways of sending are compared: half of what the best serves.
const VIEWERS: usize = 5_000;

/// Where a search begins, and the most.
const RANGE: (usize, usize) = (8_000, 16_000);

const CEILING: &str = "ceiling";
const MODES: [&str; 2] = ["push", "pull"];
const BACKENDS: [&str; 4] = ["sendfile", "copy", "send_zc", "auto"];

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "what",
        "viewers",
        "served in full",
        "lateness p50 / p99 ms",
        "CPU-s per GiB",
        "share of the ceiling",
    ]);
    let mut figures = Figures::default();
    let viewers = stage.pick(VIEWERS, 100);
    let mut all = vec![CEILING.to_owned()];
    all.extend(MODES.iter().flat_map(|mode| BACKENDS.iter().map(move |send| format!("{mode} {send}"))));
    if stage.quick {
        all.retain(|what| what == CEILING || what.starts_with("push") || what.ends_with(BACKENDS[0]));
    }
    for pair in 0..stage.pairs {
        for what in &all {
            eprintln!("  {what}, run {}", pair + 1);
            let report = match watch(stage, what, viewers) {
                Ok(report) => report,
                Err(error) if what.ends_with("auto") => {
                    let why = format!("{error:#}");
                    outcome.skip(format!("{what}: {}", why.lines().last().unwrap_or_default()));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if stage.quick || what != CEILING {
                report.judge(what, &mut outcome);
            }
            if !report.is_measured(what, &mut outcome) {
                continue;
            }
            figures.add(format!("{what} served"), report.need("served")?);
            figures.add(format!("{what} p50"), report.lateness("p50")?);
            figures.add(format!("{what} p99"), report.lateness("p99")?);
            figures.add(format!("{what} cpu"), report.cpu_s_per_gib()?);
            outcome.runs.push(report.value);
        }
    }
    for what in &all {
        let (p50, p99) = (format!("{what} p50"), format!("{what} p99"));
        if figures.median(&p50).is_none() {
            continue;
        }
        let share = figures.paired(&format!("{CEILING} cpu"), &format!("{what} cpu"));
        outcome.row([
            what.clone(),
            viewers.to_string(),
            figures.fewest(&format!("{what} served")),
            format!("{} / {}", figures.shown(&p50, 1), figures.shown(&p99, 1)),
            figures.shown(&format!("{what} cpu"), 3),
            share.map_or("-".to_owned(), |share| format!("{:.0} % of its bytes per CPU-s", 100.0 * share)),
        ]);
        if what != CEILING {
            let times = figures.paired(&format!("{what} cpu"), &format!("{CEILING} cpu"));
            outcome.ratio(format!("cpu-{}-to-ceiling", what.replace(' ', "-")), times);
        }
    }
    Ok(outcome)
}

/// The largest number of viewers that is served in time.
pub(super) fn most(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["what", "most viewers with p99 < 200 ms", "share of the ceiling"]);
    let mut figures = Figures::default();
    let all = [CEILING, "push sendfile", "pull sendfile"];
    for pair in 0..stage.pairs.div_ceil(2) {
        for what in all {
            eprintln!("  largest number, {what}, run {}", pair + 1);
            let probe = |viewers| watch(stage, what, viewers);
            let found = reach(stage, RANGE, probe, |report| outcome.runs.push(report.value))?;
            figures.add(what, found as f64);
        }
    }
    for what in all {
        let share = figures.paired(what, CEILING);
        outcome.row([
            what.to_owned(),
            figures.shown(what, 0),
            share.map_or("-".to_owned(), |share| format!("{:.0} % of its viewers", 100.0 * share)),
        ]);
        if what != CEILING {
            outcome.ratio(format!("most-{}-to-ceiling", what.replace(' ', "-")), share);
        }
    }
    Ok(outcome)
}

/// One run on a fresh server; `what` is the ceiling or a mode and a backend.
fn watch(stage: &Stage, what: &str, viewers: usize) -> Result<Report> {
    let load = |command: &str| {
        Load::new(command)
            .words("--spin")
            .with("-n", viewers)
            .with("--kbps", KBPS)
            .with("--verify", stage.pick("none", "all"))
            .with("--seconds", stage.pick(6, 1))
            .with("--joins-per-second", JOINS_PER_SECOND)
    };
    let Some((mode, send)) = what.split_once(' ') else {
        let server = ours::ceiling(stage, KBPS)?;
        let url = format!("http://{}/live/load.ts", server.address);
        return load("viewers").words("--mode http --generated").with("--url", url).run(stage, &server);
    };
    let server = ours::cache(stage, &format!("send = \"{send}\""))?;
    load("run").with("--mode", mode).with("--cache", server.address).run(stage, &server)
}
