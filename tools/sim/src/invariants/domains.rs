//! No chunk passes between peers of different domains.

use cache_core::time::Time;

use super::{Fact, Invariant};

/// The checker.
#[derive(Debug)]
pub struct Domains;

impl Invariant for Domains {
    fn name(&self) -> &'static str {
        "domains"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Passed { from, to, domains: (one, other) } if one != other => {
                Some(format!("node {from} of domain {one} passed a chunk to node {to} of domain {other}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_crosses_is_seen() {
        let see = |domains| Domains.see(Time::ZERO, &Fact::Passed { from: 1, to: 2, domains }).is_some();
        assert!(!see((1, 1)) && see((1, 2)));
    }
}
