//! Seeding: who fetches a new chunk from the cache. Our own; the paper does not say.
//!
//! A new chunk exists at the cache alone, and the cache is otherwise the last resort: without a rule nobody would
//! fetch it before it is nearly due, and then everybody would. So each chunk has peers responsible for it, found by
//! rendezvous hashing: among the ids that a peer knows (itself, partners, members) the one with the highest
//! `mix(chunk, id)` is responsible, asks the cache for the chunk ahead of its publishing (the cache keeps the request
//! until then) and announces it. Peers know different neighbours, so a chunk leaves the cache about `N / (members + 1)`
//! times, at random places of the swarm.
//!
//! Lists may name the dead and the selfish. So when no partner has announced a published chunk, the first 2, then 4, 8, ...
//! of the ranking become responsible, doubling with each step of time: every chunk is soon somebody's, and the cache's
//! load grows only as far as needed. A peer that knows nobody is responsible for everything.

use crate::peer_id::PeerId;
use crate::prng::mix;
use crate::time::Span;
use crate::units::ChunkSeq;

/// How many of `others` come before `me` for `seq`.
pub(super) fn rank(seq: ChunkSeq, me: PeerId, others: &[PeerId]) -> usize {
    rank_below(seq, me, others.iter().copied(), usize::MAX)
}

/// The same, counted up to `most` only: who wants to know whether it is among the first need not weigh everybody.
pub fn rank_below(seq: ChunkSeq, me: PeerId, others: impl Iterator<Item = PeerId>, most: usize) -> usize {
    let salt = mix(seq.get());
    let weight = |id: PeerId| mix(salt ^ id.bits());
    let mine = weight(me);
    others.filter(|id| weight(*id) > mine).take(most).count()
}

/// Whether the peer of that rank is responsible for a chunk that nobody has announced for `waited`.
pub(super) fn is_responsible(rank: usize, waited: Span, step: Span) -> bool {
    rank < responsible(waited, step)
}

/// How many peers of the ranking are responsible for a chunk that nobody has announced for `waited`.
pub fn responsible(waited: Span, step: Span) -> usize {
    let doublings = waited.micros() / step.micros().max(1);
    1usize.checked_shl(doublings.min(30) as u32).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<PeerId> {
        (1..=count).map(|n| PeerId::from_bits(n).expect("small")).collect()
    }

    #[test]
    fn who_all_know_each_other_agree_on_one() {
        let all = ids(20);
        let mut loads = vec![0; all.len()];
        for seq in (0..2_000).map(ChunkSeq::new) {
            let first: Vec<usize> = (0..all.len())
                .filter(|me| {
                    let others: Vec<_> = all.iter().copied().filter(|id| *id != all[*me]).collect();
                    rank(seq, all[*me], &others) == 0
                })
                .collect();
            assert_eq!(first.len(), 1);
            loads[first[0]] += 1;
        }
        assert!(loads.iter().all(|n| (50..200).contains(n)), "100 each, about: {loads:?}");
    }

    #[test]
    fn alone_for_everything() {
        assert!((0..100).all(|n| rank(ChunkSeq::new(n), ids(1)[0], &[]) == 0));
    }

    #[test]
    fn responsibility_widens_while_nobody_announces() {
        let step = Span::from_millis(1_000);
        let responsible = |ms| (0..50).filter(|rank| is_responsible(*rank, Span::from_millis(ms), step)).count();
        assert_eq!([0, 999, 1_000, 2_000, 5_000, 90_000].map(responsible), [1, 1, 2, 4, 32, 50]);
    }
}
