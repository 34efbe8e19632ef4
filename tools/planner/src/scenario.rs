//! The input, as a TOML file says it. Every key has its unit in its name or its docstring; an unknown one is an error.
//! Numbers are read with their sign, so that what cannot be is answered with a sentence and not with a type.

use serde::{Deserialize, Serialize};

use crate::sizes::{KBPS_MAX, PEERS_PER_AREA};
use cache_core::limits::WINDOW_CHUNKS;
use cache_core::proto::index::IndexBounds;
use cache_core::proto::peer::Profile;

/// What is planned for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For reports.
    #[serde(default = "unnamed")]
    pub name: String,
    /// Viewers at once, at the peak.
    pub viewers: i64,
    /// Streams named one by one.
    #[serde(default, rename = "stream", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Streams>,
    /// Many streams, of which few are popular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipf: Option<Zipf>,
    /// Who watches, and how.
    pub audience: Audience,
    /// The division into domains.
    #[serde(default)]
    pub domains: Domains,
    /// The hardware of a cache server.
    pub cache: Hardware,
    /// The hardware of an index server; left out, that of a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Hardware>,
    /// The hardware of a route server; left out, that of a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Hardware>,
    /// The peers' latency profile.
    #[serde(default)]
    pub latency: Latency,
    /// Newest chunks of each stream that caches keep (`window_chunks` of cache.toml).
    #[serde(default = "window")]
    pub window_chunks: i64,
    /// Share of every resource that stays free in ordinary times and after the failure, 0 to 0.9.
    pub headroom: f64,
    /// What may fail without anybody losing service.
    #[serde(default)]
    pub survive: Survive,
}

/// Streams of one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// Rate in kbit/s.
    pub kbps: f64,
    /// How many of them.
    #[serde(default = "one")]
    pub count: i64,
    /// Share of the viewers that watch these streams together, in any unit: all shares are divided by their sum.
    #[serde(default = "whole")]
    pub share: f64,
}

/// `streams` streams of which the k-th most popular has viewers in proportion to k^-exponent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zipf {
    /// How many.
    pub streams: i64,
    /// Rate in kbit/s.
    pub kbps: f64,
    /// 0: all alike; 1 when nothing better is known (our guess).
    pub exponent: f64,
    /// Share of the viewers that watch these streams together; as in [`Streams::share`].
    #[serde(default = "whole")]
    pub share: f64,
}

/// Who watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// Share that plays over HTTP without a peer, 0 to 1: the caches send them everything.
    #[serde(default)]
    pub players: f64,
    /// The peers' uplinks: classes, drawn by share.
    #[serde(rename = "uplink")]
    pub uplinks: Vec<Uplink>,
    /// Share of the peers that uploads nothing, 0 to 1, in every class.
    #[serde(default)]
    pub free_riders: f64,
    /// Share of the viewers that is replaced by newcomers each second: what index and route servers are asked.
    #[serde(default = "churn")]
    pub replaced_per_s: f64,
    /// Areas (the last field of a location) that the peers are spread over, evenly. Left out: enough are assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub areas: Option<i64>,
}

/// Some peers' uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// Share of the peers, in any unit.
    pub share: f64,
    /// What each may upload, Mbit/s.
    pub mbps: f64,
}

/// The division into domains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domains {
    /// How many, of equal audience; 0: as many as make the fewest nodes.
    pub count: i64,
    /// Instead: each domain's share of the viewers, in any unit.
    pub shares: Vec<f64>,
}

/// A server's hardware.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Cores that the server may use.
    pub cores: f64,
    /// Speed of its network card, Mbit/s, each way.
    pub nic_mbps: f64,
    /// Memory that the server may use, MiB.
    pub memory_mib: i64,
    /// Descriptors that it may open (`ulimit -Hn`).
    pub descriptors: i64,
}

/// Latency profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// A window of 51.2 s.
    #[default]
    Classic,
    /// A window of 12.8 s.
    Mid,
    /// A window of 3.2 s.
    Low,
}

/// What may fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Survive {
    /// Nothing.
    None,
    /// Any one node, in every domain at once.
    #[default]
    Node,
    /// A whole domain: the others take its audience.
    Domain,
}

impl Latency {
    /// What the peers of this profile are told.
    pub const fn profile(self) -> Profile {
        match self {
            Latency::Classic => Profile::Classic,
            Latency::Mid => Profile::Mid,
            Latency::Low => Profile::Low,
        }
    }
}

macro_rules! words {
    ($type:ident: $($name:ident = $word:literal),*) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $($type::$name => $word,)* })
            }
        }
    };
}
words!(Latency: Classic = "classic", Mid = "mid", Low = "low");
words!(Survive: None = "none", Node = "node", Domain = "domain");

/// A value that cannot be: which, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {got}: {why}; {cure}")]
pub struct BadValue {
    /// The key, with its table.
    pub key: String,
    /// What it says.
    pub got: String,
    /// Why that cannot be.
    pub why: String,
    /// What to do.
    pub cure: String,
}

impl BadValue {
    fn new(key: &str, got: impl ToString, why: impl Into<String>, cure: impl Into<String>) -> BadValue {
        BadValue { key: key.to_owned(), got: got.to_string(), why: why.into(), cure: cure.into() }
    }
}

fn unnamed() -> String {
    "unnamed".to_owned()
}

fn one() -> i64 {
    1
}

fn whole() -> f64 {
    1.0
}

fn window() -> i64 {
    WINDOW_CHUNKS as i64
}

/// A viewer stays 100 s on average (our guess; the mean of the log-normal sessions 4.29/1.28 is 165 s).
fn churn() -> f64 {
    0.01
}

impl Scenario {
    /// Looks at every value; the first that cannot be is told.
    pub fn check(&self) -> Result<(), BadValue> {
        if self.viewers < 1 {
            let why = "there is nobody to plan for";
            return Err(BadValue::new(
                "viewers",
                self.viewers,
                why,
                "write the number of viewers at the peak, at least 1",
            ));
        }
        if self.viewers > VIEWERS_MAX {
            let why = format!("more than {VIEWERS_MAX} people do not watch at once");
            return Err(BadValue::new("viewers", self.viewers, why, "write the number of viewers at the peak"));
        }
        self.check_streams()?;
        self.check_audience()?;
        self.check_domains()?;
        self.cache.check("cache")?;
        self.index.map_or(Ok(()), |hardware| hardware.check("index"))?;
        self.route.map_or(Ok(()), |hardware| hardware.check("route"))?;
        if !(25..=65_536).contains(&self.window_chunks) {
            let cure = "write 25 to 65536 (256 are 51.2 s), as in cache.toml";
            return Err(BadValue::new("window_chunks", self.window_chunks, "caches keep no such window", cure));
        }
        if !(0.0..=0.9).contains(&self.headroom) {
            let why = "head-room is the share of every resource that stays free";
            return Err(BadValue::new("headroom", self.headroom, why, "write 0 to 0.9; 0.2 keeps a fifth free"));
        }
        Ok(())
    }

    fn check_streams(&self) -> Result<(), BadValue> {
        if self.streams.is_empty() && self.zipf.is_none() {
            let cure = "add [[stream]] with kbps and share, or [zipf] with streams, kbps and exponent";
            return Err(BadValue::new("stream", "nothing", "there is nothing to watch", cure));
        }
        let mut count = 0_i64;
        for stream in &self.streams {
            rate("stream.kbps", stream.kbps)?;
            if stream.count < 1 {
                let cure = "write how many streams have this rate, or remove the entry";
                return Err(BadValue::new(
                    "stream.count",
                    stream.count,
                    "an entry stands for at least one stream",
                    cure,
                ));
            }
            share("stream.share", stream.share)?;
            count = count.saturating_add(stream.count);
        }
        if let Some(zipf) = &self.zipf {
            rate("zipf.kbps", zipf.kbps)?;
            if zipf.streams < 1 {
                let cure = "write how many streams there are, or remove [zipf]";
                return Err(BadValue::new("zipf.streams", zipf.streams, "it stands for at least one stream", cure));
            }
            if !(0.0..=5.0).contains(&zipf.exponent) {
                let why = "the k-th stream has viewers in proportion to k^-exponent";
                return Err(BadValue::new(
                    "zipf.exponent",
                    zipf.exponent,
                    why,
                    "write 0 (all alike) to 5; 1 when nothing better is known",
                ));
            }
            share("zipf.share", zipf.share)?;
            count = count.saturating_add(zipf.streams);
        }
        let most = IndexBounds::default().streams_max as i64;
        if count > most {
            let why = format!("an index server knows {most} streams at the most");
            return Err(BadValue::new("stream.count", count, why, format!("plan for {most} streams or fewer")));
        }
        let shares = self.streams.iter().map(|stream| stream.share).chain(self.zipf.map(|zipf| zipf.share));
        sum("stream.share", shares)
    }

    fn check_audience(&self) -> Result<(), BadValue> {
        let audience = &self.audience;
        part("audience.players", audience.players)?;
        part("audience.free_riders", audience.free_riders)?;
        part("audience.replaced_per_s", audience.replaced_per_s)?;
        if audience.uplinks.is_empty() {
            let why = "what peers can upload decides how much the caches must send";
            return Err(BadValue::new(
                "audience.uplink",
                "nothing",
                why,
                "add [[audience.uplink]] with share and mbps",
            ));
        }
        for uplink in &audience.uplinks {
            share("audience.uplink.share", uplink.share)?;
            if !(0.0..=100_000.0).contains(&uplink.mbps) {
                let why = "no access link uploads at such a rate";
                let cure = "write Mbit/s from 0 (uploads nothing) to 100000";
                return Err(BadValue::new("audience.uplink.mbps", uplink.mbps, why, cure));
            }
        }
        sum("audience.uplink.share", audience.uplinks.iter().map(|uplink| uplink.share))?;
        let Some(areas) = audience.areas else { return Ok(()) };
        if areas < 1 {
            let cure = "write how many areas the peers are in, or leave it out";
            return Err(BadValue::new("audience.areas", areas, "every peer is in an area", cure));
        }
        let peers = self.peers();
        let named = (areas as u64).saturating_mul(PEERS_PER_AREA);
        if peers > named as f64 {
            let why = format!(
                "PeerIDs name {PEERS_PER_AREA} peers of an area, {named} in all of these, and {peers:.0} are planned for"
            );
            let cure = format!(
                "plan for {} areas or more (finer [[location]] entries of the route server make more), or for fewer viewers",
                (peers / PEERS_PER_AREA as f64).ceil()
            );
            return Err(BadValue::new("audience.areas", areas, why, cure));
        }
        Ok(())
    }

    fn check_domains(&self) -> Result<(), BadValue> {
        let domains = &self.domains;
        let count = if domains.shares.is_empty() { domains.count } else { domains.shares.len() as i64 };
        if !(0..=DOMAINS_MAX).contains(&count) {
            let why = format!("a deployment has 1 to {DOMAINS_MAX} domains");
            return Err(BadValue::new(
                "domains.count",
                count,
                why,
                "write their number, or 0 for as many as are needed",
            ));
        }
        if !domains.shares.is_empty() && domains.count != 0 && domains.count != count {
            let why = format!("there are {count} shares");
            return Err(BadValue::new("domains.count", domains.count, why, "leave one of the two out"));
        }
        for each in &domains.shares {
            share("domains.shares", *each)?;
        }
        if !domains.shares.is_empty() {
            sum("domains.shares", domains.shares.iter().copied())?;
        }
        if self.survive == Survive::Domain && count == 1 {
            let why = "with one domain nobody is left when a domain fails";
            return Err(BadValue::new(
                "survive",
                "\"domain\"",
                why,
                "plan for 2 domains or more, or survive = \"node\"",
            ));
        }
        Ok(())
    }

    /// Viewers with a peer.
    pub fn peers(&self) -> f64 {
        self.viewers as f64 * (1.0 - self.audience.players)
    }
}

impl Hardware {
    fn check(&self, table: &str) -> Result<(), BadValue> {
        let key = |name: &str| format!("{table}.{name}");
        if !(f64::MIN_POSITIVE..=1_023.0).contains(&self.cores) {
            let why = "a server runs on 1 to 1023 cores";
            return Err(BadValue::new(&key("cores"), self.cores, why, "write how many it may use"));
        }
        if !(f64::MIN_POSITIVE..=10_000_000.0).contains(&self.nic_mbps) {
            let why = "no network card has this speed";
            return Err(BadValue::new(&key("nic_mbps"), self.nic_mbps, why, "write Mbit/s: 10000 for 10 Gbit/s"));
        }
        if !(1..=1 << 24).contains(&self.memory_mib) {
            let why = "no server has so much memory";
            return Err(BadValue::new(&key("memory_mib"), self.memory_mib, why, "write MiB: 16384 for 16 GiB"));
        }
        if !(1..=1 << 31).contains(&self.descriptors) {
            let why = "no process has so many descriptors";
            return Err(BadValue::new(&key("descriptors"), self.descriptors, why, "write what `ulimit -Hn` says"));
        }
        Ok(())
    }
}

/// More than there are people.
const VIEWERS_MAX: i64 = 10_000_000_000;

/// More than anybody runs (our guess): the search for the best number ends there.
pub const DOMAINS_MAX: i64 = 1_000;

fn rate(key: &str, kbps: f64) -> Result<(), BadValue> {
    if kbps.is_nan() || kbps <= 0.0 {
        return Err(BadValue::new(key, kbps, "a stream has a rate above 0", "write kbit/s: 2000 for 2 Mbit/s"));
    }
    if kbps > KBPS_MAX as f64 {
        let why = format!("a chunk of 200 ms holds 1 MiB, that is {KBPS_MAX} kbit/s");
        return Err(BadValue::new(key, kbps, why, "lower the rate, or divide the stream"));
    }
    Ok(())
}

fn share(key: &str, share: f64) -> Result<(), BadValue> {
    if share >= 0.0 && share.is_finite() {
        return Ok(());
    }
    Err(BadValue::new(key, share, "a share is 0 or more", "write shares in any unit: they are divided by their sum"))
}

fn sum(key: &str, shares: impl Iterator<Item = f64>) -> Result<(), BadValue> {
    let sum: f64 = shares.sum();
    if sum > 0.0 && sum.is_finite() {
        return Ok(());
    }
    Err(BadValue::new(key, sum, "all shares together are divided by their sum", "give one of them more than 0"))
}

fn part(key: &str, part: f64) -> Result<(), BadValue> {
    if (0.0..=1.0).contains(&part) {
        return Ok(());
    }
    Err(BadValue::new(key, part, "it is a share of all", "write 0 to 1: 0.1 for a tenth"))
}
