//! `cargo xtask reality` from end to end, small: real peers in namespaces, the simulator beside them.

use std::process::Command;

#[test]
fn a_handful_of_real_peers_is_held_against_the_simulator() {
    let dir = tempfile::tempdir().expect("a directory");
    let json = dir.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["reality", "--quick", "--peers", "5", "--seconds", "10", "--arrive", "1", "--runs", "1", "--json"]);
    let output = command.arg(&json).output().expect("xtask runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    if let Some(skip) = said.lines().find(|line| line.starts_with("SKIP")) {
        println!("{skip}");
        return;
    }
    let text = std::fs::read_to_string(&json).expect("figures");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let real = &all["real"];
    assert_eq!(real["viewers"].as_array().map(Vec::len), Some(5));
    assert!(real["counters"]["chunks_played"].as_u64() > Some(5 * 5), "five viewers played: {text}");
    assert!(real["figures"]["offload"].as_f64() > Some(0.0), "peers served each other: {text}");
    // The bucket holds back what it should; how busy this machine is does not matter for that.
    assert!(real["up_rate"].as_f64() < Some(1.05), "{text}");
    assert!(said.contains("start-up p95, ms"), "{said}");
}
