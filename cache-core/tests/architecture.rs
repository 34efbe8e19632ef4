//! The architecture's rules, read off the sources: who may use whom, where unsafe code stands, what the core never
//! touches, how long a file may be, and what the slim peer does not drag in.
//!
//! Code is looked at without its comments and texts; rules about what runs leave tests out.

mod source_text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use source_text::{crate_paths, strip, without_tests, words};

/// Longest file in lines.
const LINES_MAX: usize = 600;

/// Modules of cache-core and the modules that they may use besides their own; a longer name goes before a shorter.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("time", &[]),
    ("prng", &[]),
    ("outbox", &[]),
    ("peer_id", &[]),
    ("units", &["time"]),
    ("wire", &["limits", "units", "time", "peer_id"]),
    ("sign", &["limits", "units", "time", "wire"]),
    ("ring", &["limits", "units", "time"]),
    ("media", &["limits", "units", "time", "prng", "outbox", "wire"]),
    ("proto", &["limits", "units", "time", "prng", "outbox", "peer_id", "wire", "sign"]),
];

/// The state machines of `proto`, none of which knows another; what lies beside them they share.
const ROLES: &[&str] = &["peer", "index", "route", "cache"];

/// Folders where unsafe code may stand.
const UNSAFE_IN: &[&str] = &["cache-core/src/ring/", "server/src/uring/", "cache-core/tests/counting_alloc/"];

/// What makes a program differ from run to run, or wait: none of it in the core.
const NOT_IN_THE_CORE: &[&str] =
    &["HashMap", "HashSet", "RandomState", "Instant::now", "SystemTime", "thread::spawn", "thread::sleep", "tokio"];

/// Programs beside the servers, and what each goes without: the peer is slim, the load tool measures caches from outside,
/// the operator's tool maps the ring and nothing else of a cache.
const GO_WITHOUT: &[(&str, &[&str])] = &[
    ("weircast-peer", &["glommio", "glommio-ng", "io-uring", "tokio", "memmap2", "weircast-server"]),
    ("weircast-load", &["glommio", "glommio-ng", "io-uring", "tokio", "memmap2", "weircast-server"]),
    ("weircast", &["glommio", "glommio-ng", "io-uring", "tokio", "weircast-server"]),
];

fn workspace() -> PathBuf {
    let cache_core = Path::new(env!("CARGO_MANIFEST_DIR"));
    cache_core.parent().expect("cache-core lies in the workspace").to_owned()
}

/// Every Rust source of the workspace, by its path from there.
fn sources() -> BTreeMap<String, String> {
    let root = workspace();
    let mut sources = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("its entries too").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("a source is UTF-8");
                let path = path.strip_prefix(&root).expect("it lies in the workspace");
                sources.insert(path.to_str().expect("an ASCII path").to_owned(), text);
            }
        }
    }
    assert!(sources.len() > 50, "the workspace was found");
    sources
}

/// The sources of cache-core as they run: without comments, texts and tests.
fn core_sources() -> BTreeMap<String, String> {
    let is_core = |path: &str| path.starts_with("cache-core/src/") && !path.ends_with("/tests.rs");
    let sources = sources().into_iter().filter(|(path, _)| is_core(path) && !path.contains("/tests/"));
    sources.map(|(path, text)| (path, without_tests(&strip(&text)))).collect()
}

/// Of a path inside `proto`, the role.
fn role<'a>(path: &[&'a str]) -> Option<&'a str> {
    path.get(1).copied().filter(|name| path[0] == "proto" && ROLES.contains(name))
}

fn assert_none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_module_of_the_core_uses_only_what_it_may() {
    let mut broken = Vec::new();
    for (path, code) in core_sources() {
        let inner = path.trim_start_matches("cache-core/src/").trim_end_matches(".rs").trim_end_matches("/mod");
        if inner == "lib" {
            continue;
        }
        let module: Vec<&str> = inner.split('/').collect();
        let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == module[0]) else {
            broken.push(format!("{path}: say in MAY_USE what {} may use", module[0]));
            continue;
        };
        for used in crate_paths(&code, &module) {
            let own = used[0] == module[0];
            if !own && !may.contains(&used[0].as_str()) {
                broken.push(format!("{path} uses {}", used.join("::")));
            }
            let used: Vec<&str> = used.iter().map(String::as_str).collect();
            if role(&used).is_some() && role(&used) != role(&module) && module.len() > 1 {
                broken.push(format!("{path} uses {}, another role", used.join("::")));
            }
        }
    }
    assert_none(broken, "cache-core/src/lib.rs says who may use whom");
}

#[test]
fn the_core_has_no_clock_no_thread_and_no_hash_order() {
    let mut broken = Vec::new();
    for (path, code) in core_sources() {
        for word in NOT_IN_THE_CORE.iter().filter(|word| words(&code, word) > 0) {
            broken.push(format!("{path} uses {word}"));
        }
    }
    assert_none(broken, "time and chance come from outside");
}

#[test]
fn unsafe_code_stands_in_two_folders() {
    let sources = sources().into_iter().filter(|(path, _)| !UNSAFE_IN.iter().any(|folder| path.starts_with(folder)));
    let unsafe_ones = sources.filter(|(_, text)| words(&strip(text), "unsafe") > 0);
    assert_none(
        unsafe_ones.map(|(path, _)| path).collect(),
        "unsafe code belongs to cache-core/src/ring or server/src/uring",
    );
}

#[test]
fn no_file_is_longer_than_one_job_needs() {
    let lengths = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LINES_MAX);
    assert_none(long.map(|(path, lines)| format!("{path}: {lines} lines")).collect(), "at most 600 lines to a file");
}

#[test]
fn nothing_is_left_for_another_day() {
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat()];
    let unfinished = sources().into_iter().filter(|(_, text)| marks.iter().any(|mark| text.contains(mark)));
    assert_none(unfinished.map(|(path, _)| path).collect(), "what is missing is built or said in an issue");
}

#[test]
fn what_is_no_server_goes_without_one() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    for &(package, without) in GO_WITHOUT {
        let arguments = ["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"];
        let output = Command::new(&cargo).args(arguments).current_dir(workspace()).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        let packages: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(packages.contains(&"cache-core"), "{tree}");
        let heavy = without.iter().filter(|name| packages.contains(name));
        assert_none(heavy.map(|name| (*name).to_owned()).collect(), &format!("{package} goes without these packages"));
    }
}
