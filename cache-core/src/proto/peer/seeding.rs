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
//!
//! Where sub-streams are pushed, one is responsible for a sub-stream's chunks of a whole turn: who follows somebody, follows
//! somebody who soon has them again.

use crate::limits::{SUB_STREAMS, WINDOW_CHUNKS};
use crate::peer_id::PeerId;
use crate::prng::mix;
use crate::time::Span;
use crate::units::ChunkSeq;

/// The chunk that stands for those of its sub-stream in a turn of 51.2 s (our guess: as long as a short session; a turn
/// spreads the task over those who upload much and little).
pub(super) fn representative(seq: ChunkSeq) -> ChunkSeq {
    ChunkSeq::new(seq.get() / WINDOW_CHUNKS * WINDOW_CHUNKS + seq.get() % SUB_STREAMS)
}

/// Whether `me` is responsible for a chunk that nobody has announced for `waited`: fewer than the wanted number of
/// `others` come before it. The number is 1 and doubles with each `step`.
pub fn is_responsible(
    seq: ChunkSeq,
    me: PeerId,
    others: impl Iterator<Item = PeerId>,
    waited: Span,
    step: Span,
) -> bool {
    let doublings = (waited.micros() / step.micros().max(1)).min(30);
    let (chunk, wanted) = (mix(seq.get()), 1usize << doublings);
    let weight = |id: PeerId| mix(chunk ^ id.bits());
    let mine = weight(me);
    others.filter(|id| weight(*id) > mine).take(wanted).count() < wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> Vec<PeerId> {
        (1..=count).map(|n| PeerId::from_bits(n).expect("small")).collect()
    }

    fn responsible(seq: u64, me: usize, all: &[PeerId], waited: Span) -> bool {
        let others = all.iter().copied().filter(|id| *id != all[me]);
        is_responsible(ChunkSeq::new(seq), all[me], others, waited, Span::from_millis(1_000))
    }

    #[test]
    fn who_all_know_each_other_agree_on_one() {
        let all = ids(20);
        let mut loads = vec![0; all.len()];
        for seq in 0..2_000 {
            let first: Vec<usize> = (0..all.len()).filter(|me| responsible(seq, *me, &all, Span::ZERO)).collect();
            assert_eq!(first.len(), 1);
            loads[first[0]] += 1;
        }
        assert!(loads.iter().all(|n| (50..200).contains(n)), "100 each, about: {loads:?}");
    }

    #[test]
    fn a_sub_stream_is_somebodys_for_a_turn() {
        let of = |seq| representative(ChunkSeq::new(seq)).get();
        assert_eq!([512, 520, 760, 767, 768].map(of), [512, 512, 512, 519, 768]);
        let all: std::collections::BTreeSet<_> = (0..512).map(of).collect();
        assert_eq!(all.len(), 16, "8 in each of two turns");
    }

    #[test]
    fn alone_for_everything() {
        assert!((0..100).all(|seq| responsible(seq, 0, &ids(1), Span::ZERO)));
    }

    #[test]
    fn responsibility_widens_while_nobody_announces() {
        let all = ids(50);
        let count = |ms| (0..50).filter(|me| responsible(7, *me, &all, Span::from_millis(ms))).count();
        assert_eq!([0, 999, 1_000, 2_000, 5_000, 90_000].map(count), [1, 1, 2, 4, 32, 50]);
    }
}
