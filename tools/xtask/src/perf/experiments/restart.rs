//! The cache is killed under load at random moments, again and again, started again on its port, and everything that it
//! serves is compared with what was published.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use weircast_testbed::process::wall_clock_us;
use weircast_testbed::restart::Torture;

use crate::perf::outcome::{Figures, Outcome, shown};
use crate::perf::stage::Stage;

pub(super) fn run(stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "kills",
        "chunks compared after restarts, under load",
        "wrong or torn",
        "committed and missing",
        "from exec to the first whole chunk p50 / max ms",
    ]);
    let seed = wall_clock_us();
    let torture = Torture {
        programs: stage.programs.clone(),
        seed,
        kills: stage.pick(200, 3),
        streams: stage.pick(16, 4),
        viewers: stage.pick(4, 2),
        chunk_bytes_max: 300 << 10,
        memory_mib: stage.pick(1024, 256),
        chunks_before: stage.pick(300, 50),
        flips: 0,
        more: "send = \"sendfile\"".to_owned(),
    };
    let found = torture.run(|kill, took| {
        if kill % 20 == 0 {
            eprintln!("  {kill} kills, the last one served again after {} ms", took.as_millis());
        }
        stage.go_on()
    })?;
    let replay = format!("replay with cargo xtask perf-restart --seed {seed}");
    if !found.wrong.is_empty() {
        outcome.failures.push(format!("wrong bytes or numbers: {:?}; {replay}", found.wrong));
    }
    if found.missing > 0 {
        outcome.failures.push(format!("{} committed chunks were missing; {replay}", found.missing));
    }
    let mut times = Figures::default();
    found.first_chunk.iter().for_each(|took| times.add("ms", took.as_secs_f64() * 1_000.0));
    let max = found.first_chunk.iter().max().map(Duration::as_secs_f64);
    outcome.row([
        found.first_chunk.len().to_string(),
        format!("{}, {}", found.served, found.watched),
        found.wrong.len().to_string(),
        found.missing.to_string(),
        format!("{} / {}", times.shown("ms", 1), shown(max.map(|s| s * 1_000.0), 1)),
    ]);
    let ms: Vec<f64> = found.first_chunk.iter().map(|took| took.as_secs_f64() * 1_000.0).collect();
    outcome.runs.push(json!({ "seed": seed, "first_chunk_ms": ms }));
    Ok(outcome)
}
