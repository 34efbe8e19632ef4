//! `publish`: drives a publisher's machine.
//!
//! ```text
//!   input --bytes--> Slicer --slices--> Session --> links, datagrams
//!   file, pipe,      cache_core::media  session.rs
//!   udp, test
//! ```
//! The same loop as `watch`: one thread, one clock reading a turn; only a pipe is read by a thread of its own. When the
//! input ends, or a signal comes, the slicer's last chunk carries the end mark and its Ack is waited for.

mod input;
mod kept;
mod keys;
mod session;

use std::io;
use std::sync::Arc;

use anyhow::Context;
use cache_core::media::{Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::sign::stream_id;
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::StreamName;
use mio::{Events, Poll, Waker};
use serde::Serialize;

use crate::cli::PublishArgs;
use crate::clock::{Clock, Now, duration};
use crate::config::ConfigFile;
use crate::entropy;
use crate::net::framing::Incoming;
use crate::net::links::{LinkEvent, Links};
use crate::net::poll::{self, Owner, Signals};
use crate::net::tcp::Tcp;
use crate::net::udp::Udp;
use crate::outcome::{Failure, say_ready};
use crate::status::{Status, StatusLine};

use input::{Input as Source, InputError, Step};
use session::{End, Input, Output, Session, SessionConfig, SessionCounters};

/// Most bytes of input taken in one turn. Our guess: a chunk of the highest rate.
const BYTES_PER_TURN: usize = 1 << 20;

/// How long the last bytes may take to go out.
const FAREWELL: Span = Span::from_secs(1);

struct Publisher {
    clock: Clock,
    poll: Poll,
    signals: Signals,
    udp: Udp,
    links: Links<Tcp>,
    stream: StreamName,
    id: StreamId,
    source: Box<dyn Source>,
    /// Whether the source may have bytes, and from when on.
    source_at: Time,
    slicer: Option<Slicer>,
    slices: Outbox<Slice>,
    session: Session,
    out: Outbox<Output>,
    finished: Option<End>,
    /// The input failed: the stream was ended, and this is told afterwards.
    failed: Option<InputError>,
    status: StatusLine,
    told_ready: bool,
    datagrams_wait: bool,
    ends_at: Time,
    signals_seen: usize,
    bytes_in: u64,
}

/// Runs until the input, the person or a failure ends it.
pub(crate) fn run(args: &PublishArgs, clock: Clock) -> Result<(), Failure> {
    let mut publisher = Publisher::start(args, clock)?;
    let result = publisher.run();
    publisher.status.finish();
    result
}

impl Publisher {
    fn start(args: &PublishArgs, clock: Clock) -> anyhow::Result<Publisher> {
        let file = ConfigFile::read(args.common.config.as_deref())?;
        let settings = file.with(&args.common, None, None)?;
        let key = keys::signing_key(args.key_file.as_deref())?;
        let secret = keys::publish_secret(args.secret.as_deref(), args.secret_file.as_deref())?;
        let poll = Poll::new().context("no event poll can be made: raise the limit of open files (ulimit -n)")?;
        let signals = Signals::watch(poll.registry())?;
        let waker = Arc::new(Waker::new(poll.registry(), poll::THREAD)?);
        let mut udp = Udp::bind(settings.bind)
            .with_context(|| format!("{} cannot be bound: choose another --bind", settings.bind))?;
        udp.register(poll.registry())?;
        let links = Links::new(Tcp::outgoing(settings.bind), poll.registry().try_clone()?, poll::LISTENER)?;
        let source = input::open(&args.input, args.repeat, poll.registry(), waker)?;
        let stream = args.stream.clone();
        let config =
            SessionConfig { stream: stream.clone(), routes: settings.routes, key, secret, takeover: args.takeover };
        Ok(Publisher {
            clock,
            poll,
            signals,
            udp,
            links,
            id: stream_id(&stream),
            stream,
            source,
            source_at: Time::ZERO,
            slicer: Some(Slicer::new(SlicerConfig::default())),
            slices: Outbox::new(),
            session: Session::new(config, entropy::seed()?),
            out: Outbox::new(),
            finished: None,
            failed: None,
            status: StatusLine::new(args.common.status)?,
            told_ready: false,
            datagrams_wait: false,
            ends_at: args.seconds.map_or(Time::NEVER, |secs| Time::ZERO.after(Span::from_secs(secs))),
            signals_seen: 0,
            bytes_in: 0,
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(64);
        let mut now = self.clock.read();
        self.handle(now, Input::Start);
        self.links.flush_all(now.time);
        let mut flush_by = None;
        loop {
            let timeout = self.next_timeout().min(flush_by.unwrap_or(Time::NEVER)).since(now.time);
            match self.poll.poll(&mut events, Some(duration(timeout))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                    return Err(anyhow::Error::from(e).context("the event poll failed").into());
                }
                _ => {}
            }
            now = self.clock.read();
            self.take_events(&events);
            if self.signals_seen > 1 {
                return self.result(self.finished.unwrap_or(End::Unconfirmed));
            }
            self.turn(now);
            if let Some(end) = self.finished {
                let by = *flush_by.get_or_insert(now.time.after(FAREWELL));
                if self.links.is_flushed() || now.time >= by {
                    return self.result(end);
                }
            }
        }
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            match poll::owner(event.token()) {
                Owner::Link(link) => self.links.ready(link, event.is_readable(), event.is_writable()),
                Owner::Fixed(poll::UDP) => self.datagrams_wait = true,
                Owner::Fixed(poll::SIGNALS) => self.signals_seen += self.signals.take(),
                Owner::Fixed(poll::INPUT | poll::THREAD) => self.source_at = Time::ZERO,
                Owner::Fixed(_) | Owner::Player(_) => {}
            }
        }
    }

    fn turn(&mut self, now: Now) {
        if std::mem::take(&mut self.datagrams_wait) || self.udp.has_more() {
            let mut taken = 0;
            while let Some((from, datagram)) = self.udp.receive(&mut taken) {
                self.handle(now, Input::Datagram { from, datagram });
            }
        }
        self.link_events(now);
        for link in self.links.take_unread() {
            self.links.read(now.time, link);
            self.link_events(now);
        }
        self.links.check(now.time);
        self.link_events(now);
        self.take_input(now);
        if (self.signals_seen > 0 || now.time >= self.ends_at) && self.finished.is_none() {
            self.end_input(now);
        }
        if self.session.next_timeout() <= now.time {
            self.handle(now, Input::Tick);
        }
        self.links.flush_all(now.time);
        let status = || PublishStatus {
            stream: self.stream.as_str(),
            cache: self.session.cache().map(|cache| cache.to_string()),
            unacknowledged: self.session.unacknowledged(),
            bytes_in: self.bytes_in,
            bytes_out: self.links.bytes_out(),
            counters: self.session.counters(),
        };
        self.status.show(now.time, status);
    }

    fn next_timeout(&self) -> Time {
        if self.udp.has_more() {
            return Time::ZERO;
        }
        let (source, ends_at) =
            if self.slicer.is_some() { (self.source_at, self.ends_at) } else { (Time::NEVER, Time::NEVER) };
        source
            .min(ends_at)
            .min(self.session.next_timeout())
            .min(self.links.next_timeout())
            .min(self.status.next_timeout())
    }

    fn link_events(&mut self, now: Now) {
        while let Some((link, event)) = self.links.next_event() {
            match event {
                LinkEvent::Connected => self.handle(now, Input::Connected { link }),
                LinkEvent::Closed => self.handle(now, Input::Closed { link }),
                LinkEvent::Received(Incoming::Frame(frame)) => self.handle(now, Input::Frame { link, frame }),
                // A cache sends no chunks to a publisher, and acknowledges what it got.
                LinkEvent::Received(Incoming::Chunk(_)) | LinkEvent::Sent(_) => {}
            }
        }
    }

    fn take_input(&mut self, now: Now) {
        let mut taken = 0;
        while self.slicer.is_some() && self.source_at <= now.time && taken < BYTES_PER_TURN {
            let result = match self.source.next(now.time) {
                Ok(Step::Bytes(bytes)) => {
                    taken += bytes.len();
                    self.bytes_in += bytes.len() as u64;
                    let slicer = self.slicer.as_mut();
                    slicer.map_or(Ok(()), |slicer| slicer.push(now.wall, &bytes, &mut self.slices))
                }
                Ok(Step::Wait(until)) => {
                    self.source_at = until;
                    Ok(())
                }
                Ok(Step::Idle) => {
                    self.source_at = Time::NEVER;
                    Ok(())
                }
                Ok(Step::End) => return self.end_input(now),
                Err(error) => {
                    self.failed = Some(error);
                    return self.end_input(now);
                }
            };
            self.pass_slices(now, false);
            if let Err(error) = result {
                self.failed = Some(error.into());
                return self.end_input(now);
            }
        }
    }

    /// The last chunk carries the end mark.
    fn end_input(&mut self, now: Now) {
        let Some(mut slicer) = self.slicer.take() else { return };
        if let Err(error) = slicer.finish(now.wall, &mut self.slices) {
            self.failed.get_or_insert(error.into());
        }
        self.pass_slices(now, true);
        self.handle(now, Input::End);
    }

    fn pass_slices(&mut self, now: Now, last: bool) {
        let slices: Vec<_> = self.slices.drain().collect();
        let count = slices.len();
        for (i, slice) in slices.into_iter().enumerate() {
            // Term and number are the session's to give.
            let mut header = slice.header(self.id, Epoch::default(), ChunkSeq::FIRST);
            header.end = last && i + 1 == count;
            self.handle(now, Input::Cut { header, payload: slice.payload.into() });
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        self.session.handle(now.time, input, &mut out);
        for output in out.drain() {
            match output {
                Output::Datagram { to, datagram } => self.udp.send(to, &datagram),
                Output::Connect { link, to } => self.links.connect(now.time, link, to),
                Output::Send { link, frame } => self.links.send(now.time, link, &frame),
                Output::SendChunk { link, seq, prefix, payload } => {
                    self.links.send_chunk(now.time, link, seq, Some(prefix), payload);
                }
                Output::Close { link } => self.links.close(now.time, link),
                Output::Live { cache, epoch, next } => self.tell_live(cache, epoch, next),
                Output::Finished { end } => self.finished = Some(end),
            }
        }
        self.out = out;
    }

    fn tell_live(&mut self, cache: std::net::SocketAddr, epoch: Epoch, next: ChunkSeq) {
        tracing::info!(%cache, epoch = epoch.0, %next, "a cache takes the stream");
        if !std::mem::replace(&mut self.told_ready, true) {
            let stream = self.stream.as_str();
            let ready = serde_json::json!({
                "role": "publisher", "stream": stream, "cache": cache, "epoch": epoch.0, "next": next.get(),
            });
            say_ready(&ready, false);
        }
    }

    fn result(&mut self, end: End) -> Result<(), Failure> {
        let stream = &self.stream;
        if let Some(error) = self.failed.take() {
            return Err(Failure::Usage(format!("publishing {stream} has ended: {error}")));
        }
        match end {
            End::Published => Ok(()),
            End::Refused(reason) => Err(Failure::refused(&format!("publishing {stream}"), reason)),
            End::Unconfirmed => Err(Failure::Lost(format!(
                "no cache server has confirmed the last chunks of {stream}: viewers may miss them"
            ))),
            End::NoAnswer => Err(Failure::Lost(format!(
                "no route or index server answers for {stream}: check --route, and that UDP reaches it"
            ))),
            End::NoCache => Err(Failure::Lost(format!(
                "no cache server takes {stream} any more: check that outgoing TCP is allowed, or try again later"
            ))),
        }
    }
}

/// What a publisher shows.
#[derive(Debug, Serialize)]
struct PublishStatus<'a> {
    stream: &'a str,
    cache: Option<String>,
    unacknowledged: u64,
    bytes_in: u64,
    bytes_out: u64,
    counters: SessionCounters,
}

impl Status for PublishStatus<'_> {
    fn line(&self) -> String {
        let SessionCounters { chunks_cut, chunks_lost, .. } = self.counters;
        let to = self.cache.as_deref().map_or("looking for a cache".into(), |cache| format!("to {cache}"));
        format!(
            "{} {to} | chunks {chunks_cut} | unconfirmed {} | lost {chunks_lost} | {:.1} MB in",
            self.stream,
            self.unacknowledged,
            self.bytes_in as f64 / 1e6
        )
    }
}
