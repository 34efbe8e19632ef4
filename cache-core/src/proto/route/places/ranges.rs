//! Addresses cut into ranges that follow each other without gap or overlap.

/// The value of a range of which nothing is known; every other is below it. The highest bit stays free for indexes.
pub const NOTHING: u32 = (1 << 31) - 1;

/// A family's address.
pub trait Address: Copy + Ord {
    /// The first one.
    const FIRST: Self;
    /// From 128 bits in which it is left-aligned.
    fn from_aligned(bits: u128) -> Self;
}

impl Address for u32 {
    const FIRST: u32 = 0;
    fn from_aligned(bits: u128) -> u32 {
        (bits >> 96) as u32
    }
}

impl Address for u128 {
    const FIRST: u128 = 0;
    fn from_aligned(bits: u128) -> u128 {
        bits
    }
}

/// A network of one family and its value.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Its leading bits, left-aligned in 128; the rest is zero.
    pub bits: u128,
    /// How many count.
    pub len: u8,
    /// What belongs to it.
    pub value: u32,
}

impl Network {
    const fn last(self) -> u128 {
        if self.len == 128 { self.bits } else { self.bits | u128::MAX >> self.len }
    }
}

/// Ranges by their first addresses, ascending; the first range begins at the first address, each ends before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges<A> {
    starts: Vec<A>,
    values: Vec<u32>,
}

impl<A: Address> Ranges<A> {
    /// One range of which nothing is known.
    pub fn nothing() -> Ranges<A> {
        Ranges { starts: vec![A::FIRST], values: vec![NOTHING] }
    }

    /// From parts that somebody else made; `None` when they are no ranges with values below `values_end` (or
    /// [`NOTHING`]).
    pub fn checked(starts: Vec<A>, values: Vec<u32>, values_end: u32) -> Option<Ranges<A>> {
        let whole = starts.len() == values.len() && starts.first() == Some(&A::FIRST);
        let ascending = || starts.windows(2).all(|pair| pair[0] < pair[1]);
        let known = || values.iter().all(|value| *value < values_end || *value == NOTHING);
        (whole && ascending() && known()).then_some(Ranges { starts, values })
    }

    /// Of networks in any order: the longest wins, of equal ones the last.
    pub fn flatten(mut networks: Vec<Network>) -> Ranges<A> {
        networks.sort_by_key(|network| (network.bits, network.len));
        let mut ranges = Ranges::nothing();
        // Networks around the present one, outermost first.
        let mut around: Vec<Network> = Vec::new();
        for network in networks {
            ranges.leave(&mut around, Some(network.bits));
            ranges.push(A::from_aligned(network.bits), network.value);
            around.push(network);
        }
        ranges.leave(&mut around, None);
        ranges
    }

    /// Leaves the networks that end before `next`: behind each goes on what is around it.
    fn leave(&mut self, around: &mut Vec<Network>, next: Option<u128>) {
        while let Some(left) = around.pop_if(|innermost| next.is_none_or(|next| innermost.last() < next)) {
            if let Some(behind) = left.last().checked_add(1) {
                self.push(A::from_aligned(behind), around.last().map_or(NOTHING, |outer| outer.value));
            }
        }
    }

    /// From `start` on it is `value`. A start that was pushed last is replaced.
    fn push(&mut self, start: A, value: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// `self`, and what `lower` says where `self` knows nothing.
    #[must_use]
    pub fn over(&self, lower: &Ranges<A>) -> Ranges<A> {
        let mut both = Ranges::nothing();
        let (mut upper_at, mut lower_at) = (0, 0);
        loop {
            let (upper, under) = (self.values[upper_at], lower.values[lower_at]);
            let start = self.starts[upper_at].max(lower.starts[lower_at]);
            both.push(start, if upper == NOTHING { under } else { upper });
            match (self.starts.get(upper_at + 1), lower.starts.get(lower_at + 1)) {
                (None, None) => return both,
                (Some(upper), Some(lower)) if upper == lower => (upper_at, lower_at) = (upper_at + 1, lower_at + 1),
                (Some(upper), Some(lower)) if upper > lower => lower_at += 1,
                (None, Some(_)) => lower_at += 1,
                (Some(_), _) => upper_at += 1,
            }
        }
    }

    /// How many; at least one.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Their first addresses.
    pub fn starts(&self) -> &[A] {
        &self.starts
    }

    /// Their values.
    pub fn values(&self) -> &[u32] {
        &self.values
    }
}
