//! Streams uploaded over HTTP: what is taken, what is refused and how, and that it comes out as it went in.

mod cache_rig;

use std::io::Write;

use cache_core::media::PayloadCheck;
use cache_core::time::Span;
use cache_rig::{Cache, head, response, send_chunk, transport_stream, until};

/// Viewers begin as far back as the ring goes.
const FROM_THE_START: &str = "http_back_chunks = 255\n";

#[test]
fn what_is_put_is_played_byte_for_byte() {
    let cache = Cache::start(FROM_THE_START);
    let published = transport_stream(7, Span::from_secs(4));
    let (status, said) = cache.put_all("/live/news", &published);
    assert_eq!((status, said.as_str()), (200, "news: 20 chunks.\n"));
    let played = cache.play("news", published.len());
    assert!(played == published, "the stream begins with its own tables, so not even those differ");
    let mut check = PayloadCheck::new(7);
    check.push(&played);
    assert!(check.report().is_perfect(), "{:?}", check.report());
    assert_eq!(cache.stream("news")["state"], "stalled", "the publisher may come back");
}

#[test]
fn a_body_may_have_a_length_or_end_with_the_connection() {
    let cache = Cache::start(FROM_THE_START);
    let published = transport_stream(1, Span::from_secs(2));
    let mut sized = cache.request(&format!("POST /live/sized HTTP/1.1\r\nContent-Length: {}\r\n\r\n", published.len()));
    sized.write_all(&published).expect("sent");
    assert_eq!(response(sized).0, 200);
    let mut endless = cache.request("PUT /live/endless HTTP/1.0\r\n\r\n");
    endless.write_all(&published).expect("sent");
    endless.shutdown(std::net::Shutdown::Write).expect("shut");
    assert_eq!(response(endless).0, 200);
    assert!(cache.play("sized", published.len()) == published);
    assert!(cache.play("endless", published.len()) == published);
}

#[test]
fn an_upload_that_waits_for_100_continue_gets_it() {
    let cache = Cache::start("");
    let mut put = cache.request("PUT /live/a HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(head(&mut put), "HTTP/1.1 100 Continue\r\n\r\n");
    send_chunk(&mut put, &transport_stream(1, Span::from_secs(1)));
    put.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(response(put).0, 200);
}

#[test]
fn a_publisher_that_comes_back_goes_on_at_the_next_number() {
    let cache = Cache::start("");
    cache.put_all("/live/news", &transport_stream(1, Span::from_secs(2)));
    let first = cache.stream("news");
    assert_eq!((&first["head"], &first["epoch"]), (&9.into(), &1.into()));
    cache.put_all("/live/news", &transport_stream(2, Span::from_secs(2)));
    let second = cache.stream("news");
    assert_eq!((&second["head"], &second["epoch"]), (&19.into(), &2.into()));
    assert_eq!((&second["oldest"], &second["missing"]), (&0.into(), &0.into()));
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused() {
    let cache = Cache::start("");
    let stream = transport_stream(1, Span::from_secs(2));
    let mut first = cache.put("/live/news");
    send_chunk(&mut first, &stream);
    until("the first is live", || (cache.stream("news")["state"] == "origin").then_some(()));
    let (status, said) = response(cache.put("/live/news"));
    assert_eq!(status, 409);
    assert!(said.contains("somebody else") && said.contains("takeover=1"), "{said}");
    first.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(response(first).0, 200, "and the first was not disturbed");
    assert_eq!(cache.put_all("/live/news", &stream).0, 200, "when it is gone the name is free");
}

#[test]
fn a_name_with_a_secret_takes_it_in_any_of_its_forms_and_nothing_less() {
    let cache = Cache::start("[[publish]]\nname = \"news*\"\nsecret = \"s3cret\"\n");
    let stream = transport_stream(1, Span::from_secs(1));
    let (status, said) = cache.put_all("/live/news", &stream);
    assert_eq!(status, 403);
    assert!(said.contains("?key="), "{said}");
    assert_eq!(cache.put_all("/live/news?key=wrong", &stream).0, 403);
    assert_eq!(cache.put_all("/live/other", &stream).0, 200, "no rule is for this name");
    assert_eq!(cache.put_all("/live/news?key=s3cret", &stream).0, 200);
    let mut bearer =
        cache.request("PUT /live/news2 HTTP/1.1\r\nAuthorization: Bearer s3cret\r\nTransfer-Encoding: chunked\r\n\r\n");
    send_chunk(&mut bearer, &stream);
    bearer.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(response(bearer).0, 200);
}

#[test]
fn the_rightful_publisher_may_take_its_name_over() {
    let cache = Cache::start("[[publish]]\nname = \"news\"\nsecret = \"s\"\n");
    let stream = transport_stream(1, Span::from_secs(2));
    let mut hung = cache.put("/live/news?key=s");
    send_chunk(&mut hung, &stream);
    until("it is live", || (cache.stream("news")["state"] == "origin").then_some(()));
    assert_eq!(cache.put_all("/live/news?key=s&takeover=1", &stream).0, 200);
    let after = cache.stream("news");
    assert_eq!((&after["epoch"], &after["missing"]), (&2.into(), &0.into()));
}

#[test]
fn what_is_no_transport_stream_is_refused_and_nobody_else_notices() {
    let cache = Cache::start(FROM_THE_START);
    let published = transport_stream(3, Span::from_secs(3));
    let mut good = cache.put("/live/good");
    let (begin, rest) = published.split_at(published.len() / 2);
    send_chunk(&mut good, begin);
    let (status, said) = cache.put_all("/live/bad", &[b'x'; 300_000]);
    assert_eq!(status, 415);
    assert!(said.contains("-f mpegts"), "{said}");
    assert_eq!(cache.put_all("/live/empty", &[]).0, 415);
    let mut nonsense = cache.put("/live/nonsense");
    nonsense.write_all(b"this is no size\r\n").expect("sent");
    assert_eq!(response(nonsense).0, 400);
    send_chunk(&mut good, rest);
    good.write_all(b"0\r\n\r\n").expect("sent");
    assert_eq!(response(good).0, 200);
    assert!(cache.play("good", published.len()) == published);
    let stats = cache.stats();
    assert_eq!(stats["control"]["publishers_garbled"], 3);
    assert_eq!(stats["streams"].as_array().map(Vec::len), Some(1), "nothing is left of the others: {stats}");
}

#[test]
fn other_paths_and_names_are_answered_in_words() {
    let cache = Cache::start("");
    assert_eq!(response(cache.put("/elsewhere")).0, 404);
    assert_eq!(response(cache.put("/live/a%2Fb")).0, 400);
    let (status, said) = response(cache.request("GET / HTTP/1.1\r\n\r\n"));
    assert!(status == 200 || status == 404, "{status} {said}");
}

#[test]
fn a_stream_that_memory_does_not_hold_is_refused() {
    let cache = Cache::start("memory_mib = 8\nstreams_max = 64\n");
    let media = transport_stream(7, Span::from_secs(1));
    let answers: Vec<_> = (0..8).map(|n| cache.put_all(&format!("/live/s{n}"), &media)).collect();
    let taken = answers.iter().take_while(|(status, _)| *status < 300).count();
    assert!((1..=4).contains(&taken), "four segments are 8 MiB: {answers:?}");
    assert!(answers[taken..].iter().all(|(status, said)| *status == 503 && said.contains("memory_mib")), "{answers:?}");
    assert_eq!(cache.stats()["ring"]["no_space"], 0);
    for n in 0..taken {
        assert_eq!(cache.play(&format!("s{n}"), 188).len(), 188, "whoever was taken is served");
    }
}

/// The kernel deals connections out by their ports: of 48 viewers some are on each of three shards, and most are not on
/// the one that took the publisher.
fn every_shard_serves_it(listen: &str) {
    let cache = Cache::start(&format!("listen = \"{listen}\"\nshards = 3\n{FROM_THE_START}"));
    let published = transport_stream(7, Span::from_secs(4));
    let (begin, rest) = published.split_at(published.len() / 2);
    let mut put = cache.put("/live/news");
    send_chunk(&mut put, begin);
    until("it is live", || (cache.stream("news")["head"].as_u64() > Some(5)).then_some(()));
    let played = std::thread::scope(|scope| {
        let viewers: Vec<_> = (0..48).map(|_| scope.spawn(|| cache.play("news", published.len()))).collect();
        until("all watch", || (cache.stream("news")["viewers"] == 48).then_some(()));
        send_chunk(&mut put, rest);
        put.write_all(b"0\r\n\r\n").expect("sent");
        viewers.into_iter().map(|viewer| viewer.join().expect("played")).collect::<Vec<_>>()
    });
    assert!(played.iter().all(|played| *played == published));
    let stats = cache.stats();
    let shards = stats["shards"].as_array().expect("a list");
    assert_eq!(shards.len(), 3);
    assert!(shards.iter().all(|shard| shard["chunks_sent"].as_u64() > Some(0)), "{stats:#}");
}

#[test]
fn a_publisher_on_one_shard_is_watched_on_all() {
    every_shard_serves_it("127.0.0.1:0");
}

#[test]
fn over_ipv6_as_over_ipv4() {
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => every_shard_serves_it("[::1]:0"),
        Err(error) => eprintln!("SKIP: this host has no IPv6 loopback: {error}"),
    }
}
