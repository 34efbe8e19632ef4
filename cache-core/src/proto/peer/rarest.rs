//! The normal zone: what the fewest partners hold is fetched first, ties at random (paper, section 3.2.3).

use crate::prng::Prng;
use crate::units::ChunkSeq;

/// Puts `seqs` into the order of fetching; `holders` says how many partners hold a chunk.
pub fn order(seqs: &mut [ChunkSeq], holders: impl Fn(ChunkSeq) -> usize, rng: &mut Prng) {
    rng.shuffle(seqs);
    seqs.sort_by_key(|seq| holders(*seq));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_comes_first_and_ties_are_random() {
        let holders = |seq: ChunkSeq| [3, 1, 2, 1, 1][seq.get() as usize];
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut seqs: Vec<_> = (0..5).map(ChunkSeq::new).collect();
            order(&mut seqs, holders, &mut Prng::new(seed));
            let counts: Vec<_> = seqs.iter().map(|s| holders(*s)).collect();
            assert_eq!(counts, [1, 1, 1, 2, 3]);
            firsts.insert(seqs[0]);
        }
        assert_eq!(firsts.len(), 3);
    }
}
