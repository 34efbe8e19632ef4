//! Viewers over HTTP, on a real shard.

mod shard_support;

use std::io::Write;
use std::net::Shutdown;

use cache_core::wire::RefusalReason;
use shard_support::*;
use weircast_server::cache::bridge::{ToControl, ToShard};

fn get(stage: &Stage, line: &str) -> Client {
    let mut client = Client::connect(stage.addr);
    write!(client.0, "{line} HTTP/1.1\r\nHost: here\r\n\r\n").expect("the shard reads");
    client
}

/// The response's head, without the empty line.
fn head(client: &mut Client) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert!(client.fill(&mut byte), "a whole head: {}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// What a viewer who begins at chunk `number` of `kind` gets of it.
fn begun(stage: &Stage, number: u64, kind: Kind) -> Vec<u8> {
    let mut bytes = payload(stage.source.id, number, kind);
    let media = kind.tables + kind.key_frame.unwrap_or(0);
    bytes.drain(kind.tables * PACKET..media * PACKET);
    bytes
}

/// What a viewer gets of chunk `number` of `kind` in the middle of the stream.
fn followed(stage: &Stage, number: u64, kind: Kind) -> Vec<u8> {
    payload(stage.source.id, number, kind).split_off(kind.tables * PACKET)
}

fn expect(client: &mut Client, wanted: &[u8], what: &str) {
    let mut got = vec![0; wanted.len()];
    assert!(client.fill(&mut got), "{what}: the stream goes on");
    assert!(got == wanted, "{what}: byte {:?} is wrong", got.iter().zip(wanted).position(|(a, b)| a != b));
}

#[test]
fn a_playout_begins_at_a_key_frame_and_is_the_stream_from_there_on() {
    let mut stage = Stage::new(|config| config.http_back_chunks = 0);
    for (number, kind) in [(1, JOIN), (2, PLAIN), (3, JOIN), (4, PLAIN)] {
        stage.publish(number, kind);
    }
    let mut client = get(&stage, "GET /live/news.ts");
    let head = head(&mut client);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Type: video/mp2t"), "{head}");
    assert!(head.contains("Connection: close") && !head.contains("Content-Length"), "{head}");
    expect(&mut client, &begun(&stage, 3, JOIN), "tables and the key frame of 3");
    expect(&mut client, &followed(&stage, 4, PLAIN), "4");
    for number in 5..60 {
        let kind = if number % 10 == 0 { JOIN } else { PLAIN };
        stage.publish(number, kind);
        expect(&mut client, &followed(&stage, number, kind), "no tables in the middle");
    }
    stage.tell(ToShard::Ended { stream: stage.source.id, last: seq(59) });
    assert_eq!(client.rest(), b"", "the end of the stream is the end of the response");
    stage.stop();
}

#[test]
fn a_playout_begins_as_long_ago_as_was_asked() {
    let mut stage = Stage::new(|config| config.http_back_chunks = 0);
    let kind = |number: u64| if number.is_multiple_of(5) { JOIN } else { PLAIN };
    for number in 0..=50 {
        stage.publish(number, kind(number));
    }
    // 0 is the oldest, and a tenth of what is kept is kept away from it.
    for (query, first) in [("back_s=0", 50), ("back_s=4", 30), ("t=9&back_s=1&x", 45), ("back_s=3600", 5)] {
        let mut client = get(&stage, &format!("GET /live/news.ts?{query}"));
        assert!(head(&mut client).starts_with("HTTP/1.1 200 "), "{query}");
        expect(&mut client, &begun(&stage, first, kind(first)), query);
        for number in first + 1..=50 {
            expect(&mut client, &followed(&stage, number, kind(number)), query);
        }
    }
    let answer = get(&stage, "GET /live/news.ts?back_s=soon").rest();
    assert!(answer.starts_with(b"HTTP/1.1 400 ") && answer.ends_with(b"back_s=30\n"));
    let mut absolute = get(&stage, "GET http://here:1/live/news.ts");
    assert!(head(&mut absolute).starts_with("HTTP/1.1 200 "));
    stage.stop();
}

#[test]
fn without_a_key_frame_it_begins_at_tables_and_waits_for_them() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, PLAIN);
    let mut client = get(&stage, "GET /live/news.ts");
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    stage.publish(2, PLAIN);
    let tables = Kind { tables: 3, ..PLAIN };
    stage.publish(3, tables);
    expect(&mut client, &begun(&stage, 3, tables), "tables and all of 3");
    stage.stop();
}

#[test]
fn a_stream_that_is_not_there_is_asked_for() {
    let mut stage = Stage::new(|_| ());
    let mut there = get(&stage, "GET /live/news.ts");
    assert!(matches!(stage.hear(), ToControl::Want { stream } if stream == name("news")));
    let mut nowhere = get(&stage, "GET /live/nothing.ts");
    assert!(matches!(stage.hear(), ToControl::Want { .. }));
    stage.publish(1, JOIN);
    assert!(head(&mut there).starts_with("HTTP/1.1 200 "), "the chunk is there before control has said so");
    expect(&mut there, &begun(&stage, 1, JOIN), "1");
    stage.tell(ToShard::StreamRefused { name: name("nothing"), reason: RefusalReason::UnknownStream });
    assert!(head(&mut nowhere).starts_with("HTTP/1.1 404 "));
    assert_eq!(nowhere.rest(), b"No such stream is live.\n");
    stage.stop();
}

#[test]
fn a_head_request_gets_a_head() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let mut client = get(&stage, "HEAD /live/news.ts");
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    assert_eq!(client.rest(), b"");
    let mut nowhere = get(&stage, "HEAD /live/nowhere");
    assert!(head(&mut nowhere).starts_with("HTTP/1.1 404 "));
    assert_eq!(nowhere.rest(), b"");
    let mut unknown = get(&stage, "HEAD /live/weather.ts");
    stage.hear();
    stage.tell(ToShard::StreamRefused { name: name("weather"), reason: RefusalReason::UnknownStream });
    assert!(head(&mut unknown).starts_with("HTTP/1.1 404 "));
    assert_eq!(unknown.rest(), b"");
    stage.stop();
}

#[test]
fn nonsense_is_answered_and_disturbs_nobody() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    let long = format!("GET /{}", "a".repeat(5_000));
    for (line, status) in [
        ("GET /", "404"),
        ("GET /live/news", "404"),
        ("DELETE /live/news.ts", "405"),
        ("OPTIONS *", "405"),
        ("GET nothing at all", "400"),
        (long.as_str(), "414"),
    ] {
        let mut client = get(&stage, line);
        let answer = client.rest();
        assert!(
            answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()),
            "{status}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert_eq!(stage.shard.counters.http_errors.get(), 6);
    viewer.request(info.stream, &[(1, 1)]);
    assert_eq!(viewer.chunk(), 1);
    stage.stop();
}

#[test]
fn a_request_in_pieces_is_one_request() {
    let mut stage = Stage::new(|config| config.http_back_chunks = 0);
    stage.publish(1, JOIN);
    let mut client = Client::connect(stage.addr);
    for piece in ["G", "ET /live/ne", "ws.ts HTTP/1.1\r\nHo", "st: here\r\n", "\r\n"] {
        client.0.write_all(piece.as_bytes()).expect("the shard reads");
        std::thread::yield_now();
    }
    assert!(head(&mut client).starts_with("HTTP/1.1 200 "));
    expect(&mut client, &begun(&stage, 1, JOIN), "1");
    stage.stop();
}

#[test]
fn a_viewer_that_goes_is_forgotten() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let mut client = get(&stage, "GET /live/news.ts");
    head(&mut client);
    client.0.shutdown(Shutdown::Both).expect("connected");
    drop(client);
    let counters = stage.shard.counters.clone();
    until("the connection is gone", || counters.connections.get() == 0 && counters.accepted.get() == 1);
    stage.stop();
}
