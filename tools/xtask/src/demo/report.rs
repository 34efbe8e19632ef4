//! What the demo has shown, added up over all viewers.
//!
//! Start-up is from the launch of a viewer's process to its first byte played out; a viewer that never played counts
//! with the whole time that it had. Lag is play-out minus the publisher's clock. Continuity is chunks played in time
//! over chunks due after the first. Offload is chunk bytes from peers over all chunk bytes that peers received.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Serialize;
use weircast_testbed::process::wall_clock_us;
use weircast_testbed::{Cluster, PeerReport};

/// The sums.
pub(crate) struct Report {
    peers: usize,
    seconds: f64,
    startup_ms: Vec<f64>,
    lag_ms: BTreeMap<u64, u64>,
    played: u64,
    due: u64,
    stalls: u64,
    verified: u64,
    wrong: u64,
    from_peers: u64,
    from_caches: u64,
    between_by_peers: u64,
    far_cache_bytes: u64,
    troubles: Vec<String>,
}

/// The numbers of `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Numbers {
    peers: usize,
    seconds: f64,
    startup_ms: Startup,
    lag_ms: Lag,
    continuity: f64,
    offload: f64,
    chunks_verified: u64,
    chunks_wrong: u64,
    bytes_from_peers: u64,
    bytes_from_caches: u64,
    bytes_between_domains_by_peers: u64,
}

#[derive(Debug, Serialize)]
struct Startup {
    p50: f64,
    p95: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Lag {
    p50: f64,
    p95: f64,
}

impl Report {
    pub(crate) fn new(peers: usize, seconds: f64) -> Report {
        Report {
            peers,
            seconds,
            startup_ms: Vec::new(),
            lag_ms: BTreeMap::new(),
            played: 0,
            due: 0,
            stalls: 0,
            verified: 0,
            wrong: 0,
            from_peers: 0,
            from_caches: 0,
            between_by_peers: 0,
            far_cache_bytes: 0,
            troubles: Vec::new(),
        }
    }

    /// Adds a viewer of `domain` that was launched at `launched_us`.
    pub(crate) fn add(&mut self, cluster: &Cluster, domain: usize, launched_us: u64, report: Result<PeerReport>) {
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                self.troubles.push(format!("{error:#}"));
                self.never_played(launched_us);
                return;
            }
        };
        match report.first_byte_at_us.filter(|at| *at > 0) {
            Some(at) => self.startup_ms.push(at.saturating_sub(launched_us) as f64 / 1_000.0),
            None => {
                self.troubles.push(format!("the viewer at {} never played", report.addr));
                self.never_played(launched_us);
            }
        }
        for (bucket_ms, count) in report.lag_histogram_ms {
            *self.lag_ms.entry(bucket_ms).or_default() += count;
        }
        self.played += report.chunks_played;
        self.due += report.chunks_due;
        self.stalls += report.stalls;
        self.verified += report.chunks_verified;
        self.wrong += report.chunks_wrong;
        self.from_peers += report.bytes_from_peers;
        self.from_caches += report.bytes_from_caches;
        for (source, bytes) in report.bytes_by_source {
            let own_cache = source == cluster.cache(domain).listen;
            let far_cache = (0..cluster.domains()).any(|other| source == cluster.cache(other).listen);
            if own_cache || cluster.domain_of(source.ip()) == Some(domain) {
                continue;
            }
            // An address that is nobody's counts as a peer of elsewhere, never as nothing.
            *(if far_cache { &mut self.far_cache_bytes } else { &mut self.between_by_peers }) += bytes;
        }
    }

    fn never_played(&mut self, launched_us: u64) {
        self.startup_ms.push(wall_clock_us().saturating_sub(launched_us) as f64 / 1_000.0);
    }

    pub(crate) fn numbers(&self) -> Numbers {
        let mut startup = self.startup_ms.clone();
        startup.sort_by(f64::total_cmp);
        Numbers {
            peers: self.peers,
            seconds: round(self.seconds),
            startup_ms: Startup {
                p50: round(quantile(&startup, 0.5)),
                p95: round(quantile(&startup, 0.95)),
                max: round(quantile(&startup, 1.0)),
            },
            lag_ms: Lag { p50: bucket_quantile(&self.lag_ms, 0.5), p95: bucket_quantile(&self.lag_ms, 0.95) },
            continuity: share(self.played, self.due),
            offload: share(self.from_peers, self.from_peers + self.from_caches),
            chunks_verified: self.verified,
            chunks_wrong: self.wrong,
            bytes_from_peers: self.from_peers,
            bytes_from_caches: self.from_caches,
            bytes_between_domains_by_peers: self.between_by_peers,
        }
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        let n = self.numbers();
        let mut text = format!(
            "\n{} viewers for {:.1} s\n\
             start-up               p50 {:.0} ms, p95 {:.0} ms, max {:.0} ms\n\
             lag behind publisher   p50 {:.0} ms, p95 {:.0} ms\n\
             continuity             {:.5} ({} of {} chunks in time, {} stalls)\n\
             share from peers       {:.1} % ({:.1} MB from peers, {:.1} MB from caches)\n\
             between domains        {} bytes by peers; {} bytes from the other domain's cache to viewers\n\
             verified               {} chunks; {} wrong\n",
            n.peers,
            n.seconds,
            n.startup_ms.p50,
            n.startup_ms.p95,
            n.startup_ms.max,
            n.lag_ms.p50,
            n.lag_ms.p95,
            n.continuity,
            self.played,
            self.due,
            self.stalls,
            100.0 * n.offload,
            n.bytes_from_peers as f64 / 1e6,
            n.bytes_from_caches as f64 / 1e6,
            n.bytes_between_domains_by_peers,
            self.far_cache_bytes,
            n.chunks_verified,
            n.chunks_wrong,
        );
        for trouble in &self.troubles {
            text.push_str(&format!("TROUBLE: {trouble}\n"));
        }
        text
    }

    /// An error when a viewer did not play, or anything wrong arrived, or peers crossed domains.
    pub(crate) fn verdict(&self) -> Result<()> {
        if let [first, ..] = self.troubles.as_slice() {
            bail!("{} of {} viewers did not do well; the first: {first}", self.troubles.len(), self.peers);
        }
        if self.wrong > 0 {
            bail!("{} chunks were wrong", self.wrong);
        }
        if self.between_by_peers > 0 {
            bail!("peers of different domains exchanged {} bytes", self.between_by_peers);
        }
        Ok(())
    }
}

/// What caches say of the traffic between them.
pub(crate) fn caches_text(stats: &[Result<serde_json::Value>]) -> String {
    let mut text = String::new();
    for (at, stats) in stats.iter().enumerate() {
        match stats {
            Ok(stats) => {
                let bytes = stats["bytes_from_caches"].as_u64().unwrap_or(0);
                text.push_str(&format!(
                    "cache {} fetched        {:.1} MB from the other domain\n",
                    at + 1,
                    bytes as f64 / 1e6
                ));
            }
            Err(error) => text.push_str(&format!("cache {} gave no counters: {error:#}\n", at + 1)),
        }
    }
    text
}

/// `part / whole`; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The value at `q` of sorted values, by nearest rank.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The same over counted buckets.
fn bucket_quantile(buckets: &BTreeMap<u64, u64>, q: f64) -> f64 {
    let total: u64 = buckets.values().sum();
    let rank = (q * total as f64).ceil().max(1.0) as u64;
    let mut seen = 0;
    for (bucket, count) in buckets {
        seen += count;
        if seen >= rank {
            return *bucket as f64;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 10.0);
        assert_eq!(quantile(&values, 0.95), 19.0);
        assert_eq!(quantile(&values, 1.0), 20.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
        let buckets = BTreeMap::from([(100, 9), (200, 1)]);
        assert_eq!(bucket_quantile(&buckets, 0.5), 100.0);
        assert_eq!(bucket_quantile(&buckets, 0.95), 200.0);
    }

    #[test]
    fn a_viewer_without_a_report_is_not_forgotten() {
        let mut report = Report::new(1, 1.0);
        report.never_played(wall_clock_us() - 5_000_000);
        assert!(report.numbers().startup_ms.max >= 5_000.0);
        report.troubles.push("it ended".to_owned());
        assert!(report.verdict().is_err());
    }
}
