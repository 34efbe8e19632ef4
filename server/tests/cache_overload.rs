//! A cache without room, and one that was stopped: real processes on loopback.

mod cache_rig;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cache_core::peer_id::PeerId;
use cache_core::sign::stream_id;
use cache_core::time::Span;
use cache_core::units::{ChunkSeq, DomainId, StreamId};
use cache_core::wire::exchange::{Hello, Open, Role, Subscribe};
use cache_core::wire::index::CacheLoad;
use cache_core::wire::{
    Blob, CHUNK_HEADER_BYTES, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, RefusalReason, StreamName,
};
use cache_rig::fake_index::FakeIndex;
use cache_rig::native::{Publisher, acked, receive, send};
use cache_rig::*;
use rustix::process::Signal;

/// More memory than any host has: no join is taken.
const NO_ROOM: &str = "memory_reserve_mib = 16777216\n";

fn hello(role: Role) -> Frame {
    let (peer, stream, domain) = (PeerId::NONE, StreamId(0), DomainId(0));
    Hello { role, peer, stream, domain, listen: None, ticket: Blob::default() }.into()
}

fn is_closed(cache: &Cache) -> bool {
    cache.stats()["admission"]["open"] == false
}

fn location(cache: &Cache, name: &str) -> String {
    let mut stream = cache.request(&format!("GET /live/{name}.ts HTTP/1.1\r\nHost: x\r\n\r\n"));
    let head = head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 307 "), "{head}");
    let line = head.lines().find_map(|line| line.strip_prefix("Location: ")).expect("where to");
    line.to_owned()
}

#[test]
fn a_viewer_without_room_plays_from_the_other_cache() {
    let other = Cache::start("");
    let full = Cache::start(&format!("{NO_ROOM}alternates = [\"{}\"]\n", other.listen));
    until("no join is taken", || is_closed(&full).then_some(()));
    assert_eq!(full.stats()["admission"]["shards"][0]["closed"], "memory");
    let media = transport_stream(1, Span::from_secs(3));
    for cache in [&other, &full] {
        // Publishers are not refused for the viewers' load.
        let mut upload = cache.put("/live/news");
        send_chunk(&mut upload, &media);
        until("the stream is live", || (cache.stream("news")["head"].as_u64()? > 5).then_some(()));
        std::mem::forget(upload);
    }
    let to = location(&full, "news");
    let target = to.strip_prefix(&format!("http://{}", other.listen)).expect("the other one");
    let mut stream = other.request(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
    let mut packet = [0; 188];
    stream.read_exact(&mut packet).expect("it plays");
    assert_eq!(packet[0], 0x47);

    let mut viewer = full.connect();
    send(&mut viewer, hello(Role::Peer));
    let Frame::TryInstead(named) = receive(&mut viewer) else { panic!("nobody is named") };
    assert_eq!(named.caches.to_vec(), [other.listen]);
    assert!(matches!(receive(&mut viewer), Frame::Refused(no) if no.reason == RefusalReason::Full));
    assert!(full.stats()["shards"][0]["joins_refused_memory"].as_u64() >= Some(2));
}

#[test]
fn the_index_is_told_of_a_full_cache_and_names_others_that_have_room() {
    let index = FakeIndex::start();
    let [near, full_one, configured] = [1, 2, 3].map(|n| SocketAddr::from(([127, 0, 0, n], 7999)));
    let load = |addr, load_permille| CacheLoad { addr, load_permille };
    index.with(|state| state.others = vec![load(near, 10), load(full_one, 990)]);
    let cache = Cache::start(&format!("{NO_ROOM}alternates = [\"{configured}\"]\n{}", index.config()));
    until("the index hears that it is full", || {
        index.with(|state| state.caches.get(&cache.listen).is_some_and(|(_, r)| r.load_permille == 1_000)).then_some(())
    });
    until("the index's answer is heard", || {
        (cache.stats()["admission"]["elsewhere"] == serde_json::json!([near, configured])).then_some(())
    });
    index.with(|state| state.others = vec![load(full_one, 100)]);
    until("the next one too", || {
        (cache.stats()["admission"]["elsewhere"] == serde_json::json!([full_one, configured])).then_some(())
    });
}

#[test]
fn a_check_shows_the_budget_and_names_what_is_wrong_with_it() {
    let (status, said) = Cache::refused("busy_max_permille = 50\n");
    assert!(!status.success() && said.contains("busy_max_permille"), "{said}");
    let (status, said) = Cache::refused("alternates = [\"0.0.0.0:7400\"]\n");
    assert!(!status.success() && said.contains("alternates"), "{said}");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("cache.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nmemory_mib = 64\nbandwidth_max_mbps = 500\n").expect("written");
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_weircast-cache"))
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .expect("it runs");
    let said = [check.stdout, check.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(said.contains("900/1000") && said.contains("150 ms") && said.contains("500 Mbit/s"), "{said}");
}

/// The next chunk's number, or the number that the push goes on at.
enum Came {
    Chunk(u64),
    Skipped(u64),
}

fn next(socket: &mut TcpStream) -> Came {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head).expect("a frame");
    let head = FrameHead::decode(&head).expect("a head");
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body).expect("a body");
    if head.kind == KIND_CHUNK {
        return Came::Chunk(ChunkHeader::decode(&body[..CHUNK_HEADER_BYTES]).expect("a header").seq.get());
    }
    match Frame::decode(head.kind, &body).expect("a frame") {
        Frame::Skipped(skipped) => Came::Skipped(skipped.next.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cache_that_was_stopped_skips_what_is_stale() {
    const STALE: u64 = 25;
    let cache = Cache::start("");
    let (mut publisher, first) = Publisher::taken(&cache, "news", 1, 1);
    let first = first.get();
    let payload = transport_stream(1, Span::from_millis(200));
    for seq in first..first + 3 {
        assert_eq!(acked(publisher.publish(seq, &payload)), seq);
    }
    let name = StreamName::new("news").expect("a name");
    let mut viewer = cache.connect();
    send(&mut viewer, hello(Role::Viewer));
    assert!(matches!(receive(&mut viewer), Frame::Welcome(_)));
    send(&mut viewer, Open { stream: name.clone(), back: 0 }.into());
    assert!(matches!(receive(&mut viewer), Frame::StreamInfo(_)));
    send(&mut viewer, Subscribe { stream: stream_id(&name), from: ChunkSeq::new(first + 2) }.into());
    assert!(matches!(next(&mut viewer), Came::Chunk(seq) if seq == first + 2));

    cache.signal(Signal::STOP);
    let last = first + 2 + STALE;
    for seq in first + 3..=last {
        let chunk = publisher.chunk(seq, &payload);
        publisher.socket.write_all(&chunk).expect("the kernel takes it");
    }
    // The stop is what is tested: it has to last.
    std::thread::sleep(Duration::from_millis(2_500));
    cache.signal(Signal::CONT);
    let (mut at, mut sent) = (first + 2, BTreeMap::new());
    while at < last {
        match next(&mut viewer) {
            Came::Chunk(seq) => {
                assert_eq!(seq, at + 1, "in order");
                at = seq;
                sent.insert(seq, ());
            }
            Came::Skipped(to) => at = to - 1,
        }
    }
    let stats = cache.stats();
    assert!(sent.len() < 12, "{} of {STALE} stale chunks came in a burst: {}", sent.len(), stats["shards"]);
    assert_eq!(cache.stats()["shards"][0]["stops"], 1);
    let fresh = publisher.chunk(last + 1, &payload);
    publisher.socket.write_all(&fresh).expect("sent");
    assert!(matches!(next(&mut viewer), Came::Chunk(seq) if seq == last + 1), "and it goes on");
}
