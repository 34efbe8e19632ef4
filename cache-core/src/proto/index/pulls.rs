//! Getting a stream into the domain: ask the route server where it is, once however many ask; let those who asked wait for
//! the answer; remember the answer for a moment.
//!
//! ```text
//!  Join, Resolve, ... of a stream that no cache here holds
//!     │ first: LocateStream to the route servers          │ others: parked behind it (bounded)
//!     └──> Located / Nowhere / Unanswered, kept for OUTCOME_KEPT ──> all that were parked are looked at again, once
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::time::{Span, Time};
use crate::units::{Epoch, StreamId};
use crate::wire::datagram::Datagram;

/// How long an answer of the route server is used before it is asked again. Our guess: a crowd that arrives within a
/// second is one question.
pub const OUTCOME_KEPT: Span = Span::from_secs(1);

/// How long the route servers have to answer; then those who wait are refused for the moment. Our guess: two tries at the
/// first server and one at the second.
pub const LOCATE_DEADLINE: Span = Span::from_secs(1);

/// Waiting questions of one stream; a crowd of more is told to come again.
const PARKED_PER_STREAM: usize = 256;

/// Answers of the route server kept at most, for each stream that may be located at once. Our guess: what a second of
/// questions for made-up names brings is refused long before it costs a megabyte.
const KEPT_PER_LOCATING: usize = 16;

/// What the route server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Located {
        /// Caches of other domains, best first; may be empty.
        parents: Vec<SocketAddr>,
        /// Whether its publisher is in another domain.
        origin: bool,
        /// The newest term.
        epoch: Epoch,
    },
    /// No other domain holds it.
    Nowhere,
    /// No route server answered in time.
    Unanswered,
}

#[derive(Debug)]
enum State {
    Asking { parked: Vec<(SocketAddr, Datagram)> },
    Known { outcome: Outcome, at: Time },
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullStats {
    /// Streams asked for at the route server.
    pub asked: u64,
    /// Questions that waited.
    pub parked: u64,
    /// Questions that could not wait: `locating_max` (or 16 times as many answers kept), `parked_max`, or the bound of
    /// one stream.
    pub parking_full: u64,
    /// Streams that the route server knew.
    pub located: u64,
    /// Streams that it did not know.
    pub nowhere: u64,
    /// Streams for which no route server answered.
    pub unanswered: u64,
    /// Pulls ordered from caches.
    pub ordered: u64,
    /// Orders that a cache refused or did not answer.
    pub orders_failed: u64,
}

/// What became of a question that wants to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// It waits, and the route server is to be asked.
    First,
    /// It waits behind others.
    Behind,
    /// There is no room.
    Full,
}

/// All streams being located or just located.
#[derive(Debug)]
pub struct Pulls {
    locating_max: usize,
    parked_max: usize,
    streams: BTreeMap<StreamId, State>,
    asking: usize,
    waiting: usize,
    /// The counters.
    pub stats: PullStats,
}

impl Pulls {
    /// None. At most `locating_max` streams at once, and `parked_max` questions in all.
    pub fn new(locating_max: usize, parked_max: usize) -> Pulls {
        Pulls { locating_max, parked_max, streams: BTreeMap::new(), asking: 0, waiting: 0, stats: PullStats::default() }
    }

    /// What the route server said of `stream` within [`OUTCOME_KEPT`].
    pub fn outcome(&self, now: Time, stream: StreamId) -> Option<&Outcome> {
        match self.streams.get(&stream) {
            Some(State::Known { outcome, at }) if now.since(*at) < OUTCOME_KEPT => Some(outcome),
            _ => None,
        }
    }

    /// Lets a question wait until `stream` is located. One that repeats (same address, same exchange) takes its own place.
    pub fn park(&mut self, stream: StreamId, from: SocketAddr, question: Datagram) -> Parked {
        let kept = self.streams.len();
        let parked = match self.streams.get_mut(&stream) {
            Some(State::Asking { parked }) => {
                if let Some(own) = parked.iter_mut().find(|(a, q)| *a == from && q.exchange == question.exchange) {
                    own.1 = question;
                    return Parked::Behind;
                }
                if parked.len() >= PARKED_PER_STREAM || self.waiting >= self.parked_max {
                    self.stats.parking_full += 1;
                    return Parked::Full;
                }
                parked.push((from, question));
                Parked::Behind
            }
            known
                if self.asking >= self.locating_max
                    || self.waiting >= self.parked_max
                    || (known.is_none() && kept >= self.locating_max * KEPT_PER_LOCATING) =>
            {
                self.stats.parking_full += 1;
                return Parked::Full;
            }
            _ => {
                self.streams.insert(stream, State::Asking { parked: vec![(from, question)] });
                self.asking += 1;
                self.stats.asked += 1;
                Parked::First
            }
        };
        self.waiting += 1;
        self.stats.parked += 1;
        parked
    }

    /// The answer is there: returns those who waited for it.
    pub fn resolve(&mut self, now: Time, stream: StreamId, outcome: Outcome) -> Vec<(SocketAddr, Datagram)> {
        match outcome {
            Outcome::Located { .. } => self.stats.located += 1,
            Outcome::Nowhere => self.stats.nowhere += 1,
            Outcome::Unanswered => self.stats.unanswered += 1,
        }
        match self.streams.insert(stream, State::Known { outcome, at: now }) {
            Some(State::Asking { parked }) => {
                self.waiting -= parked.len();
                self.asking -= 1;
                parked
            }
            _ => Vec::new(),
        }
    }

    /// Forgets answers that are no longer used.
    pub fn expire(&mut self, now: Time) {
        self.streams.retain(|_, state| match state {
            State::Asking { .. } => true,
            State::Known { at, .. } => now.since(*at) < OUTCOME_KEPT,
        });
    }

    /// Streams being located or just located.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StreamName;
    use crate::wire::datagram::Cookie;
    use crate::wire::index::KeysQuery;

    const NEWS: StreamId = StreamId(1);

    fn question(exchange: u32) -> Datagram {
        let stream = StreamName::new("news").expect("a name");
        Datagram { exchange, cookie: Cookie::default(), message: KeysQuery { stream }.into() }
    }

    fn from() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 1))
    }

    #[test]
    fn a_crowd_asks_once_and_all_of_it_is_answered() {
        let mut pulls = Pulls::new(8, 8);
        assert_eq!(pulls.park(NEWS, from(), question(1)), Parked::First);
        assert_eq!(pulls.park(NEWS, from(), question(2)), Parked::Behind);
        assert_eq!(pulls.park(NEWS, from(), question(2)), Parked::Behind);
        let answered = pulls.resolve(Time::ZERO, NEWS, Outcome::Nowhere);
        assert_eq!(answered.iter().map(|(_, q)| q.exchange).collect::<Vec<_>>(), [1, 2], "a repeated one once");
        assert_eq!((pulls.stats.asked, pulls.waiting), (1, 0));
    }

    #[test]
    fn an_answer_is_used_for_a_second() {
        let mut pulls = Pulls::new(8, 8);
        pulls.resolve(Time::ZERO, NEWS, Outcome::Nowhere);
        assert_eq!(pulls.outcome(Time::from_millis(999), NEWS), Some(&Outcome::Nowhere));
        assert_eq!(pulls.outcome(Time::from_millis(1_000), NEWS), None);
        pulls.expire(Time::from_millis(1_000));
        assert!(pulls.is_empty());
    }

    #[test]
    fn answers_for_made_up_names_are_bounded() {
        let mut pulls = Pulls::new(1, 2);
        for n in 0..100 {
            if pulls.park(StreamId(n), from(), question(1)) == Parked::First {
                pulls.resolve(Time::ZERO, StreamId(n), Outcome::Unanswered);
            }
        }
        assert_eq!((pulls.len(), pulls.stats.parking_full), (KEPT_PER_LOCATING, 100 - KEPT_PER_LOCATING as u64));
        pulls.expire(Time::ZERO.after(OUTCOME_KEPT));
        assert_eq!(pulls.park(StreamId(100), from(), question(1)), Parked::First, "a moment later there is room");
    }

    #[test]
    fn the_crowd_is_bounded_and_what_is_turned_away_counted() {
        let mut pulls = Pulls::new(1, 2);
        assert_eq!(pulls.park(NEWS, from(), question(1)), Parked::First);
        assert_eq!(pulls.park(StreamId(2), from(), question(2)), Parked::Full, "one stream at a time");
        assert_eq!(pulls.park(NEWS, from(), question(3)), Parked::Behind);
        assert_eq!(pulls.park(NEWS, from(), question(4)), Parked::Full, "two in all");
        assert_eq!(pulls.stats.parking_full, 2);
    }
}
