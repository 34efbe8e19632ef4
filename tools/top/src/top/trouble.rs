//! What is wrong, in words: what a person wants to know first, and what to do about it.
//!
//! Thresholds are our guesses: each is far from what a healthy node does (control goes round ten times a second, a
//! chunk comes five times a second, a shard with connections turns four times a second at the least).

use serde::Serialize;

use super::report::{Counts, Node, Report, Shard, Stream};
use super::screen::age;

/// Control silent for longer than this does not go round.
const SILENT_S: f64 = 2.0;

/// A live stream without a chunk for this long is late.
const STREAM_LATE_S: f64 = 1.5;

/// A shard that is busy for more than this share of its time serves late soon.
const BUSY: f64 = 0.9;

/// Of a shard's viewers, the share that is skipped ahead in a second before it is the shard's or the network's trouble,
/// and no longer that of single viewers.
const SKIPPED: f64 = 0.02;

/// How near to its bound a number is worth a word.
const NEARLY: f64 = 0.95;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Level {
    /// Viewers suffer, or soon will.
    Bad,
    /// Worth knowing.
    Watch,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Trouble {
    pub(super) level: Level,
    /// `node`, `ring`, `shard 3`, `stream news`.
    pub(super) whose: String,
    pub(super) what: String,
}

/// Counters of shards whose rise is trouble, and what it means.
const OF_SHARDS: &[(&str, Level, &str)] = &[
    ("refused_full", Level::Bad, "connections refused: connections_max is reached"),
    ("accept_pauses", Level::Bad, "pauses of accepting: descriptors or memory have run out (ulimit -n)"),
    ("receive_buffers_empty", Level::Watch, "receives without a free buffer"),
    ("handovers_refused", Level::Bad, "connections refused because control does not keep up"),
    ("messages_lost", Level::Bad, "messages to control lost: it does not keep up"),
    ("wants_late", Level::Bad, "viewers waited in vain for a stream: control or the other caches are slow"),
    ("cut_stalled", Level::Watch, "viewers cut off that took nothing"),
    ("cut_recycled", Level::Watch, "viewers cut off in the middle of a chunk that was recycled"),
];

/// The same of counters that only some nodes have, by how their names begin: those that judge their own load.
const OF_SOME_SHARDS: &[(&str, Level, &str)] = &[
    ("joins_refused_", Level::Bad, "joins refused"),
    ("stops", Level::Bad, "times that the shard was stopped for a second or more"),
    ("lates", Level::Bad, "times that the shard was late itself"),
];

/// The same of control.
const OF_CONTROL: &[(&str, Level, &str)] = &[
    ("chunks_without_memory", Level::Bad, "chunks dropped for want of memory: raise memory_mib, or have fewer streams"),
    ("chunks_wrong", Level::Bad, "chunks with a wrong hash or signature"),
    ("connections_refused", Level::Bad, "connections refused because control has too many"),
    ("shard_queue_full", Level::Watch, "announcements that found a shard's queue full"),
    ("shard_answers_lost", Level::Bad, "answers that a shard had no room for"),
    ("publishers_refused", Level::Watch, "publishers refused"),
    ("publishers_silent", Level::Watch, "publishers disconnected that fell silent"),
    ("publishers_garbled", Level::Watch, "publishers disconnected that could not be understood"),
    ("index_silent", Level::Bad, "questions that no index server answered"),
    ("pull_links_lost", Level::Watch, "links to other caches lost"),
    ("pulls_failed", Level::Watch, "pulls that found no parent"),
];

/// The same of the ring.
const OF_RING: &[(&str, Level, &str)] = &[
    ("evicted", Level::Watch, "segments taken from streams before their time: memory_mib is small for them"),
    ("no_space", Level::Bad, "chunks for which no segment was free: raise memory_mib"),
];

/// Whether control does not go round.
pub(super) fn is_silent(node: &Node) -> bool {
    node.pid != 0 && node.silent_s > SILENT_S
}

/// The names looked for that nobody counts: the node is of another version.
pub(super) fn not_counted(report: &Report) -> Vec<String> {
    let absent = |counts: &Counts, table: &[(&str, Level, &str)]| -> Vec<String> {
        let names = table.iter().map(|(name, ..)| *name);
        names.filter(|name| !counts.counters.contains_key(*name)).map(str::to_owned).collect()
    };
    let mut names = absent(&report.control, OF_CONTROL);
    names.extend(absent(&report.ring.counts, OF_RING));
    for shard in report.shards.iter().take(1) {
        names.extend(absent(&shard.counts, OF_SHARDS));
    }
    names
}

/// All troubles, the worst first.
pub(super) fn find(report: &Report) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut say = |level, whose: &str, what: String| found.push(Trouble { level, whose: whose.to_owned(), what });
    let node = &report.node;
    if node.pid == 0 {
        say(Level::Watch, "node", "it has not described itself: it is just starting, or another program".to_owned());
    }
    let silent = is_silent(node);
    if silent {
        let what =
            format!("no sign of life for {}: process {} is stopped, hangs, or is gone", age(node.silent_s), node.pid);
        say(Level::Bad, "node", what);
    }
    if node.draining {
        say(Level::Watch, "node", "draining: it takes nothing new".to_owned());
    }
    if node.connections_max > 0 && node.connections as f64 >= NEARLY * f64::from(node.connections_max) {
        say(Level::Watch, "node", format!("{} of {} connections are taken", node.connections, node.connections_max));
    }
    rising(&report.control, OF_CONTROL, "node", &mut say);
    rising(&report.ring.counts, OF_RING, "ring", &mut say);
    segments(&report.ring.counts, &mut say);
    for shard in &report.shards {
        let whose = format!("shard {}", shard.index);
        rising(&shard.counts, OF_SHARDS, &whose, &mut say);
        for (begins, level, what) in OF_SOME_SHARDS {
            for (name, rate) in
                shard.counts.per_s.iter().filter(|(name, rate)| name.starts_with(begins) && **rate > 0.0)
            {
                say(*level, &whose, format!("{rate:.1}/s {what} ({name})"));
            }
        }
        // What a silent node's shards and streams do not do needs no second word.
        if !silent {
            self::shard(shard, &whose, &mut say);
        }
    }
    if !silent {
        report.streams.iter().for_each(|one| stream(one, &mut say));
    }
    found.sort();
    found
}

fn rising(counts: &Counts, table: &[(&str, Level, &str)], whose: &str, say: &mut impl FnMut(Level, &str, String)) {
    for (name, level, what) in table {
        if let Some(rate) = counts.rate(name).filter(|rate| *rate > 0.0) {
            say(*level, whose, format!("{rate:.1}/s {what}"));
        }
    }
}

fn segments(counts: &Counts, say: &mut impl FnMut(Level, &str, String)) {
    let all = ["segments_free", "segments_in_use", "segments_quarantined", "segments_retired"];
    let all = all.iter().fold(0u64, |sum, name| sum.saturating_add(counts.get(name)));
    let (quarantined, retired) = (counts.get("segments_quarantined"), counts.get("segments_retired"));
    if retired > 0 {
        say(Level::Watch, "ring", format!("{retired} segments given up: their pages could not be had again"));
    }
    if quarantined > all / 10 {
        say(Level::Watch, "ring", format!("{quarantined} of {all} segments wait for viewers who still read them"));
    }
}

fn shard(shard: &Shard, whose: &str, say: &mut impl FnMut(Level, &str, String)) {
    if shard.connections > 0 && shard.turns_per_s == Some(0.0) {
        say(Level::Bad, whose, format!("it has {} connections and its loop stands still", shard.connections));
    }
    if let Some(busy) = shard.busy.filter(|busy| *busy > BUSY) {
        say(Level::Bad, whose, format!("busy {:.0} % of its time", busy * 100.0));
    }
    let skips = shard.skips_per_s.unwrap_or(0.0);
    if skips > (SKIPPED * shard.viewers as f64).max(1.0) {
        let what =
            format!("{skips:.0}/s of {} viewers skipped ahead: it, or the way to them, is too slow", shard.viewers);
        say(Level::Bad, whose, what);
    }
}

fn stream(stream: &Stream, say: &mut impl FnMut(Level, &str, String)) {
    let whose = format!("stream {}", if stream.name.is_empty() { &stream.id } else { &stream.name });
    let since = stream.age_s.unwrap_or(0.0);
    match stream.state.as_str() {
        "stalled" => say(Level::Bad, &whose, format!("its source is silent, the last chunk came {} ago", age(since))),
        "origin" | "relay" if since > STREAM_LATE_S => {
            say(Level::Bad, &whose, format!("no chunk for {}", age(since)));
        }
        _ => {}
    }
    if let Some(rate) = stream.missing_per_s.filter(|rate| *rate > 0.0) {
        say(Level::Watch, &whose, format!("{rate:.1}/s chunks that its source left out"));
    }
}
