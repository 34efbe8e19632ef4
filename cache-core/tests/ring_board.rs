//! The board: an observer sees what the node counts, and a damaged or hostile file harms nobody.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cache_core::counter_row;
use cache_core::ring::{Backing, BoardView, Kind, Node, Ring, RingConfig, RingObserver, Row, SEGMENT_BYTES, Writer};
use cache_core::time::WallClock;
use cache_core::units::StreamId;
use proptest::prelude::*;
use ring_common::*;

counter_row! {
    /// A writer's numbers.
    pub struct Shard: "shard" {
        /// Things done.
        done,
        /// Things at hand (gauge).
        at_hand: Gauge,
    }
}

counter_row! {
    /// Another kind of writer's.
    pub struct Control: "control" {
        /// Things seen.
        seen,
    }
}

fn in_shm() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux")
}

fn ring_at(path: &Path) -> (Writer, Ring) {
    let config = RingConfig {
        backing: Backing::File(path.to_owned()),
        streams_max: 4,
        retain_chunks: 8,
        ..RingConfig::memfd(4 * SEGMENT_BYTES)
    };
    Ring::create(&config).expect("room")
}

fn node(version: &str) -> Node<'_> {
    Node {
        pid: 77,
        started: WallClock::from_micros(1_000),
        version,
        listen: "127.0.0.1:7400",
        backend: "sendfile",
        shards: 2,
        connections_max: 500,
        huge_bytes: None,
    }
}

fn view(observer: &RingObserver) -> BoardView {
    observer.board().expect("nobody is laying it out")
}

#[test]
fn an_observer_reads_what_each_writer_counts_by_name() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (_writer, ring) = ring_at(&path);
    let board = ring.board();
    let shards: Vec<Row<Shard>> = (0..2).map(|index| board.row(index)).collect();
    let control: Row<Control> = board.row(0);
    shards[1].done.add(3);
    shards[1].done.one();
    shards[0].at_hand.set(9);
    control.seen.one();
    let observer = RingObserver::open(&path).expect("a ring");
    let seen = view(&observer);
    let rows: Vec<_> = seen.table("shard").iter().map(|row| (row.index, row.get("done"), row.get("at_hand"))).collect();
    assert_eq!(rows, [(0, Some(0), Some(9)), (1, Some(4), Some(0))]);
    assert_eq!(seen.table("control")[0].values, [("seen".to_owned(), Kind::Counter, 1)]);
    assert_eq!(seen.rows[0].values[1].1, Kind::Gauge);
    shards[1].done.add(u64::MAX);
    assert_eq!(view(&observer).table("shard")[1].get("done"), Some(3), "live, and it wraps around");
    assert_eq!(board.view(), observer.board());
}

#[test]
fn rows_stand_on_lines_of_their_own() {
    let (_writer, ring) = ring_at(&in_shm().path().join("ring"));
    let rows: Vec<Row<Shard>> = (0..4).map(|index| ring.board().row(index)).collect();
    let lines: Vec<usize> = rows.iter().map(|row| std::ptr::from_ref(&**row) as usize).collect();
    assert!(lines.iter().all(|at| at.is_multiple_of(128)), "{lines:x?}");
    assert!(lines.windows(2).all(|two| two[0].abs_diff(two[1]) >= 128), "{lines:x?}");
}

#[test]
fn the_nodes_facts_and_its_heartbeat() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (_writer, ring) = ring_at(&path);
    let observer = RingObserver::open(&path).expect("a ring");
    assert_eq!(view(&observer).node.pid, 0, "nobody has described it");
    ring.board().describe(&node("1.2.3 of a version that is far too long"));
    let before = view(&observer);
    assert_eq!((before.node.pid, before.node.shards, before.node.connections_max), (77, 2, 500));
    assert_eq!(before.node.version, "1.2.3 of a version that ", "cut to its place");
    assert_eq!((before.node.listen.as_str(), before.node.huge_bytes), ("127.0.0.1:7400", None));
    ring.board().beat(WallClock::from_micros(5_000_000));
    ring.board().drain();
    let after = view(&observer);
    assert!(after.node.draining && !before.node.draining);
    assert_eq!(after.node.silent_for(WallClock::from_micros(17_000_000)).millis(), 12_000);
    assert_eq!(after.incarnation, before.incarnation, "a heartbeat changes no facts");
    ring.board().describe(&Node { huge_bytes: Some(4), ..node("2") });
    assert_ne!(view(&observer).incarnation, before.incarnation);
    assert_eq!(view(&observer).node.huge_bytes, Some(4));
}

#[test]
fn a_streams_facts_go_with_the_stream() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (mut writer, ring) = ring_at(&path);
    let observer = RingObserver::open(&path).expect("a ring");
    let news = open(&mut writer, 1).slot;
    assert_eq!(observer.stream_facts(news), None, "nothing was said of it");
    ring.board().stream(news).begin("news");
    ring.board().stream(news).stored(50_000, WallClock::from_micros(9));
    ring.board().stream(news).state("stalled", 12, 3);
    let facts = observer.stream_facts(news).expect("said");
    assert_eq!((facts.name.as_str(), facts.state.as_str()), ("news", "stalled"));
    assert_eq!((facts.viewers, facts.bytes_in, facts.missing, facts.stored.micros()), (12, 50_000, 3, 9));
    writer.close_stream(news);
    let sport = open(&mut writer, 2).slot;
    assert_eq!(observer.stream_facts(sport), None, "what stands there is of the stream before");
    ring.board().stream(sport).begin(&"x".repeat(64));
    assert_eq!(observer.stream_facts(news), None);
    let facts = observer.stream_facts(sport).expect("said");
    assert_eq!((facts.name.len(), facts.viewers, facts.bytes_in), (64, 0, 0));
}

#[test]
fn a_writer_without_room_counts_all_the_same() {
    let dir = in_shm();
    let path = dir.path().join("ring");
    let (_writer, ring) = ring_at(&path);
    let rows: Vec<Row<Shard>> = (0..2000).map(|index| ring.board().row(index)).collect();
    rows.iter().for_each(|row| row.done.one());
    assert!(rows.iter().all(|row| row.done.get() == 1));
    let seen = view(&RingObserver::open(&path).expect("a ring"));
    assert_eq!(seen.rows.len() as u64 + seen.rows_unseen, 2000);
    assert!(seen.rows_unseen > 0 && seen.rows.len() >= 400, "{} rows", seen.rows.len());
}

/// Where the board begins, and how long it is.
const BOARD: std::ops::Range<u64> = 4096..4096 + (256 << 10);
/// The places that say where others are: counts, facts, heads of tables and rows.
const HEADS: std::ops::Range<u64> = BOARD.start..BOARD.start + 160 * 8;

fn words() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..8u64, 1000..40_000u64, (1000..40_000u64).prop_map(|at| at << 32), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn a_hostile_board_yields_nonsense_at_worst(
        heads in proptest::collection::vec((HEADS.start / 8..HEADS.end / 8, words()), 0..40),
        anywhere in proptest::collection::vec((0..(2 << 20) / 8u64, words()), 0..40),
    ) {
        let dir = in_shm();
        let path = dir.path().join("ring");
        let (mut writer, ring) = ring_at(&path);
        let _rows: Vec<Row<Shard>> = (0..2).map(|index| ring.board().row(index)).collect();
        ring.board().describe(&node("1"));
        let news = open(&mut writer, 1).slot;
        ring.board().stream(news).begin("news");
        publish_halves(&mut writer, Stream { id: StreamId(1), slot: news }, 0..2);
        let observer = RingObserver::open(&path).expect("a ring");
        let file = OpenOptions::new().write(true).open(&path).expect("ours");
        for (word, value) in heads.into_iter().chain(anywhere) {
            file.write_all_at(&value.to_ne_bytes(), word * 8).expect("within the file");
        }
        if let Some(seen) = observer.board() {
            prop_assert!(seen.rows.len() <= 1024);
            for text in seen.rows.iter().flat_map(|row| row.values.iter().map(|(name, ..)| name).chain([&row.table])) {
                prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?} may go to a terminal", text);
            }
            let _ = seen.node.silent_for(WallClock::from_micros(0));
        }
        for (_, slot) in observer.streams().collect::<Vec<_>>() {
            let _ = (observer.stream_facts(slot), observer.head(slot), observer.oldest(slot));
        }
        let _ = observer.stats();
    }
}
