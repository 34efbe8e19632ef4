//! The stamp in every generated packet.
//!
//! ```text
//!  +-------+-----------+---------------+------------+
//!  | tag 8 | counter 8 | media time 8  | checksum 8 |    big-endian; media time in microseconds
//!  +-------+-----------+---------------+------------+
//! ```
//! It stands at the start of a null packet's payload, and in every other packet in the adaptation field, as private
//! data, behind the PCR if there is one. The checksum is over the packet with the checksum's own bytes zero; it finds
//! accidents, not forgeries.

use super::super::packet::{Packet, Pid};
use crate::limits::TS_PACKET_BYTES;
use crate::prng::mix;
use crate::time::Span;

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 32;

const CHECKSUM_AT: usize = 24;

/// Adaptation field flags.
pub(super) const FLAG_PRIVATE: u8 = 0x02;
pub(super) const FLAG_PCR: u8 = 0x10;

/// What a packet says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The stream.
    pub tag: u64,
    /// The packet's number in it.
    pub counter: u64,
    /// When its frame is due.
    pub media: Span,
}

/// Why a packet is not as it was generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampFault {
    /// There is no stamp: no packet of a generated stream, or a damaged one.
    Missing,
    /// Some byte of the packet is another.
    Checksum,
}

type Bytes = [u8; TS_PACKET_BYTES];

impl Stamp {
    /// Stamps a packet that is complete but for the [`STAMP_BYTES`] at `place`.
    pub(super) fn write(&self, packet: &mut Bytes, place: usize) {
        let fields = [self.tag, self.counter, self.media.micros(), 0];
        for (field, value) in packet[place..place + STAMP_BYTES].chunks_exact_mut(8).zip(fields) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        let sum = checksum(packet);
        packet[place + CHECKSUM_AT..place + STAMP_BYTES].copy_from_slice(&sum.to_be_bytes());
    }

    /// The stamp of `packet`, proven right with all its bytes. Cost: two copies' worth of time, no allocation.
    pub fn read(packet: &Bytes) -> Result<Stamp, StampFault> {
        let place = place(packet).ok_or(StampFault::Missing)?;
        let stamp: [u8; STAMP_BYTES] = *packet[place..].first_chunk().ok_or(StampFault::Missing)?;
        let field = |i: usize| stamp.as_chunks::<8>().0.get(i).map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let mut cleared = *packet;
        cleared[place + CHECKSUM_AT..place + STAMP_BYTES].fill(0);
        if checksum(&cleared) != field(3) {
            return Err(StampFault::Checksum);
        }
        Ok(Stamp { tag: field(0), counter: field(1), media: Span::from_micros(field(2)) })
    }
}

fn place(packet: &Bytes) -> Option<usize> {
    if Packet(packet).pid() == Pid::NULL {
        return Some(4);
    }
    let [_, _, _, control, len, flags, ..] = *packet;
    let pcr = if flags & FLAG_PCR != 0 { 6 } else { 0 };
    let private = 6 + pcr;
    let fits = usize::from(len) > 1 + pcr + STAMP_BYTES;
    let stamped = control & 0x20 != 0 && fits && flags & FLAG_PRIVATE != 0;
    (stamped && usize::from(packet[private]) == STAMP_BYTES).then_some(private + 1)
}

/// Two lanes of multiply and rotate over eight bytes each; every step is one to one, so no single change of a word
/// goes unseen.
fn checksum(packet: &Bytes) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let (pairs, tail) = packet.as_chunks::<16>();
    let step = |lane: u64, word: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        (lane.rotate_left(23) ^ u64::from_le_bytes(bytes)).wrapping_mul(ODD)
    };
    let (mut even, mut odd) = pairs.iter().fold((1, 2), |(even, odd), pair| {
        let (first, second) = pair.split_at(8);
        (step(even, first), step(odd, second))
    });
    let (first, second) = tail.split_at(8);
    even = step(even, first);
    odd = step(odd, second);
    mix(even ^ mix(odd))
}
