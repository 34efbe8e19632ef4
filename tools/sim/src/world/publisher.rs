//! The publisher: an encoder that cuts a chunk each 200 ms, and a session with index and cache.
//!
//! ```text
//!  PublishRequest (signed) -> PublishGrant -> Hello, Publish (signed over the nonce) -> PublishOk{next} -> Chunk ...
//!        ^                                                                                  link lost, no Ack, refused
//!        +-------------------------------- a pause ---------------------------------------------+
//! ```
//! `weircast-peer publish` has a machine of its own, in its binary; this one does the same in short: what is not
//! acknowledged is kept, a window at most, and sent again from the number that the cache names. A new process is a new take
//! of the encoder, which goes on at the number it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;

use cache_core::limits::WINDOW_CHUNKS;
use cache_core::outbox::Outbox;
use cache_core::peer_id::PeerId;
use cache_core::prng::Prng;
use cache_core::proto::asker::{Asker, AskerOutput, Credentials};
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::{Span, Time};
use cache_core::units::{CHUNK_SPAN, ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::exchange::{Hello, Publish, Role};
use cache_core::wire::index::PublishRequest;
use cache_core::wire::{Blob, Datagram, Frame, Message, StreamName};

use super::chunks::Cut;
use super::event::{Event, What, news};
use super::fabric::Fabric;

/// As `weircast-peer publish` has them.
const ANSWER_PATIENCE: Span = Span::from_secs(5);
const CACHE_PATIENCE: Span = Span::from_secs(3);
const PAUSE: Span = Span::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Asking,
    Pause { until: Time },
    Opening { link: u32, until: Time },
    Live { link: u32 },
    Dead,
}

/// A chunk that is cut and may have to be sent again.
#[derive(Clone, Copy, Debug)]
struct Kept {
    at: Time,
    join_point: bool,
}

/// The publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    node: u32,
    name: StreamName,
    id: StreamId,
    indexes: Vec<SocketAddr>,
    key: PublisherKey,
    asker: Asker,
    asked: Outbox<AskerOutput>,
    step: Step,
    epoch: Epoch,
    caches: Vec<SocketAddr>,
    cache_at: usize,
    /// Cut and kept, the first one's number; numbers are without gaps.
    kept: VecDeque<Kept>,
    first: ChunkSeq,
    begun: bool,
    next_send: ChunkSeq,
    /// When the oldest chunk on the way was sent, or an Ack came last.
    heard: Time,
    next_cut: Time,
    next_tick: Time,
    acked: ChunkSeq,
    take: u32,
    cut: u64,
    join_every: u64,
    first_chunk: ChunkSeq,
    rng: Prng,
}

impl Publisher {
    pub(crate) fn new(
        node: u32,
        name: &StreamName,
        indexes: Vec<SocketAddr>,
        first_chunk: u64,
        join_every: u64,
        mut rng: Prng,
    ) -> Publisher {
        Publisher {
            node,
            id: stream_id(name),
            name: name.clone(),
            indexes,
            key: PublisherKey::from_seed(&[7; 32]),
            asker: Asker::new(rng.next_u64() as u32),
            asked: Outbox::new(),
            step: Step::Dead,
            epoch: Epoch(0),
            caches: Vec::new(),
            cache_at: 0,
            kept: VecDeque::new(),
            first: ChunkSeq::FIRST,
            begun: false,
            next_send: ChunkSeq::FIRST,
            heard: Time::ZERO,
            next_cut: Time::NEVER,
            next_tick: Time::NEVER,
            acked: ChunkSeq::FIRST,
            take: 0,
            cut: 0,
            join_every: join_every.max(1),
            first_chunk: ChunkSeq::new(first_chunk),
            rng,
        }
    }

    /// A process begins.
    pub(crate) fn start(&mut self, fabric: &mut Fabric) {
        self.take += 1;
        self.kept.clear();
        self.begun = false;
        self.asker = Asker::new(self.rng.next_u64() as u32);
        self.asked = Outbox::new();
        self.ask(fabric);
        self.next_cut = fabric.now.after(CHUNK_SPAN);
        fabric.at(self.next_cut, Event::Cut);
        self.next_tick = fabric.now.after(PAUSE);
        fabric.at(self.next_tick, Event::Tick { node: self.node });
    }

    pub(crate) fn kill(&mut self) {
        self.step = Step::Dead;
    }

    /// The link that it has.
    pub(crate) fn link(&self) -> Option<u32> {
        match self.step {
            Step::Opening { link, .. } | Step::Live { link } => Some(link),
            _ => None,
        }
    }

    fn ask(&mut self, fabric: &mut Fabric) {
        let request = PublishRequest {
            stream: self.name.clone(),
            key: self.key.public(),
            proof: [0; 32],
            possession: [0; 64],
            takeover: false,
            at_cache: None,
            ticket: Blob::default(),
        };
        let credentials = Credentials { key: self.key.clone(), secret: None };
        let until = fabric.now.after(ANSWER_PATIENCE);
        self.step = Step::Asking;
        self.asker.ask_with(fabric.now, &self.indexes, request.into(), Some(credentials), until, &mut self.asked);
        self.carry_out(fabric);
    }

    fn pause(&mut self, fabric: &Fabric) {
        self.step = Step::Pause { until: fabric.now.after(PAUSE) };
    }

    fn carry_out(&mut self, fabric: &mut Fabric) {
        let outputs: Vec<AskerOutput> = self.asked.drain().collect();
        for output in outputs {
            match output {
                AskerOutput::Send { to, datagram } => fabric.datagram(self.node, to, datagram),
                AskerOutput::Answered { message: Message::PublishGrant(grant), .. } => {
                    self.epoch = grant.epoch;
                    self.caches = grant.caches.into_vec();
                    self.cache_at = 0;
                    self.connect(fabric);
                }
                AskerOutput::Answered { .. } | AskerOutput::Failed { .. } => self.pause(fabric),
            }
        }
    }

    fn connect(&mut self, fabric: &mut Fabric) {
        match self.caches.get(self.cache_at).copied() {
            Some(cache) => {
                self.cache_at += 1;
                let link = fabric.dial(self.node, 0, cache);
                self.step = Step::Opening { link, until: fabric.now.after(CACHE_PATIENCE) };
            }
            None => self.pause(fabric),
        }
    }

    /// The present link is of no more use: the next cache, in the end the index again.
    fn leave(&mut self, fabric: &mut Fabric) {
        if let Some(link) = self.link() {
            fabric.close(link, 0);
        }
        self.connect(fabric);
    }

    pub(crate) fn tick(&mut self, fabric: &mut Fabric) {
        if self.step == Step::Dead || self.next_tick > fabric.now {
            return;
        }
        self.asker.tick(fabric.now, &mut self.asked);
        self.carry_out(fabric);
        match self.step {
            Step::Pause { until } if until <= fabric.now => self.ask(fabric),
            Step::Opening { until, .. } if until <= fabric.now => self.leave(fabric),
            Step::Live { .. } if self.acked < self.next_send && self.heard.after(CACHE_PATIENCE) <= fabric.now => {
                self.leave(fabric);
            }
            _ => {}
        }
        self.next_tick = fabric.now.after(PAUSE);
        fabric.at(self.next_tick, Event::Tick { node: self.node });
    }

    pub(crate) fn datagram(&mut self, fabric: &mut Fabric, from: SocketAddr, datagram: &Datagram) {
        if self.step != Step::Dead {
            self.asker.handle(fabric.now, from, datagram, &mut self.asked);
            self.carry_out(fabric);
        }
    }

    pub(crate) fn on_link(&mut self, fabric: &mut Fabric, link: u32, what: What) {
        if self.link() != Some(link) {
            return;
        }
        match what {
            What::SynAck => {
                let hello = Hello {
                    role: Role::Publisher,
                    peer: PeerId::NONE,
                    stream: self.id,
                    domain: DomainId(0),
                    listen: None,
                    ticket: Blob::default(),
                };
                fabric.send(link, 0, hello.into());
            }
            What::Closed => self.connect(fabric),
            What::Frame { frame, .. } => self.on_frame(fabric, link, *frame),
            What::News { seq } => self.on_frame(fabric, link, news(seq)),
            What::Syn | What::Chunk { .. } => {}
        }
    }

    fn on_frame(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        match frame {
            Frame::Welcome(welcome) => {
                let publish = Publish {
                    stream: self.name.clone(),
                    epoch: self.epoch,
                    key: self.key.public(),
                    signature: self.key.sign_publish(self.id, self.epoch, &welcome.nonce),
                };
                fabric.send(link, 0, publish.into());
            }
            Frame::PublishOk(ok) => {
                if !self.begun {
                    self.begun = true;
                    self.first = ok.next.max(self.first_chunk);
                    self.next_send = self.first;
                }
                // What the cache has is behind us; what it lacks and is kept is sent again.
                let end = self.first.ahead(self.kept.len() as u64);
                self.next_send = ok.next.max(self.first).min(end);
                if ok.next > end {
                    // Somebody went on with our numbers: they only go forward.
                    self.kept.clear();
                    (self.first, self.next_send) = (ok.next, ok.next);
                }
                self.acked = self.next_send;
                self.heard = fabric.now;
                self.step = Step::Live { link };
                self.send_on(fabric);
            }
            Frame::Ack(ack) => {
                self.acked = self.acked.max(ack.seq.next());
                self.heard = fabric.now;
            }
            Frame::TryInstead(_) => {}
            _ => self.leave(fabric),
        }
    }

    /// The encoder has a chunk.
    pub(crate) fn cut(&mut self, fabric: &mut Fabric) {
        if self.step == Step::Dead || self.next_cut > fabric.now {
            return;
        }
        self.next_cut = fabric.now.after(CHUNK_SPAN);
        fabric.at(self.next_cut, Event::Cut);
        let join_point = self.cut.is_multiple_of(self.join_every);
        self.cut += 1;
        self.kept.push_back(Kept { at: fabric.now, join_point });
        if self.kept.len() as u64 > WINDOW_CHUNKS {
            self.kept.pop_front();
            self.first = self.first.next();
            self.next_send = self.next_send.max(self.first);
        }
        self.send_on(fabric);
    }

    fn send_on(&mut self, fabric: &mut Fabric) {
        let Step::Live { link } = self.step else { return };
        while let Some(at) = self.next_send.since(self.first)
            && let Some(kept) = self.kept.get(at as usize).copied()
        {
            if self.acked >= self.next_send {
                self.heard = fabric.now;
            }
            let Kept { at, join_point } = kept;
            let cut = Cut { seq: self.next_send, epoch: self.epoch, at, take: self.take, join_point };
            let chunk = fabric.chunks.enter(cut);
            fabric.send_chunk(link, 0, chunk, fabric.chunks.content(chunk));
            self.next_send = self.next_send.next();
        }
    }
}
