//! IPv4 ranges made fast to find: one bitmap for most addresses, two where a /24 is divided.
//!
//! ```text
//!        18 bits            6 bits     2 bits   6 bits
//!  +-----------------------+--------+---------+--------+
//!  | block                 | slot   | block   | slot   |
//!  +-----------------------+--------+---------+--------+
//!     of 262 144 (4 MiB)     a /24    of four    an address
//! ```
//! A block has 64 slots and a bit for each: set where the slot's leaf differs from that of the slot before. The leaf of a
//! slot thus is as many places behind the block's first as bits are set up to it. A leaf is a value, or the number of the
//! four blocks of a /24 that is divided. Runs of equal slots cost nothing: what is stored grows with the number of
//! networks, not with their length.

use super::ranges::{NOTHING, Ranges};

/// Bits that choose the first block.
const FIRST_BITS: u32 = 18;

/// A leaf with this bit is the number of a divided /24.
const DIVIDED: u32 = 1 << 31;

/// Addresses of a /24.
const SLOT: u64 = 1 << 8;

const _: () = assert!(NOTHING < DIVIDED, "values and divided slots are told apart");

/// 64 slots.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Which slots, but the first, begin a leaf of their own.
    begins: u64,
    /// The first slot's leaf.
    leaf: u32,
}

impl Block {
    /// Where the leaf of `slot` (0..64) is.
    #[inline]
    const fn leaf_of(self, slot: u32) -> usize {
        self.leaf as usize + (self.begins & (u64::MAX >> (63 - (slot & 63)))).count_ones() as usize
    }
}

/// The index.
#[derive(Debug)]
pub(super) struct V4 {
    blocks: Box<[Block]>,
    divided: Box<[[Block; 4]]>,
    leaves: Box<[u32]>,
}

impl V4 {
    /// The value of the range that holds `ip`.
    #[inline]
    pub(super) fn get(&self, ip: u32) -> u32 {
        let leaf = self.leaves[self.blocks[(ip >> (32 - FIRST_BITS)) as usize].leaf_of(ip >> 8)];
        if leaf & DIVIDED == 0 {
            return leaf;
        }
        let block = self.divided[(leaf & !DIVIDED) as usize][(ip >> 6) as usize & 3];
        self.leaves[block.leaf_of(ip)]
    }

    /// Of `ranges`, in one pass over them and over the blocks.
    pub(super) fn of(ranges: &Ranges<u32>) -> V4 {
        let mut build = Build { walk: Walk::of(ranges), divided: Vec::new(), leaves: Vec::with_capacity(ranges.len()) };
        let blocks = (0..1 << FIRST_BITS).map(|_| build.block()).collect();
        V4 { blocks, divided: build.divided.into_boxed_slice(), leaves: build.leaves.into_boxed_slice() }
    }

    /// What it takes of the heap.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.blocks) + size_of_val(&*self.divided) + size_of_val(&*self.leaves)
    }
}

/// A walk over the ranges by steps that need not be theirs.
struct Walk<'a> {
    starts: &'a [u32],
    values: &'a [u32],
    /// The first address that was not walked yet.
    at: u64,
    /// The range that holds it.
    range: usize,
}

impl<'a> Walk<'a> {
    fn of(ranges: &'a Ranges<u32>) -> Walk<'a> {
        Walk { starts: ranges.starts(), values: ranges.values(), at: 0, range: 0 }
    }

    /// Where the present range ends.
    fn end(&self) -> u64 {
        self.starts.get(self.range + 1).map_or(1 << 32, |start| u64::from(*start))
    }

    fn value(&self) -> u32 {
        self.values[self.range]
    }

    /// Goes on to `to`, which is behind `at`.
    fn go(&mut self, to: u64) {
        self.at = to;
        while self.range + 1 < self.starts.len() && self.end() <= to {
            self.range += 1;
        }
    }
}

struct Build<'a> {
    walk: Walk<'a>,
    divided: Vec<[Block; 4]>,
    leaves: Vec<u32>,
}

impl Build<'_> {
    /// The next first block.
    fn block(&mut self) -> Block {
        let (from, to) = (self.walk.at, self.walk.at + 64 * SLOT);
        // The leaves of a divided slot lie between those of its block unless they are written when the block is whole.
        let (mut begins, mut leaves) = (0, [0; 64]);
        let mut count = 0;
        while self.walk.at < to {
            let slot = (self.walk.at - from) / SLOT;
            let whole = (self.walk.end().min(to) - self.walk.at) / SLOT;
            begins |= 1 << slot;
            if whole == 0 {
                leaves[count] = DIVIDED | self.divided.len() as u32;
                let blocks = std::array::from_fn(|_| self.small_block());
                self.divided.push(blocks);
            } else {
                leaves[count] = self.walk.value();
                self.walk.go(self.walk.at + whole * SLOT);
            }
            count += 1;
        }
        self.put(begins, &leaves[..count])
    }

    /// The next block of a divided slot: 64 addresses.
    fn small_block(&mut self) -> Block {
        let (from, to) = (self.walk.at, self.walk.at + 64);
        let (mut begins, mut leaves) = (0, [0; 64]);
        let mut count = 0;
        while self.walk.at < to {
            begins |= 1 << (self.walk.at - from);
            leaves[count] = self.walk.value();
            count += 1;
            self.walk.go(self.walk.end().min(to));
        }
        self.put(begins, &leaves[..count])
    }

    /// Stores a block's leaves, of which the last one stored may be the first.
    fn put(&mut self, begins: u64, leaves: &[u32]) -> Block {
        let skip = usize::from(self.leaves.last() == leaves.first());
        let leaf = (self.leaves.len() - skip) as u32;
        self.leaves.extend_from_slice(&leaves[skip..]);
        Block { begins: begins & !1, leaf }
    }
}
