//! Sets of chunks as 256 bits: what is missing, open or announced is reckoned four words at a time.
//!
//! A set has no base of its own: whoever makes one says to which chunk its slot 0 belongs, and only sets of the same base
//! are put together.

use crate::limits::{SUB_STREAMS, WINDOW_CHUNKS};
use crate::units::ChunkSeq;
use crate::wire::BufferMap;

/// Slots 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots([u64; 4]);

impl Slots {
    /// No slot.
    pub const NONE: Slots = Slots([0; 4]);

    /// The chunks of `map`, slot 0 being `base`; what lies outside `base .. base + 256` is left out.
    pub fn of(map: &BufferMap, base: ChunkSeq) -> Slots {
        let slots = Slots(*map.words());
        match (base.since(map.base()), map.base().since(base)) {
            (Some(later), _) => slots.down(later),
            (_, Some(earlier)) => slots.up(earlier),
            (None, None) => Slots::NONE,
        }
    }

    /// The slots of `from..to`, as far as there are such.
    pub fn range(from: u64, to: u64) -> Slots {
        Slots([u64::MAX; 4])
            .up(from.min(WINDOW_CHUNKS))
            .and(Slots([u64::MAX; 4]).down(WINDOW_CHUNKS - to.min(WINDOW_CHUNKS)))
    }

    /// The slots of the sub-streams of `subs`, one bit for each, slot 0 being `base`.
    pub fn of_subs(subs: u8, base: ChunkSeq) -> Slots {
        // A byte has a bit for each sub-stream, so that all bytes of the set are alike.
        let byte = subs.rotate_right((base.get() % SUB_STREAMS) as u32);
        Slots([u64::from_ne_bytes([byte; 8]); 4])
    }

    /// Those in both.
    pub fn and(self, other: Slots) -> Slots {
        Slots(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    /// Those in either.
    pub fn or(self, other: Slots) -> Slots {
        Slots(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    /// Those that are not in the other.
    pub fn without(self, other: Slots) -> Slots {
        Slots(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a slot is there.
    pub fn contains(&self, slot: u64) -> bool {
        self.0.get((slot / 64) as usize).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Adds a slot; one that does not exist is passed over.
    pub fn insert(&mut self, slot: u64) {
        if let Some(word) = self.0.get_mut((slot / 64) as usize) {
            *word |= 1 << (slot % 64);
        }
    }

    /// The slots, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0u64..).zip(self.0).flat_map(|(i, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = u64::from(left.trailing_zeros());
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(64 * i + bit)
            })
        })
    }

    /// Each slot `by` lower; what falls below 0 is gone.
    fn down(self, by: u64) -> Slots {
        let (words, bits) = ((by / 64) as usize, by % 64);
        let word = |i: usize| self.0.get(i.saturating_add(words)).copied().unwrap_or(0);
        if by >= WINDOW_CHUNKS {
            return Slots::NONE;
        }
        Slots(std::array::from_fn(|i| word(i) >> bits | if bits == 0 { 0 } else { word(i + 1) << (64 - bits) }))
    }

    /// Each slot `by` higher; what falls beyond 255 is gone.
    fn up(self, by: u64) -> Slots {
        let (words, bits) = ((by / 64) as usize, by % 64);
        let word = |i: Option<usize>| i.map_or(0, |i| self.0[i]);
        if by >= WINDOW_CHUNKS {
            return Slots::NONE;
        }
        Slots(std::array::from_fn(|i| {
            let below = if bits == 0 { 0 } else { word(i.checked_sub(words + 1)) >> (64 - bits) };
            word(i.checked_sub(words)) << bits | below
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn map(base: u64, held: &BTreeSet<u64>) -> BufferMap {
        let mut map = BufferMap::new(ChunkSeq::new(base));
        held.iter().for_each(|seq| _ = map.set(ChunkSeq::new(*seq), true));
        map
    }

    proptest! {
        /// Words against sets of numbers.
        #[test]
        fn as_sets_of_numbers_would_be(
            base in 0u64..600, other in 0u64..600,
            held in prop::collection::btree_set(0u64..1_000, 0..200),
            from in 0u64..300, to in 0u64..300,
        ) {
            let slots = Slots::of(&map(base, &held), ChunkSeq::new(other));
            let expected: Vec<u64> = held.iter().copied()
                .filter(|seq| (base..base + 256).contains(seq) && (other..other + 256).contains(seq))
                .map(|seq| seq - other).collect();
            prop_assert_eq!(slots.iter().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!((slots.count(), slots.is_empty()), (expected.len(), expected.is_empty()));
            let range = Slots::range(from, to);
            prop_assert_eq!(range.iter().collect::<Vec<_>>(), (from..to.min(256)).collect::<Vec<_>>());
            let within: Vec<u64> = expected.iter().copied().filter(|s| (from..to).contains(s)).collect();
            prop_assert_eq!(slots.and(range).iter().collect::<Vec<_>>(), within);
            prop_assert_eq!(slots.and(range).or(slots.without(range)), slots);
            let mut copy = Slots::NONE;
            slots.iter().for_each(|slot| copy.insert(slot));
            prop_assert_eq!(copy, slots);
            prop_assert!((0..300).all(|slot| slots.contains(slot) == expected.contains(&slot)));
            let subs = to as u8;
            let led = Slots::of_subs(subs, ChunkSeq::new(base));
            prop_assert!((0..256).all(|slot| led.contains(slot) == (subs >> ((base + slot) % 8) & 1 == 1)));
        }
    }
}
