//! One reading of a ring.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cache_core::ring::{BoardView, ChunkMeta, Lookup, RingObserver, RingStats, StreamSlot, StreamView};
use cache_core::time::{Span, WallClock};
use cache_core::units::{ChunkSeq, StreamId};

/// Tries to read a board while its node lays it out, which takes microseconds.
const TRIES: usize = 50;

/// All that is read at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The moment, for differences.
    pub(super) at: Instant,
    /// The moment, for ages.
    pub(super) wall: WallClock,
    pub(super) board: BoardView,
    pub(super) ring: RingStats,
    pub(super) file_bytes: u64,
    pub(super) streams: Vec<StreamSample>,
}

/// A stream at that moment.
#[derive(Clone, Debug)]
pub(super) struct StreamSample {
    pub(super) id: StreamId,
    /// Tells streams of one id apart.
    pub(super) slot: StreamSlot,
    pub(super) facts: StreamView,
    pub(super) head: Option<ChunkSeq>,
    pub(super) oldest: Option<ChunkSeq>,
    /// From the oldest chunk's start to the newest one's end, by the publisher's clock.
    pub(super) kept: Span,
}

impl Sample {
    /// Reads everything; an error when the board stays unreadable.
    pub(super) fn take(observer: &RingObserver, wall: WallClock, at: Instant) -> Result<Sample> {
        for _ in 0..TRIES {
            let Some(board) = observer.board() else {
                std::thread::park_timeout(Duration::from_millis(1));
                continue;
            };
            let streams = observer.streams().map(|(id, slot)| stream(observer, id, slot)).collect();
            let (ring, file_bytes) = (observer.stats(), observer.file_bytes());
            return Ok(Sample { at, wall, board, ring, file_bytes, streams });
        }
        bail!(
            "the ring's board is being laid out and does not get done: its node was killed at its start; start it again"
        )
    }
}

fn stream(observer: &RingObserver, id: StreamId, slot: StreamSlot) -> StreamSample {
    let (head, oldest) = (observer.head(slot), observer.oldest(slot));
    let meta = |seq: Option<ChunkSeq>| -> Option<ChunkMeta> {
        match observer.lookup(slot, seq?) {
            Lookup::Ready(chunk) => Some(chunk.meta),
            Lookup::NotYet | Lookup::Gone => None,
        }
    };
    let kept = match (meta(oldest), meta(head)) {
        (Some(oldest), Some(newest)) => {
            newest.published.since(oldest.published).plus(Span::from_millis(newest.duration_ms.into()))
        }
        _ => Span::ZERO,
    };
    StreamSample { id, slot, facts: observer.stream_facts(slot).unwrap_or_default(), head, oldest, kept }
}
