//! Viewers over Weircast's protocol, on a real shard.

mod shard_support;

use cache_core::ring::Recycle;
use cache_core::units::Epoch;
use cache_core::wire::exchange::{Gossip, Leave, PartnersQuery, Unsubscribe};
use cache_core::wire::{BufferMap, Frame, RefusalReason};
use shard_support::*;
use weircast_server::cache::bridge::{ToControl, ToShard};
use weircast_server::cache::data::SendBackend;

#[test]
fn an_open_stream_is_described() {
    let mut stage = Stage::new(|_| ());
    for (number, kind) in [(10, JOIN), (11, PLAIN), (12, JOIN), (13, PLAIN)] {
        stage.publish(number, kind);
    }
    let mut viewer = stage.viewer();
    let info = viewer.open("news", 0);
    assert_eq!((info.oldest, info.head, info.begin), (seq(10), seq(13), seq(12)));
    assert_eq!((info.stream, info.epoch, info.head_published.micros()), (stage.source.id, Epoch(1), 1_000_013));
    assert_eq!(viewer.open("news", 2).begin, seq(10));
    stage.stop();
}

#[test]
fn chunks_are_sent_byte_for_byte_as_they_were_published() {
    let mut stage = Stage::new(|_| ());
    let big = Kind { packets: 5_570, ..JOIN };
    stage.publish(1, big);
    stage.publish(2, PLAIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.request(info.stream, &[(1, 2)]);
    for (number, kind) in [(1, big), (2, PLAIN)] {
        match viewer.next() {
            Got::Chunk(header, bytes) => {
                assert_eq!(header.seq, seq(number));
                assert!(bytes == payload(info.stream, number, kind), "all {} bytes are right", bytes.len());
            }
            other => panic!("{other:?}"),
        }
    }
    stage.stop();
}

#[test]
fn a_chunk_ahead_is_sent_when_it_is_published() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.request(info.stream, &[(2, 2)]);
    viewer.request(info.stream, &[(1, 1)]);
    assert_eq!(viewer.chunk(), 1, "the parked ones do not stand in the way");
    stage.publish(2, PLAIN);
    assert_eq!(viewer.chunk(), 2);
    stage.publish(3, PLAIN);
    assert_eq!(viewer.chunk(), 3);
    stage.stop();
}

#[test]
fn what_cannot_be_sent_is_named() {
    let mut stage = Stage::new(|_| ());
    stage.publish(300, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.request(info.stream, &[(7, 3), (600, 2)]);
    let mut said = Vec::new();
    for _ in 0..2 {
        match viewer.frame() {
            Frame::Unavailable(no) => said.push((no.reason, no.first.get(), no.count)),
            other => panic!("{other:?}"),
        }
    }
    said.sort();
    assert_eq!(said, [(RefusalReason::Gone, 7, 3), (RefusalReason::NotYet, 600, 2)]);
    viewer.request(info.stream, &[(301, 256)]);
    viewer.request(info.stream, &[(301, 256)]);
    viewer.request(info.stream, &[(301, 9)]);
    match viewer.frame() {
        Frame::Unavailable(no) => assert_eq!((no.reason, no.count), (RefusalReason::Busy, 9), "512 are outstanding"),
        other => panic!("{other:?}"),
    }
    stage.stop();
}

#[test]
fn a_subscriber_is_pushed_every_chunk_in_order() {
    let mut stage = Stage::new(|_| ());
    for number in 0..3 {
        stage.publish(number, JOIN);
    }
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 1);
    assert_eq!([viewer.chunk(), viewer.chunk()], [1, 2]);
    for number in 3..40 {
        stage.publish(number, PLAIN);
        assert_eq!(viewer.chunk(), number);
    }
    viewer.send(Unsubscribe { stream: info.stream });
    viewer.request(info.stream, &[(39, 1)]);
    assert_eq!(viewer.chunk(), 39, "the unsubscription has been read");
    stage.publish(40, PLAIN);
    viewer.request(info.stream, &[(39, 1)]);
    assert_eq!(viewer.chunk(), 39, "40 is not pushed");
    stage.stop();
}

#[test]
fn a_gap_is_told_and_so_is_the_end() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 1);
    assert_eq!(viewer.chunk(), 1);
    stage.publish(5, PLAIN);
    assert!(matches!(viewer.frame(), Frame::Skipped(skipped) if skipped.next == seq(5)));
    assert_eq!(viewer.chunk(), 5);
    stage.tell(ToShard::Ended { stream: info.stream, last: seq(5) });
    assert!(matches!(viewer.frame(), Frame::Ended(ended) if ended.last == seq(5)));
    stage.publish(6, PLAIN);
    loop {
        viewer.subscribe(info.stream, 6);
        match viewer.next() {
            Got::Chunk(header, _) => break assert_eq!(header.seq, seq(6), "the publisher came back"),
            // The shard has heard the viewer before it heard of chunk 6.
            Got::Frame(Frame::Ended(ended)) => assert_eq!(ended.last, seq(5)),
            other => panic!("{other:?}"),
        }
    }
    stage.publish(7, Kind { end: true, ..PLAIN });
    assert_eq!(viewer.chunk(), 7);
    assert!(
        matches!(viewer.frame(), Frame::Ended(ended) if ended.last == seq(7)),
        "the chunk said that it is the last"
    );
    stage.stop();
}

#[test]
fn a_stream_that_is_not_there_is_wanted_once_and_its_viewers_are_answered() {
    let mut stage = Stage::new(|_| ());
    let mut viewers = [stage.viewer(), stage.viewer(), stage.viewer()];
    for viewer in &mut viewers {
        viewer.send(cache_core::wire::exchange::Open { stream: name("news"), back: 0 });
    }
    assert!(matches!(stage.hear(), ToControl::Want { stream } if stream == name("news")));
    // Everybody has been heard when the last one's second question is answered.
    viewers[2].send(cache_core::wire::exchange::Open { stream: name("other"), back: 0 });
    assert!(matches!(stage.hear(), ToControl::Want { stream } if stream == name("other")), "news is asked for once");
    stage.source.publish(1, JOIN);
    let id = stage.source.id;
    stage.tell(ToShard::StreamReady { name: name("news"), stream: id });
    for viewer in &mut viewers {
        assert!(matches!(viewer.frame(), Frame::StreamInfo(info) if info.head == seq(1)));
    }
    stage.tell(ToShard::StreamRefused { name: name("other"), reason: RefusalReason::UnknownStream });
    assert!(
        matches!(viewers[2].frame(), Frame::Unavailable(no) if no.reason == RefusalReason::UnknownStream && no.count == 0)
    );
    stage.stop();
}

#[test]
fn control_is_told_how_many_watch() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (first, _) = Client::watching(stage.addr);
    let (second, _) = Client::watching(stage.addr);
    let id = stage.source.id;
    let mut wait_for = |wanted: u32| {
        until("the number is told", || match stage.shard.hear() {
            Some(ToControl::Viewers { stream, count, .. }) => stream == id && count == wanted,
            _ => false,
        });
    };
    wait_for(2);
    drop(first);
    wait_for(1);
    drop(second);
    wait_for(0);
    stage.stop();
}

#[test]
fn several_streams_share_a_connection() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let news = (stage.source.id, stage.source.slot);
    stage.source.id = cache_core::sign::stream_id(&name("sport"));
    stage.source.slot = stage.source.writer.open_stream(stage.source.id).expect("a second stream");
    stage.publish(100, JOIN);
    let mut viewer = stage.viewer();
    assert_eq!(viewer.open("news", 0).head, seq(1));
    assert_eq!(viewer.open("sport", 0).head, seq(100));
    viewer.subscribe(news.0, 1);
    assert_eq!(viewer.chunk(), 1);
    viewer.subscribe(stage.source.id, 100);
    assert_eq!(viewer.chunk(), 100);
    stage.publish(101, PLAIN);
    assert_eq!(viewer.chunk(), 101);
    (stage.source.id, stage.source.slot) = news;
    stage.publish(2, PLAIN);
    assert_eq!(viewer.chunk(), 2);
    stage.stop();
}

#[test]
fn what_peers_tell_their_partners_is_tolerated_and_leaving_is_an_end() {
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.send(Gossip { map: BufferMap::new(seq(0)).to_wire() });
    viewer.send(PartnersQuery {});
    viewer.request(info.stream, &[(1, 1)]);
    assert_eq!(viewer.chunk(), 1);
    viewer.send(Leave { reason: RefusalReason::Leaving });
    assert!(viewer.ended());
    stage.stop();
}

#[test]
fn a_turn_of_few_bytes_changes_nothing_but_the_order() {
    let mut stage = Stage::new(|config| config.turn_bytes = 1_000);
    for number in 0..4 {
        stage.publish(number, JOIN);
    }
    let mut viewers: Vec<_> = (0..5).map(|_| Client::watching(stage.addr)).collect();
    for (viewer, info) in &mut viewers {
        viewer.request(info.stream, &[(0, 4)]);
    }
    for (viewer, _) in &mut viewers {
        assert_eq!([viewer.chunk(), viewer.chunk(), viewer.chunk(), viewer.chunk()], [0, 1, 2, 3]);
    }
    stage.stop();
}

#[test]
fn zero_copy_gives_way_to_copying_where_the_kernel_copies_anyway() {
    let mut stage = Stage::on(Source::new(32, Recycle::InPlace), |config| config.send = SendBackend::SendZc);
    stage.publish(0, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 0);
    let counters = stage.shard.counters.clone();
    for number in 0..50 {
        if number > 0 {
            stage.publish(number, PLAIN);
        }
        assert_eq!(viewer.chunk(), number);
        if number == 10 {
            until("loopback has been found to copy", || counters.zero_copy_fallbacks.get() == 1);
        }
    }
    assert!((1..=11).contains(&counters.zero_copy_sends.get()), "{}", counters.zero_copy_sends.get());
    stage.stop();
}

#[test]
fn two_shards_share_a_port() {
    let stage = Stage::new(|config| config.pin_to = Some(0));
    let Stage { mut source, shard: first, addr } = stage;
    let listener = weircast_server::cache::data::bind(addr).expect("SO_REUSEPORT");
    // A CPU that no machine has: it is warned of, and the kernel chooses.
    let second = start(1, &source.ring, listener, addr, |config| config.pin_to = Some(1 << 20));
    source.publish(1, JOIN);
    let mut shards = [first, second];
    let mut viewers = Vec::new();
    until("both shards have viewers", || {
        let (mut viewer, info) = Client::watching(addr);
        viewer.subscribe(info.stream, 1);
        assert_eq!(viewer.chunk(), 1);
        viewers.push(viewer);
        shards.iter().all(|shard| shard.counters.chunks_sent.get() > 0)
    });
    source.publish(2, PLAIN);
    for shard in &mut shards {
        assert!(shard.tell(ToShard::Published { stream: source.id }).is_ok());
    }
    for viewer in &mut viewers {
        assert_eq!(viewer.chunk(), 2, "one slot serves the viewers of both");
    }
    for mut shard in shards {
        assert!(shard.tell(ToShard::Stop).is_ok());
        assert!(shard.join());
    }
}
