//! How long `Writer::reserve` takes, with segments recycled in it and with segments made clean ahead of need.
//!
//! `cargo run --release -p cache-core --features shm --example ring_reserve [FILE on a tmpfs]`

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cache_core::ring::{Backing, ChunkMeta, PREFIX_BYTES, Ring, RingConfig};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

/// A chunk of 2 Mbit/s.
const PAYLOAD: usize = 50_000;
const CHUNKS: u64 = 20_000;
const RING_BYTES: u64 = 256 << 20;

fn main() {
    let backing = std::env::args_os().nth(1).map_or(Backing::Memfd, |path| Backing::File(PathBuf::from(path)));
    println!("{:>8} {:>10} {:>10} {:>10} {:>12}", "", "p50", "p99", "max", "tidying max");
    for (name, tidied) in [("inline", false), ("tidied", true), ("inline", false), ("tidied", true)] {
        let (times, tidying) = measure(&backing, tidied);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{name:>8} {:>10.1?} {:>10.1?} {:>10.1?} {tidying:>12.1?}", at(0.5), at(0.99), at(1.0));
    }
}

/// The times of all reservations, sorted, and the longest tidying.
fn measure(backing: &Backing, tidied: bool) -> (Vec<Duration>, Duration) {
    let config = RingConfig { backing: backing.clone(), ..RingConfig::memfd(RING_BYTES) };
    let (mut writer, _ring) = Ring::create(&config).expect("256 MiB");
    let slot = writer.open_stream(StreamId(1)).expect("the first");
    let mut times = Vec::with_capacity(CHUNKS as usize);
    let mut tidying = Duration::ZERO;
    for seq in 0..CHUNKS {
        let begin = Instant::now();
        let mut reserved = writer.reserve(slot, PREFIX_BYTES + PAYLOAD).expect("room");
        times.push(begin.elapsed());
        writer.bytes_mut(&mut reserved).fill(seq as u8);
        let meta = ChunkMeta {
            seq: ChunkSeq::new(seq),
            epoch: Epoch(1),
            published: WallClock::from_micros(seq),
            payload_len: PAYLOAD as u32,
            tables_len: 0,
            key_frame: None,
            duration_ms: 200,
            discontinuity: false,
            end: false,
        };
        assert!(writer.publish(reserved, meta));
        let begin = Instant::now();
        if tidied && writer.tidy() {
            tidying = tidying.max(begin.elapsed());
        }
    }
    times.sort_unstable();
    (times, tidying)
}
