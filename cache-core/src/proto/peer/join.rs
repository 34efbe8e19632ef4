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
    last_heartbeat: Time,
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
            last_heartbeat: Time::ZERO,
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
            // Nobody but the index: who answers strangers lets them choose whom it writes to.
            Message::DialBack(asked) if self.indexes.contains(&from) => {
                let cookie = self.asker.cookie(from);
                let message = DialBackAck { nonce: asked.nonce }.into();
                let answer = Datagram { exchange: datagram.exchange, cookie, message };
                t.out.push(Output::Datagram { to: from, datagram: answer });
            }
            Message::SizeChanged(news) if news.stream == self.stream && self.indexes.contains(&from) => {
                // It answers no question, so anybody can forge it: the number is asked for, not taken from it.
                self.next_heartbeat = self.next_heartbeat.min(self.last_heartbeat.after(HEARTBEAT_MIN).max(t.now));
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
                (self.last_heartbeat, self.next_heartbeat) = (t.now, t.now.after(self.heartbeat_period));
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
            AskerOutput::Answered { question, from, message } => {
                // The index that answers is asked first from here on, and told of the leave.
                if let Some(at) = self.indexes.iter().position(|index| *index == from) {
                    self.indexes[..=at].rotate_right(1);
                }
                self.answered(t, question, message)
            }
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
                (self.last_heartbeat, self.next_heartbeat) = (t.now, t.now.after(self.heartbeat_period));
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

#[cfg(test)]
mod tests {
    use super::super::config::Tuning;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::wire::List;
    use crate::wire::datagram::Cookie;
    use crate::wire::index::{DialBack, PeerHeartbeatAck, SizeChanged};

    const STREAM: StreamId = StreamId(1);

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    /// A peer with route server 1 and index server 2.
    struct Dialogue {
        world: TestWorld,
        join: Join,
        asked: Vec<(SocketAddr, Datagram)>,
    }

    impl Dialogue {
        fn new() -> Dialogue {
            let mut world = TestWorld::new(Tuning::default());
            world.config.routes = vec![addr(1)];
            let mut join = Join::new(STREAM, 7);
            join.start(&mut world.turn());
            let mut dialogue = Dialogue { world, join, asked: Vec::new() };
            dialogue.pass(0);
            dialogue
        }

        fn joined() -> Dialogue {
            let mut dialogue = Dialogue::new();
            dialogue.answer(1, routed(5));
            assert!(matches!(dialogue.answer(2, joined()), Some(JoinEvent::Joined(_))));
            dialogue
        }

        fn pass(&mut self, ms: u64) -> Option<JoinEvent> {
            self.world.pass(ms);
            let event = self.join.tick(&mut self.world.turn());
            self.collect();
            event
        }

        /// `port` answers the last question.
        fn answer(&mut self, port: u16, message: impl Into<Message>) -> Option<JoinEvent> {
            let exchange = self.asked.last().expect("a question").1.exchange;
            let event = self.receive(port, exchange, message);
            self.pass(0);
            event
        }

        fn receive(&mut self, port: u16, exchange: u32, message: impl Into<Message>) -> Option<JoinEvent> {
            let datagram = Datagram { exchange, cookie: Cookie::default(), message: message.into() };
            let event = self.join.datagram(&mut self.world.turn(), addr(port), &datagram);
            self.collect();
            event
        }

        fn collect(&mut self) {
            for output in self.world.outputs() {
                if let Output::Datagram { to, datagram } = output {
                    self.asked.push((to, datagram));
                }
            }
        }

        fn last(&self) -> (u16, &'static str) {
            let (to, datagram) = self.asked.last().expect("a datagram");
            (to.port(), datagram.message.name())
        }
    }

    fn routed(peer: u64) -> RouteJoined {
        RouteJoined {
            peer: PeerId::from_bits(peer).expect("small"),
            lease_s: 60,
            domain: DomainId(3),
            indexes: List::first_of([addr(2)]),
            seen: addr(9),
        }
    }

    fn joined() -> Joined {
        let (keys, caches, members) = (List::new(), List::new(), List::new());
        Joined { stream: STREAM, size: 4, heartbeat_ms: 5_000, seen: addr(9), keys, caches, members }
    }

    #[test]
    fn route_then_index_then_heartbeats() {
        let mut dialogue = Dialogue::new();
        assert_eq!(dialogue.last(), (1, "RouteJoin"));
        dialogue.answer(1, routed(5));
        assert_eq!(dialogue.last(), (2, "Join"));
        dialogue.answer(2, joined());
        dialogue.pass(4_999);
        assert_eq!(dialogue.last(), (2, "Join"));
        dialogue.pass(1);
        assert_eq!(dialogue.last(), (2, "PeerHeartbeat"));
        let ack = PeerHeartbeatAck { stream: STREAM, size: 9 };
        assert_eq!(dialogue.answer(2, ack), Some(JoinEvent::Size(9)));
    }

    #[test]
    fn a_refusal_with_a_time_is_retried_one_without_is_the_end() {
        let mut dialogue = Dialogue::new();
        dialogue.answer(1, routed(5));
        assert_eq!(dialogue.answer(2, Refused::for_now(RefusalReason::NoCache, 700)), None);
        let asked = dialogue.asked.len();
        dialogue.pass(699);
        assert_eq!(dialogue.asked.len(), asked);
        dialogue.pass(1);
        assert_eq!(dialogue.last(), (2, "Join"));
        let end = JoinEvent::Failed(End::Refused(RefusalReason::UnknownStream));
        assert_eq!(dialogue.answer(2, Refused::because(RefusalReason::UnknownStream)), Some(end));
    }

    #[test]
    fn an_index_that_has_forgotten_us_is_joined_again() {
        let mut dialogue = Dialogue::joined();
        dialogue.pass(5_000);
        assert_eq!(dialogue.answer(2, Refused::because(RefusalReason::NotJoined)), None);
        assert_eq!(dialogue.last(), (2, "Join"));
        dialogue.answer(2, joined());
        assert_eq!(dialogue.world.stats.rejoins, 1);
    }

    #[test]
    fn the_lease_is_renewed_at_half_time_and_another_id_is_told_to_the_index() {
        let mut dialogue = Dialogue::joined();
        dialogue.join.next_heartbeat = Time::NEVER;
        dialogue.pass(29_999);
        assert_eq!(dialogue.last(), (2, "Join"));
        dialogue.pass(1);
        assert_eq!(dialogue.last(), (1, "RouteJoin"));
        dialogue.answer(1, routed(5));
        assert_eq!(dialogue.last(), (1, "RouteJoin"), "the same id: the index knows it");
        dialogue.pass(30_000);
        dialogue.answer(1, routed(6));
        assert_eq!(dialogue.last(), (2, "Join"));
    }

    #[test]
    fn only_the_index_is_answered_and_what_anybody_could_forge_is_not_believed() {
        let mut dialogue = Dialogue::joined();
        let before = dialogue.asked.len();
        assert_eq!(dialogue.receive(3, 99, DialBack { nonce: 5 }), None);
        assert_eq!(dialogue.asked.len(), before, "a stranger's dial-back");
        dialogue.receive(2, 99, DialBack { nonce: 5 });
        let (to, answer) = dialogue.asked.last().expect("an answer");
        assert_eq!((to.port(), answer.exchange), (2, 99));
        assert_eq!(answer.message, DialBackAck { nonce: 5 }.into());
        let news = SizeChanged { stream: STREAM, size: 1_000_000 };
        assert_eq!(dialogue.receive(3, 0, news.clone()), None);
        dialogue.pass(600);
        assert_eq!(dialogue.last().1, "DialBackAck");
        assert_eq!(dialogue.receive(2, 0, news.clone()), None);
        dialogue.pass(0);
        assert_eq!(dialogue.last(), (2, "PeerHeartbeat"));
        let ack = PeerHeartbeatAck { stream: STREAM, size: 9 };
        assert_eq!(dialogue.answer(2, ack), Some(JoinEvent::Size(9)));
        dialogue.receive(2, 0, news);
        let asked = dialogue.asked.len();
        dialogue.pass(499);
        assert_eq!(dialogue.asked.len(), asked, "not more often than heartbeats may be");
    }

    #[test]
    fn the_index_that_answered_is_asked_next_and_told_of_the_leave() {
        let mut dialogue = Dialogue::new();
        dialogue.answer(1, RouteJoined { indexes: List::first_of([addr(2), addr(3)]), ..routed(5) });
        dialogue.pass(250);
        dialogue.pass(500);
        assert_eq!(dialogue.last(), (3, "Join"), "index 2 is silent");
        dialogue.answer(3, joined());
        dialogue.pass(5_000);
        assert_eq!(dialogue.last(), (3, "PeerHeartbeat"));
        dialogue.join.leave(&mut dialogue.world.turn());
        dialogue.collect();
        assert!(dialogue.asked.iter().any(|(to, d)| (to.port(), d.message.name()) == (3, "PeerLeave")));
    }

    #[test]
    fn keys_are_asked_for_once_a_second() {
        let mut dialogue = Dialogue::joined();
        for _ in 0..50 {
            dialogue.join.want_keys(&mut dialogue.world.turn());
            dialogue.collect();
            let (_, question) = dialogue.asked.last().expect("a question").clone();
            let nothing = crate::wire::index::Keys { stream: STREAM, keys: List::new() };
            dialogue.receive(2, question.exchange, nothing);
            dialogue.world.pass(100);
        }
        let queries = dialogue.asked.iter().filter(|(_, d)| d.message.name() == "KeysQuery").count();
        assert_eq!(queries, 5);
    }
}
