//! `index.toml`: see `server/config/index.toml` for every key with its meaning.

use std::net::SocketAddr;

use cache_core::proto::index::publish::{PublishRule, PublishRules};
use cache_core::proto::index::{IndexBounds, IndexConfig};
use cache_core::time::{Span, WallClock};
use cache_core::units::DomainId;
use serde::Deserialize;

use crate::host::config::ConfigError;

/// The file.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens (UDP).
    pub listen: SocketAddr,
    /// Where peers and caches reach it.
    pub advertise: Option<SocketAddr>,
    /// Its domain's number in the route server's configuration.
    pub domain: u16,
    /// The route servers, in the order to ask them.
    pub route: Vec<SocketAddr>,
    /// The secret that all servers of the cluster share.
    pub cluster_secret: String,
    /// Period of peers' heartbeats.
    pub heartbeat_ms: u64,
    /// Heartbeats that a peer may miss.
    pub missed_heartbeats: u64,
    /// Members in an answer per ln N.
    pub members_factor: f64,
    /// Least members in an answer.
    pub members_min: usize,
    /// Share of the members that is taken at random.
    pub random_members_percent: usize,
    /// A cache that has not reported for so long is gone.
    pub cache_silence_ms: u64,
    /// A publisher that is silent for so long may be succeeded.
    pub publisher_silence_ms: u64,
    /// Peers are told of N when it changes by so much; 0: never for this reason.
    pub size_changed_percent: u64,
    /// Peers are told of N when ln N changes by so much; 0: never for this reason.
    pub size_changed_ln: f64,
    /// Who may publish what.
    pub publish: Vec<PublishTable>,
    /// Bounds.
    pub bounds: BoundsTable,
}

/// `[[publish]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishTable {
    /// A stream name, or a pattern with `*`.
    pub name: String,
    /// What a publisher must know.
    pub secret: String,
}

/// `[bounds]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoundsTable {
    /// Peers of all streams.
    pub peers_max: usize,
    /// Peers of one stream.
    pub peers_per_stream_max: usize,
    /// Peers behind one /24 (IPv6: /56).
    pub peers_per_prefix_max: u32,
    /// Streams.
    pub streams_max: usize,
    /// Caches.
    pub caches_max: usize,
}

impl Default for BoundsTable {
    fn default() -> BoundsTable {
        let IndexBounds { peers_max, peers_per_stream_max, peers_per_prefix_max, streams_max, caches_max, .. } =
            IndexBounds::default();
        BoundsTable { peers_max, peers_per_stream_max, peers_per_prefix_max, streams_max, caches_max }
    }
}

impl Default for Config {
    fn default() -> Config {
        let machine = IndexConfig::new(DomainId(1), WallClock::default());
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7300)),
            advertise: None,
            domain: 1,
            route: vec![SocketAddr::from(([127, 0, 0, 1], 7200))],
            cluster_secret: String::new(),
            heartbeat_ms: machine.heartbeat.millis(),
            missed_heartbeats: machine.missed_heartbeats,
            members_factor: machine.members_factor,
            members_min: machine.members_min,
            random_members_percent: machine.random_members_percent,
            cache_silence_ms: machine.cache_silence.millis(),
            publisher_silence_ms: machine.publisher_silence.millis(),
            size_changed_percent: machine.size_changed_percent,
            size_changed_ln: machine.size_changed_ln,
            publish: Vec::new(),
            bounds: BoundsTable::default(),
        }
    }
}

impl Config {
    /// The machine's settings; `started` is the wall clock at the machine's time zero.
    pub fn machine(&self, started: WallClock) -> Result<IndexConfig, ConfigError> {
        let within = |key, value: u64, range: std::ops::RangeInclusive<u64>| {
            let wrong = || format!("{value} is out of range; give {} to {}", range.start(), range.end());
            if range.contains(&value) { Ok(value) } else { Err(ConfigError::value(key, wrong())) }
        };
        if let Some(rule) = self.publish.iter().find(|rule| rule.name.is_empty() || rule.secret.is_empty()) {
            let message =
                format!("the table for \"{}\" has an empty name or secret; give both, or leave it out", rule.name);
            return Err(ConfigError::value("publish", message));
        }
        if let Some(addr) = self.route.iter().find(|addr| addr.ip().is_unspecified() || addr.port() == 0) {
            let message = format!("{addr} cannot be reached; give the route server's own address and port");
            return Err(ConfigError::value("route", message));
        }
        if !(self.members_factor.is_finite() && self.members_factor >= 0.0) {
            return Err(ConfigError::value("members_factor", "give a number from 0 up (paper: 3)"));
        }
        let rules =
            self.publish.iter().map(|table| PublishRule { name: table.name.clone(), secret: table.secret.clone() });
        Ok(IndexConfig {
            routes: self.route.clone(),
            heartbeat: Span::from_millis(within("heartbeat_ms", self.heartbeat_ms, 100..=600_000)?),
            missed_heartbeats: within("missed_heartbeats", self.missed_heartbeats, 1..=100)?,
            members_factor: self.members_factor,
            members_min: self.members_min,
            random_members_percent: within("random_members_percent", self.random_members_percent as u64, 0..=100)?
                as usize,
            cache_silence: Span::from_millis(within("cache_silence_ms", self.cache_silence_ms, 1_100..=600_000)?),
            publisher_silence: Span::from_millis(within(
                "publisher_silence_ms",
                self.publisher_silence_ms,
                0..=600_000,
            )?),
            publish: PublishRules::new(rules.collect()),
            size_changed_percent: self.size_changed_percent,
            size_changed_ln: self.size_changed_ln,
            bounds: IndexBounds {
                peers_max: self.bounds.peers_max,
                peers_per_stream_max: self.bounds.peers_per_stream_max,
                peers_per_prefix_max: self.bounds.peers_per_prefix_max,
                streams_max: self.bounds.streams_max,
                caches_max: self.bounds.caches_max,
                ..IndexBounds::default()
            },
            ..IndexConfig::new(DomainId(self.domain), started)
        })
    }
}
