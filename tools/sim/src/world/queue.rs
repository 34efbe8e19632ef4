//! The event queue: what happens next, in order of time, and of being put in where times are equal.
//!
//! ```text
//!  now |slot|slot|slot| ......... 4.2 s of slots of 256 us .........|  far: a heap
//!        ^ sorted when it is reached; what is put into it later goes through a small heap beside it
//! ```
//! A timing wheel: putting in is a push, taking out is a share of one sort of a slot. Nearly every event lies within the
//! wheel (a tick, a message's flight); sessions and faults lie in the heap until the wheel has turned to them.
//!
//! A slot is a chain of blocks of a few events, and the blocks of a slot that is over are the next to be filled: so the
//! queue takes the memory of what waits in it and no more, and what is written to was read a moment ago.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use cache_core::time::Time;

const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << 14;

/// Events of a block: few, because most slots hold a single timer until their time is near.
const BLOCK: usize = 8;

/// No block.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry<E> {
    at: u64,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Entry<E> {
    const fn key(&self) -> (u64, u64) {
        (self.at, self.order)
    }
}

/// A part of a slot.
#[derive(Debug)]
struct Block<E> {
    entries: Vec<Entry<E>>,
    /// The block of the same slot that was filled before this one.
    before: u32,
}

/// Events in the order of their times.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// The block of each slot that is being filled.
    slots: Vec<u32>,
    blocks: Vec<Block<E>>,
    /// Blocks of no slot, the last emptied one last.
    free: Vec<u32>,
    /// The slot that is being emptied, counted from time zero.
    present: u64,
    /// What was in it when it was reached, the latest first.
    sorted: Vec<Entry<E>>,
    /// How many of those [`Queue::coming`] has not shown yet.
    unseen: usize,
    /// What was put into it since.
    late: BinaryHeap<Reverse<Entry<E>>>,
    far: BinaryHeap<Reverse<Entry<E>>>,
    order: u64,
    waiting: usize,
}

impl<E> Queue<E> {
    /// Empty, at time zero.
    pub(crate) fn new() -> Queue<E> {
        Queue {
            slots: vec![NONE; SLOTS],
            blocks: Vec::new(),
            free: Vec::new(),
            present: 0,
            sorted: Vec::new(),
            unseen: 0,
            late: BinaryHeap::new(),
            far: BinaryHeap::new(),
            order: 0,
            waiting: 0,
        }
    }

    /// Events waiting.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Puts in an event. A time that is past counts as now.
    pub(crate) fn put(&mut self, at: Time, event: E) {
        self.order += 1;
        self.waiting += 1;
        let entry = Entry { at: at.micros(), order: self.order, event };
        let slot = entry.at >> SLOT_BITS;
        if slot <= self.present {
            self.late.push(Reverse(entry));
        } else if slot - self.present < SLOTS as u64 {
            self.fill(slot, entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// Puts an entry into a slot of the wheel.
    fn fill(&mut self, slot: u64, entry: Entry<E>) {
        let filling = &mut self.slots[slot as usize % SLOTS];
        if *filling == NONE || self.blocks[*filling as usize].entries.len() == BLOCK {
            let next = self.free.pop().unwrap_or_else(|| {
                self.blocks.push(Block { entries: Vec::with_capacity(BLOCK), before: NONE });
                self.blocks.len() as u32 - 1
            });
            self.blocks[next as usize].before = *filling;
            *filling = next;
        }
        self.blocks[*filling as usize].entries.push(entry);
    }

    /// Takes a slot's entries out, in no order.
    fn empty(&mut self, slot: u64) {
        let mut block = std::mem::replace(&mut self.slots[slot as usize % SLOTS], NONE);
        while block != NONE {
            let Block { entries, before } = &mut self.blocks[block as usize];
            self.sorted.append(entries);
            self.free.push(block);
            block = *before;
        }
    }

    /// The next event up to `until`, and its time.
    pub(crate) fn take(&mut self, until: Time) -> Option<(Time, E)> {
        loop {
            let sorted = self.sorted.last().map(Entry::key);
            let late = self.late.peek().map(|Reverse(entry)| entry.key());
            let next = match (sorted, late) {
                (None, None) => {
                    if !self.turn(until) {
                        return None;
                    }
                    continue;
                }
                (Some(key), Some(other)) => key.min(other),
                (Some(key), None) | (None, Some(key)) => key,
            };
            if next.0 > until.micros() {
                return None;
            }
            let entry = if Some(next) == sorted { self.sorted.pop() } else { self.late.pop().map(|Reverse(e)| e) }?;
            self.waiting -= 1;
            return Some((Time::from_micros(entry.at), entry.event));
        }
    }

    /// Up to `count` events that are soon to be taken, when all that were shown before have been; each is shown once.
    pub(crate) fn coming(&mut self, count: usize) -> impl Iterator<Item = &E> {
        let left = self.sorted.len();
        let shown = if left > self.unseen { 0 } else { count.min(left) };
        self.unseen = self.unseen.min(left) - shown;
        self.sorted[self.unseen..self.unseen + shown].iter().map(|entry| &entry.event)
    }

    /// Goes on to the next slot with something in it, not beyond `until`; false when there is none.
    fn turn(&mut self, until: Time) -> bool {
        let last = until.micros() >> SLOT_BITS;
        if self.waiting == 0 {
            return false;
        }
        while self.present < last {
            self.present += 1;
            self.empty(self.present);
            // One slot at a time comes into reach of the wheel, and it may hold the present one.
            while let Some(Reverse(entry)) = self.far.peek()
                && (entry.at >> SLOT_BITS) < self.present + SLOTS as u64
            {
                let Some(Reverse(entry)) = self.far.pop() else { break };
                match entry.at >> SLOT_BITS {
                    at if at <= self.present => self.late.push(Reverse(entry)),
                    at => self.fill(at, entry),
                }
            }
            if !self.sorted.is_empty() {
                self.sorted.sort_unstable_by_key(|entry| Reverse(entry.key()));
                self.unseen = self.sorted.len();
                return true;
            }
            if !self.late.is_empty() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use cache_core::prng::Prng;
    use cache_core::time::Span;

    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_being_put_in() {
        let (mut queue, mut rng) = (Queue::new(), Prng::new(5));
        let mut expected = Vec::new();
        for number in 0..5_000u64 {
            // Near, in one slot, and far beyond the wheel.
            let at = [rng.below(300), rng.below(4_000_000), rng.below(60_000_000)][rng.below(3)] as u64;
            queue.put(Time::from_micros(at), number);
            expected.push((at, number));
        }
        expected.sort_unstable();
        let mut taken = Vec::new();
        while let Some((at, number)) = queue.take(Time::from_millis(1_000_000)) {
            taken.push((at.micros(), number));
        }
        assert_eq!(taken, expected);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_comes_next_is_shown_once_and_early() {
        let mut queue = Queue::new();
        (0..10).for_each(|number| queue.put(Time::from_micros(300 + number), number));
        let mut seen = Vec::new();
        for taken in 0..10 {
            assert_eq!(queue.take(Time::NEVER).map(|(_, number)| number), Some(taken));
            queue.put(Time::from_micros(300 + taken), 100);
            assert_eq!(queue.take(Time::NEVER).map(|(_, number)| number), Some(100), "put in on the way, never shown");
            let mut shown: Vec<u64> = queue.coming(4).copied().collect();
            shown.sort_unstable();
            assert!(shown.iter().all(|number| *number > taken));
            seen.extend(shown);
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(queue.coming(4).count(), 0);
    }

    #[test]
    fn the_memory_is_that_of_what_waits_however_long_it_runs() {
        let mut queue = Queue::new();
        (0..1_000).for_each(|number| queue.put(Time::from_micros(number), number));
        for _ in 0..100_000 {
            let (at, number) = queue.take(Time::NEVER.before(Span::from_secs(1))).expect("as many wait as ever");
            queue.put(at.after(Span::from_millis(50)), number);
        }
        // One more than is full for each slot in which something may wait.
        let most = 1_000 / BLOCK + 50_000 / (1 << SLOT_BITS) + 2;
        assert!(queue.blocks.len() <= most, "{} blocks", queue.blocks.len());
    }

    #[test]
    fn what_is_put_in_on_the_way_finds_its_place() {
        let mut queue = Queue::new();
        queue.put(Time::from_micros(1_000), 1);
        queue.put(Time::from_micros(1_010), 3);
        queue.put(Time::from_micros(10_000_000), 9);
        assert_eq!(queue.take(Time::NEVER), Some((Time::from_micros(1_000), 1)));
        queue.put(Time::from_micros(1_010), 4);
        queue.put(Time::from_micros(1_005), 2);
        queue.put(Time::from_micros(1_100), 5);
        assert_eq!(queue.take(Time::from_micros(1_009)), Some((Time::from_micros(1_005), 2)));
        assert_eq!(queue.take(Time::from_micros(1_009)), None);
        let rest: Vec<u64> = std::iter::from_fn(|| queue.take(Time::from_millis(20_000)).map(|(_, e)| e)).collect();
        assert_eq!(rest, [3, 4, 5, 9]);
    }
}
