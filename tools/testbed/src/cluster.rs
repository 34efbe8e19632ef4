//! Route, indexes and caches, wired and started in order.
//!
//! Route must know the indexes' addresses and the indexes route's, so their UDP ports are reserved first: bound,
//! remembered, given back, and taken by the programs. When another program was quicker, the cluster is started again
//! with fresh ports. Caches take port 0 and tell theirs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::config;
use crate::process::Process;
use crate::programs::Programs;
use crate::viewer::Watch;
use crate::wait::HANG;
use crate::workdir::Workdir;

/// Domains in one cluster (our guess: the demo and the tests need two).
pub const DOMAINS_MAX: usize = 26;

/// Tries with fresh ports before giving up (our guess: losing the race once is rare).
const PORT_TRIES: usize = 5;

/// Peers' last octets: 0 and 255 are no hosts, 1 is kept free, 250 and up are publishers.
const PEER_OCTETS: std::ops::Range<u8> = 2..250;
const PUBLISHER_OCTETS: std::ops::Range<u8> = 250..255;

/// What a cluster shall be.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    domains: usize,
    programs: Option<Programs>,
    pub(crate) publish: Vec<(String, String)>,
    pub(crate) shards: usize,
    pub(crate) memory_mib: usize,
}

/// A server and where it listens.
#[derive(Debug)]
pub struct Server {
    /// The program.
    pub process: Process,
    /// From its ready line.
    pub listen: SocketAddr,
}

#[derive(Debug)]
struct Domain {
    index: Server,
    cache: Server,
    peers: std::cell::Cell<usize>,
    publishers: std::cell::Cell<usize>,
}

/// A running cluster; dropped, its programs are killed and its directory is removed.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: caches and indexes, route, directory.
    domains: Vec<Domain>,
    route: Server,
    programs: Programs,
    dir: Arc<Workdir>,
}

/// A cache without index and route: it takes any publisher and serves whoever comes.
#[derive(Debug)]
pub struct StandAlone {
    /// The cache.
    pub cache: Server,
    dir: Arc<Workdir>,
}

impl StandAlone {
    /// Starts one; `more` are further lines of its configuration (`send = "copy"`).
    pub fn start(programs: &Programs, shards: usize, memory_mib: usize, more: &str) -> Result<StandAlone> {
        let dir = Arc::new(Workdir::new()?);
        let builder = ClusterBuilder { shards, memory_mib, ..Cluster::builder() };
        let text = config::cache(&builder, None) + more + "\n";
        let cache = start(&dir, programs, "cache", "weircast-cache", &text)?;
        Ok(StandAlone { cache, dir })
    }

    /// Starts one of Weircast's programs in the same directory.
    pub fn spawn(&self, programs: &Programs, name: &str, program: &str, args: &[String]) -> Result<Process> {
        Process::spawn(&self.dir, programs, name, program, args)
    }

    /// The path of a file in that directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.file(name)
    }

    /// The ends of all logs, for a person.
    pub fn logs(&self) -> String {
        self.dir.logs()
    }
}

/// Writes a server's configuration, starts it and waits until it is ready.
fn start(dir: &Arc<Workdir>, programs: &Programs, name: &str, program: &str, text: &str) -> Result<Server> {
    let config = dir.file(&format!("{name}.toml"));
    std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let args = ["--config".to_owned(), config.display().to_string()];
    let mut process = Process::spawn(dir, programs, name, program, &args)?;
    let ready = process.wait_ready(HANG)?;
    let listen = ready["listen"].as_str().and_then(|listen| listen.parse().ok());
    Ok(Server { process, listen: listen.with_context(|| format!("{name}'s ready line has no `listen`"))? })
}

/// The number of the domain at position `at`, as route's configuration numbers it.
pub fn domain_id(at: usize) -> u8 {
    (at + 1) as u8
}

impl ClusterBuilder {
    /// One more domain, with an index and a cache.
    pub fn domain(mut self) -> ClusterBuilder {
        self.domains = (self.domains + 1).min(DOMAINS_MAX);
        self
    }

    /// The binaries to use; [`Programs::find`]'s when not said.
    pub fn programs(mut self, programs: Programs) -> ClusterBuilder {
        self.programs = Some(programs);
        self
    }

    /// Names that match `pattern` need `secret` to be published.
    pub fn publish_secret(mut self, pattern: &str, secret: &str) -> ClusterBuilder {
        self.publish.push((pattern.to_owned(), secret.to_owned()));
        self
    }

    /// Shards of each cache; 1 when not said.
    pub fn shards(mut self, shards: usize) -> ClusterBuilder {
        self.shards = shards;
        self
    }

    /// Memory of each cache's ring; 128 MiB when not said.
    pub fn memory_mib(mut self, memory_mib: usize) -> ClusterBuilder {
        self.memory_mib = memory_mib;
        self
    }

    /// Starts everything; returns when every server has said that it is ready.
    pub fn start(self) -> Result<Cluster> {
        let programs = self.programs.clone().map_or_else(Programs::find, Ok)?;
        let mut tries = 1;
        loop {
            match self.start_once(&programs) {
                Err(error) if tries < PORT_TRIES && is_port_race(&error) => tries += 1,
                result => return result,
            }
        }
    }

    fn start_once(&self, programs: &Programs) -> Result<Cluster> {
        let dir = Arc::new(Workdir::new()?);
        let ports = reserve_udp(1 + self.domains)?;
        let (route_at, index_at) = ports.split_first().context("the route server's port was reserved")?;
        let route = start(&dir, programs, "route", "weircast-route", &config::route(*route_at, index_at))?;
        let mut domains = Vec::new();
        for (at, listen) in index_at.iter().enumerate() {
            let id = domain_id(at);
            let text = config::index(self, at, *listen, route.listen);
            let index = start(&dir, programs, &format!("index-{id}"), "weircast-index", &text)?;
            let text = config::cache(self, Some(index.listen));
            let cache = start(&dir, programs, &format!("cache-{id}"), "weircast-cache", &text)?;
            domains.push(Domain { index, cache, peers: 0.into(), publishers: 0.into() });
        }
        Ok(Cluster { domains, route, programs: programs.clone(), dir })
    }
}

impl Cluster {
    /// A cluster without a domain yet.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { domains: 0, programs: None, publish: Vec::new(), shards: 1, memory_mib: 128 }
    }

    /// The route server.
    pub fn route(&self) -> &Server {
        &self.route
    }

    /// The index of the domain at position `domain`.
    pub fn index_server(&self, domain: usize) -> &Server {
        &self.domains[domain].index
    }

    /// The cache of the domain at position `domain`.
    pub fn cache(&self, domain: usize) -> &Server {
        &self.domains[domain].cache
    }

    /// The same, to be signalled and waited for.
    pub fn cache_mut(&mut self, domain: usize) -> &mut Server {
        &mut self.domains[domain].cache
    }

    /// Every server, to be signalled and waited for: caches and indexes by domain, then route.
    pub fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.domains.iter_mut().flat_map(|d| [&mut d.cache, &mut d.index]).chain([&mut self.route])
    }

    /// How many domains there are.
    pub fn domains(&self) -> usize {
        self.domains.len()
    }

    /// Where a cache of the domain takes and gives the stream over HTTP, without an ending.
    pub fn live_url(&self, domain: usize, stream: &str) -> String {
        format!("http://{}/live/{stream}", self.cache(domain).listen)
    }

    /// The domain's position that `addr` belongs to, if it is a peer's.
    pub fn domain_of(&self, addr: IpAddr) -> Option<usize> {
        match addr {
            IpAddr::V4(ip) => match ip.octets() {
                [127, 0, id, _] if id >= 1 && usize::from(id) <= self.domains() => Some(usize::from(id) - 1),
                _ => None,
            },
            IpAddr::V6(_) => None,
        }
    }

    /// A viewer of `stream` in the domain, to be described further and started.
    pub fn watch(&self, domain: usize, stream: &str) -> Watch<'_> {
        let count = next(&self.domains[domain].peers);
        let bind = address(domain, &PEER_OCTETS, count);
        Watch::new(self, format!("peer-{}-{}", domain_id(domain), count + 1), stream, bind)
    }

    /// `weircast-peer publish` in the domain, from `input` (a file, or `test:KBPS` for the built-in stream), with further arguments (`--secret S`, `--loop` ...).
    /// Does not wait for it.
    pub fn publish(&self, domain: usize, stream: &str, input: &str, more: &[&str]) -> Result<Process> {
        let count = next(&self.domains[domain].publishers);
        let bind = address(domain, &PUBLISHER_OCTETS, count).to_string();
        let route = self.route.listen.to_string();
        let mut args = vec!["publish", stream, "--route", &route, "--bind", &bind, "--input", input];
        args.extend_from_slice(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        self.spawn(&format!("publisher-{}-{}", domain_id(domain), count + 1), "weircast-peer", &args)
    }

    /// Starts one of Weircast's programs in this cluster's directory.
    pub fn spawn(&self, name: &str, program: &str, args: &[String]) -> Result<Process> {
        Process::spawn(&self.dir, &self.programs, name, program, args)
    }

    /// Starts a program of the host (ffmpeg) in this cluster's directory.
    pub fn spawn_path(&self, name: &str, path: &Path, args: &[String]) -> Result<Process> {
        Process::spawn_path(&self.dir, &self.programs, name, path, args)
    }

    /// The path of a file in the cluster's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.file(name)
    }

    /// The ends of all logs, for a person.
    pub fn logs(&self) -> String {
        self.dir.logs()
    }

    /// A cache's counters: `GET /stats`.
    pub fn cache_stats(&self, domain: usize) -> Result<serde_json::Value> {
        let answer = crate::http::get(self.cache(domain).listen, "/stats")?;
        serde_json::from_slice(&answer.body).context("the cache's /stats is not JSON")
    }
}

fn next(count: &std::cell::Cell<usize>) -> usize {
    count.replace(count.get() + 1)
}

/// The address of the domain's host number `count`; numbers beyond the range begin again (ports tell them apart).
fn address(domain: usize, octets: &std::ops::Range<u8>, count: usize) -> Ipv4Addr {
    let last = octets.start + (count % octets.len()) as u8;
    Ipv4Addr::new(127, 0, domain_id(domain), last)
}

/// `count` UDP addresses of 127.0.0.1 that were free a moment ago, all different.
fn reserve_udp(count: usize) -> Result<Vec<SocketAddr>> {
    let sockets: Vec<UdpSocket> = (0..count)
        .map(|_| UdpSocket::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()
        .context("no free UDP port on 127.0.0.1")?;
    Ok(sockets.iter().map(UdpSocket::local_addr).collect::<std::io::Result<_>>()?)
}

/// Whether a program found its port taken (its own words, or the system's).
fn is_port_race(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    text.contains("in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ() {
        let mut ports = reserve_udp(8).expect("free ports");
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }

    #[test]
    fn peers_get_addresses_of_their_domain() {
        assert_eq!(address(0, &PEER_OCTETS, 0), Ipv4Addr::new(127, 0, 1, 2));
        assert_eq!(address(1, &PEER_OCTETS, 247), Ipv4Addr::new(127, 0, 2, 249));
        assert_eq!(address(1, &PEER_OCTETS, 248), Ipv4Addr::new(127, 0, 2, 2), "ports tell them apart");
        assert_eq!(address(1, &PUBLISHER_OCTETS, 0), Ipv4Addr::new(127, 0, 2, 250));
    }
}
