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
//! Where uplinks are scarce the cache gives a part of the stream in any case, and what it gives at the last moment, to all at
//! about the same time, nobody can pass on. So the more it was the last resort of late, the more peers are responsible from the beginning:
//! the cache gives as much, but early, to some this and to others that ([`Scarcity`]).
//!
//! Where sub-streams are pushed, one is responsible for a sub-stream's chunks of a whole turn: who follows somebody, follows
//! somebody who soon has them again.

use crate::limits::{SUB_STREAMS, WINDOW_CHUNKS};
use crate::peer_id::PeerId;
use crate::prng::mix;
use crate::time::Span;
use crate::units::{CHUNK_SPAN, ChunkSeq};

/// The chunk that stands for those of its sub-stream in a turn of 51.2 s (our guess: as long as a short session; a turn
/// spreads the task over those who upload much and little).
pub(super) fn representative(seq: ChunkSeq) -> ChunkSeq {
    ChunkSeq::new(seq.get() / WINDOW_CHUNKS * WINDOW_CHUNKS + seq.get() % SUB_STREAMS)
}

/// What of the last resort is nobody's fault: newcomers and lost packets, in millionths of the stream. Our guess: what an uplink of
/// 1.3 times the stream leaves in the simulator.
const USUAL_PPM: u64 = 30_000;

/// How many times the rest is asked for early. Simulated: 1 gives less, and what is asked early is less of what is asked late, so
/// that it settles at any number.
const EARLY: u64 = 2;

/// Periods over which the share is smoothed. Our guess: some seconds.
const SMOOTHED_BY: u64 = 16;

/// How much of the stream the cache was asked for as the last resort of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scarcity {
    asked: u64,
    share_ppm: u64,
}

impl Scarcity {
    /// A chunk was asked of the cache because little time was left.
    pub(super) const fn asked_late(&mut self) {
        self.asked += 1;
    }

    /// A period of this length is over.
    pub(super) fn roll(&mut self, period: Span) {
        let ppm = std::mem::take(&mut self.asked) * 1_000_000 * CHUNK_SPAN.micros() / period.micros().max(1);
        self.share_ppm = (self.share_ppm * (SMOOTHED_BY - 1) + ppm.min(1_000_000)) / SMOOTHED_BY;
    }

    /// How many of `known` peers are responsible for a chunk from the beginning besides the first.
    pub(super) const fn more(&self, known: usize) -> usize {
        let early = self.share_ppm.saturating_sub(USUAL_PPM) * EARLY * known as u64;
        ((early + 500_000) / 1_000_000) as usize
    }
}

/// Whether `me` is responsible for a chunk that nobody has announced for `waited`: fewer than the wanted number of
/// `others` come before it. The number is 1 and doubles with each `step`, and `more` are added to it.
pub fn is_responsible(
    seq: ChunkSeq,
    me: PeerId,
    others: impl Iterator<Item = PeerId>,
    waited: Span,
    step: Span,
    more: usize,
) -> bool {
    let doublings = (waited.micros() / step.micros().max(1)).min(30);
    let (chunk, wanted) = (mix(seq.get()), (1usize << doublings).saturating_add(more));
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

    fn responsible_with(seq: u64, me: usize, all: &[PeerId], waited: Span, more: usize) -> bool {
        let others = all.iter().copied().filter(|id| *id != all[me]);
        is_responsible(ChunkSeq::new(seq), all[me], others, waited, Span::from_millis(1_000), more)
    }

    fn responsible(seq: u64, me: usize, all: &[PeerId], waited: Span) -> bool {
        responsible_with(seq, me, all, waited, 0)
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
    fn the_more_the_cache_is_the_last_resort_the_more_seed_and_not_beside_plenty() {
        let more = |asked: u64| {
            let mut scarcity = Scarcity::default();
            for _ in 0..200 {
                (0..asked).for_each(|_| scarcity.asked_late());
                scarcity.roll(CHUNK_SPAN.times(50));
            }
            scarcity.more(30)
        };
        assert_eq!([0, 1, 10, 20, 90].map(more), [0, 0, 10, 22, 58], "of 50 chunks");
        let all = ids(30);
        let count = |more| (0..30).filter(|me| responsible_with(7, *me, &all, Span::ZERO, more)).count();
        assert_eq!([0, 10, 58].map(count), [1, 11, 30]);
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
