//! What things take, in the servers' own numbers. None is repeated here: each is a constant or function of cache-core, or
//! follows from one.

use cache_core::limits::CHUNK_PAYLOAD_BYTES_MAX;
use cache_core::proto::cache::admission::{
    DESCRIPTORS_RESERVED, MEMORY_RESERVE_MIB, VIEWER_MEMORY_BYTES, source_memory_bytes,
};
use cache_core::ring::{PREFIX_BYTES, RingError, budget_bytes, segments_of_stream};
use cache_core::sign::ClusterKey;
use cache_core::units::{BitRate, CHUNK_SPAN};
use cache_core::wire::datagram::Message;
use cache_core::wire::{Datagram, datagram::Cookie};

/// Chunks of a stream in a second.
pub const CHUNKS_PER_S: f64 = 1_000.0 / CHUNK_SPAN.millis() as f64;

/// The fastest stream, in kbit/s: more does not fit into a chunk.
pub const KBPS_MAX: u64 = CHUNK_PAYLOAD_BYTES_MAX as u64 * 8 / CHUNK_SPAN.millis();

/// Node numbers of one area: the field has 16 bits.
pub const PEERS_PER_AREA: u64 = 1 << 16;

/// Memory of a link of a cache to a viewer, in bytes, as its admission books it.
pub const LINK_BYTES: u64 = VIEWER_MEMORY_BYTES;

/// Memory that a cache leaves free, in bytes.
pub const RESERVE_BYTES: u64 = MEMORY_RESERVE_MIB << 20;

/// Descriptors that a cache needs beside one for each link.
pub const DESCRIPTORS_BESIDE: u64 = DESCRIPTORS_RESERVED;

/// Share of an Ethernet line that is TCP's payload: 1448 of the 1538 bytes that a full frame occupies (1500 of IP, 18 of
/// Ethernet, 20 of preamble and gap; IPv4 and TCP with time stamps take 52).
pub const LINE_SHARE: f64 = 1_448.0 / 1_538.0;

/// Bytes of UDP, IPv4 and Ethernet around a datagram on the line.
pub const DATAGRAM_AROUND: u64 = 8 + 20 + 38;

/// Payload of a chunk at a constant rate.
pub fn payload_bytes(kbps: f64) -> u64 {
    BitRate::from_kbps(kbps.max(0.0).round() as u64).over(CHUNK_SPAN).0
}

/// A chunk as it is sent: head, header, payload.
pub fn chunk_bytes(kbps: f64) -> u64 {
    PREFIX_BYTES as u64 + payload_bytes(kbps)
}

/// Memory of a cache's link to a stream's publisher, or to the cache that it is pulled from, in bytes, at the most.
pub fn source_bytes(kbps: f64) -> u64 {
    source_memory_bytes(payload_bytes(kbps))
}

/// Bits per second that one copy of a stream occupies on the line.
pub fn line_bps(kbps: f64) -> f64 {
    chunk_bytes(kbps) as f64 * 8.0 * CHUNKS_PER_S / LINE_SHARE
}

/// Segments that the ring holds for a stream.
pub fn segments(kbps: f64, window_chunks: u64) -> u64 {
    segments_of_stream(payload_bytes(kbps), window_chunks)
}

/// The ring's file: segments and tables. Errors: no ring can be so large.
pub fn ring_bytes(segments: u64, streams: u64, window_chunks: u64) -> Result<u64, RingError> {
    budget_bytes(segments.max(2), streams.max(1), window_chunks)
}

/// A message as a datagram on the line, in bytes.
pub fn datagram_bytes(message: Message) -> u64 {
    let datagram = Datagram { exchange: 0, cookie: Cookie::default(), message };
    let packet = datagram.encode(&ClusterKey::derive("sizes"));
    packet.map_or(cache_core::limits::DATAGRAM_BYTES_MAX, |packet| packet.len()) as u64 + DATAGRAM_AROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_megabit_is_five_chunks_of_fifty_kilobytes_a_second() {
        assert_eq!((CHUNKS_PER_S, payload_bytes(2_000.0), chunk_bytes(2_000.0)), (5.0, 50_000, 50_152));
        // 50 152 bytes x 8 x 5 = 2 006 080 bit/s, and 1538/1448 of that on the line.
        assert_eq!(line_bps(2_000.0).round(), (2_006_080.0_f64 * 1_538.0 / 1_448.0).round());
        assert_eq!(KBPS_MAX, 41_943);
    }
}
