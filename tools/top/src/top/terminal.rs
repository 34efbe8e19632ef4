//! The terminal: taken over, drawn on, and given back as it was, whatever ends the program.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::screen::{Line, Look};

/// Another screen, without wrapping at the margin and without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l";
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?7h\x1b[?1049l";

/// Drawn at once, so that nothing flickers (terminals that do not know this pass it over).
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

/// Ctrl-C and Ctrl-D, which in raw mode are keys.
const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;

/// How the terminal was; taken by whoever gives it back first.
static WAS: Mutex<Option<Termios>> = Mutex::new(None);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Sort,
    Pause,
}

/// The terminal while it is ours. Dropped, also when the program panics, it is given back.
#[derive(Debug)]
pub(super) struct Terminal(());

impl Terminal {
    /// Takes the terminal over.
    pub(super) fn enter() -> Result<Terminal> {
        let was = tcgetattr(stdin()).context("cannot ask the terminal for its settings")?;
        let mut raw = was.clone();
        raw.make_raw();
        *WAS.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(was);
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Before the message, which would go with the other screen.
            give_back();
            hook(panic);
        }));
        let terminal = Terminal(());
        tcsetattr(stdin(), OptionalActions::Flush, &raw).context("cannot set the terminal up")?;
        print(ENTER)?;
        Ok(terminal)
    }

    /// Draws `lines`, as many and as much of them as fit.
    pub(super) fn show(&self, lines: &[Line]) -> Result<()> {
        let size = tcgetwinsize(stdout()).context("cannot ask the terminal for its size")?;
        // A terminal that does not know its size is taken for the usual one.
        let (rows, columns) = if size.ws_row == 0 { (24, 80) } else { (size.ws_row.into(), size.ws_col.into()) };
        print(&frame(lines, rows, columns))
    }

    /// The next key that means something, if it comes within `limit`. A signal ends the waiting.
    pub(super) fn key(&self, limit: Duration) -> Result<Option<Key>> {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&stdin(), PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for a key"),
        }
        let mut byte = [0];
        match rustix::io::read(stdin(), &mut byte) {
            // The terminal is gone.
            Ok(0) | Err(rustix::io::Errno::IO) => Ok(Some(Key::Quit)),
            Ok(_) => Ok(meaning(byte[0])),
            Err(rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error).context("cannot read a key"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let was = WAS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(was) = was {
        // Nothing can be done where this fails: the terminal is gone.
        let _ = print(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &was);
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot draw")
}

fn meaning(byte: u8) -> Option<Key> {
    match byte {
        b'q' | b'Q' | INTERRUPT | END_OF_INPUT => Some(Key::Quit),
        b's' | b'S' => Some(Key::Sort),
        b'p' | b'P' | b' ' => Some(Key::Pause),
        _ => None,
    }
}

/// The bytes that draw `lines` on a screen of `rows` by `columns`. The last row names the keys.
fn frame(lines: &[Line], rows: usize, columns: usize) -> String {
    let mut out = String::from(BEGIN);
    for line in lines.iter().take(rows.saturating_sub(1)) {
        let mut room = columns;
        for (look, text) in &line.0 {
            let text: String = text.chars().take(room).collect();
            room -= text.chars().count();
            // String's Write cannot fail.
            let _ = write!(out, "{}{text}\x1b[0m", colour(*look));
        }
        out.push_str("\x1b[K\r\n");
    }
    let keys: String = "q quit   s sort streams   p pause".chars().take(columns).collect();
    let _ = write!(out, "{}{keys}\x1b[0m\x1b[K", colour(Look::Dim));
    out.push_str(END);
    out
}

const fn colour(look: Look) -> &'static str {
    match look {
        Look::Plain => "",
        Look::Dim => "\x1b[2m",
        Look::Head => "\x1b[1m",
        Look::Bad => "\x1b[1;31m",
        Look::Watch => "\x1b[33m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_screen() {
        let line = Line(vec![(Look::Plain, "12345".into()), (Look::Bad, "67890".into())]);
        let drawn = frame(&vec![line; 9], 4, 7);
        assert_eq!(drawn.matches("\r\n").count(), 3, "three lines and the keys");
        assert!(drawn.contains("12345") && drawn.contains("\x1b[1;31m67\x1b[0m") && !drawn.contains('8'), "{drawn:?}");
        assert_eq!(frame(&[], 0, 0).matches("\r\n").count(), 0);
    }
}
