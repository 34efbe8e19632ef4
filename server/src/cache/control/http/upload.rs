//! A stream uploaded over HTTP: sliced, numbered and signed here.
//!
//! ```text
//!  head -> authority -> 100 Continue -> body -> Slicer -> header, signature -> ring
//! ```
//! This cache makes a key of its own for each upload; the index (if any) grants it a term and tells it to viewers. When
//! the body ends the stream is stalled, not ended: the next upload goes on at the next number.
//!
//! Signing is what costs, and one read can hold hundreds of chunks (a clock that jumps in each packet): each chunk is a turn
//! of its own, behind which other tasks run once.

use std::rc::Rc;

use cache_core::media::{Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::proto::cache::streams::Tenure;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::Span;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::index::StreamKey;
use cache_core::wire::{RefusalReason, Refused};

use super::body::Body;
use super::head::Publish;
use super::{Response, WRITE_WITHIN};
use crate::cache::control::authority::{self, Grant};
use crate::cache::control::deadline::within;
use crate::cache::control::hub::{Hub, Source};
use crate::cache::control::link::Link;
use crate::cache::control::store::Stored;
use crate::host::{clock, random};

/// What is read at a time (our guess: a chunk of 2.6 Mbit/s).
const READ_BYTES: usize = 64 << 10;

/// Takes an upload to its end; the response, if there is anybody left to read one. `rest` is the body's beginning.
pub(super) async fn take(hub: &Rc<Hub>, link: &Rc<Link>, publish: Publish, rest: &[u8]) -> Option<Response> {
    if hub.draining.get() {
        return Some(refused(&publish, &Refused::because(RefusalReason::Draining)));
    }
    let opened = open(hub, link, &publish).await;
    let mut upload = match opened {
        Ok(upload) => upload,
        Err(no) => {
            hub.counters.publishers_refused.one();
            return Some(refused(&publish, &no));
        }
    };
    hub.counters.publishers_taken.one();
    tracing::info!(stream = %publish.name, epoch = upload.epoch.0, next = %upload.next, from = %link.peer(), "upload");
    let response = upload.run(link, &publish, rest).await;
    hub.source_gone(upload.id, upload.tenure);
    hub.settle();
    response
}

async fn open(hub: &Rc<Hub>, link: &Rc<Link>, publish: &Publish) -> Result<Upload, Refused> {
    let key = PublisherKey::from_seed(&random::bytes().map_err(|_| Refused::because(RefusalReason::Busy))?);
    let secret = publish.secret.as_deref();
    let Grant { epoch, next } = authority::for_upload(hub, &publish.name, &key, secret, publish.takeover).await?;
    let id = stream_id(&publish.name);
    let (opened, resumed) = {
        let store = &mut *hub.store.borrow_mut();
        let resumed = store.streams.is_ready(id);
        let opened = store.streams.open_publisher(hub.clock.now(), id, &publish.name, epoch, next, &mut store.out);
        (opened, resumed)
    };
    let (tenure, next) = opened.map_err(Refused::because)?;
    let keys = authority::with_key(hub, id, StreamKey { epoch, key: key.public() });
    hub.set_keys(id, keys);
    hub.sources.borrow_mut().insert(tenure, Source::Publisher(link.clone()));
    hub.settle();
    Ok(Upload {
        hub: hub.clone(),
        key,
        id,
        epoch,
        tenure,
        next,
        slicer: Slicer::new(SlicerConfig { resumed: resumed || next > ChunkSeq::FIRST }),
        slices: Outbox::new(),
        stored: 0,
    })
}

/// Why a body is not taken on.
enum Stop {
    NotTransportStream,
    Malformed,
    Replaced,
}

struct Upload {
    hub: Rc<Hub>,
    key: PublisherKey,
    id: StreamId,
    epoch: Epoch,
    tenure: Tenure,
    next: ChunkSeq,
    slicer: Slicer,
    slices: Outbox<Slice>,
    stored: u64,
}

impl Upload {
    async fn run(&mut self, link: &Link, publish: &Publish, rest: &[u8]) -> Option<Response> {
        if publish.expects_continue {
            link.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", WRITE_WITHIN).await.ok()?;
        }
        let idle = Span::from_secs(self.hub.config.publisher_idle_s);
        let mut body = Body::new(publish.coding);
        let mut buffer = vec![0; READ_BYTES];
        let mut taken = self.body(&mut body, rest).await;
        let mut silent = false;
        while taken.is_ok() && !body.is_done() {
            match within(idle, link.read(&mut buffer)).await {
                Ok(0) => break,
                Ok(len) => taken = self.body(&mut body, &buffer[..len]).await,
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    silent = true;
                    break;
                }
                Err(error) => {
                    tracing::info!(stream = %publish.name, %error, "upload broken off");
                    break;
                }
            }
        }
        if taken.is_ok() {
            taken = self.finish().await;
        }
        self.response(publish, &body, taken, silent)
    }

    fn response(&self, publish: &Publish, body: &Body, taken: Result<(), Stop>, silent: bool) -> Option<Response> {
        let counters = &self.hub.counters;
        let name = &publish.name;
        Some(match taken {
            Err(Stop::Replaced) => Response::text(409, format!("A newer publisher has taken {name} over.")),
            Err(Stop::Malformed) => {
                counters.publishers_garbled.one();
                Response::text(400, "The body's chunked coding cannot be read.")
            }
            Err(Stop::NotTransportStream) => {
                counters.publishers_garbled.one();
                Response::text(415, "The body is not an MPEG transport stream; with ffmpeg say -f mpegts.")
            }
            Ok(()) if silent => {
                counters.publishers_silent.one();
                let said = format!("Nothing came for {} s (publisher_idle_s).", self.hub.config.publisher_idle_s);
                Response::text(408, said)
            }
            Ok(()) if !body.may_end() => return None,
            Ok(()) if self.stored == 0 => {
                counters.publishers_garbled.one();
                Response::text(415, "The body holds no MPEG transport stream; with ffmpeg say -f mpegts.")
            }
            Ok(()) => Response::text(200, format!("{name}: {} chunks.", self.stored)),
        })
    }

    async fn body(&mut self, body: &mut Body, mut bytes: &[u8]) -> Result<(), Stop> {
        while let Some(content) = body.next(&mut bytes).map_err(|_| Stop::Malformed)? {
            let pushed = self.slicer.push(clock::wall(), content, &mut self.slices);
            self.store().await?;
            pushed.map_err(|_| Stop::NotTransportStream)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Stop> {
        let finished = self.slicer.finish(clock::wall(), &mut self.slices);
        self.store().await?;
        finished.map_err(|_| Stop::NotTransportStream)
    }

    /// Signs and stores what was cut.
    async fn store(&mut self) -> Result<(), Stop> {
        let slices: Vec<Slice> = self.slices.drain().collect();
        in_turns(slices, |slice| self.store_one(slice)).await
    }

    fn store_one(&mut self, slice: Slice) -> Result<(), Stop> {
        let mut header = slice.header(self.id, self.epoch, self.next);
        self.key.sign_chunk(&mut header, &slice.payload);
        let from = &self.hub.counters.bytes_from_uploads;
        match self.hub.append(self.tenure, &header, &slice.payload, from) {
            Stored::Yes => self.stored += 1,
            // A gap: the number is spent, so that viewers see that something is missing.
            Stored::NoMemory => {}
            Stored::Duplicate | Stored::Fenced | Stored::OutOfRange => return Err(Stop::Replaced),
        }
        self.next = self.next.next();
        Ok(())
    }
}

/// Does `one` for each slice, oldest first, until it fails. Between two of them other tasks run once.
async fn in_turns(slices: Vec<Slice>, mut one: impl FnMut(Slice) -> Result<(), Stop>) -> Result<(), Stop> {
    for (at, slice) in slices.into_iter().enumerate() {
        if at > 0 {
            glommio::executor().yield_now().await;
        }
        one(slice)?;
    }
    Ok(())
}

/// A refusal as a status and a sentence.
fn refused(publish: &Publish, no: &Refused) -> Response {
    let name = &publish.name;
    let (status, said) = match no.reason {
        RefusalReason::NotAuthorised if publish.secret.is_none() => (
            403,
            format!("Publishing {name} needs its secret: append ?key=SECRET, or send Authorization: Bearer SECRET."),
        ),
        RefusalReason::NotAuthorised => (403, format!("This is not the secret for publishing {name}.")),
        RefusalReason::NameTaken => {
            let said = format!(
                "{name} is being published by somebody else. Choose another name, wait, or, with its secret, take it \
                 over by ?takeover=1."
            );
            (409, said)
        }
        RefusalReason::Fenced => (409, format!("A newer publisher has taken {name} over.")),
        RefusalReason::TooLarge => (413, "Over a size limit.".into()),
        RefusalReason::NotTransportStream => (415, no.reason.to_string()),
        RefusalReason::Draining => (503, "This server is going out of service: publish to another one.".into()),
        RefusalReason::Full => {
            (503, "No room for another stream here (streams_max, memory_mib): publish to another cache.".into())
        }
        RefusalReason::Busy => (503, "The index server does not answer: try again in a moment.".into()),
        other => (503, format!("{name} cannot be published now: {other}.")),
    };
    let retry_after_s = (status == 503).then(|| no.retry_ms.div_ceil(1000).max(1));
    Response { retry_after_s, ..Response::text(status, said) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use cache_core::limits::TS_PACKET_BYTES;
    use cache_core::time::WallClock;
    use glommio::LocalExecutorBuilder;

    use super::*;

    /// A packet whose clock (PCR) stands at `ms`.
    fn packet(ms: u64) -> [u8; TS_PACKET_BYTES] {
        let mut packet = [0xff; TS_PACKET_BYTES];
        let base = ms * 90;
        packet[..6].copy_from_slice(&[0x47, 0x01, 0x00, 0x20, 183, 0x10]);
        packet[6..10].copy_from_slice(&((base >> 1) as u32).to_be_bytes());
        packet[10..12].copy_from_slice(&[((base & 1) as u8) << 7 | 0x7e, 0]);
        packet
    }

    #[test]
    fn who_sends_many_chunks_in_one_read_gets_no_more_than_its_turn() {
        // One read's worth of packets, an hour apart.
        let packets = READ_BYTES / TS_PACKET_BYTES;
        let read: Vec<u8> = (0..packets as u64).flat_map(|n| packet(n * 3_600_000 % 80_000_000)).collect();
        let (mut slicer, mut out) = (Slicer::new(SlicerConfig::default()), Outbox::new());
        slicer.push(WallClock::from_micros(1), &read, &mut out).expect("a transport stream");
        let slices: Vec<Slice> = out.drain().collect();
        assert!(slices.len() > packets / 2, "{} chunks of {packets} packets", slices.len());
        let executor = LocalExecutorBuilder::default().make().expect("an executor");
        executor.run(async {
            let (turns, done) = (Rc::new(Cell::new(0)), Cell::new(0));
            let others = turns.clone();
            let _other = glommio::spawn_local(async move {
                loop {
                    others.set(others.get() + 1);
                    glommio::executor().yield_now().await;
                }
            });
            let all = slices.len();
            let stored = |_| {
                done.set(done.get() + 1);
                Ok(())
            };
            assert!(in_turns(slices, stored).await.is_ok());
            assert!(done.get() == all && turns.get() >= all / 2, "others had {} turns beside {all}", turns.get());
        });
    }
}
