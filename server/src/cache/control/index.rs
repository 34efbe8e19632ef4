//! The domain's index server, as control talks to it: one UDP socket, one [`Asker`].
//!
//! ```text
//!  tasks --ask--> Asker --> socket --> index server     KeysQuery, PublishRequest, Resolve: answered
//!  reports -------'   '-- tell ----->                   CacheReport each second (its answer says who is alive),
//!                                                       CacheStreams each second and when something changes,
//!                                                       CacheKeys when it has not known this cache
//!  CachePull <---------- socket <---                    a pull begins; CachePullAck
//! ```
//! The configured servers are a list of equals in failover: the one that answered last is asked first.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;

use cache_core::limits::{DATAGRAM_BYTES_MAX, STREAMS_PER_REPORT_MAX};
use cache_core::outbox::Outbox;
use cache_core::proto::asker::{Asker, AskerOutput, Credentials, QuestionId};
use cache_core::proto::cache::admission::{LOAD_FULL, load_permille};
use cache_core::sign::{ClusterKey, stream_id};
use cache_core::time::{Span, Time};
use cache_core::wire::datagram::Cookie;
use cache_core::wire::index::{CacheKeys, CachePullAck, CacheReport, CacheStreams, HeldStream};
use cache_core::wire::{Datagram, List, Message, RefusalReason};
use glommio::io::PollableFd;

use super::hub::Hub;
use super::pull;
use super::wait::Mailbox;

/// How long a question waits for an answer (our guess: three servers are tried in that time).
pub(super) const ANSWER_WITHIN: Span = Span::from_secs(4);

/// How long streams and the report wait, together less than a second: the next ones are due then.
const STREAMS_WITHIN: Span = Span::from_millis(300);
const REPORT_WITHIN: Span = Span::from_millis(600);

const PER_MESSAGE: usize = List::<HeldStream, STREAMS_PER_REPORT_MAX>::MAX;

/// Packets taken in one turn (our guess: under a millisecond of work).
const BATCH: usize = 64;

type Waiter = Rc<Mailbox<Option<Message>>>;

/// The client.
#[derive(Debug)]
pub(super) struct IndexClient {
    socket: PollableFd<UdpSocket>,
    v6: bool,
    cluster: ClusterKey,
    /// Configured servers, the one that answered last in front.
    servers: RefCell<Vec<SocketAddr>>,
    asker: RefCell<Asker>,
    waiters: RefCell<BTreeMap<QuestionId, Waiter>>,
    /// Whether the last report was answered; `None` before the first.
    heard: Cell<Option<bool>>,
}

impl IndexClient {
    /// A client that asks `servers` (at least one) from `socket`, which is bound and non-blocking.
    pub(super) fn new(
        socket: UdpSocket,
        servers: Vec<SocketAddr>,
        cluster: ClusterKey,
        first_exchange: u32,
    ) -> std::io::Result<IndexClient> {
        let v6 = socket.local_addr()?.is_ipv6();
        Ok(IndexClient {
            socket: PollableFd::new(socket).map_err(std::io::Error::other)?,
            v6,
            cluster,
            servers: RefCell::new(servers),
            asker: RefCell::new(Asker::new(first_exchange)),
            waiters: RefCell::default(),
            heard: Cell::new(None),
        })
    }

    /// Asks and waits for the answer, which may be a refusal; `None` when no server answers in time.
    pub(super) async fn ask(
        &self,
        now: Time,
        message: impl Into<Message>,
        credentials: Option<Credentials>,
        within: Span,
    ) -> Option<Message> {
        let waiter: Waiter = Rc::new(Mailbox::new(1));
        let question = {
            let mut out = Outbox::new();
            let servers = self.servers.borrow().clone();
            let question = self.asker.borrow_mut().ask_with(
                now,
                &servers,
                message.into(),
                credentials,
                now.after(within),
                &mut out,
            )?;
            self.waiters.borrow_mut().insert(question, waiter.clone());
            self.carry_out(&mut out);
            question
        };
        // A caller that is dropped meanwhile takes its question with it.
        let _cancel = Cancel { client: self, question };
        waiter.take().await
    }

    /// Tells of streams, without waiting for anything: the next report repeats it.
    pub(super) fn tell_streams(&self, advertise: SocketAddr, held: Vec<HeldStream>) {
        let Some(server) = self.servers.borrow().first().copied() else { return };
        let mut out = Outbox::new();
        for some in held.chunks(PER_MESSAGE) {
            let message = CacheStreams { advertise, streams: List::first_of(some.iter().cloned()) };
            self.asker.borrow_mut().tell(server, message.into(), &mut out);
        }
        self.carry_out(&mut out);
    }

    /// One report. Returns when it is answered or given up.
    ///
    /// Streams go first: an index server that answers them with `NotJoined` has been restarted, and is told the
    /// streams' names and keys behind the report.
    pub(super) async fn report(&self, hub: &Hub) {
        let known = self.heard.get() == Some(true) && self.is_known(hub).await;
        let report = CacheReport {
            advertise: hub.advertise,
            load_permille: match hub.refuses_joins() {
                true => LOAD_FULL,
                false => load_permille(hub.connections(), hub.connections_max, hub.busy_permille()),
            },
            viewers: hub.viewers(),
            draining: hub.draining.get(),
        };
        let answer = self.ask(hub.clock.now(), report, None, REPORT_WITHIN).await;
        let heard = matches!(answer, Some(Message::CacheReportAck(_)));
        match &answer {
            Some(Message::CacheReportAck(ack)) => hub.room.others(hub, &ack.others),
            // Who was named may be gone by now: the configured ones are left.
            _ => hub.room.others(hub, &[]),
        }
        if self.heard.replace(Some(heard)) != Some(heard) {
            match answer {
                Some(Message::CacheReportAck(_)) => tracing::info!("registered with the index server"),
                Some(Message::Refused(refused)) => {
                    tracing::error!(reason = %refused.reason, "the index server refuses this cache");
                }
                _ => tracing::warn!(servers = ?self.servers.borrow(), "no index server answers"),
            }
        }
        if heard && !known {
            self.tell_keys(hub);
            self.tell_streams(hub.advertise, held(hub));
        }
    }

    /// Tells of all streams; false when the index server does not know this cache.
    async fn is_known(&self, hub: &Hub) -> bool {
        let mut held = held(hub);
        let rest = held.split_off(held.len().min(PER_MESSAGE));
        let first = CacheStreams { advertise: hub.advertise, streams: List::first_of(held) };
        let answer = self.ask(hub.clock.now(), first, None, STREAMS_WITHIN).await;
        // Without an answer it may have been restarted meanwhile, and answer the report: then nobody would tell it.
        let known = answer.is_some_and(|said| !said.refuses(RefusalReason::NotJoined));
        if known {
            self.tell_streams(hub.advertise, rest);
        }
        known
    }

    fn tell_keys(&self, hub: &Hub) {
        let Some(server) = self.servers.borrow().first().copied() else { return };
        let mut out = Outbox::new();
        let store = hub.store.borrow();
        for (id, stream) in store.streams.iter() {
            let keys = hub.keys.borrow().get(&id).map(|keys| keys.to_wire()).unwrap_or_default();
            if !keys.is_empty() {
                let stream = stream.name().clone();
                let message = CacheKeys { advertise: hub.advertise, stream, keys: List::first_of(keys) };
                self.asker.borrow_mut().tell(server, message.into(), &mut out);
            }
        }
        self.carry_out(&mut out);
    }

    /// Repeats what is due and gives up what is too late.
    pub(super) fn tick(&self, now: Time) {
        let mut out = Outbox::new();
        self.asker.borrow_mut().tick(now, &mut out);
        self.carry_out(&mut out);
    }

    /// Takes datagrams in for as long as the server runs. Fails when the socket does.
    pub(super) async fn receive(&self, hub: &Rc<Hub>) -> std::io::Result<()> {
        // One byte more than the limit: a longer packet is seen to be longer.
        let mut packet = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            for _ in 0..BATCH {
                match self.socket.get_ref().recv_from(&mut packet) {
                    Ok((len, from)) => self.datagram(hub, from, &packet[..len]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        self.socket.readable().await.map_err(std::io::Error::other)?;
                    }
                    // An ICMP answer to something sent before, or an interruption: of no one packet here.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return Err(error),
                    Err(_) => {}
                }
            }
            glommio::executor().yield_now().await;
        }
    }

    fn datagram(&self, hub: &Rc<Hub>, from: SocketAddr, packet: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = match Datagram::decode(packet, &self.cluster) {
            Ok(datagram) => datagram,
            Err(error) => {
                hub.counters.datagrams_bad.one();
                tracing::debug!(%from, %error, "unreadable datagram");
                return;
            }
        };
        let mut out = Outbox::new();
        let taken = self.asker.borrow_mut().handle(hub.clock.now(), from, &datagram, &mut out);
        self.carry_out(&mut out);
        if taken || !self.servers.borrow().contains(&from) {
            return;
        }
        if let Message::CachePull(request) = datagram.message {
            let begun = pull::begin(hub, &request.stream, request.parents.to_vec(), &request.keys);
            tracing::debug!(stream = %request.stream, ?begun, "asked to pull");
            if begun.is_ok() {
                let ack = CachePullAck { stream: stream_id(&request.stream) };
                let cookie = Cookie::default();
                self.send(from, &Datagram { exchange: datagram.exchange, cookie, message: ack.into() });
            }
        }
    }

    fn carry_out(&self, out: &mut Outbox<AskerOutput>) {
        for output in out.drain() {
            let (question, answer) = match output {
                AskerOutput::Send { to, datagram } => {
                    self.send(to, &datagram);
                    continue;
                }
                AskerOutput::Answered { question, from, message } => {
                    self.prefer(from);
                    (question, Some(message))
                }
                AskerOutput::Failed { question } => (question, None),
            };
            if let Some(waiter) = self.waiters.borrow_mut().remove(&question) {
                // It has room for one answer, and there is one.
                let _ = waiter.put(answer);
            }
        }
    }

    fn prefer(&self, server: SocketAddr) {
        let mut servers = self.servers.borrow_mut();
        if let Some(at) = servers.iter().position(|known| *known == server) {
            servers[..=at].rotate_right(1);
        }
    }

    fn send(&self, to: SocketAddr, datagram: &Datagram) {
        let Some(bytes) = datagram.encode(&self.cluster) else {
            tracing::warn!(message = datagram.message.name(), "a message does not fit a datagram");
            return;
        };
        let to = match to.ip() {
            IpAddr::V4(ip) if self.v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        if let Err(error) = self.socket.get_ref().send_to(&bytes, to) {
            tracing::debug!(%to, %error, "not sent");
        }
    }
}

fn held(hub: &Hub) -> Vec<HeldStream> {
    let store = hub.store.borrow();
    store.streams.iter().filter_map(|(id, _)| store.streams.held(id)).collect()
}

struct Cancel<'a> {
    client: &'a IndexClient,
    question: QuestionId,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        if self.client.waiters.borrow_mut().remove(&self.question).is_some() {
            self.client.asker.borrow_mut().cancel(self.question);
        }
    }
}
