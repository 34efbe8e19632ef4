//! The index server's machine: one domain's registry of peers, caches, streams and publishers (paper, section 2: the centre
//! layer).
//!
//! | module | decides |
//! |---|---|
//! | [`swarm`] | which peers watch a stream; expiry; bounds |
//! | [`sample`] | which of them a peer is told of: by location, some at random |
//! | [`caches`] | which caches there are, how loaded, what they hold |
//! | [`terms`] | names, publishers' keys, epochs |
//! | [`publish`] | who may publish a name |
//! | [`pulls`] | streams of other domains: asked for once, however many wait |
//! | [`announce`] | when the route servers are told of a stream |
//! | [`notify`] | when peers are told that N has changed |
//! | [`dialback`] | proof of claimed addresses |
//! | `viewers`, `publishers`, `domain` | the answers: to peers; to publishers; to caches and route servers |
//! | [`config`], [`stats`] | settings; counters, one for each bound |
//!
//! [`Index`] only hands events to the module that deals with them. A question that needs the route server's answer first is
//! *parked* and looked at again, once, when the answer is there.

pub mod announce;
pub mod caches;
pub mod config;
pub mod dialback;
mod domain;
pub mod notify;
pub mod publish;
mod publishers;
pub mod pulls;
pub mod sample;
pub mod stats;
pub mod swarm;
pub mod terms;
mod viewers;

use std::collections::BTreeMap;
use std::net::SocketAddr;

pub use config::{IndexBounds, IndexConfig};
pub use stats::IndexStats;

use self::announce::Announcer;
use self::caches::Caches;
use self::dialback::DialBacks;
use self::notify::Notices;
use self::pulls::{Parked, Pulls};
use self::swarm::Swarms;
use self::terms::Terms;
use super::asker::{Asker, AskerOutput, QuestionId};
use super::gate::{Gate, Outgoing, is_question};
use crate::outbox::Outbox;
use crate::prng::Prng;
use crate::sign::{CookieJar, stream_id};
use crate::time::{Span, Time};
use crate::units::StreamId;
use crate::wire::datagram::{Cookie, Datagram, Message};
use crate::wire::{RefusalReason, Refused, StreamName};

/// How often expiry, announcements and notices are looked at. Our guess: below what anybody notices.
const HOUSEKEEPING: Span = Span::from_millis(100);

/// How often caches, terms and waiting questions are swept: their times are checked where they are used as well.
const SWEEP: Span = Span::from_millis(500);

/// Peers looked at for expiry in one turn: about a millisecond of work. A registry of more than 200 000 looks at a
/// hundredth of them, so that all are passed in 10 s, less than the silence that makes them expire.
const EXPIRE_PEERS: usize = 2_000;
const EXPIRE_SHARE: usize = 100;

/// Who must wait, but finds no room to, may come again after this long (our guess: a few round trips).
const BUSY_RETRY_MS: u32 = 300;

/// Who asks for a stream that nobody publishes may come again after this long (our guess).
const UNKNOWN_RETRY_MS: u32 = 1_000;

/// What happened.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one event at a time is handed over, and nearly all are datagrams")]
pub enum Input {
    /// Time has passed ([`Index::next_timeout`]).
    Tick,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        datagram: Datagram,
    },
}

/// What a question of this machine's own is for.
#[derive(Clone, Debug)]
enum Purpose {
    Locate(StreamId, StreamName),
    Pull(StreamId, SocketAddr),
    Announce,
}

/// How a question is dealt with.
#[derive(Debug)]
enum Answer {
    Say(Message),
    /// Nothing to say to it, or it is answered otherwise.
    Silence,
    /// The route server must be asked about this stream first.
    Wait(StreamName),
}

impl Answer {
    fn refuse(reason: RefusalReason) -> Answer {
        Answer::Say(Refused::because(reason).into())
    }

    fn refuse_for_now(reason: RefusalReason, retry_ms: u32) -> Answer {
        Answer::Say(Refused::for_now(reason, retry_ms).into())
    }
}

impl<M: Into<Message>> From<M> for Answer {
    fn from(message: M) -> Answer {
        Answer::Say(message.into())
    }
}

/// The machine.
#[derive(Debug)]
pub struct Index {
    config: IndexConfig,
    gate: Gate,
    asker: Asker,
    asked: Outbox<AskerOutput>,
    purposes: BTreeMap<QuestionId, Purpose>,
    rng: Prng,
    swarms: Swarms,
    caches: Caches,
    terms: Terms,
    pulls: Pulls,
    announcer: Announcer,
    notices: Notices,
    dial_backs: DialBacks,
    housekeeping: Time,
    sweep: Time,
    stats: IndexStats,
}

impl Index {
    /// An index server that knows nobody.
    pub fn new(config: IndexConfig, jar: CookieJar, seed: u64) -> Index {
        let bounds = config.bounds;
        let mut rng = Prng::new(seed);
        Index {
            gate: Gate::new(jar),
            asker: Asker::new(rng.next_u64() as u32),
            asked: Outbox::new(),
            purposes: BTreeMap::new(),
            rng,
            swarms: Swarms::new(bounds, config.peer_silence()),
            caches: Caches::new(bounds.caches_max, bounds.holdings_max, config.cache_silence),
            terms: Terms::new(bounds.streams_max, config.started),
            pulls: Pulls::new(bounds.locating_max, bounds.parked_max),
            announcer: Announcer::default(),
            notices: Notices::default(),
            dial_backs: DialBacks::new(bounds.dial_backs_max),
            housekeeping: Time::ZERO,
            sweep: Time::ZERO,
            stats: IndexStats::default(),
            config,
        }
    }

    /// Takes in one event; what is to be sent goes into `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Outgoing>) {
        match input {
            Input::Tick => {}
            Input::Datagram { from, datagram } if is_question(&datagram.message) => {
                if self.gate.admits(now, from, &datagram, out) {
                    self.question(now, from, datagram, true, out);
                }
            }
            Input::Datagram { from, datagram } => {
                if !self.asker.handle(now, from, &datagram, &mut self.asked) {
                    self.gate.stray();
                }
            }
        }
        if self.housekeeping <= now {
            self.housekeeping = now.after(HOUSEKEEPING);
            self.keep_house(now, out);
        }
        self.asker.tick(now, &mut self.asked);
        self.settle(now, out);
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn next_timeout(&self) -> Time {
        let idle = self.swarms.peers() == 0
            && self.caches.is_empty()
            && self.caches.holdings() == 0
            && self.terms.is_empty()
            && self.pulls.is_empty()
            && self.dial_backs.is_empty()
            && self.announcer.is_empty();
        let housekeeping = if idle { Time::NEVER } else { self.housekeeping };
        housekeeping.min(self.asker.next_timeout())
    }

    /// The counters.
    pub fn stats(&self) -> IndexStats {
        IndexStats {
            gate: self.gate.stats(),
            swarm: self.swarms.stats(),
            caches: self.caches.stats(),
            pulls: self.pulls.stats,
            peers: self.swarms.peers() as u64,
            watched_streams: self.swarms.streams() as u64,
            known_streams: self.terms.len() as u64,
            holdings: self.caches.holdings() as u64,
            caches_live: self.caches.len() as u64,
            streams_full: self.terms.turned_away(),
            dial_backs_turned_away: self.dial_backs.turned_away,
            ..self.stats
        }
    }

    /// Answers a question from a proved address, or parks it while it `may_wait`.
    fn question(
        &mut self,
        now: Time,
        from: SocketAddr,
        question: Datagram,
        may_wait: bool,
        out: &mut Outbox<Outgoing>,
    ) {
        let answer = match &question.message {
            Message::Join(join) => self.join(now, from, join, out),
            Message::PeerHeartbeat(beat) => self.heartbeat(now, from, beat),
            Message::PeerLeave(leave) => self.leave(from, leave),
            Message::DialBackAck(ack) => self.dial_back_ack(now, from, ack),
            Message::KeysQuery(query) => self.keys(now, query),
            Message::PublishRequest(request) => self.publish(now, &question.cookie, request),
            Message::CacheReport(report) => self.cache_report(now, from, report),
            Message::CacheStreams(streams) => self.cache_streams(now, streams),
            Message::CacheKeys(keys) => self.cache_keys(now, keys),
            Message::Resolve(resolve) => self.resolve(now, resolve),
            _ => {
                self.stats.misplaced += 1;
                Answer::refuse(RefusalReason::BadMessage)
            }
        };
        let exchange = question.exchange;
        let message = match answer {
            Answer::Say(message) => message,
            Answer::Silence => return,
            Answer::Wait(name) if may_wait => match self.wait(now, from, question, name, out) {
                Some(refused) => refused,
                None => return,
            },
            Answer::Wait(_) => Refused::for_now(RefusalReason::UnknownStream, UNKNOWN_RETRY_MS).into(),
        };
        self.stats.refused += u64::from(matches!(message, Message::Refused(_)));
        out.push(Outgoing { to: from, datagram: Datagram { exchange, cookie: Cookie::default(), message } });
    }

    /// Parks a question and sees to it that the route server is asked; the refusal when there is no room.
    fn wait(
        &mut self,
        now: Time,
        from: SocketAddr,
        question: Datagram,
        name: StreamName,
        out: &mut Outbox<Outgoing>,
    ) -> Option<Message> {
        let stream = stream_id(&name);
        match self.pulls.park(stream, from, question) {
            Parked::Behind => None,
            Parked::Full => Some(Refused::for_now(RefusalReason::Busy, BUSY_RETRY_MS).into()),
            Parked::First => {
                if !self.locate(now, stream, &name) {
                    self.located(now, stream, &name, None, out);
                }
                None
            }
        }
    }

    /// Carries out what the asker has decided, until it has decided nothing more.
    fn settle(&mut self, now: Time, out: &mut Outbox<Outgoing>) {
        loop {
            let decided: Vec<AskerOutput> = self.asked.drain().collect();
            if decided.is_empty() {
                return;
            }
            for output in decided {
                match output {
                    AskerOutput::Send { to, datagram } => out.push(Outgoing { to, datagram }),
                    AskerOutput::Answered { question, message, .. } => self.answered(now, question, Some(message), out),
                    AskerOutput::Failed { question } => self.answered(now, question, None, out),
                }
            }
        }
    }

    fn answered(&mut self, now: Time, question: QuestionId, answer: Option<Message>, out: &mut Outbox<Outgoing>) {
        match self.purposes.remove(&question) {
            Some(Purpose::Locate(stream, name)) => self.located(now, stream, &name, answer, out),
            Some(Purpose::Pull(stream, cache)) => self.pull_answered(stream, cache, answer.as_ref()),
            Some(Purpose::Announce) | None => {}
        }
    }

    fn keep_house(&mut self, now: Time, out: &mut Outbox<Outgoing>) {
        let budget = EXPIRE_PEERS.max(self.swarms.peers() / EXPIRE_SHARE);
        for stream in self.swarms.expire(now, budget) {
            self.resized(stream);
        }
        if self.sweep <= now {
            self.sweep = now.after(SWEEP);
            for stream in self.caches.expire(now) {
                self.announcer.changed(now, stream);
            }
            self.pulls.expire(now);
            self.dial_backs.expire(now);
            self.terms.expire(now);
        }
        self.announce(now);
        self.tell_sizes(out);
    }
}
