//! Many publishers on one core: each stream has one viewer, who must get every chunk.

use anyhow::Result;

use crate::perf::load::Load;
use crate::perf::ours;
use crate::perf::outcome::{Outcome, shown};
use crate::perf::stage::Stage;

/// 10 s of a 2 Mbit/s stream are 2.5 MB, and up to 4 MiB for segments that are half filled or half expired.
const MIB_PER_STREAM: usize = 6;

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome =
        Outcome::new(&["publishers", "chunks due", "missed", "lateness p50 / p99 ms", "server CPU-s per s"]);
    let streams = stage.pick(1_000, 20);
    // 50 chunks are 10 s.
    let config = format!("streams_max = {}\nwindow_chunks = 50", streams + 8);
    let server = ours::cache_with(stage, streams * MIB_PER_STREAM, &config)?;
    let load = Load::new("run").with("--cache", server.address).with("--streams", streams).with("-n", streams);
    let load = load.words("--mode push --kbps 2000").with("--seconds", stage.pick(20, 2));
    let report = load.with("--verify", stage.pick("none", "all")).run(stage, &server)?;
    report.judge("one viewer of each stream", &mut outcome);
    if !report.is_measured("one viewer of each stream", &mut outcome) {
        return Ok(outcome);
    }
    outcome.row([
        streams.to_string(),
        shown(report.number("chunks_due"), 0),
        shown(report.number("missed"), 0),
        format!("{} / {}", shown(Some(report.lateness("p50")?), 1), shown(Some(report.lateness("p99")?), 1)),
        shown(Some(report.need("server.cpu_s")? / report.need("seconds")?), 2),
    ]);
    outcome.runs.push(report.value);
    Ok(outcome)
}
