//! Scenarios, costs and tables with round numbers.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use weircast_planner::calibration::{Calibration, Capacity, Way};
use weircast_planner::offload::{OffloadRun, OffloadTable};
use weircast_planner::plan::{DomainPlan, NoPlan, Plan, plan};
use weircast_planner::scenario::{Audience, Domains, Hardware, Latency, Scenario, Streams, Survive, Uplink};

/// A core sends a chunk of 50 152 bytes (2 Mbit/s) in 20 us: 10 000 viewers, 5 chunks a second each. Bytes alone cost.
/// Taking a chunk in costs 100 us, a question 10 us.
pub fn costs() -> Calibration {
    let capacity = |way| Capacity {
        way,
        kbps: 2_000.0,
        cores: 1.0,
        viewers: 10_000.0,
        p99_ms: 100.0,
        cpu_s_per_gib: 0.4,
        rounds: vec![],
    };
    Calibration {
        capacities: [Way::Http, Way::Pull, Way::Push].map(capacity).to_vec(),
        ingest_us: 100.0,
        viewer_bytes: 600.0,
        index_question_us: 10.0,
        index_join_us: 30.0,
        route_question_us: 10.0,
        route_join_us: 30.0,
        is_own: true,
        ..Calibration::recorded()
    }
}

/// 100 peers need 55, 10 and 5 copies with an uplink of 0.5, 1 and 2 times the rate; 1000 peers 550, 100 and 40.
pub fn table() -> OffloadTable {
    let run = |(uplink, peers, offload)| OffloadRun { uplink, peers, offload, control: 0.02, continuity: 1.0 };
    let runs = [
        (0.5, 100, 0.45),
        (1.0, 100, 0.9),
        (2.0, 100, 0.95),
        (0.5, 1_000, 0.45),
        (1.0, 1_000, 0.9),
        (2.0, 1_000, 0.96),
    ];
    OffloadTable { latency: Latency::Classic, origin: "a test".into(), runs: runs.map(run).to_vec() }
}

/// Hardware of which nothing is ever full.
pub const ENDLESS: Hardware =
    Hardware { cores: 1_000.0, nic_mbps: 10_000_000.0, memory_mib: 1 << 24, descriptors: 1 << 31 };

/// `viewers` who all play over HTTP, of one stream of `kbps`; one domain, nothing fails, a fifth stays free.
pub fn players(viewers: i64, kbps: f64, cache: Hardware) -> Scenario {
    Scenario {
        name: "test".into(),
        viewers,
        streams: vec![Streams { kbps, count: 1, share: 1.0 }],
        zipf: None,
        audience: Audience {
            players: 1.0,
            uplinks: vec![Uplink { share: 1.0, mbps: 2.0 }],
            free_riders: 0.0,
            replaced_per_s: 0.01,
            areas: None,
        },
        domains: Domains { count: 1, shares: Vec::new() },
        cache,
        index: Some(ENDLESS),
        route: Some(ENDLESS),
        latency: Latency::Classic,
        window_chunks: 256,
        headroom: 0.2,
        survive: Survive::None,
    }
}

pub fn planned(scenario: &Scenario) -> Plan {
    plan(scenario, &costs(), &table()).expect("there is a plan")
}

pub fn no_plan(scenario: &Scenario) -> String {
    let none: NoPlan = plan(scenario, &costs(), &table()).expect_err("there is none");
    none.to_string()
}

pub fn caches(plan: &Plan) -> Vec<u32> {
    plan.domains.iter().map(|domain: &DomainPlan| domain.caches).collect()
}
