//! Two readings, compared: what is shown and printed. A field's unit is in its name; a rate that cannot be told (the
//! node began again between the readings, or a counter is not there) is left out.

use std::collections::BTreeMap;

use cache_core::ring::{Kind, RowView};
use serde::Serialize;

use super::sample::{Sample, StreamSample};
use super::trouble::{self, Trouble};

/// Everything that is shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) node: Node,
    pub(super) troubles: Vec<Trouble>,
    pub(super) shards: Vec<Shard>,
    pub(super) streams: Vec<Stream>,
    pub(super) ring: Ring,
    /// What control counts.
    pub(super) control: Counts,
    /// Seconds between the two readings.
    pub(super) seconds: f64,
    /// Counters that are looked at for trouble and that this node does not have.
    pub(super) not_counted: Vec<String>,
}

/// The node as a whole.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Node {
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) listen: String,
    pub(super) backend: String,
    pub(super) draining: bool,
    pub(super) uptime_s: f64,
    /// Since control last went round.
    pub(super) silent_s: f64,
    pub(super) connections: u64,
    pub(super) connections_max: u32,
    pub(super) viewers: u64,
    /// Other caches that pull from it.
    pub(super) caches: u64,
    pub(super) out_bits_per_s: Option<f64>,
    pub(super) in_bits_per_s: Option<f64>,
    /// Writers whose counters are not shown for want of room.
    pub(super) rows_unseen: u64,
}

/// One shard.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Shard {
    pub(super) index: u32,
    pub(super) connections: u64,
    pub(super) viewers: u64,
    /// Other caches that pull from it.
    pub(super) caches: u64,
    pub(super) chunks_per_s: Option<f64>,
    pub(super) out_bits_per_s: Option<f64>,
    pub(super) blocked_per_s: Option<f64>,
    pub(super) skips_per_s: Option<f64>,
    /// Viewers cut off since the node began.
    pub(super) cut: u64,
    pub(super) cut_per_s: Option<f64>,
    pub(super) turns_per_s: Option<f64>,
    /// Share of its time in which it had something to do.
    pub(super) busy: Option<f64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

/// A writer's numbers by name, and how fast its counters rise.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) per_s: BTreeMap<String, f64>,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) viewers: u64,
    pub(super) in_bits_per_s: Option<f64>,
    pub(super) head: Option<u64>,
    pub(super) oldest: Option<u64>,
    /// Since its newest chunk was stored.
    pub(super) age_s: Option<f64>,
    /// What can be watched of it, in time.
    pub(super) kept_s: f64,
    pub(super) missing: u64,
    pub(super) missing_per_s: Option<f64>,
}

/// The ring's memory.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ring {
    pub(super) bytes: u64,
    /// Bytes in huge pages, where the node knows.
    pub(super) huge_bytes: Option<u64>,
    #[serde(flatten)]
    pub(super) counts: Counts,
}

impl Counts {
    /// The number called `name`; 0 when it is not counted.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// How fast it rises.
    pub(super) fn rate(&self, name: &str) -> Option<f64> {
        self.per_s.get(name).copied()
    }

    /// Takes a number in; `before` is what it was in the reading before, if that can be compared.
    fn note(&mut self, name: &str, kind: Kind, value: u64, before: Option<u64>, seconds: f64) {
        self.counters.insert(name.to_owned(), value);
        if kind == Kind::Counter
            && let Some(rate) = rate(before, value, seconds)
        {
            self.per_s.insert(name.to_owned(), rate);
        }
    }
}

impl Report {
    /// Compares `now` with the reading `before`.
    pub(super) fn new(before: &Sample, now: &Sample) -> Report {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let node = |sample: &Sample| (sample.board.node.pid, sample.board.node.started);
        let before = Some(before).filter(|before| node(before) == node(now));
        let shards: Vec<Shard> =
            now.board.table("shard").iter().map(|row| shard(&counts(row, before, seconds), row.index)).collect();
        let control = now.board.table("control").first().map(|row| counts(row, before, seconds)).unwrap_or_default();
        let mut report = Report {
            node: self::node(now, &shards, &control),
            troubles: Vec::new(),
            streams: now.streams.iter().map(|stream| self::stream(stream, before, now, seconds)).collect(),
            ring: ring(now, before, seconds),
            shards,
            control,
            seconds,
            not_counted: Vec::new(),
        };
        report.troubles = trouble::find(&report);
        report.not_counted = trouble::not_counted(&report);
        report
    }
}

/// By how much a counter has risen in each second; `None` when it fell, which is a counter that began again.
fn rate(before: Option<u64>, now: u64, seconds: f64) -> Option<f64> {
    let risen = now.checked_sub(before?)?;
    (seconds > 0.0).then(|| risen as f64 / seconds)
}

fn counts(row: &RowView, before: Option<&Sample>, seconds: f64) -> Counts {
    let same = |other: &&RowView| other.table == row.table && other.index == row.index;
    let earlier = before.and_then(|before| before.board.rows.iter().find(same));
    let mut counts = Counts::default();
    for (name, kind, value) in &row.values {
        counts.note(name, *kind, *value, earlier.and_then(|row| row.get(name)), seconds);
    }
    counts
}

fn shard(counts: &Counts, index: u32) -> Shard {
    let cuts = ["cut_stalled", "cut_recycled", "cut_unread_answers"];
    Shard {
        index,
        connections: counts.get("connections"),
        viewers: counts.get("viewers_native").saturating_add(counts.get("viewers_http")),
        caches: counts.get("caches"),
        chunks_per_s: counts.rate("chunks_sent"),
        out_bits_per_s: counts.rate("chunk_bytes_sent").map(|bytes| bytes * 8.0),
        blocked_per_s: counts.rate("sends_blocked"),
        skips_per_s: counts.rate("skips"),
        cut: cuts.iter().fold(0, |sum, name| counts.get(name).saturating_add(sum)),
        cut_per_s: sum(cuts.iter().map(|name| counts.rate(name))),
        turns_per_s: counts.rate("turns"),
        busy: counts.counters.get("busy_permille").map(|permille| (*permille).min(1000) as f64 / 1000.0),
        counts: counts.clone(),
    }
}

fn node(now: &Sample, shards: &[Shard], control: &Counts) -> Node {
    let said = &now.board.node;
    let sources = ["bytes_from_publishers", "bytes_from_uploads", "bytes_from_caches"];
    Node {
        pid: said.pid,
        version: said.version.clone(),
        listen: said.listen.clone(),
        backend: said.backend.clone(),
        draining: said.draining,
        uptime_s: said.heartbeat.since(said.started).secs_f64(),
        silent_s: said.silent_for(now.wall).secs_f64(),
        connections: shards.iter().fold(0, |sum, shard| shard.connections.saturating_add(sum)),
        connections_max: said.connections_max,
        viewers: shards.iter().fold(0, |sum, shard| shard.viewers.saturating_add(sum)),
        caches: shards.iter().fold(0, |sum, shard| shard.caches.saturating_add(sum)),
        out_bits_per_s: sum(shards.iter().map(|shard| shard.out_bits_per_s)),
        in_bits_per_s: sum(sources.iter().map(|name| control.rate(name))).map(|bytes| bytes * 8.0),
        rows_unseen: now.board.rows_unseen,
    }
}

fn stream(stream: &StreamSample, before: Option<&Sample>, now: &Sample, seconds: f64) -> Stream {
    let earlier = before.and_then(|before| before.streams.iter().find(|other| other.slot == stream.slot));
    let earlier = earlier.map(|stream| &stream.facts);
    let facts = &stream.facts;
    Stream {
        id: stream.id.to_string(),
        name: facts.name.clone(),
        state: facts.state.clone(),
        viewers: facts.viewers,
        in_bits_per_s: rate(earlier.map(|facts| facts.bytes_in), facts.bytes_in, seconds).map(|bytes| bytes * 8.0),
        head: stream.head.map(|seq| seq.get()),
        oldest: stream.oldest.map(|seq| seq.get()),
        age_s: (facts.stored.micros() > 0).then(|| now.wall.since(facts.stored).secs_f64()),
        kept_s: stream.kept.secs_f64(),
        missing: facts.missing,
        missing_per_s: rate(earlier.map(|facts| facts.missing), facts.missing, seconds),
    }
}

fn ring(now: &Sample, before: Option<&Sample>, seconds: f64) -> Ring {
    let mut earlier = BTreeMap::new();
    if let Some(before) = before {
        before.ring.each(|name, value| {
            earlier.insert(name, value);
        });
    }
    let mut counts = Counts::default();
    now.ring.each(|name, value| {
        let level = name.starts_with("segments_") || name == "streams_open";
        let kind = if level { Kind::Gauge } else { Kind::Counter };
        counts.note(name, kind, value, earlier.get(name).copied(), seconds);
    });
    Ring { bytes: now.file_bytes, huge_bytes: now.board.node.huge_bytes, counts }
}

/// The sum of those that are known; `None` when none is.
fn sum(rates: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    rates.flatten().fold(None, |sum, rate| Some(sum.unwrap_or(0.0) + rate))
}
