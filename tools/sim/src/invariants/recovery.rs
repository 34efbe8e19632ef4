//! After the last fault has ended all viewers play again within 10 s.
//!
//! A viewer plays unless it has been shown nothing for a second. Who misses single chunks plays: in random worlds (uplinks of
//! a fifth of the stream, one packet of twenty lost) somebody misses one at nearly any moment, faults or not, and continuity
//! counts that. What a fault leaves behind is a viewer that goes on standing still.
//!
//! Nor is it a fault that goes on when a viewer who has played since stands still with its next chunks in hand: whoever plays on
//! through a silence of the publisher uses up its lag, and the first chunk that is late then makes it wait until its chunks have the
//! play delay to travel again. The picture stands as long as the silence lasted, a little later.

use cache_core::time::{Span, Time};

use super::{Fact, Invariant};

/// So long it may take.
pub const WITHIN: Span = Span::from_secs(10);

/// Who has been shown nothing for so long stands still. Our guess: five chunks.
const STILL: Span = Span::from_secs(1);

/// The checker.
#[derive(Debug)]
pub struct Recovery;

impl Invariant for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Standing { node, after, still, regains: false } if after >= WITHIN && still >= STILL => {
                Some(format!(
                    "node {node} has not played for {} ms, {} ms after the last fault has ended",
                    still.millis(),
                    after.millis()
                ))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_still_after_ten_seconds_is_seen() {
        let see = |after, still_ms, regains| {
            let (after, still) = (Span::from_secs(after), Span::from_millis(still_ms));
            Recovery.see(Time::ZERO, &Fact::Standing { node: 1, after, still, regains }).is_some()
        };
        assert!(!see(9, 5_000, false) && see(10, 5_000, false));
        assert!(!see(10, 400, false) && see(10, 1_000, false), "two chunks missed are not a fault that goes on");
        assert!(!see(10, 5_000, true), "it waits for its lag");
    }
}
