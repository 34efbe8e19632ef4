//! How long [`Ring::open_or_create`] takes over a ring that is full.
//!
//! `cargo run --release -p cache-core --features shm --example ring_attach FILE_ON_A_TMPFS [GIB [STREAMS]]`
//!
//! A stream takes a segment at least, so there is room for some 500 in each GiB.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::path::PathBuf;
use std::time::Instant;

use cache_core::ring::{Backing, ChunkMeta, PREFIX_BYTES, Ring, RingConfig};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

/// A chunk of 2 Mbit/s.
const PAYLOAD: usize = 50_000;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().expect("a file on a tmpfs"));
    let mut number =
        |or| args.next().map_or(or, |text| text.to_str().and_then(|text| text.parse().ok()).expect("a number"));
    let (gib, streams) = (number(1), number(400));
    let config = RingConfig {
        backing: Backing::File(path),
        keep_file: true,
        streams_max: u32::try_from(streams).expect("streams"),
        ..RingConfig::memfd(gib << 30)
    };
    fill(&config, streams);
    for last in [false, false, true] {
        let config = RingConfig { keep_file: !last, ..config.clone() };
        let begin = Instant::now();
        // The hash of a payload, as a cache server checks it.
        let (_writer, ring, inherited) =
            Ring::open_or_create(&config, |bytes| blake3::hash(&bytes[PREFIX_BYTES..]) != blake3::hash(b""))
                .expect("room");
        let took = begin.elapsed();
        println!("{gib} GiB, {} streams, {} chunks: {took:.1?}", inherited.streams.len(), inherited.chunks);
        drop(ring);
    }
}

fn fill(config: &RingConfig, streams: u64) {
    let (mut writer, ring) = Ring::create(config).expect("room");
    let slots: Vec<_> = (0..streams).map(|id| writer.open_stream(StreamId(id)).expect("room")).collect();
    for seq in 0.. {
        for slot in &slots {
            let mut reserved = writer.reserve(*slot, PREFIX_BYTES + PAYLOAD).expect("room");
            writer.bytes_mut(&mut reserved).fill(seq as u8);
            let meta = ChunkMeta {
                seq: ChunkSeq::new(seq),
                epoch: Epoch(1),
                published: WallClock::from_micros(seq * 200_000),
                payload_len: PAYLOAD as u32,
                tables_len: 0,
                key_frame: None,
                duration_ms: 200,
                discontinuity: false,
                end: false,
            };
            writer.publish(reserved, meta);
            if ring.stats().recycled > 0 {
                return;
            }
        }
    }
}
