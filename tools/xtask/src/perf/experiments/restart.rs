//! The cache is killed under load, again and again.

use anyhow::Result;

use crate::perf::outcome::Outcome;
use crate::perf::stage::Stage;

pub(super) fn run(_stage: &Stage) -> Result<Outcome> {
    let mut outcome = Outcome::new(&["kills", "wrong or torn bytes", "time to serve again p50 / max ms"]);
    outcome.skip("there is no torture command yet");
    Ok(outcome)
}
