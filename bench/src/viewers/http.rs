//! A viewer over HTTP: `GET /live/NAME.ts`, then transport stream until the connection ends.
//!
//! There are no chunk headers here, so only the generator's stream can be judged: each of its packets carries a
//! checksum, a number and its media time. 200 ms of media time count as one chunk, complete with its last packet. When
//! a chunk was published follows from its media time and the moment at which the stream began, which is the tool's own
//! schedule when it publishes itself, else the earliest that any chunk's arrival allows (so that lateness is relative
//! to the quickest arrival).

use cache_core::media::PayloadCheck;
use cache_core::wire::StreamName;

use super::library::Library;
use super::sink::Sink;
use crate::measure::{Trouble, wall_us};
use crate::publish::GENERATED_TAG;

/// Largest response head; ours is under 200 bytes.
const HEAD_BYTES_MAX: usize = 4096;

/// Media time of one chunk.
const CHUNK_US: u64 = cache_core::units::CHUNK_SPAN.micros();

/// The viewer's side of one connection.
#[derive(Debug)]
pub(crate) struct HttpViewer {
    /// The response's head until it is whole.
    head: Option<Vec<u8>>,
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

impl HttpViewer {
    /// A viewer of `name`, with its request in `out`.
    pub(crate) fn new(name: &StreamName, out: &mut Vec<u8>) -> HttpViewer {
        out.extend_from_slice(format!("GET /live/{name}.ts HTTP/1.1\r\nHost: cache\r\n\r\n").as_bytes());
        HttpViewer { head: Some(Vec::new()), check: PayloadCheck::new(GENERATED_TAG), wrong: 0, lost: 0, open: None }
    }

    /// Takes what the cache sent.
    pub(crate) fn feed(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        let Some(head) = &mut self.head else {
            self.media(bytes, library, sink);
            return Ok(());
        };
        head.extend_from_slice(bytes);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(head).map_err(|error| Trouble::Protocol(error.to_string()))?;
        let httparse::Status::Complete(len) = parsed else {
            let small = head.len() < HEAD_BYTES_MAX;
            return if small { Ok(()) } else { Err(Trouble::Protocol("the response's head does not end".to_owned())) };
        };
        let (code, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default().to_owned());
        let is_chunked = response.headers.iter().any(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
        if code != 200 {
            return Err(Trouble::Refused(format!("{code} {reason}")));
        }
        if is_chunked {
            return Err(Trouble::Protocol("a stream without end needs no transfer encoding".to_owned()));
        }
        let body = head.split_off(len);
        self.head = None;
        self.media(&body, library, sink);
        Ok(())
    }

    /// Takes media; packets are looked at one by one, to see where chunks end.
    fn media(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) {
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
        sink.chunk_at(chunk.newest_us, chunk.number, published_us, chunk.bytes, true);
    }
}
