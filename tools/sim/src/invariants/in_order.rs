//! A viewer plays in order, no chunk twice.

use cache_core::time::Time;
use cache_core::units::ChunkSeq;

use super::{Fact, Invariant};

/// The checker: the last chunk of each viewer.
#[derive(Debug, Default)]
pub struct InOrder {
    last: Vec<Option<ChunkSeq>>,
}

impl Invariant for InOrder {
    fn name(&self) -> &'static str {
        "in order"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        let Fact::Played { node, seq, .. } = *fact else { return None };
        let at = node as usize;
        if self.last.len() <= at {
            self.last.resize(at + 1, None);
        }
        let before = self.last[at].replace(seq)?;
        (seq <= before).then(|| format!("node {node} plays chunk {seq} after chunk {before}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_and_an_earlier_chunk_are_seen() {
        let mut order = InOrder::default();
        let mut play = |node, seq| {
            let fact = Fact::Played { node, seq: ChunkSeq::new(seq), content: 0, right: 0 };
            order.see(Time::ZERO, &fact).is_some()
        };
        assert!(!play(1, 5) && !play(2, 5) && !play(1, 7));
        assert!(play(1, 7), "twice");
        assert!(play(2, 4), "back");
    }
}
