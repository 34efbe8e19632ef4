//! The machine against a scripted network: every server is a few lines here, time is a number.

use cache_core::sign::{KeyRing, check_authorisation, check_publish};
use cache_core::units::ChunkSeq;
use cache_core::wire::datagram::{Challenge, Cookie, Datagram};
use cache_core::wire::index::StreamKey;
use cache_core::wire::{ChunkHeader, List, StreamName};

use super::*;
use crate::testing::{chunk, key};

const ROUTE: &str = "127.0.0.1:1";
const INDEX: &str = "127.0.0.1:2";
const CACHE_A: &str = "127.0.0.1:3";
const CACHE_B: &str = "127.0.0.1:4";
const SECRET: &str = "hush";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn name() -> StreamName {
    "news".parse().expect("a name")
}

/// The session, its time, and what it did that a test has not looked at.
struct World {
    session: Session,
    now: Time,
    out: Outbox<Output>,
    /// The route and index servers answer.
    servers_up: bool,
    /// What the index says to a request; the default grants.
    index_says: Option<RefusalReason>,
    retry_ms: u32,
    epoch: u64,
    granted: u64,
    takeovers: Vec<bool>,
    connects: Vec<(LinkId, SocketAddr)>,
    sent: Vec<(LinkId, Frame)>,
    chunks: Vec<(u64, u64)>,
    closed: Vec<LinkId>,
    finished: Option<End>,
}

impl World {
    fn new() -> World {
        let config = SessionConfig {
            stream: name(),
            routes: vec![addr(ROUTE)],
            key: key(),
            secret: Some(SECRET.into()),
            takeover: true,
        };
        World {
            session: Session::new(config, 9),
            now: Time::ZERO,
            out: Outbox::new(),
            servers_up: true,
            index_says: None,
            retry_ms: 0,
            epoch: 1,
            granted: 0,
            takeovers: Vec::new(),
            connects: Vec::new(),
            sent: Vec::new(),
            chunks: Vec::new(),
            closed: Vec::new(),
            finished: None,
        }
    }

    /// Feeds `input` and lets the servers answer until nothing more is decided.
    fn feed(&mut self, input: Input) {
        self.session.handle(self.now, input, &mut self.out);
        while !self.out.is_empty() {
            let outputs: Vec<_> = self.out.drain().collect();
            for output in outputs {
                self.observe(output);
            }
        }
    }

    fn observe(&mut self, output: Output) {
        assert_eq!(self.finished, None, "nothing follows the end: {output:?}");
        match output {
            Output::Datagram { to, datagram } if self.servers_up => self.serve(to, datagram),
            Output::Datagram { .. } | Output::Live { .. } => {}
            Output::Connect { link, to } => self.connects.push((link, to)),
            Output::Send { link, frame } => self.sent.push((link, frame)),
            Output::SendChunk { link, seq, prefix, payload } => {
                assert_eq!(Some(link), self.session.link());
                let header = ChunkHeader::decode(&prefix[8..]).expect("a header");
                let mut keys = KeyRing::new(stream_id(&name()));
                keys.replace(&[StreamKey { epoch: Epoch(self.epoch), key: key().public() }]);
                assert_eq!(keys.check(&header, &payload), Ok(()), "signed under the present term");
                self.chunks.push((header.seq.get(), header.epoch.0));
                assert_eq!(header.seq, seq);
            }
            Output::Close { link } => self.closed.push(link),
            Output::Finished { end } => self.finished = Some(end),
        }
    }

    fn serve(&mut self, to: SocketAddr, question: Datagram) {
        let cookie = Cookie([5; 16]);
        let message = match question.message {
            _ if question.cookie != cookie => Challenge {}.into(),
            Message::RouteJoin(_) => RouteJoined {
                peer: PeerId::NONE,
                lease_s: 60,
                domain: Default::default(),
                indexes: List::first_of([addr(INDEX)]),
                seen: addr("127.0.0.9:9"),
            }
            .into(),
            Message::PublishRequest(request) => {
                assert_eq!(to, addr(INDEX));
                assert!(check_authorisation(SECRET, &cookie, &name(), &request.key, &request.proof));
                self.takeovers.push(request.takeover);
                match self.index_says {
                    Some(reason) => Refused::for_now(reason, self.retry_ms).into(),
                    None => {
                        self.granted += 1;
                        PublishGrant {
                            stream: stream_id(&name()),
                            epoch: Epoch(self.epoch),
                            next: ChunkSeq::new(100),
                            caches: List::first_of([addr(CACHE_A), addr(CACHE_B)]),
                        }
                        .into()
                    }
                }
            }
            _ => return,
        };
        let datagram = Datagram { exchange: question.exchange, cookie, message };
        self.session.handle(self.now, Input::Datagram { from: to, datagram }, &mut self.out);
    }

    /// Lets time pass, timer by timer, until `done` or for `span`.
    fn wait(&mut self, span: Span, done: impl Fn(&World) -> bool) {
        let until = self.now.after(span);
        while !done(self) && self.session.next_timeout() <= until {
            self.now = self.now.max(self.session.next_timeout());
            self.feed(Input::Tick);
        }
        if !done(self) {
            self.now = until;
        }
    }

    fn frame(&mut self, link: LinkId, frame: impl Into<Frame>) {
        self.feed(Input::Frame { link, frame: frame.into() });
    }

    /// Waits for the next connection and lets its cache take the stream at `next`.
    fn take_at(&mut self, next: u64) -> LinkId {
        let known = self.connects.len();
        self.wait(Span::from_secs(10), |world| world.connects.len() > known);
        self.take_connected(next)
    }

    fn take_connected(&mut self, next: u64) -> LinkId {
        let (link, _) = *self.connects.last().expect("a connection");
        self.feed(Input::Connected { link });
        assert!(matches!(self.sent.last(), Some((_, Frame::Hello(hello))) if hello.role == Role::Publisher));
        self.frame(link, Welcome { peer: PeerId::NONE, nonce: [3; 16] });
        let Some((_, Frame::Publish(publish))) = self.sent.last() else { panic!("no Publish") };
        assert_eq!(publish.epoch, Epoch(self.epoch));
        assert!(check_publish(&publish.key, stream_id(&name()), publish.epoch, &[3; 16], &publish.signature));
        self.frame(link, PublishOk { stream: stream_id(&name()), next: ChunkSeq::new(next) });
        link
    }

    fn started(next: u64) -> (World, LinkId) {
        let mut world = World::new();
        world.feed(Input::Start);
        let link = world.take_connected(next);
        (world, link)
    }

    fn cut(&mut self, count: usize) {
        for _ in 0..count {
            let chunk = chunk(0, 50);
            self.feed(Input::Cut { header: chunk.header, payload: Bytes::copy_from_slice(chunk.payload()) });
        }
    }

    fn ack(&mut self, link: LinkId, seq: u64) {
        self.frame(link, Ack { stream: stream_id(&name()), seq: ChunkSeq::new(seq) });
    }

    fn take_chunks(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.chunks).into_iter().map(|(seq, _)| seq).collect()
    }
}

#[test]
fn from_route_to_index_to_cache_then_chunks_with_the_caches_numbers() {
    let mut world = World::new();
    world.cut(2);
    world.feed(Input::Start);
    assert_eq!(world.connects, [(LinkId(1), addr(CACHE_A))]);
    world.take_connected(101);
    assert_eq!(world.take_chunks(), [101, 102], "the cache's word is final, not the index's");
    world.cut(1);
    assert_eq!(world.take_chunks(), [103]);
}

#[test]
fn no_more_is_on_the_way_than_a_link_can_hold() {
    let (mut world, link) = World::started(0);
    world.cut(40);
    assert_eq!(world.take_chunks().len() as u64, ON_THE_WAY_MAX);
    world.ack(link, 3);
    assert_eq!(world.take_chunks(), [32, 33, 34, 35]);
}

#[test]
fn after_a_lost_link_the_next_cache_gets_what_is_missing() {
    let (mut world, link) = World::started(0);
    world.cut(5);
    world.ack(link, 1);
    world.take_chunks();
    world.feed(Input::Closed { link });
    world.cut(1);
    world.take_at(4);
    assert_eq!(world.connects.last().map(|(_, to)| *to), Some(addr(CACHE_B)));
    assert_eq!(world.take_chunks(), [4, 5]);
    assert_eq!(world.granted, 1, "the grant still holds");
}

#[test]
fn a_fenced_publisher_asks_for_a_new_term_and_signs_anew() {
    let (mut world, link) = World::started(0);
    world.cut(1);
    world.chunks.clear();
    world.epoch = 2;
    world.frame(link, Refused::because(RefusalReason::Fenced));
    assert_eq!(world.closed, [link]);
    world.take_at(0);
    assert_eq!((world.granted, std::mem::take(&mut world.chunks)), (2, vec![(0, 2)]));
    assert_eq!(world.takeovers, [true, false], "what was taken from us is not taken back and forth");
}

#[test]
fn who_has_lost_the_name_for_good_is_told() {
    let (mut world, link) = World::started(0);
    world.index_says = Some(RefusalReason::NameTaken);
    world.frame(link, Refused::because(RefusalReason::Fenced));
    world.wait(Span::from_secs(5), |world| world.finished.is_some());
    assert_eq!(world.finished, Some(End::Refused(RefusalReason::NameTaken)));
}

#[test]
fn a_wrong_secret_is_told_at_once() {
    let mut world = World::new();
    world.index_says = Some(RefusalReason::NotAuthorised);
    world.feed(Input::Start);
    assert_eq!(world.finished, Some(End::Refused(RefusalReason::NotAuthorised)));
    assert_eq!(world.session.next_timeout(), Time::NEVER);
}

#[test]
fn no_cache_yet_is_waited_for_and_then_told() {
    let mut world = World::new();
    (world.index_says, world.retry_ms) = (Some(RefusalReason::NoCache), 1_000);
    world.feed(Input::Start);
    assert_eq!(world.finished, None);
    world.wait(Span::from_secs(5), |_| false);
    world.index_says = None;
    world.take_at(0);
    assert_eq!(world.finished, None);
}

#[test]
fn a_taken_name_may_be_our_former_process_for_a_moment() {
    let taken = || {
        let mut world = World::new();
        (world.index_says, world.retry_ms) = (Some(RefusalReason::NameTaken), 1_000);
        world.feed(Input::Start);
        world
    };
    let mut world = taken();
    world.wait(Span::from_secs(2), |_| false);
    world.index_says = None;
    world.take_at(0);
    assert_eq!(world.finished, None);
    let mut world = taken();
    world.wait(Span::from_secs(6), |world| world.finished.is_some());
    assert_eq!(world.finished, Some(End::Refused(RefusalReason::NameTaken)));
}

#[test]
fn silent_servers_are_given_up_at_last() {
    let mut world = World::new();
    world.servers_up = false;
    world.feed(Input::Start);
    world.wait(Span::from_secs(60), |world| world.finished.is_some());
    assert_eq!((world.finished, world.now), (Some(End::NoAnswer), Time::ZERO.after(START_PATIENCE)));
}

#[test]
fn a_cache_that_does_not_acknowledge_is_left() {
    let (mut world, link) = World::started(0);
    world.wait(Span::from_secs(30), |_| false);
    assert_eq!(world.closed, [], "silence is no fault while nothing is on the way");
    world.cut(1);
    world.take_chunks();
    world.take_at(0);
    assert_eq!((world.closed.clone(), world.take_chunks()), (vec![link], vec![0]));
}

#[test]
fn caches_that_are_all_gone_are_asked_of_the_index_again_and_given_up_after_a_minute() {
    let (mut world, link) = World::started(0);
    world.feed(Input::Closed { link });
    let mut known = world.connects.len();
    while world.finished.is_none() {
        world.wait(Span::from_secs(120), |world| world.connects.len() > known || world.finished.is_some());
        known = world.connects.len();
        let (link, _) = *world.connects.last().expect("tried");
        if world.finished.is_none() {
            world.feed(Input::Closed { link });
        }
    }
    assert_eq!((world.finished, world.now.since(Time::ZERO)), (Some(End::NoCache), GIVE_UP));
    assert!(world.granted > 1 && world.connects.len() < 60, "{} connections", world.connects.len());
}

#[test]
fn a_full_cache_names_others() {
    let (mut world, link) = World::started(0);
    let other = addr("127.0.0.1:77");
    world.frame(link, TryInstead { caches: List::first_of([other]) });
    world.frame(link, Refused::because(RefusalReason::Draining));
    world.take_at(0);
    assert_eq!(world.connects.last().map(|(_, to)| *to), Some(other));
}

#[test]
fn the_end_waits_for_the_last_acknowledgement() {
    let (mut world, link) = World::started(0);
    world.cut(2);
    world.feed(Input::End);
    world.ack(link, 0);
    assert_eq!(world.finished, None);
    world.ack(link, 1);
    assert_eq!((world.finished, world.closed), (Some(End::Published), vec![link]));
}

#[test]
fn an_end_that_nobody_confirms_is_told_after_its_time() {
    let (mut world, link) = World::started(0);
    world.cut(1);
    world.feed(Input::End);
    world.feed(Input::Closed { link });
    world.wait(Span::from_secs(30), |world| world.finished.is_some());
    assert_eq!((world.finished, world.now), (Some(End::Unconfirmed), Time::ZERO.after(END_PATIENCE)));
}

#[test]
fn who_is_still_refused_when_the_input_ends_hears_why() {
    let mut world = World::new();
    world.index_says = Some(RefusalReason::NameTaken);
    world.feed(Input::Start);
    world.cut(1);
    world.feed(Input::End);
    world.wait(END_PATIENCE, |world| world.finished.is_some());
    assert_eq!(world.finished, Some(End::Refused(RefusalReason::NameTaken)));
}
