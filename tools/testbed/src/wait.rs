//! Waiting on a condition.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits before it takes something for hung. Our guess: generous, as two cores may be shared by every
/// test at once; a healthy system answers in well under a second.
pub const HANG: Duration = Duration::from_secs(60);

/// Between two looks at a condition that cannot wake anybody (a growing file, another program's counter).
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `probe` returns a value, and returns it. The error, after `limit`, says `what` did not come about.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("after {} s: {what} has not come about", limit.as_secs());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
