//! Real runs: a small scenario keeps its bounds, the same seed is the same run, and random faults break nothing.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use weircast_sim::crew::{self, Job};
use weircast_sim::report::outcome::{Origin, Outcome};
use weircast_sim::report::text;
use weircast_sim::scenario::file::Source;
use weircast_sim::torture::{self, Until};

#[test]
fn a_small_swarm_keeps_its_bounds_and_a_seed_is_one_run() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/small.toml");
    let origin = Origin::Files(Source { file: Some(file), ..Source::default() });
    let scenario = origin.scenario(1).expect("it can be run");
    let jobs = [1, 1, 2].map(|seed| Job { scenario: &scenario, seed });
    let reports = crew::run(&jobs, 2, &AtomicBool::new(false), &mut |_| {});
    let digests: Vec<String> = reports.iter().flatten().map(|report| report.digest.clone()).collect();
    assert_eq!(digests.len(), 3, "all ended");
    assert_eq!(digests[0], digests[1], "the same seed");
    assert_ne!(digests[1], digests[2], "another seed");
    let outcome = Outcome::new(scenario.clone(), &origin, reports.into_iter().flatten().collect());
    assert!(outcome.passed(), "{}", text::summary(&outcome));
}

/// Viewers of one run who may stand still 10 s after the last fault. In about one of thirty random worlds some do, one to
/// a dozen in 240 worlds: among them such whose downlink carries little more than the stream (partners' chunks stand in front of
/// the cache's, which then are asked for twice).
/// `weircast-sim torture` fails on them.
const STANDING_MAX: usize = 16;

/// With a new seed each time, so that every test run looks somewhere else. A failure prints what replays it.
#[test]
fn random_faults_break_no_invariant_but_for_a_few_viewers() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64 >> 10);
    let until = Until { runs: Some(1), ..Until::default() };
    let sum = torture::run(seed, until, 2, &AtomicBool::new(false), &mut |_| {}, &mut |_, _| {});
    assert_eq!(sum.runs, 1);
    println!("{}", sum.text());
    for broken in &sum.broken {
        let standing = broken.violations.iter().filter(|v| v.invariant == "recovery").count();
        assert!(standing == broken.violations.len() && standing <= STANDING_MAX, "{}{broken:#?}", sum.text());
    }
    assert!(sum.simulated_h > 0.0);
}
