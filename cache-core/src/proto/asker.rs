//! Questions over datagrams: the asker's half of every dialogue with an index or route server.
//!
//! A question goes to the first server of a list; it is repeated with growing pauses, then the next server is tried,
//! round and round until its deadline. A `Challenge` is answered at once with the cookie it brought. Answers are matched by
//! exchange number **and** by the address that was asked, so that a stranger cannot answer.
//!
//! Pure: the owner passes datagrams in, takes [`AskerOutput`]s out, and calls [`Asker::tick`] by
//! [`Asker::next_timeout`].

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::outbox::Outbox;
use crate::sign::{PublisherKey, publish_authorisation, stream_id};
use crate::time::{Span, Time};
use crate::wire::datagram::{Cookie, Datagram, Message};
use crate::wire::index::PublishRequest;

/// Pause before a question is repeated the first time; it doubles up to [`RETRY_MAX`]. Our guess: above any round trip
/// inside a country, below what a person notices.
pub const RETRY_FIRST: Span = Span::from_millis(250);

/// Longest pause between two repetitions.
pub const RETRY_MAX: Span = Span::from_secs(2);

/// Repetitions at one server before the next of the list is tried.
const TRIES_PER_SERVER: u32 = 2;

/// Most questions open at once; a further one is refused (counted by the owner).
pub const QUESTIONS_MAX: usize = 1024;

/// Servers whose cookie is remembered; the one with the lowest address makes room.
const COOKIES_MAX: usize = 64;

/// A question's name, unique within its asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u32);

/// What a `PublishRequest` is proved with. The proofs are made anew for each cookie.
#[derive(Clone)]
pub struct Credentials {
    /// The key that will sign the stream.
    pub key: PublisherKey,
    /// The name's secret; `None` for an open name.
    pub secret: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(secret)")
    }
}

impl Credentials {
    fn prove(&self, request: &mut PublishRequest, cookie: &Cookie) {
        request.key = self.key.public();
        request.possession = self.key.sign_request(stream_id(&request.stream), cookie);
        if let Some(secret) = &self.secret {
            request.proof = publish_authorisation(secret, cookie, &request.stream, &request.key);
        }
    }
}

/// What the asker wants done, or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskerOutput {
    /// Send this.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Datagram,
    },
    /// The answer to a question, which is closed. It may be `Message::Refused`.
    Answered {
        /// The question.
        question: QuestionId,
        /// Who answered.
        from: SocketAddr,
        /// The answer.
        message: Message,
    },
    /// No server answered by the deadline; the question is closed.
    Failed {
        /// The question.
        question: QuestionId,
    },
}

#[derive(Clone, Debug)]
struct Pending {
    servers: Vec<SocketAddr>,
    message: Message,
    credentials: Option<Credentials>,
    tries: u32,
    challenges: u32,
    next_try: Time,
    pause: Span,
    deadline: Time,
}

impl Pending {
    fn server(&self) -> SocketAddr {
        self.servers[(self.tries / TRIES_PER_SERVER) as usize % self.servers.len()]
    }
}

/// Open questions and the cookies of the servers that were asked.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    last: u32,
    pending: BTreeMap<u32, Pending>,
    cookies: BTreeMap<SocketAddr, Cookie>,
}

impl Asker {
    /// No question open. `first_exchange` should be unpredictable: it makes a blind forger's work harder.
    pub fn new(first_exchange: u32) -> Asker {
        Asker { last: first_exchange, ..Asker::default() }
    }

    /// Asks `message` of `servers` in turn until `deadline`. `None`, and nothing changed, when there is no server or
    /// too many questions are open.
    pub fn ask(
        &mut self,
        now: Time,
        servers: &[SocketAddr],
        message: Message,
        deadline: Time,
        out: &mut Outbox<AskerOutput>,
    ) -> Option<QuestionId> {
        self.ask_with(now, servers, message, None, deadline, out)
    }

    /// As [`Asker::ask`]; a `PublishRequest` gets its key and proofs from `credentials`.
    pub fn ask_with(
        &mut self,
        now: Time,
        servers: &[SocketAddr],
        message: Message,
        credentials: Option<Credentials>,
        deadline: Time,
        out: &mut Outbox<AskerOutput>,
    ) -> Option<QuestionId> {
        if servers.is_empty() || self.pending.len() >= QUESTIONS_MAX {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let exchange = self.last;
        let pending = Pending {
            servers: servers.to_vec(),
            message,
            credentials,
            tries: 0,
            challenges: 0,
            next_try: now.after(RETRY_FIRST),
            pause: RETRY_FIRST,
            deadline,
        };
        self.send(exchange, &pending, out);
        self.pending.insert(exchange, pending);
        Some(QuestionId(exchange))
    }

    /// Sends `message` once, without waiting for an answer (a farewell).
    pub fn tell(&mut self, server: SocketAddr, message: Message, out: &mut Outbox<AskerOutput>) {
        self.last = self.last.wrapping_add(1);
        let cookie = self.cookie(server);
        out.push(AskerOutput::Send { to: server, datagram: Datagram { exchange: self.last, cookie, message } });
    }

    /// The cookie that `server` gave, all zero before it did.
    pub fn cookie(&self, server: SocketAddr) -> Cookie {
        self.cookies.get(&server).copied().unwrap_or_default()
    }

    /// Forgets a question; a late answer is ignored.
    pub fn cancel(&mut self, question: QuestionId) {
        self.pending.remove(&question.0);
    }

    /// Takes in a datagram. True when it belonged to an open question; false: it is for somebody else, untouched.
    pub fn handle(&mut self, now: Time, from: SocketAddr, datagram: &Datagram, out: &mut Outbox<AskerOutput>) -> bool {
        let exchange = datagram.exchange;
        let Some(pending) = self.pending.get_mut(&exchange).filter(|p| p.server() == from) else { return false };
        if let Message::Challenge(_) = datagram.message {
            // Once per try: two servers that challenge each other's cookies must not make a loop.
            if pending.challenges <= pending.tries {
                pending.challenges = pending.tries + 1;
                pending.next_try = now.after(pending.pause);
                let pending = pending.clone();
                self.remember(from, datagram.cookie);
                self.send(exchange, &pending, out);
            }
            return true;
        }
        self.pending.remove(&exchange);
        out.push(AskerOutput::Answered { question: QuestionId(exchange), from, message: datagram.message.clone() });
        true
    }

    /// Repeats what is due and closes what is too late.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<AskerOutput>) {
        let due: Vec<u32> =
            self.pending.iter().filter(|(_, p)| p.next_try.min(p.deadline) <= now).map(|(id, _)| *id).collect();
        for exchange in due {
            let Some(pending) = self.pending.get_mut(&exchange) else { continue };
            if pending.deadline <= now {
                self.pending.remove(&exchange);
                out.push(AskerOutput::Failed { question: QuestionId(exchange) });
                continue;
            }
            pending.tries += 1;
            pending.pause = pending.pause.times(2).min(RETRY_MAX);
            pending.next_try = now.after(pending.pause);
            let pending = pending.clone();
            self.send(exchange, &pending, out);
        }
    }

    /// When [`Asker::tick`] has something to do.
    pub fn next_timeout(&self) -> Time {
        self.pending.values().map(|p| p.next_try.min(p.deadline)).min().unwrap_or(Time::NEVER)
    }

    fn send(&self, exchange: u32, pending: &Pending, out: &mut Outbox<AskerOutput>) {
        let to = pending.server();
        let cookie = self.cookie(to);
        let mut message = pending.message.clone();
        if let (Message::PublishRequest(request), Some(credentials)) = (&mut message, &pending.credentials) {
            credentials.prove(request, &cookie);
        }
        out.push(AskerOutput::Send { to, datagram: Datagram { exchange, cookie, message } });
    }

    fn remember(&mut self, server: SocketAddr, cookie: Cookie) {
        if self.cookies.len() >= COOKIES_MAX && !self.cookies.contains_key(&server) {
            self.cookies.pop_first();
        }
        self.cookies.insert(server, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::datagram::Challenge;
    use crate::wire::index::{Keys, KeysQuery};
    use crate::wire::{List, StreamName};

    const A: &str = "127.0.0.1:1";
    const B: &str = "127.0.0.1:2";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn question() -> Message {
        KeysQuery { stream: StreamName::new("news").expect("a name") }.into()
    }

    fn answer() -> Message {
        Keys { stream: Default::default(), keys: List::new() }.into()
    }

    /// What was sent: to whom, with which cookie.
    fn sent(out: &mut Outbox<AskerOutput>) -> Vec<(SocketAddr, u32, Cookie)> {
        out.drain()
            .filter_map(|o| match o {
                AskerOutput::Send { to, datagram } => Some((to, datagram.exchange, datagram.cookie)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_challenge_is_answered_with_its_cookie_and_the_cookie_is_kept() {
        let (mut asker, mut out) = (Asker::new(7), Outbox::new());
        let deadline = Time::from_millis(10_000);
        asker.ask(Time::ZERO, &[addr(A)], question(), deadline, &mut out);
        let (_, exchange, cookie) = sent(&mut out)[0];
        assert_eq!(cookie, Cookie::default());
        let challenge = Datagram { exchange, cookie: Cookie([9; 16]), message: Challenge {}.into() };
        assert!(asker.handle(Time::ZERO, addr(A), &challenge, &mut out));
        assert_eq!(sent(&mut out), [(addr(A), exchange, Cookie([9; 16]))]);
        assert!(asker.handle(Time::ZERO, addr(A), &challenge, &mut out));
        assert_eq!(sent(&mut out), [], "a second challenge in the same try makes no loop");
        asker.ask(Time::ZERO, &[addr(A)], question(), deadline, &mut out);
        assert_eq!(sent(&mut out)[0].2, Cookie([9; 16]));
    }

    #[test]
    fn a_silent_server_is_asked_again_then_the_next_one() {
        let (mut asker, mut out) = (Asker::new(0), Outbox::new());
        asker.ask(Time::ZERO, &[addr(A), addr(B)], question(), Time::from_millis(9_000), &mut out);
        let mut asked = sent(&mut out);
        while asker.next_timeout() < Time::from_millis(9_000) {
            asker.tick(asker.next_timeout(), &mut out);
            asked.extend(sent(&mut out));
        }
        let to: Vec<_> = asked.iter().map(|(to, ..)| *to).take(6).collect();
        assert_eq!(to, [addr(A), addr(A), addr(B), addr(B), addr(A), addr(A)]);
        asker.tick(Time::from_millis(9_000), &mut out);
        assert!(matches!(out.as_slice(), [AskerOutput::Failed { .. }]));
        assert_eq!(asker.next_timeout(), Time::NEVER);
    }

    #[test]
    fn only_the_server_that_was_asked_can_answer() {
        let (mut asker, mut out) = (Asker::new(0), Outbox::new());
        let id = asker.ask(Time::ZERO, &[addr(A)], question(), Time::from_millis(9_000), &mut out);
        let (_, exchange, _) = sent(&mut out)[0];
        let reply = Datagram { exchange, cookie: Cookie::default(), message: answer() };
        assert!(!asker.handle(Time::ZERO, addr(B), &reply, &mut out));
        assert!(asker.handle(Time::ZERO, addr(A), &reply, &mut out));
        let expected = AskerOutput::Answered { question: id.expect("asked"), from: addr(A), message: answer() };
        assert_eq!(out.as_slice(), [expected]);
        assert!(!asker.handle(Time::ZERO, addr(A), &reply, &mut out), "a question is answered once");
    }
}
