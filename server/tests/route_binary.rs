//! The route server's real program on loopback.

mod index_support;

use cache_core::peer_id::PeerId;
use cache_core::units::DomainId;
use cache_core::wire::datagram::Message;
use cache_core::wire::route::RouteJoin;
use cache_core::wire::{Blob, RefusalReason};
use index_support::*;
use rustix::process::Signal;

const ROUTE: &str = env!("CARGO_BIN_EXE_weircast-route");

const TWO_DOMAINS: &str = r#"
listen = "127.0.0.1:0"
[[domain]]
id = 1
indexes = ["127.0.0.1:7301", "127.0.0.1:7302"]
cidrs = ["127.0.1.0/24"]
[[domain]]
id = 2
indexes = ["127.0.0.1:7303"]
locations = [{ country = "CN" }]
[[location]]
cidr = "127.0.2.0/24"
country = "CN"
carrier = 3
region = 31
area = 7
"#;

fn join() -> RouteJoin {
    RouteJoin { previous: PeerId::NONE, ticket: Blob::default() }
}

#[test]
fn domain_and_location_follow_from_the_address() {
    let route = Server::start(ROUTE, TWO_DOMAINS);
    let ask = |from: &str| Asker::at(from, "").ask(route.listen, join());
    let Message::RouteJoined(by_network) = ask("127.0.1.5:0") else { panic!("joined") };
    assert_eq!((by_network.domain, by_network.indexes.len()), (DomainId(1), 2));
    let Message::RouteJoined(by_location) = ask("127.0.2.5:0") else { panic!("joined") };
    let at = by_location.peer.location();
    assert_eq!((by_location.domain, at.carrier, at.region, at.area), (DomainId(2), 3, 31, 7));
    let Message::Refused(refused) = ask("127.0.3.5:0") else { panic!("refused") };
    assert_eq!(refused.reason, RefusalReason::NoDomain);
}

#[test]
fn an_id_is_kept_by_who_has_it() {
    let route = Server::start(ROUTE, TWO_DOMAINS);
    let (mut one, mut two) = (Asker::at("127.0.1.5:0", ""), Asker::at("127.0.1.6:0", ""));
    let Message::RouteJoined(first) = one.ask(route.listen, join()) else { panic!("joined") };
    let Message::RouteJoined(again) = one.ask(route.listen, RouteJoin { previous: first.peer, ..join() }) else {
        panic!("joined")
    };
    assert_eq!(first.peer, again.peer);
    let Message::RouteJoined(other) = two.ask(route.listen, RouteJoin { previous: first.peer, ..join() }) else {
        panic!("joined")
    };
    assert_ne!(other.peer, first.peer, "another's id cannot be had");
    assert_eq!(one.challenges, 1, "a cookie is good for more than one question");
}

#[test]
fn it_ends_cleanly_and_has_defaults() {
    let route = Server::start(ROUTE, "listen = \"127.0.0.1:0\"\n");
    assert_eq!(route.ready["role"], "route");
    let Message::RouteJoined(joined) = Asker::new("").ask(route.listen, join()) else { panic!("joined") };
    assert_eq!(joined.domain, DomainId(1));
    assert_eq!(route.end(Signal::TERM), (Some(0), String::new()));
}

#[test]
fn a_missing_database_is_an_error_with_key_and_file() {
    let file = file("listen = \"127.0.0.1:0\"\nmmdb = \"/nowhere/City.mmdb\"\n");
    let path = file.path().to_str().expect("a path");
    let ended = run(ROUTE, &["--config", path]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("mmdb: /nowhere/City.mmdb"), "{}", ended.stderr);
    let checked = run(ROUTE, &["check", "--config", path]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.stdout.contains("FAILED   mmdb: /nowhere/City.mmdb"), "{}", checked.stdout);
}

#[test]
fn domains_that_contradict_each_other_are_an_error() {
    let file = file(&TWO_DOMAINS.replace("id = 2", "id = 1"));
    let ended = run(ROUTE, &["--config", file.path().to_str().expect("a path")]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("domain: domain id 1 is given twice"), "{}", ended.stderr);
}

#[test]
fn a_bad_network_is_an_error_with_its_line() {
    let file = file(&TWO_DOMAINS.replace("127.0.1.0/24", "127.0.1.0/33"));
    let path = file.path().to_str().expect("a path");
    let ended = run(ROUTE, &["--config", path]);
    assert!(ended.stderr.contains(&format!("{path}:6: domain[0].cidrs[0]: ")), "{}", ended.stderr);
}

/// A folder with a list that is compiled to `places.wlpm` in it.
struct Compiled(tempfile::TempDir);

impl Compiled {
    fn out(&self) -> String {
        self.0.path().join("places.wlpm").to_str().expect("a path").to_owned()
    }

    fn compile(&self, list: &str) -> Ended {
        let csv = self.0.path().join("own.csv");
        std::fs::write(&csv, list).expect("written");
        run(ROUTE, &["compile", "--out", &self.out(), csv.to_str().expect("a path")])
    }
}

#[test]
fn a_compiled_file_locates_names_domains_and_is_read_again_at_sighup() {
    let compiled = Compiled(tempfile::tempdir().expect("a folder"));
    let made = compiled.compile("127.0.3.0/24,CN,4,5,6,\n127.0.4.0/24,DE,,,,9,1\n");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(made.stdout.contains("2 networks in 2 places"), "{}", made.stdout);
    let configuration = format!("compiled = \"{}\"\n{TWO_DOMAINS}", compiled.out());
    let checked = run(ROUTE, &["check", "--config", file(&configuration).path().to_str().expect("a path")]);
    assert!(checked.stdout.contains("2 networks in 2 places"), "{}", checked.stdout);

    let route = Server::start(ROUTE, &configuration);
    let ask = |from: &str| match Asker::at(from, "").ask(route.listen, join()) {
        Message::RouteJoined(joined) => {
            let at = joined.peer.location();
            Some((joined.domain.0, at.carrier, at.area))
        }
        _ => None,
    };
    assert_eq!(ask("127.0.3.5:0"), Some((2, 4, 0x7f00)), "the country's domain");
    assert_eq!(ask("127.0.4.5:0"), Some((1, 0, 9)), "the domain that the file names");
    assert_eq!(ask("127.0.2.5:0"), Some((2, 3, 7)), "the configuration's own table");

    let made = compiled.compile("127.0.3.0/24,CN,8,,,,1\n");
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    route.signal(Signal::HUP);
    while ask("127.0.3.5:0") != Some((1, 8, 0x7f00)) {}
    assert_eq!(ask("127.0.4.5:0"), None, "it is in the file no more");
    assert_eq!(route.end(Signal::TERM), (Some(0), String::new()));
}

#[test]
fn a_compiled_file_cut_short_is_an_error_with_what_to_do() {
    let compiled = Compiled(tempfile::tempdir().expect("a folder"));
    assert_eq!(compiled.compile("127.0.3.0/24,CN,4,5,6,\n").code, Some(0));
    let whole = std::fs::read(compiled.out()).expect("a file");
    std::fs::write(compiled.out(), &whole[..whole.len() - 1]).expect("written");
    let file = file(&format!("compiled = \"{}\"\n{TWO_DOMAINS}", compiled.out()));
    let ended = run(ROUTE, &["--config", file.path().to_str().expect("a path")]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("places.wlpm: the file has") && ended.stderr.contains("compile"), "{}", ended.stderr);
}

#[test]
fn a_bad_list_is_told_line_by_line_and_nothing_is_written() {
    let compiled = Compiled(tempfile::tempdir().expect("a folder"));
    let made = compiled.compile("127.0.3.0/24,CN,4,5,6,\n127.0.3.1/24,CN,,,,\nnonsense\n");
    assert_eq!(made.code, Some(1));
    assert!(made.stderr.contains("own.csv:2: ") && made.stderr.contains("own.csv:3: "), "{}", made.stderr);
    assert!(!std::path::Path::new(&compiled.out()).exists());
    assert_eq!(run(env!("CARGO_BIN_EXE_weircast-index"), &["compile", "--out", "x", "y.csv"]).code, Some(2));
}

#[test]
fn the_example_file_is_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/route.toml");
    let config: weircast_server::route::config::Config =
        weircast_server::host::config::load(Some(example.as_ref())).expect("the example is good");
    let defaults = weircast_server::route::config::Config::default();
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
}
