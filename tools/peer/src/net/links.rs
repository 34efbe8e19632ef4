//! All links, by the numbers that the machine gave them.
//!
//! ```text
//!   machine --connect, send, send_chunk, close--> Links --next_event--> machine
//!                                                  |  ^
//!                                       flush_all  v  | ready, accept, check
//!                                                  sockets
//! ```
//! What is queued in a turn is written at its end, so that a link's frames of one turn leave together. A chunk is told as
//! sent when it has left ([`Link::settle`]), which nobody announces: as long as the kernel has some, it is asked. After
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

/// How often the kernel is asked what has left while it has chunks. Our guess: a tenth of a chunk's time, as late as the
/// next chunk's turn may come without being felt.
const SETTLE_PERIOD: Span = Span::from_millis(20);

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
    /// A chunk has left.
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
    /// Links of which the kernel has chunks that have not left.
    settling: BTreeSet<LinkId>,
    settle_at: Time,
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
            settling: BTreeSet::new(),
            settle_at: Time::ZERO,
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
        for link in std::mem::take(&mut self.unwritten) {
            let Some(open) = self.links.get_mut(&link) else { continue };
            match open.write(now) {
                Ok(written) => {
                    self.bytes_out += written as u64;
                    if written >= super::link::BYTES_PER_TURN {
                        self.unwritten.insert(link);
                    }
                    if open.phase == Phase::Open && open.is_settling() {
                        if self.settling.is_empty() {
                            self.settle_at = now.after(SETTLE_PERIOD);
                        }
                        self.settling.insert(link);
                    }
                }
                Err(end) => self.end(link, end),
            }
        }
    }

    /// Tells of chunks that have left, and ends the links whose time is up.
    pub(crate) fn check(&mut self, now: Time) {
        if now >= self.settle_at && !self.settling.is_empty() {
            self.settle(now);
        }
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
        let settle = if self.settling.is_empty() { Time::NEVER } else { self.settle_at };
        check.min(settle).min(self.accept_at)
    }

    /// Whether nothing waits to go out any more.
    pub(crate) fn is_flushed(&self) -> bool {
        self.links.values().all(|link| link.queue.is_empty() && link.phase != Phase::Closing)
    }

    /// Asks the kernel what has left.
    fn settle(&mut self, now: Time) {
        self.settle_at = now.after(SETTLE_PERIOD);
        for link in std::mem::take(&mut self.settling) {
            let Some(open) = self.links.get_mut(&link).filter(|open| open.phase == Phase::Open) else { continue };
            let outstanding = self.transport.outstanding(&open.stream);
            for seq in open.settle(now, outstanding) {
                self.counters.sends_unconfirmed += u64::from(outstanding.is_none());
                self.events.push_back((link, LinkEvent::Sent(seq)));
            }
            if open.is_settling() {
                self.settling.insert(link);
            }
        }
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
        self.settling.remove(&link);
        if let Some(mut open) = self.links.remove(&link) {
            // A failure leaves a registration that ends with the socket, here.
            let _ = self.registry.deregister(&mut open.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use mio::{Events, Poll};
    use socket2::{Domain, Socket, Type};

    use super::super::poll::{LISTENER, Owner, owner};
    use super::super::tcp::Tcp;
    use super::*;
    use crate::testing::chunk;

    const LINK: LinkId = LinkId(1);

    /// A turn of the loop at `now`; what happened.
    fn turn(poll: &mut Poll, links: &mut Links<Tcp>, now: Time) -> Vec<LinkEvent> {
        let mut events = Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::from_millis(20))).expect("polled");
        for event in &events {
            if let Owner::Link(link) = owner(event.token()) {
                links.ready(link, event.is_readable(), event.is_writable());
            }
        }
        links.check(now);
        links.flush_all(now);
        std::iter::from_fn(|| links.next_event()).map(|(_, event)| event).collect()
    }

    #[test]
    fn a_chunk_is_sent_when_it_has_left_and_not_when_the_kernel_has_taken_it() {
        let loopback: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        // A reader who stops, and whose host takes little that is not read.
        let reader = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        reader.set_recv_buffer_size(32 << 10).expect("set");
        reader.bind(&loopback.into()).expect("bound");
        reader.listen(1).expect("listening");
        let reader = std::net::TcpListener::from(reader);

        let mut poll = Poll::new().expect("a poll");
        let registry = poll.registry().try_clone().expect("a registry");
        let mut links = Links::new(Tcp::outgoing(loopback), registry, LISTENER).expect("links");
        let mut now = Time::ZERO;
        links.connect(now, LINK, reader.local_addr().expect("bound"));
        while !turn(&mut poll, &mut links, now).iter().any(|event| matches!(event, LinkEvent::Connected)) {}
        let (mut reader, _) = reader.accept().expect("connected");

        let chunk = chunk(7, 200_000);
        links.send_chunk(now, LINK, chunk.header.seq, None, chunk.frame.clone());
        let said = turn(&mut poll, &mut links, now);
        assert!(links.links[&LINK].queue.is_empty(), "the kernel takes all of it");
        assert!(said.is_empty(), "{said:?}");
        for _ in 0..10 {
            now = now.after(SETTLE_PERIOD);
            let said = turn(&mut poll, &mut links, now);
            assert!(said.is_empty(), "nobody reads: {said:?}");
        }
        assert!(links.next_timeout() <= now.after(SETTLE_PERIOD), "the kernel is asked again");

        let mut read = vec![0; chunk.frame.len()];
        reader.read_exact(&mut read).expect("all of it");
        let mut said = Vec::new();
        while said.is_empty() {
            now = now.after(SETTLE_PERIOD);
            said = turn(&mut poll, &mut links, now);
        }
        assert!(matches!(said[..], [LinkEvent::Sent(seq)] if seq == chunk.header.seq), "{said:?}");
        assert_eq!(links.counters().sends_unconfirmed, 0);
        assert!(links.settling.is_empty(), "nothing is left to ask for");
    }
}
