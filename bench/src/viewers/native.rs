//! A viewer over Weircast's own protocol: what it says, and what it makes of the answers. No socket, no clock.
//!
//! *Pull*: `Open`, then a `Request` for the newest chunk and the next few; each arrival asks for one more, so that
//! some requests are always parked at the cache and a new chunk needs no round trip. *Push*: `Open`, then `Subscribe`.
//! Both begin at the newest chunk.

use std::net::SocketAddr;

use cache_core::peer_id::PeerId;
use cache_core::units::{ChunkSeq, DomainId, StreamId};
use cache_core::wire::codec::{Blob, List};
use cache_core::wire::exchange::{Hello, Open, Request, Role, Run, StreamInfo, Subscribe};
use cache_core::wire::{Frame, StreamName};
use serde::{Deserialize, Serialize};

use super::intake::{Arrival, Intake};
use super::library::Library;
use super::sink::{Arrived, Sink};
use super::{Appetite, Discarded};
use crate::measure::Trouble;

/// How chunks are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wants {
    /// Asked for one by one, `ahead` of them beyond the newest.
    Pull { ahead: u16 },
    /// Pushed.
    Push,
}

/// The viewer's side of one link.
#[derive(Debug)]
pub(crate) struct NativeViewer {
    stream: StreamId,
    wants: Wants,
    intake: Intake,
    /// The next number to ask for.
    next: ChunkSeq,
    /// Where the cache sent this viewer.
    instead: Option<SocketAddr>,
}

impl NativeViewer {
    /// A viewer of `name`, with its first words in `out`.
    pub(crate) fn new(name: &StreamName, wants: Wants, verify: bool, out: &mut Vec<u8>) -> NativeViewer {
        let stream = cache_core::sign::stream_id(name);
        let hello = Hello {
            role: Role::Viewer,
            peer: PeerId::NONE,
            stream,
            domain: DomainId(0),
            listen: None,
            ticket: Blob::default(),
        };
        Frame::from(hello).encode(out);
        Frame::from(Open { stream: name.clone(), back: 0 }).encode(out);
        NativeViewer { stream, wants, intake: Intake::new(verify), next: ChunkSeq::FIRST, instead: None }
    }

    /// What is wanted next.
    pub(crate) fn wants(&self) -> Appetite {
        self.intake.wants()
    }

    /// Takes what the cache sent; what is to be sent is appended to `out`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        library: &mut Library,
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        let NativeViewer { stream, wants, intake, next, instead } = self;
        let mut result = Ok(());
        let fed = intake.feed(bytes, library, |arrival, library| {
            if result.is_ok() {
                result = take(arrival, *stream, *wants, next, instead, library, sink, out);
            }
        });
        fed.map_err(|error| Trouble::Protocol(error.to_string()))?;
        result
    }

    /// So many bytes came and were thrown away.
    pub(crate) fn discarded(
        &mut self,
        len: usize,
        library: &mut Library,
        sink: &mut Sink<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Discarded, Trouble> {
        let NativeViewer { stream, wants, intake, next, instead } = self;
        let mut result = Ok(());
        let discarded = intake.discarded(len, library, |arrival, library| {
            result = take(arrival, *stream, *wants, next, instead, library, sink, out);
        });
        result.map(|()| discarded)
    }

    /// Where the cache sent this viewer, if it did.
    pub(crate) fn instead(&self) -> Option<SocketAddr> {
        self.instead
    }
}

#[allow(clippy::too_many_arguments, reason = "a viewer's fields, taken apart for the intake's sake")]
fn take(
    arrival: Arrival,
    stream: StreamId,
    wants: Wants,
    next: &mut ChunkSeq,
    instead: &mut Option<SocketAddr>,
    library: &Library,
    sink: &mut Sink<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    match arrival {
        Arrival::Chunk { header, bytes, right } => {
            let seq = header.seq.get();
            let published_us = header.published.micros();
            sink.chunk(Arrived { seq, published_us, uploaded: library.uploaded(seq), bytes, right });
            if matches!(wants, Wants::Pull { .. }) {
                ask(stream, next, 1, out);
            }
            Ok(())
        }
        Arrival::Earlier => {
            if matches!(wants, Wants::Pull { .. }) {
                ask(stream, next, 1, out);
            }
            Ok(())
        }
        Arrival::Frame(Frame::TryInstead(others)) => {
            *instead = others.caches.iter().next().copied();
            Ok(())
        }
        Arrival::Frame(frame) => answer(frame, stream, wants, next, sink, out),
    }
}

fn answer(
    frame: Frame,
    stream: StreamId,
    wants: Wants,
    next: &mut ChunkSeq,
    sink: &mut Sink<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    match frame {
        Frame::Welcome(_) => Ok(()),
        Frame::StreamInfo(StreamInfo { head, .. }) => {
            *next = head;
            match wants {
                Wants::Pull { ahead } => ask(stream, next, 1 + ahead, out),
                Wants::Push => Frame::from(Subscribe { stream, from: head }).encode(out),
            }
            Ok(())
        }
        Frame::Skipped(skipped) => {
            sink.skipped_to(skipped.next.get());
            Ok(())
        }
        Frame::Unavailable(no) if no.count == 0 => Err(Trouble::Refused(no.reason.text().to_owned())),
        Frame::Unavailable(no) => {
            sink.skipped(u64::from(no.count));
            ask(stream, next, no.count, out);
            Ok(())
        }
        Frame::Ended(_) => Err(Trouble::Ended),
        Frame::Refused(no) => Err(Trouble::Refused(no.reason.text().to_owned())),
        other => Err(Trouble::Protocol(format!("a cache does not say {}", other.name()))),
    }
}

/// Asks for the next `count` chunks.
fn ask(stream: StreamId, next: &mut ChunkSeq, count: u16, out: &mut Vec<u8>) {
    let runs = List::first_of([Run { first: *next, count }]);
    Frame::from(Request { stream, runs, within_ms: 0 }).encode(out);
    *next = next.ahead(u64::from(count));
}
