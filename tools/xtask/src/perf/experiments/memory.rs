//! User memory for each peer: what the cache's anonymous memory grows by, divided by the peers. The slab is no part of
//! it, nor is what the kernel keeps for a socket.

use anyhow::Result;

use super::reach::JOINS_PER_SECOND;
use crate::perf::load::Load;
use crate::perf::ours;
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::Stage;

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["peers", "how", "user memory per peer KiB"]);
    let mut figures = Figures::default();
    let peers = stage.pick(5_000, 100);
    let modes = stage.pick(&["push", "pull", "http"][..], &["push"]);
    for _ in 0..stage.pairs {
        for mode in modes {
            eprintln!("  {mode}");
            let server = ours::cache(stage, "")?;
            let load = Load::new("run").with("--cache", server.address).with("--mode", mode).with("-n", peers);
            let load = load.words("--kbps 640 --verify none").with("--seconds", stage.pick(3, 1));
            let report = load.with("--joins-per-second", JOINS_PER_SECOND).run(stage, &server)?;
            report.judge(mode, &mut outcome);
            if !report.is_measured(mode, &mut outcome) {
                continue;
            }
            figures.add(*mode, report.memory_kib_per_viewer()?);
            outcome.runs.push(report.value);
        }
    }
    for mode in modes {
        outcome.row([peers.to_string(), (*mode).to_owned(), figures.shown(mode, 2)]);
    }
    Ok(outcome)
}
