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

#[test]
fn the_example_file_is_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/route.toml");
    let config: weircast_server::route::config::Config =
        weircast_server::host::config::load(Some(example.as_ref())).expect("the example is good");
    let defaults = weircast_server::route::config::Config::default();
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
}
