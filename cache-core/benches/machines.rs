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
use cache_core::wire::exchange::{Gossip, Have};
use cache_core::wire::{BufferMap, List};
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

/// Peers that have found each other and play: twenty, twelve partners each, after half a minute.
fn swarm() -> Net {
    let mut net = Net::new(7, 1_000, 1);
    net.run(3_000);
    for _ in 0..20 {
        net.watch(Tuning { neighbours_min: 12, ..Tuning::default() });
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
    let link = *viewer.conns.keys().next_back().expect("partners");
    let position = viewer.peer.snapshot(now).position;
    let mut out = Outbox::new();
    viewer.peer.handle(now, Input::Tick, &mut out);
    let mut map = BufferMap::new(position.back(48));
    (0..78).for_each(|n| _ = map.set(map.base().ahead(n), true));
    let inputs = [
        ("a tick with nothing new", Input::Tick),
        ("a partner's buffer map", Input::Frame { link, frame: Gossip { map: map.to_wire() }.into() }),
        ("a partner has a chunk", Input::Frame { link, frame: Have { seqs: List::first_of([position]) }.into() }),
    ];
    for (name, input) in inputs {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || (input.clone(), Outbox::new()),
                |(input, out)| viewer.peer.handle(now, input.clone(), out),
                BatchSize::SmallInput,
            );
        });
    }
    let mut net = swarm();
    group.bench_function("200 ms of a swarm of 20, all messages", |b| b.iter(|| net.run(200)));
    group.finish();
}

criterion_group!(benches, viewer, peer);
criterion_main!(benches);
