//! The index server's real program on loopback, with a route server's beside it.

mod index_support;

use std::net::SocketAddr;

use cache_core::peer_id::PeerId;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::wire::datagram::Message;
use cache_core::wire::index::*;
use cache_core::wire::route::RouteJoin;
use cache_core::wire::{Blob, List, RefusalReason, StreamName};
use index_support::*;
use rustix::process::Signal;

const INDEX: &str = env!("CARGO_BIN_EXE_weircast-index");
const ROUTE: &str = env!("CARGO_BIN_EXE_weircast-route");

fn index(route: SocketAddr) -> Server {
    let configuration = format!("listen = \"127.0.0.1:0\"\nroute = [\"{route}\"]\ncluster_secret = \"c\"\n");
    Server::start(INDEX, &configuration)
}

fn route() -> Server {
    Server::start(ROUTE, "listen = \"127.0.0.1:0\"\ncluster_secret = \"c\"\n")
}

fn name() -> StreamName {
    StreamName::new("news").expect("a name")
}

#[test]
fn it_says_where_it_serves_and_ends_cleanly() {
    let route = route();
    for signal in [Signal::TERM, Signal::INT] {
        let server = index(route.listen);
        assert_eq!(server.ready["role"], "index");
        assert_ne!(server.listen.port(), 0);
        assert_eq!(server.end(signal), (Some(0), String::new()), "nothing but the ready line on stdout");
    }
    assert_eq!(route.end(Signal::TERM).0, Some(0));
}

#[test]
fn a_publisher_a_cache_and_a_viewer_meet() {
    let route = route();
    let index = index(route.listen);
    let mut viewer = Asker::new("");
    let Message::RouteJoined(home) =
        viewer.ask(route.listen, RouteJoin { previous: PeerId::NONE, ticket: Blob::default() })
    else {
        panic!("an id")
    };
    assert_eq!(home.seen, viewer.addr());

    let (mut cache, mut publisher) = (Asker::new("c"), Asker::new(""));
    let advertise = cache.addr();
    let report = CacheReport { advertise, load_permille: 0, viewers: 0, draining: false };
    assert_eq!(cache.ask(index.listen, report), CacheReportAck { others: List::new() }.into());
    assert_eq!(cache.challenges, 1, "the address is proved first");
    let key = PublisherKey::from_seed(&[7; 32]);
    publisher.ask(index.listen, KeysQuery { stream: name() });
    let request = PublishRequest {
        stream: name(),
        key: key.public(),
        proof: [0; 32],
        possession: key.sign_request(stream_id(&name()), &publisher.cookie()),
        takeover: false,
        at_cache: None,
        ticket: Blob::default(),
    };
    let Message::PublishGrant(grant) = publisher.ask(index.listen, request) else { panic!("a grant") };
    assert_eq!(grant.caches.to_vec(), [advertise]);
    let held =
        HeldStream { stream: grant.stream, state: HoldState::Origin, epoch: grant.epoch, head: grant.next, viewers: 0 };
    cache.ask(index.listen, CacheStreams { advertise, streams: List::first_of([held]) });

    let listen = Some(viewer.addr());
    let join = Join { stream: name(), peer: home.peer, listen, ticket: Blob::default() };
    let Message::Joined(joined) = viewer.ask(index.listen, join) else { panic!("joined") };
    assert_eq!((joined.caches.to_vec(), joined.size, joined.seen), (vec![advertise], 1, viewer.addr()));
    assert_eq!(joined.keys.to_vec(), [StreamKey { epoch: grant.epoch, key: key.public() }]);
}

#[test]
fn a_server_without_the_cluster_secret_is_refused() {
    let route = route();
    let index = index(route.listen);
    let stranger = Asker::new("wrong");
    let advertise = stranger.addr();
    stranger.send(index.listen, 9, CacheReport { advertise, load_permille: 0, viewers: 0, draining: false }.into());
    let (_, answer) = stranger.receive();
    assert!(matches!(answer.message, Message::Refused(refused) if refused.reason == RefusalReason::NotInCluster));
}

#[test]
fn an_unknown_key_is_an_error_with_file_line_and_key() {
    let file = file("listen = \"127.0.0.1:0\"\nlisten_on = \"127.0.0.1:0\"\n");
    let path = file.path().to_str().expect("a path");
    for args in [vec!["--config", path], vec!["check", "--config", path]] {
        let ended = run(INDEX, &args);
        assert_eq!(ended.code, Some(1));
        let said = ended.stderr + &ended.stdout;
        assert!(said.contains(&format!("{path}:2: listen_on: unknown field")), "{said}");
        assert!(!said.contains("ready"), "{said}");
    }
}

#[test]
fn a_port_in_use_is_an_error_with_key_and_address() {
    let holder = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("bound");
    let file = file(&format!("listen = \"{taken}\"\n"));
    let ended = run(INDEX, &["--config", file.path().to_str().expect("a path")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains(&format!("listen: cannot listen on {taken}")), "{}", ended.stderr);
}

#[test]
fn check_says_what_it_found_and_starts_nothing() {
    let file = file("listen = \"127.0.0.1:0\"\n[[publish]]\nname = \"live-*\"\nsecret = \"x\"\n");
    let ended = run(INDEX, &["check", "--config", file.path().to_str().expect("a path")]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    for part in ["configuration", "io_uring", "domain 1", "listen", "names that match no [[publish]] table are open"] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("secret = "), "{}", ended.stdout);
}

#[test]
fn the_example_file_is_the_defaults() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/index.toml");
    let config: weircast_server::index::config::Config =
        weircast_server::host::config::load(Some(example.as_ref())).expect("the example is good");
    let defaults = weircast_server::index::config::Config::default();
    let wall = Default::default();
    let show = |c: &weircast_server::index::config::Config| {
        format!("{} {:?} {:?}", c.listen, c.advertise, c.machine(wall).expect("good"))
    };
    assert_eq!(show(&config), show(&defaults));
}

#[test]
fn help_and_version_are_worth_reading() {
    let help = run(INDEX, &["--help"]);
    assert_eq!(help.code, Some(0));
    for part in ["check", "--config", "--log", "Exit codes", "SIGTERM", "[[publish]]"] {
        assert!(help.stdout.contains(part), "{part} in {}", help.stdout);
    }
    assert!(run(INDEX, &["--version"]).stdout.starts_with("weircast-index 0."));
    assert_eq!(run(INDEX, &["--no-such-option"]).code, Some(2));
}
