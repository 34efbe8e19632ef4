//! What a viewer is sent next.
//!
//! ```text
//!  oldest                    head
//!  |#############.###########|                   what the ring holds of a stream ('.' a gap), seen as [`Holdings`]
//!        ^ next chunk of a push                  behind by head - next; too far behind: skips ahead
//!            ^^ ^  ^^        ..   chunks asked for; those above the head are parked until they are published
//! ```
//! | who | machine |
//! |---|---|
//! | a viewer over Weircast's protocol, one per stream of its connection | [`Track`] |
//! | a viewer over HTTP | [`Playout`] |
//!
//! Both are asked "what next?" whenever the connection takes bytes again or the stream has grown, and answer with the
//! name of one chunk or one message; the driver (`server::cache::data`) resolves names to slots and sends. A chunk
//! once named is sent whole or the connection ends: skipping happens between chunks only.
//!
//! Not decided here: whether a connection has stalled (the driver sees its progress) and who may connect.

mod playout;
mod track;

pub use playout::{Playout, PlayoutNext};
pub use track::{Answer, Next, Track};

use crate::limits::WINDOW_CHUNKS;
use crate::units::ChunkSeq;

/// Most chunks that one connection may have asked for and not been sent: two windows (our guess: a peer asks for what
/// its window lacks, and may ask again when it has moved). Over it the answer is `Busy`.
pub const OUTSTANDING_CHUNKS_MAX: u32 = 512;

/// How far above the head a chunk may be asked for: one window; what is farther is refused with `NotYet`.
pub const AHEAD_CHUNKS_MAX: u64 = WINDOW_CHUNKS;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// In the ring.
    Ready,
    /// Above the head.
    NotYet,
    /// No longer there, or never published.
    Gone,
}

/// What the ring holds of one stream, at the moment of asking.
pub trait Holdings {
    /// The newest chunk; `None` before the first.
    fn head(&self) -> Option<ChunkSeq>;
    /// The oldest chunk that is kept.
    fn oldest(&self) -> Option<ChunkSeq>;
    /// Where chunk `seq` is.
    fn held(&self, seq: ChunkSeq) -> Held;
    /// The newest chunk at or below `head - back` where a decoder can begin (tables and a key frame), else the first
    /// one above.
    fn join_point(&self, back: u64) -> Option<ChunkSeq>;
    /// Whether chunk `seq` is there and carries tables.
    fn has_tables(&self, seq: ChunkSeq) -> bool;
}

/// How patient a cache is with a viewer that falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Chunks that a push may fall behind where it began before it skips ahead.
    pub skip_behind_chunks: u64,
}

/// Where a viewer that wants to be `back` chunks behind the head begins: the join point nearest below, else the next
/// above, else the head. `None` when nothing was published.
pub fn begin(holdings: &impl Holdings, back: u64) -> Option<ChunkSeq> {
    let head = holdings.head()?;
    Some(holdings.join_point(back).unwrap_or(head))
}

/// The first chunk from `from` up to the head that is in the ring.
fn first_ready(holdings: &impl Holdings, from: ChunkSeq) -> Option<ChunkSeq> {
    let head = holdings.head()?;
    let mut seq = from.max(holdings.oldest()?);
    while seq <= head {
        if holdings.held(seq) == Held::Ready {
            return Some(seq);
        }
        seq = seq.next();
    }
    None
}

/// Where a push whose next chunk is `next` stands: there, or at the head when it is so far behind that it will skip.
fn committed(next: ChunkSeq, behind_max: u64, head: ChunkSeq) -> ChunkSeq {
    if head.since(next).is_some_and(|behind| behind > behind_max) { head } else { next }
}

/// A ring drawn as a string, for tests: `#` a chunk, `t` one with tables, `K` a join point, `.` a gap.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Drawn {
    first: u64,
    chunks: Vec<u8>,
}

#[cfg(test)]
impl Drawn {
    /// The drawing's first character is chunk `first`.
    pub(crate) fn at(first: u64, drawing: &str) -> Drawn {
        Drawn { first, chunks: drawing.bytes().collect() }
    }

    pub(crate) fn publish(&mut self, drawing: &str) {
        self.chunks.extend(drawing.bytes());
    }

    pub(crate) fn forget_below(&mut self, first: u64) {
        let count = (first.saturating_sub(self.first) as usize).min(self.chunks.len());
        self.chunks.drain(..count);
        self.first = first;
    }

    fn mark(&self, seq: ChunkSeq) -> u8 {
        let at = seq.get().checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.chunks.get(at)).copied().unwrap_or(b' ')
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = (ChunkSeq, u8)> {
        let first = self.first;
        self.chunks.iter().enumerate().map(move |(i, mark)| (ChunkSeq::new(first + i as u64), *mark))
    }
}

#[cfg(test)]
impl Holdings for Drawn {
    fn head(&self) -> Option<ChunkSeq> {
        self.all().rev().find(|(_, mark)| *mark != b'.').map(|(seq, _)| seq)
    }
    fn oldest(&self) -> Option<ChunkSeq> {
        self.all().find(|(_, mark)| *mark != b'.').map(|(seq, _)| seq)
    }
    fn held(&self, seq: ChunkSeq) -> Held {
        match self.mark(seq) {
            b'#' | b't' | b'K' => Held::Ready,
            _ if self.head().is_none_or(|head| seq > head) => Held::NotYet,
            _ => Held::Gone,
        }
    }
    fn join_point(&self, back: u64) -> Option<ChunkSeq> {
        let most = self.head()?.back(back);
        let joins = || self.all().filter(|(_, mark)| *mark == b'K').map(|(seq, _)| seq);
        joins().rfind(|seq| *seq <= most).or_else(|| joins().next())
    }
    fn has_tables(&self, seq: ChunkSeq) -> bool {
        matches!(self.mark(seq), b't' | b'K')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_needs_what_it_has_asked_for_and_what_it_will_be_pushed() {
        let ring = Drawn::at(0, &"K".repeat(100));
        let (head, patience) = (ChunkSeq::new(99), Patience { skip_behind_chunks: 25 });
        let mut track = Track::new();
        assert_eq!(track.needs_from(head), None);
        track.subscribe(ChunkSeq::new(90), &ring, patience);
        assert_eq!(track.needs_from(head), Some(ChunkSeq::new(90)));
        track.request(ChunkSeq::new(40), 2, 10, &ring, |_| ());
        assert_eq!(track.needs_from(head), Some(ChunkSeq::new(40)));
        while track.next(&ring, patience) != Next::Idle {}
        assert_eq!(track.needs_from(head), Some(ChunkSeq::new(100)));
        assert_eq!(track.needs_from(ChunkSeq::new(134)), Some(ChunkSeq::new(100)), "within its patience");
        assert_eq!(track.needs_from(ChunkSeq::new(135)), Some(ChunkSeq::new(135)), "it will skip to the newest");

        let mut playout = Playout::new(5);
        assert_eq!(playout.needs_from(head), None);
        assert_eq!(playout.next(&ring, patience), PlayoutNext::Begin(ChunkSeq::new(94)));
        assert_eq!(playout.needs_from(head), Some(ChunkSeq::new(95)));
    }

    #[test]
    fn a_viewer_begins_at_the_nearest_join_point_below_else_above_else_at_the_head() {
        let begin = |drawing, back| begin(&Drawn::at(100, drawing), back).map(ChunkSeq::get);
        assert_eq!(begin("K###K###", 0), Some(104));
        assert_eq!(begin("K###K###", 4), Some(100), "103 is wanted; 100 is the nearest below");
        assert_eq!(begin("####K###", 5), Some(104), "none below 102: the next above");
        assert_eq!(begin("########", 3), Some(107));
        assert_eq!(begin("", 3), None);
    }
}
