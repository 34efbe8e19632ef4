//! Which stream loses a segment next: the least key of many, asked often and changed often.
//!
//! A tournament: streams are the leaves, each inner place holds the lesser of its two children, the winner of all is at
//! the top. A change replays one path: 12 comparisons for 4096 streams. Nothing is allocated after the start.

/// What decides: the stream's rank, then when its oldest segment was begun. The least loses.
pub(super) type Key = (u64, u64);

/// Loses nothing.
const NEVER: Key = (u64::MAX, u64::MAX);

/// The tournament.
#[derive(Debug, Default)]
pub(super) struct Losers {
    keys: Vec<Key>,
    /// `places[1]` is the winner of all; the children of place `i` are `2i` and `2i + 1`; the leaves come last.
    places: Vec<u32>,
}

impl Losers {
    /// `streams` streams that have nothing to lose.
    pub(super) fn new(streams: u32) -> Losers {
        let leaves = streams.next_power_of_two().max(2);
        let mut places = vec![0; 2 * leaves as usize];
        for leaf in 0..leaves {
            places[(leaves + leaf) as usize] = leaf;
        }
        for place in (1..leaves as usize).rev() {
            places[place] = places[2 * place];
        }
        Losers { keys: vec![NEVER; leaves as usize], places }
    }

    /// Gives stream `stream` a key; `None`: it has nothing to lose.
    pub(super) fn set(&mut self, stream: u32, key: Option<Key>) {
        let key = key.unwrap_or(NEVER);
        if self.keys[stream as usize] == key {
            return;
        }
        self.keys[stream as usize] = key;
        let mut place = (self.places.len() / 2 + stream as usize) / 2;
        while place > 0 {
            let (a, b) = (self.places[2 * place], self.places[2 * place + 1]);
            self.places[place] = if self.keys[b as usize] < self.keys[a as usize] { b } else { a };
            place /= 2;
        }
    }

    /// The stream with the least key; `None` when no stream has anything to lose.
    pub(super) fn least(&self) -> Option<u32> {
        let stream = self.places[1];
        (self.keys[stream as usize] != NEVER).then_some(stream)
    }

    /// The stream's key.
    pub(super) fn key(&self, stream: u32) -> Option<Key> {
        Some(self.keys[stream as usize]).filter(|key| *key != NEVER)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_of_all_is_at_the_top(
            streams in 1u32..20,
            changes in proptest::collection::vec((0u32..20, proptest::option::of((0u64..4, 0u64..4))), 1..60),
        ) {
            let mut losers = Losers::new(streams);
            let mut keys = vec![None; streams as usize];
            for (stream, key) in changes {
                let stream = stream % streams;
                losers.set(stream, key);
                keys[stream as usize] = key;
                let least = keys.iter().flatten().min();
                let top = losers.least().map(|stream| keys[stream as usize].expect("it has something to lose"));
                prop_assert_eq!(top.as_ref(), least);
            }
        }
    }
}
