//! Which segment is filled next, what happens to one that is leased, and what the kernel still sends from one that
//! was filled again. In the drawings a pair of chunks (two halves) is a segment.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use cache_core::ring::{Lookup, PREFIX_BYTES, Recycle, Ring, RingError, RingStats};
use ring_common::*;
use rustix::fs::SealFlags;

fn assert_levels(ring: &Ring, free: u64, in_use: u64, quarantined: u64, retired: u64) -> RingStats {
    let stats = ring.stats();
    let levels = (stats.segments_free, stats.segments_in_use, stats.segments_quarantined, stats.segments_retired);
    assert_eq!(levels, (free, in_use, quarantined, retired), "free, in use, quarantined, retired");
    stats
}

#[test]
fn free_segments_go_first_then_the_streams_own_expired_ones() {
    let (mut writer, ring, reader) = ring(6, |_| ());
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..12);
    // Retained are 8: the first two segments have expired, and nothing was done about it.
    assert_eq!(drawn(&reader, stream, 0..13), "....########>");
    assert_eq!(assert_levels(&ring, 0, 6, 0, 0).recycled, 0);
    publish_halves(&mut writer, stream, 12..100);
    assert_eq!(drawn(&reader, stream, 90..101), "..########>");
    let stats = assert_levels(&ring, 0, 6, 0, 0);
    assert_eq!((stats.recycled, stats.evicted, stats.quarantined), (44, 0, 0));
}

#[test]
fn an_expired_segment_of_another_stream_goes_before_a_retained_one() {
    let (mut writer, ring, reader) = ring(6, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    publish_halves(&mut writer, b, 0..8);
    publish_halves(&mut writer, a, 0..3);
    // In the room that is left in its second segment a jumps ahead: all of its first one has expired.
    assert_eq!(publish(&mut writer, a, meta(100, 1_000)), Ok(true));
    publish_halves(&mut writer, b, 8..9);
    assert_eq!(drawn(&reader, b, 0..10), ".########>");
    assert_eq!((drawn(&reader, a, 99..102).as_str(), ring.stats().evicted), (".#>", 0));
}

#[test]
fn the_segments_of_a_closed_stream_go_before_any_expired_one() {
    let (mut writer, ring, reader) = ring(6, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    publish_halves(&mut writer, b, 0..10);
    publish_halves(&mut writer, a, 0..1);
    let of_a = ready(&reader, a, 0);
    assert_eq!(reader.lookup(b.slot, seq(1)), Lookup::Gone);
    writer.close_stream(a.slot);
    publish_halves(&mut writer, b, 10..11);
    assert!(!reader.valid(&of_a));
    assert_eq!((drawn(&reader, b, 2..12).as_str(), ring.stats().evicted), (".########>", 0));
}

#[test]
fn a_node_that_is_too_small_loses_its_oldest_segment_whole() {
    let (mut writer, ring, reader) = ring(4, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    publish_halves(&mut writer, a, 0..4);
    publish_halves(&mut writer, b, 0..4);
    publish_halves(&mut writer, b, 4..6);
    assert_eq!((drawn(&reader, a, 0..5).as_str(), drawn(&reader, b, 0..7).as_str()), ("..##>", "######>"));
    // a's only segment is its newest: it stays, b pays for itself.
    publish_halves(&mut writer, b, 6..8);
    assert_eq!((drawn(&reader, a, 0..5).as_str(), drawn(&reader, b, 0..9).as_str()), ("..##>", "..######>"));
    assert_eq!(ring.stats().evicted, 2);
}

#[test]
fn a_stream_alone_against_newest_segments_goes_on_with_a_short_memory() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    publish_halves(&mut writer, a, 0..2);
    publish_halves(&mut writer, b, 0..2);
    publish_halves(&mut writer, a, 2..3);
    assert_eq!((drawn(&reader, a, 0..4).as_str(), drawn(&reader, b, 0..3).as_str()), ("..#>", "##>"));
    assert_eq!(ring.stats().evicted, 1);
}

#[test]
fn what_was_evicted_may_come_again() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..5);
    assert_eq!(drawn(&reader, stream, 0..6), "..###>");
    assert_eq!(publish(&mut writer, stream, meta(1, 1_000)), Ok(true));
    assert_eq!(drawn(&reader, stream, 0..6), ".####>");
}

#[test]
fn a_stream_for_which_there_is_no_segment_is_told_so_and_counted() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let [a, b, c] = [1, 2, 3].map(|id| open(&mut writer, id));
    publish_halves(&mut writer, a, 0..1);
    publish_halves(&mut writer, b, 0..1);
    assert_eq!(publish(&mut writer, c, meta(0, 100)), Err(RingError::NoSpace));
    assert_eq!(ring.stats().no_space, 1);
    assert_eq!((drawn(&reader, a, 0..2).as_str(), drawn(&reader, b, 0..2).as_str()), ("#>", "#>"));
    writer.close_stream(a.slot);
    assert_eq!(publish(&mut writer, c, meta(0, 100)), Ok(true));
}

#[test]
fn a_leased_segment_is_put_into_quarantine_and_comes_back() {
    let (mut writer, ring, reader) = ring(2, |config| (config.retain_chunks, config.recycle) = (1, Recycle::InPlace));
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..2);
    let chunk = ready(&reader, stream, 1);
    let lease = reader.lease(&chunk).expect("there");
    publish_halves(&mut writer, stream, 2..4);
    // Due is the first segment, but it is leased; so the newest pays, and the writer does not wait.
    publish_halves(&mut writer, stream, 4..6);
    let stats = assert_levels(&ring, 0, 1, 1, 0);
    assert_eq!((stats.quarantined, stats.evicted), (1, 1));
    assert!(!reader.valid(&chunk), "its time has come");
    assert!(reader.lease(&chunk).is_none(), "no further lease of it begins");
    assert_fill(reader.bytes(&lease), stream.id, &chunk);
    reader.release(lease);
    publish_halves(&mut writer, stream, 6..8);
    assert_eq!(assert_levels(&ring, 0, 2, 0, 0).quarantined, 1);
    assert_eq!(drawn(&reader, stream, 5..9), "..#>");
}

#[test]
fn of_expired_segments_the_one_that_nobody_leases_goes_first() {
    let (mut writer, ring, reader) = ring(3, |config| config.retain_chunks = 1);
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..1);
    let oldest = ready(&reader, stream, 0);
    let lease = reader.lease(&oldest).expect("there");
    publish_halves(&mut writer, stream, 1..12);
    assert_eq!(assert_levels(&ring, 0, 3, 0, 0).quarantined, 0);
    assert!(reader.valid(&oldest));
    reader.release(lease);
}

#[test]
fn when_all_is_leased_one_segment_at_a_time_is_given_up() {
    let (mut writer, ring, reader) = ring(3, |_| ());
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..6);
    let leases: Vec<_> = (0..6).map(|n| reader.lease(&ready(&reader, stream, n)).expect("there")).collect();
    assert_eq!(publish(&mut writer, stream, meta(6, HALF)), Err(RingError::NoSpace));
    assert_eq!(drawn(&reader, stream, 0..7), "..####>");
    assert_levels(&ring, 0, 2, 1, 0);
    leases.into_iter().for_each(|lease| reader.release(lease));
    publish_halves(&mut writer, stream, 6..8);
    assert_eq!(drawn(&reader, stream, 0..9), "..######>");
    assert_levels(&ring, 0, 3, 0, 0);
}

#[test]
fn a_stream_that_gave_its_own_segment_up_does_not_write_to_it() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    publish_halves(&mut writer, a, 0..1);
    publish_halves(&mut writer, b, 0..1);
    assert_eq!(publish(&mut writer, a, meta(1, 1_000)), Ok(true));
    let lease = reader.lease(&ready(&reader, a, 0)).expect("there");
    assert_eq!(publish(&mut writer, a, meta(2, (1 << 20) - 1)), Err(RingError::NoSpace));
    // A small one would fit behind what was there: it is no longer a's to fill.
    assert_eq!(publish(&mut writer, a, meta(2, 1_000)), Err(RingError::NoSpace));
    assert_levels(&ring, 0, 1, 1, 0);
    reader.release(lease);
    assert_eq!(publish(&mut writer, a, meta(2, 1_000)), Ok(true));
    assert_eq!(drawn(&reader, a, 0..4), "..#>");
}

#[test]
fn a_segment_with_a_reservation_is_left_alone_even_when_its_stream_is_closed() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let (a, b) = (open(&mut writer, 1), open(&mut writer, 2));
    let mut held = writer.reserve(a.slot, PREFIX_BYTES + HALF).expect("room");
    writer.close_stream(a.slot);
    for n in 0..20 {
        publish_halves(&mut writer, b, n..n + 1);
        writer.bytes_mut(&mut held).fill(0xee);
        assert_eq!(drawn(&reader, b, n..n + 2), "#>");
    }
    assert_eq!(ring.stats().quarantined, 0);
    drop(held);
    publish_halves(&mut writer, b, 20..24);
    assert_eq!(drawn(&reader, b, 20..25), "####>");
}

#[test]
fn pages_that_cannot_be_renewed_retire_their_segment() {
    let (mut writer, ring, reader) = ring(3, |config| config.retain_chunks = 1);
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..6);
    // With this seal the kernel refuses to punch, and mappings that are there go on writing.
    rustix::fs::fcntl_add_seals(ring.file(), SealFlags::FUTURE_WRITE).expect("a memfd can be sealed");
    // All are tried, in vain, and the chunk is dropped; what was there is gone with them.
    assert_eq!(publish(&mut writer, stream, meta(6, HALF)), Err(RingError::NoSpace));
    let stats = assert_levels(&ring, 0, 0, 0, 3);
    assert_eq!((stats.no_space, stats.recycled), (1, 0));
    assert_eq!(drawn(&reader, stream, 0..7), "......>");
}

/// Sends chunk 0 with sendfile to a peer that does not read, fills its segment again with chunks of other bytes, and
/// returns how many of the bytes that the peer then reads are wrong.
fn wrong_bytes_after_sendfile(recycle: Recycle) -> usize {
    let (mut writer, ring, reader) = ring(2, |config| (config.retain_chunks, config.recycle) = (1, recycle));
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..1);
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (socket, _) = listener.accept().expect("connected");

    let chunk = ready(&reader, stream, 0);
    let lease = reader.lease(&chunk).expect("there");
    let mut offset = chunk.file_offset;
    let sent = rustix::fs::sendfile(&socket, ring.file(), Some(&mut offset), 64 << 10).expect("room in the socket");
    reader.release(lease);
    drop(socket);

    publish_halves(&mut writer, stream, 1..8);
    assert!(ring.stats().recycled > 0);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("loopback");
    assert_eq!(received.len(), sent);
    received.iter().filter(|byte| **byte != fill_of(stream.id, 0)).count()
}

#[test]
fn what_sendfile_queued_survives_the_segments_reuse() {
    assert_eq!(wrong_bytes_after_sendfile(Recycle::Punch), 0);
}

/// The test above can fail: without fresh pages the queued bytes change on their way.
#[test]
fn without_fresh_pages_what_sendfile_queued_is_overwritten() {
    assert!(wrong_bytes_after_sendfile(Recycle::InPlaceUnprotected) > 0);
    assert!(wrong_bytes_after_sendfile(Recycle::InPlace) > 0, "a lease that ends with the call is not enough");
}

#[test]
fn unprotected_reuse_ignores_leases() {
    let (mut writer, ring, reader) =
        ring(2, |config| (config.retain_chunks, config.recycle) = (1, Recycle::InPlaceUnprotected));
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..1);
    let chunk = ready(&reader, stream, 0);
    let lease = reader.lease(&chunk).expect("there");
    publish_halves(&mut writer, stream, 1..6);
    assert!(!reader.valid(&chunk));
    assert_levels(&ring, 0, 2, 0, 0);
    reader.release(lease);
}
