//! Between the machine and the sockets: carries inputs in and outputs out, and holds the bytes that chunk names mean.

use cache_core::outbox::Outbox;
use cache_core::proto::peer::quality::Quality;
use cache_core::proto::peer::{End, Input, LinkId, Output, Peer, Snapshot, State};
use cache_core::sign::{KeyRing, stream_id};
use cache_core::time::{Span, Time, WallClock};
use cache_core::units::ChunkSeq;
use cache_core::wire::StreamName;

use crate::clock::Now;
use crate::histogram::Histogram;
use crate::net::framing::{Chunk, Incoming};
use crate::net::links::{LinkEvent, Links};
use crate::net::transport::Transport;
use crate::net::udp::Udp;
use crate::outcome::Failure;
use crate::playout::Playout;
use crate::report::{Lag, Sources};
use crate::status::WatchStatus;
use crate::store::Store;

/// How often the machine's state is remembered for the report: at the end it is empty.
const REMEMBER_PERIOD: Span = Span::from_secs(1);

/// A machine with its sockets and bytes.
pub(super) struct Driver<T: Transport> {
    stream: StreamName,
    peer: Peer,
    out: Outbox<Output>,
    udp: Udp,
    pub(super) links: Links<T>,
    pub(super) playout: Playout,
    keys: KeyRing,
    store: Store,
    lags: Histogram,
    quality: Quality,
    /// The poll said that datagrams wait.
    pub(super) datagrams_wait: bool,
    /// Why the machine has finished, once it has.
    pub(super) finished: Option<End>,
    /// How the peer was, not long ago, before it began to end.
    lately: Snapshot,
    remember_at: Time,
    /// Chunks that the machine named and the store did not have.
    not_kept: u64,
}

impl<T: Transport> Driver<T> {
    /// Nothing is done before [`Driver::start`].
    pub(super) fn new(stream: StreamName, peer: Peer, udp: Udp, links: Links<T>, playout: Playout) -> Driver<T> {
        let keys = KeyRing::new(stream_id(&stream));
        let lately = peer.snapshot(Time::ZERO);
        Driver {
            stream,
            peer,
            out: Outbox::new(),
            udp,
            links,
            playout,
            keys,
            store: Store::default(),
            lags: Histogram::default(),
            quality: Quality::new(Time::ZERO),
            datagrams_wait: false,
            finished: None,
            lately,
            remember_at: Time::ZERO,
            not_kept: 0,
        }
    }

    /// Joins.
    pub(super) fn start(&mut self, now: Now) {
        self.quality = Quality::new(now.time);
        self.handle(now, Input::Start, None);
        self.links.flush_all(now.time);
    }

    /// Says farewell.
    pub(super) fn leave(&mut self, now: Now) {
        self.lately = self.peer.snapshot(now.time);
        self.quality.finish(now.time);
        self.handle(now, Input::Leave, None);
        self.links.flush_all(now.time);
    }

    /// Takes in all that waits, then writes all that is queued.
    pub(super) fn turn(&mut self, now: Now) {
        self.receive_datagrams(now);
        while let Some((stream, from)) = self.links.accept(now.time) {
            let link = self.peer.new_link();
            self.links.adopt(now.time, link, stream, from);
            self.handle(now, Input::Accepted { link, from }, None);
        }
        self.link_events(now);
        for link in self.links.take_unread() {
            self.links.read(now.time, link);
            self.link_events(now);
        }
        self.links.check(now.time);
        self.link_events(now);
        if self.peer.next_timeout() <= now.time {
            self.handle(now, Input::Tick, None);
        }
        self.links.flush_all(now.time);
        self.playout.turn(now);
        if self.remember_at <= now.time {
            self.remember_at = now.time.after(REMEMBER_PERIOD);
            let snapshot = self.peer.snapshot(now.time);
            if snapshot.state != State::Finished {
                self.lately = snapshot;
            }
        }
    }

    /// When [`Driver::turn`] has something to do.
    pub(super) fn next_timeout(&self) -> Time {
        if self.udp.has_more() {
            return Time::ZERO;
        }
        let peer = if self.finished.is_some() { Time::NEVER } else { self.peer.next_timeout() };
        peer.min(self.links.next_timeout()).min(self.playout.next_timeout())
    }

    /// Whether everything that was queued for peers and players is out.
    pub(super) fn is_flushed(&self) -> bool {
        self.links.is_flushed() && self.playout.http.is_flushed()
    }

    /// What the end means for the exit code.
    pub(super) fn result(&self) -> Result<(), Failure> {
        let stream = &self.stream;
        match self.finished {
            None | Some(End::Left | End::StreamEnded) => Ok(()),
            Some(End::Refused(reason)) => Err(Failure::refused(&format!("watching {stream}"), reason)),
            Some(End::NoAnswer) => Err(Failure::Lost(format!(
                "no route or index server answers for {stream}: check --route, and that UDP reaches it"
            ))),
            Some(End::NoCache) => Err(Failure::Lost(format!(
                "no cache server of {stream} can be reached: check that outgoing TCP is allowed, or try again later"
            ))),
        }
    }

    /// For the status line.
    pub(super) fn status(&self) -> WatchStatus<'_> {
        let (lag, players) = (Lag::of(&self.lags), self.playout.http.players());
        WatchStatus::new(self.stream.as_str(), &self.lately, self.peer.stats(), lag, players, self.store.bytes())
    }

    /// For the report.
    pub(super) fn report(&self, ended: String, started_at: WallClock) -> Sources<'_> {
        let mut net = self.links.counters();
        (net.datagrams_bad, net.datagrams_unsent) = self.udp.counts();
        Sources {
            stream: self.stream.as_str(),
            ended,
            addr: self.links.local_addr(),
            started_at,
            first_byte: self.playout.first_byte(),
            lags: &self.lags,
            quality: &self.quality,
            stats: self.peer.stats(),
            snapshot: &self.lately,
            net,
            playout: self.playout.counters(),
            store_evicted: self.store.evicted(),
            chunks_not_kept: self.not_kept,
        }
    }

    fn receive_datagrams(&mut self, now: Now) {
        if !std::mem::take(&mut self.datagrams_wait) && !self.udp.has_more() {
            return;
        }
        let mut taken = 0;
        while let Some((from, datagram)) = self.udp.receive(&mut taken) {
            self.handle(now, Input::Datagram { from, datagram }, None);
        }
    }

    fn link_events(&mut self, now: Now) {
        while let Some((link, event)) = self.links.next_event() {
            match event {
                LinkEvent::Connected => self.handle(now, Input::Connected { link }, None),
                LinkEvent::Closed => self.handle(now, Input::Closed { link }, None),
                LinkEvent::Sent(seq) => self.handle(now, Input::ChunkSent { link, seq }, None),
                LinkEvent::Received(Incoming::Frame(frame)) => self.handle(now, Input::Frame { link, frame }, None),
                LinkEvent::Received(Incoming::Chunk(chunk)) => self.take_chunk(now, link, chunk),
            }
        }
    }

    /// The one place where a chunk is checked.
    fn take_chunk(&mut self, now: Now, link: LinkId, chunk: Chunk) {
        let checked = self.keys.check(&chunk.header, chunk.payload());
        if let Err(fault) = checked {
            tracing::info!(from = ?self.links.remote(link), %fault, "chunk refused");
        }
        self.handle(now, Input::Chunk { link, header: chunk.header, checked }, Some(chunk));
    }

    /// One transition of the machine, carried out. `chunk` is the one that `input` is about.
    fn handle(&mut self, now: Now, input: Input, mut chunk: Option<Chunk>) {
        if self.finished.is_some() {
            return;
        }
        let mut out = std::mem::take(&mut self.out);
        self.peer.handle(now.time, input, &mut out);
        for output in out.drain() {
            self.carry_out(now, output, &mut chunk);
        }
        self.out = out;
    }

    fn carry_out(&mut self, now: Now, output: Output, chunk: &mut Option<Chunk>) {
        match output {
            Output::Datagram { to, datagram } => self.udp.send(to, &datagram),
            Output::Connect { link, to } => self.links.connect(now.time, link, to),
            Output::Send { link, frame } => self.links.send(now.time, link, &frame),
            Output::SendChunk { link, seq } => match self.store.get(seq) {
                Some(chunk) => self.links.send_chunk(now.time, link, seq, None, chunk.frame.clone()),
                None => self.lack(seq),
            },
            Output::Close { link } => self.links.close(now.time, link),
            Output::Keys { keys } => self.keys.replace(&keys),
            Output::Keep { seq } => match chunk.take().filter(|chunk| chunk.header.seq == seq) {
                Some(chunk) => self.store.keep(chunk),
                None => self.lack(seq),
            },
            Output::Forget { before } => self.store.forget(before),
            Output::Play { seq } => self.play(now, seq),
            Output::Missed { seq } => {
                self.quality.missed(now.time, seq);
                tracing::debug!(%seq, "chunk missed");
            }
            Output::Finished { end } => {
                tracing::info!(?end, "finished");
                self.finished = Some(end);
            }
        }
    }

    fn play(&mut self, now: Now, seq: ChunkSeq) {
        let Some(chunk) = self.store.get(seq) else { return self.lack(seq) };
        self.lags.record(now.wall.since(chunk.header.published));
        self.quality.played(now.time, seq, Span::from_millis(u64::from(chunk.header.duration_ms)));
        self.playout.play(now, chunk);
    }

    /// The machine and the store disagree: a defect of one of them, counted and told.
    fn lack(&mut self, seq: ChunkSeq) {
        tracing::error!(%seq, "a chunk that should be kept is not: please report this");
        self.not_kept += 1;
    }
}
