//! A cache that is killed under load serves on: all that it had acknowledged, and not a wrong byte.

use anyhow::{Result, ensure};
use weircast_testbed::Programs;
use weircast_testbed::restart::Torture;

/// `cargo xtask perf-restart` in small. The replay of a failure: the same seed there.
fn torture() -> Result<Torture> {
    Ok(Torture {
        programs: Programs::find()?,
        seed: 1,
        kills: 6,
        streams: 3,
        viewers: 2,
        chunk_bytes_max: 60_000,
        memory_mib: 48,
        chunks_before: 300,
        flips: 0,
        more: String::new(),
    })
}

#[test]
fn a_cache_killed_under_load_serves_every_acknowledged_chunk_again() -> Result<()> {
    let kills = torture()?.kills;
    let outcome = torture()?.run(|_, _| Ok(()))?;
    ensure!(outcome.wrong.is_empty(), "{:?}", outcome.wrong);
    ensure!(outcome.missing == 0, "{outcome:?}");
    ensure!(outcome.first_chunk.len() == kills as usize && outcome.served >= 3 * 256 * u64::from(kills), "{outcome:?}");
    ensure!(outcome.watched > 0, "nobody watched: {outcome:?}");
    Ok(())
}

#[test]
fn bits_that_turn_between_a_kill_and_the_next_start_are_never_served() -> Result<()> {
    for more in ["", "send = \"copy\""] {
        let outcome = Torture { flips: 200, seed: 2, kills: 3, more: more.into(), ..torture()? }.run(|_, _| Ok(()))?;
        ensure!(outcome.wrong.is_empty(), "{:?}", outcome.wrong);
        ensure!(outcome.missing > 0 && outcome.served > 0, "some were hit, some were not: {outcome:?}");
    }
    Ok(())
}
