//! What is simulated, as a TOML file says it. Every key has a default; an unknown one is an error.
//!
//! | module | its one job |
//! |---|---|
//! | [`fault`] | what goes wrong, and when |
//! | [`check`] | every range, with a sentence for each value outside |
//! | [`file`] | files, other files over them, single values over both |
//! | [`expect`] | bounds on metrics, and whether a run keeps them |
//! | [`sweep`] | one key over many values |
//! | [`random`] | a scenario with everything in it, from a seed |

pub mod check;
pub mod expect;
pub mod fault;
pub mod file;
pub mod random;
pub mod sweep;

use cache_core::proto::peer::Tuning;
use serde::{Deserialize, Serialize};

pub use expect::Expect;
pub use fault::{Fault, Trouble, Who};
pub use sweep::Sweep;

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// A file whose keys hold where this one has none; its path counts from this one's. Not kept once it is read.
    #[serde(skip_serializing)]
    pub base: Option<std::path::PathBuf>,
    /// For reports.
    pub name: String,
    /// Simulated seconds in all.
    pub duration_s: u64,
    /// Seconds at the beginning that the metrics leave out (start-up times excepted).
    pub warmup_s: u64,
    /// The stream.
    pub stream: Stream,
    /// Places, delays, losses.
    pub network: Network,
    /// Cache servers of each domain.
    pub caches: Caches,
    /// Who watches.
    pub audience: Audience,
    /// What goes wrong, and when.
    #[serde(rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// Every peer's numbers.
    pub peer: Tuning,
    /// What the result must keep.
    #[serde(skip_serializing_if = "Expect::is_empty")]
    pub expect: Expect,
    /// What `weircast-sim sweep` varies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
}

/// The stream: constant rate, one chunk each 200 ms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stream {
    /// Kilobits per second.
    pub kbps: u64,
    /// Chunks from one join point to the next.
    pub join_point_chunks: u64,
    /// Number of the first chunk: near 65 536 or 2^32 to see numbers wrap on the wire.
    pub first_chunk: u64,
    /// Whether there is a cache at all; without one a single peer has the stream (the paper's comparison). It has the
    /// uplink of `caches.up_kbps` and refuses nobody.
    pub cdn: bool,
}

/// The physical network: nodes uniform in a unit square that is cut into `regions` equal squares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// A square number of regions (1, 4, 9, 16, ...). A region is where a peer is (its PeerID's fields), not a domain.
    pub regions: u32,
    /// How finely a PeerID says where in its region a peer is: so many cities along a region's side, and areas along a
    /// city's (1 to 7). 1: the region alone.
    pub finer: u32,
    /// Domains; whole regions, dealt round. Peers of different domains exchange nothing.
    pub domains: u16,
    /// One-way delay across a distance of 1, in milliseconds.
    pub delay_ms_per_unit: f64,
    /// One-way delay that every path has, in milliseconds.
    pub delay_base_ms: f64,
    /// Instead of distances: one-way delay from region to region in milliseconds, `regions` rows and columns. Empty: none.
    pub delay_table_ms: Vec<Vec<f64>>,
    /// Extra delay, uniform in 0 to this share of the path's.
    pub jitter: f64,
    /// Datagrams lost, in thousandths. On TCP links a loss delays what is sent by a round trip and 200 ms at the least.
    pub loss_permille: f64,
    /// Share of peers that can dial but not be dialled (symmetric NAT, firewall).
    pub nat_closed: f64,
    /// `true`: the index answers with members sorted by location, as it ships; `false`: at random.
    pub index_by_location: bool,
}

/// Cache servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caches {
    /// In each domain.
    pub count: u16,
    /// Uplink of each, kbit/s; 0: unlimited. Without the CDN: the source's, and 0 is that of the best class of viewers.
    pub up_kbps: u64,
    /// Most viewers of each; 0: unlimited.
    pub viewers_max: u32,
}

/// Who watches, and how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audience {
    /// Peers at once. Who leaves after a session is replaced at once by a newcomer.
    pub peers: u32,
    /// They arrive evenly over this many seconds.
    pub arrive_over_s: f64,
    /// Sessions in seconds are log-normal with these parameters of the logarithm; `None`: everybody stays.
    pub session: Option<LogNormal>,
    /// Besides: share of all peers that is replaced each second, whatever their sessions.
    pub replaced_per_s: f64,
    /// Uplinks: classes drawn by share. Empty: one class of 1.3 times the stream's rate.
    pub uplink: Vec<UplinkClass>,
    /// Share that uploads nothing.
    pub free_riders: f64,
    /// Share whose buffer maps announce what they have not.
    pub liars: f64,
    /// Share that corrupts what it uploads.
    pub polluters: f64,
}

/// Parameters of the logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Mean of ln(seconds).
    pub mu: f64,
    /// Standard deviation of ln(seconds).
    pub sigma: f64,
}

/// Some peers' access links.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkClass {
    /// Share of the peers, in any unit: shares are divided by their sum.
    pub share: f64,
    /// Uplink over the stream's rate.
    pub up: f64,
    /// Downlink over the stream's rate.
    pub down: f64,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            base: None,
            name: "default".to_owned(),
            duration_s: 180,
            warmup_s: 60,
            stream: Stream::default(),
            network: Network::default(),
            caches: Caches::default(),
            audience: Audience::default(),
            faults: Vec::new(),
            peer: Tuning::default(),
            expect: Expect::default(),
            sweep: None,
        }
    }
}

impl Default for Stream {
    fn default() -> Stream {
        Stream { kbps: 2_000, join_point_chunks: 10, first_chunk: 1_000, cdn: true }
    }
}

impl Default for Network {
    fn default() -> Network {
        Network {
            regions: 16,
            finer: 1,
            domains: 1,
            delay_ms_per_unit: 60.0,
            delay_base_ms: 5.0,
            delay_table_ms: Vec::new(),
            jitter: 0.1,
            loss_permille: 1.0,
            nat_closed: 0.0,
            index_by_location: true,
        }
    }
}

impl Default for Caches {
    fn default() -> Caches {
        Caches { count: 1, up_kbps: 0, viewers_max: 0 }
    }
}

impl Default for Audience {
    fn default() -> Audience {
        Audience {
            peers: 500,
            arrive_over_s: 20.0,
            session: Some(LogNormal { mu: 4.29, sigma: 1.28 }),
            replaced_per_s: 0.0,
            uplink: Vec::new(),
            free_riders: 0.0,
            liars: 0.0,
            polluters: 0.0,
        }
    }
}
