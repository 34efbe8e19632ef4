//! What the ring does for its users, one statement at a time.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use cache_core::ring::{CHUNK_BYTES_MAX, ChunkRef, Lookup, PREFIX_BYTES, RingConfig, RingError, SEGMENT_BYTES};
use cache_core::units::StreamId;
use ring_common::*;

#[test]
fn the_prefix_is_the_wires() {
    assert_eq!(PREFIX_BYTES, cache_core::wire::CHUNK_PREFIX_BYTES);
}

#[test]
fn a_published_chunk_is_found_and_holds_its_bytes() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 7);
    assert_eq!(reader.stream(StreamId(7)), Some(stream.slot));
    assert_eq!(reader.head(stream.slot), None);
    assert_eq!(drawn(&reader, stream, 0..3), ">>>");
    let mut meta = join_meta(1, 1_000);
    (meta.key_frame, meta.discontinuity, meta.end) = (Some(188), true, true);
    assert_eq!(publish(&mut writer, stream, meta), Ok(true));
    assert_eq!(reader.head(stream.slot), Some(seq(1)));
    assert_eq!(ready(&reader, stream, 1).meta, meta);
    assert_eq!(drawn(&reader, stream, 0..3), ".#>");
}

#[test]
fn a_reservation_is_not_seen_before_it_is_published() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 7);
    let mut r = writer.reserve(stream.slot, PREFIX_BYTES + 10).expect("room");
    writer.bytes_mut(&mut r).fill(fill_of(stream.id, 0));
    assert_eq!(drawn(&reader, stream, 0..1), ">");
    assert!(writer.publish(r, meta(0, 10)));
    assert_eq!(drawn(&reader, stream, 0..1), "#");
}

#[test]
fn chunks_never_cross_segments_and_begin_on_cache_lines() {
    let (mut writer, ring, reader) = ring(4, |_| ());
    let stream = open(&mut writer, 1);
    for (n, len) in [(0, 1), (1, CHUNK_BYTES_MAX - PREFIX_BYTES), (2, CHUNK_BYTES_MAX - PREFIX_BYTES), (3, 0), (4, 77)]
    {
        assert_eq!(publish(&mut writer, stream, meta(n, len)), Ok(true));
        let chunk = ready(&reader, stream, n);
        let within = chunk.file_offset % SEGMENT_BYTES;
        assert_eq!(within % 64, 0);
        assert!(within + u64::from(chunk.len) <= SEGMENT_BYTES);
    }
    assert_eq!(ready(&reader, stream, 0).segment, ready(&reader, stream, 1).segment);
    assert_ne!(ready(&reader, stream, 1).segment, ready(&reader, stream, 2).segment);
    assert_eq!(drawn(&reader, stream, 0..5), "#####");
    assert_eq!(ring.stats().segments_in_use, 2);
}

#[test]
fn a_length_no_chunk_has_is_refused() {
    let (mut writer, _ring, _reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    for len in [0, PREFIX_BYTES - 1, CHUNK_BYTES_MAX + 1, usize::MAX] {
        let refused = writer.reserve(stream.slot, len).map(|_| ());
        assert_eq!(refused, Err(RingError::Length { len, min: PREFIX_BYTES, max: CHUNK_BYTES_MAX }));
    }
}

#[test]
fn a_gap_in_the_numbers_is_gone_until_it_is_filled_late() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    for n in [10, 11, 14] {
        assert_eq!(publish(&mut writer, stream, meta(n, 100)), Ok(true));
    }
    assert_eq!(drawn(&reader, stream, 9..17), ".##..#>>");
    assert_eq!(publish(&mut writer, stream, meta(13, 100)), Ok(true));
    assert_eq!(drawn(&reader, stream, 9..17), ".##.##>>");
    assert_eq!(reader.head(stream.slot), Some(seq(14)));
    assert_eq!(ring.stats().publish_refused, 0);
}

#[test]
fn a_number_is_published_once_and_not_below_the_window() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    assert_eq!(publish(&mut writer, stream, meta(20, 100)), Ok(true));
    for refused in [20, 12, 0, u64::MAX] {
        assert_eq!(publish(&mut writer, stream, meta(refused, 100)), Ok(false), "chunk {refused}");
    }
    assert_eq!(publish(&mut writer, stream, meta(13, 100)), Ok(true));
    assert_eq!(ring.stats().publish_refused, 4);
    assert_eq!(drawn(&reader, stream, 12..22), ".#......#>");
}

#[test]
fn chunks_expire_when_the_stream_moves_on() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    for n in 0..12 {
        assert_eq!(publish(&mut writer, stream, meta(n, 100)), Ok(true));
    }
    assert_eq!(drawn(&reader, stream, 0..13), "....########>");
    assert_eq!(reader.oldest(stream.slot), Some(seq(4)));
    // A jump leaves all but the newest behind.
    assert_eq!(publish(&mut writer, stream, meta(1 << 40, 100)), Ok(true));
    assert_eq!(drawn(&reader, stream, 0..13), ".............");
    assert_eq!(reader.oldest(stream.slot), Some(seq(1 << 40)));
}

#[test]
fn numbers_go_on_to_the_last_one() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    for n in u64::MAX - 9..u64::MAX {
        assert_eq!(publish(&mut writer, stream, meta(n, 100)), Ok(true));
    }
    assert_eq!(reader.head(stream.slot), Some(seq(u64::MAX - 1)));
    assert_eq!(drawn(&reader, stream, u64::MAX - 11..u64::MAX), "...########");
    assert_eq!(reader.lookup(stream.slot, seq(u64::MAX)), Lookup::NotYet);
}

#[test]
fn a_viewer_joins_where_tables_and_a_key_frame_are() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    assert_eq!(reader.join_point(stream.slot, 0), None);
    // A chunk with a key frame but no tables, or tables but no key frame, will not do.
    for n in 10..18 {
        let mut meta = if n == 12 || n == 15 { join_meta(n, 1_000) } else { meta(n, 1_000) };
        if n == 16 {
            meta.key_frame = Some(0);
        }
        if n == 17 {
            meta.tables_len = 188;
        }
        assert_eq!(publish(&mut writer, stream, meta), Ok(true));
    }
    let join = |back| reader.join_point(stream.slot, back).map(|seq| seq.get());
    //            10 11 12 13 14 15 16 17
    //                   ^        ^
    assert_eq!([0, 2, 3, 5, 6, 7, 100].map(join), [15, 15, 12, 12, 12, 12, 12].map(Some));
    let next = |from| reader.next_join_point(stream.slot, seq(from)).map(|seq| seq.get());
    assert_eq!([0, 12, 13, 15, 16, 99].map(next), [Some(12), Some(12), Some(15), Some(15), None, None]);
}

#[test]
fn a_stream_has_one_reservation_at_a_time() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    let held = writer.reserve(stream.slot, PREFIX_BYTES + 100).expect("room");
    assert_eq!(writer.reserve(stream.slot, PREFIX_BYTES).map(|_| ()), Err(RingError::Reserved));
    // Dropping it, as a cancelled task does, gives it back.
    drop(held);
    let held = writer.reserve(stream.slot, PREFIX_BYTES + 100).expect("room");
    writer.abandon(held);
    assert_eq!(publish(&mut writer, stream, meta(0, 100)), Ok(true));
    assert_eq!(ready(&reader, stream, 0).file_offset % SEGMENT_BYTES, 0, "nothing was used up");
    assert_eq!(ring.stats().segments_in_use, 1);
}

#[test]
fn a_stream_that_is_closed_refuses_what_was_reserved() {
    let (mut writer, ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    let mut r = writer.reserve(stream.slot, PREFIX_BYTES + 100).expect("room");
    writer.close_stream(stream.slot);
    writer.bytes_mut(&mut r).fill(1);
    assert!(!writer.publish(r, meta(0, 100)));
    assert_eq!(ring.stats().publish_refused, 1);
    assert_eq!(reader.stream(stream.id), None);
    assert_eq!(writer.reserve(stream.slot, PREFIX_BYTES).map(|_| ()), Err(RingError::StreamGone));
}

#[test]
fn a_slot_never_names_a_later_stream() {
    let (mut writer, _ring, reader) = ring(4, |_| ());
    let old = open(&mut writer, 1);
    assert_eq!(publish(&mut writer, old, meta(5, 100)), Ok(true));
    writer.close_stream(old.slot);
    writer.close_stream(old.slot);
    let new = open(&mut writer, 2);
    assert_ne!(old.slot, new.slot);
    assert_eq!(publish(&mut writer, new, meta(6, 100)), Ok(true));
    assert_eq!(drawn(&reader, old, 4..8), "....");
    assert_eq!(drawn(&reader, new, 4..8), "..#>", "chunk 5 was the old stream's");
    assert_eq!((reader.head(old.slot), reader.oldest(old.slot)), (None, None));
    assert_eq!(reader.streams().collect::<Vec<_>>(), [(StreamId(2), new.slot)]);
}

#[test]
fn a_closed_streams_chunks_can_still_be_sent_until_their_segment_is_needed() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let old = open(&mut writer, 1);
    publish_halves(&mut writer, old, 0..2);
    let chunk = ready(&reader, old, 1);
    writer.close_stream(old.slot);
    assert!(reader.valid(&chunk));
    assert_whole(&reader, old, &chunk);
    let new = open(&mut writer, 2);
    publish_halves(&mut writer, new, 0..3);
    assert!(!reader.valid(&chunk));
    assert!(reader.lease(&chunk).is_none());
}

#[test]
fn streams_are_bounded() {
    let (mut writer, ring, _reader) = ring(2, |_| ());
    let streams = [1, 2, 3, 4].map(|id| open(&mut writer, id));
    assert_eq!(writer.open_stream(StreamId(5)), Err(RingError::StreamsFull { max: 4 }));
    writer.close_stream(streams[1].slot);
    assert_eq!(writer.open_stream(StreamId(4)), Err(RingError::StreamOpen(StreamId(4))));
    assert_eq!(ring.stats().streams_open, 3);
    open(&mut writer, 5);
}

#[test]
fn each_reader_exists_once() {
    let (_writer, ring, _reader) = ring(2, |config| config.readers_max = 2);
    assert_eq!(ring.reader(0).map(|_| ()), Err(RingError::ReaderTaken { index: 0 }));
    assert!(ring.reader(1).is_ok());
    assert_eq!(ring.reader(2).map(|_| ()), Err(RingError::ReaderIndex { index: 2, max: 2 }));
}

#[test]
fn a_made_up_chunk_cannot_be_leased() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    assert_eq!(publish(&mut writer, stream, meta(0, 100)), Ok(true));
    let real = ready(&reader, stream, 0);
    let unpublished = ChunkRef { len: real.len + 1, ..real };
    let elsewhere = ChunkRef { file_offset: 0, ..real };
    let behind = ChunkRef { file_offset: u64::MAX, ..real };
    let no_segment = ChunkRef { segment: 99, ..real };
    let other_generation = ChunkRef { generation: real.generation + 1, ..real };
    let other_segment = ChunkRef { segment: 1, file_offset: real.file_offset + SEGMENT_BYTES, ..real };
    for made_up in [unpublished, elsewhere, behind, no_segment, other_generation, other_segment] {
        assert!(reader.lease(&made_up).is_none(), "{made_up:?}");
    }
    assert_whole(&reader, stream, &real);
}

#[test]
#[should_panic(expected = "its own reader")]
fn a_lease_goes_back_to_its_own_reader() {
    let (mut writer, ring, reader) = ring(2, |config| config.readers_max = 2);
    let stream = open(&mut writer, 1);
    assert_eq!(publish(&mut writer, stream, meta(0, 100)), Ok(true));
    let lease = reader.lease(&ready(&reader, stream, 0)).expect("there");
    ring.reader(1).expect("the second").release(lease);
}

#[test]
fn a_configuration_out_of_range_names_the_key_and_the_range() {
    let good = RingConfig::memfd(16 << 20);
    let refused = |config: &RingConfig| match cache_core::ring::Ring::create(config) {
        Err(RingError::Config { key, min, max, .. }) => (key, min, max),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&RingConfig { streams_max: 0, ..good.clone() }), ("streams_max", 1, 65_536));
    assert_eq!(refused(&RingConfig { retain_chunks: 0, ..good.clone() }), ("retain_chunks", 1, 65_536));
    assert_eq!(refused(&RingConfig { readers_max: 0, ..good.clone() }), ("readers_max", 1, 1024));
    let (key, min, _) = refused(&RingConfig { budget_bytes: 4 << 20, ..good.clone() });
    assert_eq!((key, min), ("budget_bytes", 6 << 20));
    assert!(cache_core::ring::Ring::create(&RingConfig { budget_bytes: min, ..good }).is_ok());
}
