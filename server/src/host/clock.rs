//! Time for machines that have no clock: monotonic since this process's start, and the wall clock for what is shown.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cache_core::time::{Time, WallClock};

/// A monotonic clock whose origin is its own creation. Copies share the origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads [`Time::ZERO`] at this moment.
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Microseconds since the origin. Read once per loop turn.
    pub fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The instant at which [`Clock::now`] reads `at`; `None` when it is beyond what an [`Instant`] holds.
    pub fn instant(&self, at: Time) -> Option<Instant> {
        self.origin.checked_add(std::time::Duration::from_micros(at.micros()))
    }
}

/// The host's wall clock; zero when it stands before 1970. It may jump: never decide by it.
pub fn wall() -> WallClock {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    WallClock::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
