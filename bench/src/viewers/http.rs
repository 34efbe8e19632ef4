//! A viewer over HTTP: `GET /live/NAME.ts`, then transport stream until the connection ends.
//!
//! There are no chunk headers here, so only the generator's stream can be judged: each of its packets carries a
//! checksum, a number and its media time. 200 ms of media time count as one chunk, complete with its last packet. When
//! a chunk was published follows from its media time and the moment at which the stream began, which the publisher's
//! timetable tells, else the earliest that any chunk's arrival allows (so that lateness is relative to the quickest
//! arrival).
//!
//! A verifying viewer looks at every packet. A discarding one looks at the first packets of each chunk, which say where it
//! is, and leaves the rest to the kernel ([`position`]).
//!
//! Other servers are met too: an answer of HTTP/1.0 or 1.1, of any length or chunked, and a stream that begins in the
//! middle of a packet.
//!
//! [`position`]: super::position

use std::net::SocketAddr;

use cache_core::media::PayloadCheck;

use super::dechunk::Dechunk;
use super::layout::align;
use super::library::Library;
use super::position::Position;
use super::sink::{Arrived, Sink};
use super::{Appetite, Discarded};
use crate::measure::{Trouble, wall_us};
use crate::publish::GENERATED_TAG;

/// Largest response head (our guess: icecast's is under 1 KiB).
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How old streaming servers begin their answer, and how HTTP does.
const ICY: &[u8] = b"ICY ";
const HTTP: &[u8] = b"HTTP/1.0 ";

/// Bytes within which a packet of the generated stream must be found.
const SEARCH_BYTES_MAX: usize = 64 << 10;

/// Media time of one chunk.
pub(super) const CHUNK_US: u64 = cache_core::units::CHUNK_SPAN.micros();

/// The viewer's side of one connection.
#[derive(Debug)]
pub(crate) struct HttpViewer {
    /// The response's head until it is whole.
    head: Option<Vec<u8>>,
    chunked: Option<Dechunk>,
    judge: Judge,
    /// Where a redirect points to.
    instead: Option<SocketAddr>,
}

#[derive(Debug)]
enum Judge {
    Every(Box<Checker>),
    Position(Position),
}

impl HttpViewer {
    /// A viewer of `path`, with its request in `out`.
    pub(crate) fn new(host: &str, path: &str, verify: bool, out: &mut Vec<u8>) -> HttpViewer {
        out.extend_from_slice(
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weircast-load\r\n\r\n").as_bytes(),
        );
        let judge = if verify { Judge::Every(Box::default()) } else { Judge::Position(Position::new()) };
        HttpViewer { head: Some(Vec::new()), chunked: None, judge, instead: None }
    }

    /// The server that a redirect names. The path is known: each cache has a stream under the same.
    pub(crate) fn instead(&self) -> Option<SocketAddr> {
        self.instead
    }

    /// What is wanted next.
    pub(crate) fn wants(&self) -> Appetite {
        match (&self.judge, &self.head) {
            (Judge::Every(_), _) => Appetite::Read(usize::MAX),
            (Judge::Position(_), Some(_)) => Appetite::Read(HEAD_BYTES_MAX),
            (Judge::Position(position), None) => match (position.wants(), &self.chunked) {
                (Appetite::Discard(len), Some(dechunk)) => match dechunk.plain() {
                    0 => Appetite::Read(64),
                    plain => Appetite::Discard(len.min(plain)),
                },
                (wants, _) => wants,
            },
        }
    }

    /// Takes what the server sent.
    pub(crate) fn feed(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        let Some(head) = &mut self.head else { return self.body(bytes, library, sink) };
        head.extend_from_slice(bytes);
        // Old streaming servers have a version of their own.
        let as_http = if head.starts_with(ICY) { [HTTP, &head[ICY.len()..]].concat() } else { Vec::new() };
        let added = as_http.len().saturating_sub(head.len());
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(if as_http.is_empty() { head } else { &as_http });
        let httparse::Status::Complete(len) = parsed.map_err(|error| Trouble::Protocol(error.to_string()))? else {
            let small = head.len() < HEAD_BYTES_MAX;
            return if small { Ok(()) } else { Err(Trouble::Protocol("the response's head does not end".to_owned())) };
        };
        let (code, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default().to_owned());
        let encoding = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
        if code != 200 {
            let location = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("location"));
            self.instead = location.filter(|_| (300..400).contains(&code)).and_then(|field| server_of(field.value));
            return Err(Trouble::Refused(format!("{code} {reason}")));
        }
        if encoding.is_some() {
            self.chunked = Some(Dechunk::new());
        }
        let body = head.split_off(len - added);
        self.head = None;
        self.body(&body, library, sink)
    }

    /// So many bytes came and were thrown away.
    pub(crate) fn discarded(&mut self, len: usize, library: &mut Library, sink: &mut Sink<'_>) -> Discarded {
        if let Some(dechunk) = &mut self.chunked {
            dechunk.discarded(len);
        }
        match &mut self.judge {
            Judge::Position(position) => position.discarded(len, library, sink),
            Judge::Every(_) => Discarded::Part,
        }
    }

    fn body(&mut self, mut bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            let (media, rest) = match &mut self.chunked {
                Some(dechunk) => dechunk.step(bytes)?,
                None => (bytes, &b""[..]),
            };
            library.checked.bytes_read += media.len() as u64;
            match &mut self.judge {
                Judge::Every(checker) => checker.media(media, library, sink)?,
                Judge::Position(position) => position.feed(media, library, sink)?,
            }
            bytes = rest;
        }
        Ok(())
    }
}

/// The server in a redirect's `http://IP:PORT/...`, as caches write it.
fn server_of(location: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(location).ok()?.strip_prefix("http://")?.split('/').next()?.parse().ok()
}

/// Looks at every packet.
#[derive(Debug)]
struct Checker {
    /// What has come before the first whole packet was found.
    front: Option<Vec<u8>>,
    check: PayloadCheck,
    /// Packets found wrong and lost so far, as already told.
    wrong: u64,
    lost: u64,
    /// The chunk that is arriving: its number, bytes, the moment of its newest byte.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    number: u64,
    bytes: u64,
    newest_us: u64,
    /// The viewer's first chunk, or one behind a gap: it may lack its beginning.
    partial: bool,
}

impl Default for Checker {
    fn default() -> Checker {
        let check = PayloadCheck::new(GENERATED_TAG);
        Checker { front: Some(Vec::new()), check, wrong: 0, lost: 0, open: None }
    }
}

impl Checker {
    /// Takes media; packets are looked at one by one, to see where chunks end.
    fn media(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        let Some(front) = &mut self.front else {
            self.packets(bytes, library, sink);
            return Ok(());
        };
        front.extend_from_slice(bytes);
        match align(front) {
            Some(at) => {
                let aligned = front.split_off(at);
                self.front = None;
                self.packets(&aligned, library, sink);
                Ok(())
            }
            None if front.len() > SEARCH_BYTES_MAX => {
                Err(Trouble::Protocol("this is not the generator's stream".to_owned()))
            }
            None => Ok(()),
        }
    }

    fn packets(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) {
        let now = wall_us();
        for packet in bytes.chunks(cache_core::limits::TS_PACKET_BYTES) {
            self.check.push(packet);
            let report = self.check.report();
            sink.wrong(report.wrong + report.foreign + report.duplicated + report.reordered - self.wrong);
            self.wrong = report.wrong + report.foreign + report.duplicated + report.reordered;
            let gap = report.lost > self.lost;
            self.lost = report.lost;
            if report.right == 0 {
                continue;
            }
            let number = self.check.media().micros() / CHUNK_US;
            match &mut self.open {
                Some(open) if open.number == number => {
                    open.bytes += packet.len() as u64;
                    open.newest_us = now;
                    open.partial |= gap;
                }
                open => {
                    let new =
                        Open { number, bytes: packet.len() as u64, newest_us: now, partial: open.is_none() || gap };
                    if let Some(done) = open.replace(new) {
                        end(done, library, sink);
                    }
                }
            }
        }
    }
}

/// A chunk is over. One that lacks a part does not count as received.
fn end(chunk: Open, library: &mut Library, sink: &mut Sink<'_>) {
    // The last packet of a chunk is due at the chunk's end.
    let media_end_us = (chunk.number + 1) * CHUNK_US;
    let published_us = library.media_published(chunk.number, media_end_us, chunk.newest_us);
    if !chunk.partial {
        library.checked.by_payload += 1;
        let uploaded = library.uploaded_number(chunk.number);
        let arrived = Arrived { seq: chunk.number, published_us, uploaded, bytes: chunk.bytes, right: true };
        sink.chunk_at(chunk.newest_us, arrived);
    }
}
