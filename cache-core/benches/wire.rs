//! The frames and datagrams that come most often, there and back, and the buffer map.

use std::hint::black_box;

use cache_core::peer_id::{Location, PeerId};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::datagram::{Cookie, Datagram};
use cache_core::wire::exchange::{Gossip, Have, Request, Run};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::index::PeerHeartbeat;
use cache_core::wire::seal::ClusterKey;
use cache_core::wire::{BufferMap, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, List};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};

/// A window as a peer has it: what has been played, most of what comes, a few holes.
fn map() -> BufferMap {
    let mut map = BufferMap::new(ChunkSeq::new(1_000_000));
    for slot in (0..180).filter(|slot| slot % 13 != 7) {
        map.set(map.base().ahead(slot), true);
    }
    map
}

fn header() -> ChunkHeader {
    ChunkHeader {
        stream: StreamId(7),
        epoch: Epoch(1),
        seq: ChunkSeq::new(1_000_000),
        published: WallClock::from_micros(1_700_000_000_000_000),
        payload_len: 50_000,
        tables_len: 376,
        duration_ms: 200,
        key_frame: Some(376),
        discontinuity: false,
        end: false,
        hash: [7; 32],
        signature: [9; 64],
    }
}

fn there_and_back(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, frame: &Frame) {
    let mut bytes = Vec::new();
    group.bench_function(format!("encode {name}"), |b| {
        b.iter(|| {
            bytes.clear();
            black_box(frame).encode(&mut bytes);
        });
    });
    bytes.clear();
    frame.encode(&mut bytes);
    group.bench_function(format!("decode {name}"), |b| {
        b.iter(|| {
            let (head, body) = black_box(&bytes).split_first_chunk::<FRAME_HEAD_BYTES>().expect("a head");
            let head = FrameHead::decode(head).expect("a frame");
            Frame::decode(head.kind, body).expect("a frame")
        });
    });
}

fn wire(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire");
    there_and_back(&mut group, "Gossip", &Gossip { map: map().to_wire() }.into());
    let have = Have { seqs: List::first_of((0..4).map(|n| ChunkSeq::new(1_000_000 + n))) };
    there_and_back(&mut group, "Have of 4", &have.into());
    let runs = List::first_of((0..3).map(|n| Run { first: ChunkSeq::new(1_000_000 + 10 * n), count: 4 }));
    there_and_back(&mut group, "Request of 3 runs", &Request { stream: StreamId(7), runs, within_ms: 900 }.into());

    let header = header();
    group.bench_function("encode a chunk's prefix", |b| b.iter(|| chunk_prefix(black_box(&header))));
    let bytes = header.encode();
    group.bench_function("decode a chunk's header", |b| b.iter(|| ChunkHeader::decode(black_box(&bytes))));

    let cluster = ClusterKey::derive("a secret");
    let peer = PeerId::new(Location { country: 86, ..Location::default() }, 7);
    let beat = PeerHeartbeat { peer, stream: StreamId(7) };
    let datagram = Datagram { exchange: 1, cookie: Cookie([7; 16]), message: beat.into() };
    let packet = datagram.encode(&cluster).expect("it fits");
    group.bench_function("decode a PeerHeartbeat datagram", |b| {
        b.iter(|| Datagram::decode(black_box(&packet), &cluster))
    });
    group.finish();
}

fn buffer_map(c: &mut Criterion) {
    let map = map();
    let wire = map.to_wire();
    let near = map.base().ahead(100);
    let mut group = c.benchmark_group("buffer map");
    group.bench_function("holds", |b| b.iter(|| black_box(&map).holds(black_box(near))));
    group.bench_function("set", |b| {
        let mut map = map;
        b.iter(|| black_box(&mut map).set(black_box(near), true));
    });
    group.bench_function("slide by one", |b| {
        let mut map = map;
        b.iter(|| {
            let next = map.base().next();
            black_box(&mut map).slide_to(next);
        });
    });
    group.bench_function("count", |b| b.iter(|| black_box(&map).count()));
    group.bench_function("walk over what is held", |b| {
        b.iter(|| black_box(&map).iter().map(ChunkSeq::get).sum::<u64>())
    });
    group.bench_function("to the wire", |b| b.iter(|| black_box(&map).to_wire()));
    group.bench_function("from the wire", |b| b.iter(|| BufferMap::from_wire(black_box(&wire), near)));
    group.finish();
}

criterion_group!(benches, wire, buffer_map);
criterion_main!(benches);
