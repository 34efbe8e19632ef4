//! The most dangerous line of the project: a slot is filled again while the kernel may still read it.
//!
//! A reader stops in the middle of a chunk; every segment of the ring is filled again several times; the reader reads
//! on. Not one wrong byte may arrive: what comes is right, or the connection is cut. For each way of sending the same
//! is done with that way's protection taken out, and then wrong bytes do arrive.
//!
//! | way | protection | taken out by |
//! |---|---|---|
//! | sendfile | fresh pages for every reuse (punch) | reuse in place |
//! | zero-copy, registered | the lease until the notification | reuse in place, leases or not |
//! | auto, while zero-copy | the lease until the notification, fresh pages | reuse in place, leases or not |
//! | auto, fallen back to sendfile | fresh pages | reuse in place |
//! | copy | the lease during each call, and none for what is gone | reuse in place, leases or not |

mod shard_support;

use std::io::Read;
use std::net::TcpStream;

use cache_core::ring::{Lookup, Recycle};
use cache_core::time::Span;
use cache_core::wire::{FRAME_HEAD_BYTES, FrameHead, KIND_CHUNK};
use shard_support::*;
use socket2::{Domain, Socket, Type};
use weircast_server::cache::data::SendBackend;

/// Two of them fill a segment.
const BIG: Kind = Kind { packets: 5_500, tables: 0, key_frame: None, end: false };
/// What the reader reads before it stops: the middle of the first chunk's beginning.
const HALF_READ: usize = 1_000;
/// Chunks that are published before the reader stops, and asked for.
const ASKED: u16 = 6;

/// What arrived of the chunks 1.. as they were published.
struct Arrived {
    bytes: usize,
    wrong: usize,
}

/// The frames of chunks 1..=ASKED, as they stand in their slots before they are overwritten.
fn published(source: &Source) -> Vec<u8> {
    let reader = source.ring.reader(3).expect("a reader of the test's own");
    let mut all = Vec::new();
    for number in 1..=u64::from(ASKED) {
        let Lookup::Ready(chunk) = reader.lookup(source.slot, seq(number)) else { panic!("chunk {number} is there") };
        let lease = reader.lease(&chunk).expect("it is there");
        all.extend_from_slice(reader.bytes(&lease));
        reader.release(lease);
    }
    all
}

/// A connection whose receive queue is small, so that most of what is sent waits at the sender.
fn narrow(connect: impl FnOnce(&Socket)) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a socket");
    connect(&socket);
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG)).expect("a socket");
    Client(stream)
}

/// Fills every segment again, several times over.
fn overwrite_everything(source: &mut Source) {
    let segments = source.ring.stats().segments_in_use + source.ring.stats().segments_free;
    let mut number = u64::from(ASKED);
    while source.ring.stats().recycled < 4 * segments {
        number += 1;
        source.publish(number, BIG);
    }
}

/// Reads chunks until the connection is cut, or says that the others are gone.
fn read_on(client: &mut Client, got: &mut Vec<u8>) {
    let mut part = vec![0; 1 << 16];
    loop {
        if let Some(end) = first_message(got) {
            got.truncate(end);
            return;
        }
        match client.0.read(&mut part) {
            Ok(0) => return,
            Ok(count) => got.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the shard said nothing: {error}"),
        }
    }
}

/// Where the first frame that is no chunk begins.
fn first_message(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let head = FrameHead::decode(bytes.get(at..)?.first_chunk::<FRAME_HEAD_BYTES>()?).ok()?;
        if head.kind != KIND_CHUNK {
            return Some(at);
        }
        at += FRAME_HEAD_BYTES + head.body_len;
    }
}

fn compare(got: &[u8], wanted: &[u8]) -> Arrived {
    let wrong = got.iter().zip(wanted).filter(|(a, b)| a != b).count();
    Arrived { bytes: got.len(), wrong: wrong + got.len().saturating_sub(wanted.len()) }
}

/// Whether zero-copy sends go on although the kernel copies, as it does on loopback.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copied {
    GoesOn,
    FallsBack,
}

/// The whole story, on a shard.
fn stop_overwrite_read_on(send: SendBackend, recycle: Recycle, copied: Copied) -> Arrived {
    let mut source = Source::new(18, recycle);
    source.publish(0, PLAIN);
    for number in 1..=u64::from(ASKED) {
        source.publish(number, BIG);
    }
    let wanted = published(&source);
    let mut stage = Stage::on(source, |config| {
        config.send = send;
        config.zero_copy_despite_copies = copied == Copied::GoesOn;
        config.stall_cutoff = Span::from_secs(600);
    });
    let mut client = narrow(|socket| socket.connect(&stage.addr.into()).expect("the shard listens"));
    client.send(hello(cache_core::wire::exchange::Role::Viewer));
    client.frame();
    let info = client.open("news", 0);
    let counters = stage.shard.counters.clone();
    assert_eq!(counters.zero_copy_registered.get(), u64::from(send == SendBackend::SendZc));
    if copied == Copied::FallsBack {
        client.request(info.stream, &[(0, 1)]);
        assert_eq!(client.chunk(), 0);
        until("the kernel says that it copies", || counters.zero_copy_fallbacks.get() == 1);
        assert_eq!(counters.zero_copy_copied_permille.get(), 1000);
    }
    client.request(info.stream, &[(1, ASKED)]);
    let mut got = vec![0; HALF_READ];
    assert!(client.fill(&mut got), "the first chunk begins");
    until("the socket is full", || counters.sends_blocked.get() > 0);

    overwrite_everything(&mut stage.source);
    read_on(&mut client, &mut got);
    let ends = counters.cut_recycled.get() + counters.chunks_unavailable.get();
    assert!(ends > 0, "the rest of the half-sent chunk was gone, or the chunks behind it");
    drop(client);
    stage.stop();
    compare(&got, &wanted)
}

fn assert_right(send: SendBackend, recycle: Recycle, copied: Copied) {
    let arrived = stop_overwrite_read_on(send, recycle, copied);
    assert_eq!(arrived.wrong, 0, "of {} bytes", arrived.bytes);
    assert!(arrived.bytes > 4 * HALF_READ, "the reader has read on: {} bytes", arrived.bytes);
}

fn assert_wrong(send: SendBackend, recycle: Recycle, copied: Copied) {
    let arrived = stop_overwrite_read_on(send, recycle, copied);
    assert!(arrived.wrong > 0, "{} bytes", arrived.bytes);
}

#[test]
fn sendfile_sends_no_wrong_byte_from_a_ring_that_punches() {
    assert_right(SendBackend::Sendfile, Recycle::Punch, Copied::GoesOn);
}

#[test]
fn sendfile_sends_wrong_bytes_without_the_punch() {
    assert_wrong(SendBackend::Sendfile, Recycle::InPlace, Copied::GoesOn);
}

#[test]
fn zero_copy_sends_no_wrong_byte_when_leases_last_until_the_notification() {
    assert_right(SendBackend::SendZc, Recycle::InPlace, Copied::GoesOn);
}

#[test]
fn zero_copy_sends_wrong_bytes_when_leases_count_for_nothing() {
    assert_wrong(SendBackend::SendZc, Recycle::InPlaceUnprotected, Copied::GoesOn);
}

#[test]
fn auto_sends_no_wrong_byte_while_it_tries() {
    assert_right(SendBackend::Auto, Recycle::Punch, Copied::GoesOn);
}

#[test]
fn auto_sends_wrong_bytes_while_it_tries_when_leases_count_for_nothing() {
    assert_wrong(SendBackend::Auto, Recycle::InPlaceUnprotected, Copied::GoesOn);
}

#[test]
fn auto_sends_no_wrong_byte_when_it_has_fallen_back() {
    assert_right(SendBackend::Auto, Recycle::Punch, Copied::FallsBack);
}

#[test]
fn auto_sends_wrong_bytes_when_it_has_fallen_back_and_nothing_is_punched() {
    assert_wrong(SendBackend::Auto, Recycle::InPlace, Copied::FallsBack);
}

#[test]
fn zero_copy_that_has_fallen_back_sends_no_wrong_byte() {
    assert_right(SendBackend::SendZc, Recycle::InPlace, Copied::FallsBack);
}

#[test]
fn copy_sends_no_wrong_byte() {
    assert_right(SendBackend::Copy, Recycle::InPlace, Copied::GoesOn);
}

#[test]
fn copy_sends_wrong_bytes_when_leases_count_for_nothing() {
    assert_wrong(SendBackend::Copy, Recycle::InPlaceUnprotected, Copied::GoesOn);
}
