//! Which domain holds which stream: soft state, renewed by each domain's index server and forgotten without.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::{Span, Time};
use crate::units::DomainId;
use crate::wire::route::{StreamAnnounce, StreamLocated};
use crate::wire::{List, StreamName};

/// An announcement was turned away: too many streams are held. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

#[derive(Debug)]
struct Held {
    announced: StreamAnnounce,
    until: Time,
}

/// All announcements.
#[derive(Debug)]
pub struct Streams {
    max: usize,
    ttl: Span,
    held: BTreeMap<(StreamName, DomainId), Held>,
    expiry: BTreeSet<(Time, StreamName, DomainId)>,
    turned_away: u64,
}

impl Streams {
    /// None. At most `max` announcements are kept, each for `ttl`.
    pub fn new(max: usize, ttl: Span) -> Streams {
        Streams { max, ttl, held: BTreeMap::new(), expiry: BTreeSet::new(), turned_away: 0 }
    }

    /// Takes in what a domain says of a stream.
    pub fn announce(&mut self, now: Time, announced: StreamAnnounce) -> Result<(), TooMany> {
        let key = (announced.stream.clone(), announced.domain);
        if let Some(before) = self.held.remove(&key) {
            self.expiry.remove(&(before.until, key.0.clone(), key.1));
        }
        if !announced.live {
            return Ok(());
        }
        if self.held.len() >= self.max {
            self.turned_away += 1;
            return Err(TooMany);
        }
        let until = now.after(self.ttl);
        self.expiry.insert((until, key.0.clone(), key.1));
        self.held.insert(key, Held { announced, until });
        Ok(())
    }

    /// Where `stream` can be fetched by `asking`: caches of all other domains, the publisher's first, then those that are
    /// furthest ahead. When only the asking domain holds it no cache is named, but the keys are: an index server that
    /// was restarted gets them back.
    pub fn locate(&self, now: Time, asking: DomainId, stream: &StreamName) -> Option<StreamLocated> {
        let domains = (stream.clone(), DomainId(0))..=(stream.clone(), DomainId(u16::MAX));
        let mut held: Vec<&StreamAnnounce> =
            self.held.range(domains).filter(|(_, held)| held.until > now).map(|(_, held)| &held.announced).collect();
        held.sort_by_key(|a| std::cmp::Reverse((a.origin, a.epoch, a.head)));
        // The publisher's own domain is believed about keys, and the newest of two that both claim to be it.
        let believed = held.first()?;
        let elsewhere = || held.iter().filter(|a| a.domain != asking);
        Some(StreamLocated {
            stream: stream.clone(),
            epoch: believed.epoch,
            origin: elsewhere().any(|a| a.origin),
            keys: believed.keys.clone(),
            caches: List::first_of(elsewhere().flat_map(|a| a.caches.iter().copied())),
        })
    }

    /// Forgets what was not renewed.
    pub fn sweep(&mut self, now: Time) {
        while let Some((until, ..)) = self.expiry.first()
            && *until <= now
            && let Some((_, stream, domain)) = self.expiry.pop_first()
        {
            self.held.remove(&(stream, domain));
        }
    }

    /// When [`Streams::sweep`] has something to do.
    pub fn next_expiry(&self) -> Time {
        self.expiry.first().map_or(Time::NEVER, |(until, ..)| *until)
    }

    /// How many announcements are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Announcements turned away because too many were held.
    pub const fn turned_away(&self) -> u64 {
        self.turned_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ChunkSeq, Epoch};
    use crate::wire::index::StreamKey;

    const TTL: Span = Span::from_secs(15);

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    /// Domain `domain` says that its cache 10.0.0.`domain` holds "news" under `epoch`.
    fn says(domain: u16, origin: bool, epoch: u64) -> StreamAnnounce {
        StreamAnnounce {
            domain: DomainId(domain),
            stream: name("news"),
            origin,
            epoch: Epoch(epoch),
            head: ChunkSeq::new(epoch),
            keys: List::first_of([StreamKey { epoch: Epoch(epoch), key: [domain as u8; 32] }]),
            caches: List::first_of([cache(domain)]),
            live: true,
        }
    }

    fn cache(domain: u16) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([10, 0, 0, domain as u8], 7400))
    }

    #[test]
    fn the_publishers_domain_comes_first_and_the_asking_one_is_left_out() {
        let mut streams = Streams::new(10, TTL);
        for announced in [says(1, false, 9), says(2, true, 5), says(3, false, 7)] {
            streams.announce(Time::ZERO, announced).expect("room");
        }
        let located = |asking| streams.locate(Time::ZERO, DomainId(asking), &name("news")).expect("held");
        assert_eq!(located(3).caches.to_vec(), [cache(2), cache(1)]);
        assert_eq!(located(3).keys[0].key, [2; 32], "the publisher's domain is believed, not the highest claim");
        assert!(located(3).origin && !located(2).origin);
        assert_eq!(located(2).caches.to_vec(), [cache(1), cache(3)]);
    }

    #[test]
    fn who_asks_for_its_own_stream_gets_the_keys_back() {
        let mut streams = Streams::new(10, TTL);
        streams.announce(Time::ZERO, says(1, true, 5)).expect("room");
        let located = streams.locate(Time::ZERO, DomainId(1), &name("news")).expect("held");
        assert!(located.caches.is_empty() && !located.origin);
        assert_eq!(located.keys[0].key, [1; 32]);
    }

    #[test]
    fn what_is_not_renewed_is_forgotten() {
        let mut streams = Streams::new(10, TTL);
        streams.announce(Time::ZERO, says(1, true, 5)).expect("room");
        streams.announce(Time::from_millis(5_000), says(1, true, 5)).expect("room");
        assert_eq!(streams.next_expiry(), Time::from_millis(20_000), "a renewal leaves no second expiry");
        assert!(streams.locate(Time::from_millis(19_999), DomainId(2), &name("news")).is_some());
        assert!(streams.locate(Time::from_millis(20_000), DomainId(2), &name("news")).is_none());
        streams.sweep(Time::from_millis(20_000));
        assert!(streams.is_empty());
    }

    #[test]
    fn a_withdrawn_stream_is_gone_at_once() {
        let mut streams = Streams::new(10, TTL);
        streams.announce(Time::ZERO, says(1, true, 5)).expect("room");
        streams.announce(Time::ZERO, StreamAnnounce { live: false, ..says(1, true, 5) }).expect("room");
        assert!(streams.locate(Time::ZERO, DomainId(2), &name("news")).is_none());
        assert_eq!(streams.next_expiry(), Time::NEVER);
    }

    #[test]
    fn beyond_the_bound_is_counted() {
        let mut streams = Streams::new(1, TTL);
        streams.announce(Time::ZERO, says(1, true, 5)).expect("room");
        assert_eq!(streams.announce(Time::ZERO, says(2, false, 5)), Err(TooMany));
        streams.announce(Time::ZERO, says(1, true, 6)).expect("a renewal needs no room");
        assert_eq!(streams.turned_away(), 1);
    }
}
