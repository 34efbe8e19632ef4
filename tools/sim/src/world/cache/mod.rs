//! A cache server: the machines of `proto::cache`, driven as the server drives them over sockets.
//!
//! | file | job | in the server |
//! |---|---|---|
//! | `ring` | which chunks there are | `cache_core::ring` |
//! | `viewers` | Hello, Open, Request, Subscribe; what each connection is sent next | `cache/data` |
//! | `control` | the stream table; reports to the index, what is asked of it | `cache/control/{hub,index}` |
//! | `pull` | a stream fetched from another cache | `cache/control/pull` |
//! | `upload` | the publisher's connection | `cache/control/publisher` |
//!
//! One shard, one stream. A connection has one chunk at a time in front of the uplink, as a socket takes one; so the
//! uplink is shared chunk by chunk.

mod control;
mod pull;
mod ring;
mod upload;
mod viewers;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::prng::Prng;
use cache_core::proto::asker::{Asker, AskerOutput, QuestionId};
use cache_core::proto::cache::admission::{Admission, Budget};
use cache_core::proto::cache::config::CacheKnobs;
use cache_core::proto::cache::streams::{StreamOutput, Streams};
use cache_core::sign::stream_id;
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::index::StreamKey;
use cache_core::wire::{Datagram, Frame, StreamName};

use self::control::Purpose;
use self::pull::Pull;
use self::ring::Ring;
use self::upload::Upload;
use self::viewers::Viewer;
use super::event::{Event, What, news};
use super::fabric::Fabric;
use crate::invariants::Fact;

/// How often timeouts are looked at: half a chunk, as the server does.
const TICK: Span = Span::from_millis(50);

/// What a connection is.
#[derive(Debug)]
enum Conn {
    /// Its Hello has not come.
    New,
    Viewer(Viewer),
    Publisher(Upload),
    /// To the cache that the stream is fetched from.
    Parent,
}

/// What a cache may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheTerms {
    /// Most viewers.
    pub(crate) viewers_max: u32,
    /// Whether joins are refused when the uplink is full. A single peer in a cache's place refuses nobody.
    pub(crate) admits: bool,
}

/// A cache.
#[derive(Debug)]
pub(crate) struct CacheNode {
    pub(crate) node: u32,
    addr: SocketAddr,
    name: StreamName,
    id: StreamId,
    indexes: Vec<SocketAddr>,
    terms: CacheTerms,
    knobs: CacheKnobs,
    rng: Prng,

    ring: Ring,
    keys: Vec<StreamKey>,
    /// The ring's note to the next process: the stream was fetched from another cache.
    pulled: bool,

    streams: Streams,
    decided: Outbox<StreamOutput>,
    asker: Asker,
    asked: Outbox<AskerOutput>,
    questions: BTreeMap<QuestionId, Purpose>,
    /// Whether the last report was answered.
    heard: bool,
    others: Vec<SocketAddr>,
    admission: Admission,
    pull: Option<Pull>,
    conns: BTreeMap<u32, Conn>,
    /// Viewers among them.
    viewers: u32,
    ended: Option<ChunkSeq>,

    next_tick: Time,
    ticks: u64,
    /// Chunk bytes sent since the start, and at the last measurements.
    pub(crate) bytes_sent: u64,
    sent_before: [u64; 4],
}

impl CacheNode {
    /// A cache that has not begun.
    pub(crate) fn new(
        fabric: &Fabric,
        node: u32,
        name: &StreamName,
        indexes: Vec<SocketAddr>,
        terms: CacheTerms,
        seed: u64,
    ) -> CacheNode {
        let mut rng = Prng::new(seed);
        let knobs = CacheKnobs::default();
        CacheNode {
            node,
            addr: fabric.host(node).addr(),
            id: stream_id(name),
            name: name.clone(),
            indexes,
            terms,
            knobs,
            ring: Ring::default(),
            keys: Vec::new(),
            pulled: false,
            streams: Streams::new(knobs, 1),
            decided: Outbox::new(),
            asker: Asker::new(rng.next_u64() as u32),
            asked: Outbox::new(),
            questions: BTreeMap::new(),
            heard: false,
            others: Vec::new(),
            admission: Admission::new(Budget::default()),
            pull: None,
            conns: BTreeMap::new(),
            viewers: 0,
            ended: None,
            next_tick: Time::NEVER,
            ticks: 0,
            bytes_sent: 0,
            sent_before: [0; 4],
            rng,
        }
    }

    /// Begins to serve.
    pub(crate) fn start(&mut self, fabric: &mut Fabric) {
        self.report(fabric);
        self.arm(fabric);
    }

    /// The process is dead: all that was in its memory is gone, the ring stays.
    pub(crate) fn kill(&mut self) {
        self.pulled = self.streams.get(self.id).is_some_and(|stream| stream.is_pulled());
        self.streams = Streams::new(self.knobs, 1);
        self.decided = Outbox::new();
        self.asker = Asker::new(self.rng.next_u64() as u32);
        self.asked = Outbox::new();
        self.questions.clear();
        self.heard = false;
        self.others.clear();
        self.admission = Admission::new(Budget::default());
        self.pull = None;
        self.conns.clear();
        self.viewers = 0;
        self.ended = None;
        self.next_tick = Time::NEVER;
    }

    /// A process begins that takes the ring over.
    pub(crate) fn restart(&mut self, fabric: &mut Fabric) {
        self.take_over(fabric);
        let head = self.ring.newest().map(|slot| slot.seq);
        fabric.fact(Fact::Restarted { node: self.node, head });
        self.start(fabric);
    }

    /// It was to be called now.
    pub(crate) fn tick(&mut self, fabric: &mut Fabric) {
        if self.next_tick <= fabric.now {
            fabric.fact(Fact::Woken { node: self.node });
            self.on_tick(fabric);
            self.arm(fabric);
        }
    }

    /// After a standstill.
    pub(crate) fn go_on(&mut self, fabric: &mut Fabric) {
        self.on_tick(fabric);
        self.arm(fabric);
    }

    fn arm(&mut self, fabric: &mut Fabric) {
        self.next_tick = fabric.now.after(TICK);
        fabric.at(self.next_tick, Event::Tick { node: self.node });
    }

    pub(crate) fn datagram(&mut self, fabric: &mut Fabric, from: SocketAddr, datagram: &Datagram) {
        self.on_datagram(fabric, from, datagram);
        self.settle(fabric);
    }

    /// Something came on a link.
    pub(crate) fn on_link(&mut self, fabric: &mut Fabric, link: u32, side: usize, what: What) {
        match what {
            What::Syn => {
                self.conns.insert(link, Conn::New);
                fabric.answer_dial(link, true);
            }
            What::SynAck => self.parent_connected(fabric, link),
            What::Closed => self.closed(fabric, link),
            What::Chunk { chunk, content } => match self.conns.get(&link) {
                Some(Conn::Parent) => self.chunk_of_parent(fabric, link, chunk, content),
                Some(Conn::Publisher(_)) => self.chunk_of_publisher(fabric, link, chunk, content),
                _ => self.drop_link(fabric, link, side),
            },
            What::Frame { frame, .. } => self.on_frame(fabric, link, *frame),
            What::News { seq } => self.on_frame(fabric, link, news(seq)),
        }
        self.settle(fabric);
    }

    fn on_frame(&mut self, fabric: &mut Fabric, link: u32, frame: Frame) {
        match self.conns.get(&link) {
            Some(Conn::New) => self.greeted(fabric, link, frame),
            Some(Conn::Viewer(_)) => self.viewer_said(fabric, link, frame),
            Some(Conn::Publisher(_)) => self.publisher_said(fabric, link, frame),
            Some(Conn::Parent) => self.parent_said(fabric, link, frame),
            None => {}
        }
    }

    /// A connection is over, by the other side.
    fn closed(&mut self, fabric: &mut Fabric, link: u32) {
        match self.conns.remove(&link) {
            Some(Conn::Parent) => self.parent_lost(fabric, link),
            Some(Conn::Publisher(upload)) => self.publisher_lost(fabric, &upload),
            Some(Conn::Viewer(_)) => self.viewers -= 1,
            Some(Conn::New) | None => {}
        }
    }

    /// Ends a connection from our side.
    fn drop_link(&mut self, fabric: &mut Fabric, link: u32, side: usize) {
        let gone = self.conns.remove(&link);
        self.viewers -= u32::from(matches!(gone, Some(Conn::Viewer(_))));
        fabric.close(link, side);
    }

    /// Says something to who connected to us.
    fn say(&mut self, fabric: &mut Fabric, link: u32, frame: impl Into<Frame>) {
        fabric.send(link, 1, frame.into());
    }

    /// The links that it has.
    pub(crate) fn links(&self) -> impl Iterator<Item = u32> + '_ {
        self.conns.keys().copied()
    }
}
