//! The ring under real threads: the writer fills the same few segments as fast as it can while readers look, lease,
//! hold and verify. What loom proves on two chunks is tried here on many, with the processor's own reordering.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::collections::VecDeque;
use std::thread;

use cache_core::prng::{Prng, mix};
use cache_core::ring::{ChunkMeta, ChunkRef, Lease, Lookup, PREFIX_BYTES, Reader, Recycle, Ring, RingConfig};
use cache_core::ring::{SEGMENT_BYTES, Writer};
use cache_core::time::WallClock;
use cache_core::units::Epoch;
use ring_common::*;

const RETAIN: u64 = 16;
/// What each reader verifies; meanwhile each segment is filled hundreds of times.
const CHUNKS: u64 = 5_000;

/// Every field follows from the number, so that a mixture of two chunks shows.
fn woven(n: u64) -> ChunkMeta {
    let h = mix(n);
    ChunkMeta {
        seq: seq(n),
        epoch: Epoch(h),
        published: WallClock::from_micros(!h),
        payload_len: (h % 100_000) as u32 & !7,
        tables_len: h as u16,
        key_frame: h.is_multiple_of(2).then_some((h >> 20) as u32 >> 1),
        duration_ms: (h >> 32) as u16,
        discontinuity: h & 4 != 0,
        end: h & 8 != 0,
    }
}

fn word(n: u64, i: usize) -> [u8; 8] {
    mix(n ^ (i as u64) << 40).to_ne_bytes()
}

fn publish_woven(writer: &mut Writer, stream: Stream, n: u64) -> bool {
    let meta = woven(n);
    let Ok(mut r) = writer.reserve(stream.slot, PREFIX_BYTES + meta.payload_len as usize) else { return false };
    for (i, eight) in writer.bytes_mut(&mut r).as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *eight = word(n, i);
    }
    writer.publish(r, meta)
}

fn assert_woven(reader: &Reader, lease: &Lease, n: u64) {
    for (i, eight) in reader.bytes(lease).as_chunks::<8>().0.iter().enumerate() {
        assert_eq!(*eight, word(n, i), "word {i} of chunk {n}");
    }
}

/// Reads until it has verified `chunks`.
fn read_along(reader: &Reader, stream: Stream, chunks: u64, seed: u64) {
    let mut chance = Prng::new(seed);
    let mut held: VecDeque<(Lease, ChunkRef)> = VecDeque::new();
    let (mut verified, mut last) = (0, 0);
    while verified < chunks {
        let Some(head) = reader.head(stream.slot) else { continue };
        assert!(head.get() >= last, "the head never goes back");
        last = head.get();
        let wanted = head.back(chance.below(RETAIN as usize + 2) as u64);
        if let Lookup::Ready(chunk) = reader.lookup(stream.slot, wanted) {
            assert_eq!(chunk.meta, woven(wanted.get()), "a descriptor is read whole");
            if let Some(lease) = reader.lease(&chunk) {
                assert_woven(reader, &lease, wanted.get());
                verified += 1;
                held.push_back((lease, chunk));
            }
        }
        // Some are held while others come and go, and looked at again before they are given back.
        if held.len() > chance.below(3)
            && let Some((lease, chunk)) = held.pop_front()
        {
            assert_woven(reader, &lease, chunk.seq.get());
            reader.release(lease);
        }
    }
    held.into_iter().for_each(|(lease, _)| reader.release(lease));
}

fn stress(recycle: Recycle, chunks: u64) {
    let config = RingConfig {
        streams_max: 1,
        readers_max: 2,
        recycle,
        retain_chunks: RETAIN,
        ..RingConfig::memfd(5 * SEGMENT_BYTES)
    };
    let (mut writer, ring) = Ring::create(&config).expect("room");
    let stream = open(&mut writer, 1);
    thread::scope(|scope| {
        let readers = [0, 1].map(|index| {
            let reader = ring.reader(index).expect("each once");
            scope.spawn(move || read_along(&reader, stream, chunks, u64::from(index)))
        });
        let mut n = 0;
        while !readers.iter().all(|reader| reader.is_finished()) {
            publish_woven(&mut writer, stream, n);
            n += 1;
        }
        for reader in readers {
            reader.join().expect("a reader saw a wrong byte");
        }
    });
    assert!(ring.stats().recycled > 0, "{:?}", ring.stats());
}

#[test]
fn no_reader_sees_a_wrong_byte_in_place() {
    stress(Recycle::InPlace, CHUNKS);
}

#[test]
fn no_reader_sees_a_wrong_byte_with_fresh_pages() {
    stress(Recycle::Punch, CHUNKS / 2);
}
