//! A cache that is killed, or ended by SIGTERM, and is started again on its port: streams, chunks, numbers, terms and
//! keys go on.

mod cache_rig;

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use cache_core::limits::WINDOW_CHUNKS;
use cache_core::ring::{Lookup, RingObserver};
use cache_core::sign::stream_id;
use cache_core::time::Span;
use cache_core::units::ChunkSeq;
use cache_core::wire::{RefusalReason, StreamName};
use cache_rig::native::{Publisher, acked, refused};
use cache_rig::{Cache, until};
use rustix::process::Signal;

const PAYLOAD: [u8; 1880] = [0x47; 1880];

/// An address of its own for each test: between two lives nobody else is given the port.
fn first(ip: &str) -> Cache {
    Cache::start(&format!("listen = \"{}\"\n", cache_rig::free_port(ip)))
}

/// The next life of `former`, which must be kept: its end removes the file at the path.
fn again(former: &Cache, more: &str) -> Cache {
    Cache::start(&format!("listen = \"{}\"\n{more}", former.listen))
}

fn kill(cache: &mut Cache) {
    cache.signal(Signal::KILL);
    cache.wait();
}

#[test]
fn a_killed_caches_viewers_are_served_again_at_once() {
    let mut dead = first("127.99.2.1");
    let (status, _) = dead.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(8)));
    assert_eq!(status, 200);
    let (played, was) = (dead.play("news", 60_000), dead.stream("news"));
    kill(&mut dead);
    let cache = again(&dead, "");
    assert_eq!(cache.play("news", 60_000), played);
    let stream = cache.stream("news");
    assert_eq!(
        (&stream["state"], &stream["head"], &stream["oldest"]),
        (&"stalled".into(), &was["head"], &was["oldest"])
    );
    let ring = &cache.stats()["ring"];
    assert_eq!((&ring["torn"], &ring["inherited_broken"]), (&0.into(), &0.into()));
    let said = cache.log();
    assert!(said.contains("took over a chunk ring") && !said.contains("damaged"), "{said}");

    // The next upload goes on at the next number, under the next term.
    let (status, _) = cache.put_all("/live/news", &cache_rig::transport_stream(2, Span::from_secs(2)));
    assert_eq!(status, 200);
    let goes_on = cache.stream("news");
    assert_eq!(goes_on["epoch"].as_u64(), was["epoch"].as_u64().map(|epoch| epoch + 1));
    assert!(goes_on["head"].as_u64() > was["head"].as_u64());
    assert_eq!((&goes_on["missing"], &goes_on["oldest"]), (&0.into(), &was["oldest"]));
}

#[test]
fn a_publisher_goes_on_at_the_next_number_and_older_terms_stay_fenced() {
    let mut dead = first("127.99.2.2");
    let (mut publisher, _) = Publisher::taken(&dead, "news", 1, 5);
    for seq in 0..20 {
        assert_eq!(acked(publisher.publish(seq, &PAYLOAD)), seq);
    }
    // A term that was let in and has published nothing counts too.
    let (_idle, next) = Publisher::taken(&dead, "news", 1, 6);
    assert_eq!(next, ChunkSeq::new(20));
    kill(&mut dead);
    let cache = again(&dead, "");
    let (_, answer) = Publisher::open(&cache, "news", 1, 5);
    assert_eq!(refused(answer), RefusalReason::Fenced);
    let (mut publisher, next) = Publisher::taken(&cache, "news", 1, 6);
    assert_eq!(next, ChunkSeq::new(20));
    assert_eq!(acked(publisher.publish(20, &PAYLOAD)), 20);
    assert_eq!(&cache.stream("news")["state"], "origin");
}

#[test]
fn a_stream_whose_publisher_stays_away_is_forgotten_after_a_restart_too() {
    let mut dead = first("127.99.2.3");
    dead.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(1)));
    kill(&mut dead);
    let cache = again(&dead, "stall_forget_s = 1\n");
    until("it is ended", || (cache.stream("news")["state"] != "stalled").then_some(()));
}

/// What `systemctl restart` does.
#[test]
fn a_cache_that_sigterm_ends_is_followed_by_one_that_goes_on() {
    let mut former = first("127.99.2.4");
    former.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(8)));
    let played = former.play("news", 60_000);
    let (mut publisher, _) = Publisher::taken(&former, "sports", 1, 5);
    for seq in 0..20 {
        publisher.publish(seq, &PAYLOAD);
    }
    former.signal(Signal::TERM);
    assert_eq!(former.wait().code(), Some(0));
    let mut cache = again(&former, "");
    assert_eq!(cache.play("news", 60_000), played);
    let (mut publisher, next) = Publisher::taken(&cache, "sports", 1, 5);
    assert_eq!(next, ChunkSeq::new(20), "the publisher goes on where it was");
    assert_eq!(acked(publisher.publish(20, &PAYLOAD)), 20);
    let mut viewer = cache_rig::native::Viewer::open(&cache, "sports");
    assert_eq!((viewer.oldest, viewer.head), (0, 20));
    assert_eq!(viewer.fetch(7), Some(publisher.chunk(7, &PAYLOAD)));
    cache.signal(Signal::INT);
    assert_eq!(cache.wait().code(), Some(0));
    assert!(!cache.slab().exists(), "this was the end for good");
}

/// Finds chunk `seq` in the ring's file that a dead cache left, and turns one bit of it.
fn corrupt(cache: &Cache, name: &str, seq: u64) {
    let observer = RingObserver::open(&cache.slab()).expect("a ring");
    let id = stream_id(&StreamName::new(name).expect("a name"));
    let slot = observer.stream(id).expect("it is there");
    let Lookup::Ready(chunk) = observer.lookup(slot, ChunkSeq::new(seq)) else { panic!("chunk {seq} is not there") };
    let file = std::fs::File::options().read(true).write(true).open(cache.slab()).expect("there");
    let at = chunk.file_offset + u64::from(chunk.len) / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("there");
    file.write_all_at(&[byte[0] ^ 4], at).expect("written");
}

#[test]
fn a_chunk_that_changed_between_two_lives_is_not_served() {
    let mut dead = first("127.99.2.5");
    let (mut publisher, _) = Publisher::taken(&dead, "news", 1, 5);
    for seq in 0..WINDOW_CHUNKS {
        publisher.publish(seq, &[seq as u8; 5_000]);
    }
    kill(&mut dead);
    let (inside, newest) = (100, WINDOW_CHUNKS - 1);
    corrupt(&dead, "news", inside);
    corrupt(&dead, "news", newest);
    let cache = again(&dead, "");
    let mut viewer = cache_rig::native::Viewer::open(&cache, "news");
    assert_eq!((viewer.oldest, viewer.head), (0, newest - 1), "viewers hear of the newest whole one");
    for seq in 0..newest {
        let expected = (seq != inside).then(|| publisher.chunk(seq, &[seq as u8; 5_000]));
        assert_eq!(viewer.fetch(seq), expected, "chunk {seq}");
    }
    let ring = &cache.stats()["ring"];
    assert_eq!((&ring["inherited_broken"], &ring["torn"]), (&1.into(), &1.into()));
    let (_, next) = Publisher::taken(&cache, "news", 1, 5);
    assert_eq!(next, ChunkSeq::new(newest + 1), "no number is given twice");
}

/// Asks for one chunk as a file: the answer's status, and its body.
fn asked(cache: &Cache, seq: u64) -> (String, Vec<u8>) {
    let request = format!("GET /live/news/{seq}.ts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = cache.request(&request);
    let head = cache_rig::head(&mut stream);
    let mut body = Vec::new();
    stream.read_to_end(&mut body).expect("a body");
    (head[9..12].to_owned(), body)
}

#[test]
fn askers_are_the_first_to_be_served_what_a_former_process_left() {
    let mut dead = first("127.99.2.7");
    let (mut publisher, _) = Publisher::taken(&dead, "news", 1, 5);
    for seq in 0..20 {
        publisher.publish(seq, &PAYLOAD);
    }
    kill(&mut dead);
    corrupt(&dead, "news", 7);
    let cache = again(&dead, "");
    for seq in 0..20 {
        let (status, body) = asked(&cache, seq);
        match seq {
            7 => assert_eq!(status, "404"),
            _ => assert_eq!((status.as_str(), body.as_slice()), ("200", &PAYLOAD[..]), "chunk {seq}"),
        }
    }
    assert_eq!(cache.stats()["ring"]["inherited_broken"], 1);
}

#[test]
fn garbage_at_the_rings_path_is_set_aside_and_said() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = directory.path().join("ring");
    std::fs::write(&path, "something else").expect("written");
    let cache = Cache::start(&format!("slab = \"{}\"\n", path.display()));
    let said = cache.log();
    assert!(said.contains("was no chunk ring and is now") && said.contains("until you remove it"), "{said}");
    assert_eq!(cache.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(1))).0, 200);
    let aside = std::fs::read_dir(directory.path()).expect("there").map(|entry| entry.expect("one").path());
    let aside: Vec<_> = aside.filter(|other| *other != path).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(std::fs::read_to_string(&aside[0]).expect("there"), "something else");
}

#[test]
fn a_ring_of_yesterday_is_not_served_as_live() {
    // In a directory of its own: other tests' caches remove what is stale in /dev/shm.
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = directory.path().join("ring");
    let slab = format!("slab = \"{}\"\n", path.display());
    let mut dead = Cache::start(&slab);
    dead.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(1)));
    kill(&mut dead);
    let left = std::fs::File::options().write(true).open(&path).expect("a kill leaves it");
    let yesterday = SystemTime::now().checked_sub(Duration::from_secs(86_400)).expect("there was one");
    left.set_modified(yesterday).expect("set");
    let cache = Cache::start(&slab);
    let said = cache.log();
    assert!(said.contains("is not used: it ended more than a minute ago") && !said.contains("took over"), "{said}");
    assert!(cache.stream("news").is_null());
    assert_eq!(cache.put_all("/live/news", &cache_rig::transport_stream(2, Span::from_secs(1))).0, 200);
}

/// Only rings are removed for their age: a mistaken path may be of use to somebody.
#[test]
fn garbage_of_yesterday_is_set_aside_too() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let path = directory.path().join("ring");
    std::fs::write(&path, "something else").expect("written");
    let file = std::fs::File::options().write(true).open(&path).expect("there");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
    let cache = Cache::start(&format!("slab = \"{}\"\n", path.display()));
    assert!(cache.log().contains("was no chunk ring and is now"), "{}", cache.log());
}

#[test]
fn a_ring_of_another_size_is_replaced_and_said() {
    let mut dead = first("127.99.2.6");
    dead.put_all("/live/news", &cache_rig::transport_stream(1, Span::from_secs(1)));
    kill(&mut dead);
    let cache = again(&dead, "memory_mib = 32\n");
    assert!(cache.log().contains("is not used: it was made for 67108864 bytes, and 33554432 are configured"));
    assert!(cache.stream("news").is_null());
}
