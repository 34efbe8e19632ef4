//! The real side: servers, publisher and peers, each in a namespace of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weircast_testbed::namespaces::shape::Shape;
use weircast_testbed::namespaces::{Network, probe};
use weircast_testbed::workdir::{Workdir, tail};
use weircast_testbed::{Process, Programs};

use super::figures::{Figures, Viewer};
use super::load::{Load, Meter};
use super::plan::{self, Plan};

/// The stream's name.
const STREAM: &str = "reality";

/// Shared by the servers.
const CLUSTER_SECRET: &str = "reality's own";

/// How long servers and viewers may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the stop flag.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Round trips that the delay is the middle of.
const TRIPS: usize = 1_000;

const ROUTE: usize = 0;
const INDEX: usize = 1;
const CACHE: usize = 2;
const PUBLISHER: usize = 3;
const PEERS: usize = 4;

/// What came out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Real {
    pub(crate) figures: Figures,
    /// Measured between two idle peers, one way.
    pub(crate) delay_ms: f64,
    /// What passed an idle peer's uplink and downlink, over what the configured rate leaves of it beside packets' heads.
    pub(crate) up_rate: f64,
    pub(crate) down_rate: f64,
    pub(crate) load: Load,
    /// Peers that ended badly or never played.
    pub(crate) troubles: Vec<String>,
    /// The peers' own counters, added up, those that are not 0.
    counters: BTreeMap<String, u64>,
    viewers: Vec<Viewer>,
}

/// Programs in their hosts, and what they need.
struct Field<'p> {
    // Dropped in this order: programs, then the hosts they run in, then the directory.
    servers: Vec<Process>,
    peers: Vec<(Process, PathBuf)>,
    network: Network,
    dir: Arc<Workdir>,
    programs: &'p Programs,
    stop: &'p AtomicBool,
}

/// Carries `plan` out.
pub(crate) fn run(plan: &Plan, programs: &Programs, stop: &AtomicBool) -> Result<Real> {
    let dir = Arc::new(Workdir::new()?);
    let network = Network::new(&plan.hosts())?;
    let mut field = Field { servers: Vec::new(), peers: Vec::new(), network, dir, programs, stop };
    let result = field.run(plan);
    if result.is_err() {
        eprintln!("{}", field.dir.logs());
    }
    result
}

impl Field<'_> {
    fn run(&mut self, plan: &Plan) -> Result<Real> {
        let hosts = self.network.hosts();
        let (cache, peer) = (&hosts[CACHE], &hosts[PEERS]);
        let delay = probe::one_way_delay(peer, cache, TRIPS)?;
        let bytes = |kbps: u64| kbps * 125 * plan.rate_seconds;
        let rate = |bps: f64, kbps: u64| bps / 1e3 / Shape::kbps(kbps).payload_kbps() as f64;
        let up_rate = rate(probe::tcp_bps(peer, cache, bytes(plan.up_kbps))?, plan.up_kbps);
        let down_rate = rate(probe::tcp_bps(cache, peer, bytes(plan.down_kbps))?, plan.down_kbps);
        self.start_servers(plan)?;
        let tuning = toml::to_string(&plan.scenario.peer)?;
        let config = self.write("peer.toml", &format!("[peer]\n{tuning}"))?;

        self.start("publisher", PUBLISHER, "weircast-peer", &publish(plan))?;
        self.wait(Instant::now() + Duration::from_millis(plan.run_up_ms))?;
        let mut meter = Meter::new();
        let begun = Instant::now();
        for peer in 0..plan.peers as usize {
            self.wait(begun + plan.arrival(peer))?;
            self.start_peer(peer, &config)?;
        }
        meter.begin();
        self.wait(begun + Duration::from_secs(plan.seconds))?;
        let load = meter.end();

        for (process, _) in &self.peers {
            process.terminate();
        }
        let (mut viewers, mut troubles, mut counters) = (Vec::new(), Vec::new(), BTreeMap::new());
        let watched = begun.elapsed();
        for (at, (process, report)) in self.peers.iter_mut().enumerate() {
            match read(process, report) {
                Ok(report) => {
                    let viewer = Viewer::new(&report);
                    if viewer.startup_ms.is_none() {
                        troubles.push(format!("peer {at} never played"));
                    }
                    viewers.push(viewer);
                    count(&report, &mut counters);
                }
                Err(error) => troubles.push(format!("{error:#}")),
            }
        }
        let figures = Figures::of(&viewers, watched.saturating_sub(plan.arrival(plan.peers as usize / 2)));
        Ok(Real { figures, delay_ms: delay.as_secs_f64() * 1e3, up_rate, down_rate, load, troubles, counters, viewers })
    }

    fn start_servers(&mut self, plan: &Plan) -> Result<()> {
        let [route, index, cache] = [ROUTE, INDEX, CACHE].map(plan::listen);
        let secret = format!("cluster_secret = \"{CLUSTER_SECRET}\"\n");
        let text = format!(
            "listen = \"{route}\"\n{secret}[[domain]]\nid = 1\nname = \"reality\"\nindexes = [\"{index}\"]\n{}",
            plan.locations()
        );
        self.server("route", ROUTE, &text)?;
        self.server("index", INDEX, &format!("listen = \"{index}\"\ndomain = 1\nroute = [\"{route}\"]\n{secret}"))?;
        let text = format!(
            "listen = \"{cache}\"\nindex = [\"{index}\"]\nshards = 1\nmemory_mib = 128\nslab = \"memfd\"\n{secret}"
        );
        self.server("cache", CACHE, &text)
    }

    /// Starts `weircast-NAME` and waits until it is ready.
    fn server(&mut self, name: &str, host: usize, text: &str) -> Result<()> {
        let config = self.write(&format!("{name}.toml"), text)?;
        let args = ["--config".to_owned(), config.display().to_string()];
        self.start(name, host, &format!("weircast-{name}"), &args)?;
        let process = self.servers.last_mut().context("it was just started")?;
        process.wait_ready(PATIENCE).map(drop)
    }

    fn start(&mut self, name: &str, host: usize, program: &str, args: &[String]) -> Result<()> {
        let path = self.programs.path(program)?;
        let process = self.network.hosts()[host].spawn(&self.dir, self.programs, name, &path, args)?;
        self.servers.push(process);
        Ok(())
    }

    fn start_peer(&mut self, peer: usize, config: &Path) -> Result<()> {
        let host = &self.network.hosts()[PEERS + peer];
        let report = self.dir.file(&format!("peer-{peer}.json"));
        let args = [
            ("--route", plan::listen(ROUTE).to_string()),
            ("--bind", host.addr.to_string()),
            ("--config", config.display().to_string()),
            ("--report", report.display().to_string()),
            ("--status", "off".to_owned()),
        ];
        let options = args.into_iter().flat_map(|(key, value)| [key.to_owned(), value]);
        let args: Vec<String> = ["watch".to_owned(), STREAM.to_owned()].into_iter().chain(options).collect();
        let path = self.programs.path("weircast-peer")?;
        let process = host.spawn(&self.dir, self.programs, &format!("peer-{peer}"), &path, &args)?;
        self.peers.push((process, report));
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.file(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Waits until `until`; an error on Ctrl-C or when a server or the publisher has ended.
    fn wait(&mut self, until: Instant) -> Result<()> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            if let Some(ended) = self.servers.iter_mut().find_map(|server| (!server.is_running()).then_some(server)) {
                bail!("{} has ended by itself:\n{}", ended.name(), tail(ended.log()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(LOOK_EVERY));
        }
    }
}

fn publish(plan: &Plan) -> Vec<String> {
    let (route, bind) = (plan::listen(ROUTE).to_string(), plan::server(PUBLISHER as u32).to_string());
    let input = format!("test:{}", plan.kbps);
    let args = ["publish", STREAM, "--route", &route, "--bind", &bind, "--input", &input, "--status", "off"];
    args.map(str::to_owned).to_vec()
}

/// Waits until a peer has ended and reads its report.
fn read(process: &mut Process, path: &Path) -> Result<Value> {
    let status = process.wait_exit(PATIENCE)?;
    let said = || format!("{} ended ({status}): {}", process.name(), tail(process.log()));
    if !status.success() {
        bail!(said());
    }
    let text = std::fs::read(path).with_context(said)?;
    serde_json::from_slice(&text).with_context(|| format!("{}'s report is not JSON", process.name()))
}

/// Adds a peer's counters.
fn count(report: &Value, counters: &mut BTreeMap<String, u64>) {
    let peer = report["counters"]["peer"].as_object();
    for (name, value) in peer.into_iter().flatten().filter_map(|(name, value)| Some((name, value.as_u64()?))) {
        if value > 0 {
            *counters.entry(name.clone()).or_default() += value;
        }
    }
}
