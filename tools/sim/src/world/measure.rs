//! What is measured while a run goes on, and what the report says of it.

use cache_core::proto::peer::Stats;
use cache_core::proto::peer::quality::{Counts, Quality, Spread};
use cache_core::time::{Span, Time};
use cache_core::units::ChunkSeq;

use super::fabric::Traffic;
use crate::report::{Metrics, Quantiles, Sample};

/// Sums over peers' counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) from_peers: u64,
    pub(crate) from_caches: u64,
    pub(crate) uploaded: u64,
    verified: u64,
    duplicate: u64,
    duplicate_caches: u64,
    pushed: u64,
    refused: u64,
    late: u64,
    seeded: u64,
    last_resort: u64,
}

impl Sums {
    /// `feigns`: what it says that it has uploaded is not true.
    pub(crate) fn add(&mut self, stats: &Stats, feigns: bool) {
        self.from_peers += stats.bytes_from_peers;
        self.from_caches += stats.bytes_from_caches;
        self.uploaded += if feigns { 0 } else { stats.bytes_uploaded };
        self.verified += stats.chunks_verified;
        self.duplicate += stats.chunks_duplicate;
        self.duplicate_caches += stats.duplicates_from_caches;
        self.pushed += stats.chunks_pushed;
        self.refused += stats.unavailable;
        self.late += stats.timeouts_peers;
        self.seeded += stats.requests_seed;
        self.last_resort += stats.requests_last_resort;
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    /// The newest chunk of the stream: what a liar knows of it.
    pub(crate) newest: ChunkSeq,
    counting: bool,
    lags: Spread,
    startups: Spread,
    pub(crate) viewers: u64,
    pub(crate) gave_up: u64,
    /// Chunks played and missed in the present second.
    second: (u64, u64),
    totals: Counts,
    /// Of viewers that are gone or were looked at in the end: played and due.
    of_viewers: Vec<(u32, u32)>,
    smooth: u64,
    /// Of peers that are gone.
    pub(crate) departed: Sums,
    pub(crate) departed_unclaimed: u64,
    /// At the end of the warm-up.
    sums_before: Sums,
    traffic_before: Traffic,
    /// Sums of samples.
    samples: u64,
    partners: f64,
    partner_distance: f64,
    partner_samples: u64,
    uploader_seconds: u64,
    cache_peak_kbps: f64,
    pub(crate) series: Vec<Sample>,
    sums_last: Sums,
}

impl Measure {
    /// A chunk was played, `lag` after it was cut.
    pub(crate) fn played(&mut self, lag: Span, first: bool) {
        if self.counting {
            self.lags.record(lag);
        }
        if !first {
            self.second.0 += 1;
        }
    }

    pub(crate) fn missed(&mut self) {
        self.second.1 += 1;
    }

    pub(crate) fn started(&mut self, startup: Span) {
        self.startups.record(startup);
    }

    /// The warm-up is over.
    pub(crate) fn begin(&mut self, sums: Sums, traffic: Traffic) {
        self.counting = true;
        self.sums_before = sums;
        self.traffic_before = traffic;
    }

    /// A viewer is gone, or the run is over.
    pub(crate) fn viewer(&mut self, now: Time, quality: &mut Quality) {
        if !self.counting {
            return;
        }
        quality.finish(now);
        let counts = quality.counts();
        let t = &mut self.totals;
        t.due += counts.due;
        t.played += counts.played;
        t.stalls += counts.stalls;
        t.stalled = t.stalled.plus(counts.stalled);
        t.stall_longest = t.stall_longest.max(counts.stall_longest);
        t.watched = t.watched.plus(counts.watched);
        if counts.due > 0 {
            self.of_viewers.push((counts.played as u32, counts.due as u32));
            self.smooth += u64::from(counts.played == counts.due && counts.stalls == 0);
        }
    }

    /// Partners of one sample: of how many peers, how many, and how far they are (in sides of the square).
    pub(crate) fn partners(&mut self, peers: u64, links: u64, distance: f64) {
        if self.counting && peers > 0 {
            self.samples += 1;
            self.partners += 2.0 * links as f64 / peers as f64;
            if links > 0 {
                self.partner_samples += 1;
                self.partner_distance += distance / links as f64;
            }
        }
    }

    /// A second is over.
    pub(crate) fn second(&mut self, mut sample: Sample, sums: Sums, uploaders: u64, cache_peak_kbps: f64) {
        let (played, missed) = std::mem::take(&mut self.second);
        sample.continuity = share(played, played + missed, 1.0);
        let peers = sums.from_peers - self.sums_last.from_peers;
        let caches = sums.from_caches - self.sums_last.from_caches;
        sample.offload = share(peers, peers + caches, 0.0);
        self.sums_last = sums;
        self.series.push(sample);
        if self.counting {
            self.uploader_seconds += uploaders;
            self.cache_peak_kbps = self.cache_peak_kbps.max(cache_peak_kbps);
        }
    }

    /// The report's numbers.
    pub(crate) fn metrics(&mut self, sums: &Sums, traffic: &Traffic, chunk_bytes: u64, stream_kbps: u64) -> Metrics {
        let (s, b) = (sums, &self.sums_before);
        let (t, tb) = (traffic, &self.traffic_before);
        let from_peers = s.from_peers - b.from_peers;
        let from_caches = s.from_caches - b.from_caches;
        let peers = t.peers_delivered - tb.peers_delivered;
        let across = t.peers_across - tb.peers_across;
        let all_across = across + t.caches_across - tb.caches_across;
        let played_bytes = self.totals.played * chunk_bytes;
        let control = t.control - tb.control;
        let chunks_at_peers = 2 * peers + t.caches_delivered - tb.caches_delivered;
        let (verified, duplicate) = (s.verified - b.verified, s.duplicate - b.duplicate);
        let uploaded_kbit = (s.uploaded - b.uploaded) as f64 * 8.0 / 1_000.0;
        self.of_viewers.sort_by(|a, b| (u64::from(a.0) * u64::from(b.1)).cmp(&(u64::from(b.0) * u64::from(a.1))));
        let worst = self.of_viewers.get(self.of_viewers.len() / 100).copied();
        let hours = self.totals.watched.secs_f64() / 3_600.0;
        let mean = |sum: f64, of: u64| if of == 0 { 0.0 } else { sum / of as f64 };
        Metrics {
            viewers: self.viewers,
            gave_up: self.gave_up,
            startup_ms: quantiles(&self.startups),
            continuity: self.totals.continuity(),
            continuity_p1: worst.map_or(1.0, |(played, due)| share(played.into(), due.into(), 1.0)),
            smooth_viewers: share(self.smooth, self.of_viewers.len() as u64, 1.0),
            stalls_per_hour: if hours > 0.0 { self.totals.stalls as f64 / hours } else { 0.0 },
            stall_longest_ms: self.totals.stall_longest.micros() as f64 / 1_000.0,
            lag_ms: quantiles(&self.lags),
            offload: share(from_peers, from_peers + from_caches, 0.0),
            inter_region_share: share(across, peers, 0.0),
            inter_region_traffic: share(all_across, played_bytes, 0.0),
            delay_factor: mean(self.partner_distance, self.partner_samples),
            control_overhead: share(control, control + chunks_at_peers, 0.0),
            partners: mean(self.partners, self.samples),
            duplicate_share: share(duplicate, verified + duplicate, 0.0),
            duplicate_cache_share: share(s.duplicate_caches - b.duplicate_caches, verified + duplicate, 0.0),
            pushed_share: share(s.pushed - b.pushed, self.totals.played, 0.0),
            refused_share: share(s.refused - b.refused, self.totals.played, 0.0),
            late_share: share(s.late - b.late, self.totals.played, 0.0),
            seeded_share: share(s.seeded - b.seeded, self.totals.played, 0.0),
            last_resort_share: share(s.last_resort - b.last_resort, self.totals.played, 0.0),
            upload_mean: mean(uploaded_kbit / stream_kbps.max(1) as f64, self.uploader_seconds),
            cache_peak_kbps: self.cache_peak_kbps,
        }
    }
}

fn share(part: u64, of: u64, of_none: f64) -> f64 {
    if of == 0 { of_none } else { part as f64 / of as f64 }
}

fn quantiles(spread: &Spread) -> Quantiles {
    let ms = |span: Span| span.micros() as f64 / 1_000.0;
    let at = |permille| spread.quantile(permille).map_or(0.0, ms);
    Quantiles { mean: ms(spread.mean()), p50: at(500), p95: at(950), p99: at(990), max: ms(spread.max()) }
}
