use super::*;
use crate::report::outcome::tests::report;

fn plan(text: &str, words: Vec<String>) -> Result<Option<Plan>, BadFile> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let source = Source { file: Some(file.path().to_owned()), ..Source::default() };
    Plan::new(&with_words(&source, words), 1)
}

const TEXT: &str = "[[audience.uplink]]\nshare = 1\nup = 1.3\ndown = 8\n\
    [expect]\ncontinuity_min = 0.9\n\
    [sweep]\nkey = 'audience.uplink.0.up'\nvalues = [0.5, 1]\nseeds = 2\nmetrics = ['offload']\n\
    curves = { key = 'peer.request_control', values = ['paper', 'repaired'] }\n";

fn swept() -> Swept {
    let plan = plan(TEXT, Vec::new()).expect("good").expect("a sweep");
    let outcome = |(number, setting): (usize, &Setting)| {
        let mut runs = vec![report(1, 1.0), report(2, 0.5 + number as f64 / 10.0)];
        runs.iter_mut().for_each(|run| run.metrics.offload = setting.x * 0.9 - run.seed as f64 / 100.0);
        Some(Outcome::new(setting.scenario.clone(), &setting.origin, runs))
    };
    let outcomes = plan.settings.iter().enumerate().map(outcome).collect();
    Swept { plan, outcomes }
}

#[test]
fn each_curve_has_each_value() {
    let plan = plan(TEXT, Vec::new()).expect("good").expect("a sweep");
    let settings: Vec<_> = plan.settings.iter().map(|s| (s.curve.as_str(), s.value.as_str(), s.x)).collect();
    assert_eq!(
        settings,
        [("paper", "0.5", 0.5), ("paper", "1", 1.0), ("repaired", "0.5", 0.5), ("repaired", "1", 1.0)]
    );
    assert_eq!(plan.settings[0].scenario.audience.uplink[0].up, 0.5);
    assert_eq!(plan.settings[0].scenario.peer.request_control, cache_core::proto::peer::RequestControl::Paper);
}

#[test]
fn the_command_line_can_say_another_sweep() {
    let words =
        settings(Some("peer.urgent_zone"), &["third_of_window".to_owned(), "third_of_rest".to_owned()], Some(1));
    let plan = plan("", words).expect("good").expect("a sweep");
    let settings: Vec<_> = plan.settings.iter().map(|s| (s.value.as_str(), s.x)).collect();
    assert_eq!(settings, [("third_of_window", 0.0), ("third_of_rest", 1.0)]);
    assert_eq!(plan.sweep.seeds, 1);
}

#[test]
fn a_value_out_of_range_is_said_before_anything_runs() {
    let words = settings(Some("audience.peers"), &["10".to_owned(), "0".to_owned()], None);
    assert!(plan("", words).expect_err("nobody").to_string().contains("audience.peers = 0"));
    assert!(plan("", Vec::new()).expect("good").is_none(), "there is nothing to sweep");
}

#[test]
fn a_setting_below_its_bound_is_named() {
    let swept = swept();
    let text = swept.text();
    assert!(text.starts_with("FAIL  at 0.5 paper: continuity_min 0.9 is 0.500000\n"), "{text}");
    assert!(!swept.passed());
}

#[test]
fn a_run_of_a_sweep_can_be_replayed_alone() {
    let swept = swept();
    let replay = &swept.outcomes[3].as_ref().expect("finished").runs[1].replay;
    assert!(replay.ends_with("--set 'audience.uplink.0.up=1' --set 'peer.request_control=\"repaired\"'"), "{replay}");
}

#[test]
fn theory_is_drawn_beside_what_came_out() {
    let plot = swept().plot(metric::named("offload").expect("a metric"));
    assert_eq!(plot.curves.len(), 3);
    assert!(plot.curves[2].dashed);
    assert_eq!(plot.curves[2].points.iter().map(|p| p.y).collect::<Vec<_>>(), [0.5, 1.0 - 1.0 / 500.0]);
}

#[test]
fn what_was_not_finished_is_said() {
    let mut swept = swept();
    swept.outcomes[1] = None;
    assert!(swept.text().contains("1 settings were not finished") && !swept.passed());
    assert_eq!(swept.csv().lines().count(), 1 + 3 * 2);
    assert!(swept.html("command").contains("<polygon"), "confidence is drawn");
}
