//! Every scenario of the folder can be read and run, and is named in its README.

use std::path::{Path, PathBuf};

use weircast_sim::scenario::file::Source;
use weircast_sim::sweep::Plan;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("its entries can be read").path());
    let files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() > 10, "the scenarios were found");
    files
}

#[test]
fn every_scenario_is_in_range_and_so_is_each_value_of_its_sweep() {
    for path in files() {
        let source = Source { file: Some(path.clone()), ..Source::default() };
        source.load().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Plan::new(&source, 1).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn the_table_names_every_scenario_and_nothing_else() {
    let readme = std::fs::read_to_string(folder().join("README.md")).expect("the folder has a README");
    let is_file = |word: &&str| word.ends_with(".toml") && !word.contains('/');
    let mut named: Vec<String> = readme.split(['`', ' ', '\n', '(', ')']).filter(is_file).map(str::to_owned).collect();
    named.sort();
    named.dedup();
    let mut there: Vec<String> =
        files().iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    there.sort();
    assert_eq!(named, there);
}
