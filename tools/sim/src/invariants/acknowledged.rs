//! What was acknowledged to the publisher survives the death of any one process.
//!
//! What holds today: an acknowledged chunk is in one cache's ring. A process that is killed leaves its ring to the next one on
//! the same host, which must have every acknowledged chunk again; the loss of the host itself is not covered before
//! another cache or a peer has fetched the chunk.

use std::collections::BTreeMap;

use cache_core::time::Time;
use cache_core::units::ChunkSeq;

use super::{Fact, Invariant};

/// The checker: what each cache has acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    newest: BTreeMap<u32, ChunkSeq>,
    stored: BTreeMap<u32, ChunkSeq>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        match *fact {
            Fact::Stored { node, seq, .. } => {
                self.stored.insert(node, seq);
                None
            }
            Fact::Acknowledged { node, seq } => {
                let newest = self.newest.entry(node).or_insert(seq);
                *newest = seq.max(*newest);
                let stored = self.stored.get(&node).is_some_and(|stored| seq <= *stored);
                (!stored).then(|| format!("node {node} acknowledges chunk {seq}, which it has not stored"))
            }
            Fact::Restarted { node, head } => {
                let newest = *self.newest.get(&node)?;
                let lost = head.is_none_or(|head| head < newest);
                lost.then(|| format!("node {node} had acknowledged chunk {newest} and has {head:?} after its restart"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_without_an_acknowledged_chunk_is_seen() {
        let mut checker = Acknowledged::default();
        let mut see = |fact| checker.see(Time::ZERO, &fact).is_some();
        let seq = ChunkSeq::new;
        let restarted = |head: Option<u64>| Fact::Restarted { node: 1, head: head.map(ChunkSeq::new) };
        assert!(!see(restarted(None)), "nothing was acknowledged");
        assert!(!see(Fact::Stored { node: 1, seq: seq(9), content: 0, right: 0 }));
        assert!(!see(Fact::Acknowledged { node: 1, seq: seq(9) }));
        assert!(!see(restarted(Some(9))));
        assert!(see(restarted(Some(8))) && see(restarted(None)));
        assert!(see(Fact::Acknowledged { node: 1, seq: seq(10) }), "not stored");
    }
}
