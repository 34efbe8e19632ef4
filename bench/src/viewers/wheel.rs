//! Alarms of one thread's viewers: a wheel of slots of one millisecond.
//!
//! ```text
//!  slots   0 1 2 3 ... 255 0 1 ...      an alarm lies in the slot of its millisecond, whatever its lap;
//!              ^ now                    a slot is looked through when its millisecond begins and while it lasts
//! ```
//! Setting and ringing cost nothing but a push and a swap; a slot keeps its memory. Precise to the microsecond: an alarm
//! never rings before its moment, and at the first turn behind it.

/// More than a paced viewer's 200 ms, so that most alarms are looked at once.
const SLOTS: u64 = 256;
const SLOT_US: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Alarm<T> {
    when_us: u64,
    what: T,
}

#[derive(Debug)]
pub(super) struct Wheel<T> {
    slots: Vec<Vec<Alarm<T>>>,
    /// The slot (counted from time 0) that was looked through last.
    at: u64,
    count: usize,
}

impl<T: Copy> Wheel<T> {
    pub(super) fn new(now_us: u64) -> Wheel<T> {
        Wheel { slots: (0..SLOTS).map(|_| Vec::new()).collect(), at: now_us / SLOT_US, count: 0 }
    }

    /// Rings `what` at `when_us`; at once when that has passed.
    pub(super) fn set(&mut self, when_us: u64, what: T) {
        let slot = (when_us / SLOT_US).max(self.at);
        self.slots[(slot % SLOTS) as usize].push(Alarm { when_us, what });
        self.count += 1;
    }

    /// Moves what has its time come by `now_us` to `due`.
    pub(super) fn ring(&mut self, now_us: u64, due: &mut Vec<T>) {
        let to = (now_us / SLOT_US).max(self.at);
        // After a long pause each slot once is enough.
        let from = self.at.max(to.saturating_sub(SLOTS - 1));
        for slot in from..=to {
            if self.count == 0 {
                break;
            }
            let slot = &mut self.slots[(slot % SLOTS) as usize];
            let before = slot.len();
            let mut at = 0;
            while at < slot.len() {
                if slot[at].when_us <= now_us {
                    due.push(slot.swap_remove(at).what);
                } else {
                    at += 1;
                }
            }
            self.count -= before - slot.len();
        }
        self.at = to;
    }

    /// How long nothing rings: at most until the end of the first slot with an alarm, and no longer than `max_us`.
    pub(super) fn quiet_us(&self, now_us: u64, max_us: u64) -> u64 {
        if self.count == 0 {
            return max_us;
        }
        let slots = 1 + max_us.div_ceil(SLOT_US).min(SLOTS - 1);
        for slot in self.at..self.at + slots {
            let first = self.slots[(slot % SLOTS) as usize].iter().map(|alarm| alarm.when_us).min();
            // One of a later lap does not count.
            if let Some(first) = first.filter(|first| *first < (slot + 1) * SLOT_US) {
                return first.saturating_sub(now_us).min(max_us);
            }
        }
        max_us
    }
}

#[cfg(test)]
mod tests {
    use cache_core::prng::Prng;

    use super::*;

    #[test]
    fn alarms_ring_once_never_early_and_at_the_first_turn_behind_their_moment() {
        let mut chance = Prng::new(3);
        let mut wheel = Wheel::new(1_000_000);
        let mut set: Vec<(u64, u64)> = Vec::new();
        let (mut now, mut due) = (1_000_000, Vec::new());
        for what in 0..20_000 {
            let when = (now + chance.below(600_000) as u64).saturating_sub(50_000);
            wheel.set(when, what);
            set.push((when, what));
            now += chance.below(if what % 100 == 0 { 400_000 } else { 900 }) as u64;
            wheel.ring(now, &mut due);
            let mut expected: Vec<u64> = set.iter().filter(|(when, _)| *when <= now).map(|(_, what)| *what).collect();
            set.retain(|(when, _)| *when > now);
            due.sort_unstable();
            expected.sort_unstable();
            assert_eq!(due, expected, "at {now}");
            due.clear();
            let quiet = wheel.quiet_us(now, 50_000);
            let first = set.iter().map(|(when, _)| when - now).min().unwrap_or(u64::MAX);
            assert!(quiet <= first && (quiet == first || quiet == 50_000), "{quiet} us, {first} us");
        }
    }
}
