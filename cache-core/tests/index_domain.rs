//! Index, route, caches and peers of two domains, joined in memory.

mod index_support;

use cache_core::peer_id::PeerId;
use cache_core::sign::stream_id;
use cache_core::time::Span;
use cache_core::units::{DomainId, Epoch};
use cache_core::wire::datagram::Message;
use cache_core::wire::index::*;
use cache_core::wire::route::{RouteJoin, RouteLeave};
use cache_core::wire::{Blob, List, RefusalReason};
use index_support::*;

fn no_change(_: &mut cache_core::proto::index::IndexConfig) {}

#[test]
fn a_peer_gets_an_id_and_its_domains_index() {
    let mut net = Net::two_domains(no_change);
    let join = RouteJoin { previous: PeerId::NONE, ticket: Blob::default() };
    let Some(Message::RouteJoined(one)) = net.ask(host(1, 7), route_addr(), join.clone()) else { panic!("joined") };
    let Some(Message::RouteJoined(two)) = net.ask(host(2, 7), route_addr(), join.clone()) else { panic!("joined") };
    assert_eq!((one.domain, two.domain), (DomainId(1), DomainId(2)));
    assert_eq!((one.indexes.to_vec(), two.indexes.to_vec()), (vec![index_addr(1)], vec![index_addr(2)]));
    assert_eq!(one.seen, host(1, 7));
    assert_ne!(one.peer, two.peer);
    net.tell(host(1, 7), route_addr(), RouteLeave { peer: one.peer });
    let Some(Message::Refused(refused)) = net.ask(addr("10.9.0.1:1"), route_addr(), join) else { panic!("refused") };
    assert_eq!(refused.reason, RefusalReason::NoDomain);
}

#[test]
fn a_stream_of_another_domain_is_fetched_by_the_least_loaded_cache() {
    let mut net = Net::two_domains(no_change);
    net.live(1, 1, "news", 7);
    net.cache_reports(2, 1, 800);
    net.cache_reports(2, 2, 100);
    let joined = net.join(2, 50, "news").expect("joined");
    assert_eq!(joined.caches.to_vec(), [host(2, 2), host(2, 1)], "the least loaded first, and another to fall back on");
    assert_eq!(joined.keys[0].key, publisher(7).public(), "the publisher's key came with the stream");
    let order = net.fakes[&host(2, 2)].heard.iter().find_map(|(_, message)| match message {
        Message::CachePull(pull) => Some(pull.clone()),
        _ => None,
    });
    let order = order.expect("an order");
    assert_eq!((order.parents.to_vec(), order.keys[0].key), (vec![host(1, 1)], publisher(7).public()));
    assert_eq!(joined.size, 1);
}

#[test]
fn a_crowd_makes_one_question_and_one_order() {
    let mut net = Net::two_domains(no_change);
    net.live(1, 1, "news", 7);
    net.cache_reports(2, 1, 100);
    let located = net.sent(index_addr(2), "LocateStream");
    net.dead.push(route_addr());
    for n in 100..300 {
        let join = net.join_message(2, n, "news");
        net.pose(host(2, n), index_addr(2), join, None);
    }
    net.dead.clear();
    net.pass(Span::from_secs(1));
    let joined = (100..300).filter(|n| matches!(net.fakes[&host(2, *n)].answers[..], [Message::Joined(_)])).count();
    assert_eq!(joined, 200);
    assert!(net.sent(index_addr(2), "LocateStream") - located <= 3, "one question: lost, challenged, answered");
    assert_eq!(net.sent(index_addr(2), "CachePull"), 1);
    assert_eq!(net.index(2).stats().peers, 200);
}

#[test]
fn a_stream_that_nobody_publishes_is_refused_for_the_moment() {
    let mut net = Net::two_domains(no_change);
    assert_eq!(net.join(1, 50, "nothing"), Err(RefusalReason::NoCache), "no cache in the domain");
    net.cache_reports(1, 1, 0);
    let join = net.join_message(1, 50, "nothing");
    let Some(Message::Refused(refused)) = net.ask(host(1, 50), index_addr(1), join) else { panic!("refused") };
    assert_eq!(refused.reason, RefusalReason::UnknownStream);
    assert!(refused.retry_ms > 0, "somebody may begin to publish it");
    assert_eq!(net.index(1).stats().peers, 0, "who is refused is not counted");
}

#[test]
fn a_dead_route_server_does_not_stop_a_domains_own_streams() {
    let mut net = Net::two_domains(no_change);
    net.dead.push(route_addr());
    let epoch = net.live(1, 1, "news", 7);
    net.pass(Span::from_secs(1));
    net.cache_reports(1, 1, 100);
    net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
    assert_eq!(net.join(1, 50, "news").expect("joined").caches.to_vec(), [host(1, 1)]);
    net.cache_reports(1, 1, 100);
    assert_eq!(net.join(1, 51, "other"), Err(RefusalReason::UnknownStream));
}

#[test]
fn members_are_the_domains_peers_that_still_live() {
    let mut net = Net::two_domains(no_change);
    let epoch = net.live(1, 1, "news", 7);
    for n in 1..=10 {
        net.join(1, 100 + n, "news").expect("joined");
    }
    let joined = net.join(1, 50, "news").expect("joined");
    assert_eq!(joined.size, 11);
    assert!(joined.members.len() >= 8, "3 ln 11 = 7.2: {}", joined.members.len());
    assert!(joined.members.iter().all(|m| m.addr.port() == 9000 && m.addr.ip() != host(1, 50).ip()));
    let stream = stream_id(&name("news"));
    let me = net.join_message(1, 50, "news").peer;
    for _ in 0..4 {
        net.pass(Span::from_millis(900));
        net.cache_reports(1, 1, 100);
        net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
        net.pass(Span::from_secs(2));
        net.cache_reports(1, 1, 100);
        net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
        net.pass(Span::from_secs(2));
        net.cache_reports(1, 1, 100);
        net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
        let ack = net.ask(host(1, 50), index_addr(1), PeerHeartbeat { stream, peer: me });
        assert!(matches!(ack, Some(Message::PeerHeartbeatAck(_))), "{ack:?}");
    }
    let again = net.join(1, 50, "news").expect("joined");
    assert_eq!((again.size, again.members.len()), (1, 0), "the others have fallen silent");
    net.tell(host(1, 50), index_addr(1), PeerLeave { stream, peer: me });
    let gone = net.ask(host(1, 50), index_addr(1), PeerHeartbeat { stream, peer: me });
    assert!(matches!(gone, Some(Message::Refused(refused)) if refused.reason == RefusalReason::NotJoined));
}

#[test]
fn a_claimed_address_is_told_to_others_only_after_it_has_answered() {
    let mut net = Net::two_domains(no_change);
    net.live(1, 1, "news", 7);
    let elsewhere = addr("10.1.77.77:5000");
    let claim = Join { listen: Some(elsewhere), ..net.join_message(1, 60, "news") };
    assert!(matches!(net.ask(host(1, 60), index_addr(1), claim.clone()), Some(Message::Joined(_))));
    assert_eq!(net.join(1, 50, "news").expect("joined").members.len(), 0, "nobody answers there");
    net.fakes.insert(elsewhere, Fake::default());
    net.pass(Span::from_secs(6));
    net.live(1, 1, "news", 7);
    assert!(matches!(net.ask(host(1, 60), index_addr(1), claim), Some(Message::Joined(_))));
    net.pass(Span::from_millis(100));
    let members = net.join(1, 50, "news").expect("joined").members;
    assert_eq!(members.iter().map(|m| m.addr).collect::<Vec<_>>(), [elsewhere]);
    assert_eq!(net.index(1).stats().dial_backs_answered, 1);
}

#[test]
fn another_port_of_its_own_address_has_to_answer_as_well() {
    let mut net = Net::two_domains(no_change);
    net.live(1, 1, "news", 7);
    for claimed in [addr("0.0.0.0:5000"), std::net::SocketAddr::new(host(1, 60).ip(), 5000)] {
        let claim = Join { listen: Some(claimed), ..net.join_message(1, 60, "news") };
        assert!(matches!(net.ask(host(1, 60), index_addr(1), claim), Some(Message::Joined(_))));
        assert_eq!(
            net.join(1, 50, "news").expect("joined").members.len(),
            0,
            "{claimed}: a neighbour behind one translation"
        );
    }
    net.join(1, 60, "news").expect("joined");
    assert_eq!(net.join(1, 50, "news").expect("joined").members[0].addr, host(1, 60), "where it was seen");
}

#[test]
fn every_peer_is_told_when_n_has_changed_by_a_fifth() {
    let mut net = Net::two_domains(|config| config.size_changed_per_tick = 7);
    net.live(1, 1, "news", 7);
    for n in 0..30 {
        net.join(1, 100 + n, "news").expect("joined");
    }
    net.pass(Span::from_secs(1));
    for fake in net.fakes.values_mut() {
        fake.heard.clear();
    }
    for n in 0..10 {
        net.join(1, 200 + n, "news").expect("joined");
    }
    net.pass(Span::from_secs(2));
    let told = |n: u16| {
        net.fakes[&host(1, n)].heard.iter().rev().find_map(|(_, m)| match m {
            Message::SizeChanged(changed) => Some(changed.size),
            _ => None,
        })
    };
    assert!((100..130).all(|n| told(n).is_some_and(|size| (36..=40).contains(&size))), "{:?}", told(100));
}

#[test]
fn an_answer_of_forty_ipv6_members_fits_a_datagram() {
    let mut net = Net::two_domains(|config| (config.members_min, config.members_factor) = (40, 100.0));
    let epoch = net.live(1, 1, "news", 7);
    for n in 1..=60u16 {
        let from = addr(&format!("[2001:db8::{n:x}]:9000"));
        let answer = net.ask(from, index_addr(1), net.join_message(1, n, "news"));
        assert!(matches!(answer, Some(Message::Joined(_))));
    }
    let keys = List::first_of((1..=3).map(|n| StreamKey { epoch: Epoch(n), key: [n as u8; 32] }));
    net.ask(host(1, 1), index_addr(1), CacheKeys { advertise: host(1, 1), stream: name("news"), keys });
    net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
    let joined = net.join(1, 99, "news").expect("joined");
    assert_eq!(joined.keys.len(), 4);
    assert!((35..40).contains(&joined.members.len()), "{}", joined.members.len());
}

#[test]
fn a_cache_is_told_where_to_fetch_what_a_viewer_wants_of_it() {
    let mut net = Net::two_domains(no_change);
    net.live(1, 1, "news", 7);
    net.cache_reports(2, 1, 0);
    net.cache_reports(2, 2, 0);
    let resolve = |net: &mut Net, n| {
        let question = Resolve { advertise: host(2, n), stream: name("news") };
        match net.ask(host(2, n), index_addr(2), question) {
            Some(Message::Resolved(resolved)) => resolved,
            other => panic!("resolved: {other:?}"),
        }
    };
    let first = resolve(&mut net, 1);
    assert_eq!((first.parents.to_vec(), first.keys[0].key), (vec![host(1, 1)], publisher(7).public()));
    net.cache_holds(2, 1, "news", HoldState::Relay, Epoch(1));
    assert_eq!(resolve(&mut net, 2).parents.to_vec(), [host(2, 1)], "the domain fetches a stream once");
    net.cache_holds(2, 2, "news", HoldState::Relay, Epoch(1));
    assert_eq!(resolve(&mut net, 1).parents[0], host(1, 1), "never from one that may fetch from it");
}

#[test]
fn an_index_server_that_was_restarted_gets_its_memory_back() {
    let mut net = Net::two_domains(no_change);
    let epoch = net.live(1, 1, "news", 7);
    net.start_index(1, no_change);
    let news = HeldStream {
        stream: stream_id(&name("news")),
        state: HoldState::Origin,
        epoch,
        head: Default::default(),
        viewers: 0,
    };
    let streams = CacheStreams { advertise: host(1, 1), streams: List::first_of([news]) };
    let answer = net.ask(host(1, 1), index_addr(1), streams);
    assert!(matches!(answer, Some(Message::Refused(refused)) if refused.reason == RefusalReason::NotJoined));
    net.cache_reports(1, 1, 100);
    net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
    let joined = net.join(1, 50, "news").expect("joined");
    assert_eq!(
        joined.keys.to_vec(),
        [StreamKey { epoch, key: publisher(7).public() }],
        "the route server still had the keys"
    );

    net.dead.push(route_addr());
    net.start_index(1, no_change);
    net.cache_reports(1, 1, 100);
    net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
    let keys = List::first_of([StreamKey { epoch, key: publisher(7).public() }]);
    net.ask(host(1, 1), index_addr(1), CacheKeys { advertise: host(1, 1), stream: name("news"), keys });
    let joined = net.join(1, 51, "news").expect("joined");
    assert_eq!(joined.keys.to_vec(), [StreamKey { epoch, key: publisher(7).public() }], "the cache had them");
}
