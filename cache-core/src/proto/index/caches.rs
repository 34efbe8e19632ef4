//! The domain's caches: how loaded each is, and which streams it holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::time::{Span, Time};
use crate::units::{ChunkSeq, Epoch, StreamId};
use crate::wire::index::{CacheLoad, CacheReport, HeldStream, HoldState};

/// Load above which a cache is named only when no other is left: full (the report's own scale).
const FULL_PERMILLE: u32 = 1000;

/// A cache.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// Where its datagrams come from, and orders go to.
    pub control: SocketAddr,
    load_permille: u16,
    draining: bool,
    heard: Time,
    /// Viewers and publishers sent to it since its last report, each counted as one permille, so that a crowd between
    /// two reports does not all go to one cache.
    assigned: u32,
}

impl Cache {
    fn load(&self) -> u32 {
        u32::from(self.load_permille).saturating_add(self.assigned)
    }
}

/// A stream in a cache.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    /// What the cache is to the stream.
    pub state: HoldState,
    /// The publisher's term.
    pub epoch: Epoch,
    /// The newest chunk there.
    pub head: ChunkSeq,
    heard: Time,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Reports taken.
    pub reports: u64,
    /// Caches that fell silent.
    pub expired: u64,
    /// Refused: `caches_max`.
    pub caches_full: u64,
    /// Streams not noted: `holdings_max`.
    pub holdings_full: u64,
}

/// All caches and what they hold.
#[derive(Debug)]
pub struct Caches {
    caches_max: usize,
    holdings_max: usize,
    silence: Span,
    caches: BTreeMap<SocketAddr, Cache>,
    holdings: BTreeMap<(StreamId, SocketAddr), Holding>,
    stats: CacheStats,
}

impl Caches {
    /// None; a cache that does not report for `silence` is gone.
    pub fn new(caches_max: usize, holdings_max: usize, silence: Span) -> Caches {
        Caches {
            caches_max,
            holdings_max,
            silence,
            caches: BTreeMap::new(),
            holdings: BTreeMap::new(),
            stats: CacheStats::default(),
        }
    }

    /// Takes a report in; the first registers the cache. False, and nothing changed, when there are too many.
    pub fn report(&mut self, now: Time, from: SocketAddr, report: &CacheReport) -> bool {
        if self.caches.len() >= self.caches_max && !self.caches.contains_key(&report.advertise) {
            self.stats.caches_full += 1;
            return false;
        }
        self.stats.reports += 1;
        let cache = Cache {
            control: from,
            load_permille: report.load_permille,
            draining: report.draining,
            heard: now,
            assigned: 0,
        };
        self.caches.insert(report.advertise, cache);
        true
    }

    /// Takes in what a registered cache holds, and returns the streams of which that is news (another state or term).
    /// `None`, and nothing changed, when the cache is not registered.
    pub fn holds(&mut self, now: Time, cache: SocketAddr, streams: &[HeldStream]) -> Option<Vec<StreamId>> {
        if !self.caches.contains_key(&cache) {
            return None;
        }
        let mut news = Vec::new();
        for held in streams {
            let key = (held.stream, cache);
            if self.holdings.len() >= self.holdings_max && !self.holdings.contains_key(&key) {
                self.stats.holdings_full += 1;
                continue;
            }
            let holding = Holding { state: held.state, epoch: held.epoch, head: held.head, heard: now };
            let before = match held.state {
                HoldState::Ended => self.holdings.remove(&key),
                _ => self.holdings.insert(key, holding),
            };
            if before.map(|before| (before.state, before.epoch)) != Some((held.state, held.epoch)) {
                news.push(held.stream);
            }
        }
        Some(news)
    }

    /// Notes that `cache` was told to fetch `stream`: it counts as fetching until it reports otherwise, or falls silent
    /// about it.
    pub fn expect(&mut self, now: Time, stream: StreamId, cache: SocketAddr) {
        let new = Holding { state: HoldState::Fetching, epoch: Epoch::default(), head: ChunkSeq::FIRST, heard: now };
        let holding = self.holdings.entry((stream, cache)).or_insert(new);
        (holding.state, holding.heard) = (HoldState::Fetching, now);
    }

    /// Takes back [`Caches::expect`]: the cache did not answer, or refused.
    pub fn disappointed(&mut self, stream: StreamId, cache: SocketAddr) {
        let key = (stream, cache);
        if self.holdings.get(&key).is_some_and(|holding| holding.state == HoldState::Fetching) {
            self.holdings.remove(&key);
        }
    }

    /// The cache that is reached at `advertise`.
    pub fn get(&self, advertise: SocketAddr) -> Option<&Cache> {
        self.caches.get(&advertise)
    }

    /// What `cache` is to `stream`.
    pub fn holding(&self, now: Time, stream: StreamId, cache: SocketAddr) -> Option<Holding> {
        self.holdings.get(&(stream, cache)).copied().filter(|holding| self.is_fresh(now, holding))
    }

    /// The caches that hold `stream`, fetching ones included.
    pub fn holders(&self, now: Time, stream: StreamId) -> impl Iterator<Item = (SocketAddr, Holding)> {
        let (first, last) = (lowest(), highest());
        self.holdings
            .range((stream, first)..=(stream, last))
            .filter(move |((_, cache), holding)| self.is_fresh(now, holding) && self.caches.contains_key(cache))
            .map(|((_, cache), holding)| (*cache, *holding))
    }

    /// Whether some cache has the publisher of `stream` uploading to it.
    pub fn has_origin(&self, now: Time, stream: StreamId) -> bool {
        self.holders(now, stream).any(|(_, holding)| holding.state == HoldState::Origin)
    }

    /// Caches for somebody new, best first: those for which `rank` is least (`None`: not at all), among equals the least
    /// loaded. Draining ones are left out; full ones come last.
    pub fn best<R: Ord>(&self, rank: impl Fn(SocketAddr) -> Option<R>) -> Vec<SocketAddr> {
        let mut ranked: Vec<_> = self
            .caches
            .iter()
            .filter(|(_, cache)| !cache.draining)
            .filter_map(|(addr, cache)| Some((cache.load() >= FULL_PERMILLE, rank(*addr)?, cache.load(), *addr)))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., addr)| addr).collect()
    }

    /// Caches besides `than` that have room, the least loaded first, for viewers that `than` cannot take.
    pub fn others(&self, than: SocketAddr) -> Vec<CacheLoad> {
        let mut others: Vec<CacheLoad> = self
            .caches
            .iter()
            .filter(|(addr, cache)| **addr != than && !cache.draining && cache.load() < FULL_PERMILLE)
            .map(|(addr, cache)| CacheLoad { addr: *addr, load_permille: cache.load() as u16 })
            .collect();
        others.sort_unstable_by_key(|other| (other.load_permille, other.addr));
        others
    }

    /// Somebody was sent to `cache`.
    pub fn assign(&mut self, cache: SocketAddr) {
        if let Some(cache) = self.caches.get_mut(&cache) {
            cache.assigned = cache.assigned.saturating_add(1);
        }
    }

    /// Drops caches that have fallen silent and streams that no report names; returns the streams that lost a holder.
    pub fn expire(&mut self, now: Time) -> Vec<StreamId> {
        let silence = self.silence;
        let before = self.caches.len();
        self.caches.retain(|_, cache| now.since(cache.heard) < silence);
        self.stats.expired += (before - self.caches.len()) as u64;
        let mut lost = Vec::new();
        let caches = &self.caches;
        self.holdings.retain(|(stream, cache), holding| {
            let keep = now.since(holding.heard) < silence && caches.contains_key(cache);
            if !keep {
                lost.push(*stream);
            }
            keep
        });
        lost
    }

    /// How many caches there are.
    pub fn len(&self) -> usize {
        self.caches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// How many streams are held, counted once for each cache.
    pub fn holdings(&self) -> usize {
        self.holdings.len()
    }

    /// The counters.
    pub const fn stats(&self) -> CacheStats {
        self.stats
    }

    fn is_fresh(&self, now: Time, holding: &Holding) -> bool {
        now.since(holding.heard) < self.silence
    }
}

fn lowest() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn highest() -> SocketAddr {
    SocketAddr::V6(std::net::SocketAddrV6::new(std::net::Ipv6Addr::from_bits(u128::MAX), u16::MAX, u32::MAX, u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: StreamId = StreamId(1);
    const SILENCE: Span = Span::from_secs(3);

    fn cache(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 7400))
    }

    fn caches(loads: &[(u8, u16, bool)]) -> Caches {
        let mut caches = Caches::new(8, 8, SILENCE);
        for (n, load_permille, draining) in loads {
            let report =
                CacheReport { advertise: cache(*n), load_permille: *load_permille, viewers: 0, draining: *draining };
            assert!(caches.report(Time::ZERO, cache(*n), &report));
        }
        caches
    }

    fn held(state: HoldState) -> HeldStream {
        HeldStream { stream: NEWS, state, epoch: Epoch(1), head: ChunkSeq::new(9), viewers: 0 }
    }

    #[test]
    fn the_least_loaded_comes_first_and_a_draining_one_never() {
        let mut caches = caches(&[(1, 500, false), (2, 100, false), (3, 0, true), (4, 1000, false)]);
        assert_eq!(caches.best(|_| Some(())), [cache(2), cache(1), cache(4)]);
        for _ in 0..401 {
            caches.assign(cache(2));
        }
        assert_eq!(caches.best(|_| Some(()))[0], cache(1), "those sent there since its report count");
        assert_eq!(caches.best(|c| (c == cache(4)).then_some(())), [cache(4)]);
    }

    #[test]
    fn a_cache_is_told_of_others_that_have_room_and_not_of_itself() {
        let caches = caches(&[(1, 0, false), (2, 900, false), (3, 100, true), (4, 1000, false), (5, 300, false)]);
        let told = |n| caches.others(cache(n)).into_iter().map(|o| (o.addr, o.load_permille)).collect::<Vec<_>>();
        assert_eq!(told(1), [(cache(5), 300), (cache(2), 900)], "the third goes out of service, the fourth is full");
        assert_eq!(told(5), [(cache(1), 0), (cache(2), 900)]);
    }

    #[test]
    fn what_is_not_reported_again_is_gone() {
        let mut caches = caches(&[(1, 0, false)]);
        assert_eq!(caches.holds(Time::ZERO, cache(1), &[held(HoldState::Origin)]), Some(vec![NEWS]));
        assert_eq!(caches.holds(Time::ZERO, cache(1), &[held(HoldState::Origin)]), Some(vec![]), "no news");
        let later = Time::from_millis(2_999);
        assert!(caches.has_origin(later, NEWS));
        let report = CacheReport { advertise: cache(1), load_permille: 0, viewers: 0, draining: false };
        caches.report(later, cache(1), &report);
        assert_eq!(caches.expire(Time::from_millis(3_000)), [NEWS], "the cache stays, its stream goes");
        assert_eq!((caches.len(), caches.holdings()), (1, 0));
        caches.expire(Time::from_millis(6_000));
        assert_eq!((caches.len(), caches.stats().expired), (0, 1));
        assert_eq!(caches.holds(Time::from_millis(6_000), cache(1), &[held(HoldState::Origin)]), None, "report first");
    }

    #[test]
    fn an_order_counts_as_fetching_until_it_is_taken_back() {
        let mut caches = caches(&[(1, 0, false)]);
        caches.expect(Time::ZERO, NEWS, cache(1));
        assert_eq!(caches.holders(Time::ZERO, NEWS).count(), 1);
        caches.disappointed(NEWS, cache(1));
        assert_eq!(caches.holders(Time::ZERO, NEWS).count(), 0);
        caches.holds(Time::ZERO, cache(1), &[held(HoldState::Relay)]);
        caches.disappointed(NEWS, cache(1));
        assert_eq!(caches.holders(Time::ZERO, NEWS).count(), 1, "what a cache reports is not taken back");
    }

    #[test]
    fn an_ended_stream_is_forgotten_at_once() {
        let mut caches = caches(&[(1, 0, false)]);
        caches.holds(Time::ZERO, cache(1), &[held(HoldState::Relay)]);
        caches.holds(Time::ZERO, cache(1), &[held(HoldState::Ended)]);
        assert_eq!(caches.holdings(), 0);
    }
}
