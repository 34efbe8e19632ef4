//! The ring: finding, leasing, writing, counting.
//!
//! Writing is measured in memory as it is found: a memfd, and a file in the directory that `WEIRCAST_BENCH_SLAB` names
//! (one on a tmpfs mounted `huge=always` shows what huge pages are worth).

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_core::ring::{Backing, ChunkMeta, Lookup, PREFIX_BYTES, Recycle, Ring, RingConfig, Row, StreamSlot, Writer};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A chunk of 2 Mbit/s.
const PAYLOAD: usize = 50_000;

cache_core::counter_row! {
    /// As many counters as a shard has.
    struct Counters: "bench" {
        /// The first.
        first,
        /// The one that is counted.
        counted,
    }
}

struct Source {
    writer: Writer,
    slot: StreamSlot,
    next: ChunkSeq,
    payload: Vec<u8>,
}

impl Source {
    fn new(backing: Backing, recycle: Recycle) -> (Source, Ring) {
        // A stream's window of 256 chunks, and room to recycle.
        let config = RingConfig { backing, recycle, ..RingConfig::memfd(24 << 20) };
        let (mut writer, ring) = Ring::create(&config).expect("24 MiB of memory");
        let slot = writer.open_stream(StreamId(7)).expect("the first stream");
        (Source { writer, slot, next: ChunkSeq::new(1_000), payload: vec![0x47; PAYLOAD] }, ring)
    }

    fn publish(&mut self) {
        let meta = ChunkMeta {
            seq: self.next,
            epoch: Epoch(1),
            published: WallClock::from_micros(1),
            payload_len: PAYLOAD as u32,
            tables_len: 0,
            key_frame: None,
            duration_ms: 200,
            discontinuity: false,
            end: false,
        };
        let mut reserved = self.writer.reserve(self.slot, PREFIX_BYTES + PAYLOAD).expect("old ones go");
        self.writer.bytes_mut(&mut reserved)[PREFIX_BYTES..].copy_from_slice(black_box(&self.payload));
        assert!(self.writer.publish(reserved, meta), "it is new");
        self.next = self.next.next();
    }
}

fn reading(c: &mut Criterion) {
    let (mut source, ring) = Source::new(Backing::Memfd, Recycle::InPlace);
    (0..100).for_each(|_| source.publish());
    let reader = ring.reader(0).expect("the first");
    let mut group = c.benchmark_group("ring");
    let seq = source.next.back(20);
    group.bench_function("lookup", |b| b.iter(|| reader.lookup(source.slot, black_box(seq))));
    group.bench_function("lookup of what is not there yet", |b| {
        b.iter(|| reader.lookup(source.slot, black_box(source.next)));
    });
    let Lookup::Ready(chunk) = reader.lookup(source.slot, seq) else { panic!("it was published") };
    group.bench_function("lease and release", |b| {
        b.iter(|| reader.release(reader.lease(black_box(&chunk)).expect("it is there")));
    });
    group.finish();
}

fn writing(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring, 50 KB reserved, filled, published");
    group.throughput(Throughput::Bytes(PAYLOAD as u64));
    let mut bench = |name: &str, backing: Backing, recycle: Recycle| {
        let (mut source, _ring) = Source::new(backing, recycle);
        // The ring is full: from now on every 41st chunk renews a segment.
        (0..600).for_each(|_| source.publish());
        group.bench_function(name, |b| b.iter(|| source.publish()));
    };
    bench("in place", Backing::Memfd, Recycle::InPlace);
    bench("fresh pages, memfd", Backing::Memfd, Recycle::Punch);
    if let Some(directory) = std::env::var_os("WEIRCAST_BENCH_SLAB") {
        let path = Path::new(&directory).join(format!("weircast-bench-{}.ring", std::process::id()));
        bench("fresh pages, WEIRCAST_BENCH_SLAB", Backing::File(path), Recycle::Punch);
    }
    group.finish();
}

fn counting(c: &mut Criterion) {
    let (_source, ring) = Source::new(Backing::Memfd, Recycle::InPlace);
    let row: Row<Counters> = ring.board().row(0);
    let private = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let mut group = c.benchmark_group("counter");
    group.bench_function("on the board", |b| b.iter(|| black_box(&row).counted.one()));
    group.bench_function("in an Arc, for comparison", |b| {
        b.iter(|| {
            let counted = &black_box(&private)[1];
            counted.store(counted.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        });
    });
    group.bench_function("read a board of 3 rows", |b| {
        let _rows: [Row<Counters>; 2] = [ring.board().row(1), ring.board().row(2)];
        b.iter(|| ring.board().view());
    });
    group.finish();
}

criterion_group!(benches, reading, writing, counting);
criterion_main!(benches);
