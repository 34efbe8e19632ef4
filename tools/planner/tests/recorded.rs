//! The tables that come with the planner against simulated swarms that they were not made from.

use weircast_planner::check::{judge, offloads};
use weircast_planner::offload::OffloadTables;

#[test]
fn offload_is_predicted_within_five_percent() {
    let apart: OffloadTables =
        serde_json::from_str(include_str!("../recorded/offload_apart.json")).expect("tables of runs");
    let recorded = OffloadTables::recorded();
    for apart in apart.iter() {
        let table = recorded.of(apart.latency).expect("what is checked is there");
        let is_used = |uplink, peers| table.runs.iter().any(|of| (of.uplink, of.peers) == (uplink, peers));
        assert!(apart.runs.iter().all(|run| !is_used(run.uplink, run.peers)));
        let (good, lines) = judge(&offloads(&table.read().expect("a full grid"), &apart.runs), 0.05);
        assert!(good && lines.len() >= 6, "{}: {}", apart.latency, lines.join("\n"));
    }
    assert!(apart.iter().count() > 0);
}
