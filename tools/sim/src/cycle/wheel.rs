//! An event queue for bounded delays: one bucket per tick, in a ring.
//!
//! ```text
//!  now                                       now + 2^k - 1
//!   | [e e e] [ ] [e] [e e] ... [e] [ ] [e e] |
//! ```
//! Putting in and taking out cost one append each, whatever is waiting. Events of one tick come out in the order in which
//! they were put in, so that a run is repeatable. Delays are 1 to the ring's length less 1.

/// The queue. `E` is small: it is copied.
#[derive(Debug)]
pub struct Wheel<E> {
    buckets: Vec<Vec<E>>,
    spare: Vec<E>,
    now: u64,
    waiting: usize,
    most: usize,
}

impl<E: Copy> Wheel<E> {
    /// A queue for delays up to `delay_max` ticks.
    pub fn new(delay_max: u64) -> Wheel<E> {
        let slots = (delay_max + 1).next_power_of_two();
        Wheel { buckets: (0..slots).map(|_| Vec::new()).collect(), spare: Vec::new(), now: 0, waiting: 0, most: 0 }
    }

    /// The tick.
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// The most events that ever waited at once.
    pub const fn most_waiting(&self) -> usize {
        self.most
    }

    /// Puts `event` in, `delay` ticks from now. A delay of 0 or beyond the ring is a mistake of the caller.
    pub fn push(&mut self, delay: u64, event: E) {
        debug_assert!(delay > 0 && delay < self.buckets.len() as u64);
        let slot = (self.now + delay) as usize & (self.buckets.len() - 1);
        self.buckets[slot].push(event);
        self.waiting += 1;
        self.most = self.most.max(self.waiting);
    }

    /// Goes to the next tick and gives its events. Hand the vector back to [`Wheel::done`], so that its memory is used again.
    pub fn next_tick(&mut self) -> Vec<E> {
        self.now += 1;
        let slot = self.now as usize & (self.buckets.len() - 1);
        let due = std::mem::replace(&mut self.buckets[slot], std::mem::take(&mut self.spare));
        self.waiting -= due.len();
        due
    }

    /// Takes back what [`Wheel::next_tick`] gave.
    pub fn done(&mut self, mut due: Vec<E>) {
        due.clear();
        self.spare = due;
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.buckets.iter().chain([&self.spare]).map(|b| b.capacity() * size_of::<E>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use cache_core::prng::Prng;

    use super::*;

    #[test]
    fn every_event_comes_at_its_tick_and_in_order() {
        let (mut wheel, mut rng) = (Wheel::new(37), Prng::new(4));
        let (mut put, mut came) = (0u64, 0u64);
        for _ in 0..500 {
            for _ in 0..3 {
                let delay = 1 + rng.below(37) as u64;
                wheel.push(delay, (wheel.now() + delay, put));
                put += 1;
            }
            let due = wheel.next_tick();
            assert!(due.iter().all(|(at, _)| *at == wheel.now()));
            assert!(due.is_sorted(), "first in, first out");
            came += due.len() as u64;
            wheel.done(due);
        }
        for _ in 0..37 {
            came += wheel.next_tick().len() as u64;
        }
        assert_eq!((put, came), (1_500, 1_500));
    }
}
