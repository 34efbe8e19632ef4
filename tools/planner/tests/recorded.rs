//! What comes with the planner: its tables against simulated swarms that they were not made from, and what is said of its
//! measurements.

use weircast_planner::calibration::{Calibration, Way};
use weircast_planner::check::{judge, left_out, offloads};
use weircast_planner::offload::OffloadTables;
use weircast_planner::sizes::chunk_bytes;

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
    let costs = [4_000.0, 8_000.0, 16_000.0].map(|kbps| measured.send(Way::Http).core_s(chunk_bytes(kbps)) * 1e6);
    assert_eq!(costs.map(|us| (us * 10.0).round() / 10.0), [26.6, 55.7, 92.5]);
    let out = |kbps| left_out(&measured, &[kbps]).expect("two others")[0].clone();
    let all = [4_000.0, 8_000.0, 16_000.0].map(out);
    assert_eq!([0, 1, 2].map(|at| all[at].predicted.round()), [5_371.0, 4_120.0, 1_757.0]);
    assert_eq!([0, 1, 2].map(|at| (all[at].off_by() * 1_000.0).round() / 10.0), [-28.7, 14.7, -18.7]);
}
