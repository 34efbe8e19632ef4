use super::*;

fn plan() -> SwarmPlan {
    SwarmPlan {
        peers: 600,
        side: 2,
        finer: 4,
        answer: Answer::Tiers,
        duration_s: 20,
        warmup_s: 12,
        uplink: 1.3,
        free_riders: 0.0,
        cache_streams: 0,
        cdn: true,
        replaced_per_s: 0.0,
        tuning: Tuning::default(),
    }
}

fn outcome(plan: &SwarmPlan, threads: usize) -> SwarmOutcome {
    run(plan, 11, threads, &mut |_| ()).0
}

#[test]
fn a_swarm_with_enough_uplink_plays_and_spares_the_cache() {
    let out = outcome(&plan(), 1);
    assert!(out.continuity > 0.999, "{out:?}");
    assert!(out.offload > 0.7, "{out:?}");
}

#[test]
fn nothing_depends_on_the_threads() {
    let churned = SwarmPlan { replaced_per_s: 0.02, cache_streams: 80, ..plan() };
    assert_eq!(outcome(&churned, 1), outcome(&churned, 3));
}

#[test]
fn peers_that_upload_nothing_leave_everything_to_the_cache() {
    let out = outcome(&SwarmPlan { free_riders: 1.0, ..plan() }, 1);
    assert_eq!(out.offload, 0.0);
    assert!(out.continuity > 0.999, "the cache is unlimited");
    let poor = outcome(&SwarmPlan { free_riders: 1.0, cache_streams: 300, ..plan() }, 1);
    assert!((0.35..0.65).contains(&poor.continuity), "half of the viewers' worth: {}", poor.continuity);
}

#[test]
fn offload_cannot_exceed_the_uplink() {
    let out = outcome(&SwarmPlan { uplink: 0.5, ..plan() }, 1);
    assert!((0.3..=0.51).contains(&out.offload), "{out:?}");
}
