//! Whole worlds: small scenarios and what must come of them.

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
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).digest, run(4).digest);
}
