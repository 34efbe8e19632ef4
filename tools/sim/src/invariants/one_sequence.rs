//! One sequence per stream, never forked: a number means the same chunk in every cache and to every viewer.

use cache_core::time::Time;
use cache_core::units::ChunkSeq;

use super::{Fact, Invariant};

/// The checker: the content of each number from the first one on, as it was stored first; `None` where none was.
#[derive(Debug, Default)]
pub struct OneSequence {
    first: Option<ChunkSeq>,
    contents: Vec<Option<u64>>,
}

/// Numbers that are followed: those of 58 days. Farther ones are not checked.
const FOLLOWED_MAX: u64 = 25_000_000;

impl OneSequence {
    fn entry(&mut self, seq: ChunkSeq) -> Option<&mut Option<u64>> {
        let at = seq.since(*self.first.get_or_insert(seq)).filter(|at| *at < FOLLOWED_MAX)? as usize;
        if self.contents.len() <= at {
            self.contents.resize(at + 1, None);
        }
        self.contents.get_mut(at)
    }
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
            Fact::Stored { .. } => *self.entry(seq)?.get_or_insert(content),
            _ => (*self.entry(seq)?)?,
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
