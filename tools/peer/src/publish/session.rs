//! A publisher's machine: route server, index server, cache, and again when one of them is lost.
//!
//! ```text
//!            RouteJoin          PublishRequest         Connect, Hello, Publish          Chunk ->
//!   Route ------------> Index ------------------> Cache ---------------------> Live   <- Ack
//!     ^   no answer       ^    fenced, unknown      ^       link lost            |
//!     +-------------------+-------------------------+----------- Pause <---------+
//! ```
//! Pure, like the machines of `cache_core::proto`: time comes in, decisions go out. Payloads pass through by reference
//! only. Numbers go on over every reconnection, as the cache says.

use std::net::SocketAddr;

use bytes::Bytes;
use cache_core::outbox::Outbox;
use cache_core::peer_id::PeerId;
use cache_core::prng::Prng;
use cache_core::proto::asker::{Asker, AskerOutput, Credentials, QuestionId};
use cache_core::proto::peer::LinkId;
use cache_core::sign::stream_id;
use cache_core::time::{Span, Time};
use cache_core::units::{DomainId, Epoch, StreamId};
use cache_core::wire::datagram::Message;
use cache_core::wire::exchange::{Ack, Hello, Publish, PublishOk, Role, TryInstead, Welcome};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::index::{PublishGrant, PublishRequest};
use cache_core::wire::route::{RouteJoin, RouteJoined, RouteLeave};
use cache_core::wire::{Blob, Frame, RefusalReason, Refused};

use super::kept::Kept;

mod event;
#[cfg(test)]
mod tests;

pub(crate) use event::{End, Input, Output, SessionConfig, SessionCounters};

/// How long a server may take for an answer before the next step back is taken. Our guess: several repetitions.
const ANSWER_PATIENCE: Span = Span::from_secs(5);

/// How long a cache may take from the connection to its PublishOk, and for an Ack (a half-open link is dead within
/// 3 s in the fault table).
const CACHE_PATIENCE: Span = Span::from_secs(3);

/// First and longest pause before a cache is tried again. Our guess: less than what viewers have buffered.
const PAUSE_FIRST: Span = Span::from_millis(250);
const PAUSE_MAX: Span = Span::from_secs(2);

/// Without a cache for so long at the start, and later, it is given up. Our guess: a person's patience; and more than
/// what is kept (51 s).
const START_PATIENCE: Span = Span::from_secs(15);
const GIVE_UP: Span = Span::from_secs(60);

/// How long a name may be taken by somebody: our former process holds it until its cache has noticed (1 s in the fault
/// table), and an index that was restarted does not know us until the caches have reported.
const NAME_PATIENCE: Span = Span::from_secs(3);

/// How long the last chunk's Ack may take after the input's end.
const END_PATIENCE: Span = Span::from_secs(5);

/// Most chunks on the way to the cache. Our guess: a burst after a reconnection, within a link's queue.
const ON_THE_WAY_MAX: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Before the start.
    Idle,
    Route(QuestionId),
    Index(QuestionId),
    /// Until Welcome and PublishOk.
    Handshake(LinkId, SocketAddr),
    Live(LinkId, SocketAddr),
    Pause(Time, Next),
    Over,
}

/// What comes after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Route,
    Index,
    Cache,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    id: StreamId,
    asker: Asker,
    asked: Outbox<AskerOutput>,
    rng: Prng,
    step: Step,
    links: u32,
    indexes: Vec<SocketAddr>,
    epoch: Epoch,
    caches: Vec<SocketAddr>,
    /// The cache to try next.
    cache_at: usize,
    pause: Span,
    /// Deadline of a handshake, or of the next Ack while chunks are on the way.
    cache_due: Time,
    /// Since when no cache takes the stream; `None` while one does.
    away_since: Option<Time>,
    /// The last refusal that may pass.
    refused: Option<RefusalReason>,
    kept: Kept,
    /// The input has ended; the time until which the last Ack is waited for.
    ends_by: Option<Time>,
    counters: SessionCounters,
}

impl Session {
    /// Does nothing before [`Input::Start`]. `seed` should be unpredictable: it numbers the questions.
    pub(crate) fn new(config: SessionConfig, seed: u64) -> Session {
        let mut rng = Prng::new(seed);
        Session {
            id: stream_id(&config.stream),
            asker: Asker::new(rng.next_u64() as u32),
            asked: Outbox::new(),
            rng,
            step: Step::Idle,
            links: 0,
            indexes: Vec::new(),
            epoch: Epoch::default(),
            caches: Vec::new(),
            cache_at: 0,
            pause: PAUSE_FIRST,
            cache_due: Time::NEVER,
            away_since: None,
            refused: None,
            kept: Kept::default(),
            ends_by: None,
            counters: SessionCounters::default(),
            config,
        }
    }

    /// The counters.
    pub(crate) fn counters(&self) -> SessionCounters {
        SessionCounters { chunks_lost: self.kept.lost(), ..self.counters }
    }

    /// The cache that takes the stream.
    pub(crate) const fn cache(&self) -> Option<SocketAddr> {
        match self.step {
            Step::Live(_, cache) => Some(cache),
            _ => None,
        }
    }

    /// Chunks that no cache has confirmed.
    pub(crate) fn unacknowledged(&self) -> u64 {
        self.kept.unacknowledged()
    }

    /// When to call [`Session::handle`] with [`Input::Tick`] at the latest.
    pub(crate) fn next_timeout(&self) -> Time {
        let step = match self.step {
            Step::Over => return Time::NEVER,
            Step::Pause(until, _) => until,
            Step::Handshake(..) => self.cache_due,
            Step::Live(..) if self.kept.on_the_way() > 0 => self.cache_due,
            Step::Idle | Step::Route(_) | Step::Index(_) | Step::Live(..) => Time::NEVER,
        };
        let given_up = self.given_up_at();
        step.min(given_up).min(self.ends_by.unwrap_or(Time::NEVER)).min(self.asker.next_timeout())
    }

    /// Takes in what happened; decisions go to `out`. One call is one complete transition.
    pub(crate) fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>) {
        if self.step == Step::Over {
            return;
        }
        match input {
            Input::Start => {
                self.away_since = Some(now);
                self.ask_route(now);
            }
            Input::Tick => self.tick(now, out),
            Input::Datagram { from, datagram } => {
                self.asker.handle(now, from, &datagram, &mut self.asked);
            }
            Input::Connected { link } => self.connected(link, out),
            Input::Closed { link } => {
                if self.link() == Some(link) {
                    self.pause(now, Next::Cache);
                }
            }
            Input::Frame { link, frame } => {
                if self.link() == Some(link) {
                    self.frame(now, link, frame, out);
                }
            }
            Input::Cut { header, payload } => {
                self.counters.chunks_cut += 1;
                self.kept.push(header, payload);
            }
            Input::End => {
                self.ends_by.get_or_insert(now.after(END_PATIENCE));
            }
        }
        self.answers(now, out);
        self.send_chunks(now, out);
        if self.ends_by.is_some() && self.step != Step::Over && self.kept.unacknowledged() == 0 {
            self.finish(End::Published, out);
        }
    }

    fn tick(&mut self, now: Time, out: &mut Outbox<Output>) {
        self.asker.tick(now, &mut self.asked);
        match self.step {
            Step::Pause(until, next) if until <= now => match next {
                Next::Route => self.ask_route(now),
                Next::Index => self.ask_index(now),
                Next::Cache => self.connect(now, out),
            },
            Step::Handshake(link, _) | Step::Live(link, _)
                if self.cache_due <= now && !(self.cache().is_some() && self.kept.on_the_way() == 0) =>
            {
                self.counters.cache_timeouts += 1;
                out.push(Output::Close { link });
                self.pause(now, Next::Cache);
            }
            _ => {}
        }
        if self.ends_by.is_some_and(|by| by <= now) {
            // What was never let in was refused; that its last chunks are unconfirmed says nothing.
            let end = match self.refused {
                Some(reason) if self.counters.sessions == 0 => End::Refused(reason),
                _ => End::Unconfirmed,
            };
            return self.finish(end, out);
        }
        if self.given_up_at() <= now {
            let end = match self.refused {
                Some(reason) => End::Refused(reason),
                None if self.counters.grants == 0 => End::NoAnswer,
                None => End::NoCache,
            };
            self.finish(end, out);
        }
    }

    fn given_up_at(&self) -> Time {
        let patience = if self.counters.sessions == 0 { START_PATIENCE } else { GIVE_UP };
        self.away_since.map_or(Time::NEVER, |since| since.after(patience))
    }

    fn ask_route(&mut self, now: Time) {
        let message = RouteJoin { previous: PeerId::NONE, ticket: Blob::default() }.into();
        let deadline = now.after(ANSWER_PATIENCE);
        let question = self.asker.ask(now, &self.config.routes, message, deadline, &mut self.asked);
        self.step = question.map_or(Step::Pause(now.after(PAUSE_MAX), Next::Route), Step::Route);
    }

    fn ask_index(&mut self, now: Time) {
        let message = PublishRequest {
            stream: self.config.stream.clone(),
            key: self.config.key.public(),
            proof: [0; 32],
            possession: [0; 64],
            // What was taken over once is ours; a name that was taken from us is not taken back and forth.
            takeover: self.config.takeover && self.counters.grants == 0,
            at_cache: None,
            ticket: Blob::default(),
        };
        let credentials = Credentials { key: self.config.key.clone(), secret: self.config.secret.clone() };
        let (asked, deadline) = (&mut self.asked, now.after(ANSWER_PATIENCE));
        let question = self.asker.ask_with(now, &self.indexes, message.into(), Some(credentials), deadline, asked);
        self.step = question.map_or(Step::Pause(now.after(PAUSE_MAX), Next::Route), Step::Index);
    }

    /// Carries out what the asker decided.
    fn answers(&mut self, now: Time, out: &mut Outbox<Output>) {
        while !self.asked.is_empty() {
            let asked: Vec<_> = self.asked.drain().collect();
            for output in asked {
                match output {
                    AskerOutput::Send { to, datagram } => out.push(Output::Datagram { to, datagram }),
                    AskerOutput::Answered { question, from, message } => {
                        self.answered(now, question, from, message, out);
                    }
                    AskerOutput::Failed { question } => {
                        if self.step == Step::Route(question) || self.step == Step::Index(question) {
                            self.pause(now, Next::Route);
                        }
                    }
                }
            }
        }
    }

    fn answered(
        &mut self,
        now: Time,
        question: QuestionId,
        from: SocketAddr,
        message: Message,
        out: &mut Outbox<Output>,
    ) {
        let (of_route, of_index) = (self.step == Step::Route(question), self.step == Step::Index(question));
        match message {
            Message::RouteJoined(RouteJoined { peer, indexes, .. }) if of_route => {
                // A publisher needs the index servers' addresses only: the id is free for somebody else.
                self.asker.tell(from, RouteLeave { peer }.into(), &mut self.asked);
                self.indexes = indexes.into_vec();
                self.ask_index(now);
            }
            Message::PublishGrant(PublishGrant { epoch, next, caches, .. }) if of_index => {
                self.counters.grants += 1;
                self.epoch = epoch;
                self.caches = caches.into_vec();
                self.cache_at = 0;
                if self.counters.sessions == 0 {
                    self.kept.go_on_at(next);
                }
                self.connect(now, out);
            }
            Message::Refused(refused) if of_route || of_index => {
                self.refused(now, &refused, if of_route { Next::Route } else { Next::Index }, out);
            }
            _ if of_route || of_index => self.pause(now, Next::Route),
            _ => {}
        }
    }

    /// A route or index server said no.
    fn refused(&mut self, now: Time, refused: &Refused, again: Next, out: &mut Outbox<Output>) {
        let away = self.away_since.map_or(Span::ZERO, |since| now.since(since));
        let passing = refused.retry_ms > 0 && (refused.reason != RefusalReason::NameTaken || away < NAME_PATIENCE);
        if !passing {
            return self.finish(End::Refused(refused.reason), out);
        }
        self.refused = Some(refused.reason);
        let wished = Span::from_millis(u64::from(refused.retry_ms)).min(PAUSE_MAX);
        self.pause(now, again);
        if let Step::Pause(until, _) = &mut self.step {
            *until = (*until).max(now.after(wished));
        }
    }

    fn connect(&mut self, now: Time, out: &mut Outbox<Output>) {
        if self.caches.is_empty() {
            return self.pause(now, Next::Index);
        }
        let cache = self.caches[self.cache_at % self.caches.len()];
        self.cache_at += 1;
        self.links += 1;
        let link = LinkId(self.links);
        self.step = Step::Handshake(link, cache);
        self.cache_due = now.after(CACHE_PATIENCE);
        out.push(Output::Connect { link, to: cache });
    }

    fn connected(&mut self, link: LinkId, out: &mut Outbox<Output>) {
        if self.link() == Some(link) {
            let hello = Hello {
                role: Role::Publisher,
                peer: PeerId::NONE,
                stream: self.id,
                domain: DomainId(0),
                listen: None,
                ticket: Blob::default(),
            };
            out.push(Output::Send { link, frame: hello.into() });
        }
    }

    fn frame(&mut self, now: Time, link: LinkId, frame: Frame, out: &mut Outbox<Output>) {
        match (self.step, frame) {
            (Step::Handshake(..), Frame::Welcome(Welcome { nonce, .. })) => {
                let signature = self.config.key.sign_publish(self.id, self.epoch, &nonce);
                let key = self.config.key.public();
                let publish = Publish { stream: self.config.stream.clone(), epoch: self.epoch, key, signature };
                out.push(Output::Send { link, frame: publish.into() });
            }
            (Step::Handshake(_, cache), Frame::PublishOk(PublishOk { stream, next })) if stream == self.id => {
                self.kept.go_on_at(next);
                self.step = Step::Live(link, cache);
                self.counters.sessions += 1;
                self.away_since = None;
                self.refused = None;
                self.pause = PAUSE_FIRST;
                out.push(Output::Live { cache, epoch: self.epoch, next });
            }
            (Step::Live(..), Frame::Ack(Ack { stream, seq })) if stream == self.id => {
                self.kept.acknowledge(seq);
                self.cache_due = now.after(CACHE_PATIENCE);
            }
            (_, Frame::TryInstead(TryInstead { caches })) => {
                self.caches = caches.into_vec();
                self.cache_at = 0;
            }
            (_, Frame::Refused(Refused { reason, .. })) => {
                self.counters.refusals += 1;
                self.refused = Some(reason);
                out.push(Output::Close { link });
                match reason {
                    RefusalReason::Version => self.finish(End::Refused(reason), out),
                    // The grant is not, or no longer, known there.
                    RefusalReason::Fenced | RefusalReason::UnknownStream | RefusalReason::NotAuthorised => {
                        self.pause(now, Next::Index);
                    }
                    _ => self.pause(now, Next::Cache),
                }
            }
            // Not for a publisher: framing is good, so the link may stay.
            _ => {}
        }
    }

    fn send_chunks(&mut self, now: Time, out: &mut Outbox<Output>) {
        let Step::Live(link, _) = self.step else { return };
        while self.kept.on_the_way() < ON_THE_WAY_MAX {
            if self.kept.on_the_way() == 0 {
                self.cache_due = now.after(CACHE_PATIENCE);
            }
            let Some(chunk) = self.kept.take_next() else { return };
            let (mut header, payload) = (chunk.header, chunk.payload.clone());
            header.epoch = self.epoch;
            header.stream = self.id;
            self.config.key.sign_chunk(&mut header, &payload);
            self.counters.chunks_sent += 1;
            let prefix = Bytes::copy_from_slice(&chunk_prefix(&header));
            out.push(Output::SendChunk { link, seq: header.seq, prefix, payload });
        }
    }

    /// Waits a little longer each time, with some chance so that many publishers of a lost cache do not come at once.
    /// When every cache has been tried the index is asked anew.
    fn pause(&mut self, now: Time, next: Next) {
        self.away_since.get_or_insert(now);
        let all_tried = self.cache_at >= 2 * self.caches.len();
        let next = if next == Next::Cache && all_tried { Next::Index } else { next };
        let jitter = Span::from_micros(self.rng.below(self.pause.micros() as usize / 4 + 1) as u64);
        self.step = Step::Pause(now.after(self.pause).after(jitter), next);
        self.pause = self.pause.times(2).min(PAUSE_MAX);
    }

    fn finish(&mut self, end: End, out: &mut Outbox<Output>) {
        if let Some(link) = self.link() {
            out.push(Output::Close { link });
        }
        self.step = Step::Over;
        out.push(Output::Finished { end });
    }

    const fn link(&self) -> Option<LinkId> {
        match self.step {
            Step::Handshake(link, _) | Step::Live(link, _) => Some(link),
            _ => None,
        }
    }
}
