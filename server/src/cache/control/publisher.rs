//! A publisher over Weircast's protocol.
//!
//! ```text
//!  shard: Hello ... -> control: Welcome{nonce} <- Publish signed over it -> PublishOk{next}
//!                               <- Chunk ... each checked, stored, acknowledged (cumulative)
//! ```
//! A chunk's signature is checked as soon as its header is there, and its payload is hashed while it comes: what a publisher's
//! line takes to carry a chunk hides most of the check's time.
//!
//! One task per publisher; memory for one chunk. A chunk that is late in the middle, out of framing, wrongly signed or
//! of a turn that is over ends the connection, with a typed refusal where the other side can still read one.

use std::rc::Rc;

use cache_core::peer_id::PeerId;
use cache_core::proto::cache::streams::Tenure;
use cache_core::sign::{ChunkFault, KeyRing, check_publish, stream_id};
use cache_core::time::Span;
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::exchange::{Ack, Hello, Publish, PublishOk, Role, Welcome};
use cache_core::wire::{DecodeError, Frame, RefusalReason, Refused};

use super::authority;
use super::frames::{FrameError, Frames, Incoming, Patience};
use super::hub::{Hub, Source};
use super::link::Link;
use super::store::Stored;
use crate::host::random;

/// For each of the opening's two frames: its first byte, its head and its body get this time each (faults: half handshakes
/// end). Each answer's writing has as much.
const OPENING: Patience = Patience { idle: Span::from_secs(5), whole: Span::from_secs(5) };

/// Of a chunk once begun the head, the header and the payload may take this time each (our guess: 1 MiB at 2 Mbit/s).
const CHUNK_WHOLE: Span = Span::from_secs(5);

const ANSWER_WITHIN: Span = Span::from_secs(5);

/// Serves one publisher until it ends. `read` begins with its Hello.
pub(super) async fn serve(hub: &Rc<Hub>, link: Link, read: Vec<u8>) {
    let link = Rc::new(link);
    let mut frames = Frames::after(read);
    if let Err(refused) = opened_and_served(hub, &link, &mut frames).await {
        tracing::info!(from = %link.peer(), reason = %refused.reason, detail = refused.detail.as_str(), "publisher refused");
        let mut bytes = Vec::new();
        Frame::from(refused).encode(&mut bytes);
        if link.write_all(&bytes, ANSWER_WITHIN).await.is_ok() {
            link.linger(Span::from_secs(1), 4 << 20).await;
        }
    }
}

async fn opened_and_served(hub: &Rc<Hub>, link: &Rc<Link>, frames: &mut Frames) -> Result<(), Refused> {
    let Some(publish) = opening(hub, link, frames).await? else { return Ok(()) };
    let id = stream_id(&publish.stream);
    let keys = authority::for_native(hub, &publish).await.inspect_err(|_| hub.counters.publishers_refused.one())?;
    let opened = {
        let store = &mut *hub.store.borrow_mut();
        let now = hub.clock.now();
        store.streams.open_publisher(now, id, &publish.stream, publish.epoch, ChunkSeq::FIRST, &mut store.out)
    };
    let (tenure, next) = opened.map_err(|reason| {
        hub.counters.publishers_refused.one();
        Refused::because(reason)
    })?;
    hub.set_keys(id, keys.clone());
    hub.sources.borrow_mut().insert(tenure, Source::Publisher(link.clone()));
    hub.settle();
    hub.counters.publishers_taken.one();
    tracing::info!(stream = %publish.stream, epoch = publish.epoch.0, %next, from = %link.peer(), "publisher");
    let mut turn = Turn { hub, link, id, tenure, publish: &publish, keys };
    let ended = turn.run(frames, next).await;
    hub.source_gone(id, tenure);
    hub.settle();
    ended
}

/// Welcome and Publish. `None`: the other side is gone.
async fn opening(hub: &Hub, link: &Link, frames: &mut Frames) -> Result<Option<Publish>, Refused> {
    let bad = |detail: &'static str| {
        hub.counters.publishers_garbled.one();
        Refused { detail: cache_core::wire::Text::cut(detail), ..Refused::because(RefusalReason::BadMessage) }
    };
    let Some(Frame::Hello(Hello { role: Role::Publisher, .. })) = control_frame(hub, link, frames).await? else {
        return Err(bad("a publisher begins with a Hello"));
    };
    let nonce = random::bytes::<16>().map_err(|_| Refused::because(RefusalReason::Busy))?;
    let mut bytes = Vec::new();
    Frame::from(Welcome { peer: PeerId::NONE, nonce }).encode(&mut bytes);
    if link.write_all(&bytes, ANSWER_WITHIN).await.is_err() {
        return Ok(None);
    }
    let publish = match control_frame(hub, link, frames).await? {
        Some(Frame::Publish(publish)) => publish,
        Some(_) => return Err(bad("a publisher's second message is Publish")),
        None => return Ok(None),
    };
    if !check_publish(&publish.key, stream_id(&publish.stream), publish.epoch, &nonce, &publish.signature) {
        hub.counters.publishers_refused.one();
        return Err(Refused::because(RefusalReason::BadSignature));
    }
    if hub.draining.get() {
        return Err(Refused::because(RefusalReason::Draining));
    }
    Ok(Some(publish))
}

/// A frame that is no chunk; `None` when the other side is gone.
async fn control_frame(hub: &Hub, link: &Link, frames: &mut Frames) -> Result<Option<Frame>, Refused> {
    match frames.next(link, OPENING).await {
        Ok(Incoming::Frame(frame)) => Ok(Some(frame)),
        Ok(Incoming::Chunk(..)) => Err(Refused::because(RefusalReason::BadMessage)),
        Err(error) => refusal_of(hub, &error).map_or(Ok(None), Err),
    }
}

/// What to say to a publisher whose bytes could not be read on; `None` when it hears nothing any more.
fn refusal_of(hub: &Hub, error: &FrameError) -> Option<Refused> {
    match error {
        FrameError::Closed => None,
        FrameError::Io(error) => {
            tracing::debug!(%error, "publisher's connection failed");
            None
        }
        FrameError::Silent | FrameError::Unfinished => {
            hub.counters.publishers_silent.one();
            Some(Refused::because(RefusalReason::TooSlow))
        }
        FrameError::Bad(error) => {
            hub.counters.publishers_garbled.one();
            Some(Refused::because(match error {
                DecodeError::Version(_) => RefusalReason::Version,
                DecodeError::TooLong { .. } => RefusalReason::TooLarge,
                _ => RefusalReason::BadMessage,
            }))
        }
    }
}

/// One source's turn.
struct Turn<'a> {
    hub: &'a Rc<Hub>,
    link: &'a Link,
    id: StreamId,
    tenure: Tenure,
    publish: &'a Publish,
    keys: KeyRing,
}

impl Turn<'_> {
    async fn run(&mut self, frames: &mut Frames, next: ChunkSeq) -> Result<(), Refused> {
        self.tell(PublishOk { stream: self.id, next }.into()).await;
        let idle = Span::from_secs(self.hub.config.publisher_idle_s);
        loop {
            let seq = match frames.next(self.link, Patience { idle, whole: CHUNK_WHOLE }).await {
                Ok(Incoming::Chunk(header)) => {
                    if header.stream != self.id || header.epoch != self.publish.epoch {
                        self.hub.counters.publishers_garbled.one();
                        return Err(Refused::because(RefusalReason::BadMessage));
                    }
                    let mut check = self.keys.begin(&header).map_err(|fault| self.wrong(fault))?;
                    let payload = match frames.payload(self.link, &header, CHUNK_WHOLE, |piece| check.add(piece)).await
                    {
                        Ok(payload) => payload,
                        Err(error) => return refusal_of(self.hub, &error).map_or(Ok(()), Err),
                    };
                    check.end().map_err(|fault| self.wrong(fault))?;
                    let from = &self.hub.counters.bytes_from_publishers;
                    match self.hub.append(self.tenure, &header, payload, from) {
                        Stored::Yes | Stored::Duplicate => header.seq,
                        // Lost here; the next chunk's number shows the gap.
                        Stored::NoMemory => continue,
                        Stored::Fenced => return Err(Refused::because(RefusalReason::Fenced)),
                        Stored::OutOfRange => return Err(Refused::because(RefusalReason::BadMessage)),
                    }
                }
                Ok(Incoming::Frame(Frame::Leave(_))) => return Ok(()),
                Ok(Incoming::Frame(_)) => return Err(Refused::because(RefusalReason::BadMessage)),
                Err(error) => return refusal_of(self.hub, &error).map_or(Ok(()), Err),
            };
            self.tell(Ack { stream: self.id, seq }.into()).await;
        }
    }

    fn wrong(&self, fault: ChunkFault) -> Refused {
        self.hub.counters.chunks_wrong.one();
        tracing::warn!(stream = %self.publish.stream, %fault, "publisher sent a wrong chunk");
        Refused::because(RefusalReason::BadSignature)
    }

    /// A publisher that does not read is not waited for longer than its silence would be; the next read ends it.
    async fn tell(&self, frame: Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        if self.link.write_all(&bytes, ANSWER_WITHIN).await.is_err() {
            self.link.shut_down();
        }
    }
}
