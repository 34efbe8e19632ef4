//! The normal zone: what the fewest partners hold is fetched first, ties at random (paper, section 3.2.3).

use crate::prng::Prng;

/// Puts `slots` into the order of fetching; `holders` says how many partners hold a slot's chunk.
pub fn order(slots: &mut [u64], holders: impl Fn(u64) -> usize, rng: &mut Prng) {
    rng.shuffle(slots);
    slots.sort_by_key(|slot| holders(*slot));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_comes_first_and_ties_are_random() {
        let holders = |slot: u64| [3, 1, 2, 1, 1][slot as usize];
        let mut firsts = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut slots: Vec<_> = (0..5).collect();
            order(&mut slots, holders, &mut Prng::new(seed));
            let counts: Vec<_> = slots.iter().map(|s| holders(*s)).collect();
            assert_eq!(counts, [1, 1, 1, 2, 3]);
            firsts.insert(slots[0]);
        }
        assert_eq!(firsts.len(), 3);
    }
}
