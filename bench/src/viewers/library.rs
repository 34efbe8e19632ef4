//! The chunks that were verified in full, to compare the same chunk's arrival at every other viewer with.
//!
//! All viewers of a stream receive the same bytes, so the first arrival of a chunk is checked by signature and hash,
//! and every other one by comparison with it, byte for byte and header included. Both prove the same; the second is
//! cheap enough to do for every viewer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use cache_core::media::PayloadCheck;
use cache_core::sign::{KeyRing, payload_hash};
use cache_core::units::{Epoch, StreamId};
use cache_core::wire::{CHUNK_HEADER_BYTES, ChunkHeader};

use crate::measure::Checked;
use crate::publish::GENERATED_TAG;

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
    HashOnly(StreamId),
}

/// The verified chunks of one stream.
#[derive(Debug)]
pub(crate) struct Library {
    trust: Trust,
    /// The earliest term whose key is known.
    first_term: Option<Epoch>,
    /// Whether the payload is the built-in generator's and must prove itself too.
    generated: bool,
    /// When media time 0 of a generated stream was published: the tool's own schedule, else the earliest that any
    /// arrival allows.
    origin_us: Option<u64>,
    origin_is_known: bool,
    chunks: HashMap<u64, Rc<Chunk>>,
    order: VecDeque<u64>,
    /// Publisher's clock by number, of every chunk that was found right. One entry for each 200 ms of the run.
    pub(crate) published: BTreeMap<u64, u64>,
    pub(crate) checked: Checked,
}

impl Library {
    pub(crate) fn new(trust: Trust, generated: bool, origin_us: Option<u64>) -> Library {
        let first_term = match &trust {
            Trust::Keys(keys) => keys.to_wire().iter().map(|key| key.epoch).min(),
            Trust::HashOnly(_) => None,
        };
        Library {
            trust,
            first_term,
            generated,
            origin_us,
            origin_is_known: origin_us.is_some(),
            chunks: HashMap::new(),
            order: VecDeque::new(),
            published: BTreeMap::new(),
            checked: Checked::default(),
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
            Trust::HashOnly(stream) => header.stream == *stream && payload_hash(&payload) == header.hash,
        };
        let right = right && (!self.generated || proves_itself(header, &payload));
        if !right || self.chunks.get(&seq).is_some_and(|other| other.header != *bytes) {
            return false;
        }
        match &self.trust {
            Trust::Keys(_) => self.checked.by_signature += 1,
            Trust::HashOnly(_) => self.checked.by_hash += 1,
        }
        self.published.insert(seq, header.published.micros());
        if self.chunks.insert(seq, Rc::new(Chunk { header: *bytes, payload })).is_none() {
            self.order.push_back(seq);
            if self.order.len() > KEPT {
                self.order.pop_front().map(|oldest| self.chunks.remove(&oldest));
            }
        }
        true
    }

    /// When the chunk of a generated stream that ends at `media_end_us` of its media time was published, told from
    /// its arrival at `arrived_us`.
    pub(crate) fn media_published(&mut self, number: u64, media_end_us: u64, arrived_us: u64) -> u64 {
        if !self.origin_is_known {
            let allows = arrived_us.saturating_sub(media_end_us);
            self.origin_us = Some(self.origin_us.map_or(allows, |origin| origin.min(allows)));
        }
        let published_us = self.origin_us.unwrap_or(arrived_us) + media_end_us;
        self.published.insert(number, published_us);
        published_us
    }

    /// Notes a chunk that nobody verifies.
    pub(crate) fn note(&mut self, header: &ChunkHeader) {
        self.checked.not += 1;
        self.published.entry(header.seq.get()).or_insert(header.published.micros());
    }
}

/// Whether every packet behind the tables carries the generator's stamp and checksum, in order.
fn proves_itself(header: &ChunkHeader, payload: &[u8]) -> bool {
    let mut check = PayloadCheck::new(GENERATED_TAG);
    check.push(&payload[usize::from(header.tables_len).min(payload.len())..]);
    check.report().is_unharmed() && (payload.is_empty() || check.report().right > 0)
}
