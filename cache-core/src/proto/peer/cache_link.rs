//! The link to the cache: the data source of the domain and, to a peer, one more partner with everything in it.
//!
//! ```text
//!  Resting --its time--> Dialling --Connected--> Greeting --Welcome--> Opening --StreamInfo--> Open
//!     ^                                                                                          |
//!     +------------- closed, refused, too slow: the next cache of the list ---------------------+
//! ```
//! The index names several caches; the best is used and the others wait. One that fails is followed by the next at
//! once; after a whole round there is a growing pause. A silent cache is told from a silent publisher by a probe (the
//! stream is opened again, which any cache answers). Without any cache the swarm plays on with what partners have.

use std::net::SocketAddr;

use super::config::Tuning;
use super::event::LinkId;
use super::handshake::{Ourselves, hello};
use super::help::Help;
use super::requests::request_frames;
use super::turn::Turn;
use crate::limits::CACHES_PER_ANSWER_MAX;
use crate::peer_id::PeerId;
use crate::time::{Span, Time};
use crate::units::{ChunkSeq, StreamId};
use crate::wire::exchange::{Open, StreamInfo, Unavailable};
use crate::wire::{Frame, RefusalReason};

/// Most caches remembered: an answer of the index and one of a cache that sends us elsewhere.
const CACHES_MAX: usize = 2 * CACHES_PER_ANSWER_MAX;

/// How often one is sent on from cache to cache until one is open. Further ones are not listed: two full caches that name
/// each other, or one that names a stranger each time, end in a pause like any others that fail. Our guess: a domain's
/// index names the least loaded, so that the second is right nearly always.
const SENT_ON_MAX: usize = 3;

/// Longest pause that a cache's refusal can ask for. Our guess.
const RETRY_MAX: Span = Span::from_secs(10);

/// Pause after every cache of the list has failed; it doubles up to the second value. Our guess.
const REST_FIRST: Span = Span::from_millis(250);
const REST_MAX: Span = Span::from_secs(2);

/// How long a cache may take to open a stream that it has to fetch first. Our guess.
const OPEN_PATIENCE: Span = Span::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resting { until: Time },
    Dialling { link: LinkId, deadline: Time },
    Greeting { link: LinkId, deadline: Time },
    Opening { link: LinkId, deadline: Time },
    Open { link: LinkId, heard: Time, probed: Option<Time> },
}

/// What a cache's frame means to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CacheEvent {
    /// Nothing beyond the link.
    Nothing,
    /// The stream is open; also the answer to a probe.
    Info(StreamInfo),
    /// Chunks will not come.
    Unavailable(Unavailable),
    /// The stream ends with this chunk.
    Ended(ChunkSeq),
    /// The link is gone; what it owed will not come.
    Lost(LinkId),
}

/// The list of caches and the link to one of them.
#[derive(Clone, Debug)]
pub(super) struct CacheLink {
    caches: Vec<SocketAddr>,
    at: usize,
    /// Failures since a cache was open.
    failures: usize,
    /// How often caches have named others since one was open.
    sent_on: usize,
    /// The longest time, since a cache was open, that one has asked to be left alone.
    retry: Span,
    rest: Span,
    stage: Stage,
    /// What the cache of the present link says that it has left.
    help: Help,
}

impl CacheLink {
    /// No cache known.
    pub(super) fn new() -> CacheLink {
        CacheLink {
            caches: Vec::new(),
            at: 0,
            failures: 0,
            sent_on: 0,
            retry: Span::ZERO,
            rest: REST_FIRST,
            stage: Stage::Resting { until: Time::ZERO },
            help: Help::default(),
        }
    }

    /// The index's list, best first. A link that stands is kept, and so is the old list when the new one is empty.
    pub(super) fn caches(&mut self, caches: &[SocketAddr]) {
        if caches.is_empty() {
            return;
        }
        let present = self.address();
        self.caches = caches.iter().copied().take(CACHES_MAX).collect();
        self.at = present.and_then(|addr| self.caches.iter().position(|c| *c == addr)).unwrap_or(0);
        if let Some(addr) = present
            && !self.caches.contains(&addr)
        {
            self.caches.insert(0, addr);
        }
    }

    /// The cache of the present link.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.link().and_then(|_| self.caches.get(self.at).copied())
    }

    /// The link, if it can be asked for chunks.
    pub(super) const fn open(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Open { link, .. } => Some(link),
            _ => None,
        }
    }

    pub(super) const fn link(&self) -> Option<LinkId> {
        match self.stage {
            Stage::Resting { .. } => None,
            Stage::Dialling { link, .. }
            | Stage::Greeting { link, .. }
            | Stage::Opening { link, .. }
            | Stage::Open { link, .. } => Some(link),
        }
    }

    /// What the cache says that it has left.
    pub(super) const fn help(&self) -> Help {
        self.help
    }

    /// Asks the open cache how much it has left, when it is time to. The answer says where to begin as well, and is
    /// passed over by who has begun.
    pub(super) fn ask_help(&mut self, t: &mut Turn<'_>, me: PeerId) {
        if let Stage::Open { link, .. } = self.stage
            && self.help.is_due(t.now, me)
        {
            t.send(link, open_frame(t));
        }
    }

    /// Dials when it is time, gives up what takes too long. `waiting`: whether chunks are asked of the cache.
    pub(super) fn tick(&mut self, t: &mut Turn<'_>, waiting: bool) -> CacheEvent {
        match self.stage {
            Stage::Resting { until } if until <= t.now && !self.caches.is_empty() => {
                let link = t.connect(self.caches[self.at]);
                self.stage = Stage::Dialling { link, deadline: t.in_ms(t.tuning().handshake_ms) };
            }
            Stage::Dialling { deadline, .. } | Stage::Greeting { deadline, .. } | Stage::Opening { deadline, .. }
                if deadline <= t.now =>
            {
                return self.fail(t, true);
            }
            Stage::Open { probed: Some(at), .. } if at.after(t.tuning().cache_timeout()) <= t.now => {
                return self.fail(t, true);
            }
            Stage::Open { heard, probed: None, .. }
                if waiting && heard.after(t.tuning().cache_timeout().times(2)) <= t.now =>
            {
                self.suspect(t);
            }
            _ => {}
        }
        CacheEvent::Nothing
    }

    /// When [`CacheLink::tick`] may have something to do.
    pub(super) fn next_timeout(&self, now: Time, tuning: &Tuning) -> Time {
        match self.stage {
            Stage::Resting { .. } if self.caches.is_empty() => Time::NEVER,
            Stage::Resting { until } => until,
            Stage::Dialling { deadline, .. } | Stage::Greeting { deadline, .. } | Stage::Opening { deadline, .. } => {
                deadline
            }
            Stage::Open { probed: Some(at), .. } => at.after(tuning.cache_timeout()),
            Stage::Open { heard, probed: None, .. } => {
                // Past it nothing is waited for; a request that was not answered makes itself known.
                let at = heard.after(tuning.cache_timeout().times(2));
                if at > now { at } else { Time::NEVER }
            }
        }
    }

    /// A chunk did not come in time: unless the cache was heard meanwhile, it is asked for a sign of life.
    pub(super) fn suspect(&mut self, t: &mut Turn<'_>) {
        if let Stage::Open { link, heard, probed: probed @ None } = &mut self.stage
            && heard.after(t.tuning().cache_timeout()) <= t.now
        {
            *probed = Some(t.now);
            t.send(*link, open_frame(t));
        }
    }

    pub(super) fn connected(&mut self, t: &mut Turn<'_>, link: LinkId, us: &Ourselves) {
        if let Stage::Dialling { link: ours, deadline } = self.stage
            && ours == link
        {
            self.stage = Stage::Greeting { link, deadline };
            t.send(link, hello(t, us));
            // In the same breath: a cache answers in order, and a round trip is saved.
            t.send(link, open_frame(t));
        }
    }

    /// The link is dead: [`CacheEvent::Lost`] if it was this one.
    pub(super) fn closed(&mut self, t: &mut Turn<'_>, link: LinkId) -> CacheEvent {
        if self.link() == Some(link) { self.fail(t, false) } else { CacheEvent::Nothing }
    }

    /// A chunk came on the link.
    pub(super) fn heard(&mut self, now: Time) {
        if let Stage::Open { heard, probed, .. } = &mut self.stage {
            (*heard, *probed) = (now, None);
        }
    }

    /// Takes in a frame of this link.
    pub(super) fn frame(&mut self, t: &mut Turn<'_>, frame: Frame, stream: StreamId) -> CacheEvent {
        self.heard(t.now);
        match (self.stage, frame) {
            (Stage::Greeting { link, .. }, Frame::Welcome(_)) => {
                self.stage = Stage::Opening { link, deadline: t.now.after(OPEN_PATIENCE) };
                CacheEvent::Nothing
            }
            (Stage::Opening { link, .. } | Stage::Open { link, .. }, Frame::StreamInfo(info))
                if info.stream == stream =>
            {
                self.stage = Stage::Open { link, heard: t.now, probed: None };
                self.help.said(t.now, info.spare_permille);
                (self.failures, self.sent_on) = (0, 0);
                (self.retry, self.rest) = (Span::ZERO, REST_FIRST);
                CacheEvent::Info(info)
            }
            (Stage::Open { .. }, Frame::Unavailable(said)) if said.stream == stream && said.count > 0 => {
                CacheEvent::Unavailable(said)
            }
            (Stage::Open { .. }, Frame::Ended(said)) if said.stream == stream => CacheEvent::Ended(said.last),
            (_, Frame::TryInstead(list)) => {
                self.sent_on(&list.caches);
                CacheEvent::Nothing
            }
            (_, Frame::Refused(no)) => {
                self.retry = self.retry.max(Span::from_millis(no.retry_ms.into()).min(RETRY_MAX));
                self.fail(t, true)
            }
            (_, Frame::Unavailable(_) | Frame::Leave(_)) => self.fail(t, true),
            // What a newer cache may say besides.
            (Stage::Open { .. }, Frame::Skipped(_)) => CacheEvent::Nothing,
            _ => {
                t.stats.frames_unexpected += 1;
                self.fail(t, true)
            }
        }
    }

    /// The present cache names others: they are tried next, in their order, those known already in their own turn.
    fn sent_on(&mut self, named: &[SocketAddr]) {
        if self.sent_on >= SENT_ON_MAX {
            return;
        }
        self.sent_on += 1;
        let room = CACHES_MAX.saturating_sub(self.caches.len());
        let new: Vec<SocketAddr> = named.iter().copied().filter(|c| !self.caches.contains(c)).take(room).collect();
        let next = (self.at + 1).min(self.caches.len());
        self.caches.splice(next..next, new);
    }

    /// Asks the open cache for `seqs`, ascending.
    pub(super) fn request(&self, t: &mut Turn<'_>, stream: StreamId, seqs: &[ChunkSeq]) {
        if let Some(link) = self.open() {
            request_frames(stream, seqs, Span::ZERO).into_iter().for_each(|frame| t.send(link, frame));
        }
    }

    /// Asks where to begin once more: the chunks offered before are gone.
    pub(super) fn reopen(&mut self, t: &mut Turn<'_>) {
        if let Some(link) = self.open() {
            self.stage = Stage::Opening { link, deadline: t.now.after(OPEN_PATIENCE) };
            t.send(link, open_frame(t));
        }
    }

    /// On to the next cache: this one sent a wrong chunk, or failed otherwise.
    pub(super) fn fail(&mut self, t: &mut Turn<'_>, close: bool) -> CacheEvent {
        let Some(link) = self.link() else { return CacheEvent::Nothing };
        t.stats.cache_failovers += 1;
        self.help = Help::default();
        if close {
            t.close(link);
        }
        self.failures += 1;
        self.at = (self.at + 1) % self.caches.len().max(1);
        let until = if self.failures.is_multiple_of(self.caches.len().max(1)) {
            let rest = self.rest;
            self.rest = self.rest.times(2).min(REST_MAX);
            // All are full, or gone: those that have said when to come again meant it.
            t.now.after(rest.max(std::mem::take(&mut self.retry)))
        } else {
            t.now
        };
        self.stage = Stage::Resting { until };
        CacheEvent::Lost(link)
    }
}

fn open_frame(t: &Turn<'_>) -> Open {
    Open { stream: t.config.stream.clone(), back: t.tuning().back_chunks() }
}

/// How long a chunk is not asked of the cache again after it refused it.
pub(super) const fn hold_off(reason: RefusalReason) -> Span {
    match reason {
        // Too far ahead, or more at once than it grants: it will come.
        RefusalReason::NotYet | RefusalReason::Busy => Span::from_millis(300),
        _ => Span::from_secs(3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Output;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::time::WallClock;
    use crate::units::Epoch;
    use crate::wire::exchange::{TryInstead, Welcome};
    use crate::wire::{List, Refused};

    const STREAM: StreamId = StreamId(1);
    const US: Ourselves =
        Ourselves { id: PeerId::NONE, stream: STREAM, domain: crate::units::DomainId(0), accepted_max: 0 };

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn info() -> Frame {
        let seq = ChunkSeq::new(100);
        let clock = WallClock::from_micros(0);
        let (oldest, head, begin, spare_permille) = (seq, seq, seq, 500);
        let info =
            StreamInfo { stream: STREAM, epoch: Epoch(1), oldest, head, head_published: clock, begin, spare_permille };
        info.into()
    }

    fn welcome() -> Frame {
        Welcome { peer: PeerId::NONE, nonce: [0; 16] }.into()
    }

    /// Dials once and says to whom, by port.
    fn dialled(cache: &mut CacheLink, world: &mut TestWorld) -> Option<u16> {
        cache.tick(&mut world.turn(), false);
        world
            .outputs()
            .into_iter()
            .find_map(|o| if let Output::Connect { to, .. } = o { Some(to.port()) } else { None })
    }

    fn opened(world: &mut TestWorld, caches: &[SocketAddr]) -> CacheLink {
        let mut cache = CacheLink::new();
        cache.caches(caches);
        assert_eq!(dialled(&mut cache, world), Some(caches[0].port()));
        let link = cache.link().expect("dialled");
        cache.connected(&mut world.turn(), link, &US);
        cache.frame(&mut world.turn(), welcome(), STREAM);
        assert!(matches!(cache.frame(&mut world.turn(), info(), STREAM), CacheEvent::Info(_)));
        world.outputs();
        cache
    }

    #[test]
    fn the_next_cache_follows_at_once_and_a_pause_after_the_round() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = opened(&mut world, &[addr(1), addr(2)]);
        let link = cache.open().expect("open");
        assert_eq!(cache.closed(&mut world.turn(), link), CacheEvent::Lost(link));
        assert_eq!(dialled(&mut cache, &mut world), Some(2));
        let link = cache.link().expect("dialled");
        cache.closed(&mut world.turn(), link);
        assert_eq!(dialled(&mut cache, &mut world), None);
        world.pass(250);
        assert_eq!(dialled(&mut cache, &mut world), Some(1));
    }

    #[test]
    fn a_cache_that_sends_us_elsewhere_is_followed() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = opened(&mut world, &[addr(1), addr(2)]);
        cache.frame(&mut world.turn(), TryInstead { caches: List::first_of([addr(7)]) }.into(), STREAM);
        cache.frame(&mut world.turn(), Refused::because(RefusalReason::Draining).into(), STREAM);
        assert_eq!(dialled(&mut cache, &mut world), Some(7));
    }

    /// A full cache: what it says instead of a Welcome. Who is dialled next, in order, until there is a pause.
    fn turned_away(world: &mut TestWorld, cache: &mut CacheLink, names: impl Fn(u16) -> Vec<u16>) -> Vec<u16> {
        let mut tried = Vec::new();
        while let Some(port) = dialled(cache, world) {
            tried.push(port);
            let link = cache.link().expect("dialled");
            cache.connected(&mut world.turn(), link, &US);
            let named = names(port).into_iter().map(addr);
            cache.frame(&mut world.turn(), TryInstead { caches: List::first_of(named) }.into(), STREAM);
            cache.frame(&mut world.turn(), Refused::for_now(RefusalReason::Full, 1_000).into(), STREAM);
            world.outputs();
            assert!(tried.len() < 100, "sent round and round");
        }
        tried
    }

    #[test]
    fn two_full_caches_that_name_each_other_are_left_alone_for_as_long_as_they_say() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = CacheLink::new();
        cache.caches(&[addr(1)]);
        let other = |port| vec![if port == 1 { 2 } else { 1 }];
        assert_eq!(turned_away(&mut world, &mut cache, other), [1, 2]);
        world.pass(999);
        assert_eq!(dialled(&mut cache, &mut world), None, "both have asked for a second");
        world.pass(1);
        assert_eq!(turned_away(&mut world, &mut cache, other), [1, 2]);
    }

    #[test]
    fn who_is_always_sent_to_strangers_still_comes_to_its_own_caches_and_to_a_pause() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = CacheLink::new();
        cache.caches(&[addr(1), addr(2)]);
        let tried = turned_away(&mut world, &mut cache, |port| (1..=4).map(|n| port * 10 + n).collect());
        assert!(tried.contains(&2) && tried.len() <= CACHES_MAX, "{tried:?}");
    }

    #[test]
    fn a_silent_cache_is_probed_and_left_when_it_does_not_answer() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = opened(&mut world, &[addr(1), addr(2)]);
        world.pass(2_000);
        cache.tick(&mut world.turn(), false);
        assert!(world.outputs().is_empty(), "nothing is awaited of it");
        cache.tick(&mut world.turn(), true);
        assert!(matches!(world.outputs().as_slice(), [Output::Send { frame: Frame::Open(_), .. }]));
        cache.frame(&mut world.turn(), info(), STREAM);
        world.pass(2_000);
        cache.tick(&mut world.turn(), true);
        world.pass(1_000);
        assert!(matches!(cache.tick(&mut world.turn(), true), CacheEvent::Lost(_)));
        assert_eq!(dialled(&mut cache, &mut world), Some(2));
    }

    #[test]
    fn a_new_list_keeps_the_link_that_stands() {
        let mut world = TestWorld::new(Tuning::default());
        let mut cache = opened(&mut world, &[addr(1)]);
        cache.caches(&[addr(2), addr(3)]);
        assert_eq!(cache.address(), Some(addr(1)));
        assert!(cache.open().is_some());
        let link = cache.open().expect("open");
        cache.closed(&mut world.turn(), link);
        assert_eq!(dialled(&mut cache, &mut world), Some(2));
    }
}
