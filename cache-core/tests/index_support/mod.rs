//! A network in memory for the index's and route's tests: machines and made-up caches, peers and publishers, joined by real
//! packets (everything is encoded and decoded), on a clock that the test moves.
//!
//! ```text
//!  10.0.0.1:7200 route     10.1.0.1:7300 index of domain 1     10.2.0.1:7300 index of domain 2
//!  10.1.x.x belongs to domain 1, 10.2.x.x to domain 2
//! ```
#![allow(dead_code, unreachable_pub, reason = "shared by test files, of which each uses a part")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::proto::asker::{Asker, AskerOutput, Credentials};
use cache_core::proto::gate::{Outgoing, refusal_of};
use cache_core::proto::index::{self, Index, IndexConfig};
use cache_core::proto::route::domains::{Domain, Domains};
use cache_core::proto::route::{self, Route, RouteConfig};
use cache_core::sign::{ClusterKey, CookieJar, PublisherKey, stream_id};
use cache_core::time::{Span, Time, WallClock};
use cache_core::units::{ChunkSeq, DomainId, Epoch};
use cache_core::wire::datagram::{Cookie, Datagram, Message};
use cache_core::wire::index::*;
use cache_core::wire::{Blob, RefusalReason, Refused, StreamName};

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a stream name")
}

pub fn route_addr() -> SocketAddr {
    addr("10.0.0.1:7200")
}

pub fn index_addr(domain: u8) -> SocketAddr {
    SocketAddr::from(([10, domain, 0, 1], 7300))
}

/// A host of a domain; peers, caches and publishers have one each.
pub fn host(domain: u8, n: u16) -> SocketAddr {
    SocketAddr::from(([10, domain, 1 + (n >> 8) as u8, n as u8], 9000))
}

pub enum Machine {
    Route(Box<Route>),
    Index(Box<Index>),
}

impl Machine {
    fn handle(&mut self, now: Time, input: Option<(SocketAddr, Datagram)>, out: &mut Outbox<Outgoing>) {
        match (self, input) {
            (Machine::Route(m), None) => m.handle(now, route::Input::Tick, out),
            (Machine::Route(m), Some((from, datagram))) => {
                m.handle(now, route::Input::Datagram { from, datagram }, out)
            }
            (Machine::Index(m), None) => m.handle(now, index::Input::Tick, out),
            (Machine::Index(m), Some((from, datagram))) => {
                m.handle(now, index::Input::Datagram { from, datagram }, out)
            }
        }
    }

    fn next_timeout(&self) -> Time {
        match self {
            Machine::Route(m) => m.next_timeout(),
            Machine::Index(m) => m.next_timeout(),
        }
    }

    /// What the server's loop does with a packet: decode and handle, or refuse.
    pub fn packet(
        &mut self,
        now: Time,
        from: SocketAddr,
        packet: &[u8],
        cluster: &ClusterKey,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        match Datagram::decode(packet, cluster) {
            Ok(datagram) => {
                let mut out = Outbox::new();
                self.handle(now, Some((from, datagram)), &mut out);
                let encode = |o: Outgoing| (o.to, o.datagram.encode(cluster).expect("every message fits a datagram"));
                out.drain().map(encode).collect()
            }
            Err(error) => refusal_of(packet, error, cluster).map(|bytes| (from, bytes)).into_iter().collect(),
        }
    }
}

/// Somebody who asks, and hears what is told unasked.
#[derive(Default)]
pub struct Fake {
    asker: Asker,
    pub answers: Vec<Message>,
    pub heard: Vec<(SocketAddr, Message)>,
}

pub struct Net {
    pub now: Time,
    pub cluster: ClusterKey,
    pub machines: BTreeMap<SocketAddr, Machine>,
    pub fakes: BTreeMap<SocketAddr, Fake>,
    /// Addresses whose packets are lost.
    pub dead: Vec<SocketAddr>,
    /// What each machine has sent, by message name.
    pub sent: BTreeMap<(SocketAddr, &'static str), usize>,
    wire: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Net {
    /// Two domains; `shape` may change the settings of their index servers.
    pub fn two_domains(shape: impl Fn(&mut IndexConfig)) -> Net {
        let domain = |id: u8| Domain {
            id: DomainId(u16::from(id)),
            name: format!("domain {id}"),
            indexes: vec![index_addr(id)],
            cidrs: vec![format!("10.{id}.0.0/16").parse().expect("a network")],
            locations: Vec::new(),
        };
        let domains = Domains::new(vec![domain(1), domain(2)]).expect("consistent domains");
        let route = Route::new(RouteConfig::new(domains), CookieJar::new([1; 32]), 1, None);
        let mut net = Net {
            now: Time::ZERO,
            cluster: ClusterKey::derive("the test's secret"),
            machines: BTreeMap::from([(route_addr(), Machine::Route(Box::new(route)))]),
            fakes: BTreeMap::new(),
            dead: Vec::new(),
            sent: BTreeMap::new(),
            wire: VecDeque::new(),
        };
        for id in [1, 2] {
            net.start_index(id, &shape);
        }
        net
    }

    /// A fresh index server, in the place of a former one.
    pub fn start_index(&mut self, domain: u8, shape: impl Fn(&mut IndexConfig)) {
        let started = WallClock::from_micros(1_700_000_000_000_000).after(self.now.since(Time::ZERO));
        let mut config = IndexConfig::new(DomainId(u16::from(domain)), started);
        config.routes = vec![route_addr()];
        shape(&mut config);
        let index = Index::new(config, CookieJar::new([domain; 32]), u64::from(domain));
        self.machines.insert(index_addr(domain), Machine::Index(Box::new(index)));
    }

    pub fn index(&self, domain: u8) -> &Index {
        match &self.machines[&index_addr(domain)] {
            Machine::Index(index) => index,
            Machine::Route(_) => panic!("an index server"),
        }
    }

    pub fn sent(&self, from: SocketAddr, message: &'static str) -> usize {
        self.sent.get(&(from, message)).copied().unwrap_or(0)
    }

    /// Asks and waits until all is quiet, for at most five seconds: the answer.
    pub fn ask(&mut self, from: SocketAddr, to: SocketAddr, message: impl Into<Message>) -> Option<Message> {
        self.ask_with(from, to, message, None)
    }

    pub fn ask_with(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        message: impl Into<Message>,
        credentials: Option<Credentials>,
    ) -> Option<Message> {
        let before = self.fakes.entry(from).or_default().answers.len();
        self.pose(from, to, message, credentials);
        let until = self.now.after(Span::from_secs(5));
        while self.fakes[&from].answers.len() == before && self.now < until {
            self.pass(Span::from_millis(50));
        }
        self.fakes[&from].answers.get(before).cloned()
    }

    /// Asks, and delivers what can be delivered at once.
    pub fn pose(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        message: impl Into<Message>,
        credentials: Option<Credentials>,
    ) {
        let (mut out, now) = (Outbox::new(), self.now);
        let deadline = now.after(Span::from_secs(4));
        let fake = self.fakes.entry(from).or_default();
        fake.asker.ask_with(now, &[to], message.into(), credentials, deadline, &mut out);
        self.put(from, &mut out);
        self.deliver();
    }

    /// Says something once, without waiting.
    pub fn tell(&mut self, from: SocketAddr, to: SocketAddr, message: impl Into<Message>) {
        let mut out = Outbox::new();
        self.fakes.entry(from).or_default().asker.tell(to, message.into(), &mut out);
        self.put(from, &mut out);
        self.deliver();
    }

    /// Lets time pass, with every timer at its moment.
    pub fn pass(&mut self, span: Span) {
        let end = self.now.after(span);
        loop {
            self.deliver();
            let machines = self.machines.values().map(Machine::next_timeout);
            let fakes = self.fakes.values().map(|fake| fake.asker.next_timeout());
            let next = machines.chain(fakes).min().unwrap_or(Time::NEVER);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            let now = self.now;
            let addrs: Vec<_> = self.machines.keys().copied().collect();
            for at in addrs {
                let mut out = Outbox::new();
                let machine = self.machines.get_mut(&at).expect("there");
                if machine.next_timeout() <= now {
                    machine.handle(now, None, &mut out);
                    assert!(machine.next_timeout() > now, "a machine that wants to be called for ever");
                }
                self.put_all(at, &mut out);
            }
            let addrs: Vec<_> = self.fakes.keys().copied().collect();
            for at in addrs {
                let mut out = Outbox::new();
                self.fakes.get_mut(&at).expect("there").asker.tick(now, &mut out);
                self.put(at, &mut out);
            }
        }
        self.now = end;
    }

    fn put(&mut self, from: SocketAddr, out: &mut Outbox<AskerOutput>) {
        for output in out.drain().collect::<Vec<_>>() {
            match output {
                AskerOutput::Send { to, datagram } => self.put_one(from, to, &datagram),
                AskerOutput::Answered { message, .. } => {
                    self.fakes.get_mut(&from).expect("there").answers.push(message);
                }
                AskerOutput::Failed { .. } => {}
            }
        }
    }

    fn put_all(&mut self, from: SocketAddr, out: &mut Outbox<Outgoing>) {
        for outgoing in out.drain().collect::<Vec<_>>() {
            self.put_one(from, outgoing.to, &outgoing.datagram);
        }
    }

    fn put_one(&mut self, from: SocketAddr, to: SocketAddr, datagram: &Datagram) {
        *self.sent.entry((from, datagram.message.name())).or_default() += 1;
        let bytes = datagram.encode(&self.cluster).expect("every message fits a datagram");
        self.wire.push_back((from, to, bytes));
    }

    fn deliver(&mut self) {
        while let Some((from, to, bytes)) = self.wire.pop_front() {
            if self.dead.contains(&to) || self.dead.contains(&from) {
                continue;
            }
            let now = self.now;
            if let Some(machine) = self.machines.get_mut(&to) {
                let datagram = Datagram::decode(&bytes, &self.cluster).expect("what is sent can be read");
                let mut out = Outbox::new();
                machine.handle(now, Some((from, datagram)), &mut out);
                self.put_all(to, &mut out);
            } else if let Some(fake) = self.fakes.get_mut(&to) {
                let datagram = Datagram::decode(&bytes, &self.cluster).expect("what is sent can be read");
                let mut out = Outbox::new();
                if !fake.asker.handle(now, from, &datagram, &mut out) {
                    self.heard(to, from, datagram);
                }
                self.put(to, &mut out);
            }
        }
    }

    /// What a made-up cache or peer does unasked: caches acknowledge orders, peers answer dial-backs.
    fn heard(&mut self, at: SocketAddr, from: SocketAddr, datagram: Datagram) {
        let reply: Option<Message> = match &datagram.message {
            Message::CachePull(pull) => Some(CachePullAck { stream: stream_id(&pull.stream) }.into()),
            Message::DialBack(dial) => Some(DialBackAck { nonce: dial.nonce }.into()),
            _ => None,
        };
        self.fakes.get_mut(&at).expect("there").heard.push((from, datagram.message));
        if let Some(message) = reply {
            let reply = Datagram { exchange: datagram.exchange, cookie: Cookie::default(), message };
            self.put_one(at, from, &reply);
        }
    }
}

/// Made-up caches, publishers and peers of a domain.
impl Net {
    pub fn cache_reports(&mut self, domain: u8, n: u16, load_permille: u16) -> Option<Message> {
        let report = CacheReport { advertise: host(domain, n), load_permille, viewers: 0, draining: false };
        self.ask(host(domain, n), index_addr(domain), report)
    }

    pub fn cache_holds(&mut self, domain: u8, n: u16, stream: &str, state: HoldState, epoch: Epoch) -> Option<Message> {
        self.cache_holds_up_to(domain, n, stream, state, epoch, 41)
    }

    pub fn cache_holds_up_to(
        &mut self,
        domain: u8,
        n: u16,
        stream: &str,
        state: HoldState,
        epoch: Epoch,
        head: u64,
    ) -> Option<Message> {
        let held = HeldStream { stream: stream_id(&name(stream)), state, epoch, head: ChunkSeq::new(head), viewers: 0 };
        let streams = CacheStreams { advertise: host(domain, n), streams: cache_core::wire::List::first_of([held]) };
        self.ask(host(domain, n), index_addr(domain), streams)
    }

    pub fn publish(
        &mut self,
        domain: u8,
        n: u16,
        stream: &str,
        key: u8,
        secret: Option<&str>,
        takeover: bool,
    ) -> Result<PublishGrant, Refused> {
        let request = PublishRequest { takeover, ..request_for(stream, key) };
        let credentials = Credentials { key: publisher(key), secret: secret.map(str::to_owned) };
        match self.ask_with(host(domain, n), index_addr(domain), request, Some(credentials)) {
            Some(Message::PublishGrant(grant)) => Ok(grant),
            Some(Message::Refused(refused)) => Err(refused),
            other => panic!("neither granted nor refused: {other:?}"),
        }
    }

    /// Cache `cache` of `domain` is there, and `stream` is published into it.
    pub fn live(&mut self, domain: u8, cache: u16, stream: &str, key: u8) -> Epoch {
        self.cache_reports(domain, cache, 100);
        let grant = self.publish(domain, 900, stream, key, None, false).expect("granted");
        self.cache_holds(domain, cache, stream, HoldState::Origin, grant.epoch);
        self.pass(Span::from_millis(200));
        grant.epoch
    }

    pub fn join_message(&self, domain: u8, n: u16, stream: &str) -> Join {
        let peer = cache_core::peer_id::PeerId::new(
            cache_core::peer_id::Location { area: u16::from(domain), ..Default::default() },
            n,
        );
        Join { stream: name(stream), peer, listen: Some(addr("0.0.0.0:9000")), ticket: Blob::default() }
    }

    pub fn join(&mut self, domain: u8, n: u16, stream: &str) -> Result<Joined, RefusalReason> {
        let join = self.join_message(domain, n, stream);
        match self.ask(host(domain, n), index_addr(domain), join) {
            Some(Message::Joined(joined)) => Ok(joined),
            Some(Message::Refused(refused)) => Err(refused.reason),
            other => panic!("neither joined nor refused: {other:?}"),
        }
    }
}

/// The key pair that tests call by a number.
pub fn publisher(key: u8) -> PublisherKey {
    PublisherKey::from_seed(&[key; 32])
}

/// A request for `stream` that names publisher `key`'s key and proves nothing.
pub fn request_for(stream: &str, key: u8) -> PublishRequest {
    PublishRequest {
        stream: name(stream),
        key: publisher(key).public(),
        proof: [0; 32],
        possession: [0; 64],
        takeover: false,
        at_cache: None,
        ticket: Blob::default(),
    }
}
