//! How many chunks each stream keeps: the window, or as long as a rule for time shift says.

use cache_core::proto::index::publish::fits;
use cache_core::time::Span;
use cache_core::wire::StreamName;
use serde::Deserialize;

/// A chunk's usual length. A publisher that cuts shorter ones keeps less time.
const CHUNK: Span = Span::from_millis(200);

/// Longest time shift: the ring keeps 65 536 chunks of a stream at the most.
pub(super) const TIME_SHIFT_MINUTES_MAX: u32 = 210;

/// A name or pattern, and for how long its streams are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeShift {
    /// A stream name, or a pattern with `*` for any run of characters.
    pub name: String,
    /// Minutes that are kept, if memory suffices.
    pub minutes: u32,
}

/// The rules; the first that fits a name holds.
#[derive(Clone, Debug)]
pub(super) struct Retention {
    window: u64,
    rules: Vec<TimeShift>,
}

impl Retention {
    /// `window` chunks where no rule fits.
    pub(super) fn new(window: u64, rules: Vec<TimeShift>) -> Retention {
        Retention { window, rules }
    }

    /// What the stream keeps.
    pub(super) fn chunks(&self, name: &StreamName) -> u64 {
        let rule = self.rules.iter().find(|rule| fits(&rule.name, name));
        rule.map_or(self.window, TimeShift::chunks)
    }

    /// The most that any stream keeps: so many descriptors each stream has room for.
    pub(super) fn most(&self) -> u64 {
        self.rules.iter().map(TimeShift::chunks).fold(self.window, u64::max)
    }
}

impl TimeShift {
    fn chunks(&self) -> u64 {
        Span::from_secs(60 * u64::from(self.minutes)).millis() / CHUNK.millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_holds_and_the_window_else() {
        let rule = |name: &str, minutes| TimeShift { name: name.into(), minutes };
        let retention = Retention::new(256, vec![rule("news24", 2), rule("news*", 10)]);
        let chunks = |name: &str| retention.chunks(&StreamName::new(name).expect("a name"));
        assert_eq!((chunks("news24"), chunks("news"), chunks("sports")), (600, 3_000, 256));
        assert_eq!(retention.most(), 3_000);
        assert_eq!(Retention::new(256, Vec::new()).most(), 256);
        let most = rule("x", TIME_SHIFT_MINUTES_MAX).chunks();
        assert!(most <= 65_536, "{most} is what a ring can keep");
    }
}
