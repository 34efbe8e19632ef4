//! The chunks that were verified in full, to compare the same chunk's arrival at every other viewer with.
//!
//! All viewers of a stream receive the same bytes, so the first arrival of a chunk is checked by signature and hash,
//! and every other one by comparison with it, byte for byte and header included. Both prove the same; the second is
//! cheap enough to do for every viewer.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use cache_core::media::PayloadCheck;
use cache_core::sign::{KeyRing, payload_hash, stream_id};
use cache_core::units::{Epoch, StreamId};
use cache_core::wire::{CHUNK_HEADER_BYTES, ChunkHeader, StreamName};

use super::layout::Layout;
use super::plan::Plan;
use super::sink::Uploaded;
use crate::measure::Checked;
use crate::options::key_ring;
use crate::publish::GENERATED_TAG;
use crate::timetable::{Times, Timetable};

/// Chunks kept: 12.8 s. A viewer farther behind than that has its chunks verified in full again.
const KEPT: usize = 64;

/// A chunk that was found right.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) header: [u8; CHUNK_HEADER_BYTES],
    pub(crate) payload: Vec<u8>,
}

/// By what a chunk is judged.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// The publishers' keys are known.
    Keys(KeyRing),
    /// They are not: stream and hash only, and the report says so.
    HashOnly,
}

/// The verified chunks of one stream.
#[derive(Debug)]
pub(crate) struct Library {
    stream: StreamId,
    trust: Trust,
    /// The earliest term whose key is known.
    first_term: Option<Epoch>,
    /// Whether the payload is the built-in generator's and must prove itself too.
    generated: bool,
    times: Option<Times>,
    /// When media time 0 of a generated stream was published: the publisher's own word, else the earliest that any
    /// arrival allows.
    origin_us: Option<u64>,
    chunks: HashMap<u64, Rc<Chunk>>,
    order: VecDeque<u64>,
    /// Publisher's clock by number, of every chunk that was found right. One entry for each 200 ms of the run.
    pub(crate) published: BTreeMap<u64, u64>,
    /// The newest entry, so that most need not be looked up.
    newest: Option<u64>,
    pub(crate) checked: Checked,
    /// Where the generator's chunks lie, once somebody asks.
    pub(crate) layout: Rc<RefCell<Layout>>,
}

impl Library {
    /// Of the plan's stream number `stream`, called `name`.
    pub(crate) fn new(
        plan: &Plan,
        stream: usize,
        name: &StreamName,
        times: Option<&Timetable>,
        layout: Rc<RefCell<Layout>>,
    ) -> Library {
        let times = times.map(|table| Times::new(table, stream));
        let stream = stream_id(name);
        let trust = match plan.keys.as_slice() {
            [] => Trust::HashOnly,
            keys => Trust::Keys(key_ring(stream, keys)),
        };
        Library {
            stream,
            trust,
            first_term: plan.keys.iter().map(|(epoch, _)| Epoch(*epoch)).min(),
            generated: plan.generated,
            origin_us: times.as_ref().and_then(Times::origin_us),
            times,
            chunks: HashMap::new(),
            order: VecDeque::new(),
            published: BTreeMap::new(),
            newest: None,
            checked: Checked::default(),
            layout,
        }
    }

    /// The publisher's timetable.
    pub(crate) fn times(&self) -> Option<&Times> {
        self.times.as_ref()
    }

    /// When the chunk that a native viewer sees as `seq` was uploaded.
    pub(crate) fn uploaded(&self, seq: u64) -> Uploaded {
        match self.times.as_ref().and_then(|times| times.number_of(seq)) {
            Some(number) => self.uploaded_number(number),
            None => Uploaded::Unknown,
        }
    }

    /// When the chunk with this number from the publication's beginning was uploaded.
    pub(crate) fn uploaded_number(&self, number: u64) -> Uploaded {
        match self.times.as_ref().and_then(|times| times.row(number)) {
            Some(row) => row.completed_us.map_or(Uploaded::JustNow, Uploaded::At),
            None => Uploaded::Unknown,
        }
    }

    /// Whether this chunk is an earlier publisher's: the last one before the stream that is measured. A viewer that joins
    /// at once is pushed it; it is neither due nor wrong.
    pub(crate) fn is_earlier(&self, header: &ChunkHeader) -> bool {
        self.first_term.is_some_and(|first| header.epoch < first)
    }

    /// The verified chunk with this number and the very same header.
    pub(crate) fn twin(&self, seq: u64, header: &[u8; CHUNK_HEADER_BYTES]) -> Option<Rc<Chunk>> {
        self.chunks.get(&seq).filter(|chunk| chunk.header == *header).cloned()
    }

    /// Judges a whole chunk and keeps it when it is right. A second chunk under a number that already has another is
    /// wrong, however well it is signed: a stream has one sequence.
    pub(crate) fn judge(&mut self, header: &ChunkHeader, bytes: &[u8; CHUNK_HEADER_BYTES], payload: Vec<u8>) -> bool {
        let seq = header.seq.get();
        let right = match &self.trust {
            Trust::Keys(keys) => keys.check(header, &payload).is_ok(),
            Trust::HashOnly => header.stream == self.stream && payload_hash(&payload) == header.hash,
        };
        let right = right && (!self.generated || proves_itself(header, &payload));
        if !right || self.chunks.get(&seq).is_some_and(|other| other.header != *bytes) {
            return false;
        }
        match &self.trust {
            Trust::Keys(_) => self.checked.by_signature += 1,
            Trust::HashOnly => self.checked.by_hash += 1,
        }
        self.note_published(seq, header.published.micros());
        if self.chunks.insert(seq, Rc::new(Chunk { header: *bytes, payload })).is_none() {
            self.order.push_back(seq);
            if self.order.len() > KEPT {
                self.order.pop_front().map(|oldest| self.chunks.remove(&oldest));
            }
        }
        true
    }

    /// When the chunk of a generated stream that ends at `media_end_us` of its media time was published, told from
    /// its arrival at `arrived_us` when the publisher does not say.
    pub(crate) fn media_published(&mut self, number: u64, media_end_us: u64, arrived_us: u64) -> u64 {
        let told = self.times.as_ref().and_then(Times::origin_us);
        if told.is_none() {
            let allows = arrived_us.saturating_sub(media_end_us);
            self.origin_us = Some(self.origin_us.map_or(allows, |origin| origin.min(allows)));
        }
        let published_us = self.origin_us.unwrap_or(arrived_us) + media_end_us;
        if told.is_none() {
            // The newest estimate is the best.
            self.published.insert(number, published_us);
        } else {
            self.note_published(number, published_us);
        }
        published_us
    }

    /// Notes a chunk of which only the header was read. False when that alone shows that it is wrong.
    pub(crate) fn note(&mut self, header: &ChunkHeader) -> bool {
        self.checked.not += 1;
        let right = header.stream == self.stream;
        if right {
            self.note_published(header.seq.get(), header.published.micros());
        }
        right
    }

    /// Notes when a chunk was published; what was noted first counts.
    pub(crate) fn note_published(&mut self, seq: u64, published_us: u64) {
        if self.newest != Some(seq) {
            self.published.entry(seq).or_insert(published_us);
            self.newest = Some(seq);
        }
    }
}

/// Whether every packet behind the tables carries the generator's stamp and checksum, in order.
fn proves_itself(header: &ChunkHeader, payload: &[u8]) -> bool {
    proves(&payload[usize::from(header.tables_len).min(payload.len())..])
}

/// Whether every packet carries the generator's stamp and checksum, in order.
pub(crate) fn proves(payload: &[u8]) -> bool {
    let mut check = PayloadCheck::new(GENERATED_TAG);
    check.push(payload);
    check.report().is_unharmed() && (payload.is_empty() || check.report().right > 0)
}
