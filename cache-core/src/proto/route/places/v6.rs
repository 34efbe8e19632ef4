//! IPv6 ranges made fast to find: a search tree over the addresses' first halves.
//!
//! ```text
//!  level 0       [ . . . . . . . . . . . . . . . . ]              one node: each 16th key of the level below
//!  level 1       [ 16 keys ][ 16 keys ] ...
//!  level 2       [ 16 keys ][ 16 keys ][ 16 keys ] ...            all keys: where another value begins
//!  values          |  |  |  ...
//! ```
//! A key is 64 bits, as networks longer than /64 are rare: where one is, the value of the /64 is the number of a run of
//! second halves, which is searched by halving. What is stored grows with the number of ranges alone, however long and
//! scattered the networks are.

use std::ops::Range;

use super::ranges::Ranges;

/// Keys of a node: two cache lines, which are fetched as a pair.
const FAN: usize = 16;

/// A value with this bit is the number of a divided /64.
const DIVIDED: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Node([u64; FAN]);

impl Node {
    /// How many keys are at most `key`. Without a branch: compilers make 16 comparisons and a sum of it.
    #[inline]
    fn rank(&self, key: u64) -> usize {
        self.0.iter().map(|own| usize::from(*own <= key)).sum()
    }
}

#[derive(Debug)]
struct Level {
    nodes: Box<[Node]>,
    /// Behind them the last node is filled with `u64::MAX`.
    keys: usize,
}

/// The index.
#[derive(Debug)]
pub(super) struct V6 {
    levels: Vec<Level>,
    values: Box<[u32]>,
    /// Of each divided /64, its part of `lows`.
    divided: Box<[Range<u32>]>,
    /// Second halves where a value begins, and the value.
    lows: Box<[(u64, u32)]>,
}

impl V6 {
    /// The value of the range that holds `ip`.
    #[inline]
    pub(super) fn get(&self, ip: u128) -> u32 {
        let key = (ip >> 64) as u64;
        let mut at = 0;
        for level in &self.levels {
            // The first key of a node is that by which it was chosen, the first of all is zero: the rank is not.
            at = (at * FAN + level.nodes[at].rank(key) - 1).min(level.keys - 1);
        }
        let value = self.values[at];
        if value & DIVIDED == 0 { value } else { self.low(value & !DIVIDED, ip as u64) }
    }

    #[cold]
    fn low(&self, divided: u32, low: u64) -> u32 {
        let Range { start, end } = self.divided[divided as usize].clone();
        let run = &self.lows[start as usize..end as usize];
        // A run begins at zero.
        run[run.partition_point(|(start, _)| *start <= low) - 1].1
    }

    /// Of `ranges`, in one pass over them.
    pub(super) fn of(ranges: &Ranges<u128>) -> V6 {
        let (starts, given) = (ranges.starts(), ranges.values());
        let (mut keys, mut values) = (Vec::with_capacity(starts.len()), Vec::with_capacity(starts.len()));
        let (mut divided, mut lows) = (Vec::new(), Vec::new());
        let half = |start: u128| (start >> 64) as u64;
        let (mut key, mut range) = (0_u64, 0);
        loop {
            // `range` holds the first address of the /64 `key`.
            let end = starts.get(range + 1).copied();
            keys.push(key);
            if end.is_none_or(|end| half(end) > key) {
                values.push(given[range]);
            } else {
                let from = lows.len() as u32;
                lows.push((0, given[range]));
                while let Some(start) = starts.get(range + 1).filter(|start| half(**start) == key) {
                    range += 1;
                    lows.push((*start as u64, given[range]));
                }
                values.push(DIVIDED | divided.len() as u32);
                divided.push(from..lows.len() as u32);
            }
            // The next /64 with another value: behind a divided one, or where the next range begins.
            let divided_now = values.last().is_some_and(|value| value & DIVIDED != 0);
            let next = if divided_now { key.checked_add(1) } else { end.map(half) };
            let Some(next) = next else { break };
            key = next;
            if starts.get(range + 1) == Some(&(u128::from(key) << 64)) {
                range += 1;
            }
        }
        V6 {
            levels: levels(keys),
            values: values.into_boxed_slice(),
            divided: divided.into_boxed_slice(),
            lows: lows.into_boxed_slice(),
        }
    }

    /// What it takes of the heap.
    pub(super) fn bytes(&self) -> usize {
        let nodes: usize = self.levels.iter().map(|level| size_of_val(&*level.nodes)).sum();
        nodes + size_of_val(&*self.values) + size_of_val(&*self.divided) + size_of_val(&*self.lows)
    }
}

/// The tree over `keys`, the top first.
fn levels(mut keys: Vec<u64>) -> Vec<Level> {
    let mut levels = Vec::new();
    loop {
        let node = |keys: &[u64]| Node(std::array::from_fn(|at| keys.get(at).copied().unwrap_or(u64::MAX)));
        levels.push(Level { nodes: keys.chunks(FAN).map(node).collect(), keys: keys.len() });
        if keys.len() <= FAN {
            levels.reverse();
            return levels;
        }
        keys = keys.into_iter().step_by(FAN).collect();
    }
}
