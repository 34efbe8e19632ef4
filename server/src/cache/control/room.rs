//! What the whole node has left, told to each shard as its part, and which other caches may have room.
//!
//! | resource | limit | measured |
//! |---|---|---|
//! | bytes per second out | `bandwidth_max_mbps`, else the speed of the network interface that `listen` is on, else none | the shards' own gauges |
//! | memory | what the host and the cgroup (v1 or v2) have left, less `memory_reserve_mib` | `/proc/meminfo`, `/sys/fs/cgroup`, once a second |
//!
//! Descriptors bound `connections_max` at the start, and a shard that cannot accept knows it first. The ring's own memory is
//! no viewer's: it is taken at the start.

use std::cell::{Cell, RefCell};
use std::fs::read_to_string;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cache_core::limits::CACHES_PER_ANSWER_MAX;
use cache_core::proto::cache::admission::{MEASURED_EVERY, Room};
use cache_core::time::{Span, Time};
use cache_core::wire::index::CacheLoad;

use super::config::CacheConfig;
use super::hub::Hub;
use crate::cache::bridge::ToShard;

/// How often memory is looked at: reading the files takes tens of microseconds (our guess).
const MEMORY_EVERY: Span = Span::from_secs(1);

/// More memory than this left is no news to a shard: 16 384 viewers' (our guess).
const MEMORY_TOLD_MAX: u64 = 256 << 20;

/// Memory is told in steps of that of 64 viewers.
const MEMORY_STEP: u64 = 1 << 20;

/// A cache of the domain with more load than this is not named: by the time a viewer is there it may be full (our guess).
const OTHERS_PERMILLE_MAX: u16 = 900;

/// What is left, as it was last told.
#[derive(Debug)]
pub(super) struct NodeRoom {
    /// Bytes per second that may go out; `u64::MAX`: no limit.
    pub(super) bytes_per_s_max: u64,
    reserve: u64,
    memory_left: Cell<u64>,
    memory_at: Cell<Time>,
    told_at: Cell<Time>,
    told: Cell<Option<Room>>,
    alternates: Vec<SocketAddr>,
    elsewhere: RefCell<Vec<SocketAddr>>,
}

impl NodeRoom {
    /// The limits of this configuration for a cache that others reach at `advertise`.
    pub(super) fn new(config: &CacheConfig, advertise: SocketAddr) -> NodeRoom {
        NodeRoom {
            bytes_per_s_max: bandwidth(config, advertise).map_or(u64::MAX, |limit| limit.bytes_per_s()),
            reserve: config.memory_reserve_mib << 20,
            memory_left: Cell::new(u64::MAX),
            memory_at: Cell::new(Time::ZERO),
            told_at: Cell::new(Time::ZERO),
            told: Cell::new(None),
            alternates: config.alternates.iter().copied().filter(|other| *other != advertise).collect(),
            elsewhere: RefCell::default(),
        }
    }

    /// Measures what is due and tells the shards when it is news.
    pub(super) fn tick(&self, hub: &Hub) {
        let now = hub.clock.now();
        if now < self.told_at.get().after(MEASURED_EVERY) && self.told.get().is_some() {
            return;
        }
        if self.told.get().is_none() {
            self.others(hub, &[]);
        }
        self.told_at.set(now);
        if now >= self.memory_at.get() {
            self.memory_at.set(now.after(MEMORY_EVERY));
            self.memory_left.set(memory_available().unwrap_or(u64::MAX).saturating_sub(self.reserve));
        }
        let shards = (hub.shard_counters.len() as u64).max(1);
        let used: u64 = hub.shard_counters.iter().map(|shard| shard.chunk_bytes_per_s.get()).sum();
        let room = part(self.bytes_per_s_max, used, self.memory_left.get(), shards);
        if self.told.replace(Some(room)) != Some(room) {
            hub.shards.tell_all(|| ToShard::Room(room), &hub.counters);
        }
    }

    /// The index server has named other caches of the domain.
    pub(super) fn others(&self, hub: &Hub, named: &[CacheLoad]) {
        let elsewhere = elsewhere(hub.advertise, named, &self.alternates);
        if *self.elsewhere.borrow() != elsewhere || self.told.get().is_none() {
            hub.shards.tell_all(|| ToShard::Elsewhere { caches: elsewhere.clone() }, &hub.counters);
            self.elsewhere.replace(elsewhere);
        }
    }

    /// For reports: memory left above the reserve, and the caches that refused viewers are sent to.
    pub(super) fn report(&self) -> (u64, Vec<SocketAddr>) {
        (self.memory_left.get(), self.elsewhere.borrow().clone())
    }
}

/// A shard's part.
fn part(bytes_per_s_max: u64, used: u64, memory_left: u64, shards: u64) -> Room {
    let memory_bytes = memory_left.min(MEMORY_TOLD_MAX) / MEMORY_STEP * MEMORY_STEP / shards;
    match bytes_per_s_max {
        u64::MAX => Room { memory_bytes, ..Room::UNLIMITED },
        max => Room { bytes_per_s: max.saturating_sub(used) / shards, bytes_per_s_max: max / shards, memory_bytes },
    }
}

/// Caches of the domain that have room, the least loaded first, then the configured ones.
fn elsewhere(own: SocketAddr, named: &[CacheLoad], alternates: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    let named = named.iter().filter(|other| other.load_permille < OTHERS_PERMILLE_MAX).map(|other| other.addr);
    for other in named.chain(alternates.iter().copied()) {
        if other != own && !all.contains(&other) && all.len() < CACHES_PER_ANSWER_MAX {
            all.push(other);
        }
    }
    all
}

/// Where a limit on bytes per second comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bandwidth {
    /// `bandwidth_max_mbps`.
    Configured(u64),
    /// The speed of this network interface.
    Interface(String, u64),
}

impl Bandwidth {
    fn bytes_per_s(&self) -> u64 {
        let (Bandwidth::Configured(mbps) | Bandwidth::Interface(_, mbps)) = self;
        mbps.saturating_mul(125_000)
    }
}

impl std::fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bandwidth::Configured(mbps) => write!(f, "{mbps} Mbit/s (bandwidth_max_mbps)"),
            Bandwidth::Interface(name, mbps) => write!(f, "{mbps} Mbit/s (speed of {name})"),
        }
    }
}

/// The limit on what goes out, if there is one.
pub(super) fn bandwidth(config: &CacheConfig, advertise: SocketAddr) -> Option<Bandwidth> {
    if config.bandwidth_max_mbps > 0 {
        return Some(Bandwidth::Configured(config.bandwidth_max_mbps));
    }
    let ip = if config.listen.ip().is_unspecified() { advertise.ip() } else { config.listen.ip() };
    let name = match ip.to_canonical() {
        IpAddr::V4(ip) => interface_of_v4(&read_to_string("/proc/net/route").ok()?, ip)?,
        IpAddr::V6(ip) => interface_of_v6(&read_to_string("/proc/net/if_inet6").ok()?, ip.octets())?,
    };
    // Interfaces without a speed of their own (virtual ones, those that are down) say -1 or nothing.
    let speed: i64 = read_to_string(format!("/sys/class/net/{name}/speed")).ok()?.trim().parse().ok()?;
    u64::try_from(speed).ok().filter(|speed| *speed > 0).map(|speed| Bandwidth::Interface(name, speed))
}

/// The interface whose network `ip` is in, by the kernel's routes (`/proc/net/route`: name, destination, ..., mask in the
/// eighth column, hexadecimal in memory order). The default route counts for an address behind translation.
fn interface_of_v4(routes: &str, ip: Ipv4Addr) -> Option<String> {
    if ip.is_loopback() {
        return None;
    }
    let ip = u32::from_ne_bytes(ip.octets());
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(columns.get(at)?, 16).ok();
        let (to, mask) = (number(1)?, number(7)?);
        (ip & mask == to).then(|| (mask.count_ones(), columns[0].to_owned()))
    };
    routes.lines().skip(1).filter_map(route).max_by_key(|(bits, _)| *bits).map(|(_, name)| name)
}

/// The interface that has this address (`/proc/net/if_inet6`: the address first, the name last).
fn interface_of_v6(addresses: &str, ip: [u8; 16]) -> Option<String> {
    let text: String = ip.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = addresses.lines().find(|line| line.starts_with(&text))?;
    line.split_whitespace().last().map(str::to_owned).filter(|name| name != "lo")
}

/// Memory that this process may still take: what the host or the cgroup has left, whichever is less.
fn memory_available() -> Option<u64> {
    let host = read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let host = host.map(|kib| kib.saturating_mul(1024));
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = cgroup_paths(&groups).into_iter().filter_map(|(folder, limit, usage)| {
        let number = |file: &str| read_to_string(format!("{folder}/{file}")).ok()?.trim().parse::<u64>().ok();
        let stat = read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
        // Files' pages that nobody has used lately are given back before anybody is killed.
        let spare = field(&stat, "total_inactive_file").or_else(|| field(&stat, "inactive_file")).unwrap_or(0);
        Some(number(limit)?.saturating_sub(number(usage)?).saturating_add(spare))
    });
    host.into_iter().chain(group).min()
}

/// The number behind `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Where the memory cgroup's files are: folder, limit, usage; of `/proc/self/cgroup`. A container sees its own group at the
/// root, so that is looked at too.
fn cgroup_paths(groups: &str) -> Vec<(String, &'static str, &'static str)> {
    let mut paths = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            some if some.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        paths.push((format!("{root}{}", path.trim_end_matches('/')), limit, usage));
        paths.push((root.to_owned(), limit, usage));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn an_address_is_on_the_interface_of_its_network() {
        let of = |ip: [u8; 4]| interface_of_v4(ROUTES, ip.into());
        assert_eq!(of([192, 168, 2, 7]).as_deref(), Some("eth1"));
        assert_eq!(of([203, 0, 113, 9]).as_deref(), Some("eth0"));
        assert_eq!(of([127, 0, 0, 1]), None);
        let v6 = "20010db8000000000000000000000007 03 40 00 80     eth2\n\
                  00000000000000000000000000000001 01 80 10 80       lo\n";
        let of = |ip: &str| interface_of_v6(v6, ip.parse::<std::net::Ipv6Addr>().expect("an address").octets());
        assert_eq!((of("2001:db8::7").as_deref(), of("::1"), of("2001:db8::8")), (Some("eth2"), None, None));
    }

    #[test]
    fn memory_is_found_in_either_version_of_cgroups() {
        let v2 = cgroup_paths("0::/system.slice/weircast.service\n");
        assert_eq!(v2[0].0, "/sys/fs/cgroup/system.slice/weircast.service");
        assert_eq!((v2[0].1, v2[1].0.as_str()), ("memory.max", "/sys/fs/cgroup"));
        let v1 = cgroup_paths("9:cpu,cpuacct:/\n4:memory:/box\n");
        assert_eq!((v1[0].0.as_str(), v1[0].1), ("/sys/fs/cgroup/memory/box", "memory.limit_in_bytes"));
        assert_eq!(field("MemFree: 5 kB\nMemAvailable:   77 kB\n", "MemAvailable:"), Some(77));
        assert!(memory_available().is_some_and(|left| left > 0), "this host says so");
    }

    #[test]
    fn shards_share_what_is_left() {
        assert_eq!(part(u64::MAX, 5, u64::MAX, 2).bytes_per_s, u64::MAX);
        let part = part(1_000, 400, (3 << 20) + 5, 2);
        assert_eq!((part.bytes_per_s, part.bytes_per_s_max, part.memory_bytes), (300, 500, 3 << 19));
    }

    #[test]
    fn the_domains_caches_come_before_the_configured_ones_and_full_ones_not_at_all() {
        let cache = |n: u8| SocketAddr::from(([10, 0, 0, n], 7400));
        let named = |n, load_permille| CacheLoad { addr: cache(n), load_permille };
        let found = elsewhere(cache(1), &[named(2, 100), named(1, 0), named(3, 950)], &[cache(4), cache(2), cache(1)]);
        assert_eq!(found, [cache(2), cache(4)]);
    }
}
