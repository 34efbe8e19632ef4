//! What must hold in every run, whatever goes wrong: one file per invariant, all on in every run.
//!
//! | file | holds |
//! |---|---|
//! | [`right_bytes`] | no wrong byte is played, kept or stored |
//! | [`in_order`] | a viewer plays in order, no chunk twice |
//! | [`one_sequence`] | one sequence per stream, never forked |
//! | [`acknowledged`] | what was acknowledged to the publisher survives the death of a process |
//! | [`limits`] | queues, links and tables stay within their limits |
//! | [`timers`] | every timer fires or is cancelled; none lies in the past, none spins |
//! | [`recovery`] | after the last fault all viewers play again within 10 s |
//! | [`accounting`] | what peers say they exchanged is what the network carried |
//! | [`domains`] | no chunk passes between peers of different domains |
//!
//! The world tells facts; a checker knows nothing else, so that it can be shown to fail by facts that were made up.

use cache_core::time::{Span, Time};
use cache_core::units::ChunkSeq;

use crate::report::Violation;

pub mod accounting;
pub mod acknowledged;
pub mod domains;
pub mod in_order;
pub mod limits;
pub mod one_sequence;
pub mod recovery;
pub mod right_bytes;
pub mod timers;

/// Violations reported of one invariant at most; all are counted.
const REPORTED_MAX: usize = 10;

/// Something that the world has seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fact {
    /// A viewer plays a chunk.
    Played {
        /// Who.
        node: u32,
        /// Which.
        seq: ChunkSeq,
        /// What it is.
        content: u64,
        /// What the publisher cut.
        right: u64,
    },
    /// A peer keeps a chunk, to play it and to pass it on.
    Kept {
        /// Who.
        node: u32,
        /// Which.
        seq: ChunkSeq,
        /// What it is.
        content: u64,
        /// What the publisher cut.
        right: u64,
    },
    /// A cache has stored a chunk.
    Stored {
        /// Who.
        node: u32,
        /// Which.
        seq: ChunkSeq,
        /// What it is.
        content: u64,
        /// What the publisher cut.
        right: u64,
    },
    /// A cache acknowledges all chunks up to this one.
    Acknowledged {
        /// Who.
        node: u32,
        /// The newest.
        seq: ChunkSeq,
    },
    /// A cache's process is there again with this in its ring; `None`: with nothing.
    Restarted {
        /// Who.
        node: u32,
        /// The newest chunk.
        head: Option<ChunkSeq>,
    },
    /// How full something is.
    Size {
        /// Whose.
        node: u32,
        /// What.
        what: &'static str,
        /// How many.
        size: u64,
        /// How many there may be.
        max: u64,
    },
    /// A machine has taken in all that is due and says when it wants to be called again.
    Timer {
        /// Whose.
        node: u32,
        /// When.
        next: Time,
    },
    /// A machine was called because time has passed.
    Woken {
        /// Whose.
        node: u32,
    },
    /// A viewer is shown nothing, so long after the last fault.
    Standing {
        /// Who.
        node: u32,
        /// Since the last fault ended.
        after: Span,
        /// For how long it has been shown nothing.
        still: Span,
        /// It has played since, holds what comes next, and waits until that has had the play delay to travel.
        regains: bool,
    },
    /// The sums of all peers and of the network, chunk bytes between peers.
    Accounts(Accounts),
    /// A chunk was delivered from one peer to another.
    Passed {
        /// From whom.
        from: u32,
        /// To whom.
        to: u32,
        /// Their domains.
        domains: (u16, u16),
    },
}

/// Chunk bytes between peers, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Received from peers, as peers count.
    pub received: u64,
    /// Uploaded, as peers count.
    pub uploaded: u64,
    /// Sent, as the network counts.
    pub sent: u64,
    /// Delivered, as the network counts.
    pub delivered: u64,
    /// Lost with a link or a process.
    pub lost: u64,
    /// On the way or in front of an uplink.
    pub in_flight: u64,
    /// Sent and not yet told to its sender as sent (or never to be told, because the link is gone).
    pub untold: u64,
    /// Delivered on links that the receiver did not count as a source.
    pub unclaimed: u64,
}

/// One invariant.
pub trait Invariant: std::fmt::Debug {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Takes in a fact; what is wrong with it, for a person.
    fn see(&mut self, at: Time, fact: &Fact) -> Option<String>;
}

/// All of them, and what they found.
#[derive(Debug)]
pub struct Invariants {
    all: Vec<(Box<dyn Invariant>, usize)>,
    origin: Time,
    violations: Vec<Violation>,
}

impl Invariants {
    /// All invariants. Times are reported since `origin`.
    pub fn new(origin: Time) -> Invariants {
        let all: Vec<Box<dyn Invariant>> = vec![
            Box::new(right_bytes::RightBytes),
            Box::<in_order::InOrder>::default(),
            Box::<one_sequence::OneSequence>::default(),
            Box::<acknowledged::Acknowledged>::default(),
            Box::new(limits::Limits),
            Box::<timers::Timers>::default(),
            Box::new(recovery::Recovery),
            Box::new(accounting::Accounting),
            Box::new(domains::Domains),
        ];
        Invariants { all: all.into_iter().map(|one| (one, 0)).collect(), origin, violations: Vec::new() }
    }

    /// Shows a fact to all.
    pub fn see(&mut self, at: Time, fact: &Fact) {
        for (one, found) in &mut self.all {
            if let Some(what) = one.see(at, fact) {
                *found += 1;
                if *found <= REPORTED_MAX {
                    let at_s = (at.micros() as f64 - self.origin.micros() as f64) / 1e6;
                    self.violations.push(Violation { invariant: one.name().to_owned(), at_s, what });
                }
            }
        }
    }

    /// What was found; the first ten of each invariant, and how many there were of those with more.
    pub fn finish(&mut self) -> Vec<Violation> {
        let mut all = std::mem::take(&mut self.violations);
        for (one, found) in &self.all {
            if *found > REPORTED_MAX {
                let last = all.iter().rfind(|v| v.invariant == one.name()).map_or(0.0, |v| v.at_s);
                let what = format!("{found} violations in all; the first {REPORTED_MAX} are listed");
                all.push(Violation { invariant: one.name().to_owned(), at_s: last, what });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_reported_with_time_and_name_and_bounded() {
        let mut all = Invariants::new(Time::from_millis(1_000));
        let wrong = Fact::Played { node: 3, seq: ChunkSeq::new(1), content: 1, right: 2 };
        (0..25).for_each(|_| all.see(Time::from_millis(3_500), &wrong));
        let found = all.finish();
        let of = |name: &str| found.iter().filter(|v| v.invariant == name).count();
        assert_eq!((of("right bytes"), of("in order")), (11, 11), "ten, and the sum");
        assert_eq!(found[0].at_s, 2.5);
        assert!(found[0].what.contains("node 3"));
    }
}
