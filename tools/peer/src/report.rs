//! The report that `watch --report FILE` leaves: one JSON object, written whole or not at all.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cache_core::peer_id::PeerId;
use cache_core::proto::peer::quality::Quality;
use cache_core::proto::peer::{Snapshot, Stats};
use cache_core::time::{Span, WallClock};
use cache_core::units::DomainId;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::net::NetCounters;
use crate::playout::PlayoutCounters;

/// Everything about one run. Times `_us` are microseconds since 1970 by this host's wall clock.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    pub(crate) stream: &'a str,
    /// How the run ended: `left`, `stream_ended`, or what went wrong.
    pub(crate) ended: String,
    /// `country-carrier-region-city-area-node`; null before the route server gave one.
    pub(crate) peer_id: Option<String>,
    /// Where links are taken.
    pub(crate) addr: SocketAddr,
    pub(crate) domain: Option<DomainId>,
    pub(crate) started_at_us: u64,
    /// When the first byte was written to a sink; with no sink at that time, when the first chunk was played out.
    pub(crate) first_byte_at_us: Option<u64>,
    /// From the process' launch to the first byte.
    pub(crate) startup_ms: Option<u64>,
    pub(crate) lag_ms: Lag,
    /// `[[lower edge of a 10 ms bucket, chunks], ...]`.
    pub(crate) lag_histogram_ms: &'a Histogram,
    /// Chunks whose time to be played came, the first excepted; played and missed ones are those of them.
    pub(crate) chunks_due: u64,
    pub(crate) chunks_played: u64,
    pub(crate) chunks_missed: u64,
    /// Played in time of those due; 1 before any was due.
    pub(crate) continuity: f64,
    pub(crate) stalls: u64,
    /// What the viewer got, by the definitions that the simulator shares.
    pub(crate) quality: ViewerQuality,
    pub(crate) chunks_verified: u64,
    pub(crate) chunks_wrong: u64,
    pub(crate) chunks_refused: u64,
    pub(crate) bytes_from_peers: u64,
    pub(crate) bytes_from_caches: u64,
    pub(crate) bytes_to_peers: u64,
    pub(crate) bytes_by_source: &'a BTreeMap<SocketAddr, u64>,
    /// Partners, members and the domain's peers of the stream when the run ended.
    pub(crate) partners: usize,
    pub(crate) members: usize,
    pub(crate) size: u32,
    pub(crate) counters: Counters<'a>,
}

/// Play-out's moment less the publisher's clock in the chunk's header.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Lag {
    pub(crate) p50: Option<u64>,
    pub(crate) p95: Option<u64>,
}

/// What the viewer got ([`cache_core::proto::peer::quality`]).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ViewerQuality {
    /// From the peer's start to its first chunk played.
    pub(crate) startup_ms: Option<u64>,
    pub(crate) chunks_due: u64,
    pub(crate) chunks_played: u64,
    pub(crate) continuity: f64,
    /// Times in which nothing was shown: chunks missed or left out, or play-out standing still.
    pub(crate) stalls: u64,
    pub(crate) stalled_ms: u64,
    pub(crate) stall_longest_ms: u64,
    pub(crate) watched_ms: u64,
}

impl ViewerQuality {
    fn of(quality: &Quality) -> ViewerQuality {
        let counts = quality.counts();
        ViewerQuality {
            startup_ms: quality.startup().map(Span::millis),
            chunks_due: counts.due,
            chunks_played: counts.played,
            continuity: counts.continuity(),
            stalls: counts.stalls,
            stalled_ms: counts.stalled.millis(),
            stall_longest_ms: counts.stall_longest.millis(),
            watched_ms: counts.watched.millis(),
        }
    }
}

/// All counters, by part.
#[derive(Debug, Serialize)]
pub(crate) struct Counters<'a> {
    pub(crate) peer: &'a Stats,
    pub(crate) net: NetCounters,
    pub(crate) playout: PlayoutCounters,
    /// Chunks that the store had to let go at its limit.
    pub(crate) store_evicted: u64,
    /// Chunks that the machine named and the store did not have.
    pub(crate) chunks_not_kept: u64,
}

impl Lag {
    pub(crate) fn of(histogram: &Histogram) -> Lag {
        Lag { p50: histogram.quantile_ms(500), p95: histogram.quantile_ms(950) }
    }
}

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) stream: &'a str,
    pub(crate) ended: String,
    pub(crate) addr: SocketAddr,
    pub(crate) started_at: WallClock,
    pub(crate) first_byte: Option<WallClock>,
    pub(crate) lags: &'a Histogram,
    pub(crate) quality: &'a Quality,
    pub(crate) stats: &'a Stats,
    /// The last one before the end began.
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) net: NetCounters,
    pub(crate) playout: PlayoutCounters,
    pub(crate) store_evicted: u64,
    pub(crate) chunks_not_kept: u64,
}

impl<'a> Report<'a> {
    /// The report of `s`.
    pub(crate) fn new(s: Sources<'a>) -> Report<'a> {
        let id = s.snapshot.peer_id;
        Report {
            stream: s.stream,
            ended: s.ended,
            peer_id: (id != PeerId::NONE).then(|| id.to_string()),
            addr: s.addr,
            domain: s.snapshot.domain,
            started_at_us: s.started_at.micros(),
            first_byte_at_us: s.first_byte.map(WallClock::micros),
            startup_ms: s.first_byte.map(|at| at.since(s.started_at).millis()),
            lag_ms: Lag::of(s.lags),
            lag_histogram_ms: s.lags,
            chunks_due: s.stats.chunks_due,
            chunks_played: s.stats.chunks_played,
            chunks_missed: s.stats.chunks_missed,
            continuity: s.stats.continuity(),
            stalls: s.stats.stalls,
            quality: ViewerQuality::of(s.quality),
            chunks_verified: s.stats.chunks_verified,
            chunks_wrong: s.stats.chunks_wrong,
            chunks_refused: s.stats.chunks_refused,
            bytes_from_peers: s.stats.bytes_from_peers,
            bytes_from_caches: s.stats.bytes_from_caches,
            bytes_to_peers: s.stats.bytes_uploaded,
            bytes_by_source: &s.stats.bytes_by_source,
            partners: s.snapshot.partners,
            members: s.snapshot.members,
            size: s.snapshot.size,
            counters: Counters {
                peer: s.stats,
                net: s.net,
                playout: s.playout,
                store_evicted: s.store_evicted,
                chunks_not_kept: s.chunks_not_kept,
            },
        }
    }
}

/// Writes `value` to `path` by way of a temporary file beside it: a reader sees the former file or the whole new one.
/// On an error neither is touched.
pub(crate) fn write_atomically(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = beside(path)?;
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Whether [`write_atomically`] could write `path`, found out by making its temporary file and removing it.
pub(crate) fn check_writable(path: &Path) -> io::Result<()> {
    let temporary = beside(path)?;
    std::fs::File::create(&temporary)?;
    std::fs::remove_file(&temporary)
}

/// The temporary file for `path`.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use cache_core::proto::peer::{Peer, PeerConfig, Tuning};
    use cache_core::time::Time;
    use cache_core::units::ChunkSeq;

    use super::*;

    fn snapshot() -> Snapshot {
        let stream = "news".parse().expect("a name");
        let config = PeerConfig { stream, routes: Vec::new(), listen: None, tuning: Tuning::default() };
        Peer::new(config, 1).snapshot(Time::ZERO)
    }

    #[test]
    fn a_report_has_the_keys_that_others_read() {
        let mut lags = Histogram::default();
        lags.record(Span::from_millis(2_000));
        let mut stats = Stats { chunks_due: 10, chunks_played: 9, chunks_missed: 1, ..Stats::default() };
        stats.bytes_by_source.insert("127.0.0.9:80".parse().expect("an address"), 5);
        let snapshot = snapshot();
        let mut quality = Quality::new(Time::ZERO);
        quality.played(Time::from_millis(700), ChunkSeq::new(1), Span::from_millis(200));
        quality.missed(Time::from_millis(900), ChunkSeq::new(2));
        let report = Report::new(Sources {
            stream: "news",
            ended: "left".into(),
            addr: "127.0.0.1:9".parse().expect("an address"),
            started_at: WallClock::from_micros(1_000_000),
            first_byte: Some(WallClock::from_micros(1_900_999)),
            lags: &lags,
            quality: &quality,
            stats: &stats,
            snapshot: &snapshot,
            net: NetCounters::default(),
            playout: PlayoutCounters::default(),
            store_evicted: 0,
            chunks_not_kept: 0,
        });
        let json = serde_json::to_value(&report).expect("a report");
        for (key, value) in [
            ("startup_ms", "900"),
            ("first_byte_at_us", "1900999"),
            ("continuity", "0.9"),
            ("lag_ms", r#"{"p50":2010,"p95":2010}"#),
            ("lag_histogram_ms", "[[2000,1]]"),
            ("bytes_by_source", r#"{"127.0.0.9:80":5}"#),
            ("peer_id", "null"),
            ("chunks_wrong", "0"),
        ] {
            assert_eq!(json[key].to_string(), value, "{key}");
        }
        let quality = &json["quality"];
        assert_eq!((quality["startup_ms"].as_u64(), quality["stalls"].as_u64()), (Some(700), Some(1)));
        assert!(json["counters"]["peer"]["chunks_late"].is_u64() && json["counters"]["net"]["garbage"].is_u64());
    }

    #[test]
    fn a_report_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("r.json");
        std::fs::write(&path, "former").expect("written");
        write_atomically(&path, &[1, 2]).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "[\n  1,\n  2\n]\n");
        let nowhere = dir.path().join("none").join("r.json");
        assert!(write_atomically(&nowhere, &1).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1, "nothing is left behind");
    }
}
