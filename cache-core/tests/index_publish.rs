//! Who may publish a name, and under which term.

mod index_support;

use cache_core::proto::asker::Credentials;
use cache_core::proto::index::publish::{PublishRule, PublishRules};
use cache_core::sign::stream_id;
use cache_core::time::Span;
use cache_core::units::ChunkSeq;
use cache_core::wire::RefusalReason;
use cache_core::wire::datagram::Message;
use cache_core::wire::index::*;
use index_support::*;

fn with_secret(config: &mut cache_core::proto::index::IndexConfig) {
    config.publish = PublishRules::new(vec![PublishRule { name: "live-*".into(), secret: "s3cret".into() }]);
}

/// Cache 1 of `domain` goes on reporting "stream" as its own for `seconds`.
fn goes_on(net: &mut Net, domain: u8, stream: &str, state: HoldState, epoch: cache_core::units::Epoch, seconds: u64) {
    for _ in 0..seconds {
        net.pass(Span::from_secs(1));
        net.cache_reports(domain, 1, 100);
        net.cache_holds(domain, 1, stream, state, epoch);
    }
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    goes_on(&mut net, 1, "news", HoldState::Origin, epoch, 8);
    let refused = net.publish(1, 901, "news", 8, None, false).expect_err("refused");
    assert_eq!(refused.reason, RefusalReason::NameTaken);
    let refused = net.publish(1, 901, "news", 8, None, true).expect_err("an open name cannot be taken over");
    assert_eq!(refused.reason, RefusalReason::NameTaken);
    assert_eq!(net.index(1).stats().name_taken, 2);
}

#[test]
fn the_same_publisher_comes_again_under_a_greater_term_and_numbering_goes_on() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    let repeated = net.publish(1, 900, "news", 7, None, false).expect("granted");
    assert_eq!(repeated.epoch, epoch, "within a few seconds it is the same request");
    goes_on(&mut net, 1, "news", HoldState::Origin, epoch, 8);
    net.cache_reports(1, 2, 0);
    let again = net.publish(1, 900, "news", 7, None, false).expect("granted");
    assert!(again.epoch > epoch);
    assert_eq!(again.next, ChunkSeq::new(42), "behind the newest chunk that a cache has");
    assert_eq!(again.caches.to_vec(), [host(1, 1), host(1, 2)], "where its chunks are, though the other is idle");
}

#[test]
fn who_only_names_a_publishers_key_cannot_ask_in_its_name() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    for _ in 0..6 {
        goes_on(&mut net, 1, "news", HoldState::Origin, epoch, 6);
        // All viewers know the key; a signature by another proves nothing.
        let forged = PublishRequest { possession: [9; 64], ..request_for("news", 7) };
        let answer = net.ask(host(1, 66), index_addr(1), forged);
        assert!(
            matches!(&answer, Some(Message::Refused(no)) if no.reason == RefusalReason::BadSignature),
            "{answer:?}"
        );
    }
    let joined = net.join(1, 50, "news").expect("joined");
    assert_eq!(joined.keys.to_vec(), [StreamKey { epoch, key: publisher(7).public() }], "no term was begun");
}

#[test]
fn a_silent_publisher_is_succeeded_by_another() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    goes_on(&mut net, 1, "news", HoldState::Stalled, epoch, 4);
    let grant = net.publish(1, 901, "news", 8, None, false).expect("granted");
    assert!(grant.epoch > epoch);
    let keys = net.ask(host(1, 50), index_addr(1), KeysQuery { stream: name("news") });
    let Some(Message::Keys(keys)) = keys else { panic!("keys: {keys:?}") };
    let both = [8, 7].map(|key| publisher(key).public());
    assert_eq!(keys.keys.iter().map(|k| k.key).collect::<Vec<_>>(), both, "both terms' chunks are in windows");
}

#[test]
fn a_name_with_a_secret_needs_it_and_can_be_taken_over_with_it() {
    let mut net = Net::two_domains(with_secret);
    net.cache_reports(1, 1, 0);
    for wrong in [None, Some("guess")] {
        let refused = net.publish(1, 900, "live-one", 7, wrong, false).expect_err("refused");
        assert_eq!(refused.reason, RefusalReason::NotAuthorised);
    }
    let grant = net.publish(1, 900, "live-one", 7, Some("s3cret"), false).expect("granted");
    net.cache_holds(1, 1, "live-one", HoldState::Origin, grant.epoch);
    let refused = net.publish(1, 901, "live-one", 8, Some("s3cret"), false).expect_err("taken");
    assert_eq!(refused.reason, RefusalReason::NameTaken);
    let taken = net.publish(1, 901, "live-one", 8, Some("s3cret"), true).expect("taken over");
    assert!(taken.epoch > grant.epoch);
    net.publish(1, 902, "other", 9, None, false).expect("a name that no rule names is open");
}

#[test]
fn a_name_that_is_live_in_another_domain_is_taken() {
    let mut net = Net::two_domains(with_secret);
    let epoch = net.live(1, 1, "news", 7);
    net.cache_reports(2, 1, 0);
    let refused = net.publish(2, 901, "news", 8, None, false).expect_err("refused");
    assert_eq!(refused.reason, RefusalReason::NameTaken);
    let moved = net.publish(2, 900, "news", 7, None, false).expect("the same publisher moves");
    assert!(moved.epoch > epoch);
}

#[test]
fn relays_of_its_own_stream_elsewhere_do_not_keep_a_publisher_out() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    net.cache_reports(2, 1, 0);
    net.cache_holds(2, 1, "news", HoldState::Relay, epoch);
    net.join(2, 50, "news").expect("joined");
    goes_on(&mut net, 1, "news", HoldState::Stalled, epoch, 4);
    net.cache_reports(2, 1, 0);
    net.cache_holds(2, 1, "news", HoldState::Relay, epoch);
    net.pass(Span::from_millis(200));
    net.publish(1, 901, "news", 8, None, false).expect("the other domain only relays the silent one");
}

#[test]
fn an_older_publishers_cache_is_told_to_fetch_from_the_newer_ones() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    net.cache_reports(1, 2, 0);
    let request = PublishRequest { at_cache: Some(host(1, 2)), ..request_for("news", 7) };
    goes_on(&mut net, 1, "news", HoldState::Origin, epoch, 6);
    net.cache_reports(1, 2, 0);
    let credentials = Credentials { key: publisher(7), secret: None };
    let answer = net.ask_with(host(1, 2), index_addr(1), request, Some(credentials));
    let Some(Message::PublishGrant(grant)) = answer else { panic!("granted: {answer:?}") };
    assert_eq!(grant.caches.to_vec(), [host(1, 2)], "an HTTP publisher stays where it is");
    net.cache_holds(1, 2, "news", HoldState::Origin, grant.epoch);
    net.cache_holds(1, 1, "news", HoldState::Origin, epoch);
    let order = net.fakes[&host(1, 1)].heard.iter().find_map(|(_, message)| match message {
        Message::CachePull(pull) => Some((stream_id(&pull.stream), pull.parents.to_vec())),
        _ => None,
    });
    assert_eq!(order, Some((stream_id(&name("news")), vec![host(1, 2)])));
}

#[test]
fn a_cache_whose_publisher_went_to_another_within_its_term_is_told_to_fetch_from_there() {
    let mut net = Net::two_domains(|_| ());
    let epoch = net.live(1, 1, "news", 7);
    net.cache_reports(1, 2, 0);
    let ordered = |net: &mut Net| {
        net.pass(Span::from_millis(200));
        net.fakes[&host(1, 1)].heard.iter().filter(|(_, message)| matches!(message, Message::CachePull(_))).count()
    };
    net.cache_holds_up_to(1, 2, "news", HoldState::Origin, epoch, 41);
    net.cache_holds_up_to(1, 1, "news", HoldState::Stalled, epoch, 41);
    assert_eq!(ordered(&mut net), 0, "nobody has anything newer");
    net.cache_holds_up_to(1, 2, "news", HoldState::Origin, epoch, 44);
    net.cache_holds_up_to(1, 1, "news", HoldState::Origin, epoch, 41);
    assert_eq!(ordered(&mut net), 0, "it has chunks");
    net.cache_holds_up_to(1, 1, "news", HoldState::Stalled, epoch, 41);
    assert!(ordered(&mut net) > 0);
}

#[test]
fn without_a_cache_there_is_nowhere_to_publish() {
    let mut net = Net::two_domains(|_| ());
    let refused = net.publish(1, 900, "news", 7, None, false).expect_err("refused");
    assert_eq!((refused.reason, refused.retry_ms), (RefusalReason::NoCache, 1_000));
}
