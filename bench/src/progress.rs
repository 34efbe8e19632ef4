//! One line that says how far a run is: on a terminal, and nowhere else.

use std::io::{IsTerminal, Write};

/// Between two looks.
const SHOW_EVERY_US: u64 = 200_000;

const WIDTH: usize = 30;

pub(crate) struct Progress {
    terminal: bool,
    shown_us: u64,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), shown_us: 0 }
    }

    /// `done` of `all`.
    pub(crate) fn show(&mut self, what: &str, done: usize, all: usize, now_us: u64) {
        if self.terminal && now_us >= self.shown_us + SHOW_EVERY_US {
            self.shown_us = now_us;
            eprint!("\r{}\x1b[K", line(what, done, all));
            let _ = std::io::stderr().flush();
        }
    }

    /// Makes room for other lines.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.shown_us > 0 {
            eprint!("\r\x1b[K");
            self.shown_us = 0;
        }
    }
}

fn line(what: &str, done: usize, all: usize) -> String {
    let full = WIDTH * done.min(all) / all.max(1);
    format!("[{}{}] {what} {done} / {all}", "#".repeat(full), "-".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_full_at_the_end_and_never_longer() {
        assert_eq!(line("x", 15, 30), format!("[{}{}] x 15 / 30", "#".repeat(15), "-".repeat(15)));
        assert!(line("x", 40, 30).starts_with(&format!("[{}]", "#".repeat(WIDTH))));
        assert_eq!(line("x", 0, 0), format!("[{}] x 0 / 0", "-".repeat(WIDTH)));
    }
}
