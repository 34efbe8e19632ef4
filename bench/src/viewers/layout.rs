//! Where the generator's chunks lie in its stream: found by generating it once more.
//!
//! ```text
//!  stream    | 0 .................. | 260 ................ | 532 ...      packets, by their numbers
//!  chunk       0                      1                      2            200 ms each
//!  first       0                      260                    532
//!  over HTTP [tables] chunk 0         chunk 1       [tables] chunk 2      copies stand in front of join points
//! ```

use anyhow::Result;

use cache_core::limits::TS_PACKET_BYTES;
use cache_core::media::generator::{Stamp, StampFault};
use cache_core::media::packet::{Packet, Pid, SYNC_BYTE};

use crate::publish::{GENERATED_TAG, Source};

/// The PID of the generator's PMT.
const PMT_PID: Pid = Pid(0x1000);

/// Chunks that are generated to find one: a day's.
const CHUNKS_MAX: usize = 24 * 3_600 * 5;

/// One packet.
pub(super) type PacketBytes = [u8; TS_PACKET_BYTES];

/// A chunk's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its first packet.
    pub(crate) first: u64,
    /// Its packets, copies of tables not among them.
    pub(crate) packets: u64,
    /// Copies of tables in front of it.
    pub(crate) copies: u64,
    /// Its first packets that are tables themselves.
    pub(crate) lead: u64,
}

impl Place {
    /// The chunk's bytes as they come, copies included.
    pub(crate) fn bytes(&self) -> u64 {
        (self.copies + self.packets) * TS_PACKET_BYTES as u64
    }
}

/// The places of chunks from the first one on.
#[derive(Debug)]
pub(crate) struct Layout {
    source: Source,
    with_copies: bool,
    places: Vec<Place>,
}

impl Layout {
    /// Of the generator's stream at `kbps`, with copies of tables in front of chunks or without.
    pub(crate) fn new(kbps: u64, with_copies: bool) -> Layout {
        Layout { source: Source::generated(kbps), with_copies, places: Vec::new() }
    }

    /// The place of chunk `number`; `None` for one that is more than a day away. Cost: about 0.1 ms of generating for
    /// each chunk that nobody has asked for before, in order (our guess).
    pub(crate) fn place(&mut self, number: u64) -> Option<Place> {
        let number = usize::try_from(number).ok().filter(|number| *number < CHUNKS_MAX)?;
        while self.places.len() <= number {
            let place = self.next().ok()?;
            self.places.push(place);
        }
        Some(self.places[number])
    }

    fn next(&mut self) -> Result<Place> {
        let slice = self.source.next()?;
        let (packets, _) = slice.stream_bytes().as_chunks::<TS_PACKET_BYTES>();
        let copies = if self.with_copies { usize::from(slice.tables_len) / TS_PACKET_BYTES } else { 0 };
        Ok(Place {
            first: self.places.last().map_or(0, |last| last.first + last.packets),
            packets: packets.len() as u64,
            copies: copies as u64,
            lead: packets.iter().take_while(|packet| is_table(packet)).count() as u64,
        })
    }
}

/// What a packet of the generated stream says of itself; `None` for any other.
pub(super) fn stamp(packet: &PacketBytes) -> Option<Stamp> {
    let stamp: Result<Stamp, StampFault> = Stamp::read(packet);
    stamp.ok().filter(|stamp| packet[0] == SYNC_BYTE && stamp.tag == GENERATED_TAG)
}

/// Whether a packet is of the PAT or the PMT.
pub(super) fn is_table(packet: &PacketBytes) -> bool {
    matches!(Packet(packet).pid(), Pid::PAT | PMT_PID)
}

/// Where the first packet of the generated stream begins in `bytes`.
pub(super) fn align(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|at| bytes[*at..].first_chunk().is_some_and(|packet| stamp(packet).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_each_other_as_the_stream_does() {
        let (mut source, mut layout) = (Source::generated(2_000), Layout::new(2_000, true));
        let mut next = 0;
        for number in 0..60 {
            let slice = source.next().expect("generated");
            let place = layout.place(number).expect("within a day");
            assert_eq!((place.first, place.bytes()), (next, slice.payload.len() as u64));
            let (packets, _) = slice.stream_bytes().as_chunks();
            for (packet, counter) in packets.iter().zip(next..) {
                let stamp = stamp(packet).expect("a generated packet");
                assert_eq!(stamp.counter, counter);
                // The tables of a picture stand in front of its clock, and so at the end of the chunk before.
                assert!(is_table(packet) || stamp.media.micros() / 200_000 == number);
            }
            next += place.packets;
        }
        assert_eq!(layout.place(u64::MAX), None);
    }

    #[test]
    fn a_packet_is_found_wherever_it_begins() {
        let slice = Source::generated(500).next().expect("generated");
        let bytes = [&[0x47; 100], slice.stream_bytes()].concat();
        assert_eq!(align(&bytes), Some(100));
        assert_eq!(align(&bytes[..250]), None);
    }
}
