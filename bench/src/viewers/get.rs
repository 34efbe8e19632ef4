//! A viewer that gets single chunks over one keep-alive connection, one request each 200 ms.
//!
//! ```text
//!  phase          request j           request j + 1
//!  --|-------------|--------------------|-------------->    each viewer has a phase of its own in the 200 ms
//!                  | answer ...  |      late: from the request's moment to the answer's last byte
//! ```
//! The moments are fixed beforehand: an answer that takes longer than 200 ms makes the next request late, and that is
//! counted from its own moment. In a closed loop the next request leaves with the last answer's end; each second in which
//! a viewer had an answer then counts as one that it was served in.

use std::io::Write;

use cache_core::limits::{CHUNK_PAYLOAD_BYTES_MAX, TABLES_BYTES_MAX};
use cache_core::media::PayloadCheck;

use super::http::CHUNK_US;
use super::library::Library;
use super::plan::Plan;
use super::sink::{Arrived, Sink, Uploaded};
use super::{Appetite, Discarded};
use crate::measure::{Trouble, wall_us};
use crate::publish::GENERATED_TAG;

/// Largest response head (our guess: real ones are under 1 KiB).
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Read at once while the head is awaited: it with little of the body.
const HEAD_BYTES: usize = 512;

/// What a closed loop counts by.
const SECOND_US: u64 = 1_000_000;

#[derive(Debug)]
enum At {
    Idle,
    Head,
    Body { left: usize },
}

/// The viewer's side of one connection.
#[derive(Debug)]
pub(crate) struct GetViewer {
    /// The request in front of the chunk's number, and behind it.
    front: String,
    behind: String,
    verify: bool,
    closed_loop: bool,
    /// Chunks are a live stream's, and the publisher's timetable tells of them.
    live: bool,
    /// Where all viewers' moments are counted from, and this one's.
    origin_us: u64,
    base_us: u64,
    at: At,
    /// When the request that is under way, or the next one, was to be sent.
    due_us: u64,
    /// The chunk that it names.
    seq: u64,
    /// The response's head, then, when verifying, its body.
    part: Vec<u8>,
    bytes: u64,
    last: bool,
}

impl GetViewer {
    /// A viewer whose requests name chunks where `{seq}` stands in `path`; viewer number `id` of all.
    pub(crate) fn new(
        plan: &Plan,
        path: &str,
        verify: bool,
        modulo: Option<u64>,
        closed_loop: bool,
        id: usize,
    ) -> GetViewer {
        let (front, behind) = path.split_once("{seq}").unwrap_or((path, ""));
        // Phases fill the 200 ms evenly, whatever the number of viewers (steps of the golden ratio).
        let phase_us = (id as u64).wrapping_mul(618_033) % 1_000_000 * CHUNK_US / 1_000_000;
        let origin_us = plan.joins.first_us;
        GetViewer {
            front: format!("GET {front}"),
            behind: format!("{behind} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weircast-load\r\n\r\n", plan.host),
            verify,
            closed_loop,
            live: modulo.is_none(),
            origin_us,
            base_us: origin_us + if closed_loop { 0 } else { phase_us },
            at: At::Idle,
            due_us: 0,
            seq: 0,
            part: Vec::new(),
            bytes: 0,
            last: false,
        }
    }

    /// When the next request is to be sent; `None` while an answer is awaited.
    pub(crate) fn due_us(&mut self, now: u64) -> Option<u64> {
        if !matches!(self.at, At::Idle) {
            return None;
        }
        if self.closed_loop {
            self.due_us = now;
        } else if self.due_us == 0 {
            self.due_us = self.base_us + now.saturating_sub(self.base_us).div_ceil(CHUNK_US) * CHUNK_US;
        }
        Some(self.due_us)
    }

    /// There is nothing to ask for yet: the next moment is looked for anew.
    pub(crate) fn postpone(&mut self) {
        self.due_us = 0;
    }

    /// Sends the request that is due, for chunk `seq`.
    pub(crate) fn request(&mut self, seq: u64, out: &mut Vec<u8>) {
        // A Vec takes everything.
        let _ = write!(out, "{}{seq}{}", self.front, self.behind);
        self.seq = seq;
        self.at = At::Head;
        self.part.clear();
        self.bytes = 0;
    }

    /// What is wanted next.
    pub(crate) fn wants(&self) -> Appetite {
        match &self.at {
            At::Body { left } if !self.verify => Appetite::Discard(*left),
            At::Body { left } => Appetite::Read(*left),
            At::Head => Appetite::Read(if self.verify { usize::MAX } else { HEAD_BYTES }),
            // Whatever comes now is too much.
            At::Idle => Appetite::Read(1),
        }
    }

    /// Takes what the server sent.
    pub(crate) fn feed(&mut self, bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        library.checked.bytes_read += bytes.len() as u64;
        match &mut self.at {
            At::Idle => Err(Trouble::Protocol("the server says more than it was asked".to_owned())),
            At::Head => {
                self.part.extend_from_slice(bytes);
                self.head(library, sink)
            }
            At::Body { .. } => {
                if self.verify {
                    self.part.extend_from_slice(bytes);
                }
                self.pass(bytes.len(), library, sink).map(|_| ())
            }
        }
    }

    /// So many bytes came and were thrown away.
    pub(crate) fn discarded(
        &mut self,
        len: usize,
        library: &mut Library,
        sink: &mut Sink<'_>,
    ) -> Result<Discarded, Trouble> {
        library.checked.bytes_discarded += len as u64;
        self.pass(len, library, sink)
    }

    fn head(&mut self, library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.part).map_err(|error| Trouble::Protocol(error.to_string()))?;
        let httparse::Status::Complete(head_len) = parsed else {
            let small = self.part.len() < HEAD_BYTES_MAX;
            return if small { Ok(()) } else { Err(Trouble::Protocol("the response's head does not end".to_owned())) };
        };
        let code = response.code.unwrap_or(0);
        if code != 200 {
            return Err(Trouble::Refused(format!(
                "{code} {} (chunk {})",
                response.reason.unwrap_or_default(),
                self.seq
            )));
        }
        let field = |name: &str| response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let length = field("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
        let length: usize = length.ok_or_else(|| Trouble::Protocol("an answer without Content-Length".to_owned()))?;
        if length > CHUNK_PAYLOAD_BYTES_MAX + TABLES_BYTES_MAX {
            return Err(Trouble::Protocol(format!("{length} bytes are no chunk")));
        }
        self.last = field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close"));
        self.bytes = length as u64;
        self.part.drain(..head_len);
        let come = self.part.len();
        if come > length {
            return Err(Trouble::Protocol("the server says more than it was asked".to_owned()));
        }
        self.at = At::Body { left: length };
        self.pass(come, library, sink).map(|_| ())
    }

    fn pass(&mut self, len: usize, library: &mut Library, sink: &mut Sink<'_>) -> Result<Discarded, Trouble> {
        let At::Body { left } = &mut self.at else { return Ok(Discarded::Part) };
        *left = left.saturating_sub(len);
        if *left > 0 {
            return Ok(Discarded::Part);
        }
        let now = wall_us();
        let right = self.is_right(library);
        if self.verify {
            library.checked.by_payload += 1;
        } else {
            library.checked.not += 1;
        }
        let (counted_us, step_us) = if self.closed_loop { (now, SECOND_US) } else { (self.due_us, CHUNK_US) };
        let moment = counted_us.saturating_sub(self.base_us) / step_us;
        library.note_published(moment, self.origin_us + moment * step_us);
        let uploaded = Uploaded::Unknown;
        sink.chunk_at(now, Arrived { seq: moment, published_us: self.due_us, uploaded, bytes: self.bytes, right });
        self.at = At::Idle;
        self.due_us = if self.closed_loop { now } else { self.due_us + CHUNK_US };
        if self.last {
            return Err(Trouble::Protocol(
                "the server ends a keep-alive connection (nginx: keepalive_requests)".to_owned(),
            ));
        }
        Ok(Discarded::Whole)
    }

    /// Whether the answer is the chunk that was asked for, as far as it was looked at.
    fn is_right(&self, library: &Library) -> bool {
        let times = library.times().filter(|_| self.live);
        let number = times.and_then(|times| times.number_of(self.seq));
        let row = number.and_then(|number| times?.row(number));
        // Tables may stand in front.
        if row.is_some_and(|row| !(row.bytes..=row.bytes + TABLES_BYTES_MAX as u64).contains(&self.bytes)) {
            return false;
        }
        if !self.verify {
            return true;
        }
        let mut check = PayloadCheck::new(GENERATED_TAG);
        check.push(&self.part);
        let report = check.report();
        // By its last packet's number: tables at its end carry the media time of the chunk behind.
        let place = number.and_then(|number| library.layout.borrow_mut().place(number));
        let is_it = place.is_none_or(|place| check.next() == Some(place.first + place.packets));
        report.is_unharmed() && report.right > 0 && report.lost == 0 && is_it
    }
}
