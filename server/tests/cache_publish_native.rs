//! Publishers over Weircast's protocol: order, acknowledgement, fencing, and what ends a connection.

mod cache_rig;

use std::io::Write;

use cache_core::units::ChunkSeq;
use cache_core::wire::{CHUNK_PREFIX_BYTES, RefusalReason};
use cache_rig::native::{Publisher, Viewer, acked, receive, refused};
use cache_rig::{Cache, until};

const PAYLOAD: [u8; 1880] = [0x47; 1880];

#[test]
fn chunks_are_acknowledged_a_repeated_one_again_and_a_gap_is_noted() {
    let cache = Cache::start("");
    let (mut publisher, next) = Publisher::taken(&cache, "news", 1, 5);
    assert_eq!(next, ChunkSeq::FIRST);
    assert_eq!(acked(publisher.publish(0, &PAYLOAD)), 0);
    assert_eq!(acked(publisher.publish(1, &PAYLOAD)), 1);
    assert_eq!(acked(publisher.publish(1, &PAYLOAD)), 1);
    assert_eq!(acked(publisher.publish(4, &PAYLOAD)), 4);
    let stream = cache.stream("news");
    assert_eq!((&stream["head"], &stream["missing"], &stream["epoch"]), (&4.into(), &2.into(), &5.into()));
    let control = &cache.stats()["control"];
    assert_eq!((&control["chunks_stored"], &control["chunks_duplicate"]), (&3.into(), &1.into()));
}

#[test]
fn a_publisher_that_lost_its_link_goes_on_where_it_was() {
    let cache = Cache::start("");
    let (mut first, _) = Publisher::taken(&cache, "news", 1, 5);
    first.publish(0, &PAYLOAD);
    let (mut second, next) = Publisher::taken(&cache, "news", 1, 5);
    assert_eq!(next, ChunkSeq::new(1));
    assert_eq!(acked(second.publish(1, &PAYLOAD)), 1);
    let mut end = [0];
    let read = std::io::Read::read(&mut first.socket, &mut end);
    assert!(matches!(read, Ok(0)) || read.is_err(), "the replaced connection is closed: {read:?}");
}

#[test]
fn a_newer_epoch_fences_the_older() {
    let cache = Cache::start("");
    let (mut old, _) = Publisher::taken(&cache, "news", 1, 5);
    old.publish(0, &PAYLOAD);
    let (mut new, next) = Publisher::taken(&cache, "news", 1, 6);
    assert_eq!(acked(new.publish(next.get(), &PAYLOAD)), 1);
    let (_, answer) = Publisher::open(&cache, "news", 1, 5);
    assert_eq!(refused(answer), RefusalReason::Fenced);
    assert_eq!(acked(new.publish(2, &PAYLOAD)), 2, "and the newer one goes on");
}

#[test]
fn another_key_does_not_get_a_live_name() {
    let cache = Cache::start("");
    let (mut rightful, _) = Publisher::taken(&cache, "news", 1, 5);
    rightful.publish(0, &PAYLOAD);
    let (_, answer) = Publisher::open(&cache, "news", 2, 6);
    assert_eq!(refused(answer), RefusalReason::NameTaken);
    assert_eq!(acked(rightful.publish(1, &PAYLOAD)), 1);
}

#[test]
fn a_wrong_byte_ends_the_connection_and_is_never_stored() {
    let cache = Cache::start("");
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
    publisher.publish(0, &PAYLOAD);
    let mut chunk = publisher.chunk(1, &PAYLOAD);
    let last = chunk.len() - 1;
    chunk[last] ^= 1;
    publisher.socket.write_all(&chunk).expect("sent");
    assert_eq!(refused(receive(&mut publisher.socket)), RefusalReason::BadSignature);
    assert_eq!(cache.stream("news")["head"], 0);
    assert_eq!(cache.stats()["control"]["chunks_wrong"], 1);
}

#[test]
fn a_forged_header_is_refused_before_its_payload_has_come() {
    let cache = Cache::start("");
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
    let mut chunk = publisher.chunk(0, &PAYLOAD);
    // The header's last byte is the signature's.
    chunk[CHUNK_PREFIX_BYTES - 1] ^= 1;
    publisher.socket.write_all(&chunk[..CHUNK_PREFIX_BYTES]).expect("sent");
    assert_eq!(refused(receive(&mut publisher.socket)), RefusalReason::BadSignature);
    assert_eq!(cache.stats()["control"]["chunks_wrong"], 1);
}

#[test]
fn chunks_of_all_lengths_in_pieces_of_all_lengths_arrive_whole() {
    let cache = Cache::start("");
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
    // Shorter and longer than the piece that is hashed at once; several at a time and a part of the next.
    let lengths = [188, 16 << 10, 300_000, 1880, (16 << 10) + 188, 50_000];
    let payload = |seq: usize| vec![seq as u8; lengths[seq]];
    let all: Vec<u8> = (0..lengths.len()).flat_map(|seq| publisher.chunk(seq as u64, &payload(seq))).collect();
    for piece in all.chunks(70_001) {
        publisher.socket.write_all(piece).expect("sent");
    }
    for seq in 0..lengths.len() as u64 {
        assert_eq!(acked(receive(&mut publisher.socket)), seq);
    }
    let mut viewer = Viewer::open(&cache, "news");
    for seq in 0..lengths.len() {
        assert_eq!(viewer.fetch(seq as u64), Some(publisher.chunk(seq as u64, &payload(seq))), "chunk {seq}");
    }
}

#[test]
fn nobody_takes_a_name_s_numbers_and_terms_along() {
    let cache = Cache::start("");
    let (_, answer) = Publisher::open(&cache, "news", 1, u64::MAX);
    assert_eq!(refused(answer), RefusalReason::BadMessage, "no term would follow");
    let (mut first, _) = Publisher::taken(&cache, "news", 1, 5);
    assert_eq!(refused(first.publish((1 << 48) - 1, &PAYLOAD)), RefusalReason::BadMessage, "no chunk would follow");
    let (mut second, _) = Publisher::taken(&cache, "news", 2, 5);
    assert_eq!(acked(second.publish(0, &PAYLOAD)), 0);
    assert_eq!(refused(second.publish(1 << 40, &PAYLOAD)), RefusalReason::BadMessage);
    let (mut third, next) = Publisher::taken(&cache, "news", 3, 6);
    assert_eq!(next, ChunkSeq::new(1));
    assert_eq!(acked(third.publish(1, &PAYLOAD)), 1);
    assert_eq!(cache.stats()["control"]["chunks_out_of_range"], 2);
}

#[test]
fn control_that_does_not_sleep_serves_as_well() {
    let cache = Cache::start("busy_poll_us = 100000\n");
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
    for seq in 0..3 {
        assert_eq!(acked(publisher.publish(seq, &PAYLOAD)), seq);
    }
    assert_eq!(cache.stream("news")["head"], 2);
    assert!(!Cache::refused("busy_poll_us = 2000000\n").0.success(), "over a second");
}

#[test]
fn garbage_is_refused_by_its_kind_and_the_next_publisher_is_taken() {
    let cache = Cache::start("");
    // Which byte of the frame's head says what.
    let (magic, version, length) = (0, 1, 4);
    let cases =
        [(length, RefusalReason::TooLarge), (version, RefusalReason::Version), (magic, RefusalReason::BadMessage)];
    for (byte, reason) in cases {
        let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
        let mut chunk = publisher.chunk(0, &PAYLOAD);
        chunk[byte] ^= 0x55;
        publisher.socket.write_all(&chunk).expect("sent");
        assert_eq!(refused(receive(&mut publisher.socket)), reason, "byte {byte}");
    }
    assert_eq!(cache.stats()["control"]["publishers_garbled"], 3);
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 5);
    assert_eq!(acked(publisher.publish(0, &PAYLOAD)), 0);
}

#[test]
fn a_publisher_in_the_middle_of_a_chunk_holds_nobody_up() {
    let cache = Cache::start("");
    let (mut slow, _) = Publisher::taken(&cache, "slow", 1, 1);
    let chunk = slow.chunk(0, &PAYLOAD);
    slow.socket.write_all(&chunk[..chunk.len() / 2]).expect("sent");
    let (mut quick, _) = Publisher::taken(&cache, "quick", 2, 1);
    for seq in 0..20 {
        assert_eq!(acked(quick.publish(seq, &PAYLOAD)), seq);
    }
    slow.socket.write_all(&chunk[chunk.len() / 2..]).expect("sent");
    assert_eq!(acked(receive(&mut slow.socket)), 0);
}

#[test]
fn a_stream_whose_publisher_is_gone_is_stalled_and_then_forgotten() {
    let cache = Cache::start("stall_forget_s = 1\n");
    let (mut publisher, _) = Publisher::taken(&cache, "news", 1, 1);
    publisher.publish(0, &PAYLOAD);
    assert_eq!(cache.stream("news")["state"], "origin");
    drop(publisher);
    until("it is stalled", || (cache.stream("news")["state"] == "stalled").then_some(()));
    until("it is ended", || (cache.stream("news")["state"] == "ended").then_some(()));
}
