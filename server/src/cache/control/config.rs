//! The cache server's configuration. `server/config/cache.toml` shows every key with its default.

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::limits::{CACHES_PER_ANSWER_MAX, WINDOW_CHUNKS};
use cache_core::proto::cache::admission::{Budget, MEMORY_RESERVE_MIB};
use cache_core::proto::cache::config::{CacheKnobs, STREAMS_MAX};
use cache_core::proto::index::publish::{PublishRule, PublishRules};
use cache_core::time::Span;
use cache_core::wire::StreamName;
use serde::Deserialize;

use super::super::data::SendBackend;
use super::retention::{Retention, TIME_SHIFT_MINUTES_MAX, TimeShift};
use crate::host::config::ConfigError;
use crate::host::congestion::{self, Congestion};
use crate::host::cpus::CpuList;

/// What stands in `cache.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Where viewers, publishers and other caches connect (TCP).
    pub listen: SocketAddr,
    /// The address that others are told; needed when `listen` is not one they can reach.
    pub advertise: Option<SocketAddr>,
    /// The domain's index servers, in the order to try. Empty: stand-alone.
    pub index: Vec<SocketAddr>,
    /// The secret shared by all servers of the cluster.
    pub cluster_secret: String,
    /// Data-plane threads; 0: one per CPU.
    pub shards: u32,
    /// The chunk ring's memory in MiB, allocated at start.
    pub memory_mib: u64,
    /// Where that memory lives: `auto`, `memfd`, or a file's path on a tmpfs.
    pub slab: String,
    /// Where `weircast-cache prepare` mounts a tmpfs with huge pages, and `auto` looks for it.
    pub huge_pages_at: PathBuf,
    /// The CPUs to run on, as the kernel writes them (`0-15,32`); empty: all.
    pub cpus: String,
    /// Whether the ring's file stays when SIGTERM ends the cache, for the next process to take over.
    pub keep_ring: bool,
    /// How chunks are sent.
    pub send: SendBackend,
    /// The connections' congestion control: `auto`, `system`, or a name.
    pub congestion: String,
    /// Most connections of all shards together; 0: as many as there are descriptors for.
    pub connections_max: u32,
    /// Most streams at once; 0: as many as there are 4 MiB of memory for.
    pub streams_max: u32,
    /// Newest chunks of each stream that are kept.
    pub window_chunks: u64,
    /// Streams that are kept longer.
    pub time_shift: Vec<TimeShift>,
    /// How long a SIGTERM waits for viewers to take what they are being sent.
    pub drain_timeout_s: u64,
    /// A publisher that sends nothing for this long is disconnected.
    pub publisher_idle_s: u64,
    /// A stream whose publisher is silent for this long is ended and its memory given back.
    pub stall_forget_s: u64,
    /// How far behind the newest chunk an HTTP viewer begins.
    pub http_back_chunks: u64,
    /// How far behind a parent's newest chunk a pull begins.
    pub pull_back_chunks: u16,
    /// A pulled stream that nobody watches is given up after this long.
    pub pull_grace_s: u64,
    /// A connection that asks for single chunks over HTTP is closed when it has asked for nothing for this long.
    pub http_idle_s: u64,
    /// A viewer that takes no byte for this long is cut off.
    pub viewer_stall_s: u64,
    /// A shard that is at work for a larger share of its time takes no more viewers; 1000: no limit.
    pub busy_max_permille: u16,
    /// A shard in which a chunk takes longer to its last viewer takes no more.
    pub fanout_ms_max: u64,
    /// Most that all shards together send; 0: the speed of the network interface, if it is known.
    pub bandwidth_max_mbps: u64,
    /// Memory of the host or cgroup that viewers leave free.
    pub memory_reserve_mib: u64,
    /// How long control looks for news before it sleeps.
    pub busy_poll_us: u64,
    /// Other caches, for viewers that this one has no room for.
    pub alternates: Vec<SocketAddr>,
    /// Without index servers: names that need a secret. All others are open.
    pub publish: Vec<PublishSecret>,
}

/// A name or pattern, and the secret for publishing under it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishSecret {
    /// A stream name, or a pattern with `*` for any run of characters.
    pub name: String,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for PublishSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublishSecret({}, secret)", self.name)
    }
}

impl Default for CacheConfig {
    fn default() -> CacheConfig {
        let knobs = CacheKnobs::default();
        let budget = Budget::default();
        CacheConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 7400)),
            advertise: None,
            index: Vec::new(),
            cluster_secret: String::new(),
            shards: 0,
            memory_mib: 1024,
            slab: "auto".into(),
            huge_pages_at: "/run/weircast/slabs".into(),
            cpus: String::new(),
            keep_ring: true,
            send: SendBackend::default(),
            congestion: congestion::AUTO.into(),
            connections_max: 0,
            streams_max: 0,
            window_chunks: WINDOW_CHUNKS,
            time_shift: Vec::new(),
            drain_timeout_s: 10,
            publisher_idle_s: 30,
            stall_forget_s: knobs.forget_after.millis() / 1000,
            http_back_chunks: 5,
            pull_back_chunks: knobs.pull_back_chunks,
            pull_grace_s: knobs.pull_grace.millis() / 1000,
            http_idle_s: 15,
            viewer_stall_s: 10,
            busy_max_permille: budget.busy_permille_max,
            fanout_ms_max: budget.fanout_max.millis(),
            bandwidth_max_mbps: 0,
            memory_reserve_mib: MEMORY_RESERVE_MIB,
            busy_poll_us: 0,
            alternates: Vec::new(),
            publish: Vec::new(),
        }
    }
}

/// What a stream is given room for when `streams_max` leaves it open: two segments.
const STREAM_MIB: u64 = 4;

/// Where the chunk ring's memory lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slab {
    /// A file in `/dev/shm` named after the listening address.
    Auto,
    /// A memfd.
    Memfd,
    /// This file.
    Path(PathBuf),
}

impl CacheConfig {
    /// Checks what serde cannot: ranges, and values that exclude each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let in_range = |key: &'static str, got: u64, min: u64, max: u64| {
            let good = (min..=max).contains(&got);
            good.then_some(())
                .ok_or_else(|| ConfigError::value(key, format!("{got} is outside the range {min} to {max}")))
        };
        in_range("shards", self.shards.into(), 0, 1023)?;
        in_range("memory_mib", self.memory_mib, 4, 1 << 24)?;
        in_range("streams_max", self.streams_max.into(), 0, STREAMS_MAX.into())?;
        in_range("window_chunks", self.window_chunks, 25, 65_536)?;
        for rule in &self.time_shift {
            is_pattern("time_shift", &rule.name)?;
            in_range("time_shift", rule.minutes.into(), 1, TIME_SHIFT_MINUTES_MAX.into())?;
        }
        self.cpu_list()?;
        Congestion::choose(&self.congestion)?;
        if !self.huge_pages_at.is_absolute() {
            let message = format!("\"{}\" is not an absolute path", self.huge_pages_at.display());
            return Err(ConfigError::value("huge_pages_at", message));
        }
        in_range("drain_timeout_s", self.drain_timeout_s, 0, 3600)?;
        in_range("publisher_idle_s", self.publisher_idle_s, 1, 3600)?;
        in_range("stall_forget_s", self.stall_forget_s, 1, 86_400)?;
        in_range("http_back_chunks", self.http_back_chunks, 0, WINDOW_CHUNKS - 1)?;
        in_range("pull_back_chunks", self.pull_back_chunks.into(), 0, WINDOW_CHUNKS - 1)?;
        in_range("pull_grace_s", self.pull_grace_s, 1, 86_400)?;
        in_range("http_idle_s", self.http_idle_s, 1, 3600)?;
        in_range("viewer_stall_s", self.viewer_stall_s, 1, 3600)?;
        in_range("busy_max_permille", self.busy_max_permille.into(), 100, 1000)?;
        in_range("fanout_ms_max", self.fanout_ms_max, 10, 60_000)?;
        in_range("bandwidth_max_mbps", self.bandwidth_max_mbps, 0, 10_000_000)?;
        in_range("busy_poll_us", self.busy_poll_us, 0, 1_000_000)?;
        in_range("memory_reserve_mib", self.memory_reserve_mib, 0, 1 << 24)?;
        in_range("alternates (their number)", self.alternates.len() as u64, 0, CACHES_PER_ANSWER_MAX as u64)?;
        if let Some(addr) = self.alternates.iter().find(|addr| addr.ip().is_unspecified() || addr.port() == 0) {
            let message = format!("{addr} cannot be reached; give the other cache's own address and port");
            return Err(ConfigError::value("alternates", message));
        }
        if let Some(addr) = self.index.iter().find(|addr| addr.ip().is_unspecified() || addr.port() == 0) {
            let message = format!("{addr} cannot be reached; give the index server's own address and port");
            return Err(ConfigError::value("index", message));
        }
        if !self.index.is_empty() && !self.publish.is_empty() {
            let message = "with index servers these decide who may publish: move the [[publish]] entries there";
            return Err(ConfigError::value("publish", message));
        }
        for rule in &self.publish {
            is_pattern("publish", &rule.name)?;
            if rule.secret.is_empty() {
                let message = format!("the secret for \"{}\" is empty: set one, or leave the entry out", rule.name);
                return Err(ConfigError::value("publish", message));
            }
        }
        self.slab()?;
        Ok(())
    }

    pub(super) fn slab(&self) -> Result<Slab, ConfigError> {
        match self.slab.as_str() {
            "auto" => Ok(Slab::Auto),
            "memfd" => Ok(Slab::Memfd),
            path if path.starts_with('/') => Ok(Slab::Path(path.into())),
            other => {
                let message = format!("\"{other}\" is neither auto, memfd nor an absolute path on a tmpfs");
                Err(ConfigError::value("slab", message))
            }
        }
    }

    /// The CPUs to run on; `None`: all.
    pub(super) fn cpu_list(&self) -> Result<Option<CpuList>, ConfigError> {
        if self.cpus.trim().is_empty() {
            return Ok(None);
        }
        let message = || format!("\"{}\" is no list of CPUs; one is written 0-15,32", self.cpus);
        CpuList::parse(&self.cpus).map(Some).ok_or_else(|| ConfigError::value("cpus", message()))
    }

    /// How long streams are kept.
    pub(super) fn retention(&self) -> Retention {
        Retention::new(self.window_chunks, self.time_shift.clone())
    }

    /// Streams that the ring has places for.
    pub(super) fn streams_planned(&self) -> u32 {
        match self.streams_max {
            0 => u32::try_from(self.memory_mib / STREAM_MIB).unwrap_or(u32::MAX).clamp(1, STREAMS_MAX),
            max => max,
        }
    }

    pub(super) fn rules(&self) -> PublishRules {
        let rule = |entry: &PublishSecret| PublishRule { name: entry.name.clone(), secret: entry.secret.clone() };
        PublishRules::new(self.publish.iter().map(rule).collect())
    }

    pub(super) fn budget(&self) -> Budget {
        Budget { busy_permille_max: self.busy_max_permille, fanout_max: Span::from_millis(self.fanout_ms_max) }
    }

    pub(super) fn knobs(&self) -> CacheKnobs {
        CacheKnobs {
            forget_after: Span::from_secs(self.stall_forget_s),
            pull_back_chunks: self.pull_back_chunks,
            pull_grace: Span::from_secs(self.pull_grace_s),
            ..CacheKnobs::default()
        }
    }
}

fn is_pattern(key: &'static str, name: &str) -> Result<(), ConfigError> {
    let message = || format!("\"{name}\" is neither a stream name nor a pattern of one with *");
    StreamName::new(&name.replace('*', "x")).map(drop).map_err(|_| ConfigError::value(key, message()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::config::parse;

    #[test]
    fn the_shipped_file_states_the_defaults() {
        let text = include_str!("../../../config/cache.toml");
        let shipped: CacheConfig = parse(Path::new("cache.toml"), text).expect("it parses");
        assert_eq!(shipped, CacheConfig::default());
        shipped.validate().expect("and makes sense");
        // Every key stands in it, set or as a comment.
        for key in ["advertise", "[[publish]]", "[[time_shift]]"] {
            assert!(text.contains(key), "{key}");
        }
    }

    #[test]
    fn values_without_sense_are_named() {
        let complaint = |change: fn(&mut CacheConfig)| {
            let mut config = CacheConfig::default();
            change(&mut config);
            config.validate().expect_err("no sense").to_string()
        };
        assert!(complaint(|c| c.memory_mib = 0).starts_with("memory_mib: 0 is outside"));
        assert!(complaint(|c| c.slab = "shm".into()).starts_with("slab: "));
        assert!(complaint(|c| c.congestion = String::new()).starts_with("congestion: "));
        assert!(complaint(|c| c.cpus = "a few".into()).starts_with("cpus: "));
        assert!(complaint(|c| c.huge_pages_at = "slabs".into()).starts_with("huge_pages_at: "));
        for (name, minutes) in [("a b", 1), ("news*", 0), ("news*", 100_000)] {
            let time_shift = vec![TimeShift { name: name.into(), minutes }];
            let config = CacheConfig { time_shift, ..CacheConfig::default() };
            assert!(config.validate().is_err_and(|error| error.to_string().starts_with("time_shift: ")));
        }
        assert!(
            complaint(|c| c.index = vec![SocketAddr::from(([0, 0, 0, 0], 7300))]).starts_with("index: 0.0.0.0:7300")
        );
        assert!(complaint(|c| c.index = vec![SocketAddr::from(([127, 0, 0, 1], 0))]).starts_with("index: 127.0.0.1:0"));
        let rule = |name: &str| PublishSecret { name: name.into(), secret: "s".into() };
        let mut with_rule = CacheConfig { publish: vec![rule("a b")], ..CacheConfig::default() };
        assert!(with_rule.validate().is_err());
        with_rule.publish = vec![rule("*"), rule("news*live"), rule("news")];
        with_rule.validate().expect("names and patterns");
        with_rule.index = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        assert!(with_rule.validate().is_err(), "the index decides");
    }
}
