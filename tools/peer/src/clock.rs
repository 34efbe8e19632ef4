//! The one place where a clock is read: once per turn of the event loop, both kinds of time together.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cache_core::time::{Span, Time, WallClock};

/// The process' clocks. [`Time`] counts from [`Clock::start`].
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    started_at: WallClock,
}

/// One reading, good for a whole turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    /// For decisions.
    pub(crate) time: Time,
    /// For people, reports and lag.
    pub(crate) wall: WallClock,
}

impl Clock {
    /// Begins to count. Called first thing in `main`, so that start-up times count from the process' launch.
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now(), started_at: wall() }
    }

    /// Reads both clocks.
    pub(crate) fn read(&self) -> Now {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { time: Time::from_micros(micros), wall: wall() }
    }

    /// When the process began, by the wall clock.
    pub(crate) const fn started_at(&self) -> WallClock {
        self.started_at
    }
}

/// The wall clock; a clock before 1970 reads as 1970.
pub(crate) fn wall() -> WallClock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallClock::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `span` for the operating system.
pub(crate) const fn duration(span: Span) -> std::time::Duration {
    std::time::Duration::from_micros(span.micros())
}
