//! Taking over what a dead process left: whole chunks go on, and nothing else is ever handed out.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cache_core::prng::Prng;
use cache_core::ring::{Backing, ChunkRef, Found, Inherited, Lookup, NOTE_BYTES_MAX, PREFIX_BYTES, Reader};
use cache_core::ring::{Recycle, Ring, RingConfig, RingError, RingObserver, SEGMENT_BYTES, StreamSlot, Writer};
use cache_core::units::StreamId;
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{ChunkHeader, FRAME_HEAD_BYTES};
use proptest::prelude::*;
use ring_common::*;

/// Where the child of [`killed_at_any_moment_it_keeps_what_was_published`] makes its ring.
const RING_TO_KILL: &str = "RING_TO_KILL";

const SEGMENTS: u64 = 8;

fn in_shm() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux")
}

/// A ring whose file stays when it is dropped: it is then as a kill between two calls leaves it.
fn config_at(path: &Path) -> RingConfig {
    RingConfig {
        backing: Backing::File(path.to_owned()),
        streams_max: 4,
        retain_chunks: 8,
        keep_file: true,
        ..RingConfig::memfd((SEGMENTS + 1) * SEGMENT_BYTES)
    }
}

fn take_over(path: &Path) -> (Writer, Ring, Inherited) {
    Ring::open_or_create(&config_at(path), is_whole).expect("room")
}

/// What a cache server checks: the prefix is a chunk's, and the payload is the one that it speaks of.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(header) = ChunkHeader::decode(&bytes[FRAME_HEAD_BYTES..PREFIX_BYTES]) else { return false };
    bytes[..PREFIX_BYTES] == chunk_prefix(&header) && *blake3::hash(&bytes[PREFIX_BYTES..]).as_bytes() == header.hash
}

/// The frame of chunk `n` of stream `id`: it follows from the two numbers.
fn frame(id: StreamId, n: u64) -> (cache_core::ring::ChunkMeta, Vec<u8>) {
    let mut chance = Prng::new(id.0 << 32 | n);
    let len = 1_000 + (chance.next_u64() % 60_000) as usize;
    let payload: Vec<u8> = (0..len).map(|_| chance.next_u64() as u8).collect();
    let meta = join_meta(n, len);
    let header = ChunkHeader {
        stream: id,
        epoch: meta.epoch,
        seq: meta.seq,
        published: meta.published,
        payload_len: meta.payload_len,
        tables_len: meta.tables_len,
        duration_ms: meta.duration_ms,
        key_frame: meta.key_frame,
        discontinuity: meta.discontinuity,
        end: meta.end,
        hash: *blake3::hash(&payload).as_bytes(),
        signature: [9; 64],
    };
    (meta, [&chunk_prefix(&header)[..], &payload].concat())
}

fn put(writer: &mut Writer, id: StreamId, slot: StreamSlot, n: u64) {
    let (meta, bytes) = frame(id, n);
    let mut r = writer.reserve(slot, bytes.len()).expect("room");
    writer.bytes_mut(&mut r).copy_from_slice(&bytes);
    assert!(writer.publish(r, meta));
}

/// A chunk as a server serves it: looked up, vouched for, leased, copied.
fn served(reader: &Reader, slot: StreamSlot, n: u64) -> Option<Vec<u8>> {
    let Lookup::Ready(chunk) = reader.lookup(slot, seq(n)) else { return None };
    assert!(!chunk.suspect || reader.lease(&chunk).is_none(), "no lease of what was not checked");
    let chunk = reader.vouch(chunk, is_whole)?;
    let lease = reader.lease(&chunk)?;
    let bytes = reader.bytes(&lease).to_vec();
    reader.release(lease);
    Some(bytes)
}

/// Which of chunks `range` are served, drawn: `#` byte for byte, `.` not.
fn drawn_served(reader: &Reader, id: StreamId, slot: StreamSlot, range: std::ops::Range<u64>) -> String {
    let draw = |n| match served(reader, slot, n) {
        Some(bytes) => {
            assert!(bytes == frame(id, n).1, "chunk {n} of stream {id} is wrong");
            '#'
        }
        None => '.',
    };
    range.map(draw).collect()
}

/// A ring with chunks 0..12 of stream 5 and 0..3 of stream 6, left behind.
fn left_behind(path: &Path) {
    let (mut writer, _ring) = Ring::create(&config_at(path)).expect("room");
    let five = writer.open_stream(StreamId(5)).expect("room");
    let six = writer.open_stream(StreamId(6)).expect("room");
    writer.set_note(five, b"five").expect("short");
    (0..12).for_each(|n| put(&mut writer, StreamId(5), five, n));
    (0..3).for_each(|n| put(&mut writer, StreamId(6), six, n));
}

#[test]
fn every_published_chunk_is_served_again_and_the_stream_goes_on() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    left_behind(&path);
    for recycle in [Recycle::Punch, Recycle::InPlace] {
        let config = RingConfig { recycle, ..config_at(&path) };
        let (writer, ring, inherited) = Ring::open_or_create(&config, is_whole).expect("room");
        assert_eq!((&inherited.found, inherited.chunks, inherited.torn), (&Found::Ring, 11, 0));
        let [five, six] = &inherited.streams[..] else { panic!("two streams: {inherited:?}") };
        assert_eq!(
            (five.id, five.note.as_slice(), five.head, five.next),
            (StreamId(5), &b"five"[..], seq(11), seq(12))
        );
        assert_eq!((six.id, six.note.len(), six.head, six.epoch), (StreamId(6), 0, seq(2), frame(six.id, 2).0.epoch));
        let reader = ring.reader(0).expect("the first");
        assert!(ring.renews_pages(), "those of the dead process's sends");
        assert_eq!(ring.inherited_checked(), (2, 0), "the heads");
        assert_eq!(drawn_served(&reader, five.id, five.slot, 0..13), "....########.");
        assert_eq!(drawn_served(&reader, six.id, six.slot, 0..4), "###.");
        assert_eq!(ring.inherited_checked(), (11, 0));
        let stats = ring.stats();
        assert_eq!((stats.streams_open, stats.inherited, stats.torn), (2, 11, 0));
        assert_eq!((stats.segments_in_use, stats.segments_free), (SEGMENTS, 0));
        // The next life of the ring begins as this one did: nothing was published.
        drop((writer, ring, reader));
    }
    let (mut writer, ring, inherited) = take_over(&path);
    let (five, reader) = (&inherited.streams[0], ring.reader(0).expect("the first"));
    assert_eq!(writer.open_stream(StreamId(5)).map(drop), Err(RingError::StreamOpen(StreamId(5))));
    for n in 12..600 {
        put(&mut writer, five.id, five.slot, n);
        assert_eq!(drawn_served(&reader, five.id, five.slot, n - 7..n + 1), "########");
    }
    assert_eq!(
        drawn_served(&reader, StreamId(6), inherited.streams[1].slot, 0..3),
        "###",
        "its newest segment stays its own"
    );
    assert!(!matches!(reader.lookup(five.slot, seq(599)), Lookup::Ready(ChunkRef { suspect: true, .. })));
}

/// However often its process dies, a stream's chunks stand behind each other.
#[test]
fn a_segment_is_filled_on_by_the_next_process() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    left_behind(&path);
    let places = |reader: &Reader, slot| {
        let place = |n| match reader.lookup(slot, seq(n)) {
            Lookup::Ready(chunk) => (chunk.segment, chunk.file_offset, chunk.file_offset + u64::from(chunk.len)),
            other => panic!("{other:?}"),
        };
        (place(2), place(3))
    };
    let (mut writer, ring, inherited) = take_over(&path);
    let six = &inherited.streams[1];
    put(&mut writer, six.id, six.slot, 3);
    let ((segment, _, end), (next_segment, begin, lost_end)) = places(&ring.reader(0).expect("the first"), six.slot);
    assert_eq!((next_segment, begin), (segment, end.next_multiple_of(64)));

    // Where the newest chunk is not kept, its bytes may still be on their way: they are not overwritten.
    let (slot, id) = (six.slot, six.id);
    drop((writer, ring));
    let file = std::fs::File::options().write(true).open(&path).expect("there");
    file.write_all_at(&[!frame(id, 3).1[PREFIX_BYTES]], begin + PREFIX_BYTES as u64).expect("written");
    let (mut writer, ring, inherited) = take_over(&path);
    assert_eq!((inherited.streams[1].head, inherited.streams[1].next), (seq(2), seq(4)));
    put(&mut writer, id, slot, 4);
    let reader = ring.reader(0).expect("the first");
    let Lookup::Ready(chunk) = reader.lookup(slot, seq(4)) else { panic!("it is there") };
    assert!(chunk.segment != segment || chunk.file_offset >= lost_end, "{chunk:?}");
}

#[test]
fn a_ring_ends_with_its_file_unless_it_is_kept() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    left_behind(&path);
    assert!(path.exists());
    drop(Ring::open_or_create(&RingConfig { keep_file: false, ..config_at(&path) }, is_whole).expect("room"));
    assert!(!path.exists());
}

#[test]
fn a_ring_without_a_name_leaves_its_successors_alone() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let config = RingConfig { keep_file: false, ..config_at(&path) };
    let former = Ring::create(&config).expect("room");
    std::fs::remove_file(&path).expect("there");
    let successor = Ring::create(&config).expect("room");
    drop(former);
    assert!(RingObserver::open(&path).is_ok(), "it is the successor's");
    drop(successor);
    assert!(!path.exists());
}

#[test]
fn a_living_rings_file_is_not_taken_over() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (_writer, _ring, inherited) = take_over(&path);
    assert_eq!(inherited.found, Found::Nothing);
    let again = Ring::open_or_create(&config_at(&path), is_whole).map(drop);
    assert_eq!(again, Err(RingError::InUse { path: path.clone() }));
}

#[test]
fn a_ring_of_another_make_is_replaced_and_the_reason_said() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let why = |change: &dyn Fn()| {
        let _ = std::fs::remove_file(&path);
        left_behind(&path);
        change();
        let (_, ring, inherited) = take_over(&path);
        assert!(inherited.streams.is_empty() && ring.stats().segments_free == SEGMENTS);
        match inherited.found {
            Found::Replaced(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let word = |at: u64, value: u64| {
        let file = std::fs::File::options().write(true).open(&path).expect("there");
        file.write_all_at(&value.to_ne_bytes(), at * 8).expect("written");
    };
    assert_eq!(why(&|| word(1, 0)), "its process ended before it was finished");
    assert_eq!(why(&|| word(1, 77)), "it has layout version 77, this program uses 2");
    assert_eq!(why(&|| word(3, 5)), "it was made for 5 streams at most, and 4 are configured");
    let cut = || std::fs::File::options().write(true).open(&path).expect("there").set_len(5 << 20).expect("cut");
    assert!(why(&cut).starts_with("it is 5242880 bytes long instead of"));
}

#[test]
fn what_is_no_ring_is_set_aside_once() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let aside = |letter: &str| {
        std::fs::write(&path, letter).expect("room");
        let (_, _, inherited) = take_over(&path);
        std::fs::remove_file(&path).expect("the ring");
        let Found::SetAside { to, removed } = inherited.found else { panic!("{:?}", inherited.found) };
        assert_eq!(std::fs::read_to_string(&to).expect("there"), letter);
        (to, removed)
    };
    std::fs::write(dir.path().join("ring.set-aside-me-not"), "mine").expect("room");
    let (first, none) = aside("Dear Sir or Madam");
    assert_eq!(none, None);
    let (second, removed) = aside("Dear Sir or Madam,");
    assert_eq!(removed, Some(first));
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(dir.path()).expect("there").map(|e| e.expect("one").path()).collect();
    names.sort();
    assert_eq!(names, [second, dir.path().join("ring.set-aside-me-not")]);
}

#[test]
fn what_is_no_file_is_a_persons_to_look_at() {
    let refused = |path: &Path| Ring::open_or_create(&config_at(path), is_whole).map(drop).expect_err("refused");
    let null = Path::new("/dev/null");
    assert_eq!(refused(null), RingError::Foreign { path: null.to_owned(), why: "it is no regular file" });
    assert!(matches!(refused(in_shm().path()), RingError::Io { what: "open", .. }), "a directory");
}

#[test]
fn pages_that_a_dead_process_had_given_up_are_there_again() {
    use std::os::unix::fs::MetadataExt;
    let dir = in_shm();
    let path = dir.path().join("ring");
    left_behind(&path);
    let file = std::fs::File::options().write(true).open(&path).expect("there");
    let allocated = || file.metadata().expect("there").blocks() * 512;
    let bytes = file.metadata().expect("there").len();
    assert_eq!(allocated(), bytes);
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, bytes - SEGMENT_BYTES, SEGMENT_BYTES).expect("punched");
    assert_eq!(allocated(), bytes - SEGMENT_BYTES);
    let (_writer, _ring, inherited) = take_over(&path);
    assert_eq!((inherited.chunks, allocated()), (11, bytes), "no touch of it is a SIGBUS");
}

#[test]
fn what_stands_on_a_disk_stays_there() {
    // The directory of the binary that runs: a build is never in memory alone.
    let binary = std::env::current_exe().expect("it runs");
    let dir = tempfile::tempdir_in(binary.parent().expect("a directory")).expect("room");
    let path = dir.path().join("ring");
    for content in [&b"a person's"[..], b"WeirRing", b""] {
        std::fs::write(&path, content).expect("room");
        match Ring::open_or_create(&config_at(&path), is_whole) {
            Err(RingError::NotInMemory { .. }) => {}
            Ok(_) => return eprintln!("SKIP: the build is in memory"),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(std::fs::read(&path).expect("there"), content);
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1);
    }
}

#[test]
fn a_stream_keeps_more_when_the_next_process_says_so() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    left_behind(&path);
    for (keeps, served) in [(2, "..........##"), (6, "......######"), (8, "....########")] {
        let (mut writer, ring, inherited) = take_over(&path);
        let (five, reader) = (&inherited.streams[0], ring.reader(0).expect("the first"));
        writer.set_retain(five.slot, keeps);
        assert_eq!(drawn_served(&reader, five.id, five.slot, 0..12), served, "{keeps} chunks");
    }
}

#[test]
fn a_payload_byte_that_changed_costs_its_chunk_alone() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    for victim in [7, 11] {
        left_behind(&path);
        let at = {
            let observer = RingObserver::open(&path).expect("a ring");
            let slot = observer.stream(StreamId(5)).expect("open");
            let Lookup::Ready(chunk) = observer.lookup(slot, seq(victim)) else { panic!("it is there") };
            chunk.file_offset + u64::from(chunk.len) - 1
        };
        let file = std::fs::File::options().read(true).write(true).open(&path).expect("there");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("there");
        file.write_all_at(&[byte[0] ^ 1], at).expect("written");
        let (_, ring, inherited) = take_over(&path);
        let (five, reader) = (&inherited.streams[0], ring.reader(0).expect("the first"));
        let there = drawn_served(&reader, five.id, five.slot, 4..12);
        if victim == 7 {
            assert_eq!((there.as_str(), five.head, ring.inherited_checked()), ("###.####", seq(11), (8, 1)));
            assert_eq!(reader.lookup(five.slot, seq(7)), Lookup::Gone, "nobody finds it any more");
        } else {
            // The head: viewers are told of the one before; the publisher goes on behind what was published.
            assert_eq!((there.as_str(), five.head, five.next), ("#######.", seq(10), seq(12)));
            assert_eq!((inherited.chunks, inherited.torn), (10, 1));
        }
        std::fs::remove_file(&path).expect("there");
    }
}

#[test]
fn the_newest_note_is_found() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (mut writer, ring) = Ring::create(&config_at(&path)).expect("room");
    let five = writer.open_stream(StreamId(5)).expect("room");
    put(&mut writer, StreamId(5), five, 0);
    assert!(writer.set_note(five, &[1; NOTE_BYTES_MAX + 1]).is_err());
    for len in [3, 0, NOTE_BYTES_MAX, 17] {
        writer.set_note(five, &vec![len as u8; len]).expect("short enough");
    }
    drop((writer, ring));
    let (mut writer, ring, inherited) = take_over(&path);
    assert_eq!(inherited.streams[0].note, [17; 17]);
    // A note that was on its way: its cell is half full, and the count is not yet up.
    writer.set_note(inherited.streams[0].slot, &[18; 18]).expect("short");
    drop((writer, ring));
    assert_eq!(take_over(&path).2.streams[0].note, [18; 18]);
}

/// A closed stream's chunks do not come back, nor does a chunk that was reserved and filled and not published.
#[test]
fn what_was_not_published_or_was_given_up_does_not_come_back() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (mut writer, ring) = Ring::create(&config_at(&path)).expect("room");
    let five = writer.open_stream(StreamId(5)).expect("room");
    let six = writer.open_stream(StreamId(6)).expect("room");
    let _empty = writer.open_stream(StreamId(7)).expect("room");
    put(&mut writer, StreamId(5), five, 0);
    put(&mut writer, StreamId(6), six, 0);
    let (_, bytes) = frame(StreamId(6), 1);
    let mut half = writer.reserve(six, bytes.len()).expect("room");
    writer.bytes_mut(&mut half).copy_from_slice(&bytes);
    writer.close_stream(five);
    drop((half, writer, ring));
    let (_, ring, inherited) = take_over(&path);
    assert_eq!(inherited.streams.iter().map(|s| (s.id, s.next)).collect::<Vec<_>>(), [(StreamId(6), seq(1))]);
    let reader = ring.reader(0).expect("the first");
    assert_eq!((reader.stream(StreamId(5)), reader.stream(StreamId(7))), (None, None));
    assert_eq!(ring.stats().torn, 0);
}

/// Damages `count` places of the file at `path`: bits, runs of noise, words that name others.
fn damage(path: &Path, seed: u64, count: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("there");
    let len = file.metadata().expect("there").len();
    let mut chance = Prng::new(seed);
    for _ in 0..count {
        // Tables and segments' beginnings mostly: the rest is payload, or nothing.
        let near = [4096, 1 << 15, 1 << 16, len][chance.next_u64() as usize % 4];
        let at = 40 + chance.next_u64() % (near - 48);
        let word = at & !7;
        let mut old = [0; 8];
        file.read_exact_at(&mut old, word).expect("inside");
        let new = match chance.next_u64() % 5 {
            0 => u64::from_ne_bytes(old) ^ 1 << (chance.next_u64() % 64),
            1 => chance.next_u64(),
            2 => u64::MAX - chance.next_u64() % 3,
            3 => u64::from_ne_bytes(old).wrapping_add(chance.next_u64() % 5).wrapping_sub(2),
            _ => chance.next_u64() % 12,
        };
        file.write_all_at(&new.to_ne_bytes(), word).expect("written");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever stands in the file: no panic, no signal, and of what is handed out every byte is right.
    #[test]
    fn a_damaged_ring_hands_out_nothing_wrong(seed in any::<u64>(), count in 1u64..200) {
        let dir = in_shm();
        let path = dir.path().join("ring");
        left_behind(&path);
        damage(&path, seed, count);
        let (mut writer, ring, inherited) = take_over(&path);
        let reader = ring.reader(0).expect("the first");
        for stream in &inherited.streams {
            let (id, slot) = (stream.id, stream.slot);
            prop_assert!([5, 6].contains(&id.0), "a stream that never was");
            prop_assert_eq!(reader.head(slot), Some(stream.head));
            let whole = drawn_served(&reader, id, slot, 0..14);
            prop_assert!(whole.contains('#'), "its head has been checked: {}", whole);
        }
        // And the ring goes on working, over all of its segments.
        for stream in inherited.streams {
            for n in stream.next.get()..stream.next.get() + 30 {
                put(&mut writer, stream.id, stream.slot, n);
                prop_assert_eq!(drawn_served(&reader, stream.id, stream.slot, n..n + 1), "#");
            }
            writer.close_stream(stream.slot);
        }
        let fresh = writer.open_stream(StreamId(9)).expect("an entry is free");
        for n in 0..250 {
            put(&mut writer, StreamId(9), fresh, n);
            prop_assert_eq!(drawn_served(&reader, StreamId(9), fresh, n..n + 1), "#");
        }
    }

    /// A header of noise is somebody else's file, or an unusable one.
    #[test]
    fn a_damaged_header_makes_a_new_ring(word in 0u64..5, value in any::<u64>(), len in 0u64..40_000_000) {
        let dir = in_shm();
        let path = dir.path().join("ring");
        left_behind(&path);
        let file = std::fs::File::options().write(true).open(&path).expect("there");
        file.set_len(len).expect("cut or stretched");
        file.write_all_at(&value.to_ne_bytes(), word * 8).expect("written");
        drop(file);
        let (mut writer, ring, inherited) = take_over(&path);
        prop_assert!(inherited.found != Found::Ring && inherited.streams.is_empty());
        let slot = writer.open_stream(StreamId(5)).expect("room");
        put(&mut writer, StreamId(5), slot, 0);
        prop_assert_eq!(drawn_served(&ring.reader(0).expect("the first"), StreamId(5), slot, 0..2), "#.");
    }
}

/// Kills a process that publishes without a pause, again and again, each time at another moment; the next one takes the
/// ring over, and so on. Whatever the dead one had told (its number is written behind the publishing) is served.
#[test]
fn killed_at_any_moment_it_keeps_what_was_published() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let told = dir.path().join("told");
    std::fs::write(&told, [0; 16]).expect("room");
    let mut chance = Prng::new(3);
    let mut lives = Vec::new();
    for _ in 0..20 {
        let this = std::env::current_exe().expect("the test's own program");
        let mut child: Child = Command::new(this)
            .args(["--exact", "process_to_kill", "--nocapture"])
            .env(RING_TO_KILL, dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs twice");
        let count = || {
            let bytes = std::fs::read(&told).expect("there");
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect::<Vec<_>>()
        };
        // Chance says how many chunks; where in the next one the kill falls is the processor's.
        let (before, more) = (count()[0], 1 + chance.next_u64() % 60);
        while count()[0] < before + more {
            assert_eq!(child.try_wait().expect("a child"), None, "it publishes until it is killed");
            std::hint::spin_loop();
        }
        child.kill().expect("alive");
        child.wait().expect("a child");
        let told = count();
        let (writer, ring, inherited) = take_over(&path);
        assert_eq!(inherited.found, Found::Ring);
        let reader = ring.reader(0).expect("the first");
        for (told, stream) in told.iter().zip(&inherited.streams) {
            let next = stream.next.get();
            assert!((*told..=told + 1).contains(&next), "told {told}, next {next}");
            assert_eq!(
                drawn_served(&reader, stream.id, stream.slot, next.saturating_sub(8)..next),
                "########"[..next.min(8) as usize]
            );
            assert_eq!(stream.note.len(), 100);
            assert!(stream.note.iter().all(|byte| *byte == stream.note[0]), "a note is never a mixture");
        }
        lives.push((told, inherited.torn));
        drop((writer, ring));
    }
    assert!(lives.is_sorted() && lives.last().is_some_and(|(told, _)| told[0] > 20), "{lives:?}");
}

/// The process of the test above; without its ring it has nothing to do.
#[test]
fn process_to_kill() {
    let Some(dir) = std::env::var_os(RING_TO_KILL) else { return };
    let dir = PathBuf::from(dir);
    let (mut writer, _ring, inherited) = take_over(&dir.join("ring"));
    let told = std::fs::File::options().write(true).open(dir.join("told")).expect("there");
    let mut streams: Vec<_> = inherited.streams.iter().map(|s| (s.id, s.slot, s.next.get())).collect();
    for id in [StreamId(5), StreamId(6)].into_iter().skip(streams.len()) {
        let slot = writer.open_stream(id).expect("room");
        writer.set_note(slot, &[0; 100]).expect("short");
        streams.push((id, slot, 0));
    }
    loop {
        for (at, (id, slot, next)) in streams.iter_mut().enumerate() {
            put(&mut writer, *id, *slot, *next);
            *next += 1;
            told.write_all_at(&next.to_ne_bytes(), at as u64 * 8).expect("written");
            writer.set_note(*slot, &[*next as u8; 100]).expect("short");
        }
    }
}
