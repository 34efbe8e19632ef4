//! Signals as a descriptor: SIGTERM asks to drain, SIGINT to stop, a further one of either to end at once. SIGHUP asks to
//! read files again, and has a descriptor of its own ([`Hangups`]).
//!
//! The handlers write a byte into a socket pair; whoever runs a loop waits on [`Signals`]' descriptor (it is
//! [`AsRawFd`] and non-blocking) and calls [`Signals::take`] when it is readable.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What the signals so far ask for, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// SIGTERM: take nothing new, finish what is under way, end.
    Drain,
    /// SIGINT: end; what is under way is cut off.
    Stop,
    /// A second signal: end at once.
    Hurry,
}

/// The process's SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    interrupted: Arc<AtomicBool>,
    seen: usize,
}

impl Signals {
    /// Takes both signals over. Call once, before the first thread that must not die of them.
    pub fn install() -> std::io::Result<Signals> {
        let (pipe, written) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        // Actions run in this order: the flag is set before the byte that wakes the reader is written.
        signal_hook::flag::register(SIGINT, interrupted.clone())?;
        signal_hook::low_level::pipe::register(SIGINT, written.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, written)?;
        Ok(Signals { pipe, interrupted, seen: 0 })
    }

    /// Whether a SIGINT has come, whatever came before or after it; set before [`Signals::take`] tells of it.
    pub fn interrupted(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// What is asked for, if any signal came since the last call. Never blocks.
    pub fn take(&mut self) -> Option<Asked> {
        let before = self.seen;
        let mut bytes = [0; 16];
        while let Ok(got @ 1..) = self.pipe.read(&mut bytes) {
            self.seen += got;
        }
        match self.seen {
            seen if seen == before => None,
            1 if self.interrupted.load(Ordering::Acquire) => Some(Asked::Stop),
            1 => Some(Asked::Drain),
            _ => Some(Asked::Hurry),
        }
    }
}

/// The process's SIGHUPs.
#[derive(Debug)]
pub struct Hangups {
    pipe: UnixStream,
}

impl Hangups {
    /// Takes SIGHUP over, which ends a process that does not. Call once.
    pub fn install() -> std::io::Result<Hangups> {
        let (pipe, written) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGHUP, written)?;
        Ok(Hangups { pipe })
    }

    /// Whether any came since the last call. Never blocks.
    pub fn take(&mut self) -> bool {
        let mut bytes = [0; 16];
        let mut came = false;
        while let Ok(1..) = self.pipe.read(&mut bytes) {
            came = true;
        }
        came
    }
}

impl AsRawFd for Hangups {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl AsFd for Hangups {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
