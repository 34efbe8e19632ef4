//! `watch`: drives the peer's machine.
//!
//! ```text
//!            +-- one turn of the loop, one clock reading --------------------------------+
//!   poll --> | signals, datagrams, connections, frames, timers --> Peer::handle --> outputs |--> write what is queued
//!            +----------------------------------------------------------------------------+
//! ```
//! This file owns no rule: what to ask, keep, serve and play is [`Peer`]'s, how bytes move is `net`'s, where they are
//! played is `playout`'s. Chunks are verified here, once, before the machine hears of them; nothing unverified is kept,
//! played or passed on.

mod driver;

use std::io;
use std::sync::Arc;

use anyhow::Context;
use cache_core::proto::peer::{End, Peer, PeerConfig};
use cache_core::time::{Span, Time};
use mio::{Events, Poll, Waker};

use crate::cli::WatchArgs;
use crate::clock::{Clock, Now, duration};
use crate::config::ConfigFile;
use crate::entropy;
use crate::net::links::Links;
use crate::net::poll::{self, Owner, Signals};
use crate::net::tcp::Tcp;
use crate::net::udp::bind_both;
use crate::outcome::{Failure, say_ready};
use crate::playout::Playout;
use crate::playout::file::FileSink;
use crate::playout::http::HttpServer;
use crate::report::{Report, check_writable, write_atomically};
use crate::status::StatusLine;

use driver::Driver;

/// How long farewells and the last bytes for players may take. Our guess: a few round trips.
const FAREWELL: Span = Span::from_secs(2);

/// Events taken from one poll.
const EVENTS: usize = 256;

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// Farewell was said; over at the latest at this time.
    Leaving(Time),
    /// The machine has finished; bytes go out until this time at the latest.
    Flushing(Time),
}

struct Watch {
    clock: Clock,
    poll: Poll,
    signals: Signals,
    driver: Driver<Tcp>,
    status: StatusLine,
    stage: Stage,
    ends_at: Time,
    signalled: bool,
}

/// Runs until the stream, the person or a failure ends it. The report is written in every case in which links and
/// players were listened for.
pub(crate) fn run(args: &WatchArgs, clock: Clock) -> Result<(), Failure> {
    let mut watch = Watch::start(args, clock)?;
    let ended = watch.run();
    watch.status.finish();
    let said = match (&ended, watch.driver.finished) {
        (Err(failure), _) => failure.to_string(),
        (Ok(()), Some(End::StreamEnded)) => "stream_ended".to_owned(),
        (Ok(()), _) => "left".to_owned(),
    };
    if let Some(path) = &args.report {
        let report = Report::new(watch.driver.report(said, watch.clock.started_at()));
        let written = write_atomically(path, &report);
        written.with_context(|| format!("the report {} cannot be written: check --report", path.display()))?;
    }
    ended
}

impl Watch {
    fn start(args: &WatchArgs, clock: Clock) -> anyhow::Result<Watch> {
        let file = ConfigFile::read(args.common.config.as_deref())?;
        let settings = file.with(&args.common, args.http, args.uplink_kbps)?;
        if let Some(path) = &args.report {
            check_writable(path)
                .with_context(|| format!("the report {} cannot be written: check --report", path.display()))?;
        }
        let poll = Poll::new().context("no event poll can be made: raise the limit of open files (ulimit -n)")?;
        let registry = || poll.registry().try_clone();
        let signals = Signals::watch(poll.registry())?;
        let waker = Arc::new(Waker::new(poll.registry(), poll::THREAD)?);

        let (tcp, mut udp) = bind_both(settings.bind)
            .with_context(|| format!("{} cannot be listened at: choose another --bind", settings.bind))?;
        udp.register(poll.registry())?;
        let links = Links::new(tcp, registry()?, poll::LISTENER)?;
        let http = HttpServer::listen(settings.http, args.stream.as_str(), registry()?)
            .with_context(|| format!("{} cannot be listened at: choose another --http", settings.http))?;
        let output = args.output.as_deref();
        let sink = output.map(|path| {
            let sink = FileSink::open(path, waker);
            sink.with_context(|| format!("{} cannot be written: choose another --output", path.display()))
        });
        let config = PeerConfig {
            stream: args.stream.clone(),
            routes: settings.routes,
            listen: Some(links.local_addr()),
            tuning: settings.tuning,
        };
        let ready = serde_json::json!({"role": "peer", "addr": links.local_addr(), "http": http.url()?});
        let peer = Peer::new(config, entropy::seed()?);
        let playout = Playout::new(http, sink.transpose()?);
        let driver = Driver::new(args.stream.clone(), peer, udp, links, playout);
        let status = StatusLine::new(args.common.status)?;
        say_ready(&ready, output.is_some_and(|path| path.as_os_str() == "-"));
        let ends_at = args.seconds.map_or(Time::NEVER, |secs| Time::ZERO.after(Span::from_secs(secs)));
        Ok(Watch { clock, poll, signals, driver, status, stage: Stage::Running, ends_at, signalled: false })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = self.clock.read();
        self.driver.start(now);
        loop {
            let timeout = self.next_timeout().since(now.time);
            match self.poll.poll(&mut events, Some(duration(timeout))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                    return Err(anyhow::Error::from(e).context("the event poll failed").into());
                }
                _ => {}
            }
            now = self.clock.read();
            if let Some(result) = self.turn(now, &events) {
                if let Some(file) = &mut self.driver.playout.file {
                    file.finish();
                }
                return result;
            }
        }
    }

    /// One turn. `Some`: it is over.
    fn turn(&mut self, now: Now, events: &Events) -> Option<Result<(), Failure>> {
        for event in events {
            match poll::owner(event.token()) {
                Owner::Link(link) => {
                    self.driver.links.ready(link, event.is_readable(), event.is_writable());
                }
                Owner::Player(player) => self.driver.playout.http.ready(player),
                Owner::Fixed(poll::UDP) => self.driver.datagrams_wait = true,
                Owner::Fixed(poll::LISTENER) => self.driver.links.can_accept(),
                Owner::Fixed(poll::HTTP) => self.driver.playout.http.can_accept(),
                Owner::Fixed(poll::SIGNALS) => {
                    if self.signals.take() > 0 && std::mem::replace(&mut self.signalled, true) {
                        return Some(Ok(()));
                    }
                }
                Owner::Fixed(_) => {}
            }
        }
        self.driver.turn(now);
        let driver = &self.driver;
        self.status.show(now.time, || driver.status());
        self.next_stage(now)
    }

    fn next_stage(&mut self, now: Now) -> Option<Result<(), Failure>> {
        if let Some(failure) = self.driver.playout.file.as_ref().and_then(FileSink::failure) {
            // Whoever read the pipe has gone: that is an end like any other.
            if failure.kind() != io::ErrorKind::BrokenPipe {
                return Some(Err(Failure::Usage(format!("the output cannot be written any more: {failure}"))));
            }
            self.signalled = true;
        }
        if self.stage == Stage::Running && (self.signalled || now.time >= self.ends_at) {
            self.driver.leave(now);
            self.stage = Stage::Leaving(now.time.after(FAREWELL));
        }
        if let (Stage::Running | Stage::Leaving(_), Some(_)) = (self.stage, self.driver.finished) {
            self.stage = Stage::Flushing(now.time.after(FAREWELL));
        }
        let over = match self.stage {
            Stage::Running => false,
            Stage::Leaving(until) => now.time >= until,
            Stage::Flushing(until) => now.time >= until || self.driver.is_flushed(),
        };
        over.then(|| self.driver.result())
    }

    fn next_timeout(&self) -> Time {
        let stage = match self.stage {
            Stage::Running => self.ends_at,
            Stage::Leaving(until) | Stage::Flushing(until) => until,
        };
        stage.min(self.driver.next_timeout()).min(self.status.next_timeout())
    }
}
