//! Publishing at the streams' own pace: chunk `k` leaves when its schedule says so, whatever the cache does.
//!
//! ```text
//!  one source --> slice k --> stream 0  number, sign --> link 0 --> cache      due 0 us after the slice's moment
//!                        \--> stream 1  number, sign --> link 1 --> cache      due 200 ms / M after it
//!                        \--> ...                                              all in one thread, no link waits for another
//! ```
//! All streams carry the same payload, generated and hashed once for each 200 ms; each numbers and signs on its own. So a
//! chunk that turns up in another stream is found by its header, and only over HTTP, which has no headers, would it pass.
//!
//! The native publisher stamps chunks with the *scheduled* moment, so that its own lateness is in the viewers' numbers
//! and cannot hide; over HTTP the cache stamps. Two things are recorded: how late the tool began to send a chunk, which
//! is the tool's own, and how long the server took to take it.

mod http;
mod link;
mod native;
mod source;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use cache_core::sign::{PublisherKey, payload_hash};
use cache_core::time::WallClock;
use cache_core::units::Epoch;
use cache_core::wire::StreamName;
use rustix::event::{Timespec, epoll};

pub(crate) use source::{GENERATED_TAG, Source};

use crate::measure::{Durations, wall_us};
use crate::options::url::Url;
use crate::timetable::{Begin, Row, Timetable};
use link::{Cut, Link};

/// How a stream gets to the server.
#[derive(Clone, Debug)]
pub(crate) enum Upload {
    /// Weircast's protocol, signed with this key under this term.
    Native { key: Box<PublisherKey>, epoch: Epoch },
    /// HTTP PUT; the cache slices and signs.
    Http { secret: Option<String> },
    /// HTTP PUT as icecast takes it.
    Foreign(Url),
}

/// What is published where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) cache: SocketAddr,
    pub(crate) names: Vec<StreamName>,
    pub(crate) upload: Upload,
}

/// How a publication went.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// How late the tool began to send each piece.
    pub(crate) late: Durations,
    /// From a piece's first byte to its last: how long the server took to take it.
    pub(crate) upload: Durations,
}

/// Where a publisher notes how it goes, for who wants to know meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Published>);

impl Default for Published {
    fn default() -> Published {
        Published { late: Durations::new(), upload: Durations::new() }
    }
}

impl Ledger {
    /// What was noted since the last call.
    pub(crate) fn take(&self) -> Published {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Published> {
        // Whole at any time, also behind a panic.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// 25 pictures a second are 5 in 200 ms; finer, so that the cache's slicer hands a chunk out soon after its end.
const PICTURES_PER_CHUNK: u64 = 10;

/// Longest sleep, so that `done` is seen.
const LOOK_EVERY_US: u64 = 50_000;

const EVENTS_PER_TURN: usize = 256;

struct Publisher<'t> {
    links: Vec<Link>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    times: &'t Timetable,
    ledger: &'t Ledger,
}

/// Publishes until `done`, which is asked before each chunk; `begun` is called once the server has taken every stream,
/// and the timetable says when each of them began.
pub(crate) fn publish(
    target: &Target,
    mut source: Source,
    times: &Timetable,
    ledger: &Ledger,
    begun: impl FnOnce(),
    done: impl Fn() -> bool,
) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut links = Vec::new();
    for (at, name) in target.names.iter().enumerate() {
        let link = Link::open(target, name).with_context(|| format!("stream {name}"))?;
        link.watch(&epoll, at, false)?;
        links.push(link);
    }
    let pieces = match target.upload {
        // A chunk leaves when its last byte would have been there.
        Upload::Native { .. } => 1,
        // Bytes leave as an encoder would send them, picture by picture.
        Upload::Http { .. } | Upload::Foreign(_) => PICTURES_PER_CHUNK,
    };
    let streams = links.len() as u64;
    let mut publisher = Publisher { links, epoll, events: Vec::with_capacity(EVENTS_PER_TURN), times, ledger };
    let origin_us = wall_us();
    let mut slice_us = origin_us;
    let mut begun = Some(begun);
    let mut number = 0;
    while !done() {
        let slice = source.next()?;
        let span_us = u64::from(slice.duration_ms.max(1)) * 1_000;
        let cut = Rc::new(Cut { hash: payload_hash(&slice.payload), slice });
        // From one stream to the next; no stream's piece is due before the piece of another that comes before it here.
        let phase_us = |at: u64| span_us / pieces * at / streams;
        if let Some(begun) = begun.take() {
            for (at, link) in (0..).zip(&publisher.links) {
                let begin = Begin { origin_us: origin_us + phase_us(at), first_seq: link.next_seq() };
                times.begin(at as usize, begin)?;
            }
            begun();
        }
        for piece in 1..=pieces {
            for at in 0..streams {
                let due_us = slice_us + span_us * piece / pieces + phase_us(at);
                if !publisher.serve_until(due_us, &done)? {
                    return publisher.end();
                }
                let chunk_due_us = slice_us + span_us + phase_us(at);
                publisher.send(at as usize, &cut, number, piece - 1..piece, pieces, due_us, chunk_due_us)?;
            }
        }
        slice_us += span_us;
        number += 1;
    }
    publisher.end()
}

impl Publisher<'_> {
    /// Serves links until the wall clock shows `until_us`; false when `done` came first.
    fn serve_until(&mut self, until_us: u64, done: &impl Fn() -> bool) -> Result<bool> {
        loop {
            let left_us = until_us.saturating_sub(wall_us());
            if left_us > 0 && done() {
                return Ok(false);
            }
            let wait = Duration::from_micros(left_us.min(LOOK_EVERY_US));
            let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            self.events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the links failed"),
            }
            for event in 0..self.events.len() {
                let at = self.events[event].data.u64() as usize;
                // Events are masks; reading first tells why a link that broke did.
                self.links[at].hear()?;
                self.flush(at)?;
            }
            // Links are looked at also when everything is late.
            if left_us == 0 {
                return Ok(true);
            }
        }
    }

    /// Hands a piece of a chunk to a link.
    #[allow(clippy::too_many_arguments, reason = "one call, above")]
    fn send(
        &mut self,
        at: usize,
        cut: &Rc<Cut>,
        number: u64,
        piece: std::ops::Range<u64>,
        pieces: u64,
        due_us: u64,
        chunk_due_us: u64,
    ) -> Result<()> {
        let last = piece.end == pieces;
        let now = wall_us();
        self.ledger.lock().late.record(now.saturating_sub(due_us));
        if last {
            let bytes = cut.slice.stream_bytes().len() as u64;
            self.times.note(at, Row { number, due_us: chunk_due_us, completed_us: None, bytes })?;
        }
        let row = last.then_some((number, chunk_due_us));
        self.links[at].queue(cut, piece, pieces, WallClock::from_micros(chunk_due_us), row, now)?;
        self.flush(at)
    }

    fn flush(&mut self, at: usize) -> Result<()> {
        let link = &mut self.links[at];
        let waited = link.is_waiting();
        while let Some(done) = link.flush()? {
            let now = wall_us();
            self.ledger.lock().upload.record(now.saturating_sub(done.begun_us));
            if let Some((number, due_us)) = done.row {
                self.times.note(at, Row { number, due_us, completed_us: Some(now), bytes: done.bytes })?;
            }
        }
        if waited != link.is_waiting() {
            link.watch(&self.epoll, at, true)?;
        }
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.links.into_iter().try_for_each(Link::end)
    }
}

/// NAME, or NAME-0 to NAME-(count - 1).
pub(crate) fn names(base: &StreamName, count: usize) -> Result<Vec<StreamName>> {
    if count == 1 {
        return Ok(vec![base.clone()]);
    }
    let name = |at: usize| format!("{base}-{at}").parse().context("the stream's name and its number are too long");
    (0..count).map(name).collect()
}
