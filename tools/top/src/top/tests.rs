//! Readings of a ring made here: rates, resets, and what is trouble.

use std::time::{Duration, Instant};

use cache_core::counter_row;
use cache_core::ring::{
    Backing, ChunkMeta, Node, PREFIX_BYTES, Ring, RingConfig, RingObserver, Row, StreamSlot, Writer,
};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};

use super::report::Report;
use super::sample::Sample;
use super::screen::{Sort, draw};
use super::trouble::Level;

counter_row! {
    /// As much as is needed of what a shard counts.
    struct Shard: "shard" {
        /// Turns.
        turns,
        /// Connections (gauge).
        connections: Gauge,
        /// Viewers (gauge).
        viewers_native: Gauge,
        /// Bytes.
        chunk_bytes_sent,
        /// Skips.
        skips,
        /// Thousandths of its time at work (gauge).
        busy_permille: Gauge,
        /// Joins refused.
        joins_refused_busy,
    }
}

counter_row! {
    /// As much as is needed of what control counts.
    struct Control: "control" {
        /// Bytes.
        bytes_from_publishers,
        /// Lost chunks.
        chunks_without_memory,
    }
}

/// A node whose clock stands where the test says.
struct Rig {
    _dir: tempfile::TempDir,
    writer: Writer,
    ring: Ring,
    observer: RingObserver,
    shard: Row<Shard>,
    control: Row<Control>,
    start: Instant,
    seconds: u64,
}

const PID: u32 = 4321;

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux");
        let path = dir.path().join("ring");
        let config = RingConfig { backing: Backing::File(path.clone()), ..RingConfig::memfd(8 << 20) };
        let (writer, ring) = Ring::create(&config).expect("room");
        let observer = RingObserver::open(&path).expect("a ring");
        let (shard, control) = (ring.board().row(0), ring.board().row(0));
        let rig = Rig { _dir: dir, writer, ring, observer, shard, control, start: Instant::now(), seconds: 0 };
        rig.begin();
        rig
    }

    fn begin(&self) {
        self.ring.board().describe(&Node {
            pid: PID,
            started: self.wall(),
            version: "1.2.3",
            listen: "127.0.0.1:7400",
            backend: "sendfile",
            shards: 1,
            connections_max: 100,
            huge_bytes: None,
        });
    }

    fn wall(&self) -> WallClock {
        WallClock::from_micros((1_000 + self.seconds) * 1_000_000)
    }

    fn sample(&self) -> Sample {
        let at = self.start + Duration::from_secs(self.seconds);
        Sample::take(&self.observer, self.wall(), at).expect("nobody lays the board out")
    }

    /// What is shown two seconds later, when `change` has happened and control has gone round.
    fn after(&mut self, change: impl FnOnce(&mut Rig)) -> Report {
        let before = self.sample();
        self.seconds += 2;
        self.shard.turns.one();
        change(self);
        self.ring.board().beat(self.wall());
        Report::new(&before, &self.sample())
    }

    fn open(&mut self, name: &str) -> StreamSlot {
        let slot = self.writer.open_stream(StreamId(7)).expect("room");
        self.ring.board().stream(slot).begin(name);
        slot
    }

    fn publish(&mut self, slot: StreamSlot, seq: u64) {
        let meta = ChunkMeta {
            seq: ChunkSeq::new(seq),
            epoch: Epoch(1),
            published: WallClock::from_micros(seq * 200_000),
            payload_len: 50_000,
            tables_len: 0,
            key_frame: None,
            duration_ms: 200,
            discontinuity: false,
            end: false,
        };
        let reserved = self.writer.reserve(slot, PREFIX_BYTES + 50_000).expect("room");
        assert!(self.writer.publish(reserved, meta));
        self.ring.board().stream(slot).stored(50_000, self.wall());
    }
}

/// What is said, `level whose: what`.
fn said(report: &Report) -> Vec<String> {
    report.troubles.iter().map(|one| format!("{:?} {}: {}", one.level, one.whose, one.what)).collect()
}

#[test]
fn differences_are_rates_and_a_sound_node_has_no_trouble() {
    let mut rig = Rig::new();
    let slot = rig.open("news");
    let report = rig.after(|rig| {
        rig.shard.chunk_bytes_sent.add(1_000_000);
        rig.shard.viewers_native.set(40);
        rig.shard.connections.set(50);
        rig.shard.busy_permille.set(250);
        rig.control.bytes_from_publishers.add(100_000);
        for seq in 10..20 {
            rig.publish(slot, seq);
        }
        rig.ring.board().stream(slot).state("origin", 40, 0);
    });
    assert_eq!(report.node.out_bits_per_s, Some(4e6));
    assert_eq!(report.node.in_bits_per_s, Some(4e5));
    assert_eq!((report.node.connections, report.node.viewers, report.node.uptime_s), (50, 40, 2.0));
    assert_eq!(report.shards[0].busy, Some(0.25));
    let stream = &report.streams[0];
    assert_eq!((stream.name.as_str(), stream.viewers, stream.head, stream.oldest), ("news", 40, Some(19), Some(10)));
    assert_eq!((stream.in_bits_per_s, stream.age_s, stream.kept_s), (Some(2e6), Some(0.0), 2.0));
    assert_eq!(report.ring.counts.rate("published"), Some(5.0));
    assert_eq!(said(&report), Vec::<String>::new());
}

#[test]
fn a_node_that_began_again_has_no_rates_and_a_counter_that_fell_neither() {
    let mut rig = Rig::new();
    rig.shard.chunk_bytes_sent.add(1_000_000);
    let report = rig.after(|rig| rig.shard.chunk_bytes_sent.set(10));
    assert_eq!((report.shards[0].out_bits_per_s, report.shards[0].turns_per_s), (None, Some(0.5)));
    let report = rig.after(|rig| {
        rig.begin();
        rig.shard.chunk_bytes_sent.add(50);
    });
    assert_eq!((report.shards[0].out_bits_per_s, report.shards[0].turns_per_s), (None, None));
    assert_eq!(report.ring.counts.rate("published"), None);
    let same = rig.sample();
    assert_eq!(Report::new(&same, &same).node.out_bits_per_s, None, "no time has passed");
}

#[test]
fn a_silent_node_is_the_one_trouble() {
    let mut rig = Rig::new();
    let slot = rig.open("news");
    rig.publish(slot, 1);
    rig.ring.board().stream(slot).state("origin", 1, 0);
    rig.shard.connections.set(5);
    let before = rig.sample();
    rig.seconds += 12;
    let report = Report::new(&before, &rig.sample());
    assert_eq!(
        said(&report),
        [format!("Bad node: no sign of life for 12.0 s: process {PID} is stopped, hangs, or is gone")]
    );
}

#[test]
fn troubles_are_told_with_whose_they_are_the_worst_first() {
    let mut rig = Rig::new();
    let slot = rig.open("news");
    rig.publish(slot, 1);
    let report = rig.after(|rig| {
        rig.shard.connections.set(97);
        rig.shard.viewers_native.set(90);
        rig.shard.skips.add(80);
        rig.shard.busy_permille.set(950);
        rig.shard.joins_refused_busy.add(6);
        rig.control.chunks_without_memory.add(3);
        rig.ring.board().stream(slot).state("stalled", 90, 4);
    });
    assert_eq!(
        said(&report),
        [
            "Bad node: 1.5/s chunks dropped for want of memory: raise memory_mib, or have fewer streams",
            "Bad shard 0: 3.0/s joins refused (joins_refused_busy)",
            "Bad shard 0: 40/s of 90 viewers skipped ahead: it, or the way to them, is too slow",
            "Bad shard 0: busy 95 % of its time",
            "Bad stream news: its source is silent, the last chunk came 2.0 s ago",
            "Watch node: 97 of 100 connections are taken",
            "Watch stream news: 2.0/s chunks that its source left out",
        ]
    );
    let drawn: Vec<String> = draw(&report, Sort::default(), false).iter().map(super::screen::Line::plain).collect();
    assert!(drawn[3].starts_with("!! node  1.5/s chunks dropped"), "what is wrong stands on top: {drawn:#?}");
    let report = rig.after(|rig| rig.shard.turns.set(1));
    assert!(said(&report).contains(&"Bad shard 0: it has 97 connections and its loop stands still".to_owned()));
    assert!(report.troubles.is_sorted() && report.troubles[0].level == Level::Bad);
}

#[test]
fn streams_are_sorted_by_the_column_that_is_marked() {
    let mut rig = Rig::new();
    for (id, name, viewers) in [(1, "b", 1), (2, "a", 3), (3, "c", 2)] {
        let slot = rig.writer.open_stream(StreamId(id)).expect("room");
        rig.ring.board().stream(slot).begin(name);
        rig.ring.board().stream(slot).state("origin", viewers, 0);
    }
    let report = rig.after(|_| {});
    let names = |sort: Sort| -> String {
        let lines = draw(&report, sort, false);
        lines.iter().rev().take(3).rev().map(|line| line.plain()[..1].to_owned()).collect()
    };
    assert_eq!(names(Sort::Viewers), "acb");
    assert_eq!(names(Sort::Name), "abc");
    let marked = draw(&report, Sort::Age, true).iter().any(|line| line.plain().contains("age s*"));
    assert!(marked && Sort::default().next().next().next().next() == Sort::default());
}
