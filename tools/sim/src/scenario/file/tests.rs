use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

fn load(texts: &[&str], set: &[&str]) -> Result<Scenario, BadFile> {
    let files: Vec<_> = texts.iter().map(|text| file(text)).collect();
    let mut paths = files.iter().map(|file| file.path().to_owned());
    let set = set.iter().map(|set| (*set).to_owned()).collect();
    Source { file: paths.next(), with: paths.collect(), set }.load()
}

#[test]
fn the_last_word_wins() {
    let base = "name = 'base'\n[audience]\npeers = 10\nliars = 0.1\n";
    let over = "[audience]\npeers = 20\n";
    let scenario = load(&[base, over], &["audience.peers=30", "peer.request_control=paper"]).expect("good");
    assert_eq!((scenario.audience.peers, scenario.audience.liars), (30, 0.1));
    assert_eq!(scenario.peer.request_control, cache_core::proto::peer::RequestControl::Paper);
    assert_eq!(load(&[base, over], &[]).expect("good").audience.peers, 20);
}

#[test]
fn an_entry_of_a_list_can_be_set() {
    let base = "[[audience.uplink]]\nshare = 1\nup = 1.3\ndown = 8\n[[fault]]\nat_s = 9\nkind = 'stop'\n\
        who = { cache = 0 }\nfor_s = 1\n";
    let scenario = load(&[base], &["audience.uplink.0.up=0.5", "fault.0.at_s=20"]).expect("good");
    assert_eq!((scenario.audience.uplink[0].up, scenario.faults[0].at_s), (0.5, 20.0));
    let said = load(&[base], &["audience.uplink.1.up=0.5"]).expect_err("one entry").to_string();
    assert!(said.contains("a list with 1 entries: write audience.uplink.0"), "{said}");
    let whole = load(&[base], &["audience.uplink=[]"]).expect("good");
    assert!(whole.audience.uplink.is_empty());
}

#[test]
fn a_key_that_does_not_exist_is_an_error_wherever_it_stands() {
    for (texts, set) in [
        (vec!["[audience]\npears = 3\n"], vec![]),
        (vec!["", "[audience]\npears = 3\n"], vec![]),
        (vec![""], vec!["audience.pears=3"]),
    ] {
        let said = load(&texts, &set).expect_err("misspelt").to_string();
        assert!(said.contains("pears") && said.contains("peers"), "{said}");
    }
}

#[test]
fn what_is_no_key_and_value_is_said_with_what_to_write() {
    for (set, cure) in [("audience.peers", "KEY=VALUE"), ("=3", "KEY=VALUE"), ("name.first=x", "name")] {
        let said = load(&["name = 'x'\n"], &[set]).expect_err("unclear").to_string();
        assert!(said.contains(cure), "{set}: {said}");
    }
}

#[test]
fn a_value_out_of_range_is_said_with_the_file() {
    let said = load(&["[audience]\npeers = 0\n"], &[]).expect_err("nobody").to_string();
    assert!(said.contains("audience.peers = 0: must be 1 to"), "{said}");
    assert!(load(&[""], &["audience.peers=many"]).expect_err("no number").to_string().contains("audience"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let source = Source { file: Some("/nowhere/x.toml".into()), ..Source::default() };
    assert!(source.load().expect_err("not there").to_string().contains("/nowhere/x.toml"));
}

#[test]
fn a_file_stands_on_its_base() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("base.toml", "name = 'base'\nduration_s = 99\n[audience]\npeers = 10\nliars = 0.1\n");
    write("above.toml", "base = 'base.toml'\nname = 'above'\n[audience]\npeers = 20\n");
    write("round.toml", "base = 'round.toml'\n");
    let load = |name: &str| Source { file: Some(folder.path().join(name)), ..Source::default() }.load();
    let scenario = load("above.toml").expect("good");
    assert_eq!((scenario.name.as_str(), scenario.duration_s, scenario.base), ("above", 99, None));
    assert_eq!((scenario.audience.peers, scenario.audience.liars), (20, 0.1));
    assert!(load("round.toml").expect_err("without end").to_string().contains("round.toml: more than 4"));
}
