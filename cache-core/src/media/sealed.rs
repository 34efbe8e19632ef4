//! Chunks that are cut and not handed out yet: they wait until it is known whether a key frame begins in them, and
//! then get their tables.

use std::collections::VecDeque;

use super::slicer::Slice;
use crate::limits::TABLES_EVERY_CHUNKS;
use crate::outbox::Outbox;
use crate::time::WallClock;

/// A stretch of the stream that became a chunk.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Where it begins in the stream.
    pub(super) start: u64,
    /// Its packets.
    pub(super) bytes: Vec<u8>,
    /// The first key frame, if it is known, and the tables in force there.
    pub(super) key: Option<(u64, Vec<u8>)>,
    pub(super) duration_ms: u16,
    pub(super) discontinuity: bool,
    pub(super) published: WallClock,
}

/// The queue in front of the outbox: the parts of one cut at most, since the next cut empties it.
#[derive(Debug, Default)]
pub(super) struct SealedQueue {
    waiting: VecDeque<Sealed>,
    chunks_without_tables: u32,
    any_tables: bool,
}

impl SealedQueue {
    pub(super) fn push(&mut self, sealed: Sealed) {
        self.waiting.push_back(sealed);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A key frame begins at `at` of the stream, where `tables` are in force.
    pub(super) fn mark_key(&mut self, at: u64, tables: &[u8]) {
        let holds_it = |sealed: &&mut Sealed| (sealed.start..sealed.start + sealed.bytes.len() as u64).contains(&at);
        if let Some(sealed) = self.waiting.iter_mut().find(holds_it) {
            sealed.key.get_or_insert_with(|| (at, tables.to_vec()));
        }
    }

    /// Hands everything out. `newest` tables stand in front of what has no tables of its own and is due for some.
    pub(super) fn release(&mut self, newest: &[u8], out: &mut Outbox<Slice>) {
        for sealed in self.waiting.drain(..) {
            let due = !self.any_tables || self.chunks_without_tables + 1 >= TABLES_EVERY_CHUNKS;
            let tables = match &sealed.key {
                Some((_, tables)) if !tables.is_empty() => tables.as_slice(),
                Some(_) => newest,
                None if due => newest,
                None => &[],
            };
            self.chunks_without_tables = if tables.is_empty() { self.chunks_without_tables + 1 } else { 0 };
            self.any_tables |= !tables.is_empty();
            let mut payload = Vec::with_capacity(tables.len() + sealed.bytes.len());
            payload.extend_from_slice(tables);
            payload.extend_from_slice(&sealed.bytes);
            out.push(Slice {
                payload,
                tables_len: tables.len() as u16,
                key_frame: sealed.key.map(|(at, _)| (at - sealed.start) as u32),
                duration_ms: sealed.duration_ms,
                discontinuity: sealed.discontinuity,
                published: sealed.published,
            });
        }
    }
}
