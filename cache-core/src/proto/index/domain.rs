//! The index's dealings with its domain's caches and with the route servers: reports, where to fetch a stream, announcements.

use std::net::SocketAddr;

use super::pulls::{LOCATE_DEADLINE, Outcome};
use super::{Answer, Index, Purpose, UNKNOWN_RETRY_MS};
use crate::limits::CACHES_PER_ANSWER_MAX;
use crate::outbox::Outbox;
use crate::proto::asker::QUESTIONS_MAX;
use crate::proto::gate::Outgoing;
use crate::sign::stream_id;
use crate::time::{Span, Time};
use crate::units::StreamId;
use crate::wire::datagram::Message;
use crate::wire::index::{
    CacheKeys, CachePull, CacheReport, CacheReportAck, CacheStreams, HeldStream, HoldState, Resolve, Resolved,
    StreamKey,
};
use crate::wire::route::{LocateStream, StreamAnnounce};
use crate::wire::{List, RefusalReason, StreamName};

/// How long a cache has to acknowledge an order. Our guess: a cache that is silent for so long is gone anyway.
const PULL_DEADLINE: Span = Span::from_secs(3);

/// How long a route server has to acknowledge an announcement; the next one follows in any case.
const ANNOUNCE_DEADLINE: Span = Span::from_secs(2);

/// Open questions above which announcements are put off, so that room is left for what somebody waits for.
const ANNOUNCE_OPEN_MAX: usize = QUESTIONS_MAX / 2;

/// Who finds no cache may come again after this long: a cache's reporting period (our guess).
const NO_CACHE_RETRY_MS: u32 = 1_000;

impl Index {
    pub(super) fn cache_report(&mut self, now: Time, from: SocketAddr, report: &CacheReport) -> Answer {
        if report.advertise.ip().is_unspecified() || report.advertise.port() == 0 {
            return Answer::refuse(RefusalReason::BadMessage);
        }
        if !self.caches.report(now, from, report) {
            return Answer::refuse_for_now(RefusalReason::Full, NO_CACHE_RETRY_MS);
        }
        let others = self.caches.others(report.advertise);
        CacheReportAck { others: List::first_of(others) }.into()
    }

    /// What a cache holds. A cache that still has an older publisher than another one is told to fetch from there, and so is one
    /// that has gone without chunks while another one has newer ones from the publisher: it has changed caches within its term. One
    /// whose stream has no keys here is not known well enough: what it told of them was lost, and it tells them again.
    pub(super) fn cache_streams(&mut self, now: Time, report: &CacheStreams) -> Answer {
        let Some(news) = self.caches.holds(now, report.advertise, &report.streams) else {
            return Answer::refuse(RefusalReason::NotJoined);
        };
        for stream in news {
            self.announcer.changed(now, stream);
        }
        for held in report.streams.iter() {
            self.terms.touch(now, held.stream);
            self.terms.used(now, held.stream, held.epoch);
            if matches!(held.state, HoldState::Origin | HoldState::Stalled) {
                let newer = |(cache, other): (SocketAddr, super::caches::Holding)| {
                    let went_on = held.state == HoldState::Stalled && other.head > held.head;
                    let newer = other.epoch > held.epoch || (other.epoch == held.epoch && went_on);
                    (other.state == HoldState::Origin && newer).then_some(cache)
                };
                let parents: Vec<_> = self.caches.holders(now, held.stream).filter_map(newer).collect();
                if !parents.is_empty() {
                    self.order_pull(now, held.stream, report.advertise, &parents);
                }
            }
        }
        let has_chunks = |held: &HeldStream| matches!(held.state, HoldState::Origin | HoldState::Relay);
        if report.streams.iter().any(|held| has_chunks(held) && self.terms.keys(now, held.stream).is_empty()) {
            return Answer::refuse(RefusalReason::NotJoined);
        }
        CacheReportAck { others: List::new() }.into()
    }

    /// The name and keys of a stream that a cache holds: how an index server that was restarted gets its memory back.
    pub(super) fn cache_keys(&mut self, now: Time, held: &CacheKeys) -> Answer {
        if self.caches.get(held.advertise).is_none() {
            return Answer::refuse(RefusalReason::NotJoined);
        }
        self.learn(now, stream_id(&held.stream), &held.stream, &held.keys);
        CacheReportAck { others: List::new() }.into()
    }

    fn learn(&mut self, now: Time, stream: StreamId, name: &StreamName, keys: &[StreamKey]) {
        let before = self.terms.keys(now, stream);
        self.terms.learn(now, stream, name, keys);
        if self.terms.keys(now, stream) != before && self.caches.holders(now, stream).next().is_some() {
            self.announcer.changed(now, stream);
        }
    }

    /// Where a cache can fetch a stream that a viewer wants of it: from caches of this domain, so that the domain fetches it
    /// once; else from other domains. A cache that holds it already, and has lost its parent, is sent out of the domain:
    /// those inside may fetch from it.
    pub(super) fn resolve(&mut self, now: Time, resolve: &Resolve) -> Answer {
        let stream = stream_id(&resolve.stream);
        self.terms.touch(now, stream);
        let is_new = self.caches.holding(now, stream, resolve.advertise).is_none();
        let mut here: Vec<(HoldState, SocketAddr)> = self
            .caches
            .holders(now, stream)
            .filter(|(cache, held)| *cache != resolve.advertise && (is_new || held.state == HoldState::Origin))
            .map(|(cache, held)| (held.state, cache))
            .collect();
        here.sort_by_key(|(state, cache)| (*state as u8, *cache));
        let live_here = here.iter().any(|(state, _)| *state != HoldState::Stalled);
        let mut parents: Vec<SocketAddr> = here.into_iter().map(|(_, cache)| cache).collect();
        if !live_here || self.terms.keys(now, stream).is_empty() {
            if self.may_locate(now, stream) {
                return Answer::Wait(resolve.stream.clone());
            }
            if let Some(Outcome::Located { parents: elsewhere, .. }) = self.pulls.outcome(now, stream) {
                parents.splice(0..0, elsewhere.iter().copied());
            }
        }
        if parents.is_empty() {
            return Answer::refuse_for_now(RefusalReason::UnknownStream, UNKNOWN_RETRY_MS);
        }
        let keys = self.terms.keys(now, stream);
        Resolved { stream: resolve.stream.clone(), keys, parents: List::first_of(parents) }.into()
    }

    /// Caches for a peer, best first: the first holds the stream or is fetching it. Starts the fetching where need be.
    pub(super) fn caches_for_viewer(
        &mut self,
        now: Time,
        stream: StreamId,
        name: &StreamName,
    ) -> Result<Vec<SocketAddr>, Box<Answer>> {
        let newest = self.caches.holders(now, stream).map(|(_, held)| held.epoch).max().unwrap_or_default();
        let state = |cache| {
            let held = self.caches.holding(now, stream, cache)?;
            // A publisher whose term is over, wherever its cache has not noticed.
            let is_over = held.state == HoldState::Origin && held.epoch < newest;
            Some(if is_over { HoldState::Stalled } else { held.state })
        };
        let mut caches = self.caches.best(|cache| {
            Some(match state(cache) {
                Some(HoldState::Origin | HoldState::Relay) => 0,
                Some(HoldState::Fetching) => 1,
                Some(HoldState::Stalled | HoldState::Ended) => 2,
                None => 3,
            })
        });
        caches.truncate(CACHES_PER_ANSWER_MAX);
        let Some(first) = caches.first().copied() else {
            return Err(Box::new(Answer::refuse_for_now(RefusalReason::NoCache, NO_CACHE_RETRY_MS)));
        };
        let live = |held: HoldState| held != HoldState::Stalled;
        let live_here: Vec<_> =
            self.caches.holders(now, stream).filter(|(cache, _)| state(*cache).is_some_and(live)).collect();
        if state(first).is_some_and(live) {
            return Ok(caches);
        }
        if !live_here.is_empty() {
            // Those that hold it are full: another cache of the domain fetches from them.
            let parents: Vec<_> = live_here.into_iter().map(|(cache, _)| cache).collect();
            self.order_pull(now, stream, first, &parents);
            return Ok(caches);
        }
        if self.may_locate(now, stream) {
            return Err(Box::new(Answer::Wait(name.clone())));
        }
        let stalled_here = state(first).is_some();
        match self.pulls.outcome(now, stream).cloned() {
            Some(Outcome::Located { parents, epoch, .. })
                if !parents.is_empty() && (!stalled_here || epoch > newest) =>
            {
                self.order_pull(now, stream, first, &parents);
                Ok(caches)
            }
            _ if stalled_here => Ok(caches),
            _ => Err(Box::new(Answer::refuse_for_now(RefusalReason::UnknownStream, UNKNOWN_RETRY_MS))),
        }
    }

    /// Whether the route servers are to be asked about `stream` before a question is answered: there is one, and it has not
    /// just been asked.
    pub(super) fn may_locate(&self, now: Time, stream: StreamId) -> bool {
        !self.config.routes.is_empty() && self.pulls.outcome(now, stream).is_none()
    }

    /// Asks the route servers where `stream` is; false when that cannot be asked.
    pub(super) fn locate(&mut self, now: Time, stream: StreamId, name: &StreamName) -> bool {
        let question = LocateStream { domain: self.config.domain, stream: name.clone() };
        let routes = self.config.routes.clone();
        self.ask(now, &routes, question.into(), LOCATE_DEADLINE, Purpose::Locate(stream, name.clone()))
    }

    /// The route server has answered, or not: those who waited are looked at again.
    pub(super) fn located(
        &mut self,
        now: Time,
        stream: StreamId,
        name: &StreamName,
        answer: Option<Message>,
        out: &mut Outbox<Outgoing>,
    ) {
        let outcome = match answer {
            Some(Message::StreamLocated(located)) => {
                self.learn(now, stream, name, &located.keys);
                let mine: Vec<_> = self.caches.holders(now, stream).map(|(cache, _)| cache).collect();
                let parents = located.caches.iter().copied().filter(|cache| !mine.contains(cache)).collect();
                Outcome::Located { parents, origin: located.origin, epoch: located.epoch }
            }
            Some(Message::Refused(refused)) if refused.reason == RefusalReason::UnknownStream => Outcome::Nowhere,
            _ => Outcome::Unanswered,
        };
        for (from, question) in self.pulls.resolve(now, stream, outcome) {
            self.question(now, from, question, false, out);
        }
    }

    /// Tells a cache to fetch a stream, unless it is being told.
    fn order_pull(&mut self, now: Time, stream: StreamId, cache: SocketAddr, parents: &[SocketAddr]) {
        let told = |purpose: &Purpose| matches!(purpose, Purpose::Pull(s, c) if (*s, *c) == (stream, cache));
        if self.purposes.values().any(told) {
            return;
        }
        let Some(name) = self.terms.get(stream).map(|term| term.name.clone()) else { return };
        let Some(control) = self.caches.get(cache).map(|cache| cache.control) else { return };
        let keys = self.terms.keys(now, stream);
        let parents = List::first_of(parents.iter().copied().filter(|parent| *parent != cache));
        let order = CachePull { stream: name, keys, parents };
        if self.ask(now, &[control], order.into(), PULL_DEADLINE, Purpose::Pull(stream, cache)) {
            self.pulls.stats.ordered += 1;
            self.caches.expect(now, stream, cache);
        }
    }

    pub(super) fn pull_answered(&mut self, stream: StreamId, cache: SocketAddr, answer: Option<&Message>) {
        if !matches!(answer, Some(Message::CachePullAck(_))) {
            self.pulls.stats.orders_failed += 1;
            self.caches.disappointed(stream, cache);
        }
    }

    /// Tells the route servers of streams that are due.
    pub(super) fn announce(&mut self, now: Time) {
        while let Some(stream) = self.announcer.next_due(now) {
            if self.purposes.len() >= ANNOUNCE_OPEN_MAX {
                self.stats.announcements_put_off += 1;
                return;
            }
            let announced = self.announcement(now, stream);
            let live = announced.as_ref().is_some_and(|announced| announced.live);
            if self.announcer.looked_at(now, stream, live)
                && let Some(announced) = announced
            {
                for route in self.config.routes.clone() {
                    self.stats.announced += 1;
                    let announced = announced.clone().into();
                    self.ask(now, &[route], announced, ANNOUNCE_DEADLINE, Purpose::Announce);
                }
            }
        }
    }

    /// What there is to say of a stream; `None` when its name is not known here.
    fn announcement(&mut self, now: Time, stream: StreamId) -> Option<StreamAnnounce> {
        let serves = |state| matches!(state, HoldState::Origin | HoldState::Relay | HoldState::Stalled);
        let held: Vec<_> = self.caches.holders(now, stream).filter(|(_, held)| serves(held.state)).collect();
        let Some(term) = self.terms.get(stream) else {
            self.stats.unnamed += u64::from(!held.is_empty());
            return None;
        };
        let mut caches = self.caches.best(|cache| {
            let (_, held) = held.iter().find(|(holder, _)| *holder == cache)?;
            Some(held.state as u8)
        });
        if caches.is_empty() {
            // Going out of service, and yet the only ones: a new home of the stream fetches from them.
            caches = held.iter().map(|(cache, _)| *cache).collect();
        }
        Some(StreamAnnounce {
            domain: self.config.domain,
            stream: term.name.clone(),
            origin: held.iter().any(|(_, held)| held.state == HoldState::Origin),
            epoch: held.iter().map(|(_, held)| held.epoch).max().unwrap_or_default(),
            head: held.iter().map(|(_, held)| held.head).max().unwrap_or_default(),
            keys: term.keys(now),
            live: !caches.is_empty(),
            caches: List::first_of(caches),
        })
    }

    /// Asks a question of this machine's own; false when too many are open, or there is nobody to ask.
    fn ask(&mut self, now: Time, servers: &[SocketAddr], question: Message, within: Span, purpose: Purpose) -> bool {
        match self.asker.ask(now, servers, question, now.after(within), &mut self.asked) {
            Some(id) => {
                self.purposes.insert(id, purpose);
                true
            }
            None => {
                self.stats.questions_full += 1;
                false
            }
        }
    }
}
