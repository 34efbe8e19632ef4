//! No wrong byte is played, kept or stored.

use cache_core::time::Time;

use super::{Fact, Invariant};

/// The checker.
#[derive(Debug)]
pub struct RightBytes;

impl Invariant for RightBytes {
    fn name(&self) -> &'static str {
        "right bytes"
    }

    fn see(&mut self, _: Time, fact: &Fact) -> Option<String> {
        let (did, node, seq, content, right) = match *fact {
            Fact::Played { node, seq, content, right } => ("plays", node, seq, content, right),
            Fact::Kept { node, seq, content, right } => ("keeps", node, seq, content, right),
            Fact::Stored { node, seq, content, right } => ("stores", node, seq, content, right),
            _ => return None,
        };
        (content != right).then(|| format!("node {node} {did} chunk {seq} with wrong content {content:016x}"))
    }
}

#[cfg(test)]
mod tests {
    use cache_core::units::ChunkSeq;

    use super::*;

    #[test]
    fn wrong_content_is_seen_wherever_it_turns_up() {
        let seq = ChunkSeq::new(4);
        let see = |fact| RightBytes.see(Time::ZERO, &fact).is_some();
        assert!(see(Fact::Played { node: 1, seq, content: 5, right: 6 }));
        assert!(see(Fact::Kept { node: 1, seq, content: 5, right: 6 }));
        assert!(see(Fact::Stored { node: 1, seq, content: 5, right: 6 }));
        assert!(!see(Fact::Played { node: 1, seq, content: 6, right: 6 }));
    }
}
