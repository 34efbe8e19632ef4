//! A stream fetched from another cache: one task per stream drives [`Relay`]; one link at a time brings chunks.
//!
//! ```text
//!  pull task:  Relay <- events from link and index     -> Ask: Resolve       -> Connect: a new link task
//!  link task:  Hello, Open -> Welcome, StreamInfo;  Subscribe -> Chunk ... checked once, stored, served at once
//! ```
//! Nothing is stored before its signature and hash have been checked against keys that came from the index.

use std::net::SocketAddr;
use std::rc::Rc;

use cache_core::outbox::Outbox;
use cache_core::peer_id::PeerId;
use cache_core::proto::cache::relay::{Relay, RelayInput, RelayOutput};
use cache_core::proto::cache::streams::Tenure;
use cache_core::sign::{ChunkFault, KeyRing, PayloadCheck, stream_id};
use cache_core::time::Span;
use cache_core::units::{DomainId, StreamId};
use cache_core::wire::exchange::{Hello, Open, Role, Subscribe};
use cache_core::wire::index::{Resolve, StreamKey};
use cache_core::wire::{Blob, ChunkHeader, Frame, Message, RefusalReason, StreamName};

use super::authority;
use super::deadline::after;
use super::frames::{Frames, Incoming, Patience};
use super::hub::{Hub, Source};
use super::index::ANSWER_WITHIN;
use super::link::Link;
use super::store::Stored;
use super::wait::{First, Mailbox, race};

/// What a pull's task is told. A link's events carry its number: those of a link that was left are ignored.
#[derive(Debug)]
pub(super) enum Event {
    Link(u64, RelayInput),
    Index(RelayInput),
    Dismissed,
}

/// A pull's mailbox.
pub(super) type PullMail = Mailbox<Event>;

/// Events that may wait: a chunk's each, and the task is never far behind.
const MAIL_MAX: usize = 64;

/// For a TCP connection to stand (our guess: a SYN and one repetition).
const CONNECT_WITHIN: Span = Span::from_secs(2);

/// Of a chunk once begun the head, the header and the payload may take this time each. [`Relay`] watches for silence.
const CHUNK_WHOLE: Span = Span::from_secs(5);

const WRITE_WITHIN: Span = Span::from_secs(2);

/// Sends a pull away.
pub(super) fn dismiss(mail: &PullMail) {
    // A full mailbox: its task is about to look at the table, which knows its turn is over.
    let _ = mail.put(Event::Dismissed);
}

/// Begins to fetch `name`, or notes newer keys for a fetch that is under way. `parents` may be empty: the index is
/// asked. Refused when the table is full; a stream that has a source is left alone, but for a publisher whose term is
/// over by those keys.
pub(super) fn begin(
    hub: &Rc<Hub>,
    name: &StreamName,
    parents: Vec<SocketAddr>,
    keys: &[StreamKey],
) -> Result<(), RefusalReason> {
    if hub.draining.get() {
        return Err(RefusalReason::Draining);
    }
    let id = stream_id(name);
    let tenure = {
        let store = &mut *hub.store.borrow_mut();
        let newest = keys.iter().map(|key| key.epoch).max().unwrap_or_default();
        store.streams.open_pull(hub.clock.now(), id, name, newest, &mut store.out)?
    };
    take_keys(hub, id, keys);
    let Some(tenure) = tenure else { return Ok(()) };
    hub.counters.pulls.one();
    let mail = Rc::new(PullMail::new(MAIL_MAX));
    hub.sources.borrow_mut().insert(tenure, Source::Pull(mail.clone()));
    hub.settle();
    let pull = Pull { hub: hub.clone(), name: name.clone(), id, tenure, mail };
    glommio::spawn_local(async move {
        let reason = pull.run(parents).await;
        if let Some(reason) = reason {
            pull.hub.counters.pulls_failed.one();
            pull.hub.answer_refused(&pull.name, reason);
        }
        pull.hub.source_gone(pull.id, pull.tenure);
        pull.hub.settle();
    })
    .detach();
    Ok(())
}

/// The index's keys replace what was known, unless something newer is.
fn take_keys(hub: &Hub, id: StreamId, keys: &[StreamKey]) {
    let newest = keys.iter().map(|key| key.epoch).max();
    let mut all = hub.keys.borrow_mut();
    let known = all.entry(id).or_insert_with(|| KeyRing::new(id));
    if newest.is_some() && newest >= known.newest() {
        known.replace(keys);
    }
    drop(all);
    hub.note(id);
}

#[derive(Clone)]
struct Pull {
    hub: Rc<Hub>,
    name: StreamName,
    id: StreamId,
    tenure: Tenure,
    mail: Rc<PullMail>,
}

impl Pull {
    /// Runs until the turn is over (`None`) or nobody has the stream.
    async fn run(&self, parents: Vec<SocketAddr>) -> Option<RefusalReason> {
        let mut out = Outbox::new();
        let now = self.hub.clock.now();
        let mut relay = Relay::start(now, self.hub.knobs, self.hub.advertise, parents, &mut out);
        let mut links = 0;
        // Dropped, a task is cancelled and its connection closed.
        let mut link: Option<glommio::Task<()>> = None;
        let mut _question: Option<glommio::Task<()>> = None;
        loop {
            for output in out.drain() {
                match output {
                    RelayOutput::Ask => _question = Some(glommio::spawn_local(self.clone().resolve())),
                    RelayOutput::Connect(parent) => {
                        links += 1;
                        self.hub.counters.pull_links.one();
                        tracing::info!(stream = %self.name, %parent, "pulling");
                        link = Some(glommio::spawn_local(self.clone().follow(links, parent)));
                    }
                    RelayOutput::Disconnect => link = None,
                    RelayOutput::GiveUp(reason) => return Some(reason),
                }
            }
            let wait = relay.next_timeout().since(self.hub.clock.now());
            let input = match race(self.mail.take(), after(wait.min(Span::from_secs(3600)))).await {
                First::This(Event::Link(number, input)) if number == links && link.is_some() => input,
                First::This(Event::Link(..)) => continue,
                First::This(Event::Index(input)) => {
                    _question = None;
                    input
                }
                First::This(Event::Dismissed) => return None,
                First::That(()) => RelayInput::Tick,
            };
            if matches!(input, RelayInput::Lost | RelayInput::Lied) {
                self.hub.counters.pull_links_lost.one();
            }
            relay.handle(self.hub.clock.now(), input, &mut out);
        }
    }

    /// Asks the index where the stream is.
    async fn resolve(self) {
        let Some(index) = &self.hub.index else { return };
        let resolve = Resolve { advertise: self.hub.advertise, stream: self.name.clone() };
        let input = match index.ask(self.hub.clock.now(), resolve, None, ANSWER_WITHIN).await {
            Some(Message::Resolved(resolved)) => {
                take_keys(&self.hub, self.id, &resolved.keys);
                RelayInput::Parents(resolved.parents.into_vec())
            }
            Some(Message::Refused(refused)) => RelayInput::Unresolved(refused.reason),
            Some(_) => RelayInput::Unresolved(RefusalReason::BadMessage),
            None => {
                self.hub.counters.index_silent.one();
                RelayInput::Unresolved(RefusalReason::NoCache)
            }
        };
        let _ = self.mail.put(Event::Index(input));
    }

    /// Follows one parent to the end of the link.
    async fn follow(self, number: u64, parent: SocketAddr) {
        let ended = match self.stream_from(number, parent).await {
            Ok(()) => RelayInput::Lost,
            Err(LinkEnd::Lied) => RelayInput::Lied,
            Err(LinkEnd::Over(why)) => {
                tracing::info!(stream = %self.name, %parent, why, "parent lost");
                RelayInput::Lost
            }
        };
        let _ = self.mail.put(Event::Link(number, ended));
    }

    async fn stream_from(&self, number: u64, parent: SocketAddr) -> Result<(), LinkEnd> {
        let heard = |input| {
            let _ = self.mail.put(Event::Link(number, input));
        };
        let link = Link::connect(parent, CONNECT_WITHIN).await.map_err(|error| LinkEnd::Over(error.to_string()))?;
        let hello = Hello {
            role: Role::Cache,
            peer: PeerId::NONE,
            stream: self.id,
            domain: DomainId(0),
            listen: None,
            ticket: Blob::default(),
        };
        let open = Open { stream: self.name.clone(), back: self.hub.knobs.pull_back_chunks };
        say(&link, &[hello.into(), open.into()]).await?;
        let mut frames = Frames::after(Vec::new());
        // Silence is the relay's to judge: it drops this task.
        let patience = Patience { idle: Span::from_secs(3600), whole: CHUNK_WHOLE };
        loop {
            match frames.next(&link, patience).await.map_err(|error| LinkEnd::Over(error.to_string()))? {
                Incoming::Chunk(header) => {
                    let mut check = self.begin(&header).await?;
                    let payload = frames.payload(&link, &header, CHUNK_WHOLE, |piece| check.add(piece)).await;
                    let payload = payload.map_err(|error| LinkEnd::Over(error.to_string()))?;
                    check.end().map_err(|fault| self.lied(fault))?;
                    self.store(&header, payload)?;
                    heard(RelayInput::Chunk);
                }
                Incoming::Frame(Frame::Welcome(_)) => {}
                Incoming::Frame(Frame::StreamInfo(info)) if info.stream == self.id => {
                    heard(RelayInput::Heard);
                    let next = {
                        let store = self.hub.store.borrow();
                        store.streams.get(self.id).and_then(|s| s.ingest().head()).map(|head| head.next())
                    };
                    let from = next.unwrap_or(info.begin);
                    say(&link, &[Subscribe { stream: self.id, from }.into()]).await?;
                }
                Incoming::Frame(Frame::Skipped(_)) => heard(RelayInput::Heard),
                Incoming::Frame(Frame::Ended(ended)) if ended.stream == self.id => {
                    let store = &mut *self.hub.store.borrow_mut();
                    store.streams.source_ended(self.hub.clock.now(), self.id, self.tenure, &mut store.out);
                    break;
                }
                Incoming::Frame(Frame::Unavailable(no)) => return Err(LinkEnd::Over(no.reason.to_string())),
                Incoming::Frame(Frame::Refused(no)) => return Err(LinkEnd::Over(no.reason.to_string())),
                Incoming::Frame(other) => return Err(LinkEnd::Over(format!("unexpected {}", other.name()))),
            }
        }
        self.hub.settle();
        Ok(())
    }

    /// Checks a chunk's header, while its payload is on its way.
    async fn begin(&self, header: &ChunkHeader) -> Result<PayloadCheck, LinkEnd> {
        let mut checked = self.check(header);
        if let Err(ChunkFault::UnknownEpoch(_)) = checked {
            // The publisher has come back under a new key.
            let keys = authority::keys_of(&self.hub, &self.name).await;
            let keys = keys.map_err(|refused| LinkEnd::Over(refused.reason.to_string()))?;
            take_keys(&self.hub, self.id, &keys.to_wire());
            checked = self.check(header);
        }
        checked.map_err(|fault| match fault {
            ChunkFault::UnknownEpoch(_) => LinkEnd::Over(fault.to_string()),
            _ => self.lied(fault),
        })
    }

    fn lied(&self, fault: ChunkFault) -> LinkEnd {
        self.hub.counters.chunks_wrong.one();
        tracing::warn!(stream = %self.name, %fault, "parent sent a wrong chunk");
        LinkEnd::Lied
    }

    /// Stores a chunk that was found good.
    fn store(&self, header: &ChunkHeader, payload: &[u8]) -> Result<(), LinkEnd> {
        match self.hub.append(self.tenure, header, payload, &self.hub.counters.bytes_from_caches) {
            Stored::Yes | Stored::Duplicate | Stored::NoMemory => Ok(()),
            Stored::Fenced => Err(LinkEnd::Over("the chunk is of an older epoch".into())),
            Stored::OutOfRange => Err(LinkEnd::Lied),
        }
    }

    fn check(&self, header: &ChunkHeader) -> Result<PayloadCheck, ChunkFault> {
        match self.hub.keys.borrow().get(&self.id) {
            Some(keys) => keys.begin(header),
            None => Err(ChunkFault::UnknownEpoch(header.epoch)),
        }
    }
}

/// Why a link is of no more use.
#[derive(Debug)]
enum LinkEnd {
    /// Its chunks are wrong.
    Lied,
    /// Anything else.
    Over(String),
}

async fn say(link: &Link, frames: &[Frame]) -> Result<(), LinkEnd> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    link.write_all(&bytes, WRITE_WITHIN).await.map_err(|error| LinkEnd::Over(error.to_string()))
}
