//! What the ring does, one statement at a time.
#![cfg(all(feature = "shm", not(loom)))]

use cache_core::ring::{Backing, ChunkMeta, Lookup, PREFIX_BYTES, Reader, Recycle, Ring, RingConfig, RingError};
use cache_core::ring::{ChunkRef, SEGMENT_BYTES, StreamSlot, Writer};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

const MIB: u64 = 1 << 20;
const FULL: usize = 1 << 20;

fn meta(seq: u64, payload_len: usize) -> ChunkMeta {
    ChunkMeta {
        seq: ChunkSeq::new(seq),
        epoch: Epoch(1),
        published: WallClock::from_micros(seq * 200_000),
        payload_len: payload_len as u32,
        tables_len: 0,
        key_frame: None,
        duration_ms: 200,
        discontinuity: false,
        end: false,
    }
}

/// The byte of which chunk `seq` consists.
fn fill_of(seq: u64) -> u8 {
    (seq * 37 + 11) as u8
}

fn publish(writer: &mut Writer, slot: StreamSlot, seq: u64, payload_len: usize) -> Result<bool, RingError> {
    publish_as(writer, slot, meta(seq, payload_len))
}

fn publish_as(writer: &mut Writer, slot: StreamSlot, meta: ChunkMeta) -> Result<bool, RingError> {
    let mut r = writer.reserve(slot, PREFIX_BYTES + meta.payload_len as usize)?;
    writer.bytes_mut(&mut r).fill(fill_of(meta.seq.get()));
    Ok(writer.publish(r, meta))
}

fn ready(reader: &Reader, slot: StreamSlot, seq: u64) -> ChunkRef {
    match reader.lookup(slot, ChunkSeq::new(seq)) {
        Lookup::Ready(chunk) => chunk,
        other => panic!("chunk {seq} is {other:?}"),
    }
}

fn assert_bytes(reader: &Reader, chunk: &ChunkRef) {
    let lease = reader.lease(chunk).expect("the chunk is there");
    let bytes = reader.bytes(&lease);
    assert_eq!(bytes.len(), PREFIX_BYTES + chunk.meta.payload_len as usize);
    assert!(bytes.iter().all(|b| *b == fill_of(chunk.seq.get())));
    reader.release(lease);
}

/// A ring of `segments` segments, with small tables in front.
fn ring(segments: u64, change: impl FnOnce(&mut RingConfig)) -> (Writer, Ring, Reader) {
    let mut config =
        RingConfig { streams_max: 4, retain_chunks: 8, ..RingConfig::memfd((segments + 1) * SEGMENT_BYTES) };
    change(&mut config);
    let (writer, ring) = Ring::create(&config).expect("a small ring fits");
    let reader = ring.reader(0).expect("the first reader");
    (writer, ring, reader)
}

#[test]
fn a_published_chunk_is_found_and_holds_its_bytes() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let slot = writer.open_stream(StreamId(7)).expect("room");
    assert_eq!(reader.stream(StreamId(7)), Some(slot));
    assert_eq!(reader.head(slot), None);
    assert_eq!(reader.lookup(slot, ChunkSeq::new(5)), Lookup::NotYet);
    assert_eq!(publish(&mut writer, slot, 5, 1_000), Ok(true));
    assert_eq!(reader.head(slot), Some(ChunkSeq::new(5)));
    let chunk = ready(&reader, slot, 5);
    assert_eq!(chunk.meta, meta(5, 1_000));
    assert_bytes(&reader, &chunk);
}
