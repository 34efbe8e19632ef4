//! Slow and stopped viewers, on a real shard: they skip, or are cut off, and nobody else notices.

mod shard_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cache_core::ring::Recycle;
use cache_core::time::Span;
use cache_core::wire::Frame;
use cache_core::wire::exchange::{Open, Role};
use shard_support::*;
use socket2::{Domain, Socket, Type};
use weircast_server::cache::bridge::ToShard;
use weircast_server::cache::data::SendBackend;

/// A quarter of a megabyte: a few fill any socket.
const HEAVY: Kind = Kind { packets: 1_400, tables: 0, key_frame: None, end: false };
const HEAVY_JOIN: Kind = Kind { tables: 2, key_frame: Some(3), ..HEAVY };
/// Chunks that are published under a stopped reader: 16 MiB, more than its socket and the shard's hold.
const CHUNKS: u64 = 64;

/// Not yet reading, with a small receive queue.
fn stopped(addr: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a socket");
    socket.connect(&addr.into()).expect("the shard listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG)).expect("a socket");
    Client(stream)
}

fn slow_and_fast_viewer(send: SendBackend, recycle: Recycle) {
    let mut stage = Stage::on(Source::new(48, recycle), |config| {
        config.skip_behind_chunks = 8;
        config.stall_cutoff = Span::from_secs(600);
        config.send = send;
    });
    stage.publish(0, HEAVY);
    let mut slow = stopped(stage.addr);
    slow.send(hello(Role::Peer));
    assert!(matches!(slow.frame(), Frame::Welcome(_)));
    let id = slow.open("news", 0).stream;
    slow.subscribe(id, 0);
    assert_eq!(slow.chunk(), 0);
    let (mut fast, _) = Client::watching(stage.addr);
    fast.subscribe(id, 0);
    for number in 0..CHUNKS {
        if number > 0 {
            stage.publish(number, HEAVY);
        }
        assert_eq!(fast.chunk(), number, "the fast one gets every chunk while the slow one does not read");
    }
    let mut last = 0;
    let mut skipped = false;
    while last < CHUNKS - 1 {
        match slow.next() {
            Got::Chunk(header, _) => {
                assert_eq!(header.seq.get(), last + 1, "in order, but for what is said to be skipped");
                last += 1;
            }
            Got::Frame(Frame::Skipped(to)) => {
                assert_eq!(to.next, seq(CHUNKS - 1), "to the newest");
                (last, skipped) = (to.next.get() - 1, true);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(skipped);
    assert_eq!(stage.shard.counters.skips.get(), 1);
    stage.stop();
}

#[test]
fn slow_viewer_skips_ahead_and_delays_nobody() {
    slow_and_fast_viewer(SendBackend::Sendfile, Recycle::Punch);
}

#[test]
fn so_it_does_with_copying_and_with_zero_copy() {
    slow_and_fast_viewer(SendBackend::Copy, Recycle::InPlace);
    slow_and_fast_viewer(SendBackend::SendZc, Recycle::InPlace);
    slow_and_fast_viewer(SendBackend::Auto, Recycle::Punch);
}

#[test]
fn slow_http_viewer_skips_to_a_join_point() {
    let mut stage = Stage::on(Source::new(48, Recycle::Punch), |config| {
        config.skip_behind_chunks = 8;
        config.http_back_chunks = 0;
        config.stall_cutoff = Span::from_secs(600);
    });
    let id = stage.source.id;
    stage.publish(0, HEAVY_JOIN);
    let mut slow = stopped(stage.addr);
    slow.0.write_all(b"GET /live/news.ts HTTP/1.1\r\n\r\n").expect("connected");
    let mut all = vec![0; 1_000];
    assert!(slow.fill(&mut all), "the head and the beginning of chunk 0");
    let kind = |number: u64| if number.is_multiple_of(10) { HEAVY_JOIN } else { HEAVY };
    for number in 1..CHUNKS {
        stage.publish(number, kind(number));
    }
    stage.tell(ToShard::Ended { stream: id, last: seq(CHUNKS - 1) });
    all.extend_from_slice(&slow.rest());
    let media = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let mut rest = &all[media..];

    let mut take = |number: u64, begin: bool| {
        let kind = kind(number);
        let mut bytes = payload(id, number, kind);
        let tables = kind.tables * PACKET;
        bytes.drain(if begin { tables..tables + kind.key_frame.expect("a join point") * PACKET } else { 0..tables });
        let is_next = rest.starts_with(&bytes);
        if is_next {
            rest = &rest[bytes.len()..];
        }
        is_next
    };
    assert!(take(0, true));
    let (mut next, mut skips) = (1, 0);
    while next < CHUNKS {
        if !take(next, false) {
            let join = (next..CHUNKS).filter(|number| number.is_multiple_of(10)).find(|number| take(*number, true));
            next = join.unwrap_or_else(|| panic!("behind chunk {next} comes neither the next nor a join point"));
            skips += 1;
        }
        next += 1;
    }
    assert!(rest.is_empty() && skips > 0);
    assert_eq!(stage.shard.counters.skips.get(), skips);
    stage.stop();
}

#[test]
fn who_takes_nothing_is_cut_off_and_who_has_nothing_to_take_is_not() {
    for (send, recycle) in [
        (SendBackend::Sendfile, Recycle::Punch),
        (SendBackend::Copy, Recycle::InPlace),
        (SendBackend::SendZc, Recycle::InPlace),
        (SendBackend::Auto, Recycle::Punch),
    ] {
        let mut stage = Stage::on(Source::new(48, recycle), |config| {
            config.send = send;
            config.stall_cutoff = Span::from_millis(300);
        });
        for number in 0..CHUNKS {
            stage.publish(number, HEAVY);
        }
        let mut slow = stopped(stage.addr);
        slow.send(hello(Role::Viewer));
        slow.frame();
        let id = slow.open("news", 0).stream;
        let (mut idle, _) = Client::watching(stage.addr);
        slow.request(id, &[(0, CHUNKS as u16)]);
        let counters = stage.shard.counters.clone();
        until("the stopped one is cut off", || counters.cut_stalled.get() == 1);
        until("its connection is gone", || counters.connections.get() == 1);
        assert!(slow.rest().len() < CHUNKS as usize * HEAVY.packets * PACKET);
        idle.request(id, &[(CHUNKS - 1, 1)]);
        assert_eq!(idle.chunk(), CHUNKS - 1);
        stage.stop();
    }
}

/// Zero-copy's counts come with its completions: each must be one of progress.
#[test]
fn who_reads_slowly_all_the_time_is_not_cut_off() {
    const CUTOFF: Duration = Duration::from_secs(1);
    for (send, recycle) in [
        (SendBackend::Sendfile, Recycle::Punch),
        (SendBackend::SendZc, Recycle::InPlace),
        (SendBackend::Auto, Recycle::Punch),
    ] {
        let mut stage = Stage::on(Source::new(48, recycle), |config| {
            config.send = send;
            config.zero_copy_despite_copies = true;
            config.stall_cutoff = Span::from_micros(CUTOFF.as_micros() as u64);
        });
        for number in 0..CHUNKS {
            stage.publish(number, HEAVY);
        }
        let mut slow = stopped(stage.addr);
        slow.send(hello(Role::Viewer));
        slow.frame();
        let id = slow.open("news", 0).stream;
        slow.request(id, &[(0, CHUNKS as u16)]);
        let counters = stage.shard.counters.clone();
        until("it is being sent to", || counters.sends_blocked.get() + counters.zero_copy_sends.get() > 0);
        // A turn's 256 KiB take it longer than the cutoff.
        let (start, mut piece) = (Instant::now(), vec![0; 4 << 10]);
        while start.elapsed() < 2 * CUTOFF {
            assert!(slow.fill(&mut piece), "{send:?}: it reads and is cut off");
            std::thread::sleep(CUTOFF / 50);
        }
        assert_eq!(counters.cut_stalled.get(), 0);
        stage.stop();
    }
}

#[test]
fn little_waits_in_the_socket_of_who_is_slow() {
    for (send, recycle) in [(SendBackend::Sendfile, Recycle::Punch), (SendBackend::Copy, Recycle::InPlace)] {
        let mut stage = Stage::on(Source::new(48, recycle), |config| {
            config.send = send;
            config.stall_cutoff = Span::from_secs(600);
        });
        for number in 0..CHUNKS {
            stage.publish(number, HEAVY);
        }
        let mut slow = stopped(stage.addr);
        slow.send(hello(Role::Viewer));
        slow.frame();
        let id = slow.open("news", 0).stream;
        slow.request(id, &[(0, CHUNKS as u16)]);
        let counters = stage.shard.counters.clone();
        // It reads half of what waits: a socket without a bound grows meanwhile, one with a bound is refilled.
        for _ in 0..CHUNKS / 2 {
            slow.chunk();
        }
        until("its socket is full again", || counters.sends_blocked.get() > 1);
        let read = CHUNKS / 2 * (HEAVY.packets * PACKET) as u64;
        let waiting = counters.chunk_bytes_sent.get() - read;
        assert!(waiting < 1 << 20, "{waiting} bytes wait for it");
        stage.stop();
    }
}

#[test]
fn who_does_not_read_its_answers_is_cut_off() {
    let mut stage = Stage::new(|config| config.stall_cutoff = Span::from_secs(600));
    stage.publish(1, JOIN);
    let mut slow = stopped(stage.addr);
    slow.send(hello(Role::Viewer));
    slow.frame();
    let counters = stage.shard.counters.clone();
    let mut question = Vec::new();
    Frame::from(Open { stream: name("news"), back: 0 }).encode(&mut question);
    let questions = question.repeat(100);
    until("it is cut off", || slow.0.write_all(&questions).is_err() || counters.cut_unread_answers.get() > 0);
    until("it is counted", || counters.cut_unread_answers.get() == 1);
    stage.stop();
}

#[test]
fn a_viewer_that_resets_in_the_middle_of_a_chunk_leaves_nothing_behind() {
    for (send, recycle) in [(SendBackend::Sendfile, Recycle::Punch), (SendBackend::SendZc, Recycle::InPlace)] {
        let mut stage = Stage::on(Source::new(48, recycle), |config| config.send = send);
        for number in 0..CHUNKS {
            stage.publish(number, HEAVY);
        }
        let mut slow = stopped(stage.addr);
        slow.send(hello(Role::Viewer));
        slow.frame();
        let id = slow.open("news", 0).stream;
        slow.request(id, &[(0, CHUNKS as u16)]);
        let mut some = [0; 1000];
        slow.0.read_exact(&mut some).expect("connected");
        drop(slow);
        let counters = stage.shard.counters.clone();
        until("its connection is gone", || counters.connections.get() == 0 && counters.accepted.get() == 1);
        stage.stop();
    }
}

#[test]
fn many_stopped_viewers_cost_the_others_nothing() {
    const STOPPED: usize = 48;
    let mut stage = Stage::on(Source::new(48, Recycle::Punch), |config| {
        config.skip_behind_chunks = 8;
        config.stall_cutoff = Span::from_secs(600);
    });
    stage.publish(0, HEAVY);
    let mut crowd: Vec<_> = (0..STOPPED)
        .map(|_| {
            let mut client = stopped(stage.addr);
            client.send(hello(Role::Viewer));
            assert!(matches!(client.frame(), Frame::Welcome(_)));
            let id = client.open("news", 0).stream;
            client.subscribe(id, 0);
            client
        })
        .collect();
    let (mut fast, info) = Client::watching(stage.addr);
    fast.subscribe(info.stream, 0);
    assert_eq!(fast.chunk(), 0);
    for number in 1..CHUNKS {
        stage.publish(number, HEAVY);
        assert_eq!(fast.chunk(), number, "every chunk, while {STOPPED} take nothing");
    }
    let counters = stage.shard.counters.clone();
    let blocked = counters.sends_blocked.get();
    assert!(blocked >= STOPPED as u64, "each filled its socket: {blocked}");
    assert!(blocked < 4 * STOPPED as u64, "and was left alone from then on: {blocked}");
    assert_eq!(crowd[0].chunk(), 0, "one that reads again goes on");
    stage.stop();
}

#[test]
fn the_streams_of_a_slow_connection_take_turns() {
    const STREAMS: usize = 3;
    let mut stage = Stage::on(Source::new(96, Recycle::Punch), |config| {
        config.skip_behind_chunks = 8;
        config.stall_cutoff = Span::from_secs(600);
    });
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| {
            let id = cache_core::sign::stream_id(&name(&format!("stream-{n}")));
            (id, stage.source.writer.open_stream(id).expect("room"))
        })
        .collect();
    let publish = |stage: &mut Stage, number: u64| {
        for (id, slot) in &streams {
            (stage.source.id, stage.source.slot) = (*id, *slot);
            stage.publish(number, HEAVY);
        }
    };
    publish(&mut stage, 0);
    let mut slow = stopped(stage.addr);
    slow.send(hello(Role::Viewer));
    assert!(matches!(slow.frame(), Frame::Welcome(_)));
    for n in 0..STREAMS {
        slow.send(Open { stream: name(&format!("stream-{n}")), back: 0 });
        let Frame::StreamInfo(info) = slow.frame() else { panic!("it is there") };
        slow.subscribe(info.stream, 1);
    }
    let last = 24;
    (1..=last).for_each(|number| publish(&mut stage, number));
    let mut got = [0u64; STREAMS];
    let mut newest = [0u64; STREAMS];
    let place = |id| streams.iter().position(|(of, _)| *of == id).expect("one of them");
    while newest != [last; STREAMS] {
        match slow.next() {
            Got::Chunk(header, _) => {
                got[place(header.stream)] += 1;
                newest[place(header.stream)] = header.seq.get();
            }
            Got::Frame(Frame::Skipped(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let (least, most) = (got.iter().min().expect("three"), got.iter().max().expect("three"));
    assert!(most - least <= 2, "each gets as much as the others: {got:?}");
    stage.stop();
}
