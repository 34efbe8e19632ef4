//! Other ways to find an address's place, to compare with.

use cache_core::proto::route::places::ranges::Ranges;

/// What is found in a million ranges.
pub(crate) trait Finds {
    fn find(&self, ip: u32) -> u32;
    fn bytes(&self) -> usize;
}

/// The ranges themselves, searched by halving.
impl Finds for Ranges<u32> {
    fn find(&self, ip: u32) -> u32 {
        self.values()[self.starts().partition_point(|start| *start <= ip) - 1]
    }
    fn bytes(&self) -> usize {
        8 * self.len()
    }
}

/// A value for each /24, and 256 values where one is divided (DIR-24-8).
pub(crate) struct Flat {
    first: Vec<u32>,
    divided: Vec<[u32; 256]>,
}

const DIVIDED: u32 = 1 << 31;

impl Flat {
    pub(crate) fn of(ranges: &Ranges<u32>) -> Flat {
        let (starts, values) = (ranges.starts(), ranges.values());
        let mut flat = Flat { first: Vec::with_capacity(1 << 24), divided: Vec::new() };
        let mut range = 0;
        for slot in 0..1_u32 << 24 {
            let (from, last) = (slot << 8, slot << 8 | 255);
            while starts.get(range + 1).is_some_and(|start| *start <= from) {
                range += 1;
            }
            if starts.get(range + 1).is_none_or(|start| *start > last) {
                flat.first.push(values[range]);
                continue;
            }
            let mut all = [0; 256];
            for (low, value) in all.iter_mut().enumerate() {
                while starts.get(range + 1).is_some_and(|start| *start <= from + low as u32) {
                    range += 1;
                }
                *value = values[range];
            }
            flat.first.push(DIVIDED | flat.divided.len() as u32);
            flat.divided.push(all);
        }
        flat
    }
}

impl Finds for Flat {
    #[inline]
    fn find(&self, ip: u32) -> u32 {
        let value = self.first[(ip >> 8) as usize];
        if value & DIVIDED == 0 { value } else { self.divided[(value & !DIVIDED) as usize][ip as usize & 255] }
    }
    fn bytes(&self) -> usize {
        4 * self.first.len() + 1024 * self.divided.len()
    }
}

/// A search tree of 16 keys to a node, one cache line.
pub(crate) struct Tree {
    levels: Vec<Vec<[u32; 16]>>,
    keys: Vec<usize>,
    values: Vec<u32>,
}

impl Tree {
    pub(crate) fn of(ranges: &Ranges<u32>) -> Tree {
        let mut tree = Tree { levels: Vec::new(), keys: Vec::new(), values: ranges.values().to_vec() };
        let mut keys = ranges.starts().to_vec();
        loop {
            let node = |keys: &[u32]| std::array::from_fn(|at| keys.get(at).copied().unwrap_or(u32::MAX));
            tree.levels.insert(0, keys.chunks(16).map(node).collect());
            tree.keys.insert(0, keys.len());
            if keys.len() <= 16 {
                return tree;
            }
            keys = keys.into_iter().step_by(16).collect();
        }
    }
}

impl Finds for Tree {
    #[inline]
    fn find(&self, ip: u32) -> u32 {
        let mut at = 0;
        for (nodes, keys) in self.levels.iter().zip(&self.keys) {
            let rank: u32 = nodes[at].iter().map(|key| u32::from(*key <= ip)).sum();
            at = (at * 16 + rank as usize - 1).min(keys - 1);
        }
        self.values[at]
    }
    fn bytes(&self) -> usize {
        64 * self.levels.iter().map(Vec::len).sum::<usize>() + 4 * self.values.len()
    }
}
