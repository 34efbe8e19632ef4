//! The ready line: the one line that a server writes on stdout, when it serves.

use std::io::Write;

use serde::Serialize;

/// Writes `ready {json}` and flushes it. Whoever started the program reads the addresses that port 0 became from it,
/// and need not sleep. A closed stdout is no failure: nobody was waiting.
pub fn announce(facts: &impl Serialize) {
    let Ok(json) = serde_json::to_string(facts) else { return };
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "ready {json}");
    let _ = stdout.flush();
}
