//! Streams between caches: fetched when a viewer wants them or the index says so, checked, served while they arrive.

mod cache_rig;

use std::io::Write;
use std::net::SocketAddr;

use cache_core::sign::stream_id;
use cache_core::time::Span;
use cache_core::wire::index::HoldState;
use cache_core::wire::{RefusalReason, StreamName};
use cache_rig::fake_index::FakeIndex;
use cache_rig::{Cache, head, response, send_chunk, transport_stream, until};

const FROM_THE_START: &str = "http_back_chunks = 255\npull_back_chunks = 255\n";

fn news() -> StreamName {
    StreamName::new("news").expect("a name")
}

/// An index and two caches that are registered there, each with what `extra` sets.
fn domain(extra: &str) -> (FakeIndex, Cache, Cache) {
    let index = FakeIndex::start();
    let config = index.config() + extra;
    let (origin, relay) = (Cache::start(&config), Cache::start(&config));
    for cache in [&origin, &relay] {
        until("it is registered", || index.with(|state| state.caches.get(&cache.listen).map(drop)));
    }
    (index, origin, relay)
}

fn holds(index: &FakeIndex, cache: &Cache) -> Option<HoldState> {
    index.with(|state| state.held.get(&(cache.listen, stream_id(&news()).0)).map(|held| held.state))
}

fn parents(index: &FakeIndex, parents: &[SocketAddr]) {
    index.with(|state| state.parents.insert(news(), parents.to_vec()));
}

#[test]
fn a_viewer_of_another_cache_sees_the_same_bytes() {
    let (index, origin, relay) = domain(FROM_THE_START);
    let published = transport_stream(7, Span::from_secs(4));
    assert_eq!(origin.put_all("/live/news", &published).0, 200);
    parents(&index, &[origin.listen]);
    assert!(relay.play("news", published.len()) == published);
    let stats = relay.stats();
    let payload = stats["bytes_from_caches"].as_u64().expect("a number");
    assert!(payload >= published.len() as u64, "{stats}");
    assert_eq!((&stats["control"]["chunks_wrong"], &stats["control"]["pulls"]), (&0.into(), &1.into()));
    let (ours, theirs) = (relay.stream("news"), origin.stream("news"));
    assert_eq!((&ours["head"], &ours["epoch"]), (&theirs["head"], &theirs["epoch"]));
}

#[test]
fn it_is_served_while_it_arrives_and_fetched_once_for_all_viewers() {
    let (index, origin, relay) = domain(FROM_THE_START);
    let published = transport_stream(7, Span::from_secs(4));
    let (begin, rest) = published.split_at(published.len() / 2);
    let mut put = origin.put("/live/news");
    send_chunk(&mut put, begin);
    until("the index hears of it", || (holds(&index, &origin) == Some(HoldState::Origin)).then_some(()));
    parents(&index, &[origin.listen]);
    let played = std::thread::scope(|scope| {
        let viewers: Vec<_> = (0..5).map(|_| scope.spawn(|| relay.play("news", published.len()))).collect();
        until("the relay has begun", || (relay.stream("news")["viewers"] == 5).then_some(()));
        send_chunk(&mut put, rest);
        put.write_all(b"0\r\n\r\n").expect("sent");
        viewers.into_iter().map(|viewer| viewer.join().expect("played")).collect::<Vec<_>>()
    });
    assert!(played.iter().all(|played| *played == published));
    assert_eq!(relay.stats()["control"]["pull_links"], 1);
    // The link's for the next chunk, and the pull's own: hundreds of timers would be dear.
    until("both stand in the table", || (relay.stats()["control"]["deadlines"] == 2).then_some(()));
}

#[test]
fn an_upload_that_was_at_another_cache_meanwhile_goes_on_above_what_that_one_has() {
    let (index, first, second) = domain("");
    let body = transport_stream(7, Span::from_secs(1));
    let heads = [&first, &second, &first].map(|cache| {
        assert_eq!(cache.put_all("/live/news", &body).0, 200);
        let head = cache.stream("news")["head"].as_u64().expect("a number");
        let held = (cache.listen, stream_id(&news()).0);
        let told = || index.with(|state| state.held.get(&held).is_some_and(|held| held.head.get() == head));
        until("the index hears of it", || told().then_some(()));
        head
    });
    assert!(heads.is_sorted_by(|before, after| before < after), "{heads:?}");
}

#[test]
fn the_index_starts_a_pull_and_hears_how_it_goes() {
    let (index, origin, relay) = domain("");
    let mut put = origin.put("/live/news");
    send_chunk(&mut put, &transport_stream(7, Span::from_secs(2)));
    until("the index hears of it", || (holds(&index, &origin) == Some(HoldState::Origin)).then_some(()));
    parents(&index, &[origin.listen]);
    index.order_pull(relay.listen, &news());
    until("it is acknowledged", || index.with(|state| (state.pull_acks == 1).then_some(())));
    until("the relay has it", || holds(&index, &relay).filter(|state| *state != HoldState::Fetching));
    index.order_pull(relay.listen, &news());
    until("a repeated order is acknowledged", || index.with(|state| (state.pull_acks == 2).then_some(())));
    assert_eq!(relay.stats()["control"]["pulls"], 1, "and starts nothing");
}

#[test]
fn a_stream_that_nobody_has_is_not_found() {
    let (_index, _origin, relay) = domain("");
    let (status, _) = response(relay.request("GET /live/news.ts HTTP/1.1\r\n\r\n"));
    assert_eq!(status, 404);
    assert_eq!(relay.stats()["streams"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_parent_that_is_not_there_is_passed_over() {
    let (index, origin, relay) = domain(FROM_THE_START);
    let published = transport_stream(7, Span::from_secs(2));
    origin.put_all("/live/news", &published);
    // Bound and closed again: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address");
    parents(&index, &[nobody, origin.listen]);
    assert!(relay.play("news", published.len()) == published);
}

#[test]
fn when_its_parent_dies_the_stream_goes_on_from_another() {
    let index = FakeIndex::start();
    let config = index.config() + FROM_THE_START;
    let origin = Cache::start(&config);
    let middle = Cache::start(&config);
    let relay = Cache::start(&config);
    let published = transport_stream(7, Span::from_secs(4));
    let (begin, rest) = published.split_at(published.len() / 2);
    let mut put = origin.put("/live/news");
    send_chunk(&mut put, begin);
    // The middle one finds the origin, the last one the middle.
    parents(&index, &[origin.listen]);
    middle.play("news", 188 * 100);
    parents(&index, &[middle.listen]);
    let mut viewer = relay.request("GET /live/news.ts HTTP/1.1\r\n\r\n");
    assert!(head(&mut viewer).starts_with("HTTP/1.1 200"));
    parents(&index, &[origin.listen]);
    middle.signal(rustix::process::Signal::KILL);
    send_chunk(&mut put, rest);
    put.write_all(b"0\r\n\r\n").expect("sent");
    let mut played = vec![0; published.len()];
    std::io::Read::read_exact(&mut viewer, &mut played).expect("played to the end");
    assert!(played == published, "no byte is lost or doubled");
    assert_eq!(relay.stream("news")["missing"], 0);
}

#[test]
fn chunks_under_a_key_that_the_index_does_not_name_are_not_taken() {
    let (index, origin, relay) = domain("");
    origin.put_all("/live/news", &transport_stream(7, Span::from_secs(2)));
    parents(&index, &[origin.listen]);
    // What the index says is the publisher's key is another one.
    let another = cache_core::sign::PublisherKey::from_seed(&[9; 32]).public();
    index.with(|state| state.keys.get_mut(&news()).expect("published")[0].key = another);
    let _viewer = relay.request("GET /live/news.ts HTTP/1.1\r\n\r\n");
    until("a wrong chunk is noticed", || (relay.stats()["control"]["chunks_wrong"].as_u64() >= Some(1)).then_some(()));
    let stats = relay.stats();
    assert_eq!((&stats["control"]["chunks_stored"], &stats["bytes_out"]), (&0.into(), &0.into()));
}

#[test]
fn the_next_index_of_the_list_is_asked_when_the_first_is_silent() {
    let index = FakeIndex::start();
    // Bound and never read: a server that hangs.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let addr = silent.local_addr().expect("bound");
    let cache = Cache::start(&format!("index = [\"{addr}\", \"{}\"]\n", index.addr));
    let stream = transport_stream(1, Span::from_secs(1));
    assert_eq!(cache.put_all("/live/news", &stream).0, 200);
    until("it is registered", || index.with(|state| state.caches.get(&cache.listen).map(drop)));
}

#[test]
fn the_index_hears_of_a_drain_before_it_is_over() {
    let (index, mut origin, _relay) = domain("");
    origin.signal(rustix::process::Signal::TERM);
    assert_eq!(origin.wait().code(), Some(0));
    until("the index has read it", || index.with(|state| state.caches[&origin.listen].1.draining.then_some(())));
}

#[test]
fn a_publisher_that_came_back_under_a_new_key_is_followed() {
    let (index, origin, relay) = domain(FROM_THE_START);
    let (first, second) = (transport_stream(1, Span::from_secs(2)), transport_stream(2, Span::from_secs(2)));
    origin.put_all("/live/news", &first);
    parents(&index, &[origin.listen]);
    let mut viewer = relay.request("GET /live/news.ts HTTP/1.1\r\n\r\n");
    assert!(head(&mut viewer).starts_with("HTTP/1.1 200"));
    origin.put_all("/live/news", &second);
    until("the relay has both", || (relay.stream("news")["head"] == 19).then_some(()));
    assert_eq!((&relay.stream("news")["epoch"], &relay.stream("news")["missing"]), (&2.into(), &0.into()));
}

#[test]
fn a_pull_that_nobody_watches_is_given_up() {
    let (index, origin, relay) = domain("pull_grace_s = 1\n");
    let mut put = origin.put("/live/news");
    send_chunk(&mut put, &transport_stream(7, Span::from_secs(2)));
    parents(&index, &[origin.listen]);
    relay.play("news", 188);
    until("it is gone", || relay.stream("news").is_null().then_some(()));
    until("the index hears of it", || (holds(&index, &relay) == Some(HoldState::Ended)).then_some(()));
    until("the origin's connection too", || (origin.stream("news")["viewers"] == 0).then_some(()));
}

#[test]
fn an_index_that_lost_its_memory_gets_it_back() {
    let (index, origin, relay) = domain(FROM_THE_START);
    let mut put = origin.put("/live/news");
    send_chunk(&mut put, &transport_stream(7, Span::from_secs(2)));
    until("the index hears of it", || (holds(&index, &origin) == Some(HoldState::Origin)).then_some(()));
    let keys = index.with(|state| std::mem::take(state).keys);
    assert_eq!(
        origin.put_all("/live/other", &transport_stream(1, Span::from_secs(1))).0,
        200,
        "a cache registers anew"
    );
    until("the index has the keys again", || {
        index.with(|state| (state.keys.get(&news()) == keys.get(&news())).then_some(()))
    });
    parents(&index, &[origin.listen]);
    relay.play("news", 188 * 100);
}

#[test]
fn a_publisher_taken_over_at_another_cache_makes_way() {
    let (index, old, new) = domain(FROM_THE_START);
    let stream = transport_stream(7, Span::from_secs(2));
    let mut put = old.put("/live/news");
    send_chunk(&mut put, &stream);
    until("it is live", || (old.stream("news")["state"] == "origin").then_some(()));
    let mut taken_over = new.put("/live/news");
    send_chunk(&mut taken_over, &stream);
    until("it is live elsewhere", || (new.stream("news")["state"] == "origin").then_some(()));
    parents(&index, &[new.listen]);
    index.order_pull(old.listen, &news());
    until("the former origin relays", || (old.stream("news")["epoch"] == new.stream("news")["epoch"]).then_some(()));
    assert_eq!(old.stats()["control"]["pulls"], 1);
}

#[test]
fn who_may_publish_is_for_the_index_to_say() {
    let index = FakeIndex::start();
    let cache = Cache::start(&index.config());
    let stream = transport_stream(1, Span::from_secs(1));
    for (reason, status) in
        [(RefusalReason::NotAuthorised, 403), (RefusalReason::NameTaken, 409), (RefusalReason::Full, 503)]
    {
        index.with(|state| state.refuse_publish = Some(reason));
        assert_eq!(cache.put_all("/live/news", &stream).0, status);
    }
    index.with(|state| state.refuse_publish = None);
    assert_eq!(cache.put_all("/live/news", &stream).0, 200);
    index.with(|state| assert_eq!(state.keys.get(&news()).map(Vec::len), Some(1)));
}
