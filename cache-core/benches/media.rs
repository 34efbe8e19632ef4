//! Cutting a transport stream into chunks, and making them trustworthy.

use std::hint::black_box;

use cache_core::media::{Generator, GeneratorConfig, Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::sign::{PublisherKey, payload_hash};
use cache_core::time::{Span, WallClock};
use cache_core::units::{BitRate, ChunkSeq, Epoch, StreamId};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What a publisher's socket is read into at once.
const READ_BYTES: usize = 64 << 10;

/// Ten seconds of a stream of 8 Mbit/s.
fn stream() -> Vec<u8> {
    let mut generator =
        Generator::new(GeneratorConfig { rate: BitRate::from_kbps(8_000), ..GeneratorConfig::default() });
    let mut bytes = Vec::new();
    for _ in 0..250 {
        generator.next_frame(&mut bytes);
    }
    bytes
}

fn sliced(stream: &[u8]) -> Vec<Slice> {
    let (mut slicer, mut out) = (Slicer::new(SlicerConfig::default()), Outbox::new());
    let mut now = WallClock::from_micros(1_000_000);
    for bytes in stream.chunks(READ_BYTES) {
        slicer.push(now, bytes, &mut out).expect("a transport stream");
        // A byte of 8 Mbit/s takes a microsecond.
        now = now.after(Span::from_micros(bytes.len() as u64));
    }
    slicer.finish(now, &mut out).expect("a transport stream");
    out.drain().collect()
}

fn media(c: &mut Criterion) {
    let stream = stream();
    let slices = sliced(&stream);
    assert!(slices.len() > 45, "ten seconds are about fifty chunks");

    let mut group = c.benchmark_group("media");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("slice 10 s of 8 Mbit/s", |b| b.iter(|| sliced(black_box(&stream))));

    let payload = &slices[1].payload;
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("hash a chunk of 200 KB", |b| b.iter(|| payload_hash(black_box(payload))));

    let key = PublisherKey::from_seed(&[7; 32]);
    let header = slices[1].header(StreamId(7), Epoch(1), ChunkSeq::new(1));
    group.bench_function("hash and sign a chunk of 200 KB", |b| {
        b.iter(|| {
            let mut header = header;
            key.sign_chunk(&mut header, black_box(payload));
            header
        });
    });
    group.finish();
}

criterion_group!(benches, media);
criterion_main!(benches);
