//! The table that comes with the planner against simulated swarms that it was not made from.

use weircast_planner::check::{judge, offloads};
use weircast_planner::offload::OffloadTable;

#[test]
fn offload_is_predicted_within_five_percent() {
    let apart: OffloadTable =
        serde_json::from_str(include_str!("../recorded/offload_apart.json")).expect("a table of runs");
    let table = OffloadTable::recorded();
    assert!(apart.runs.iter().all(|run| table.runs.iter().all(|of| of.uplink != run.uplink || of.peers != run.peers)));
    let (good, lines) = judge(&offloads(&table.read().expect("a full grid"), &apart.runs), 0.05);
    assert!(good && lines.len() >= 6, "{}", lines.join("\n"));
}
