//! What index and route servers decide, without the datagrams' system calls: their machines in this process, as full as a
//! domain makes them.
//!
//! ```text
//!   packet --decode--> machine, 10 000 peers of one stream in it --> answer --encode--> packet
//! ```
//! | measured | is |
//! |---|---|
//! | idle | the question that [`super::questions`] asks of an empty server: what it took there and not here is the datagrams' |
//! | a question | what a viewer asks as long as it watches: a heartbeat, a lease renewed |
//! | a join | all that a newcomer and the one whose place it takes send: a question without proof, with it, a farewell |
//!
//! Housekeeping that comes with time is in the question's share: the clock goes on as it does when so many peers ask.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cache_core::outbox::Outbox;
use cache_core::peer_id::{Location, PeerId};
use cache_core::proto::asker::{Asker, AskerOutput, Credentials};
use cache_core::proto::gate::Outgoing;
use cache_core::proto::index::{self, Index, IndexConfig};
use cache_core::proto::route::domains::{Domain, Domains};
use cache_core::proto::route::{self, Route, RouteConfig};
use cache_core::sign::{ClusterKey, CookieJar, PublisherKey, stream_id};
use cache_core::time::{Span, Time, WallClock};
use cache_core::units::{ChunkSeq, DomainId};
use cache_core::wire::datagram::{Cookie, Datagram, Message};
use cache_core::wire::index::{
    CacheReport, CacheStreams, HeldStream, HoldState, Join, PeerHeartbeat, PeerLeave, PublishRequest,
};
use cache_core::wire::route::{RouteJoin, RouteLeave};
use cache_core::wire::{Blob, List, StreamName};

/// Peers that are there. Our guess: a large stream's in one domain; a join's cost hardly grows with them.
const PEERS: usize = 10_000;

/// Newcomers measured.
const NEWCOMERS: usize = 2_000;

/// Questions in one sample, of which the middle counts: what interrupted one does not.
const SAMPLE: usize = 250;

/// Between two questions of a domain of [`PEERS`], each of which asks every 5 s.
const STEP: Span = Span::from_micros(500);

/// What one machine takes, in microseconds each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent {
    pub(super) idle_us: f64,
    pub(super) question_us: f64,
    pub(super) join_us: f64,
}

/// A machine that answers datagrams.
trait Machine {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>);
}

impl Machine for Index {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>) {
        self.handle(now, index::Input::Datagram { from, datagram }, out);
    }
}

impl Machine for Route {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>) {
        self.handle(now, route::Input::Datagram { from, datagram }, out);
    }
}

/// What the newcomers of one role say.
trait Role {
    /// The question with which a peer comes.
    fn join(&self, peer: usize) -> Message;
    /// What it asks from then on, by the answer; nothing when it was refused.
    fn stay(&self, peer: usize, answer: &Message) -> Option<Message>;
    /// Its farewell.
    fn leave(&self, peer: usize, answer: &Message) -> Option<Message>;
}

/// A viewer of the one stream, at an index server.
struct Viewer {
    stream: StreamName,
}

/// A holder of an id, at a route server.
struct Holder;

impl Role for Viewer {
    fn join(&self, peer: usize) -> Message {
        let (stream, listen) = (self.stream.clone(), Some(address(peer)));
        Join { stream, peer: peer_id(peer), listen, ticket: Blob::default() }.into()
    }

    fn stay(&self, peer: usize, answer: &Message) -> Option<Message> {
        let Message::Joined(joined) = answer else { return None };
        Some(PeerHeartbeat { stream: joined.stream, peer: peer_id(peer) }.into())
    }

    fn leave(&self, peer: usize, answer: &Message) -> Option<Message> {
        let Message::Joined(joined) = answer else { return None };
        Some(PeerLeave { stream: joined.stream, peer: peer_id(peer) }.into())
    }
}

impl Role for Holder {
    fn join(&self, _: usize) -> Message {
        RouteJoin { previous: PeerId::NONE, ticket: Blob::default() }.into()
    }

    fn stay(&self, _: usize, answer: &Message) -> Option<Message> {
        let Message::RouteJoined(joined) = answer else { return None };
        Some(RouteJoin { previous: joined.peer, ticket: Blob::default() }.into())
    }

    fn leave(&self, _: usize, answer: &Message) -> Option<Message> {
        let Message::RouteJoined(joined) = answer else { return None };
        Some(RouteLeave { peer: joined.peer }.into())
    }
}

/// What a question costs an index server's machine.
pub(super) fn index() -> Result<Spent> {
    let machine = || {
        let config = IndexConfig::new(DomainId(1), WallClock::from_micros(STARTED_US));
        Served::new(Index::new(config, CookieJar::new([1; 32]), 1))
    };
    let beat = PeerHeartbeat { stream: Default::default(), peer: Default::default() }.into();
    let idle_us = machine().idle(&beat)?;
    let stream = StreamName::new("calibration").context("a stream's name")?;
    let mut server = machine();
    server.publish(&stream)?;
    server.measure(&Viewer { stream }, idle_us)
}

/// What a question costs a route server's machine.
pub(super) fn route() -> Result<Spent> {
    let domain = || Domain {
        id: DomainId(1),
        name: "plan".to_owned(),
        indexes: vec![SERVER_ADDRESS],
        cidrs: Vec::new(),
        locations: Vec::new(),
    };
    let machine = || -> Result<Served<Route>> {
        let domains = Domains::new(vec![domain()])?;
        Ok(Served::new(Route::new(RouteConfig::new(domains), CookieJar::new([1; 32]), 1, None)))
    };
    let idle_us = machine()?.idle(&Holder.join(0))?;
    machine()?.measure(&Holder, idle_us)
}

/// Where the server would be.
const SERVER_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7300);

/// A wall clock's reading, some day in 2023: only its being set counts.
const STARTED_US: u64 = 1_700_000_000_000_000;

/// A peer's address: 256 to a network.
fn address(peer: usize) -> SocketAddr {
    SocketAddr::from(([10, 1 + (peer >> 16) as u8, (peer >> 8) as u8, peer as u8], 9000))
}

/// Its id: sixteen areas.
fn peer_id(peer: usize) -> PeerId {
    PeerId::new(Location { area: 1 + (peer % 16) as u16, ..Location::default() }, peer as u16)
}

/// A machine behind its codec, as a server's loop has it.
struct Served<M> {
    machine: M,
    cluster: ClusterKey,
    now: Time,
    out: Outbox<Outgoing>,
}

type Packet = (SocketAddr, Vec<u8>);

impl<M: Machine> Served<M> {
    fn new(machine: M) -> Served<M> {
        Served {
            machine,
            cluster: ClusterKey::derive("calibration"),
            now: Time::from_millis(1_000),
            out: Outbox::new(),
        }
    }

    /// What the server's loop does with a packet; the first answer.
    fn packet(&mut self, from: SocketAddr, packet: &[u8]) -> Option<Vec<u8>> {
        let datagram = Datagram::decode(packet, &self.cluster).ok()?;
        self.machine.datagram(self.now, from, datagram, &mut self.out);
        let mut first = None;
        for Outgoing { datagram, .. } in self.out.drain() {
            let bytes = datagram.encode(&self.cluster);
            first = first.or(bytes);
        }
        first
    }

    fn pack(&self, message: Message, cookie: Cookie) -> Result<Vec<u8>> {
        let datagram = Datagram { exchange: 1, cookie, message };
        datagram.encode(&self.cluster).context("a question fits a datagram")
    }

    fn answer(&mut self, from: SocketAddr, packet: &[u8]) -> Result<Datagram> {
        let answer = self.packet(from, packet).context("the machine answers")?;
        Datagram::decode(&answer, &self.cluster).context("the machine's answer")
    }

    /// The cookie that proves `from`.
    fn cookie(&mut self, from: SocketAddr, message: &Message) -> Result<Cookie> {
        let bare = self.pack(message.clone(), Cookie::default())?;
        let challenge = self.answer(from, &bare)?;
        if !matches!(challenge.message, Message::Challenge(_)) {
            bail!("the machine answered an address that had proved nothing: {:?}", challenge.message);
        }
        Ok(challenge.cookie)
    }

    /// A whole dialogue, with a publisher's proofs.
    fn ask(&mut self, from: SocketAddr, message: Message, credentials: Option<Credentials>) -> Result<Message> {
        let (mut asker, mut out, now) = (Asker::new(1), Outbox::new(), self.now);
        asker.ask_with(now, &[SERVER_ADDRESS], message, credentials, now.after(Span::from_secs(1)), &mut out);
        while !out.is_empty() {
            for said in out.drain().collect::<Vec<_>>() {
                match said {
                    AskerOutput::Send { datagram, .. } => {
                        let packet = datagram.encode(&self.cluster).context("a question fits a datagram")?;
                        let answer = self.answer(from, &packet)?;
                        asker.handle(now, SERVER_ADDRESS, &answer, &mut out);
                    }
                    AskerOutput::Answered { message, .. } => return Ok(message),
                    AskerOutput::Failed { .. } => bail!("the machine does not answer"),
                }
            }
        }
        bail!("the machine's answer is none")
    }

    /// The middle time of `packets`, each `step` after the one before it.
    fn timed(&mut self, packets: &[Packet], step: Span) -> f64 {
        let mut samples = Vec::new();
        for sample in packets.chunks(SAMPLE) {
            let begun = Instant::now();
            for (from, packet) in sample {
                self.now = self.now.after(step);
                black_box(self.packet(*from, packet));
            }
            samples.push(begun.elapsed().as_secs_f64() * 1e6 / sample.len() as f64);
        }
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied().unwrap_or(0.0)
    }

    /// One question again and again, of a machine in which nobody is.
    fn idle(&mut self, question: &Message) -> Result<f64> {
        let cookie = self.cookie(address(0), question)?;
        let packet = self.pack(question.clone(), cookie)?;
        Ok(self.timed(&vec![(address(0), packet); PEERS], Span::ZERO))
    }

    fn measure(&mut self, role: &impl Role, idle_us: f64) -> Result<Spent> {
        let come = |server: &mut Served<M>, peer: usize| -> Result<(Cookie, Packet)> {
            let cookie = server.cookie(address(peer), &role.join(peer))?;
            Ok((cookie, (address(peer), server.pack(role.join(peer), cookie)?)))
        };
        let mut questions = Vec::new();
        for peer in 0..PEERS {
            let (cookie, (from, packet)) = come(self, peer)?;
            let answer = self.answer(from, &packet)?.message;
            let stay = role.stay(peer, &answer).with_context(|| format!("a newcomer was answered {answer:?}"))?;
            questions.push((from, self.pack(stay, cookie)?));
        }
        let (mut bare, mut proved, mut farewells) = (Vec::new(), Vec::new(), Vec::new());
        for peer in PEERS..PEERS + NEWCOMERS {
            let (cookie, packet) = come(self, peer)?;
            // Joining twice is answered twice, and tells what the farewell needs.
            let answer = self.answer(packet.0, &packet.1)?.message;
            let leave = role.leave(peer, &answer).with_context(|| format!("a newcomer was answered {answer:?}"))?;
            let farewell = (packet.0, self.pack(leave, cookie)?);
            self.packet(farewell.0, &farewell.1);
            bare.push((packet.0, self.pack(role.join(peer), Cookie::default())?));
            proved.push(packet);
            farewells.push(farewell);
        }
        let join_us =
            self.timed(&bare, Span::ZERO) + self.timed(&proved, Span::ZERO) + self.timed(&farewells, Span::ZERO);
        let question_us = self.timed(&questions, STEP);
        Ok(Spent { idle_us, question_us, join_us })
    }
}

impl Served<Index> {
    /// A cache is there, and `stream` is published into it.
    fn publish(&mut self, stream: &StreamName) -> Result<()> {
        let (cache, publisher) = (SocketAddr::from(([10, 0, 0, 2], 7400)), SocketAddr::from(([10, 0, 0, 3], 9000)));
        let report = CacheReport { advertise: cache, load_permille: 100, viewers: 0, draining: false };
        self.ask(cache, report.into(), None)?;
        let key = PublisherKey::from_seed(&[1; 32]);
        let request = PublishRequest {
            stream: stream.clone(),
            key: key.public(),
            proof: [0; 32],
            possession: [0; 64],
            takeover: false,
            at_cache: None,
            ticket: Blob::default(),
        };
        let granted = self.ask(publisher, request.into(), Some(Credentials { key, secret: None }))?;
        let Message::PublishGrant(grant) = granted else { bail!("a publisher was answered {granted:?}") };
        let held = HeldStream {
            stream: stream_id(stream),
            state: HoldState::Origin,
            epoch: grant.epoch,
            head: ChunkSeq::new(41),
            viewers: 0,
        };
        let streams = CacheStreams { advertise: cache, streams: List::first_of([held]) };
        self.ask(cache, streams.into(), None).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_machines_answer_as_servers_do() {
        for spent in [index(), route()] {
            let spent = spent.expect("measured");
            let all = [spent.idle_us, spent.question_us, spent.join_us];
            assert!(all.iter().all(|us| *us > 0.0 && us.is_finite()), "{spent:?}");
        }
    }
}
