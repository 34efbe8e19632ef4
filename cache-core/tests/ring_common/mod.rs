//! What the ring's tests share: small rings, and chunks that consist of one byte over and over.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use cache_core::ring::{ChunkMeta, ChunkRef, Lookup, PREFIX_BYTES, Reader, Ring, RingConfig, RingError};
use cache_core::ring::{SEGMENT_BYTES, StreamSlot, Writer};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

/// A payload that leaves room for one more of its kind in a segment, not for two.
pub const HALF: usize = (1 << 20) - 1024;

pub fn seq(n: u64) -> ChunkSeq {
    ChunkSeq::new(n)
}

pub fn meta(n: u64, payload_len: usize) -> ChunkMeta {
    ChunkMeta {
        seq: seq(n),
        epoch: Epoch(n / 10),
        published: WallClock::from_micros(n.wrapping_mul(200_000)),
        payload_len: payload_len as u32,
        tables_len: 0,
        key_frame: None,
        duration_ms: 200,
        discontinuity: false,
        end: false,
    }
}

/// One at which a viewer can begin.
pub fn join_meta(n: u64, payload_len: usize) -> ChunkMeta {
    ChunkMeta { tables_len: 376, key_frame: Some(0), ..meta(n, payload_len) }
}

/// The byte of which chunk `n` of stream `id` consists.
pub fn fill_of(id: StreamId, n: u64) -> u8 {
    (id.0.wrapping_mul(101) ^ n.wrapping_mul(37)) as u8 | 1
}

/// A ring of `segments` segments for 4 streams that retains 8 chunks of each, and its first reader.
pub fn ring(segments: u64, change: impl FnOnce(&mut RingConfig)) -> (Writer, Ring, Reader) {
    let budget_bytes = (segments + 1) * SEGMENT_BYTES;
    let mut config = RingConfig { streams_max: 4, retain_chunks: 8, ..RingConfig::memfd(budget_bytes) };
    change(&mut config);
    let (writer, ring) = Ring::create(&config).expect("a small ring fits");
    let stats = ring.stats();
    assert_eq!(stats.segments_free, segments);
    let reader = ring.reader(0).expect("the first reader");
    (writer, ring, reader)
}

/// A stream that knows its id.
#[derive(Clone, Copy)]
pub struct Stream {
    pub id: StreamId,
    pub slot: StreamSlot,
}

pub fn open(writer: &mut Writer, id: u64) -> Stream {
    let id = StreamId(id);
    Stream { id, slot: writer.open_stream(id).expect("a free slot") }
}

pub fn publish(writer: &mut Writer, stream: Stream, meta: ChunkMeta) -> Result<bool, RingError> {
    let mut r = writer.reserve(stream.slot, PREFIX_BYTES + meta.payload_len as usize)?;
    writer.bytes_mut(&mut r).fill(fill_of(stream.id, meta.seq.get()));
    Ok(writer.publish(r, meta))
}

/// Publishes chunks `range`, each half a segment.
pub fn publish_halves(writer: &mut Writer, stream: Stream, range: std::ops::Range<u64>) {
    for n in range {
        assert_eq!(publish(writer, stream, meta(n, HALF)), Ok(true), "chunk {n}");
    }
}

pub fn ready(reader: &Reader, stream: Stream, n: u64) -> ChunkRef {
    match reader.lookup(stream.slot, seq(n)) {
        Lookup::Ready(chunk) => chunk,
        other => panic!("chunk {n} is {other:?}"),
    }
}

/// Which of chunks `range` are there, drawn: `#` ready, `.` gone, `>` not yet.
pub fn drawn(reader: &Reader, stream: Stream, range: std::ops::Range<u64>) -> String {
    let draw = |n| match reader.lookup(stream.slot, seq(n)) {
        Lookup::Ready(chunk) => {
            assert_whole(reader, stream, &chunk);
            '#'
        }
        Lookup::Gone => '.',
        Lookup::NotYet => '>',
    };
    range.map(draw).collect()
}

/// The chunk can be leased and every byte of it is its own.
pub fn assert_whole(reader: &Reader, stream: Stream, chunk: &ChunkRef) {
    let lease = reader.lease(chunk).expect("the chunk is there");
    assert_fill(reader.bytes(&lease), stream.id, chunk);
    reader.release(lease);
}

pub fn assert_fill(bytes: &[u8], id: StreamId, chunk: &ChunkRef) {
    assert_eq!(bytes.len(), PREFIX_BYTES + chunk.meta.payload_len as usize);
    let fill = fill_of(id, chunk.seq.get());
    assert!(bytes.iter().all(|b| *b == fill), "a byte of chunk {} of stream {id} is not its own", chunk.seq);
}
