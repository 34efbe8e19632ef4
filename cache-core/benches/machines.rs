//! The state machines in the state in which they spend their lives: a viewer that keeps up, a peer among its partners.

#[path = "../tests/peer_net/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod peer_net;

use std::hint::black_box;

use cache_core::limits::WINDOW_CHUNKS;
use cache_core::outbox::Outbox;
use cache_core::proto::cache::viewer::{Held, Holdings, Next, Patience, Track};
use cache_core::proto::peer::{Input, Tuning};
use cache_core::units::ChunkSeq;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use peer_net::Net;

/// A ring without gaps: its answers cost nothing, so that the machine is measured alone.
struct Full {
    head: ChunkSeq,
}

impl Holdings for Full {
    fn head(&self) -> Option<ChunkSeq> {
        Some(self.head)
    }
    fn oldest(&self) -> Option<ChunkSeq> {
        Some(self.head.back(WINDOW_CHUNKS - 1))
    }
    fn held(&self, seq: ChunkSeq) -> Held {
        if seq > self.head { Held::NotYet } else { Held::Ready }
    }
    fn join_point(&self, back: u64) -> Option<ChunkSeq> {
        Some(self.head.back(back))
    }
    fn has_tables(&self, _: ChunkSeq) -> bool {
        false
    }
}

const PATIENCE: Patience = Patience { skip_behind_chunks: 25 };

fn viewer(c: &mut Criterion) {
    let mut group = c.benchmark_group("viewer");
    let mut full = Full { head: ChunkSeq::new(1_000) };
    let mut pushed = Track::new();
    pushed.subscribe(full.head, &full);
    while pushed.next(&full, PATIENCE) != Next::Idle {}
    group.bench_function("push: a chunk comes, is named, and no more", |b| {
        b.iter(|| {
            full.head = full.head.next();
            (pushed.next(black_box(&full), PATIENCE), pushed.next(&full, PATIENCE))
        });
    });
    let mut pulled = Track::new();
    group.bench_function("pull: a chunk is asked for, comes, is named, and no more", |b| {
        b.iter(|| {
            pulled.request(full.head.next(), 1, 8, &full, |_| ());
            full.head = full.head.next();
            (pulled.next(black_box(&full), PATIENCE), pulled.next(&full, PATIENCE))
        });
    });
    group.finish();
}

/// Peers that have found each other and play: a swarm of twenty after half a minute.
fn swarm() -> Net {
    let mut net = Net::new(7, 1_000, 1);
    net.run(3_000);
    for _ in 0..20 {
        net.watch(Tuning::default());
        net.run(300);
    }
    net.run(30_000);
    assert!(net.viewers.values().all(|viewer| viewer.played.len() > 50), "everybody plays");
    net
}

fn peer(c: &mut Criterion) {
    let mut group = c.benchmark_group("peer");
    group.sample_size(20);
    let mut net = swarm();
    let now = net.now;
    let viewer = net.viewers.values_mut().next().expect("twenty");
    let mut out = Outbox::new();
    viewer.peer.handle(now, Input::Tick, &mut out);
    group.bench_function("a tick with a window to look over and nothing new", |b| {
        b.iter_batched_ref(Outbox::new, |out| viewer.peer.handle(now, Input::Tick, out), BatchSize::SmallInput);
    });
    let mut net = swarm();
    group.bench_function("200 ms of a swarm of 20, all messages", |b| b.iter(|| net.run(200)));
    group.finish();
}

criterion_group!(benches, viewer, peer);
criterion_main!(benches);
