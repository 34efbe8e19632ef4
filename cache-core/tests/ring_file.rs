//! The ring's file: who may make it, how much room it wants, and what an observer process sees of it.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use cache_core::ring::{Backing, ChunkMeta, Lookup, PREFIX_BYTES, Recycle, Ring, RingConfig, RingError, RingObserver};
use cache_core::ring::{SEGMENT_BYTES, StreamSlot, Writer};
use cache_core::units::StreamId;
use cache_core::wire::{ChunkHeader, frame::chunk_prefix};
use ring_common::*;

/// Where the child of [`an_observer_process_reads_and_verifies_chunks`] finds the ring.
const RING_TO_OBSERVE: &str = "RING_TO_OBSERVE";

fn in_shm() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux")
}

fn config_at(path: &Path) -> RingConfig {
    RingConfig {
        backing: Backing::File(path.to_owned()),
        streams_max: 4,
        retain_chunks: 8,
        ..RingConfig::memfd(4 * SEGMENT_BYTES)
    }
}

fn refused(path: &Path) -> RingError {
    Ring::create(&config_at(path)).map(|_| ()).expect_err("refused")
}

#[test]
fn a_file_lives_as_long_as_its_ring() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (writer, ring) = Ring::create(&config_at(&path)).expect("room");
    let reader = ring.reader(0).expect("the first");
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 4 * SEGMENT_BYTES);
    drop((writer, ring));
    assert!(path.exists(), "the reader still maps it");
    drop(reader);
    assert!(!path.exists());
}

#[test]
fn the_file_of_a_live_ring_is_not_taken() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let _ring = Ring::create(&config_at(&path)).expect("room");
    assert_eq!(refused(&path), RingError::InUse { path: path.clone() });
    assert!(RingObserver::open(&path).is_ok(), "it is unharmed");
}

#[test]
fn what_a_killed_process_left_is_replaced() {
    let dir = in_shm();
    let (path, kept) = (dir.path().join("ring"), dir.path().join("kept"));
    let made = Ring::create(&config_at(&path)).expect("room");
    std::fs::copy(&path, &kept).expect("room");
    drop(made);
    std::fs::rename(&kept, &path).expect("same directory");
    let observer = RingObserver::open(&path).expect("a ring, of nobody");
    let (mut writer, _ring) = Ring::create(&config_at(&path)).expect("room");
    open(&mut writer, 1);
    assert_eq!(observer.streams().count(), 0, "the old one is kept by who maps it");
    assert_eq!(RingObserver::open(&path).expect("the new one").streams().count(), 1);
}

#[test]
fn a_strangers_file_is_left_alone() {
    let dir = in_shm();
    let path = dir.path().join("letters");
    std::fs::write(&path, "Dear Sir or Madam").expect("room");
    assert_eq!(refused(&path), RingError::Foreign { path: path.clone(), why: "it holds something else" });
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "Dear Sir or Madam");
    assert!(matches!(refused(dir.path()), RingError::Io { what: "open", .. }), "a directory");
    let null = Path::new("/dev/null");
    assert_eq!(refused(null), RingError::Foreign { path: null.to_owned(), why: "it is no regular file" });
    assert!(matches!(refused(&dir.path().join("no/such/directory")), RingError::Io { what: "create", .. }));
}

#[test]
fn too_little_room_is_an_error_that_names_what_is_missing() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    for backing in [Backing::Memfd, Backing::File(path.clone())] {
        let config = RingConfig { backing, ..RingConfig::memfd(1 << 44) };
        let Err(RingError::NoRoom { needed, available, missing, .. }) = Ring::create(&config) else {
            panic!("16 TiB were found");
        };
        assert_eq!((needed, missing), (1 << 44, (1 << 44) - available));
        assert!(available > 0);
    }
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn a_ring_on_a_disk_is_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo's directory for tests");
    let path = dir.path().join("ring");
    match Ring::create(&config_at(&path)) {
        Err(e) => assert_eq!(e, RingError::NotInMemory { place: path.display().to_string() }),
        Ok(_) => eprintln!("SKIP: needs a target directory that is not in memory"),
    }
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn an_observer_refuses_what_is_no_ring() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let why = || match RingObserver::open(&path) {
        Err(RingError::Foreign { why, .. }) => why.to_owned(),
        Err(RingError::Version { found, ours, .. }) => format!("version {found} not {ours}"),
        other => format!("{other:?}"),
    };
    assert!(why().contains("Io"), "there is no file: {}", why());
    std::fs::write(&path, "short").expect("room");
    assert_eq!(why(), "it is too short");
    std::fs::write(&path, [0x47; 1 << 12]).expect("room");
    assert_eq!(why(), "its first bytes are another's");

    let kept = dir.path().join("kept");
    let made = Ring::create(&config_at(&kept)).expect("room");
    let good = std::fs::read(&kept).expect("a ring");
    drop(made);
    let damaged = |word: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        std::fs::write(&path, bytes).expect("room");
        why()
    };
    assert_eq!(damaged(1, 0), "it is still being made");
    assert_eq!(damaged(1, 77), "version 77 not 2");
    assert_eq!(damaged(2, 1 << 60), "its header is damaged");
    assert_eq!(damaged(3, u64::MAX), "its header is damaged");
    assert_eq!(damaged(2, 6 * SEGMENT_BYTES), "its length is not what its header says");
    std::fs::write(&path, &good[..good.len() - 1]).expect("room");
    assert_eq!(why(), "its length is not what its header says");
}

#[test]
fn an_observer_survives_a_ring_whose_tables_are_garbage() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let made = Ring::create(&config_at(&path)).expect("room");
    let mut bytes = std::fs::read(&path).expect("a ring");
    drop(made);
    let mut chance = cache_core::prng::Prng::new(1);
    for _ in 0..20 {
        for byte in &mut bytes[40..1 << 14] {
            *byte = chance.next_u64() as u8;
        }
        std::fs::write(&path, &bytes).expect("room");
        let observer = RingObserver::open(&path).expect("its header is good");
        let mut out = Vec::new();
        for (_, slot) in observer.streams().collect::<Vec<_>>() {
            let head = observer.head(slot);
            let _ = (observer.oldest(slot), observer.join_point(slot, 3));
            if let Some(Lookup::Ready(chunk)) = head.map(|head| observer.lookup(slot, head)) {
                observer.read(&chunk, &mut out);
            }
        }
    }
}

#[test]
fn an_observer_opens_a_memfd_too() {
    use std::os::fd::AsRawFd;
    let (mut writer, ring, _reader) = ring(2, |_| ());
    let stream = open(&mut writer, 1);
    publish_halves(&mut writer, stream, 0..1);
    let path = PathBuf::from(format!("/proc/self/fd/{}", ring.file().as_raw_fd()));
    let observer = RingObserver::open(&path).expect("a ring");
    let Lookup::Ready(chunk) = observer.lookup(stream.slot, seq(0)) else { panic!("published") };
    let mut out = Vec::new();
    assert!(observer.read(&chunk, &mut out));
    assert_fill(&out, stream.id, &chunk);
    assert_eq!(observer.stats(), ring.stats());
    publish_halves(&mut writer, stream, 1..7);
    assert!(!observer.read(&chunk, &mut out));
    assert!(out.is_empty());
}

/// Publishes chunk `n` as it goes on the wire; its payload follows from `n`.
fn publish_framed(writer: &mut Writer, slot: StreamSlot, n: u64) {
    let mut payload = vec![0; 40_000 + (n as usize * 977) % 60_000];
    payload.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u64 ^ n.wrapping_mul(251)) as u8);
    let meta: ChunkMeta = join_meta(n, payload.len());
    let header = ChunkHeader {
        stream: StreamId(5),
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
    let mut r = writer.reserve(slot, PREFIX_BYTES + payload.len()).expect("room");
    let bytes = writer.bytes_mut(&mut r);
    bytes[..PREFIX_BYTES].copy_from_slice(&chunk_prefix(&header));
    bytes[PREFIX_BYTES..].copy_from_slice(&payload);
    assert!(writer.publish(r, meta));
}

/// The writer goes on, over and over the same three segments, while another process reads and verifies.
#[test]
fn an_observer_process_reads_and_verifies_chunks() {
    for recycle in [Recycle::Punch, Recycle::InPlace] {
        let dir = in_shm();
        let path = dir.path().join("ring");
        let (mut writer, _ring) = Ring::create(&RingConfig { recycle, ..config_at(&path) }).expect("room");
        let slot = writer.open_stream(StreamId(5)).expect("room");
        publish_framed(&mut writer, slot, 0);
        let this = std::env::current_exe().expect("the test's own program");
        let mut child: Child = Command::new(this)
            .args(["--exact", "observer_process", "--nocapture"])
            .env(RING_TO_OBSERVE, &path)
            .spawn()
            .expect("it runs twice");
        let mut n = 0;
        let status = loop {
            n += 1;
            publish_framed(&mut writer, slot, n);
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
        };
        assert!(status.success(), "the observer failed after {n} chunks");
    }
}

/// The other process of the test above; without its ring it has nothing to say.
#[test]
fn observer_process() {
    let Some(path) = std::env::var_os(RING_TO_OBSERVE) else { return };
    let observer = RingObserver::open(Path::new(&path)).expect("a ring");
    assert_eq!(observer.streams().map(|(id, _)| id).collect::<Vec<_>>(), [StreamId(5)]);
    let slot = observer.stream(StreamId(5)).expect("open");
    let (mut verified, mut last, mut out) = (0, None, Vec::new());
    while verified < 500 || last == Some(seq(0)) {
        let head = observer.head(slot).expect("it has chunks");
        assert!(Some(head) >= last, "the head never goes back");
        last = Some(head);
        for age in 0..10 {
            let Lookup::Ready(chunk) = observer.lookup(slot, head.back(age)) else { continue };
            if observer.read(&chunk, &mut out) {
                let header = ChunkHeader::decode(&out[8..PREFIX_BYTES]).expect("a chunk's header");
                assert_eq!((header.stream, header.seq), (StreamId(5), chunk.seq));
                assert_eq!((header.payload_len, header.published), (chunk.meta.payload_len, chunk.meta.published));
                assert_eq!(*blake3::hash(&out[PREFIX_BYTES..]).as_bytes(), header.hash, "chunk {}", chunk.seq);
                verified += 1;
            }
        }
    }
    assert!(observer.stats().published > 0);
}
