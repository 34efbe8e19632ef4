//! A shard that has no room: who is refused, how, and who is not.

mod shard_support;

use std::io::Write;
use std::net::SocketAddr;

use cache_core::proto::cache::admission::{Reason, Room};
use cache_core::time::Span;
use cache_core::wire::exchange::{Open, Role};
use cache_core::wire::{Frame, RefusalReason};
use shard_support::*;
use weircast_server::cache::bridge::ToShard;
use weircast_server::cache::data::ShardConfig;

const NONE_LEFT: Room = Room { bytes_per_s: 0, bytes_per_s_max: 1_000_000, ..Room::UNLIMITED };
const PLENTY: Room = Room { bytes_per_s: 1_000_000, ..NONE_LEFT };

fn other(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7400))
}

fn http(addr: SocketAddr, target: &str) -> String {
    let mut client = Client::connect(addr);
    client.0.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("connected");
    let answer = client.rest();
    String::from_utf8(answer).expect("no viewer of a refused stream gets media")
}

/// Whether `target` is answered with `body`, and nothing behind it.
fn there_is(addr: SocketAddr, target: &str, body: &[u8]) -> bool {
    let mut client = Client::connect(addr);
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    client.0.write_all(request.as_bytes()).expect("connected");
    let answer = client.rest();
    answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(body)
}

/// Says Hello; what is said first, and what then.
fn greeted(addr: SocketAddr, role: Role) -> (Frame, Client) {
    let mut client = Client::connect(addr);
    client.send(hello(role));
    (client.frame(), client)
}

/// One viewer is watching when the room has gone.
fn full(others: &[SocketAddr]) -> (Stage, Client) {
    full_with(others, ShardConfig::CACHES_MAX)
}

fn full_with(others: &[SocketAddr], caches_max: u32) -> (Stage, Client) {
    let mut stage = Stage::new(|config| config.caches_max = caches_max);
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 1);
    assert_eq!(viewer.chunk(), 1);
    stage.tell(ToShard::Elsewhere { caches: others.to_vec() });
    stage.tell(ToShard::Room(NONE_LEFT));
    let counters = stage.shard.counters.clone();
    until("the shard has heard it", || counters.admission.get() == Reason::Bandwidth as u64);
    (stage, viewer)
}

#[test]
fn a_join_that_cannot_be_served_is_sent_to_another_cache() {
    let (mut stage, mut viewer) = full(&[other(1), other(2)]);
    for role in [Role::Viewer, Role::Peer] {
        let (said, mut client) = greeted(stage.addr, role);
        let Frame::TryInstead(named) = said else { panic!("{said:?}") };
        assert!(named.caches.len() == 2 && named.caches.contains(&other(1)), "{named:?}");
        let Frame::Refused(no) = client.frame() else { panic!("no refusal") };
        assert!(no.reason == RefusalReason::Full && no.retry_ms > 0, "{no:?}");
        assert!(client.ended());
    }
    let answer = http(stage.addr, "/live/news.ts?t=1");
    assert!(answer.starts_with("HTTP/1.1 307 "), "{answer}");
    assert!(answer.contains("\r\nLocation: http://10.0.0.") && answer.contains("/live/news.ts?t=1&"), "{answer}");
    let answer = http(stage.addr, "/live/news.ts?weircast-hop=3");
    assert!(answer.starts_with("HTTP/1.1 503 "), "it was sent on often enough: {answer}");

    let answer = http(stage.addr, "http://here/live/news/1.ts");
    let (_, target) = answer.split_once("\r\nLocation: http://10.0.0.").expect("who asks chunk by chunk is sent on");
    let target = &target[target.find('/').expect("a path")..target.find("\r\n").expect("a line")];
    assert_eq!(target, "/live/news/1.ts?weircast-hop=1");

    stage.publish(2, PLAIN);
    assert_eq!(viewer.chunk(), 2, "who watches already is served");
    let counters = stage.shard.counters.clone();
    assert_eq!(counters.joins_refused_bandwidth.get(), 5);
    assert_eq!(counters.joins_sent_elsewhere.get(), 4);
    // What it was sent to is served by a cache that has room.
    let mut there = Stage::new(|_| ());
    there.publish(1, JOIN);
    assert!(there_is(there.addr, target, &payload(there.source.id, 1, JOIN)));
    there.stop();
    stage.tell(ToShard::Room(PLENTY));
    until("there is room again", || matches!(greeted(stage.addr, Role::Viewer).0, Frame::Welcome(_)));
    stage.stop();
}

#[test]
fn without_another_cache_it_is_told_when_to_come_again() {
    let (stage, _viewer) = full(&[]);
    let (said, _) = greeted(stage.addr, Role::Peer);
    assert!(matches!(said, Frame::Refused(no) if no.reason == RefusalReason::Full && no.retry_ms > 0));
    let answer = http(stage.addr, "/live/news.ts");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
    stage.stop();
}

#[test]
fn publishers_and_other_caches_are_not_refused_for_the_viewers_load() {
    let (mut stage, _viewer) = full(&[other(1)]);
    let (said, mut cache) = greeted(stage.addr, Role::Cache);
    assert!(matches!(said, Frame::Welcome(_)));
    assert_eq!(cache.open("news", 0).head, seq(1));
    let mut publisher = Client::connect(stage.addr);
    publisher.send(hello(Role::Publisher));
    assert!(matches!(stage.hear(), weircast_server::cache::bridge::ToControl::NativePublisher { .. }));
    stage.stop();
}

#[test]
fn who_says_that_it_is_a_cache_is_believed_a_bounded_number_of_times() {
    let (stage, _viewer) = full_with(&[], 1);
    let (said, _first) = greeted(stage.addr, Role::Cache);
    assert!(matches!(said, Frame::Welcome(_)), "{said:?}");
    let (said, _) = greeted(stage.addr, Role::Cache);
    assert!(matches!(&said, Frame::Refused(no) if no.reason == RefusalReason::Full), "{said:?}");
    stage.stop();
}

#[test]
fn who_watches_hears_by_opening_again_what_is_left() {
    let (mut stage, mut viewer) = full(&[]);
    assert_eq!(viewer.open("news", 0).spare_permille, 0);
    stage.tell(ToShard::Room(Room { bytes_per_s: 400_000, ..NONE_LEFT }));
    until("there is room again", || viewer.open("news", 0).spare_permille > 0);
    let spare = viewer.open("news", 0).spare_permille;
    assert!(spare <= 400, "two fifths of its bytes per second: {spare}");
    stage.stop();
}

#[test]
fn one_stream_more_is_a_join_too() {
    let (stage, mut viewer) = full(&[]);
    viewer.send(Open { stream: name("weather"), back: 0 });
    let Frame::Unavailable(no) = viewer.frame() else { panic!("it was opened") };
    assert_eq!((no.reason, no.count), (RefusalReason::Full, 0));
    stage.stop();
}

#[test]
fn a_crowd_is_refused_before_the_next_measurement() {
    // Room for ten viewers of 2 Mbit/s, told once; thirty come.
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    stage.tell(ToShard::Room(Room { bytes_per_s: 2_500_000, bytes_per_s_max: 100_000_000, ..Room::UNLIMITED }));
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..30 {
        match greeted(stage.addr, Role::Viewer) {
            (Frame::Welcome(_), client) => kept.push(client),
            (Frame::Refused(_), _) => refused += 1,
            (other, _) => panic!("{other:?}"),
        }
    }
    // Those who came a second ago and ask for nothing cost nothing: on a slow machine some more are taken.
    assert!(refused > 0 && (10..30).contains(&kept.len()), "{} taken, {refused} refused", kept.len());
    stage.stop();
}

#[test]
fn caches_take_no_viewers_places_and_go_when_they_open_nothing() {
    let mut stage = Stage::new(|config| {
        config.connections_max = 2;
        // Long enough for the Hello, short enough to wait for.
        config.handshake_deadline = Span::from_secs(1);
    });
    stage.publish(1, JOIN);
    let caches: Vec<_> = (0..ShardConfig::CACHES_MAX).map(|_| greeted(stage.addr, Role::Cache)).collect();
    assert!(caches.iter().all(|(said, _)| matches!(said, Frame::Welcome(_))));
    let mut caches: Vec<_> = caches.into_iter().map(|(_, client)| client).collect();
    let mut pulling = caches.pop().expect("one of them");
    let info = pulling.open("news", 0);
    pulling.subscribe(info.stream, 1);
    assert_eq!(pulling.chunk(), 1);
    let viewers: Vec<_> = (0..2).map(|_| greeted(stage.addr, Role::Viewer)).collect();
    assert!(viewers.iter().all(|(said, _)| matches!(said, Frame::Welcome(_))), "{viewers:?}");
    assert!(!matches!(greeted(stage.addr, Role::Viewer).0, Frame::Welcome(_)), "there are two places");
    assert!(caches.iter_mut().all(|cache| cache.ended()), "they had nothing to do here");
    let counters = stage.shard.counters.clone();
    assert_eq!(counters.caches_idle_closed.get(), u64::from(ShardConfig::CACHES_MAX) - 1);
    stage.publish(2, PLAIN);
    assert_eq!(pulling.chunk(), 2, "who pulls is served");
    until("the shard says who is there", || counters.caches.get() == 1);
    assert_eq!(counters.viewers_native.get(), 2, "a cache is no viewer");
    stage.stop();
}

#[test]
fn names_alone_keep_no_cache() {
    const OPENS_MAX: usize = 20;
    let mut stage = Stage::new(|config| {
        config.handshake_deadline = Span::from_millis(500);
        config.want_deadline = Span::from_millis(500);
    });
    stage.publish(1, JOIN);
    let claims = |stream: &str| {
        let mut cache = greeted(stage.addr, Role::Cache).1;
        cache.send(Open { stream: name(stream), back: 0 });
        cache
    };
    let (mut idle, mut busy) = (claims("news"), claims("no-0"));
    let opened = (1..OPENS_MAX).find(|n| match busy.next() {
        Got::End => true,
        // Each name is refused when it was waited for in vain.
        Got::Frame(Frame::Unavailable(_)) => {
            busy.send(Open { stream: name(&format!("no-{n}")), back: 0 });
            false
        }
        other => panic!("{other:?}"),
    });
    assert!(opened.is_some(), "{OPENS_MAX} names kept it");
    assert!(matches!(idle.frame(), Frame::StreamInfo(_)) && idle.ended(), "it took nothing of what it opened");
    assert_eq!(stage.shard.counters.caches_idle_closed.get(), 2);
    stage.stop();
}
