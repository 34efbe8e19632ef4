//! Who comes to a shard's door: publishers, administrators, strangers and nonsense.

mod shard_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use cache_core::time::Span;
use cache_core::units::Epoch;
use cache_core::wire::exchange::{Publish, Role};
use cache_core::wire::{FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, RefusalReason, VERSION};
use shard_support::*;
use weircast_server::cache::bridge::{ToControl, ToShard};

/// The socket that control got is the client's other end, blocking, with nothing lost.
fn talk(socket: OwnedFd, client: &mut Client) {
    let mut control = TcpStream::from(socket);
    control.set_nonblocking(false).expect("a socket");
    client.0.write_all(b"more").expect("connected");
    let mut more = [0; 4];
    control.read_exact(&mut more).expect("the shard receives no longer");
    assert_eq!(&more, b"more");
    control.write_all(b"answer").expect("connected");
    drop(control);
    assert_eq!(client.rest(), b"answer");
}

#[test]
fn a_publisher_is_handed_over_with_all_it_said() {
    let mut stage = Stage::new(|_| ());
    let mut client = Client::connect(stage.addr);
    let mut bytes = Vec::new();
    Frame::from(hello(Role::Publisher)).encode(&mut bytes);
    bytes.extend_from_slice(b"and more behind it");
    client.0.write_all(&bytes[..5]).expect("connected");
    client.0.write_all(&bytes[5..]).expect("connected");
    match stage.hear() {
        ToControl::NativePublisher { socket, from, mut read } => {
            assert_eq!(from, client.0.local_addr().expect("connected"));
            let mut rest = vec![0; bytes.len() - read.len()];
            let mut control = TcpStream::from(socket);
            control.set_nonblocking(false).expect("a socket");
            control.read_exact(&mut rest).expect("what had not come yet");
            read.extend_from_slice(&rest);
            assert_eq!(read, bytes);
            talk(control.into(), &mut client);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.shard.counters.handed_over.get(), 1);
    stage.stop();
}

#[test]
fn puts_posts_and_statistics_are_controls() {
    let mut stage = Stage::new(|_| ());
    for head in [
        "PUT /live/news HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /x HTTP/1.0\r\n\r\n",
        "GET /stats HTTP/1.1\r\n\r\n",
    ] {
        let mut client = Client::connect(stage.addr);
        client.0.write_all(head.as_bytes()).expect("connected");
        match stage.hear() {
            ToControl::Http { socket, read, .. } => {
                assert_eq!(read, head.as_bytes());
                talk(socket, &mut client);
            }
            other => panic!("{other:?}"),
        }
    }
    stage.stop();
}

#[test]
fn strangers_are_turned_away_and_disturb_nobody() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 1);
    assert_eq!(viewer.chunk(), 1);

    let send = |bytes: &[u8]| {
        let mut client = Client::connect(stage.addr);
        client.0.write_all(bytes).expect("connected");
        client
    };
    assert_eq!(send(b"\x16\x03\x01\x02\x00 a TLS hello").rest(), b"", "garbage gets no answer");
    let refused = |mut client: Client| match client.frame() {
        Frame::Refused(refused) => {
            assert!(client.ended());
            refused.reason
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(send(&[0xC7, 9, 2, 0, 0, 0, 0, 1])), RefusalReason::Version);
    assert_eq!(
        refused(send(&[0xC7, VERSION, 2, 0, 0xff, 0xff, 0xff, 0xff])),
        RefusalReason::TooLarge,
        "a length that lies"
    );
    assert_eq!(refused(send(&[0xC7, VERSION, 7, 0, 0, 0, 0, 0])), RefusalReason::BadMessage, "no greeting");
    let mut half = send(&[0xC7, VERSION, 2, 0, 0, 0]);
    half.0.shutdown(std::net::Shutdown::Write).expect("connected");
    assert!(half.ended(), "a truncated Hello");

    let counters = &stage.shard.counters;
    assert_eq!((counters.handshakes_bad.get(), counters.versions_refused.get(), counters.frames_bad.get()), (2, 1, 1));
    assert_eq!(counters.handshakes_oversize.get(), 1);
    stage.publish(2, PLAIN);
    assert_eq!(viewer.chunk(), 2);
    stage.stop();
}

#[test]
fn viewers_that_talk_nonsense_are_refused() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let id = stage.source.id;
    let refused = |say: &dyn Fn(&mut Client)| {
        let mut viewer = stage.viewer();
        say(&mut viewer);
        match viewer.frame() {
            Frame::Refused(refused) => {
                assert!(viewer.ended());
                refused.reason
            }
            other => panic!("{other:?}"),
        }
    };
    let raw = |bytes: Vec<u8>| move |client: &mut Client| client.0.write_all(&bytes).expect("connected");
    let head = |kind, body_len| FrameHead { kind, body_len }.encode().to_vec();
    assert_eq!(refused(&raw(b"what?   ".to_vec())), RefusalReason::BadMessage);
    assert_eq!(refused(&raw(head(KIND_CHUNK, 1 << 20))), RefusalReason::BadMessage, "a viewer sends no chunks");
    assert_eq!(refused(&raw(head(7, 5_000))), RefusalReason::TooLarge);
    assert_eq!(refused(&raw([head(7, 3), vec![0; 3]].concat())), RefusalReason::BadMessage, "a truncated Request");
    assert_eq!(refused(&raw([vec![0xC7, VERSION + 1], vec![0; FRAME_HEAD_BYTES]].concat())), RefusalReason::Version);
    assert_eq!(refused(&|client| client.send(hello(Role::Viewer))), RefusalReason::BadMessage, "once is enough");
    assert_eq!(refused(&|client| client.request(id, &[(1, 0)])), RefusalReason::BadMessage);
    assert_eq!(refused(&|client| client.request(id, &[(1, 257)])), RefusalReason::BadMessage);
    let publish = Publish { stream: name("news"), epoch: Epoch(1), key: [0; 32], signature: [0; 64] };
    assert_eq!(refused(&|client| client.send(publish.clone())), RefusalReason::BadMessage);

    let mut viewer = stage.viewer();
    viewer.request(id, &[(1, 1)]);
    assert!(
        matches!(viewer.frame(), Frame::Unavailable(no) if no.reason == RefusalReason::UnknownStream),
        "not opened"
    );
    viewer.0.write_all(&[head(200, 3), vec![1, 2, 3]].concat()).expect("connected");
    assert_eq!(viewer.open("news", 0).head, seq(1), "a kind from the future is passed over");
    assert_eq!(stage.shard.counters.frames_unknown.get(), 1);
    stage.stop();
}

#[test]
fn who_says_nothing_is_sent_away() {
    let stage = Stage::new(|config| config.handshake_deadline = Span::from_millis(1));
    let mut silent = Client::connect(stage.addr);
    let mut slow = Client::connect(stage.addr);
    slow.0.write_all(b"GET /live/").expect("connected");
    assert!(silent.ended());
    assert!(slow.ended());
    assert_eq!(stage.shard.counters.handshakes_late.get(), 2);
    stage.stop();
}

#[test]
fn a_full_shard_says_so_and_still_takes_publishers() {
    let mut stage = Stage::new(|config| config.connections_max = 2);
    let _viewers = [stage.viewer(), stage.viewer()];
    let mut third = Client::connect(stage.addr);
    third.send(hello(Role::Peer));
    assert!(
        matches!(third.frame(), Frame::Refused(refused) if refused.reason == RefusalReason::Full && refused.retry_ms > 0)
    );
    let mut http = Client::connect(stage.addr);
    http.0.write_all(b"GET /live/news.ts HTTP/1.1\r\n\r\n").expect("connected");
    assert!(http.rest().starts_with(b"HTTP/1.1 503 "));
    let mut publisher = Client::connect(stage.addr);
    publisher.send(hello(Role::Publisher));
    assert!(matches!(stage.hear(), ToControl::NativePublisher { .. }));
    assert_eq!(stage.shard.counters.refused_full.get(), 2);
    stage.stop();
}

/// Nobody closes its side when it has been refused: the places of those who were answered are needed by those who were not.
#[test]
fn a_crowd_at_a_full_shard_is_answered_to_the_last() {
    let mut stage = Stage::new(|config| config.connections_max = 1);
    let _viewer = stage.viewer();
    let other = "10.0.0.2:7400".parse().expect("an address");
    stage.tell(ToShard::Elsewhere { caches: vec![other] });
    let mut crowd = Vec::new();
    for number in 0..300 {
        let mut client = Client::connect(stage.addr);
        if number % 2 == 0 {
            client.send(hello(Role::Viewer));
            let said = client.next();
            let Got::Frame(Frame::TryInstead(named)) = said else { panic!("{number} was told {said:?}") };
            assert!(named.caches.contains(&other));
        } else {
            client.0.write_all(b"GET /live/news.ts HTTP/1.1\r\n\r\n").expect("connected");
            let mut status = [0; 13];
            assert!(client.fill(&mut status) && status == *b"HTTP/1.1 307 ", "{number} was answered");
        }
        crowd.push(client);
    }
    assert!(stage.shard.counters.lingers_cut_short.get() > 0);
    stage.stop();
}

#[test]
fn an_open_that_nobody_answers_ends() {
    let mut stage = Stage::new(|config| config.want_deadline = Span::from_millis(1));
    let mut viewer = stage.viewer();
    viewer.send(cache_core::wire::exchange::Open { stream: name("nothing"), back: 0 });
    assert!(matches!(viewer.frame(), Frame::Unavailable(no) if no.reason == RefusalReason::UnknownStream));
    assert!(matches!(stage.hear(), ToControl::Want { .. }));
    assert_eq!(stage.shard.counters.wants_late.get(), 1);
    stage.stop();
}

#[test]
fn a_draining_shard_finishes_and_tells_its_viewers_to_go() {
    let mut stage = Stage::new(|_| ());
    let big = Kind { packets: 5_500, ..JOIN };
    stage.publish(1, big);
    let (mut viewer, info) = Client::watching(stage.addr);
    let mut http = Client::connect(stage.addr);
    http.0.write_all(b"GET /live/news.ts HTTP/1.1\r\n\r\n").expect("connected");
    viewer.subscribe(info.stream, 1);
    assert_eq!(viewer.chunk(), 1);
    let counters = stage.shard.counters.clone();
    until("both have their chunk under way", || counters.chunk_bytes_sent.get() > 1_100_000);
    stage.tell(ToShard::Drain);
    assert!(matches!(viewer.frame(), Frame::Leave(leave) if leave.reason == RefusalReason::Draining));
    assert!(viewer.ended());
    let whole = http.rest();
    assert!(whole.ends_with(&payload(info.stream, 1, big)[1_000 * PACKET..]), "what was begun comes whole");
    drop((viewer, http));
    while !matches!(hear_any(&mut stage.shard), ToControl::Stopped) {}
    assert!(TcpStream::connect(stage.addr).is_err(), "nobody listens");
    assert!(stage.shard.join());
}

#[test]
fn a_shard_whose_handle_is_gone_stops() {
    let Stage { shard, addr, .. } = Stage::new(|_| ());
    let mut viewer = Client::viewer(addr);
    drop(shard);
    assert!(viewer.ended());
}
