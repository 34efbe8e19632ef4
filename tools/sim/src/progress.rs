//! One line that says how far the runs are: on a terminal, and nowhere else.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use weircast_sim::crew::Standing;

/// Between two looks.
const SHOW_EVERY: Duration = Duration::from_millis(200);

const WIDTH: usize = 24;

pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), shown: None }
    }

    pub(crate) fn show(&mut self, standing: &Standing, besides: &str) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= SHOW_EVERY) {
            self.shown = Some(Instant::now());
            eprint!("\r{}{besides}\x1b[K", line(standing));
            let _ = std::io::stderr().flush();
        }
    }

    /// Makes room for other lines.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.shown.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(standing: &Standing) -> String {
    let Standing { done, jobs, simulated_s, of_s, events_per_s, viewers, .. } = *standing;
    let part = if of_s > 0.0 { (simulated_s / of_s).clamp(0.0, 1.0) } else { 0.0 };
    let full = (WIDTH as f64 * part) as usize;
    let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full));
    let runs = if jobs > 1 { format!("{done}/{jobs} runs  ") } else { String::new() };
    let speed = events_per_s / 1e6;
    format!("{bar} {runs}{simulated_s:.0}/{of_s:.0} s  {speed:.2} M events/s  {viewers} viewers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_time_speed_and_viewers() {
        let standing = Standing {
            done: 1,
            jobs: 4,
            simulated_s: 60.0,
            of_s: 120.0,
            events: 9,
            events_per_s: 1_230_000.0,
            viewers: 500,
        };
        let half = format!("[{}{}]", "#".repeat(WIDTH / 2), "-".repeat(WIDTH / 2));
        assert_eq!(line(&standing), format!("{half} 1/4 runs  60/120 s  1.23 M events/s  500 viewers"));
    }

    #[test]
    fn a_line_is_never_longer_than_full() {
        let standing = Standing { simulated_s: 9.0, of_s: 3.0, jobs: 1, ..Standing::default() };
        assert!(line(&standing).starts_with(&format!("[{}]", "#".repeat(WIDTH))));
        assert!(line(&Standing::default()).starts_with("[---"));
    }
}
