//! One plan, carried out twice: who arrives when, where, with which links.
//!
//! Addresses, places and arrivals are the simulator's: a region has the addresses `16.0.0.0 + region * 2^20` on and a
//! city of its own; peers arrive evenly, at a stream that has run for a while, and stay.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use cache_core::prng::Prng;
use cache_core::proto::peer::Tuning;
use serde::{Deserialize, Serialize};
use weircast_sim::scenario::{Audience, Caches, Network, Scenario, Stream, UplinkClass};
use weircast_testbed::namespaces::HostPlan;
use weircast_testbed::namespaces::shape::Shape;

use super::Options;
use super::real::Real;

/// Servers: route, index, cache, publisher. From the block for tests between networks.
const SERVERS_FROM: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

const PEERS_FROM: Ipv4Addr = Ipv4Addr::new(16, 0, 0, 1);

/// The built-in stream has a key frame every 2 s.
const JOIN_POINT_CHUNKS: u64 = 10;

/// How long the stream runs before the first peer arrives, beside the play delay; as the simulator has it.
const RUN_UP_S: u64 = 12;

/// The servers' ports, each in a namespace of its own.
const PORTS: [u16; 3] = [7_200, 7_300, 7_400];

/// The experiment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) peers: u32,
    pub(crate) seconds: u64,
    pub(crate) arrive_s: f64,
    pub(crate) kbps: u64,
    pub(crate) up_kbps: u64,
    pub(crate) down_kbps: u64,
    pub(crate) seed: u64,
    /// How long the stream has run when the first peer arrives.
    pub(crate) run_up_ms: u64,
    /// Seconds of each link's rate that are measured.
    pub(crate) rate_seconds: u64,
    /// What is simulated; rates and delay as measured once the real side has run.
    pub(crate) scenario: Scenario,
    /// Of each peer, by number.
    #[serde(skip)]
    regions: Vec<u32>,
}

impl Plan {
    pub(crate) fn new(options: &Options) -> Result<Plan> {
        let Options { peers, seconds, arrive, kbps, uplink, downlink, grant, regions, seed, .. } = options.clone();
        ensure!(
            uplink > 0.0 && downlink >= 1.0,
            "--uplink must be above 0, and --downlink at least 1: nobody could watch"
        );
        ensure!((0.0..seconds as f64).contains(&arrive), "--arrive must be below --seconds: somebody would not come");
        ensure!((0.0..=1.0).contains(&grant), "--grant is a share of the uplink: 0 to 1");
        let side = regions.isqrt();
        ensure!(side > 0 && side * side == regions && regions <= 64, "--regions must be 1, 4, 9, 16, 25, 36, 49 or 64");
        let times = |factor: f64| (kbps as f64 * factor).round().max(1.0) as u64;
        let (up_kbps, down_kbps) = (times(uplink), times(downlink));
        let tuning = Tuning { upload_kbps: (up_kbps as f64 * grant) as u64, ..Tuning::default() };
        let run_up_ms = if options.quick { 1_000 } else { RUN_UP_S * 1_000 + tuning.play_delay_ms };
        let rate_seconds = if options.quick { 1 } else { 4 };
        let scenario = Scenario {
            name: "reality".to_owned(),
            duration_s: seconds,
            warmup_s: 0,
            stream: Stream { kbps, join_point_chunks: JOIN_POINT_CHUNKS, ..Stream::default() },
            network: Network {
                regions,
                domains: 1,
                delay_ms_per_unit: 0.0,
                delay_base_ms: 0.0,
                jitter: 0.0,
                loss_permille: 0.0,
                ..Network::default()
            },
            caches: Caches { count: 1, ..Caches::default() },
            audience: Audience {
                peers,
                arrive_over_s: arrive,
                session: None,
                uplink: vec![UplinkClass { share: 1.0, up: uplink, down: downlink }],
                ..Audience::default()
            },
            peer: tuning,
            ..Scenario::default()
        };
        let mut rng = Prng::new(seed);
        let regions = (0..peers).map(|_| rng.below(regions as usize) as u32).collect();
        let arrive_s = arrive;
        Ok(Plan {
            peers,
            seconds,
            arrive_s,
            kbps,
            up_kbps,
            down_kbps,
            seed,
            run_up_ms,
            rate_seconds,
            scenario,
            regions,
        })
    }

    /// The hosts: route, index, cache, publisher, then the peers.
    pub(crate) fn hosts(&self) -> Vec<HostPlan> {
        let servers = (0..4).map(|at| HostPlan { addr: server(at), up: None, down: None });
        let mut in_region = [0; 64];
        let peers = self.regions.iter().map(|region| {
            let number = &mut in_region[*region as usize];
            let addr = Ipv4Addr::from_bits(PEERS_FROM.to_bits() + (region << 20) + *number);
            *number += 1;
            HostPlan { addr, up: Some(Shape::kbps(self.up_kbps)), down: Some(Shape::kbps(self.down_kbps)) }
        });
        servers.chain(peers).collect()
    }

    /// When a peer arrives, after the beginning.
    pub(crate) fn arrival(&self, peer: usize) -> Duration {
        Duration::from_secs_f64(self.arrive_s * peer as f64 / f64::from(self.peers))
    }

    /// The route server's table: where the regions' addresses are.
    pub(crate) fn locations(&self) -> String {
        let region = |region: u32| {
            let first = Ipv4Addr::from_bits(PEERS_FROM.to_bits() - 1 + (region << 20));
            format!("\n[[location]]\ncidr = \"{first}/12\"\ncountry = 86\ncarrier = 1\nregion = 1\ncity = {region}\n")
        };
        (0..self.scenario.network.regions).map(region).collect()
    }

    /// Takes over what was measured of the real network and stream.
    pub(crate) fn measured(&mut self, real: &Real) {
        self.scenario.network.delay_base_ms = real.delay_ms;
    }

    /// For a person.
    pub(crate) fn line(&self) -> String {
        let Plan { peers, seconds, arrive_s, kbps, up_kbps, down_kbps, .. } = self;
        let regions = self.scenario.network.regions;
        format!(
            "{peers} peers of a stream of {kbps} kbit/s for {seconds} s, arriving over {arrive_s} s, uplinks of {up_kbps} \
             kbit/s (of which {} are granted to others) and downlinks of {down_kbps} kbit/s, {regions} regions",
            self.scenario.peer.upload_kbps
        )
    }
}

/// A server's address.
pub(crate) fn server(at: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SERVERS_FROM.to_bits() + at)
}

/// Where route, index and cache listen.
pub(crate) fn listen(at: usize) -> SocketAddr {
    SocketAddr::from((server(at as u32), PORTS[at]))
}
