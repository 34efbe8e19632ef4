//! Overload: what a shard makes of its measurements. Joins are refused at once, with the address of another cache; what is
//! late is skipped, not queued.
//!
//! | who | what they get instead of service |
//! |---|---|
//! | a peer or viewer over Weircast's protocol | `TryInstead` with the other caches, if any is known, then `Refused(Full)` |
//! | a viewer over HTTP | 307 to the same stream at another cache, if any is known, else 503 with `Retry-After` |
//! | a connection that opens one more stream | `Unavailable(Full)` for that stream |
//!
//! Publishers are control's; other caches are served beyond every limit but a number of their own, as a whole domain hangs on
//! each. Who says that it is a cache gets that and nothing else: no right to publish, no word that is believed, no viewer's
//! place, and no place at all when it takes chunks of no stream for as long as a handshake may take, and as an `Open` may wait
//! where it has opened one: names alone keep none. A cache without index servers is pulled from by nobody, and takes none for a
//! cache. Whoever is served stays served.
//!
//! A shard is **late** by its own fault when chunks take a second to their last viewer, or when it was stopped: then its
//! patience with those behind is a second instead of `skip_behind_chunks`. After a stop it also lets control take in first
//! what publishers have sent meanwhile, and serves the newest of it: five seconds of old chunks to everybody at once would
//! make all that follow late as well.

use std::net::SocketAddr;

use cache_core::limits::CACHES_PER_ANSWER_MAX;
use cache_core::proto::cache::admission::{Load, Reason};
use cache_core::proto::cache::viewer::Patience;
use cache_core::time::{Span, Time};
use cache_core::wire::exchange::{Role, TryInstead};
use cache_core::wire::{Frame, List, RefusalReason, Refused};

use super::config::{LATE_FANOUT, LATE_FOR, LATE_SKIP_CHUNKS, SETTLE, STOPPED};
use super::connection::{Key, Phase};
use super::http::{HttpError, is_head, split};
use super::shard::Shard;

/// When a refused viewer may ask again: another one may have left by then (our guess).
const RETRY_MS: u32 = 1000;

/// How often a viewer over HTTP is sent on, counted in the address that it is sent to: two full caches that know each
/// other would send it round for as long as it follows (our guess; players follow 8 to 20 times).
const HOPS_MAX: u8 = 3;

/// The query's key for that.
const HOP: &str = "weircast-hop=";

/// Other caches, to send viewers to.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    caches: Vec<SocketAddr>,
    turn: usize,
}

impl Elsewhere {
    pub(super) fn set(&mut self, caches: Vec<SocketAddr>) {
        self.caches = caches;
        self.caches.truncate(CACHES_PER_ANSWER_MAX);
    }

    /// All of them; each time another one is first, so that a crowd does not all go to one.
    fn next(&mut self) -> &[SocketAddr] {
        if !self.caches.is_empty() {
            self.turn = (self.turn + 1) % self.caches.len();
            self.caches.rotate_left(1);
        }
        &self.caches
    }
}

/// Whether the shard is late by its own fault.
#[derive(Debug)]
pub(super) struct Lateness {
    late_until: Time,
    /// Until then nothing that was published is looked at.
    pub(super) settles_at: Time,
}

impl Default for Lateness {
    fn default() -> Lateness {
        Lateness { late_until: Time::ZERO, settles_at: Time::NEVER }
    }
}

impl Lateness {
    /// Whether control is being let take in what has come during a stop.
    pub(super) fn is_settling(&self) -> bool {
        self.settles_at != Time::NEVER
    }
}

impl Shard {
    /// A turn is done: counts it, and draws conclusions when a reading is due.
    pub(super) fn measure(&mut self, done: Time) {
        let counters = &self.links.counters;
        match done.since(self.now).micros() {
            0..64 => counters.turns_under_64us.one(),
            64..256 => counters.turns_under_256us.one(),
            256..1_000 => counters.turns_under_1ms.one(),
            1_000..4_000 => counters.turns_under_4ms.one(),
            4_000..16_000 => counters.turns_under_16ms.one(),
            16_000..64_000 => counters.turns_under_64ms.one(),
            _ => counters.turns_longer.one(),
        }
        let Some(reading) = self.meter.turn(self.now, done, counters.chunk_bytes_sent.get()) else { return };
        self.busy_permille = reading.busy_permille;
        self.admission.measured(Load {
            busy_permille: reading.busy_permille,
            fanout: reading.fanout,
            viewers: self.viewers.native + self.viewers.http,
            bytes_per_s: reading.bytes_per_s,
        });
        let counters = &self.links.counters;
        counters.busy_permille.set(reading.busy_permille.into());
        counters.turn_us_max.set(reading.turn_max.micros());
        counters.fanout_us_max.set(reading.fanout_max.micros());
        counters.chunk_bytes_per_s.set(reading.bytes_per_s);
        counters.admission.set(self.admission.closed().map_or(0, |reason| reason as u64));
        if reading.fanout >= LATE_FANOUT {
            self.late_until(done.after(LATE_FOR));
        } else if self.lateness.late_until <= done {
            self.patience.skip_behind_chunks = self.config.skip_behind_chunks;
        }
    }

    /// The shard is `over` its time `now`: whether that is so long that it was stopped, which says nothing of its work.
    pub(super) fn note_stop(&mut self, now: Time, over: Span) -> bool {
        let stopped = over >= STOPPED;
        if stopped {
            self.links.counters.stops.one();
            self.meter.forget(now);
            self.lateness.settles_at = now.after(SETTLE);
            self.late_until(now.after(SETTLE).after(LATE_FOR));
        }
        stopped
    }

    fn late_until(&mut self, time: Time) {
        let patience = self.config.skip_behind_chunks.min(LATE_SKIP_CHUNKS);
        if std::mem::replace(&mut self.patience, Patience { skip_behind_chunks: patience }) != self.patience {
            self.links.counters.lates.one();
        }
        self.lateness.late_until = time.max(self.lateness.late_until);
    }

    /// Control has had its time: everybody is served from the newest chunks on.
    pub(super) fn settle(&mut self) {
        self.lateness.settles_at = Time::NEVER;
        for stream in self.streams.live() {
            self.on_published(stream);
        }
    }

    /// Whether one more connection of this role is served; it is counted why not.
    pub(super) fn admits(&mut self, role: Role) -> bool {
        if role == Role::Cache && self.viewers.caches < self.config.caches_max {
            return true;
        }
        if self.viewers.native - self.viewers.caches + self.viewers.http >= self.config.connections_max {
            self.links.counters.refused_full.one();
            return false;
        }
        self.books()
    }

    /// Whether a connection that has streams may have another one.
    pub(super) fn admits_another(&mut self, key: Key) -> bool {
        match &self.connections[key as usize].phase {
            Phase::Native(native) if !native.is_cache && !native.joined.is_empty() => self.books(),
            _ => true,
        }
    }

    fn books(&mut self) -> bool {
        let counters = &self.links.counters;
        match self.admission.join() {
            Ok(()) => return true,
            Err(Reason::Descriptors) => counters.joins_refused_descriptors.one(),
            Err(Reason::Memory) => counters.joins_refused_memory.one(),
            Err(Reason::Bandwidth) => counters.joins_refused_bandwidth.one(),
            Err(Reason::Fanout) => counters.joins_refused_fanout.one(),
            Err(Reason::Busy) => counters.joins_refused_busy.one(),
        }
        false
    }

    /// Refuses a viewer over Weircast's protocol.
    pub(super) fn send_elsewhere(&mut self, key: Key) {
        let caches = List::first_of(self.elsewhere.next().iter().copied());
        if !caches.is_empty() {
            self.links.counters.joins_sent_elsewhere.one();
            self.answer(key, Frame::from(TryInstead { caches }));
        }
        self.refuse(key, Refused::for_now(RefusalReason::Full, RETRY_MS));
    }

    /// Refuses a viewer over HTTP whose request's head is `head`.
    pub(super) fn send_elsewhere_http(&mut self, key: Key, head: &[u8]) {
        let cache = self.elsewhere.next().first().copied();
        let Some(response) = cache.and_then(|cache| redirect(head, cache)) else {
            return self.refuse_http(key, HttpError::Unavailable, is_head(head));
        };
        self.links.counters.joins_sent_elsewhere.one();
        self.answer_bytes(key, response.as_bytes());
        self.finish(key);
    }
}

/// The response that sends the request `head` to `cache`; `None` when it was sent on often enough.
fn redirect(head: &[u8], cache: SocketAddr) -> Option<String> {
    let line = head.split(|byte| *byte == b'\r' || *byte == b'\n').next()?;
    let (path, query) = split(std::str::from_utf8(line).ok()?.split(' ').nth(1)?);
    let (hops, others): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|part| !part.is_empty()).partition(|part| part.starts_with(HOP));
    // What cannot be read counts as the last.
    let hops = hops.iter().map(|hop| hop[HOP.len()..].parse().unwrap_or(HOPS_MAX)).max().unwrap_or(0);
    if hops >= HOPS_MAX {
        return None;
    }
    let others: String = others.iter().map(|part| format!("{part}&")).collect();
    Some(format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{cache}{path}?{others}{HOP}{}\r\n\
         Cache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        hops + 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(target: &str) -> Option<String> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let response = redirect(head.as_bytes(), SocketAddr::from(([10, 0, 0, 2], 7400)))?;
        let from = response.split_once("Location: http://10.0.0.2:7400").expect("it says where").1;
        Some(from.split_once("\r\n").expect("a line").0.to_owned())
    }

    #[test]
    fn a_redirect_keeps_what_was_asked_and_counts() {
        assert_eq!(location("/live/news.ts").as_deref(), Some("/live/news.ts?weircast-hop=1"));
        assert_eq!(location("/live/news.ts?t=1&u").as_deref(), Some("/live/news.ts?t=1&u&weircast-hop=1"));
        assert_eq!(location("http://full/live/news/7.ts").as_deref(), Some("/live/news/7.ts?weircast-hop=1"));
        assert_eq!(location("/live/news.ts?weircast-hop=1&t=1").as_deref(), Some("/live/news.ts?t=1&weircast-hop=2"));
    }

    #[test]
    fn nobody_is_sent_round_for_ever() {
        let (mut target, mut hops) = ("/live/news.ts".to_owned(), 0);
        while let Some(next) = location(&target) {
            (target, hops) = (next, hops + 1);
        }
        assert_eq!(hops, HOPS_MAX);
        assert_eq!(location("/live/news.ts?weircast-hop=999"), None);
        assert_eq!(location("/live/news.ts?weircast-hop=0&weircast-hop=3"), None);
    }

    #[test]
    fn a_crowd_is_spread_over_the_other_caches() {
        let cache = |n: u8| SocketAddr::from(([10, 0, 0, n], 7400));
        let mut elsewhere = Elsewhere::default();
        assert!(elsewhere.next().is_empty());
        elsewhere.set(vec![cache(1), cache(2), cache(3)]);
        let firsts: Vec<_> = (0..6).map(|_| elsewhere.next()[0]).collect();
        assert_eq!((1..=3).map(|n| firsts.iter().filter(|c| **c == cache(n)).count()).collect::<Vec<_>>(), [2, 2, 2]);
    }
}
