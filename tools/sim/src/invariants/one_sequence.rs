//! One sequence per stream, never forked: a number means the same chunk in every cache and to every viewer.

use std::collections::BTreeMap;

use cache_core::time::Time;
use cache_core::units::ChunkSeq;

use super::{Fact, Invariant};

/// The checker: the content of each number, as it was stored first.
#[derive(Debug, Default)]
pub struct OneSequence {
    contents: BTreeMap<ChunkSeq, u64>,
}

impl Invariant for OneSequence {
    fn name(&self) -> &'static str {
        "one sequence"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        let (did, node, seq, content) = match *fact {
            Fact::Stored { node, seq, content, .. } => ("stores", node, seq, content),
            Fact::Played { node, seq, content, .. } => ("plays", node, seq, content),
            _ => return None,
        };
        let first = match fact {
            Fact::Stored { .. } => *self.contents.entry(seq).or_insert(content),
            _ => *self.contents.get(&seq)?,
        };
        (first != content).then(|| format!("node {node} {did} another chunk {seq} than was stored first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_chunk_under_one_number_is_seen() {
        let mut checker = OneSequence::default();
        let mut store = |node, seq, content| {
            let fact = Fact::Stored { node, seq: ChunkSeq::new(seq), content, right: content };
            checker.see(Time::ZERO, &fact).is_some()
        };
        assert!(!store(1, 5, 50) && !store(2, 5, 50) && !store(1, 6, 60));
        assert!(store(2, 6, 61), "the caches disagree");
    }
}
