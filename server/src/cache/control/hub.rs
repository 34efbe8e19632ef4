//! What all tasks of the control plane share, and how the decisions of the stream table are carried out. It owns no
//! algorithm: the table decides, the ring keeps, the tasks move bytes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use cache_core::proto::cache::config::CacheKnobs;
use cache_core::proto::cache::streams::{StreamOutput, Tenure};
use cache_core::proto::index::publish::PublishRules;
use cache_core::ring::{Ring, Row};
use cache_core::sign::{KeyRing, stream_id};
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::index::HoldState;
use cache_core::wire::{ChunkHeader, RefusalReason, StreamName};

use super::config::CacheConfig;
use super::counters::{Counter, Counters};
use super::huge::SlabFacts;
use super::index::IndexClient;
use super::link::Link;
use super::note::{Note, TakenOver};
use super::pull::{self, PullMail};
use super::room::NodeRoom;
use super::shards::Shards;
use super::store::{Store, Stored};
use super::wait::Mailbox;
use crate::cache::bridge::ToShard;
use crate::cache::data::ShardRow;
use crate::host::clock::Clock;

/// Who sends a stream's chunks, and how to send it away.
#[derive(Debug)]
pub(super) enum Source {
    /// A publisher's connection, of either protocol.
    Publisher(Rc<Link>),
    /// A pull's mailbox.
    Pull(Rc<PullMail>),
}

/// The shared state of one control plane. Borrows of its cells never last across an await.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) config: CacheConfig,
    pub(super) knobs: CacheKnobs,
    pub(super) clock: Clock,
    /// Where others reach this cache.
    pub(super) advertise: SocketAddr,
    pub(super) connections_max: u32,
    /// What the node has left for viewers.
    pub(super) room: NodeRoom,
    pub(super) store: RefCell<Store>,
    pub(super) ring: Ring,
    pub(super) slab: SlabFacts,
    pub(super) shards: Shards,
    /// Wakes who makes memory clean ahead of need.
    pub(super) untidy: Mailbox<()>,
    pub(super) shard_counters: Vec<ShardRow>,
    pub(super) counters: Row<Counters>,
    /// `None`: stand-alone.
    pub(super) index: Option<IndexClient>,
    /// Who may publish, stand-alone.
    pub(super) rules: PublishRules,
    /// Publishers' keys of the streams in the table.
    pub(super) keys: RefCell<BTreeMap<StreamId, KeyRing>>,
    pub(super) sources: RefCell<BTreeMap<Tenure, Source>>,
    /// Shards that wait for a stream's first chunk.
    pub(super) waiting: RefCell<BTreeMap<StreamName, BTreeSet<usize>>>,
    /// Connections that control has in hand.
    pub(super) sessions: Cell<usize>,
    /// Shards that have finished draining.
    pub(super) shards_stopped: Cell<usize>,
    pub(super) draining: Cell<bool>,
}

impl Hub {
    /// Stores a chunk of the source whose turn is `tenure` and wakes those who wait for it. `bytes_from` counts its
    /// payload.
    pub(super) fn append(&self, tenure: Tenure, header: &ChunkHeader, payload: &[u8], bytes_from: &Counter) -> Stored {
        let stored = self.store.borrow_mut().append(self.clock.now(), tenure, header, payload);
        match stored {
            Stored::Yes => {
                self.counters.chunks_stored.one();
                bytes_from.add(payload.len() as u64);
                self.shards.published(self.clock.now(), header.stream, &self.counters);
                if self.store.borrow().is_untidy() {
                    // There is one message at the most, and it stands for all.
                    let _ = self.untidy.put(());
                }
            }
            Stored::Duplicate => self.counters.chunks_duplicate.one(),
            Stored::Fenced => self.counters.chunks_fenced.one(),
            Stored::NoMemory => self.counters.chunks_without_memory.one(),
            Stored::OutOfRange => self.counters.chunks_out_of_range.one(),
        }
        self.settle();
        stored
    }

    /// A shard's viewers of a stream.
    pub(super) fn viewers_of(&self, shard: usize, stream: StreamId, count: u32, lowest: Option<ChunkSeq>) {
        if self.shards.watches(shard, stream, count > 0, &self.counters)
            && let Some(last) = self.ended(stream)
        {
            self.shards.tell(shard, ToShard::Ended { stream, last }, &self.counters);
        }
        let number = u16::try_from(shard).unwrap_or(u16::MAX);
        self.store.borrow_mut().viewers(self.clock.now(), number, stream, count, lowest);
    }

    /// The last chunk of a stream that is over, or was forgotten a moment ago; shards without viewers have not heard of it.
    fn ended(&self, stream: StreamId) -> Option<ChunkSeq> {
        match self.store.borrow().streams.held(stream) {
            Some(held) if held.state == HoldState::Ended => Some(held.head),
            Some(_) => None,
            None => Some(ChunkSeq::FIRST),
        }
    }

    /// A stream's publisher has these keys now: they check what comes, and the next process will know them.
    pub(super) fn set_keys(&self, id: StreamId, keys: KeyRing) {
        self.keys.borrow_mut().insert(id, keys);
        self.note(id);
    }

    /// Notes in the ring what the next process must know of a stream of the table.
    pub(super) fn note(&self, id: StreamId) {
        let keys = self.keys.borrow().get(&id).map(KeyRing::to_wire).unwrap_or_default();
        let store = &mut *self.store.borrow_mut();
        let note = store.streams.get(id).map(|stream| Note::of(stream, keys));
        if let Some(note) = note {
            store.note(id, &note);
        }
    }

    /// Goes on with the streams of the process before this one. Those that were pulled are pulled again, the others
    /// wait for their publishers.
    pub(super) fn take_over(self: &Rc<Self>, streams: Vec<TakenOver>) {
        for stream in streams {
            let (id, was) = (stream.id, stream.was.clone());
            let mut keys = KeyRing::new(id);
            keys.replace(&stream.keys);
            self.store.borrow_mut().take_over(self.clock.now(), stream);
            if self.store.borrow().streams.get(id).is_none() {
                continue;
            }
            tracing::info!(stream = %was.name, head = %was.head, next = %was.next, "taken over");
            self.set_keys(id, keys);
            if was.pulled && !was.end && self.index.is_some() && pull::begin(self, &was.name, Vec::new(), &[]).is_err()
            {
                tracing::warn!(stream = %was.name, "is not fetched any more");
            }
        }
        self.settle();
    }

    /// A source's link is closed.
    pub(super) fn source_gone(&self, id: StreamId, tenure: Tenure) {
        self.sources.borrow_mut().remove(&tenure);
        let store = &mut *self.store.borrow_mut();
        store.streams.source_gone(self.clock.now(), id, tenure, &mut store.out);
    }

    /// Carries out what the table has decided.
    pub(super) fn settle(&self) {
        loop {
            let decided: Vec<StreamOutput> = self.store.borrow_mut().out.drain().collect();
            if decided.is_empty() {
                return;
            }
            for output in decided {
                self.carry_out(output);
            }
        }
    }

    fn carry_out(&self, output: StreamOutput) {
        match output {
            StreamOutput::Ready(id) => {
                let name = self.store.borrow().streams.get(id).map(|stream| stream.name().clone());
                if let Some(name) = name {
                    self.answer(&name, || ToShard::StreamReady { name: name.clone(), stream: id });
                }
            }
            StreamOutput::Changed(id) => {
                let held = self.store.borrow().streams.held(id);
                let Some(held) = held else { return };
                tracing::info!(stream = %id, state = ?held.state, "stream");
                if let Some(index) = &self.index {
                    index.tell_streams(self.advertise, vec![held]);
                }
            }
            StreamOutput::Dismiss { tenure, .. } => match self.sources.borrow_mut().remove(&tenure) {
                Some(Source::Publisher(link)) => link.shut_down(),
                Some(Source::Pull(mail)) => pull::dismiss(&mail),
                None => {}
            },
            StreamOutput::Ended { stream, last } => {
                self.shards.tell_all(|| ToShard::Ended { stream, last }, &self.counters);
            }
            StreamOutput::Forgotten { name, held } => {
                let id = held.stream;
                self.store.borrow_mut().close(id);
                self.keys.borrow_mut().remove(&id);
                self.answer_refused(&name, RefusalReason::UnknownStream);
                if let Some(index) = &self.index {
                    index.tell_streams(self.advertise, vec![held]);
                }
            }
        }
    }

    /// A shard wants a stream for its viewers.
    pub(super) fn want(self: &Rc<Self>, shard: usize, name: StreamName) {
        self.counters.wants.one();
        let id = stream_id(&name);
        let refuse = |reason| {
            self.shards.tell(shard, ToShard::StreamRefused { name: name.clone(), reason }, &self.counters);
        };
        if self.draining.get() {
            return refuse(RefusalReason::Draining);
        }
        let (ready, known) = {
            let store = self.store.borrow();
            (store.streams.is_ready(id), store.streams.get(id).is_some())
        };
        if ready {
            let ready = ToShard::StreamReady { name: name.clone(), stream: id };
            return self.shards.tell(shard, ready, &self.counters);
        }
        if !known {
            if self.index.is_none() {
                return refuse(RefusalReason::UnknownStream);
            }
            if let Err(reason) = pull::begin(self, &name, Vec::new(), &[]) {
                return refuse(reason);
            }
        }
        self.waiting.borrow_mut().entry(name).or_default().insert(shard);
    }

    /// Tells the shards that wait for `name` that they wait in vain.
    pub(super) fn answer_refused(&self, name: &StreamName, reason: RefusalReason) {
        self.answer(name, || ToShard::StreamRefused { name: name.clone(), reason });
    }

    fn answer(&self, name: &StreamName, message: impl Fn() -> ToShard) {
        let shards = self.waiting.borrow_mut().remove(name).unwrap_or_default();
        for shard in shards {
            self.shards.tell(shard, message(), &self.counters);
        }
    }

    /// Connections of all shards now.
    pub(super) fn connections(&self) -> u32 {
        let open: u64 = self.shard_counters.iter().map(|counters| counters.connections.get()).sum();
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// The busiest shard's share of time at work.
    pub(super) fn busy_permille(&self) -> u16 {
        let busiest = self.shard_counters.iter().map(|counters| counters.busy_permille.get()).max().unwrap_or(0);
        u16::try_from(busiest).unwrap_or(1_000)
    }

    /// Whether every shard refuses joins: the index is told that this cache is full.
    pub(super) fn refuses_joins(&self) -> bool {
        !self.shard_counters.is_empty() && self.shard_counters.iter().all(|counters| counters.admission.get() != 0)
    }

    /// Viewers of all shards now.
    pub(super) fn viewers(&self) -> u32 {
        let of = |counters: &ShardRow| counters.viewers_native.get() + counters.viewers_http.get();
        u32::try_from(self.shard_counters.iter().map(of).sum::<u64>()).unwrap_or(u32::MAX)
    }
}
