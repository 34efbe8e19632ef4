//! HTTP-TS viewers of one live stream. Everybody is sent the same stream at the same pace; only the server differs.

use anyhow::Result;

use super::reach::{JOINS_PER_SECOND, in_time, reach};
use crate::perf::load::{Load, Report};
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::{Server, Stage};
use crate::perf::{ours, rivals};

const KBPS: u64 = 2_000;

/// Fixed numbers of viewers.
const VIEWERS: &[usize] = &[500, 2_000, 5_000, 10_500];

/// The most that are tried: one process of the load tool may open 20 000 files.
const MOST: usize = 16_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Ceiling,
    Weircast,
    Icecast,
}

const ALL: [Who; 3] = [Who::Ceiling, Who::Weircast, Who::Icecast];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Ceiling => "ceiling",
            Who::Weircast => "Weircast",
            Who::Icecast => "icecast2",
        }
    }

    /// Where a search begins, and the most.
    fn range(self) -> (usize, usize) {
        (if self == Who::Icecast { 1_000 } else { 8_000 }, MOST)
    }
}

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "server",
        "viewers",
        "served in full",
        "lateness p50 / p99 ms",
        "CPU-s per GiB",
        "memory per viewer KiB",
        "share of the ceiling",
    ]);
    let mut figures = Figures::default();
    // A server that does not serve a number in time is not asked for more.
    let mut overloaded: Vec<Who> = Vec::new();
    for viewers in stage.pick(VIEWERS, &[100]) {
        let key = |who: Who, what: &str| format!("{} {viewers} {what}", who.name());
        for pair in 0..stage.pairs {
            for who in ALL.into_iter().filter(|who| !overloaded.contains(who)) {
                eprintln!("  {} viewers, {}, run {}", viewers, who.name(), pair + 1);
                let Some(report) = watch(stage, who, *viewers)? else {
                    outcome.skip(format!("{} is not installed", who.name()));
                    continue;
                };
                // Whom a rival or the bare loop does not serve at these numbers is its own affair.
                if who == Who::Weircast || stage.quick && who == Who::Ceiling {
                    report.judge(who.name(), &mut outcome);
                }
                if !report.is_measured(who.name(), &mut outcome) {
                    continue;
                }
                figures.add(key(who, "served"), report.need("served")?);
                figures.add(key(who, "p50"), report.lateness("p50")?);
                figures.add(key(who, "p99"), report.lateness("p99")?);
                figures.add(key(who, "cpu"), report.cpu_s_per_gib()?);
                figures.add(key(who, "memory"), report.memory_kib_per_viewer()?);
                figures.add(key(who, "in time"), if in_time(&report)? { 1.0 } else { 0.0 });
                outcome.runs.push(report.value);
            }
        }
        for who in ALL {
            if figures.median(&key(who, "served")).is_none() {
                continue;
            }
            let share = figures.paired(&key(Who::Ceiling, "cpu"), &key(who, "cpu"));
            outcome.row([
                who.name().to_owned(),
                viewers.to_string(),
                figures.fewest(&key(who, "served")),
                format!("{} / {}", figures.shown(&key(who, "p50"), 1), figures.shown(&key(who, "p99"), 1)),
                figures.shown(&key(who, "cpu"), 3),
                figures.shown(&key(who, "memory"), 2),
                share.map_or("-".to_owned(), |share| format!("{:.0} % of its bytes per CPU-s", 100.0 * share)),
            ]);
            if figures.median(&key(who, "in time")).is_some_and(|in_time| in_time < 0.5) {
                overloaded.push(who);
            }
        }
        for what in ["cpu", "p99"] {
            let times = figures.paired(&key(Who::Weircast, what), &key(Who::Ceiling, what));
            outcome.ratio(format!("{what}-at-{viewers}-to-ceiling"), times);
        }
    }
    Ok(outcome)
}

/// The largest number of viewers that is served in time.
pub(super) fn most(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["server", "most viewers with p99 < 200 ms", "share of the ceiling"]);
    let mut figures = Figures::default();
    for pair in 0..stage.pairs.div_ceil(2) {
        for who in ALL {
            if who == Who::Icecast && rivals::find("icecast2").is_none() {
                continue;
            }
            eprintln!("  largest number, {}, run {}", who.name(), pair + 1);
            let probe = |viewers| Ok(watch(stage, who, viewers)?.expect("it was found just above"));
            let found = reach(stage, who.range(), probe, |report| outcome.runs.push(report.value))?;
            figures.add(who.name(), found as f64);
        }
    }
    for who in ALL {
        let Some(found) = figures.median(who.name()) else { continue };
        let share = figures.paired(who.name(), Who::Ceiling.name());
        outcome.row([
            who.name().to_owned(),
            format!("{found:.0}"),
            share.map_or("-".to_owned(), |share| format!("{:.0} % of its viewers", 100.0 * share)),
        ]);
    }
    for (name, to) in [("most-to-ceiling", Who::Ceiling), ("most-to-icecast2", Who::Icecast)] {
        outcome.ratio(name, figures.paired(Who::Weircast.name(), to.name()));
    }
    Ok(outcome)
}

/// One run on a fresh server; `None` when that is not there.
fn watch(stage: &Stage, who: Who, viewers: usize) -> Result<Option<Report>> {
    let verify = stage.pick("none", "all");
    let load = |command: &str| {
        Load::new(command)
            .words("--mode http --spin")
            .with("-n", viewers)
            .with("--kbps", KBPS)
            .with("--verify", verify)
            .with("--seconds", stage.pick(6, 2))
            .with("--joins-per-second", JOINS_PER_SECOND)
    };
    let server: Server;
    let load = match who {
        Who::Ceiling => {
            server = ours::ceiling(stage, KBPS)?;
            load("viewers").with("--url", format!("http://{}/live/load.ts", server.address)).words("--generated")
        }
        Who::Weircast => {
            server = ours::cache(stage, "")?;
            load("run").with("--cache", server.address)
        }
        Who::Icecast => {
            let Some(icecast) = rivals::icecast(stage)? else { return Ok(None) };
            server = icecast;
            let source = rivals::icecast_source(&server);
            load("run").with("--url", format!("http://{}/live.ts", server.address)).with("--publish-url", source)
        }
    };
    load.run(stage, &server).map(Some)
}
