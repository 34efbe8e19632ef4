//! Where a sink begins: at a key frame, with the tables in front.
//!
//! From there on it gets every chunk's transport stream whole and without tables, so that the bytes are those that were
//! published. A stream in which no join point comes for long (no video, a key frame once a minute) is begun at tables,
//! and at last anywhere: a player then finds its own way.

use bytes::Bytes;

use crate::net::framing::Chunk;

/// Chunks without a join point after which tables are enough. Our guess: 5 s, a long distance between key frames.
const PATIENCE_CHUNKS: u32 = 25;

/// Chunks without tables after which a sink begins anywhere: tables come at least every 25 chunks.
const PATIENCE_CHUNKS_MAX: u32 = 2 * PATIENCE_CHUNKS;

/// One sink's beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Starter {
    begun: bool,
    passed: u32,
}

/// What a sink writes for a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Tables, in front of the first chunk only.
    pub(crate) tables: Option<Bytes>,
    /// Transport stream.
    pub(crate) stream: Bytes,
}

impl Starter {
    /// What to write for the next chunk; `None` before the beginning.
    pub(crate) fn next(&mut self, chunk: &Chunk) -> Option<Piece> {
        let stream = chunk.transport_stream();
        if self.begun {
            return Some(Piece { tables: None, stream });
        }
        let tables = chunk.header.tables_len > 0;
        let key_frame = chunk.header.key_frame.filter(|_| tables);
        if key_frame.is_none() && self.passed < if tables { PATIENCE_CHUNKS } else { PATIENCE_CHUNKS_MAX } {
            self.passed += 1;
            return None;
        }
        self.begun = true;
        let tables = tables.then(|| chunk.tables());
        Some(Piece { tables, stream: stream.slice(key_frame.unwrap_or(0) as usize..) })
    }

    /// Begins anew at the next join point: chunks were left out.
    pub(crate) fn restart(&mut self) {
        *self = Starter::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chunk, chunk_with};

    /// What a sink writes for `chunks`, joined.
    fn written(starter: &mut Starter, chunks: &[Chunk]) -> String {
        let pieces = chunks.iter().filter_map(|chunk| starter.next(chunk));
        let bytes = pieces.flat_map(|piece| [piece.tables.unwrap_or_default(), piece.stream].concat());
        String::from_utf8(bytes.collect()).expect("test chunks are text")
    }

    #[test]
    fn tables_then_from_the_key_frame_on_then_whole_without_tables() {
        let tables = "T".repeat(188);
        let chunks = [chunk(1, 3), chunk_with(2, 188, Some(3), 6), chunk_with(3, 188, Some(0), 3), chunk(4, 3)];
        assert_eq!(written(&mut Starter::default(), &chunks), format!("{tables}...<3><4>"));
    }

    #[test]
    fn a_key_frame_without_tables_is_no_beginning() {
        let chunks = [chunk_with(1, 0, Some(0), 3), chunk_with(2, 188, Some(0), 3)];
        assert!(written(&mut Starter::default(), &chunks).ends_with("T<2>"));
    }

    #[test]
    fn without_key_frames_tables_are_enough_after_a_while() {
        let mut chunks: Vec<_> = (0..u64::from(PATIENCE_CHUNKS)).map(|seq| chunk_with(seq, 188, None, 4)).collect();
        assert_eq!(written(&mut Starter::default(), &chunks), "");
        chunks.push(chunk_with(77, 188, None, 4));
        assert!(written(&mut Starter::default(), &chunks).ends_with("T<77>"));
    }

    #[test]
    fn without_tables_it_begins_at_last() {
        let chunks: Vec<_> = (0..=u64::from(PATIENCE_CHUNKS_MAX)).map(|seq| chunk(seq, 4)).collect();
        assert_eq!(written(&mut Starter::default(), &chunks), "<50>");
    }

    #[test]
    fn after_a_gap_it_waits_for_a_key_frame_again() {
        let mut starter = Starter::default();
        assert!(written(&mut starter, &[chunk_with(1, 188, Some(0), 3)]).ends_with("<1>"));
        starter.restart();
        assert!(written(&mut starter, &[chunk(5, 3), chunk_with(6, 188, Some(0), 3)]).ends_with("T<6>"));
    }
}
