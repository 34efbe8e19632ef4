//! After the last fault has ended all viewers play again within 10 s.

use cache_core::time::{Span, Time};

use super::{Fact, Invariant};

/// So long it may take.
pub const WITHIN: Span = Span::from_secs(10);

/// The checker.
#[derive(Debug)]
pub struct Recovery;

impl Invariant for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Standing { node, after } if after >= WITHIN => {
                Some(format!("node {node} does not play {} ms after the last fault has ended", after.millis()))
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
        let see = |after| Recovery.see(Time::ZERO, &Fact::Standing { node: 1, after: Span::from_secs(after) });
        assert!(see(9).is_none() && see(10).is_some());
    }
}
