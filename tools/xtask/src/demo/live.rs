//! The live view: one line of totals, rewritten in place on a terminal, else printed now and then.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use weircast_testbed::PeerProcess;

/// Between two looks at the viewers' status lines.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// Between two lines when the output is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is shown, and when it was last shown.
pub(crate) struct View {
    terminal: bool,
    next_line: Duration,
    dirty: bool,
}

/// Totals over the viewers' status lines.
#[derive(Default)]
struct Totals {
    playing: usize,
    from_peers: Vec<f64>,
    buffer_ms: Vec<f64>,
    lag_ms: Vec<f64>,
    partners: f64,
    missed: f64,
}

impl View {
    pub(crate) fn new() -> View {
        View { terminal: std::io::stdout().is_terminal(), next_line: Duration::ZERO, dirty: false }
    }

    /// Shows the state `elapsed` after the start.
    pub(crate) fn show(&mut self, elapsed: Duration, viewers: &[PeerProcess]) {
        if !self.terminal && elapsed < self.next_line {
            return;
        }
        self.next_line = elapsed + LINE_EVERY;
        let totals = Totals::of(viewers);
        let line = totals.line(elapsed, viewers.len());
        if self.terminal {
            // Back to the line's start, the text, and the rest of the line cleared.
            print!("\r{line}\x1b[K");
            let _ = std::io::stdout().flush();
            self.dirty = true;
        } else {
            println!("{line}");
        }
    }

    /// Says something above the updating line.
    pub(crate) fn note(&mut self, text: &str) {
        self.end();
        println!("{text}");
    }

    /// Leaves the updating line.
    pub(crate) fn end(&mut self) {
        if self.dirty {
            println!();
            self.dirty = false;
        }
    }
}

impl Totals {
    fn of(viewers: &[PeerProcess]) -> Totals {
        let mut totals = Totals::default();
        for status in viewers.iter().filter_map(PeerProcess::status) {
            let number = |key: &str| status[key].as_f64();
            let playing = |state: &str| state.eq_ignore_ascii_case("playing");
            totals.playing += usize::from(status["state"].as_str().is_some_and(playing));
            totals.from_peers.extend(number("share_from_peers"));
            totals.buffer_ms.extend(number("buffer_ms"));
            totals.lag_ms.extend(status["lag_ms"]["p50"].as_f64());
            totals.partners += number("partners").unwrap_or(0.0);
            totals.missed += number("chunks_missed").unwrap_or(0.0);
        }
        totals
    }

    fn line(&self, elapsed: Duration, viewers: usize) -> String {
        let mean = |values: &[f64]| values.iter().fold(0.0, |sum, value| sum + value) / values.len().max(1) as f64;
        format!(
            "{:>4} s | playing {}/{viewers} | from peers {:.0} % | buffer {:.1} s | lag {:.1} s | \
             partners {:.1} | missed {:.0}",
            elapsed.as_secs(),
            self.playing,
            100.0 * mean(&self.from_peers),
            mean(&self.buffer_ms) / 1e3,
            mean(&self.lag_ms) / 1e3,
            self.partners / viewers.max(1) as f64,
            self.missed
        )
    }
}
