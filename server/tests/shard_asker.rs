//! Chunks over HTTP, one by one, on a real shard.

mod shard_support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use cache_core::ring::Recycle;
use cache_core::time::Span;
use cache_core::wire::RefusalReason;
use shard_support::*;
use socket2::{Domain, SockRef, Socket, Type};
use weircast_server::cache::bridge::{ToControl, ToShard};

/// Two of them fill a segment.
const BIG: Kind = Kind { packets: 5_500, tables: 0, key_frame: None, end: false };

fn ask(client: &mut Client, line: &str) {
    write!(client.0, "{line} HTTP/1.1\r\nHost: here\r\n\r\n").expect("the shard reads");
}

/// A response: its head, and a body of the length that the head says.
fn response(client: &mut Client) -> (String, Vec<u8>) {
    let head = head(client);
    let mut body = vec![0; content_length(&head)];
    assert!(client.fill(&mut body), "a whole body: {head}");
    (head, body)
}

fn head(client: &mut Client) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert!(client.fill(&mut byte), "a whole head: {}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

fn content_length(head: &str) -> usize {
    let (_, rest) = head.split_once("Content-Length: ").expect("a length");
    rest.lines().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).expect("a status line")
}

/// What `line` is answered with.
fn answer(client: &mut Client, line: &str) -> (String, Vec<u8>) {
    ask(client, line);
    response(client)
}

#[test]
fn many_chunks_come_whole_on_one_connection() {
    let mut stage = Stage::new(|_| ());
    let mut client = Client::connect(stage.addr);
    for number in 0..50 {
        let kind = if number % 10 == 0 { JOIN } else { PLAIN };
        stage.publish(number, kind);
        let (head, body) = answer(&mut client, &format!("GET /live/news/{number}.ts"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Type: video/mp2t\r\n"), "{head}");
        assert!(head.contains("immutable") && !head.contains("close"), "{head}");
        assert!(body == payload(stage.source.id, number, kind), "tables and all of {number}");
    }
    let (head, body) = answer(&mut client, "GET /live/news/head");
    assert_eq!((status(&head), body.as_slice()), ("200", b"{\"oldest\":0,\"head\":49}\n".as_slice()));
    assert!(head.contains("no-store"));
    assert_eq!(stage.shard.counters.accepted.get(), 1);
    stage.stop();
}

#[test]
fn a_chunk_of_any_size_comes_whole() {
    let mut stage = Stage::new(|config| config.turn_bytes = 100_000);
    let sizes = [1, 80, 266, 700, 2_700, 5_577];
    let mut client = Client::connect(stage.addr);
    for (number, packets) in (0..).zip(sizes) {
        let kind = Kind { packets, ..PLAIN };
        stage.publish(number, kind);
        let (_, body) = answer(&mut client, &format!("GET /live/news/{number}.ts"));
        assert!(body == payload(stage.source.id, number, kind), "{packets} packets");
    }
    stage.stop();
}

#[test]
fn requests_in_any_pieces_are_answered_in_their_order() {
    let mut stage = Stage::new(|_| ());
    for number in 0..8 {
        stage.publish(number, PLAIN);
    }
    let line = |number: u64| format!("GET /live/news/{number}.ts HTTP/1.1\r\nHost: here\r\n\r\n");
    let all: String = [3, 0, 99_999, 7].map(line).concat() + "GET /live/news/head HTTP/1.1\r\n\r\n" + &line(5);
    for piece in [1, 7, 50, all.len()] {
        let mut client = Client::connect(stage.addr);
        let mut reader = Client(client.0.try_clone().expect("a descriptor"));
        let pieces = all.clone();
        let writer = std::thread::spawn(move || {
            for part in pieces.as_bytes().chunks(piece) {
                client.0.write_all(part).expect("the shard reads");
            }
            client
        });
        for number in [3, 0] {
            assert!(response(&mut reader).1 == payload(stage.source.id, number, PLAIN), "{number}");
        }
        assert_eq!(status(&response(&mut reader).0), "404");
        assert!(response(&mut reader).1 == payload(stage.source.id, 7, PLAIN));
        assert!(response(&mut reader).1.starts_with(b"{\"oldest\":0"));
        assert!(response(&mut reader).1 == payload(stage.source.id, 5, PLAIN));
        drop(writer.join().expect("all was written"));
    }
    stage.stop();
}

#[test]
fn who_says_close_or_knows_no_better_is_closed_behind_the_answer() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, PLAIN);
    for request in [
        "GET /live/news/1.ts HTTP/1.1\r\nConnection: close\r\n\r\nGET /live/news/1.ts HTTP/1.1\r\n\r\n",
        "GET /live/news/1.ts HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::connect(stage.addr);
        client.0.write_all(request.as_bytes()).expect("the shard reads");
        let (head, body) = response(&mut client);
        assert!(head.contains("Connection: close"), "{head}");
        assert!(body == payload(stage.source.id, 1, PLAIN));
        assert_eq!(client.rest(), b"");
    }
    let mut client = Client::connect(stage.addr);
    ask(&mut client, "GET /live/news/1.ts");
    client.0.shutdown(Shutdown::Write).expect("connected");
    assert!(response(&mut client).1 == payload(stage.source.id, 1, PLAIN), "who says no more still hears");
    assert!(client.ended());
    stage.stop();
}

#[test]
fn a_head_request_gets_the_length_and_no_bytes() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let mut client = Client::connect(stage.addr);
    ask(&mut client, "HEAD /live/news/1.ts");
    assert_eq!(content_length(&head(&mut client)), 42 * PACKET);
    ask(&mut client, "HEAD /live/news/head");
    assert!(content_length(&head(&mut client)) > 10);
    ask(&mut client, "HEAD /live/news/99999.ts");
    assert_eq!(status(&head(&mut client)), "404");
    assert!(answer(&mut client, "GET /live/news/1.ts").1 == payload(stage.source.id, 1, JOIN));
    stage.stop();
}

#[test]
fn a_chunk_ahead_is_waited_for() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut first, mut second) = (Client::connect(stage.addr), Client::connect(stage.addr));
    for number in (2..20).step_by(2) {
        ask(&mut first, &format!("GET /live/news/{number}.ts"));
        ask(&mut second, &format!("GET /live/news/{}.ts", number + 1));
        stage.publish(number, PLAIN);
        assert!(response(&mut first).1 == payload(stage.source.id, number, PLAIN));
        stage.publish(number + 1, PLAIN);
        assert!(response(&mut second).1 == payload(stage.source.id, number + 1, PLAIN));
    }
    stage.stop();
}

#[test]
fn what_does_not_come_is_said() {
    let mut stage = Stage::new(|config| config.http_wait = Span::from_millis(1));
    for number in 300..310 {
        stage.publish(number, PLAIN);
    }
    let mut client = Client::connect(stage.addr);
    for (number, again) in [(7, false), (310, true), (311, true), (309 + 257, true), (u64::MAX, true)] {
        let (head, _) = answer(&mut client, &format!("GET /live/news/{number}.ts"));
        assert_eq!((status(&head), head.contains("Retry-After: 1")), ("404", again), "{number}");
        assert!(head.contains("no-store"), "nobody keeps it");
    }
    stage.tell(ToShard::Ended { stream: stage.source.id, last: seq(309) });
    assert_eq!(status(&answer(&mut client, "GET /live/news/310.ts").0), "404");
    assert_eq!(stage.shard.counters.chunks_unavailable.get(), 6);
    assert!(answer(&mut client, "GET /live/news/309.ts").1 == payload(stage.source.id, 309, PLAIN));
    stage.stop();
}

#[test]
fn the_end_of_a_stream_ends_the_waiting() {
    let mut stage = Stage::new(|config| config.http_wait = Span::from_secs(600));
    stage.publish(1, PLAIN);
    let mut client = Client::connect(stage.addr);
    ask(&mut client, "GET /live/news/2.ts");
    let counters = stage.shard.counters.clone();
    until("it is asked for", || counters.chunks_requested.get() == 1);
    stage.tell(ToShard::Ended { stream: stage.source.id, last: seq(1) });
    assert_eq!(status(&response(&mut client).0), "404");
    stage.stop();
}

#[test]
fn a_stream_that_is_not_there_is_wanted() {
    let mut stage = Stage::new(|_| ());
    let mut there = Client::connect(stage.addr);
    ask(&mut there, "GET /live/news/1.ts");
    assert!(matches!(stage.hear(), ToControl::Want { stream } if stream == name("news")));
    let mut nowhere = Client::connect(stage.addr);
    ask(&mut nowhere, "GET /live/nothing/head");
    assert!(matches!(stage.hear(), ToControl::Want { .. }));
    stage.publish(1, JOIN);
    assert!(response(&mut there).1 == payload(stage.source.id, 1, JOIN));
    stage.tell(ToShard::StreamRefused { name: name("nothing"), reason: RefusalReason::UnknownStream });
    assert_eq!(status(&response(&mut nowhere).0), "404");
    assert!(answer(&mut nowhere, "GET /live/news/1.ts").1 == payload(stage.source.id, 1, JOIN), "and may ask on");
    stage.stop();
}

#[test]
fn other_requests_find_their_way_from_an_open_connection() {
    let mut stage = Stage::new(|config| config.http_back_chunks = 0);
    stage.publish(1, JOIN);
    let asked = |line: &str| {
        let mut client = Client::connect(stage.addr);
        assert_eq!(status(&answer(&mut client, "GET /live/news/1.ts").0), "200");
        ask(&mut client, line);
        client
    };
    let mut playing = asked("GET /live/news.ts");
    assert!(head(&mut playing).contains("Connection: close"));
    let mut tables = vec![0; 2 * PACKET];
    assert!(playing.fill(&mut tables) && tables == payload(stage.source.id, 1, JOIN)[..2 * PACKET]);
    for (line, code, open) in [
        ("GET /nowhere", "404", true),
        ("GET /live/.x/1.ts", "404", true),
        ("DELETE /live/news/1.ts", "405", true),
        ("PUT /live/news", "421", false),
        ("GET /stats", "421", false),
        ("GET /live/news/1.ts HTTP/1.1\r\nContent-Length: 4", "400", false),
        ("GET no thing", "400", false),
    ] {
        let mut client = asked(line);
        let (head, _) = response(&mut client);
        assert_eq!((status(&head), head.contains("Connection: close")), (code, !open), "{line}");
        match open {
            true => assert_eq!(status(&answer(&mut client, "GET /live/news/1.ts").0), "200"),
            false => assert_eq!(client.rest(), b"", "{line}"),
        }
    }
    let counters = stage.shard.counters.clone();
    drop(playing);
    until("all are gone", || counters.connections.get() == 0 && counters.viewers_http.get() == 0);
    stage.stop();
}

#[test]
fn who_asks_nothing_or_half_a_question_is_closed() {
    let mut stage = Stage::new(|config| {
        config.http_idle = Span::from_millis(1);
        config.handshake_deadline = Span::from_millis(300);
    });
    stage.publish(1, PLAIN);
    let mut idle = Client::connect(stage.addr);
    let mut half = Client::connect(stage.addr);
    half.0.write_all(b"GET /live/news/1.ts HTTP/1.1\r\n\r\nGET /li").expect("the shard reads");
    assert_eq!(status(&response(&mut half).0), "200");
    assert_eq!(status(&answer(&mut idle, "GET /live/news/1.ts").0), "200");
    assert!(idle.ended() && half.ended());
    let counters = &stage.shard.counters;
    assert_eq!((counters.http_idle_closed.get(), counters.handshakes_late.get()), (1, 1));
    stage.stop();
}

#[test]
fn who_asks_far_ahead_of_its_answers_is_cut_off() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, BIG);
    let mut client = Client::connect(stage.addr);
    let questions = "GET /live/news/1.ts HTTP/1.1\r\n\r\n".repeat(100);
    let counters = stage.shard.counters.clone();
    until("it is cut off", || client.0.write_all(questions.as_bytes()).is_err() || counters.cut_asked_ahead.get() > 0);
    until("it is counted", || counters.cut_asked_ahead.get() == 1);
    stage.stop();
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_behind() {
    let mut stage = Stage::new(|config| config.http_wait = Span::from_secs(600));
    stage.publish(1, BIG);
    let mut middle = Client::connect(stage.addr);
    SockRef::from(&middle.0).set_recv_buffer_size(32 << 10).expect("a socket");
    ask(&mut middle, "GET /live/news/1.ts");
    let mut some = [0; 1_000];
    middle.0.read_exact(&mut some).expect("it begins");
    let mut waiting = Client::connect(stage.addr);
    ask(&mut waiting, "GET /live/news/2.ts");
    let counters = stage.shard.counters.clone();
    until("both are asked for", || counters.chunks_requested.get() == 2);
    drop((middle, waiting));
    until("both are gone", || counters.connections.get() == 0 && counters.viewers_http.get() == 0);
    stage.stop();
}

#[test]
fn a_drained_shard_finishes_the_answers_that_were_begun() {
    let mut stage = Stage::new(|config| config.http_wait = Span::from_secs(600));
    stage.publish(1, BIG);
    let (mut reading, mut idle) = (Client::connect(stage.addr), Client::connect(stage.addr));
    let mut waiting = Client::connect(stage.addr);
    answer(&mut idle, "GET /live/news/head");
    ask(&mut waiting, "GET /live/news/2.ts");
    ask(&mut reading, "GET /live/news/1.ts");
    let head = head(&mut reading);
    let counters = stage.shard.counters.clone();
    until("all are heard", || counters.chunks_requested.get() == 2);
    stage.tell(ToShard::Drain);
    assert!(idle.ended());
    assert_eq!(status(&response(&mut waiting).0), "503");
    let mut body = vec![0; content_length(&head)];
    assert!(reading.fill(&mut body) && body == payload(stage.source.id, 1, BIG));
    assert!(reading.ended());
    drop((reading, waiting, idle));
    while !matches!(hear_any(&mut stage.shard), ToControl::Stopped) {}
    assert!(stage.shard.join());
}

/// What tries to make one connection's bytes mean two things: it is answered once and closed, and nothing behind it is
/// taken for a request.
#[test]
fn nothing_is_smuggled_behind_a_request() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, PLAIN);
    let behind = "GET /live/news/1.ts HTTP/1.1\r\n\r\n";
    for head in [
        "Content-Length: 36\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 36\r\n\r\n",
        "Content-Length: 00\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length: 0, 36\r\n\r\n",
        "Content-Length : 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
        "X: a\rb\r\n\r\n",
        "X\0: a\r\n\r\n",
    ] {
        // As a connection's first request, and as a later one.
        for first in ["", behind] {
            let mut client = Client::connect(stage.addr);
            client.0.write_all(first.as_bytes()).expect("connected");
            if !first.is_empty() {
                assert_eq!(status(&response(&mut client).0), "200");
            }
            let all = format!("GET /live/news/1.ts HTTP/1.1\r\n{head}{behind}");
            client.0.write_all(all.as_bytes()).expect("connected");
            let answer = String::from_utf8(client.rest()).expect("no media");
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close"), "{head:?}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
        }
    }
    stage.stop();
}

#[test]
fn a_head_that_never_ends_is_refused_behind_any_request() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, PLAIN);
    for (endless, code) in [
        (format!("GET /{}", "a".repeat(5_000)), "414"),
        (format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(900)), "431"),
    ] {
        let mut client = Client::connect(stage.addr);
        assert_eq!(status(&answer(&mut client, "GET /live/news/1.ts").0), "200");
        client.0.write_all(endless.as_bytes()).expect("connected");
        assert_eq!(status(&response(&mut client).0), code);
        assert!(client.ended());
    }
    stage.stop();
}

/// A byte at a time is no progress: a head has its time from the first byte to the last.
#[test]
fn who_sends_a_head_byte_by_byte_is_cut_off() {
    let mut stage = Stage::new(|config| config.handshake_deadline = Span::from_millis(300));
    stage.publish(1, PLAIN);
    let mut client = Client::connect(stage.addr);
    assert_eq!(status(&answer(&mut client, "GET /live/news/1.ts").0), "200");
    let counters = stage.shard.counters.clone();
    let mut sent = 0;
    until("it is cut off", || {
        sent += usize::from(sent < 4_000 && client.0.write_all(b"G").is_ok());
        std::thread::sleep(std::time::Duration::from_millis(1));
        counters.handshakes_late.get() == 1
    });
    assert!(client.ended());
    stage.stop();
}

/// Everybody waits for a chunk that is not there: it wakes each once, in its turn, whatever else is asked meanwhile.
#[test]
fn many_parked_requests_are_all_answered() {
    let mut stage = Stage::new(|config| {
        config.connections_max = 400;
        config.http_wait = Span::from_secs(600);
    });
    stage.publish(1, JOIN);
    let mut parked: Vec<Client> = (0..300).map(|_| Client::connect(stage.addr)).collect();
    for (at, client) in parked.iter_mut().enumerate() {
        ask(client, &format!("GET /live/news/{}.ts", 2 + at % 5));
        // One more behind it, which must not overtake.
        ask(client, "GET /live/news/1.ts");
    }
    let counters = stage.shard.counters.clone();
    until("all are asked for", || counters.chunks_requested.get() == 300);
    for number in 2..7 {
        stage.publish(number, PLAIN);
    }
    for (at, client) in parked.iter_mut().enumerate() {
        assert!(response(client).1 == payload(stage.source.id, 2 + at as u64 % 5, PLAIN), "{at}");
        assert!(response(client).1 == payload(stage.source.id, 1, JOIN), "{at}");
    }
    drop(parked);
    until("all are gone", || counters.connections.get() == 0 && counters.viewers_http.get() == 0);
    stage.stop();
}

/// The head was said, the rest of the chunk is overwritten before it is read: right bytes, or none.
#[test]
fn a_chunk_that_is_overwritten_under_way_is_cut_off_and_never_wrong() {
    let mut stage = Stage::on(Source::new(18, Recycle::Punch), |config| config.stall_cutoff = Span::from_secs(600));
    for number in 1..=2 {
        stage.publish(number, BIG);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a socket");
    socket.connect(&stage.addr.into()).expect("the shard listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG)).expect("a socket");
    let mut client = Client(stream);
    for _ in 0..2 {
        ask(&mut client, "GET /live/news/1.ts");
        ask(&mut client, "GET /live/news/2.ts");
    }
    let head = head(&mut client);
    let counters = stage.shard.counters.clone();
    until("the socket is full", || counters.sends_blocked.get() > 0);
    let segments = stage.source.ring.stats().segments_in_use + stage.source.ring.stats().segments_free;
    let mut number = 2;
    while stage.source.ring.stats().recycled < 4 * segments {
        number += 1;
        stage.source.publish(number, BIG);
    }
    let got = client.rest();
    let wanted = payload(stage.source.id, 1, BIG);
    let len = got.len().min(wanted.len());
    assert_eq!(content_length(&head), wanted.len());
    assert!(got[..len] == wanted[..len], "what comes is right");
    assert!(got.len() < wanted.len(), "the rest was gone: {} bytes", got.len());
    assert_eq!(counters.cut_recycled.get(), 1);
    stage.stop();
}
