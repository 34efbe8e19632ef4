//! Whether a shard takes one more viewer, how many connections a cache takes, and how loaded it says it is.
//!
//! The paper's eq. (2) limits a peer by its uplink. A cache is given a budget of its own: the busy share of a shard, the
//! time in which a chunk reaches its last viewer, bytes per second, memory, descriptors.
//!
//! ```text
//!            measurement (4 a second)         joins until the next one
//!  limit ----------------------------------------------------------------  over it: closed, until the
//!                                      +---+ each join is booked at what    measurement is down here
//!  9/10  -----------------------  +---+      a viewer has cost so far  ----------------------------
//!        measured   ############--+
//! ```
//! A viewer costs what the viewers so far cost on average, and never less than the least that was ever measured: so that
//! a crowd that comes between two measurements is turned away in time, before those who watch are late. What was booked
//! is forgotten when a measurement has seen it ([`UNSEEN_SLOTS`]).
//!
//! One machine per shard; what shards share (bytes per second, memory) is told to each as its part ([`Room`]). It knows
//! no connection: who must not be refused (publishers, other caches) is not asked about.

use crate::time::Span;

/// How often a shard measures itself.
pub const MEASURED_EVERY: Span = Span::from_millis(250);

/// Measurements until a join is seen by one in full: a second's window, and the one that it fell into.
pub const UNSEEN_SLOTS: usize = 5;

/// The least share of a core that a viewer costs, in millionths: measured 11 937 peers of a 2 Mbit/s stream pushed by one
/// core, on loopback, with sendfile from huge pages.
pub const VIEWER_PPM_MIN: u64 = 83;

/// Fewer viewers than this say nothing of what one costs: the shard's own work is then most of what is measured (our
/// guess).
const VIEWERS_TELLING: u64 = 64;

/// Bytes per second of a viewer while there is none to learn from: 2 Mbit/s.
const VIEWER_BYTES_PER_S: u64 = 250_000;

/// Memory of a viewer: under 1 KB of the shard's and 8 to 10 KB of the kernel's (measured for both ends), and what its
/// socket holds of messages; chunks are the ring's own pages (our guess, rounded up).
pub const VIEWER_MEMORY_BYTES: u64 = 16 << 10;

/// Memory of a source beside its chunks' room in the ring: what an upload over HTTP is read into.
const SOURCE_MEMORY_BYTES: u64 = 64 << 10;

/// Memory of a source (a publisher, an upload over HTTP, a pull) whose chunks have so many payload bytes, at the most: a chunk is
/// received, checked and cut in the connection's own memory, in buffers that grow by doubling (from the code; a thousand native
/// publishers of 2 Mbit/s took some 100 KiB each, `perf/results/2026-11-22-publishers.json`). The kernel's socket is not counted.
pub const fn source_memory_bytes(payload_bytes: u64) -> u64 {
    SOURCE_MEMORY_BYTES.saturating_add(payload_bytes.saturating_mul(4))
}

/// Memory that must be left before joins are taken again after it was short: that of a thousand viewers (our guess).
const MEMORY_REOPEN_BYTES: u64 = 1_000 * VIEWER_MEMORY_BYTES;

/// Measurements for which a shard that has run out of descriptors refuses: the next try would find none either (our
/// guess: 1 s).
const DESCRIPTORS_SHORT_SLOTS: u8 = 4;

/// Fan-out time is smoothed: a quarter of each measurement, so that one chunk that was held up closes nothing and a second
/// of late ones does (our guess).
const FANOUT_SHARE: u64 = 4;

/// What a shard may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most of its time that a shard may be at work, in thousandths. 1000: no limit.
    pub busy_permille_max: u16,
    /// Longest time until the last viewer of a chunk has had its turn.
    pub fanout_max: Span,
}

impl Default for Budget {
    /// 900: the last tenth is what a burst needs (our guess). 150 ms: lateness stays under 200 ms, a chunk's length.
    fn default() -> Budget {
        Budget { busy_permille_max: 900, fanout_max: Span::from_millis(150) }
    }
}

/// What a shard has measured of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Share of the last second at work.
    pub busy_permille: u16,
    /// Longest fan-out that ended, or has lasted, since the last measurement.
    pub fanout: Span,
    /// Viewers now, and other caches, which are sent as much.
    pub viewers: u32,
    /// Chunk bytes sent, per second, over the last second.
    pub bytes_per_s: u64,
}

/// A shard's part of what the whole node has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes per second of the node's limit that are not used; `u64::MAX`: no limit.
    pub bytes_per_s: u64,
    /// The node's limit in bytes per second, divided by the number of shards; `u64::MAX`: no limit.
    pub bytes_per_s_max: u64,
    /// Memory above the reserve.
    pub memory_bytes: u64,
}

impl Room {
    /// No limit.
    pub const UNLIMITED: Room = Room { bytes_per_s: u64::MAX, bytes_per_s_max: u64::MAX, memory_bytes: u64::MAX };
}

macro_rules! reasons {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a join is refused. The codes are those of the shards' `admission` gauge; 0 is open.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason { $($(#[$meta])* $name = $code,)* }

        impl Reason {
            /// Every reason, the gravest first.
            pub const ALL: [Reason; [$($code),*].len()] = [$(Reason::$name),*];
            /// One word for reports.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
            /// The reason with this code; `None` for 0 and for what is no code.
            pub fn from_code(code: u64) -> Option<Reason> {
                Reason::ALL.into_iter().find(|reason| *reason as u64 == code)
            }
        }
    };
}

reasons! {
    /// Descriptors have run out.
    Descriptors = 1, "descriptors";
    /// Memory is down to its reserve.
    Memory = 2, "memory";
    /// As many bytes per second go out as may.
    Bandwidth = 3, "bandwidth";
    /// A chunk takes too long until its last viewer has had it.
    Fanout = 4, "fanout";
    /// The shard's processor has no time left.
    Busy = 5, "busy";
}

/// Admits or refuses the joins of one shard.
#[derive(Clone, Debug)]
pub struct Admission {
    budget: Budget,
    load: Load,
    /// Viewers that the last measurement has seen in full.
    seen: u64,
    fanout: Span,
    room: Room,
    /// Which reasons hold until a measurement ends them; by code.
    closed: [bool; Reason::ALL.len() + 1],
    descriptors_short: u8,
    /// Joins by the measurement that they came after, the newest first.
    unseen: [u32; UNSEEN_SLOTS],
}

impl Admission {
    /// A shard at rest, with as much room as it wants.
    pub fn new(budget: Budget) -> Admission {
        Admission {
            budget,
            load: Load::default(),
            seen: 0,
            fanout: Span::ZERO,
            room: Room::UNLIMITED,
            closed: Default::default(),
            descriptors_short: 0,
            unseen: [0; UNSEEN_SLOTS],
        }
    }

    /// The shard has measured itself: to be called every [`MEASURED_EVERY`].
    pub fn measured(&mut self, load: Load) {
        self.unseen.rotate_right(1);
        self.unseen[0] = 0;
        self.load = load;
        self.seen = u64::from(load.viewers).saturating_sub(self.unseen());
        let part = load.fanout.micros() / FANOUT_SHARE;
        self.fanout = Span::from_micros(self.fanout.micros() - self.fanout.micros() / FANOUT_SHARE + part);
        self.descriptors_short = self.descriptors_short.saturating_sub(1);
        let busy_max = self.busy_max();
        self.judge(Reason::Busy, u64::from(load.busy_permille), busy_max);
        self.judge(Reason::Fanout, self.fanout.micros(), self.budget.fanout_max.micros());
    }

    /// What the node has left has changed.
    pub fn room(&mut self, room: Room) {
        self.room = room;
        let used = room.bytes_per_s_max.saturating_sub(room.bytes_per_s);
        self.judge(Reason::Bandwidth, used, room.bytes_per_s_max);
        let memory = &mut self.closed[Reason::Memory as usize];
        *memory = room.memory_bytes < if *memory { MEMORY_REOPEN_BYTES } else { VIEWER_MEMORY_BYTES };
    }

    /// A connection could not be taken for want of a descriptor.
    pub fn descriptors_short(&mut self) {
        self.descriptors_short = DESCRIPTORS_SHORT_SLOTS;
    }

    /// Why no join is taken at the moment, however few come.
    pub fn closed(&self) -> Option<Reason> {
        let short = self.descriptors_short > 0;
        Reason::ALL
            .into_iter()
            .find(|reason| self.closed[*reason as usize] || (short && *reason == Reason::Descriptors))
    }

    /// What is left of the scarcest of time, fan-out and bytes per second, in thousandths of what may be spent: 1000 idle,
    /// 0 full. Peers are told, and lean on the cache accordingly. Memory and descriptors are spent by connections, whatever
    /// is asked on them, and do not count.
    pub fn spare_permille(&self) -> u16 {
        if [Reason::Bandwidth, Reason::Fanout, Reason::Busy].iter().any(|reason| self.closed[*reason as usize]) {
            return 0;
        }
        let spent = |of: u64, max: u64| of.saturating_mul(1_000) / max.max(1);
        let bytes = self.room.bytes_per_s_max.saturating_sub(self.room.bytes_per_s);
        let most = spent(self.load.busy_permille.into(), self.busy_max().min(1_000))
            .max(spent(self.fanout.micros(), self.budget.fanout_max.micros()))
            .max(spent(bytes, self.room.bytes_per_s_max));
        1_000 - most.min(1_000) as u16
    }

    /// One more viewer asks to be served: books it, or says why not. Cost: some arithmetic.
    pub fn join(&mut self) -> Result<(), Reason> {
        if let Some(reason) = self.closed() {
            return Err(reason);
        }
        let more = self.unseen() + 1;
        let busy_ppm = u64::from(self.load.busy_permille) * 1_000;
        let fanout = self.fanout.micros();
        let bytes = self.load.bytes_per_s.checked_div(self.seen).unwrap_or(VIEWER_BYTES_PER_S);
        let telling = self.seen.max(VIEWERS_TELLING);
        let over = |sum: u64, max: u64| sum > max;
        let refused = [
            (Reason::Memory, over(more * VIEWER_MEMORY_BYTES, self.room.memory_bytes)),
            (Reason::Bandwidth, over(more.saturating_mul(bytes), self.room.bytes_per_s)),
            (Reason::Fanout, over(fanout + more * fanout / telling, self.budget.fanout_max.micros())),
            (
                Reason::Busy,
                over(busy_ppm + more * (busy_ppm / telling).max(VIEWER_PPM_MIN), self.busy_max().saturating_mul(1_000)),
            ),
        ];
        match refused.into_iter().find(|(_, over)| *over) {
            Some((reason, _)) => Err(reason),
            None => {
                self.unseen[0] += 1;
                Ok(())
            }
        }
    }

    /// Joins that are not yet in what was measured.
    fn unseen(&self) -> u64 {
        self.unseen.iter().map(|joins| u64::from(*joins)).sum()
    }

    fn busy_max(&self) -> u64 {
        match self.budget.busy_permille_max {
            1_000.. => u64::MAX,
            max => u64::from(max),
        }
    }

    /// Closed from its limit on, open again at nine tenths of it.
    fn judge(&mut self, reason: Reason, value: u64, max: u64) {
        let closed = &mut self.closed[reason as usize];
        *closed = value >= if *closed { max / 10 * 9 } else { max };
    }
}

/// Memory of the host or cgroup that viewers leave free, in MiB, unless the configuration says otherwise (our guess).
pub const MEMORY_RESERVE_MIB: u64 = 64;

/// Descriptors that a cache needs beside its connections: rings, slab, logs, sockets of the control plane, three per
/// shard (our guess, rounded up).
pub const DESCRIPTORS_RESERVED: u64 = 128;

/// Fewest connections that are worth starting for (our guess).
pub const CONNECTIONS_MIN: u32 = 16;

/// The process may open too few descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {have} descriptors may be open, at least {need} are needed: raise the limit (ulimit -n, LimitNOFILE=)")]
pub struct TooFewDescriptors {
    /// The limit found.
    pub have: u64,
    /// The least that works.
    pub need: u64,
}

/// The connections to take: what was asked for, or less when descriptors do not suffice. `wanted` 0 means as many as
/// there are descriptors for.
pub fn connections_limit(wanted: u32, descriptors: u64) -> Result<u32, TooFewDescriptors> {
    let need = DESCRIPTORS_RESERVED + u64::from(CONNECTIONS_MIN);
    if descriptors < need {
        return Err(TooFewDescriptors { have: descriptors, need });
    }
    let room = u32::try_from(descriptors - DESCRIPTORS_RESERVED).unwrap_or(u32::MAX);
    Ok(if wanted == 0 { room } else { wanted.min(room) })
}

/// The load of a cache that takes no viewers: the index names it when no other is left.
pub const LOAD_FULL: u16 = 1_000;

/// Load for the index, 0 idle to 1000 full: the fuller of connections and processor. `busy_permille` is the busiest
/// shard's share of time at work.
pub fn load_permille(connections: u32, connections_max: u32, busy_permille: u16) -> u16 {
    let full = u64::from(connections) * 1000 / u64::from(connections_max.max(1));
    let full = u16::try_from(full.min(1000)).unwrap_or(1000);
    full.max(busy_permille.min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_bound_the_connections() {
        assert_eq!(connections_limit(0, 20_000), Ok(19_872));
        assert_eq!(connections_limit(1_000, 20_000), Ok(1_000));
        assert_eq!(connections_limit(1_000_000, 20_000), Ok(19_872));
        assert_eq!(connections_limit(10, 100), Err(TooFewDescriptors { have: 100, need: 144 }));
    }

    #[test]
    fn load_is_the_fuller_of_connections_and_processor() {
        assert_eq!(load_permille(0, 100, 0), 0);
        assert_eq!(load_permille(50, 100, 100), 500);
        assert_eq!(load_permille(50, 100, 800), 800);
        assert_eq!(load_permille(500, 100, 0), 1000);
        assert_eq!(load_permille(0, 0, 0), 0);
    }

    /// A core that serves `viewers` with this share of its time.
    fn load(viewers: u32, busy_permille: u16) -> Load {
        Load { busy_permille, viewers, bytes_per_s: u64::from(viewers) * 250_000, fanout: Span::ZERO }
    }

    /// Joins that are taken at once, of `asked`; why the next one was not.
    fn crowd(admission: &mut Admission, asked: u32) -> (u32, Option<Reason>) {
        for taken in 0..asked {
            if let Err(reason) = admission.join() {
                return (taken, Some(reason));
            }
        }
        (asked, None)
    }

    /// The states of a machine that measures these values one after the other: `-` open, else the reason's first letter.
    fn drawn(values: &[u16], measure: impl Fn(&mut Admission, u16)) -> String {
        let mut admission = Admission::new(Budget::default());
        let state = |value: &u16| {
            measure(&mut admission, *value);
            admission.closed().map_or('-', |reason| reason.text().chars().next().expect("not empty"))
        };
        values.iter().map(state).collect()
    }

    #[test]
    fn closes_at_the_limit_and_opens_at_nine_tenths_of_it() {
        let busy = [500, 899, 900, 990, 899, 811, 809, 899, 900];
        assert_eq!(drawn(&busy, |admission, busy| admission.measured(load(5_000, busy))), "--bbbb--b");
        let used = [0, 990, 1_000, 950, 900, 890, 999];
        let room = |used: u16| Room { bytes_per_s: 1_000 - u64::from(used), bytes_per_s_max: 1_000, ..Room::UNLIMITED };
        assert_eq!(drawn(&used, |admission, used| admission.room(room(used))), "--bbb--");
        let mib_left = [64, 1, 0, 1, 15, 16, 1];
        let room = |mib: u16| Room { memory_bytes: u64::from(mib) << 20, ..Room::UNLIMITED };
        assert_eq!(drawn(&mib_left, |admission, mib| admission.room(room(mib))), "--mmm--");
    }

    #[test]
    fn what_is_left_is_what_is_left_of_the_scarcest() {
        let mut admission = Admission::new(Budget::default());
        assert_eq!(admission.spare_permille(), 1_000);
        admission.measured(load(5_000, 450));
        assert_eq!(admission.spare_permille(), 500, "half of the 900 that may be");
        let room = |left| Room { bytes_per_s: left, bytes_per_s_max: 1_000, ..Room::UNLIMITED };
        admission.room(room(300));
        assert_eq!(admission.spare_permille(), 300);
        admission.room(Room { memory_bytes: 0, ..room(700) });
        assert_eq!(admission.spare_permille(), 500, "memory is not what chunks spend");
        admission.measured(load(5_000, 900));
        admission.measured(load(5_000, 850));
        assert_eq!(admission.spare_permille(), 0, "closed until it is down at 810");
        let mut unlimited = Admission::new(Budget { busy_permille_max: 1_000, ..Budget::default() });
        unlimited.measured(load(5_000, 600));
        assert_eq!(unlimited.spare_permille(), 400);
    }

    #[test]
    fn one_late_chunk_closes_nothing_and_a_second_of_them_does() {
        let fanout = |admission: &mut Admission, ms: u16| {
            admission.measured(Load { fanout: Span::from_millis(ms.into()), ..load(5_000, 500) });
        };
        assert_eq!(drawn(&[20, 500, 20, 20, 20, 20], fanout), "------");
        assert_eq!(drawn(&[20, 250, 250, 250, 250, 250, 20, 20], fanout), "----fff-");
    }

    #[test]
    fn a_crowd_between_two_measurements_does_not_pass() {
        let mut admission = Admission::new(Budget::default());
        admission.measured(load(8_000, 800));
        // A viewer costs a ten-thousandth: the tenth that is left holds a thousand.
        assert_eq!(crowd(&mut admission, 100_000), (1_000, Some(Reason::Busy)));
        admission.measured(load(9_000, 800));
        assert_eq!(crowd(&mut admission, 100_000).0, 0, "the measurement has not seen them yet");
        for busy in [825, 850, 875] {
            admission.measured(load(9_000, busy));
        }
        admission.measured(load(9_000, 899));
        assert_eq!(crowd(&mut admission, 100_000), (10, Some(Reason::Busy)), "now it has, and what is left is small");
    }

    #[test]
    fn a_shard_at_rest_takes_no_more_than_a_core_ever_served() {
        let mut admission = Admission::new(Budget::default());
        assert_eq!(crowd(&mut admission, 100_000), (10_843, Some(Reason::Busy)));
        let mut unlimited = Admission::new(Budget { busy_permille_max: 1_000, ..Budget::default() });
        assert_eq!(crowd(&mut unlimited, 100_000), (100_000, None));
    }

    #[test]
    fn few_viewers_do_not_tell_what_one_costs() {
        let mut admission = Admission::new(Budget::default());
        admission.measured(load(1, 100));
        assert!(crowd(&mut admission, 400).1.is_none(), "one viewer does not cost a tenth of a core");
    }

    #[test]
    fn a_crowd_stays_within_the_time_and_the_bytes_that_are_left() {
        let mut admission = Admission::new(Budget::default());
        for _ in 0..40 {
            admission.measured(Load { fanout: Span::from_millis(100), ..load(5_000, 400) });
        }
        let (taken, reason) = crowd(&mut admission, 100_000);
        assert_eq!(reason, Some(Reason::Fanout));
        assert!((2_400..=2_600).contains(&taken), "half as many again: {taken}");

        let mut admission = Admission::new(Budget::default());
        admission.measured(load(100, 10));
        admission.room(Room { bytes_per_s: 2_500_000, bytes_per_s_max: 100_000_000, ..Room::UNLIMITED });
        assert_eq!(crowd(&mut admission, 100), (10, Some(Reason::Bandwidth)), "10 x 2 Mbit/s");
        admission.room(Room { memory_bytes: 5 * VIEWER_MEMORY_BYTES, ..Room::UNLIMITED });
        assert_eq!(admission.join(), Err(Reason::Memory), "those ten count against memory too");
    }

    #[test]
    fn who_ran_out_of_descriptors_refuses_for_a_second() {
        let mut admission = Admission::new(Budget::default());
        admission.descriptors_short();
        let measured = |admission: &mut Admission| {
            admission.measured(load(10, 10));
            admission.join()
        };
        assert_eq!(admission.join(), Err(Reason::Descriptors));
        let after: Vec<_> = (0..4).map(|_| measured(&mut admission).is_ok()).collect();
        assert_eq!(after, [false, false, false, true]);
    }

    #[test]
    fn every_code_is_its_reasons() {
        assert!(Reason::ALL.iter().all(|reason| Reason::from_code(*reason as u64) == Some(*reason)));
        assert_eq!((Reason::from_code(0), Reason::from_code(6)), (None, None));
    }
}
