//! The buffer map: which chunks of its window a peer holds (paper, section 3.2.1).
//!
//! 34 bytes on the wire: the low 16 bits of the first slot's sequence number, then 256 bits, slot 0 first, the most
//! significant bit of a byte first.

use bitvec::array::BitArray;
use bitvec::order::Lsb0;

use super::codec::{DecodeError, Reader, Wire};
use crate::limits::WINDOW_CHUNKS;
use crate::units::ChunkSeq;

/// Bytes on the wire.
pub const BUFFER_MAP_BYTES: usize = 34;

/// A window's first chunk and one bit for each of its 256 slots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BufferMap {
    base: ChunkSeq,
    bits: BitArray<[u64; 4], Lsb0>,
}

/// A buffer map as it was received: the base is 16 bits until a reference near it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireBufferMap {
    base: u16,
    bits: [u8; 32],
}

impl BufferMap {
    /// An empty window that begins at `base`.
    pub const fn new(base: ChunkSeq) -> BufferMap {
        BufferMap { base, bits: BitArray { _ord: std::marker::PhantomData, data: [0; 4] } }
    }

    /// The chunk of slot 0.
    pub const fn base(&self) -> ChunkSeq {
        self.base
    }

    /// The first chunk behind the window.
    pub const fn end(&self) -> ChunkSeq {
        self.base.ahead(WINDOW_CHUNKS)
    }

    /// The slot of `seq`; `None` outside the window.
    pub fn slot(&self, seq: ChunkSeq) -> Option<usize> {
        seq.since(self.base).filter(|slot| *slot < WINDOW_CHUNKS).map(|slot| slot as usize)
    }

    /// Whether `seq` is held; outside the window nothing is.
    pub fn holds(&self, seq: ChunkSeq) -> bool {
        self.slot(seq).is_some_and(|slot| self.bits[slot])
    }

    /// Marks `seq` as held or not. False, and nothing changed, when it is outside the window.
    pub fn set(&mut self, seq: ChunkSeq, held: bool) -> bool {
        let slot = self.slot(seq);
        if let Some(slot) = slot {
            self.bits.set(slot, held);
        }
        slot.is_some()
    }

    /// Moves the window to begin at `base`: what falls out is forgotten, what comes in is not held. Moving back is
    /// allowed (a player that was rewound) and forgets in the same way.
    pub fn slide_to(&mut self, base: ChunkSeq) {
        match (base.since(self.base), self.base.since(base)) {
            (Some(forward), _) if forward < WINDOW_CHUNKS => self.bits.shift_start(forward as usize),
            (_, Some(back)) if back < WINDOW_CHUNKS => self.bits.shift_end(back as usize),
            _ => self.bits.fill(false),
        }
        self.base = base;
    }

    /// Which of the 64 chunks from `seq` on are held, `seq` in the lowest bit; outside the window nothing is.
    pub fn held_from(&self, seq: ChunkSeq) -> u64 {
        let Some(slot) = self.slot(seq) else {
            let before = self.base.since(seq).filter(|gap| *gap < 64);
            return before.map_or(0, |gap| self.bits.data[0] << gap);
        };
        let (word, shift) = (slot / 64, slot % 64);
        let next = self.bits.data.get(word + 1).copied().unwrap_or(0);
        if shift == 0 { self.bits.data[word] } else { self.bits.data[word] >> shift | next << (64 - shift) }
    }

    /// The bits, slot 0 the lowest of the first word.
    pub const fn words(&self) -> &[u64; 4] {
        &self.bits.data
    }

    /// How many chunks are held.
    pub fn count(&self) -> usize {
        self.bits.count_ones()
    }

    /// The held chunks, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = ChunkSeq> + '_ {
        self.bits.iter_ones().map(|slot| self.base.ahead(slot as u64))
    }

    /// How many slots from the first on are held without a gap.
    pub fn leading(&self) -> usize {
        self.bits.leading_ones()
    }

    /// The newest chunk held.
    pub fn newest(&self) -> Option<ChunkSeq> {
        self.bits.last_one().map(|slot| self.base.ahead(slot as u64))
    }

    /// As it goes on the wire.
    pub fn to_wire(&self) -> WireBufferMap {
        let mut bits = [0; 32];
        for (word, eight) in self.bits.data.iter().zip(bits.chunks_exact_mut(8)) {
            eight.copy_from_slice(&word.reverse_bits().to_be_bytes());
        }
        WireBufferMap { base: self.base.wire16(), bits }
    }

    /// From the wire, its base read as the one nearest to `reference`.
    pub fn from_wire(wire: &WireBufferMap, reference: ChunkSeq) -> BufferMap {
        let mut map = BufferMap::new(ChunkSeq::from_wire16(wire.base, reference));
        for (word, eight) in map.bits.data.iter_mut().zip(wire.bits.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*eight).reverse_bits();
        }
        map
    }
}

/// Drawn: `#` held, `.` not, up to the newest held chunk.
impl std::fmt::Debug for BufferMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[", self.base)?;
        for slot in 0..self.bits.last_one().map_or(0, |last| last + 1) {
            f.write_str(if self.bits[slot] { "#" } else { "." })?;
        }
        f.write_str("]")
    }
}

impl Wire for WireBufferMap {
    fn put(&self, out: &mut Vec<u8>) {
        self.base.put(out);
        self.bits.put(out);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(WireBufferMap { base: u16::take(r)?, bits: r.array()? })
    }
}

const _: () = assert!(WINDOW_CHUNKS as usize == 4 * u64::BITS as usize);
