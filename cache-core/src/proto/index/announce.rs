//! Which streams the route servers are to be told of, and when: each that a cache of the domain holds, every
//! [`ANNOUNCE_PERIOD`] and at once when it changes.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::{Span, Time};
use crate::units::StreamId;

/// Period of announcements; the route server forgets after three (our guess).
pub const ANNOUNCE_PERIOD: Span = Span::from_secs(5);

/// The timetable.
#[derive(Debug, Default)]
pub struct Announcer {
    due: BTreeSet<(Time, StreamId)>,
    at: BTreeMap<StreamId, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    due: Time,
    /// Whether the route servers believe that the domain holds it.
    live: bool,
}

impl Announcer {
    /// Something about `stream` has changed: it is due at once.
    pub fn changed(&mut self, now: Time, stream: StreamId) {
        let live = self.at.get(&stream).is_some_and(|entry| entry.live);
        self.schedule(stream, Entry { due: now, live });
    }

    /// The next stream that is due.
    pub fn next_due(&self, now: Time) -> Option<StreamId> {
        self.due.first().filter(|(due, _)| *due <= now).map(|(_, stream)| *stream)
    }

    /// `stream` was looked at, and is held or not. True: tell the route servers so.
    pub fn looked_at(&mut self, now: Time, stream: StreamId, live: bool) -> bool {
        let was_live = self.at.get(&stream).is_some_and(|entry| entry.live);
        if live {
            self.schedule(stream, Entry { due: now.after(ANNOUNCE_PERIOD), live });
        } else if let Some(entry) = self.at.remove(&stream) {
            self.due.remove(&(entry.due, stream));
        }
        live || was_live
    }

    /// How many streams are in it.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether nothing is to be announced, now or ever.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    fn schedule(&mut self, stream: StreamId, entry: Entry) {
        if let Some(before) = self.at.insert(stream, entry) {
            self.due.remove(&(before.due, stream));
        }
        self.due.insert((entry.due, stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: StreamId = StreamId(1);

    #[test]
    fn a_stream_is_announced_every_period_and_at_once_when_it_changes() {
        let mut announcer = Announcer::default();
        announcer.changed(Time::ZERO, NEWS);
        assert_eq!(announcer.next_due(Time::ZERO), Some(NEWS));
        assert!(announcer.looked_at(Time::ZERO, NEWS, true));
        assert_eq!(announcer.next_due(Time::from_millis(4_999)), None);
        assert_eq!(announcer.next_due(Time::from_millis(5_000)), Some(NEWS));
        announcer.changed(Time::from_millis(1_000), NEWS);
        assert_eq!(announcer.next_due(Time::from_millis(1_000)), Some(NEWS));
    }

    #[test]
    fn the_end_of_a_stream_is_announced_once() {
        let mut announcer = Announcer::default();
        announcer.changed(Time::ZERO, NEWS);
        assert!(!announcer.looked_at(Time::ZERO, NEWS, false), "never announced, nothing to take back");
        announcer.changed(Time::ZERO, NEWS);
        announcer.looked_at(Time::ZERO, NEWS, true);
        announcer.changed(Time::ZERO, NEWS);
        assert!(announcer.looked_at(Time::ZERO, NEWS, false));
        assert!(announcer.is_empty());
    }
}
