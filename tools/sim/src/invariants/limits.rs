//! Queues, links and tables stay within their limits.

use cache_core::time::Time;

use super::{Fact, Invariant};

/// The checker.
#[derive(Debug)]
pub struct Limits;

impl Invariant for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Size { node, what, size, max } if size > max => {
                Some(format!("node {node} has {size} {what}, more than {max}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_may_be_is_seen() {
        let see = |size| Limits.see(Time::ZERO, &Fact::Size { node: 1, what: "links", size, max: 8 }).is_some();
        assert!(!see(8) && see(9));
    }
}
