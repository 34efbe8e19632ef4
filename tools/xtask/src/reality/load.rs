//! What the machine had left while the real peers ran: a figure that the machine bounds says nothing about the protocol.

use serde::{Deserialize, Serialize};

/// Above this share of all processors the machine is what was measured. Our guess: with a fifth left, nobody waits long.
const BUSY_MAX: f64 = 0.8;

/// The machine's time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Share of all processors' time that was used, after the last arrival.
    pub(crate) busy: f64,
    /// The same from the first arrival to the last.
    pub(crate) busy_while_arriving: f64,
    /// Share that the hypervisor gave to others.
    pub(crate) stolen: f64,
}

/// Takes the time.
pub(crate) struct Meter {
    start: Times,
    arrived: Times,
}

#[derive(Clone, Copy, Default)]
struct Times {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Meter {
    /// From now on peers arrive.
    pub(crate) fn new() -> Meter {
        let start = Times::now();
        Meter { start, arrived: start }
    }

    /// All have arrived.
    pub(crate) fn begin(&mut self) {
        self.arrived = Times::now();
    }

    /// It is over.
    pub(crate) fn end(self) -> Load {
        let end = Times::now();
        let share = |from: Times, to: Times, part: fn(&Times) -> u64| {
            (part(&to) - part(&from)) as f64 / (to.all - from.all).max(1) as f64
        };
        Load {
            busy: share(self.arrived, end, |times| times.busy),
            busy_while_arriving: share(self.start, self.arrived, |times| times.busy),
            stolen: share(self.start, end, |times| times.stolen),
        }
    }
}

impl Load {
    /// For a person.
    pub(crate) fn line(&self) -> String {
        let judged = if self.busy.max(self.busy_while_arriving) > BUSY_MAX {
            "the machine was at its limit, and start-up and continuity tell of that too"
        } else {
            "the machine was not at its limit"
        };
        format!(
            "Processors: {:.0} % busy while peers arrived, {:.0} % afterwards, {:.1} % stolen: {judged}.",
            100.0 * self.busy_while_arriving,
            100.0 * self.busy,
            100.0 * self.stolen
        )
    }
}

impl Times {
    fn now() -> Times {
        Times::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    /// The first line: user nice system idle iowait irq softirq steal.
    fn parse(stat: &str) -> Times {
        let numbers: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(1)
            .map_while(|n| n.parse().ok())
            .take(8)
            .collect();
        let at = |at: usize| numbers.get(at).copied().unwrap_or(0);
        let all: u64 = numbers.iter().sum();
        Times { busy: all - at(3) - at(4), stolen: at(7), all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_disks_are_not_busy() {
        let times = Times::parse("cpu  10 1 5 80 4 0 2 3 9 9\ncpu0 1 1 1 1\n");
        assert_eq!((times.busy, times.stolen, times.all), (21, 3, 105));
        assert_eq!(Times::parse("").all, 0);
    }
}
