//! Which shard a connection goes to: the least loaded one, whoever has accepted it.
//!
//! The kernel deals connections out by a hash of their addresses: some shards get more than others, and all of them when
//! the others' listeners are not asked (one listener, one port per shard). So a shard that has accepted a connection
//! compares what each shard says of itself and passes the descriptor on.
//!
//! ```text
//!            publishes                         reads, at accept only
//!  shard 0 ------------> [ load 0 ] <-------------------------------+
//!  shard 1 ------------> [ load 1 ] <-----------------------------  shard 2: the least is 1
//!  shard 2 ------------> [ load 2 ]                                 |
//!             takes                                 gives, rings    |
//!  shard 1 <------------ [ descriptors for 1 ] <--------------------+
//! ```
//! # Concepts
//! - A shard's **load** is its connections, each at what one costs: all alike until a shard is half busy, from then on
//!   what its own have cost (so that a shard whose processor has other work gets fewer). Descriptors on their way to it
//!   count as connections.
//! - A shard's **place** is its own end. Dropped, or left, nobody is given to any more.
//! - Nothing is ever lost: a full or left place gives the descriptor back, and what was under way when a place was left is
//!   taken out again by its owner or by the giver. *Left, then looked at what is there* on one side, *given, then looked
//!   whether it was left* on the other, a full fence between: one of the two sees the other.
//!
//! # What is shared
//! A load is written by its shard alone, on cache lines of its own, when its connections change. The queues are written by
//! two shards, at accept, never when chunks are sent.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use cache_core::proto::cache::admission::VIEWER_PPM_MIN;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::uring::Doorbell;

/// Descriptors on their way to one shard: as many as a shard takes in one turn at the most (our guess); a crowd that is
/// faster stays where it was accepted.
const GIVEN_MAX: usize = 256;

/// A shard less busy than this does not know what a connection costs it: the work that it has anyway is most of what is
/// measured (our guess).
const TELLING_PERMILLE: u16 = 500;

/// The load of a place that takes nothing.
const LEFT: u64 = u64::MAX;

/// The load of a place that has no room at the moment.
const FULL: u64 = u64::MAX - 1;

/// What one shard shows to the others.
#[derive(Debug)]
struct Place<T> {
    /// Cost of a connection in millionths of a core, and the number of connections; [`FULL`]; [`LEFT`].
    load: CachePadded<AtomicU64>,
    given: ArrayQueue<T>,
    doorbell: OnceLock<Arc<Doorbell>>,
}

/// The shards of one cache, as they know each other.
#[derive(Debug)]
pub struct Siblings<T = OwnedFd> {
    places: Box<[Place<T>]>,
}

impl<T> Siblings<T> {
    /// Places for `count` shards; nobody has taken one.
    pub fn new(count: usize) -> Siblings<T> {
        let place = || Place {
            load: CachePadded::new(AtomicU64::new(LEFT)),
            given: ArrayQueue::new(GIVEN_MAX),
            doorbell: OnceLock::new(),
        };
        Siblings { places: (0..count).map(|_| place()).collect() }
    }

    /// Takes place `index`, once; `doorbell` is rung when something was given. A shard without a place (an index out of
    /// range) keeps what it accepts.
    pub(super) fn take_place(self: &Arc<Self>, index: u32, doorbell: Arc<Doorbell>) -> Own<T> {
        if let Some(place) = self.places.get(index as usize) {
            let _ = place.doorbell.set(doorbell);
        }
        let mut own = Own { siblings: self.clone(), index: index as usize, told: LEFT, has_left: false };
        own.publish(0, 0);
        own
    }
}

/// A shard's own end.
#[derive(Debug)]
pub(super) struct Own<T = OwnedFd> {
    siblings: Arc<Siblings<T>>,
    index: usize,
    /// What the others were told last.
    told: u64,
    has_left: bool,
}

/// Where a connection is to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Given<T> {
    /// Kept: nobody has less to do, or nobody has room.
    Kept(T),
    /// Another shard has it.
    Passed,
}

impl<T> Own<T> {
    /// Tells the others how loaded this shard is.
    pub(super) fn publish(&mut self, connections: u32, busy_permille: u16) {
        self.tell(encode(connections, busy_permille));
    }

    /// Tells the others that this shard has no room, until the next [`Own::publish`].
    pub(super) fn full(&mut self) {
        self.tell(FULL);
    }

    /// Written only when it is news, so that those who read it do not fetch it each time.
    fn tell(&mut self, load: u64) {
        if load != self.told && !self.has_left {
            self.told = load;
            if let Some(place) = self.place() {
                place.load.store(load, Ordering::Relaxed);
            }
        }
    }

    /// Gives `item` to the least loaded shard, which may be this one. Cost: one load for each shard; a system call when
    /// it is another's.
    pub(super) fn give(&self, item: T) -> Given<T> {
        let places = &self.siblings.places;
        let Some(own) = self.place() else { return Given::Kept(item) };
        let Some(least) = places.iter().min_by_key(|place| (place.weight(), !std::ptr::eq(*place, own))) else {
            return Given::Kept(item);
        };
        if std::ptr::eq(least, own) || least.weight() >= FULL {
            return Given::Kept(item);
        }
        if let Err(item) = least.given.push(item) {
            return Given::Kept(item);
        }
        fence(Ordering::SeqCst);
        // Left meanwhile: its owner has looked, or will look, or has not seen this one; then it is taken back here.
        if least.load.load(Ordering::Relaxed) == LEFT
            && let Some(item) = least.given.pop()
        {
            return Given::Kept(item);
        }
        if let Some(doorbell) = least.doorbell.get() {
            doorbell.ring();
        }
        Given::Passed
    }

    /// The next that was given to this shard.
    pub(super) fn taken(&self) -> Option<T> {
        self.place()?.given.pop()
    }

    /// Nobody is given to this shard from now on, but for what [`Own::taken`] still finds.
    pub(super) fn leave(&mut self) {
        self.has_left = true;
        if let Some(place) = self.place() {
            place.load.store(LEFT, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    fn place(&self) -> Option<&Place<T>> {
        self.siblings.places.get(self.index)
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        self.leave();
        while self.taken().is_some() {}
    }
}

impl<T> Place<T> {
    /// Millionths of a core that its connections cost, those under way included.
    fn weight(&self) -> u64 {
        match self.load.load(Ordering::Relaxed) {
            none @ (FULL | LEFT) => none,
            load => (load >> 32).saturating_mul((load & u64::from(u32::MAX)) + self.given.len() as u64),
        }
    }
}

fn encode(connections: u32, busy_permille: u16) -> u64 {
    let measured = u64::from(busy_permille) * 1_000 / u64::from(connections.max(1));
    let cost = if busy_permille < TELLING_PERMILLE { VIEWER_PPM_MIN } else { measured.max(VIEWER_PPM_MIN) };
    (cost << 32) | u64::from(connections)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Shards with these connections and busy shares.
    fn shards(loads: &[(u32, u16)]) -> Vec<Own<u32>> {
        let siblings = Arc::new(Siblings::new(loads.len()));
        let bell = || Arc::new(Doorbell::polled().expect("a descriptor"));
        let mut own: Vec<_> = (0..loads.len()).map(|index| siblings.take_place(index as u32, bell())).collect();
        for (own, (connections, busy)) in own.iter_mut().zip(loads) {
            own.publish(*connections, *busy);
        }
        own
    }

    /// To whom shard 0 gives `count` connections, none of which is taken meanwhile.
    fn dealt(loads: &[(u32, u16)], count: u32) -> Vec<usize> {
        let mut shards = shards(loads);
        let mut kept = loads[0].0;
        for item in 0..count {
            if let Given::Kept(_) = shards[0].give(item) {
                kept += 1;
                shards[0].publish(kept, loads[0].1);
            }
        }
        let rest = shards[1..].iter().map(|shard| std::iter::from_fn(|| shard.taken()).count());
        std::iter::once((kept - loads[0].0) as usize).chain(rest).collect()
    }

    #[test]
    fn a_connection_goes_to_the_least_loaded_and_those_under_way_count() {
        assert_eq!(dealt(&[(0, 0), (0, 0), (0, 0)], 90), [30, 30, 30]);
        assert_eq!(dealt(&[(20, 100), (0, 0), (10, 300)], 30), [0, 20, 10]);
        assert_eq!(dealt(&[(5, 0)], 3), [3], "alone");
    }

    #[test]
    fn who_is_busy_for_few_gets_fewer() {
        // A thousandth of a core each here, a ten-thousandth there.
        assert_eq!(dealt(&[(900, 900), (0, 0)], 100), [0, 100]);
        assert_eq!(dealt(&[(100, 0), (600, 600)], 50), [50, 0]);
    }

    #[test]
    fn a_full_queue_and_a_left_place_keep_the_connection_where_it_is() {
        assert_eq!(dealt(&[(100_000, 0), (0, 0)], 300), [300 - GIVEN_MAX, GIVEN_MAX]);
        let mut shards = shards(&[(100, 0), (0, 0)]);
        shards[1].full();
        assert_eq!(shards[0].give(1), Given::Kept(1));
        shards[1].leave();
        shards[1].publish(0, 0);
        assert_eq!(shards[0].give(1), Given::Kept(1));
        shards.truncate(1);
        assert_eq!(shards[0].give(1), Given::Kept(1));
    }

    #[test]
    fn nothing_is_lost_to_a_shard_that_leaves_while_it_is_given_to() {
        const ITEMS: u32 = 2_000;
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        for round in 0..200 {
            let siblings = Arc::new(Siblings::<Counted>::new(2));
            let bell = || Arc::new(Doorbell::polled().expect("a descriptor"));
            let (mut giver, taker) = (siblings.take_place(0, bell()), siblings.take_place(1, bell()));
            let gone = Arc::new(AtomicUsize::new(0));
            giver.publish(u32::MAX, 0);
            let thread = std::thread::spawn(move || {
                // It leaves after so many looks, found or not.
                for _ in 0..round * 10 {
                    taker.taken();
                }
            });
            for _ in 0..ITEMS {
                giver.give(Counted(gone.clone()));
            }
            assert!(thread.join().is_ok());
            assert_eq!(gone.load(Ordering::Relaxed), ITEMS as usize, "each was kept, taken, or closed by who left");
        }
    }

    #[test]
    fn a_load_shares_its_cache_lines_with_nothing() {
        assert!(align_of::<Place<OwnedFd>>() >= 64 && size_of::<CachePadded<AtomicU64>>() >= 64);
        assert_eq!(std::mem::offset_of!(Place<OwnedFd>, load) % align_of::<CachePadded<AtomicU64>>(), 0);
    }
}
