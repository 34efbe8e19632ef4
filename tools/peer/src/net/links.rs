//! All links, by the numbers that the machine gave them.
//!
//! ```text
//!   machine --connect, send, send_chunk, close--> Links --next_event--> machine
//!                                                  |  ^
//!                                       flush_all  v  | ready, accept, check
//!                                                  sockets
//! ```
//! What is queued in a turn is written at its end, so that a link's frames of one turn leave together. After
//! [`Links::close`] no event of that link comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use cache_core::proto::peer::LinkId;
use cache_core::time::{Span, Time};
use cache_core::units::ChunkSeq;
use cache_core::wire::Frame;
use mio::{Interest, Registry, Token};

use super::NetCounters;
use super::framing::Incoming;
use super::link::{Link, LinkEnd, More, Phase};
use super::poll::link_token;
use super::queue::QueueFull;
use super::transport::{Stream, Transport};

/// Most links at once: the machine's largest `accepted_max` (256), and as our guess room for its own and for those in
/// their handshake, so that the machine decides who stays and not this number.
pub(crate) const LINKS_MAX: usize = 320;

/// How often deadlines are looked at. Fine enough for [`super::link::PATIENCE`].
const CHECK_PERIOD: Span = Span::from_millis(250);

/// Pause before accepting again when no descriptor was left.
const ACCEPT_PAUSE: Span = Span::from_millis(100);

/// What happened on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// It stands.
    Connected,
    /// It has ended, or could not be made; its number is dead.
    Closed,
    /// A frame or chunk came.
    Received(Incoming),
    /// A chunk is out whole.
    Sent(ChunkSeq),
}

/// Every link of this program.
#[derive(Debug)]
pub(crate) struct Links<T: Transport> {
    transport: T,
    registry: Registry,
    links: BTreeMap<LinkId, Link<T::Stream>>,
    events: VecDeque<(LinkId, LinkEvent)>,
    /// Links with something to write.
    unwritten: BTreeSet<LinkId>,
    /// Links with bytes to read that the last turn had no budget for.
    unread: BTreeSet<LinkId>,
    /// When to accept: connections may wait.
    accept_at: Time,
    check_at: Time,
    scratch: Vec<u8>,
    counters: NetCounters,
    bytes_out: u64,
}

impl<T: Transport> Links<T> {
    /// No link yet; incoming connections are told as `token`.
    pub(crate) fn new(mut transport: T, registry: Registry, token: Token) -> io::Result<Links<T>> {
        transport.register(&registry, token)?;
        Ok(Links {
            transport,
            registry,
            links: BTreeMap::new(),
            events: VecDeque::new(),
            unwritten: BTreeSet::new(),
            unread: BTreeSet::new(),
            accept_at: Time::NEVER,
            check_at: Time::ZERO,
            scratch: vec![0; 16 << 10],
            counters: NetCounters::default(),
            bytes_out: 0,
        })
    }

    /// Where this program takes links.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    /// What the sockets met.
    pub(crate) const fn counters(&self) -> NetCounters {
        self.counters
    }

    /// Bytes written to links.
    pub(crate) const fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// The other end of a link.
    pub(crate) fn remote(&self, link: LinkId) -> Option<SocketAddr> {
        self.links.get(&link).map(|link| link.remote)
    }

    /// Begins to connect; [`LinkEvent::Connected`] or [`LinkEvent::Closed`] follows.
    pub(crate) fn connect(&mut self, now: Time, link: LinkId, to: SocketAddr) {
        let stream = if self.links.len() < LINKS_MAX {
            self.transport.connect(to)
        } else {
            self.counters.links_over_limit += 1;
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        match stream {
            Ok(stream) => self.insert(now, link, stream, to, Phase::Connecting),
            Err(error) => {
                tracing::debug!(%to, %error, "link cannot be made");
                self.counters.connects_failed += 1;
                self.events.push_back((link, LinkEvent::Closed));
            }
        }
    }

    /// Connections may wait to be accepted.
    pub(crate) fn can_accept(&mut self) {
        self.accept_at = Time::ZERO;
    }

    /// The next connection to [`Links::adopt`].
    pub(crate) fn accept(&mut self, now: Time) -> Option<(T::Stream, SocketAddr)> {
        while self.accept_at <= now {
            match self.transport.accept() {
                Ok(_) if self.links.len() >= LINKS_MAX => self.counters.links_over_limit += 1,
                Ok(accepted) => return Some(accepted),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.accept_at = Time::NEVER,
                // A connection that was reset before it was accepted: the next one may be good.
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted now; raise the limit of open files (ulimit -n)");
                    self.counters.descriptors_exhausted += 1;
                    self.accept_at = now.after(ACCEPT_PAUSE);
                }
            }
        }
        None
    }

    /// Takes an accepted connection under the number that the machine gave it.
    pub(crate) fn adopt(&mut self, now: Time, link: LinkId, stream: T::Stream, from: SocketAddr) {
        self.counters.links_accepted += 1;
        self.insert(now, link, stream, from, Phase::Open);
    }

    /// Queues a frame. A link that has no room is closed as a slow receiver.
    pub(crate) fn send(&mut self, now: Time, link: LinkId, frame: &Frame) {
        let mut bytes = Vec::with_capacity(64);
        frame.encode(&mut bytes);
        self.queue(now, link, |link| link.queue.push_frame(bytes));
    }

    /// Queues a chunk's frame, whole (`front` is `None`) or as prefix and payload; [`LinkEvent::Sent`] follows.
    pub(crate) fn send_chunk(&mut self, now: Time, link: LinkId, seq: ChunkSeq, front: Option<Bytes>, rest: Bytes) {
        self.queue(now, link, |link| link.queue.push_chunk(seq, front, rest));
    }

    /// Closes a link when what is queued is out. No event of it comes from here on.
    pub(crate) fn close(&mut self, now: Time, link: LinkId) {
        self.events.retain(|(of, _)| *of != link);
        let Some(open) = self.links.get_mut(&link) else { return };
        match open.phase {
            Phase::Connecting => self.remove(link),
            Phase::Open => {
                open.touch(now);
                open.phase = Phase::Closing;
                self.unwritten.insert(link);
            }
            Phase::Closing | Phase::Lingering => {}
        }
    }

    /// The poll said that `link` has something to read or room to write.
    pub(crate) fn ready(&mut self, link: LinkId, readable: bool, writable: bool) {
        let Some(open) = self.links.get_mut(&link) else { return };
        if open.phase == Phase::Connecting {
            match open.stream.connected() {
                Ok(false) => return,
                Ok(true) => {
                    open.phase = Phase::Open;
                    self.counters.links_connected += 1;
                    self.events.push_back((link, LinkEvent::Connected));
                }
                Err(error) => {
                    tracing::debug!(to = %open.remote, %error, "link cannot be made");
                    self.counters.connects_failed += 1;
                    return self.end(link, LinkEnd::Gone);
                }
            }
        }
        if writable {
            self.unwritten.insert(link);
        }
        if readable {
            self.unread.insert(link);
        }
    }

    /// A link with bytes to read; each is given out once, and again next turn when its budget was used up.
    pub(crate) fn take_unread(&mut self) -> BTreeSet<LinkId> {
        std::mem::take(&mut self.unread)
    }

    /// Reads one link: its frames become events.
    pub(crate) fn read(&mut self, now: Time, link: LinkId) {
        let Some(open) = self.links.get_mut(&link) else { return };
        let mut received = Vec::new();
        let result = open.read(now, &mut self.scratch, &mut received);
        if open.phase == Phase::Open {
            self.events.extend(received.into_iter().map(|incoming| (link, LinkEvent::Received(incoming))));
        }
        match result {
            Ok(More::No) => {}
            Ok(More::Yes) => {
                self.unread.insert(link);
            }
            Err(end) => self.end(link, end),
        }
    }

    /// The next thing that happened.
    pub(crate) fn next_event(&mut self) -> Option<(LinkId, LinkEvent)> {
        self.events.pop_front()
    }

    /// Writes what was queued. What does not go out waits for the poll.
    pub(crate) fn flush_all(&mut self, now: Time) {
        let mut done = Vec::new();
        for link in std::mem::take(&mut self.unwritten) {
            let Some(open) = self.links.get_mut(&link) else { continue };
            let result = open.write(now, &mut done);
            let owned = open.phase == Phase::Open;
            self.events.extend(done.drain(..).filter(|_| owned).map(|seq| (link, LinkEvent::Sent(seq))));
            match result {
                Ok(written) => {
                    self.bytes_out += written as u64;
                    if written >= super::link::BYTES_PER_TURN {
                        self.unwritten.insert(link);
                    }
                }
                Err(end) => self.end(link, end),
            }
        }
    }

    /// Ends the links whose time is up.
    pub(crate) fn check(&mut self, now: Time) {
        if now < self.check_at {
            return;
        }
        self.check_at = now.after(CHECK_PERIOD);
        let overdue: Vec<_> = self.links.iter().filter_map(|(id, link)| Some((*id, link.overdue(now)?))).collect();
        for (link, end) in overdue {
            self.end(link, end);
        }
    }

    /// When the loop must turn at the latest.
    pub(crate) fn next_timeout(&self) -> Time {
        if !self.events.is_empty() || !self.unread.is_empty() || !self.unwritten.is_empty() {
            return Time::ZERO;
        }
        let check = if self.links.is_empty() { Time::NEVER } else { self.check_at };
        check.min(self.accept_at)
    }

    /// Whether nothing waits to go out any more.
    pub(crate) fn is_flushed(&self) -> bool {
        self.links.values().all(|link| link.queue.is_empty() && link.phase != Phase::Closing)
    }

    fn queue(&mut self, now: Time, link: LinkId, push: impl FnOnce(&mut Link<T::Stream>) -> Result<(), QueueFull>) {
        let Some(open) = self.links.get_mut(&link).filter(|open| open.phase != Phase::Lingering) else { return };
        open.touch(now);
        match push(open) {
            Ok(()) => {
                self.unwritten.insert(link);
            }
            Err(QueueFull) => self.end(link, LinkEnd::SlowReceiver),
        }
    }

    fn insert(&mut self, now: Time, link: LinkId, stream: T::Stream, remote: SocketAddr, phase: Phase) {
        let mut open = Link::new(stream, remote, phase, now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(&mut open.stream, link_token(link), interest) {
            Ok(()) => {
                self.links.insert(link, open);
            }
            Err(error) => {
                tracing::warn!(%error, "a socket cannot be watched");
                self.events.push_back((link, LinkEvent::Closed));
            }
        }
    }

    fn end(&mut self, link: LinkId, end: LinkEnd) {
        let Some(open) = self.links.get(&link) else { return };
        let remote = open.remote;
        match end {
            LinkEnd::Gone | LinkEnd::Finished => {}
            LinkEnd::Garbage(error) => {
                tracing::info!(%remote, %error, "link closed: not our frames");
                self.counters.garbage += 1;
            }
            LinkEnd::Timeout => {
                tracing::info!(%remote, "link closed: no whole frame in time");
                self.counters.timeouts += 1;
            }
            LinkEnd::SlowReceiver => {
                tracing::info!(%remote, "link closed: the other end takes nothing");
                self.counters.slow_receivers += 1;
            }
        }
        if matches!(open.phase, Phase::Connecting | Phase::Open) {
            self.events.push_back((link, LinkEvent::Closed));
        }
        self.remove(link);
    }

    fn remove(&mut self, link: LinkId) {
        self.unread.remove(&link);
        self.unwritten.remove(&link);
        if let Some(mut open) = self.links.remove(&link) {
            // A failure leaves a registration that ends with the socket, here.
            let _ = self.registry.deregister(&mut open.stream);
        }
    }
}
