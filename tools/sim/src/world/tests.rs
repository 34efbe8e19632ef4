//! Whole worlds: small scenarios and what must come of them.

mod faults;

use super::*;
use crate::scenario::{Audience, Network};

/// Fifty viewers who stay, for half a minute.
fn fifty() -> Scenario {
    Scenario {
        name: "fifty".to_owned(),
        duration_s: 30,
        warmup_s: 10,
        network: Network { regions: 4, ..Network::default() },
        audience: Audience { peers: 50, arrive_over_s: 5.0, session: None, ..Audience::default() },
        ..Scenario::default()
    }
}

fn result(scenario: &Scenario, seed: u64) -> Report {
    run(scenario, seed, &mut |_| ())
}

#[test]
fn fifty_viewers_play_without_a_gap() {
    let report = result(&fifty(), 1);
    assert_eq!(report.violations, []);
    assert_eq!(report.metrics.viewers, 50);
    assert_eq!(report.metrics.continuity, 1.0, "{:#?}", report.metrics);
    assert!(report.metrics.offload > 0.5, "{:#?}", report.metrics);
}

#[test]
fn equal_seeds_give_equal_runs_and_others_do_not() {
    let short = Scenario { duration_s: 12, warmup_s: 5, ..fifty() };
    let run = |seed| {
        let report = result(&short, seed);
        Report { cost: Cost::default(), ..report }
    };
    let (one, (other, different)) = std::thread::scope(|scope| {
        let other = scope.spawn(|| (run(3), run(4)));
        (run(3), other.join().expect("ran"))
    });
    assert_eq!(one, other, "side by side");
    assert_ne!(one.digest, different.digest);
}

#[test]
fn viewers_come_and_go_and_numbers_wrap() {
    let mut scenario = fifty();
    scenario.stream.first_chunk = 65_536 - 100;
    scenario.audience.session = Some(crate::scenario::LogNormal { mu: 2.5, sigma: 1.0 });
    let report = result(&scenario, 2);
    assert_eq!(report.violations, []);
    assert!(report.metrics.viewers > 80, "{}", report.metrics.viewers);
    assert!(report.metrics.continuity > 0.99, "{:#?}", report.metrics);
}

#[test]
fn domains_keep_to_themselves_and_all_play() {
    let mut scenario = fifty();
    scenario.network.domains = 2;
    scenario.caches.count = 2;
    let report = result(&scenario, 5);
    assert_eq!(report.violations, []);
    assert!(report.metrics.continuity > 0.999, "{:#?}", report.metrics);
}

#[test]
fn polluters_are_refused_and_liars_do_not_stall_others() {
    let mut scenario = fifty();
    scenario.audience.polluters = 0.1;
    scenario.audience.liars = 0.1;
    scenario.audience.free_riders = 0.2;
    let report = result(&scenario, 6);
    assert_eq!(report.violations, []);
    assert!(report.metrics.continuity > 0.98, "{:#?}", report.metrics);
}

#[test]
fn who_cannot_be_dialled_dials() {
    let mut scenario = fifty();
    scenario.network.nat_closed = 0.5;
    let report = result(&scenario, 7);
    assert_eq!(report.violations, []);
    assert!(report.metrics.continuity > 0.99 && report.metrics.offload > 0.3, "{:#?}", report.metrics);
}

#[test]
fn without_the_cdn_a_peer_is_the_source() {
    let mut scenario = fifty();
    scenario.stream.cdn = false;
    let report = result(&scenario, 8);
    let violations: Vec<_> = report.violations.iter().map(|v| v.invariant.as_str()).collect();
    assert!(violations.is_empty(), "{violations:?}");
    let limit = 1.3 * scenario.stream.kbps as f64 * 1.2;
    assert!(report.metrics.cache_peak_kbps <= limit, "{} kbit/s", report.metrics.cache_peak_kbps);
}

#[test]
fn without_the_cdn_half_a_stream_for_each_viewer_is_source_enough() {
    let mut scenario = fifty();
    scenario.stream.cdn = false;
    scenario.network.index_by_location = false;
    scenario.caches.up_kbps = scenario.stream.kbps * 25;
    (scenario.warmup_s, scenario.audience.arrive_over_s) = (15, 10.0);
    let report = result(&scenario, 8);
    assert_eq!(report.violations, []);
    let m = &report.metrics;
    assert!(m.continuity > 0.99 && m.offload > 0.5, "{m:#?}");
    assert!(m.cache_peak_kbps <= 1.1 * scenario.caches.up_kbps as f64, "{} kbit/s", m.cache_peak_kbps);
}

#[test]
fn finer_ids_bring_nearer_partners() {
    let distance = |finer| {
        let mut scenario = Scenario { duration_s: 15, warmup_s: 10, ..fifty() };
        scenario.network = Network { regions: 1, finer, ..Network::default() };
        let report = result(&scenario, 9);
        assert_eq!(report.violations, []);
        assert!(report.metrics.continuity > 0.99, "{:#?}", report.metrics);
        report.metrics.delay_factor
    };
    let (region_alone, finer) = (distance(1), distance(2));
    assert!(finer < 0.8 * region_alone, "{finer} against {region_alone}");
}
