//! How much memory a ring needs for given streams. The plan of [`Layout`] turned round: from what is to be kept to the
//! budget. Nothing is allocated.

use super::error::RingError;
use super::layout::{CHUNK_ALIGN, Layout, PREFIX_BYTES, SEGMENT_BYTES};

/// Segments that a stream holds at the most while `window_chunks` chunks of `payload_bytes` each stay readable: those that
/// the window lies in when it is worst placed, and one more, because a segment is taken before the oldest one is given up.
///
/// `payload_bytes` is at most [`CHUNK_PAYLOAD_BYTES_MAX`](crate::limits::CHUNK_PAYLOAD_BYTES_MAX); no chunk crosses two
/// segments.
pub fn segments_of_stream(payload_bytes: u64, window_chunks: u64) -> u64 {
    let chunk = (PREFIX_BYTES as u64 + payload_bytes).next_multiple_of(CHUNK_ALIGN);
    let fit = (SEGMENT_BYTES / chunk).max(1);
    // The window's first chunk stands last in its segment.
    let spanned = window_chunks.saturating_sub(1).div_ceil(fit) + 1;
    spanned + 1
}

/// The least [`RingConfig::budget_bytes`](super::RingConfig::budget_bytes) whose ring has room for `segments` segments
/// beside the tables for `streams_max` streams of `retain_chunks` chunks.
///
/// Errors: [`RingError::Config`] with the number that no ring can have.
pub fn budget_bytes(segments: u64, streams_max: u64, retain_chunks: u64) -> Result<u64, RingError> {
    let mut budget = segments.saturating_mul(SEGMENT_BYTES);
    loop {
        match Layout::plan(budget, streams_max, retain_chunks) {
            Ok(layout) if u64::from(layout.segments) >= segments => return Ok(layout.file_bytes()),
            Ok(layout) => budget += (segments - u64::from(layout.segments)) * SEGMENT_BYTES,
            // Too small for the tables alone: the least that is allowed is a better guess.
            Err(RingError::Config { key: "budget_bytes", got, min, max }) if got < min && min <= max => budget = min,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_two_megabit_takes_eight_segments() {
        // 50 000 + 152 = 50 152, on the next cache line 50 176; 2 097 152 / 50 176 = 41.8, so 41 in a segment.
        // 256 chunks, the first of them last in its segment: (40 + 255) / 41 = 7.2, and one begun: 8; one to spare: 9.
        assert_eq!(segments_of_stream(50_000, 256), 9);
        // The largest chunk: 1 048 576 + 152 leaves room for one in a segment.
        assert_eq!(segments_of_stream(1 << 20, 256), 257);
        assert_eq!(segments_of_stream(50_000, 1), 2);
    }

    #[test]
    fn the_budget_is_the_least_that_suffices() {
        for (segments, streams, retain) in [(2, 1, 1), (9, 1, 256), (900, 100, 256), (20_000, 16_384, 256)] {
            let budget = budget_bytes(segments, streams, retain).expect("a ring can be so large");
            let segments_in = |budget| Layout::plan(budget, streams, retain).map(|layout| u64::from(layout.segments));
            assert_eq!(segments_in(budget), Ok(segments), "{segments} segments in {budget} bytes");
            assert_ne!(segments_in(budget - SEGMENT_BYTES).unwrap_or(0), segments);
        }
        assert!(budget_bytes(10, 0, 256).is_err());
        assert!(budget_bytes(u64::MAX / SEGMENT_BYTES, 1, 256).is_err());
    }
}
