//! The ring's three protocols, publishing, descriptors and reuse, under what threads and the memory model may do.
//! The code is the ring's own; only its atomics and its memory are loom's.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p cache-core --features shm --release --test ring_loom`
#![cfg(all(feature = "shm", loom))]

use cache_core::ring::{CHUNK_BYTES_MAX, SEGMENT_BYTES, StreamSlot, Writer};
use cache_core::ring::{ChunkMeta, ChunkRef, Lookup, PREFIX_BYTES, Reader, Recycle, Ring, RingConfig};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

/// Two of these fill a segment.
const HALF: usize = 1 << 20;
/// One of these does.
const WHOLE: usize = CHUNK_BYTES_MAX;

fn fill_of(seq: u64) -> u8 {
    seq as u8 + 1
}

fn publish(writer: &mut Writer, slot: StreamSlot, seq: u64, len: usize) -> bool {
    let meta = ChunkMeta {
        seq: ChunkSeq::new(seq),
        epoch: Epoch(seq + 100),
        published: WallClock::from_micros(seq + 200),
        payload_len: (len - PREFIX_BYTES) as u32,
        tables_len: 0,
        key_frame: None,
        duration_ms: 200,
        discontinuity: false,
        end: false,
    };
    let Ok(mut r) = writer.reserve(slot, len) else { return false };
    writer.bytes_mut(&mut r).fill(fill_of(seq));
    writer.publish(r, meta)
}

/// Reads the chunk if it can be leased; whether it could.
fn read(reader: &Reader, chunk: &ChunkRef) -> bool {
    let Some(lease) = reader.lease(chunk) else { return false };
    assert_eq!(reader.bytes(&lease)[0], fill_of(chunk.seq.get()));
    // Touched again: the writer has not come between.
    assert_eq!(reader.bytes(&lease)[0], fill_of(chunk.seq.get()));
    reader.release(lease);
    true
}

/// Looks chunk `seq` up, and reads it if it is there.
fn look_and_read(reader: &Reader, slot: StreamSlot, seq: u64) -> Lookup {
    let found = reader.lookup(slot, ChunkSeq::new(seq));
    if let Lookup::Ready(chunk) = found {
        assert_eq!((chunk.meta.seq.get(), chunk.meta.epoch.0), (seq, seq + 100));
        assert_eq!(chunk.meta.published.micros(), seq + 200);
        read(reader, &chunk);
    }
    found
}

fn ring(recycle: Recycle, readers: u32, segments: u64, retain: u64) -> (Writer, Ring) {
    let config = RingConfig {
        streams_max: 1,
        readers_max: readers,
        recycle,
        retain_chunks: retain,
        ..RingConfig::memfd((segments + 1) * SEGMENT_BYTES)
    };
    Ring::create(&config).expect("heap")
}

/// Checks all interleavings with at most three preemptions: loom's authors find that two or three show all bugs met
/// in practice, and the search grows exponentially with their number.
fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 20_000;
    model.check(check);
}

#[test]
fn a_reader_sees_a_chunk_whole_or_not_at_all() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 4);
        let reader = ring.reader(0).expect("the first");
        let slot = writer.open_stream(StreamId(1)).expect("room");
        let thread = loom::thread::spawn(move || {
            assert!(publish(&mut writer, slot, 0, HALF));
            assert!(publish(&mut writer, slot, 1, HALF));
        });
        if let Some(head) = reader.head(slot) {
            assert!(
                matches!(look_and_read(&reader, slot, head.get()), Lookup::Ready(_)),
                "what the head names is there"
            );
        }
        if let Lookup::Ready(_) = look_and_read(&reader, slot, 1) {
            assert!(matches!(look_and_read(&reader, slot, 0), Lookup::Ready(_)), "published in order, seen in order");
        }
        thread.join().expect("writer");
        assert!(matches!(look_and_read(&reader, slot, 1), Lookup::Ready(_)));
    });
}

#[test]
fn a_descriptor_that_is_replaced_is_never_half_read() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 1);
        let reader = ring.reader(0).expect("the first");
        let slot = writer.open_stream(StreamId(1)).expect("room");
        assert!(publish(&mut writer, slot, 0, HALF));
        let thread = loom::thread::spawn(move || assert!(publish(&mut writer, slot, 1, HALF)));
        assert_ne!(look_and_read(&reader, slot, 0), Lookup::NotYet);
        look_and_read(&reader, slot, 1);
        thread.join().expect("writer");
        assert_eq!(look_and_read(&reader, slot, 0), Lookup::Gone);
    });
}

#[test]
fn a_chunk_that_comes_late_is_seen_whole_or_not_at_all() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 4);
        let reader = ring.reader(0).expect("the first");
        let slot = writer.open_stream(StreamId(1)).expect("room");
        assert!(publish(&mut writer, slot, 2, HALF));
        let thread = loom::thread::spawn(move || assert!(publish(&mut writer, slot, 1, HALF)));
        assert_ne!(look_and_read(&reader, slot, 1), Lookup::NotYet);
        thread.join().expect("writer");
        assert!(matches!(look_and_read(&reader, slot, 1), Lookup::Ready(_)));
    });
}

/// Two segments of one chunk each hold 0 and 1; the writer wants 0's for chunk 2 while readers go for chunk 0.
fn reuse_under_readers(recycle: Recycle, readers: u32) {
    model(move || {
        let (mut writer, ring) = ring(recycle, readers, 2, 2);
        let slot = writer.open_stream(StreamId(1)).expect("room");
        assert!(publish(&mut writer, slot, 0, WHOLE));
        assert!(publish(&mut writer, slot, 1, WHOLE));
        let threads: Vec<_> = (0..readers)
            .map(|index| {
                let reader = ring.reader(index).expect("each once");
                let Lookup::Ready(chunk) = reader.lookup(slot, ChunkSeq::new(0)) else { panic!("it is there") };
                loom::thread::spawn(move || {
                    read(&reader, &chunk);
                    look_and_read(&reader, slot, 2);
                    reader
                })
            })
            .collect();
        let reused = publish(&mut writer, slot, 2, WHOLE);
        let readers: Vec<Reader> = threads.into_iter().map(|thread| thread.join().expect("reader")).collect();
        // Whoever was late for the lease was told so, and whoever was in time has given it back: it comes free.
        assert!(reused || publish(&mut writer, slot, 2, WHOLE));
        for reader in readers {
            assert!(matches!(look_and_read(&reader, slot, 2), Lookup::Ready(_)));
        }
    });
}

#[test]
fn bytes_in_place_are_not_overwritten_under_a_lease() {
    reuse_under_readers(Recycle::InPlace, 1);
}

#[test]
fn pages_are_not_given_up_under_a_lease() {
    reuse_under_readers(Recycle::Punch, 1);
}

#[test]
fn two_readers_leases_both_count() {
    reuse_under_readers(Recycle::InPlace, 2);
}

/// A name that was made up, right down to the generation that its segment is about to have, leads to no byte that is
/// being written.
#[test]
fn a_guessed_name_is_not_leased_under_the_writers_hands() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 2);
        let reader = ring.reader(0).expect("the first");
        let slot = writer.open_stream(StreamId(1)).expect("room");
        assert!(publish(&mut writer, slot, 0, WHOLE));
        assert!(publish(&mut writer, slot, 1, WHOLE));
        let Lookup::Ready(chunk) = reader.lookup(slot, ChunkSeq::new(0)) else { panic!("it is there") };
        let guess = ChunkRef { seq: ChunkSeq::new(2), generation: chunk.generation + 1, ..chunk };
        let thread = loom::thread::spawn(move || {
            read(&reader, &guess);
        });
        publish(&mut writer, slot, 2, WHOLE);
        thread.join().expect("reader");
    });
}

/// The model has teeth: it finds the race when the protection is taken out.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_leases_loom_finds_the_race() {
    reuse_under_readers(Recycle::InPlaceUnprotected, 1);
}

#[test]
fn a_closed_streams_name_never_shows_its_successor() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 1);
        let reader = ring.reader(0).expect("the first");
        let old = writer.open_stream(StreamId(1)).expect("room");
        assert!(publish(&mut writer, old, 0, HALF));
        let thread = loom::thread::spawn(move || {
            writer.close_stream(old);
            let new = writer.open_stream(StreamId(2)).expect("room");
            assert!(publish(&mut writer, new, 7, HALF));
        });
        assert!(!matches!(reader.lookup(old, ChunkSeq::new(7)), Lookup::Ready(_)));
        thread.join().expect("writer");
        assert_eq!(reader.lookup(old, ChunkSeq::new(0)), Lookup::Gone);
    });
}

#[test]
fn a_slot_and_the_id_of_its_stream_belong_together() {
    model(|| {
        let (mut writer, ring) = ring(Recycle::InPlace, 1, 2, 1);
        let reader = ring.reader(0).expect("the first");
        let old = writer.open_stream(StreamId(1)).expect("room");
        let thread = loom::thread::spawn(move || {
            writer.close_stream(old);
            writer.open_stream(StreamId(2)).expect("room")
        });
        let seen: Vec<_> = reader.streams().collect();
        let new = thread.join().expect("writer");
        let belong_together = [vec![], vec![(StreamId(1), old)], vec![(StreamId(2), new)]];
        assert!(belong_together.contains(&seen), "{seen:?}");
    });
}
