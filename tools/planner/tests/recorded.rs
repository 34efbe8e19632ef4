//! What comes with the planner: its tables against simulated swarms that they were not made from, and what is said of its
//! measurements.

use weircast_planner::calibration::Calibration;
use weircast_planner::check::{judge, left_out, offloads};
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

#[test]
fn what_is_written_of_three_rates_follows_from_their_file() {
    let text = include_str!("../recorded/three_rates.json");
    let measured: Calibration = serde_json::from_str(text).expect("a calibration");
    measured.check().expect("numbers that can have been measured");
    let off = |kbps| left_out(&measured, kbps).expect("two others")[0].off_by();
    let said = [4_000.0, 8_000.0, 16_000.0].map(|kbps| (off(kbps) * 1_000.0).round() / 10.0);
    assert_eq!(said, [-28.7, 14.7, -14.8]);
}
