//! What is known of a stream apart from who holds it: its name, its publishers' keys, and their terms (epochs).
//!
//! A term begins with a grant here, or is learnt from the route server when the publisher is in another domain. Each is
//! greater than all before: the next number, or the wall clock in milliseconds where that is greater, so that an index
//! server that has lost its memory still grants a greater one.
//!
//! The key of a term that is over is kept until its chunks have left every window. A publisher that reaches no cache asks for
//! one term after the other; those that no cache has told of make room before those whose chunks are in windows.

use std::collections::BTreeMap;

use crate::limits::KEYS_PER_STREAM_MAX;
use crate::time::{Span, Time, WallClock};
use crate::units::{Epoch, StreamId};
use crate::wire::index::StreamKey;
use crate::wire::{List, StreamName};

/// How long the key of a term that is over is kept: the window of 51.2 s and some.
pub const KEY_RETENTION: Span = Span::from_secs(60);

/// A request with the same key within this time of its grant is the same request, repeated. Our guess: longer than an
/// asker repeats, shorter than a publisher's restart with a stored key.
pub const SAME_REQUEST: Span = Span::from_secs(5);

/// How long a stream is remembered that nobody holds, watches or asks for. Our guess; its epochs need no memory.
const IDLE: Span = Span::from_secs(120);

#[derive(Clone, Debug)]
struct Kept {
    key: StreamKey,
    /// When a greater term began; of a term that has chunks: when the first greater one had some.
    over_since: Option<Time>,
    /// A cache has told of chunks of it.
    used: bool,
}

/// The last grant made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The publisher's key.
    pub key: [u8; 32],
    /// Its term.
    pub epoch: Epoch,
    /// When it was granted.
    pub at: Time,
}

/// What is known of one stream.
#[derive(Clone, Debug)]
pub struct Term {
    /// Its name.
    pub name: StreamName,
    /// The last grant made here, if any.
    pub grant: Option<Grant>,
    keys: Vec<Kept>,
    touched: Time,
}

impl Term {
    /// The newest term that is known.
    pub fn epoch(&self) -> Epoch {
        self.keys.first().map_or(Epoch::default(), |kept| kept.key.epoch)
    }

    /// The keys, newest term first.
    pub fn keys(&self, now: Time) -> List<StreamKey, KEYS_PER_STREAM_MAX> {
        List::first_of(self.keys.iter().filter(|kept| self.is_current(now, kept)).map(|kept| kept.key.clone()))
    }

    /// The newest term that has chunks stays, whoever was granted another one since.
    fn is_current(&self, now: Time, kept: &Kept) -> bool {
        kept.over_since.is_none_or(|over| now.since(over) < KEY_RETENTION)
            || (kept.used && self.last_used() == Some(kept.key.epoch))
    }

    fn last_used(&self) -> Option<Epoch> {
        self.keys.iter().find(|kept| kept.used).map(|kept| kept.key.epoch)
    }

    /// Drops what there is no room for: the oldest term without chunks, but for the newest of all; else the oldest.
    fn make_room(&mut self) {
        while self.keys.len() > KEYS_PER_STREAM_MAX {
            let unused = self.keys.iter().skip(1).rposition(|kept| !kept.used).map(|at| at + 1);
            self.keys.remove(unused.unwrap_or(self.keys.len() - 1));
        }
    }
}

/// All streams with a name.
#[derive(Debug)]
pub struct Terms {
    max: usize,
    started: WallClock,
    terms: BTreeMap<StreamId, Term>,
    full: u64,
}

impl Terms {
    /// None; at most `max`. `started` is the wall clock at [`Time::ZERO`].
    pub fn new(max: usize, started: WallClock) -> Terms {
        Terms { max, started, terms: BTreeMap::new(), full: 0 }
    }

    /// What is known of `stream`.
    pub fn get(&self, stream: StreamId) -> Option<&Term> {
        self.terms.get(&stream)
    }

    /// The keys of `stream`, newest term first; none when it is not known.
    pub fn keys(&self, now: Time, stream: StreamId) -> List<StreamKey, KEYS_PER_STREAM_MAX> {
        self.terms.get(&stream).map_or(List::new(), |term| term.keys(now))
    }

    /// Begins a term of `key`, greater than every known one and than `above`. `None`, and nothing changed, when too many
    /// streams are known.
    pub fn grant(
        &mut self,
        now: Time,
        stream: StreamId,
        name: &StreamName,
        key: [u8; 32],
        above: Epoch,
    ) -> Option<Grant> {
        let wall_ms = self.started.after(now.since(Time::ZERO)).micros() / 1_000;
        let term = self.entry(now, stream, name)?;
        let before = term.epoch().max(above).max(term.grant.map_or(Epoch::default(), |grant| grant.epoch));
        let grant = Grant { key, epoch: Epoch(before.0.saturating_add(1).max(wall_ms)), at: now };
        term.grant = Some(grant);
        for kept in &mut term.keys {
            kept.over_since.get_or_insert(now);
        }
        let key = StreamKey { epoch: grant.epoch, key };
        term.keys.insert(0, Kept { key, over_since: None, used: false });
        term.make_room();
        Some(grant)
    }

    /// Takes in the keys that the route server has of a stream; those of terms known here are kept. False, and nothing
    /// changed, when too many streams are known.
    pub fn learn(&mut self, now: Time, stream: StreamId, name: &StreamName, keys: &[StreamKey]) -> bool {
        let Some(term) = self.entry(now, stream, name) else { return false };
        for key in keys {
            if !term.keys.iter().any(|kept| kept.key == *key) {
                term.keys.push(Kept { key: key.clone(), over_since: None, used: false });
            }
        }
        term.keys.sort_by_key(|kept| std::cmp::Reverse(kept.key.epoch));
        term.make_room();
        // What the publisher's domain no longer names, or a greater term follows, runs out.
        for (at, kept) in term.keys.iter_mut().enumerate() {
            if at > 0 {
                kept.over_since.get_or_insert(now);
            }
        }
        true
    }

    /// The stream is asked for, held or watched: keep it.
    pub fn touch(&mut self, now: Time, stream: StreamId) {
        if let Some(term) = self.terms.get_mut(&stream) {
            term.touched = now;
        }
    }

    /// A cache tells of chunks of `epoch`.
    pub fn used(&mut self, now: Time, stream: StreamId, epoch: Epoch) {
        let Some(term) = self.terms.get_mut(&stream) else { return };
        let is_new = |kept: &Kept| kept.key.epoch == epoch && !kept.used;
        if !term.keys.iter().any(is_new) {
            return;
        }
        for kept in &mut term.keys {
            if kept.key.epoch < epoch && kept.used {
                kept.over_since = Some(now);
            }
            kept.used |= kept.key.epoch == epoch;
        }
    }

    /// Forgets streams that have been idle, and keys whose term has been over for long.
    pub fn expire(&mut self, now: Time) {
        self.terms.retain(|_, term| now.since(term.touched) < IDLE);
        for term in self.terms.values_mut() {
            let last_used = term.last_used();
            term.keys.retain(|kept| {
                kept.over_since.is_none_or(|over| now.since(over) < KEY_RETENTION) || last_used == Some(kept.key.epoch)
            });
        }
    }

    /// How many streams are known.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Streams turned away because too many were known.
    pub const fn turned_away(&self) -> u64 {
        self.full
    }

    fn entry(&mut self, now: Time, stream: StreamId, name: &StreamName) -> Option<&mut Term> {
        if self.terms.len() >= self.max && !self.terms.contains_key(&stream) {
            self.full += 1;
            return None;
        }
        let new = || Term { name: name.clone(), grant: None, keys: Vec::new(), touched: now };
        let term = self.terms.entry(stream).or_insert_with(new);
        term.touched = now;
        Some(term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: StreamId = StreamId(1);
    const STARTED: WallClock = WallClock::from_micros(1_700_000_000_000_000);

    fn name() -> StreamName {
        StreamName::new("news").expect("a name")
    }

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1_000)
    }

    #[test]
    fn every_term_is_greater_than_all_before_and_than_the_wall_clock() {
        let mut terms = Terms::new(10, STARTED);
        let mut grant = |now, above| terms.grant(now, NEWS, &name(), [1; 32], Epoch(above)).expect("room").epoch.0;
        assert_eq!(grant(at(0), 0), 1_700_000_000_000);
        assert_eq!(grant(at(0), 0), 1_700_000_000_001, "twice in a millisecond");
        assert_eq!(grant(at(10), 0), 1_700_000_010_000);
        assert_eq!(grant(at(11), 1_800_000_000_000), 1_800_000_000_001, "a cache has seen a greater one");
        let mut restarted = Terms::new(10, STARTED.after(Span::from_secs(20)));
        let again = restarted.grant(at(0), NEWS, &name(), [1; 32], Epoch(0)).expect("room").epoch.0;
        assert!(again > 1_700_000_010_000);
    }

    #[test]
    fn a_key_outlives_its_term_by_a_window() {
        let mut terms = Terms::new(10, STARTED);
        for (now, key) in [(at(0), 1), (at(100), 2)] {
            terms.grant(now, NEWS, &name(), [key; 32], Epoch(0)).expect("room");
        }
        let keys = |terms: &Terms, now| terms.keys(now, NEWS).iter().map(|k| k.key[0]).collect::<Vec<_>>();
        assert_eq!(keys(&terms, at(159)), [2, 1], "newest first");
        assert_eq!(keys(&terms, at(160)), [2]);
        for n in 3..9 {
            terms.grant(at(200), NEWS, &name(), [n; 32], Epoch(0)).expect("room");
        }
        assert_eq!(keys(&terms, at(200)), [8, 7, 6, 5]);
    }

    #[test]
    fn a_publisher_that_reaches_no_cache_pushes_no_key_of_chunks_out() {
        let mut terms = Terms::new(10, STARTED);
        let grant =
            |terms: &mut Terms, now, key| terms.grant(now, NEWS, &name(), [key; 32], Epoch(0)).expect("room").epoch;
        let keys = |terms: &Terms, now| terms.keys(now, NEWS).iter().map(|k| k.key[0]).collect::<Vec<_>>();
        for key in [1, 2] {
            let epoch = grant(&mut terms, at(0), key);
            terms.used(at(0), NEWS, epoch);
        }
        for n in 3..9 {
            grant(&mut terms, at(10), n);
        }
        assert_eq!(keys(&terms, at(10)), [8, 7, 2, 1]);
        terms.expire(at(69));
        assert_eq!(keys(&terms, at(69)), [8, 7, 2], "its chunks are the newest that there are");
        let last = grant(&mut terms, at(90), 9);
        terms.used(at(100), NEWS, last);
        terms.used(at(105), NEWS, last);
        terms.expire(at(159));
        assert_eq!(keys(&terms, at(159)), [9, 2]);
        assert_eq!(keys(&terms, at(160)), [9]);
    }

    #[test]
    fn what_the_route_server_knows_is_added_in_order() {
        let mut terms = Terms::new(10, STARTED);
        let key = |epoch, key| StreamKey { epoch: Epoch(epoch), key: [key; 32] };
        assert!(terms.learn(at(0), NEWS, &name(), &[key(5, 5)]));
        assert!(terms.learn(at(1), NEWS, &name(), &[key(6, 6), key(5, 5)]));
        assert_eq!(terms.keys(at(1), NEWS).to_vec(), [key(6, 6), key(5, 5)]);
        assert_eq!(terms.keys(at(61), NEWS).to_vec(), [key(6, 6)]);
        assert_eq!(terms.get(NEWS).expect("known").epoch(), Epoch(6));
    }

    #[test]
    fn idle_streams_are_forgotten_and_the_bound_is_counted() {
        let mut terms = Terms::new(1, STARTED);
        assert!(terms.learn(at(0), NEWS, &name(), &[]));
        assert!(!terms.learn(at(0), StreamId(2), &name(), &[]));
        assert_eq!(terms.turned_away(), 1);
        terms.touch(at(60), NEWS);
        terms.expire(at(150));
        assert_eq!(terms.len(), 1);
        terms.expire(at(180));
        assert!(terms.is_empty());
    }
}
