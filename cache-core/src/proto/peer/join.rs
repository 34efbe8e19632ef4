//! The dialogue with route and index servers: where are we, who else is there, are we still known.
//!
//! ```text
//!  Idle --start--> Routing --RouteJoined--> Indexing --Joined--> In   heartbeats; the route's lease is renewed
//!                     ^          |             ^  |                |   at half time; keys when asked for
//!                     +--retry---+-------------+--+<--NotJoined----+
//! ```
//! Servers are asked in the order of their lists ([`Asker`]). Until the first `Joined` a refusal with a time to retry is
//! retried, one without ends the peer, and so does the deadline. After it nothing here ends the peer: a swarm plays on
//! without its index.

use std::net::SocketAddr;

use super::event::{End, Output};
use super::turn::Turn;
use crate::outbox::Outbox;
use crate::peer_id::PeerId;
use crate::proto::asker::{Asker, AskerOutput, QuestionId};
use crate::time::{Span, Time};
use crate::units::{DomainId, StreamId};
use crate::wire::datagram::{Datagram, Message};
use crate::wire::index::{DialBackAck, Join as JoinMessage, Joined, KeysQuery, PeerHeartbeat, PeerLeave, StreamKey};
use crate::wire::route::{RouteJoin, RouteJoined, RouteLeave};
use crate::wire::{Blob, RefusalReason, Refused};

/// How long a question after the first join is repeated. Our guess: two servers, twice each.
const PATIENCE: Span = Span::from_secs(4);

/// Shortest time between two questions for keys, and between two refreshes of the member list. Our guesses.
const KEYS_PERIOD: Span = Span::from_secs(1);
const REFRESH_PERIOD: Span = Span::from_secs(5);

/// Pause after a question failed, and the least pause before a refused one is repeated. Our guesses.
const RETRY: Span = Span::from_secs(1);
const RETRY_MIN: Span = Span::from_millis(200);

/// Shortest period of heartbeats, whatever the index says. Our guess.
const HEARTBEAT_MIN: Span = Span::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Routing(Step),
    Indexing(Step),
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ask { at: Time },
    Asked(QuestionId),
}

/// What the servers said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JoinEvent {
    /// The peer is in the index (again).
    Joined(Joined),
    /// N has changed.
    Size(u32),
    /// The stream's keys.
    Keys(Vec<StreamKey>),
    /// It is over before it began.
    Failed(End),
}

/// The asker's half of the dialogue, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Join {
    asker: Asker,
    stage: Stage,
    stream: StreamId,
    id: PeerId,
    domain: Option<DomainId>,
    seen: Option<SocketAddr>,
    indexes: Vec<SocketAddr>,
    deadline: Time,
    ever_in: bool,
    last_refusal: Option<RefusalReason>,
    lease: Span,
    renew_at: Time,
    renewal: Option<QuestionId>,
    heartbeat: Option<QuestionId>,
    heartbeat_period: Span,
    next_heartbeat: Time,
    keys: Option<QuestionId>,
    next_keys: Time,
    next_refresh: Time,
}

impl Join {
    pub(super) fn new(stream: StreamId, first_exchange: u32) -> Join {
        Join {
            asker: Asker::new(first_exchange),
            stage: Stage::Idle,
            stream,
            id: PeerId::NONE,
            domain: None,
            seen: None,
            indexes: Vec::new(),
            deadline: Time::NEVER,
            ever_in: false,
            last_refusal: None,
            lease: Span::ZERO,
            renew_at: Time::NEVER,
            renewal: None,
            heartbeat: None,
            heartbeat_period: HEARTBEAT_MIN,
            next_heartbeat: Time::NEVER,
            keys: None,
            next_keys: Time::ZERO,
            next_refresh: Time::NEVER,
        }
    }

    /// Our id; [`PeerId::NONE`] before there is one.
    pub(super) const fn id(&self) -> PeerId {
        self.id
    }

    pub(super) const fn domain(&self) -> Option<DomainId> {
        self.domain
    }

    pub(super) const fn seen(&self) -> Option<SocketAddr> {
        self.seen
    }

    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// Whether the index has answered once.
    pub(super) const fn has_joined(&self) -> bool {
        self.ever_in
    }

    pub(super) fn start(&mut self, t: &mut Turn<'_>) {
        if self.stage == Stage::Idle {
            self.deadline = t.in_ms(t.tuning().join_deadline_ms);
            self.stage = Stage::Routing(Step::Ask { at: t.now });
        }
    }

    /// The last words to route and index.
    pub(super) fn leave(&mut self, t: &mut Turn<'_>) {
        let mut asked = Outbox::new();
        if let (true, Some(index)) = (self.ever_in, self.indexes.first()) {
            self.asker.tell(*index, PeerLeave { stream: self.stream, peer: self.id }.into(), &mut asked);
        }
        if let (true, Some(route)) = (self.id != PeerId::NONE, t.config.routes.first()) {
            self.asker.tell(*route, RouteLeave { peer: self.id }.into(), &mut asked);
        }
        asked.drain().for_each(|said| send(t, said));
    }

    /// A chunk of an epoch without a key came: asks for the keys, once a second at most.
    pub(super) fn want_keys(&mut self, t: &mut Turn<'_>) {
        if self.keys.is_none() && self.next_keys <= t.now && !self.indexes.is_empty() {
            self.next_keys = t.now.after(KEYS_PERIOD);
            self.keys = self.ask(t, false, KeysQuery { stream: t.config.stream.clone() }.into());
        }
    }

    /// Too few peers are known: joins again for a new list, once in five seconds at most.
    pub(super) fn refresh(&mut self, t: &mut Turn<'_>) {
        if self.stage == Stage::In && self.next_refresh <= t.now {
            self.next_refresh = t.now.after(REFRESH_PERIOD);
            self.stage = Stage::Indexing(Step::Ask { at: t.now });
        }
    }

    /// Takes in a datagram.
    pub(super) fn datagram(&mut self, t: &mut Turn<'_>, from: SocketAddr, datagram: &Datagram) -> Option<JoinEvent> {
        let mut said = Outbox::new();
        if self.asker.handle(t.now, from, datagram, &mut said) {
            return said.drain().filter_map(|said| self.said(t, said)).next();
        }
        match &datagram.message {
            Message::DialBack(asked) => {
                let cookie = self.asker.cookie(from);
                let message = DialBackAck { nonce: asked.nonce }.into();
                let answer = Datagram { exchange: datagram.exchange, cookie, message };
                t.out.push(Output::Datagram { to: from, datagram: answer });
            }
            Message::SizeChanged(news) if news.stream == self.stream && self.indexes.contains(&from) => {
                return Some(JoinEvent::Size(news.size));
            }
            _ => t.stats.datagrams_unexpected += 1,
        }
        None
    }

    /// Asks what is due; repeats and gives up questions.
    pub(super) fn tick(&mut self, t: &mut Turn<'_>) -> Option<JoinEvent> {
        let mut said = Outbox::new();
        self.asker.tick(t.now, &mut said);
        let events: Vec<JoinEvent> = said.drain().filter_map(|said| self.said(t, said)).collect();
        if !self.ever_in && self.stage != Stage::Idle && self.deadline <= t.now {
            let end = self.last_refusal.map_or(End::NoAnswer, End::Refused);
            return Some(JoinEvent::Failed(end));
        }
        match self.stage {
            Stage::Routing(Step::Ask { at }) if at <= t.now => {
                let asked = self.ask(t, true, self.route_join());
                self.stage = Stage::Routing(asked.map_or(Step::Ask { at: t.now.after(RETRY) }, Step::Asked));
            }
            Stage::Indexing(Step::Ask { at }) if at <= t.now => {
                let listen = t.config.listen;
                let stream = t.config.stream.clone();
                let join = JoinMessage { stream, peer: self.id, listen, ticket: Blob::default() };
                let asked = self.ask(t, false, join.into());
                self.stage = Stage::Indexing(asked.map_or(Step::Ask { at: t.now.after(RETRY) }, Step::Asked));
            }
            Stage::In if self.next_heartbeat <= t.now && self.heartbeat.is_none() => {
                self.next_heartbeat = t.now.after(self.heartbeat_period);
                let beat = PeerHeartbeat { stream: self.stream, peer: self.id };
                self.heartbeat = self.ask(t, false, beat.into());
            }
            _ => {}
        }
        if self.renew_at <= t.now && self.renewal.is_none() {
            self.renew_at = t.now.after(PATIENCE);
            self.renewal = self.ask(t, true, self.route_join());
        }
        events.into_iter().next()
    }

    /// When [`Join::tick`] has something to do.
    pub(super) fn next_timeout(&self) -> Time {
        let stage = match self.stage {
            Stage::Routing(Step::Ask { at }) | Stage::Indexing(Step::Ask { at }) => at,
            Stage::In if self.heartbeat.is_none() => self.next_heartbeat,
            _ => Time::NEVER,
        };
        let deadline = if self.ever_in { Time::NEVER } else { self.deadline };
        let renewal = if self.renewal.is_none() { self.renew_at } else { Time::NEVER };
        self.asker.next_timeout().min(stage).min(deadline).min(renewal)
    }

    fn route_join(&self) -> Message {
        RouteJoin { previous: self.id, ticket: Blob::default() }.into()
    }

    fn ask(&mut self, t: &mut Turn<'_>, route: bool, message: Message) -> Option<QuestionId> {
        let deadline = if self.ever_in { t.now.after(PATIENCE) } else { self.deadline };
        let servers = if route { &t.config.routes } else { &self.indexes };
        let mut said = Outbox::new();
        let question = self.asker.ask(t.now, servers, message, deadline, &mut said);
        said.drain().for_each(|said| send(t, said));
        question
    }

    fn said(&mut self, t: &mut Turn<'_>, said: AskerOutput) -> Option<JoinEvent> {
        match said {
            AskerOutput::Send { .. } => {
                send(t, said);
                None
            }
            AskerOutput::Answered { question, message, .. } => self.answered(t, question, message),
            AskerOutput::Failed { question } => {
                t.stats.questions_failed += 1;
                self.failed(t, question);
                None
            }
        }
    }

    fn answered(&mut self, t: &mut Turn<'_>, question: QuestionId, message: Message) -> Option<JoinEvent> {
        match message {
            Message::RouteJoined(routed) if self.is_route(question) => {
                self.routed(t, question, routed);
                None
            }
            Message::Joined(joined) if self.stage == Stage::Indexing(Step::Asked(question)) => {
                self.stage = Stage::In;
                self.seen = Some(joined.seen);
                self.heartbeat_period = Span::from_millis(u64::from(joined.heartbeat_ms)).max(HEARTBEAT_MIN);
                self.next_heartbeat = t.now.after(self.heartbeat_period);
                self.next_refresh = t.now.after(REFRESH_PERIOD);
                t.stats.rejoins += u64::from(self.ever_in);
                self.ever_in = true;
                Some(JoinEvent::Joined(joined))
            }
            Message::PeerHeartbeatAck(ack) if self.heartbeat == Some(question) => {
                self.heartbeat = None;
                Some(JoinEvent::Size(ack.size))
            }
            Message::Keys(keys) if self.keys == Some(question) => {
                self.keys = None;
                (keys.stream == self.stream).then(|| JoinEvent::Keys(keys.keys.into_vec()))
            }
            Message::Refused(refused) => self.refused(t, question, &refused),
            _ => {
                t.stats.datagrams_unexpected += 1;
                self.failed(t, question);
                None
            }
        }
    }

    fn is_route(&self, question: QuestionId) -> bool {
        self.stage == Stage::Routing(Step::Asked(question)) || self.renewal == Some(question)
    }

    fn routed(&mut self, t: &Turn<'_>, question: QuestionId, routed: RouteJoined) {
        let renewed = self.renewal.take_if(|renewal| *renewal == question).is_some();
        let same = renewed && routed.peer == self.id;
        self.id = routed.peer;
        self.domain = Some(routed.domain);
        self.seen = self.seen.or(Some(routed.seen));
        self.indexes = routed.indexes.into_vec();
        self.lease = Span::from_secs(u64::from(routed.lease_s.max(2)));
        self.renew_at = t.now.after(Span::from_micros(self.lease.micros() / 2));
        if !same {
            // A first id, or another one because the lease had ended: the index is to know it.
            self.stage = Stage::Indexing(Step::Ask { at: t.now });
        }
    }

    fn refused(&mut self, t: &mut Turn<'_>, question: QuestionId, refused: &Refused) -> Option<JoinEvent> {
        let retry = Span::from_millis(u64::from(refused.retry_ms)).max(RETRY_MIN);
        if self.heartbeat == Some(question) && refused.reason == RefusalReason::NotJoined {
            self.heartbeat = None;
            self.stage = Stage::Indexing(Step::Ask { at: t.now });
            return None;
        }
        let joining = match &mut self.stage {
            Stage::Routing(step) | Stage::Indexing(step) if *step == Step::Asked(question) => {
                *step = Step::Ask { at: t.now.after(if self.ever_in { retry.max(RETRY) } else { retry }) };
                true
            }
            _ => false,
        };
        if !joining {
            self.failed(t, question);
        } else if !self.ever_in {
            self.last_refusal = Some(refused.reason);
            if refused.retry_ms == 0 {
                return Some(JoinEvent::Failed(End::Refused(refused.reason)));
            }
        }
        None
    }

    /// A question is closed without an answer that helps.
    fn failed(&mut self, t: &Turn<'_>, question: QuestionId) {
        for slot in [&mut self.heartbeat, &mut self.keys, &mut self.renewal] {
            slot.take_if(|asked| *asked == question);
        }
        if let Stage::Routing(step) | Stage::Indexing(step) = &mut self.stage
            && *step == Step::Asked(question)
        {
            *step = Step::Ask { at: t.now.after(RETRY) };
        }
    }
}

fn send(t: &mut Turn<'_>, said: AskerOutput) {
    if let AskerOutput::Send { to, datagram } = said {
        t.out.push(Output::Datagram { to, datagram });
    }
}
