//! Units as types. A [`ChunkSeq`] has `next` and `since` and no `+`, so that a count of chunks cannot be taken for a
//! name of one; `BitRate x Span` is a [`ByteCount`].

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Length of a chunk of media: 200 ms (paper, section 3.2.1).
pub const CHUNK_SPAN: Span = Span::from_millis(200);

/// A chunk's sequence number within its stream: 64 bits inside every program, 16 bits only as the base of a buffer
/// map on the wire. It goes on across epochs of the publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkSeq(u64);

impl ChunkSeq {
    /// The first chunk of a stream that never ran before.
    pub const FIRST: ChunkSeq = ChunkSeq(0);

    /// The chunk with number `seq`.
    pub const fn new(seq: u64) -> ChunkSeq {
        ChunkSeq(seq)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The chunk after this one.
    pub const fn next(self) -> ChunkSeq {
        ChunkSeq(self.0.saturating_add(1))
    }

    /// The chunk `count` later.
    pub const fn ahead(self, count: u64) -> ChunkSeq {
        ChunkSeq(self.0.saturating_add(count))
    }

    /// The chunk `count` earlier, [`ChunkSeq::FIRST`] at the least.
    pub const fn back(self, count: u64) -> ChunkSeq {
        ChunkSeq(self.0.saturating_sub(count))
    }

    /// How many chunks after `earlier` this is; `None` when it is before it.
    pub const fn since(self, earlier: ChunkSeq) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// The low 16 bits, as a buffer map's base carries them.
    pub const fn wire16(self) -> u16 {
        self.0 as u16
    }

    /// The sequence number nearest to `reference` whose low 16 bits are `wire` (serial-number arithmetic over
    /// +-32 768 chunks, about 1 h 49 m each way). Near 0, where the nearest would be negative, the next one up.
    pub const fn from_wire16(wire: u16, reference: ChunkSeq) -> ChunkSeq {
        let forward = wire.wrapping_sub(reference.0 as u16) as i16 as i64;
        match reference.0.checked_add_signed(forward) {
            Some(seq) => ChunkSeq(seq),
            // Before the stream's start: the same low bits one lap later.
            None => ChunkSeq(reference.0.wrapping_add_signed(forward).wrapping_add(1 << 16)),
        }
    }
}

impl std::fmt::Display for ChunkSeq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A stream's id: the first 8 bytes, big-endian, of BLAKE3 over its name ([`crate::sign::stream_id`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u64);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A publisher's term on a stream. The index server grants a greater one each time; a greater one fences the lesser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A domain: the caches and peers that share an index. The route server's configuration numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DomainId(pub u16);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ByteCount(pub u64);

/// A rate in bits per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BitRate(pub u64);

impl BitRate {
    /// `kbps` thousand bits per second.
    pub const fn from_kbps(kbps: u64) -> BitRate {
        BitRate(kbps.saturating_mul(1_000))
    }

    /// What flows at this rate during `span`, rounded down.
    pub const fn over(self, span: Span) -> ByteCount {
        ByteCount(((self.0 as u128 * span.micros() as u128) / 8_000_000) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_survives_the_sixteen_bit_wrap() {
        for reference in [0u64, 5, 32_767, 32_768, 65_535, 65_536, 1 << 40] {
            for distance in [-32_768i64, -300, -1, 0, 1, 255, 32_767] {
                let Some(seq) = reference.checked_add_signed(distance) else { continue };
                let seq = ChunkSeq::new(seq);
                assert_eq!(ChunkSeq::from_wire16(seq.wire16(), ChunkSeq::new(reference)), seq);
            }
        }
    }

    #[test]
    fn a_base_from_before_the_start_is_read_one_lap_later() {
        assert_eq!(ChunkSeq::from_wire16(65_535, ChunkSeq::new(3)), ChunkSeq::new(65_535));
    }

    #[test]
    fn two_megabit_for_a_chunk_is_fifty_kilobytes() {
        assert_eq!(BitRate::from_kbps(2_000).over(CHUNK_SPAN), ByteCount(50_000));
    }
}
