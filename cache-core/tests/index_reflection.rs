//! Nobody can use an index or route server to send more than was sent to it, or make it remember anything, before its
//! address is proved.

mod index_support;

use cache_core::peer_id::PeerId;
use cache_core::sign::ClusterKey;
use cache_core::time::Time;
use cache_core::units::{DomainId, Epoch, StreamId};
use cache_core::wire::datagram::{Challenge, Cookie, Datagram, Message};
use cache_core::wire::index::*;
use cache_core::wire::route::*;
use cache_core::wire::{Blob, List, RefusalReason, Refused};
use index_support::*;
use proptest::prelude::*;

fn messages() -> Vec<Message> {
    let (stream, peer, keys) = (name("news"), PeerId::new(Default::default(), 9), List::new());
    let (cache, id, ticket) = (host(1, 1), StreamId(5), Blob::new(&[7; 200]).expect("short enough"));
    vec![
        Challenge {}.into(),
        Refused::because(RefusalReason::Full).into(),
        RouteJoin { previous: peer, ticket: ticket.clone() }.into(),
        RouteJoin { previous: PeerId::NONE, ticket: Blob::default() }.into(),
        RouteLeave { peer }.into(),
        Join { stream: stream.clone(), peer, listen: None, ticket: Blob::default() }.into(),
        Join { stream: stream.clone(), peer, listen: Some(addr("10.9.9.9:9")), ticket }.into(),
        PeerHeartbeat { stream: id, peer }.into(),
        PeerHeartbeatAck { stream: id, size: 1 }.into(),
        PeerLeave { stream: id, peer }.into(),
        SizeChanged { stream: id, size: 1 }.into(),
        DialBack { nonce: 1 }.into(),
        DialBackAck { nonce: 1 }.into(),
        KeysQuery { stream: stream.clone() }.into(),
        PublishRequest {
            stream: stream.clone(),
            key: [1; 32],
            proof: [0; 32],
            possession: [0; 64],
            takeover: true,
            at_cache: None,
            ticket: Blob::default(),
        }
        .into(),
        CacheReport { advertise: cache, load_permille: 0, viewers: 0, draining: false }.into(),
        CacheReportAck { others: List::new() }.into(),
        CacheStreams { advertise: cache, streams: List::new() }.into(),
        CacheKeys { advertise: cache, stream: stream.clone(), keys: keys.clone() }.into(),
        CachePullAck { stream: id }.into(),
        Resolve { advertise: cache, stream: stream.clone() }.into(),
        LocateStream { domain: DomainId(1), stream: stream.clone() }.into(),
        StreamAnnounce {
            domain: DomainId(1),
            stream,
            origin: true,
            epoch: Epoch(1),
            head: Default::default(),
            keys,
            caches: List::first_of([cache]),
            live: true,
        }
        .into(),
    ]
}

/// Sends `packet` to the route server and to an index server that have a live stream; bytes that came out, at most.
fn bytes_out(net: &mut Net, packet: &[u8]) -> usize {
    let (stranger, now, cluster) = (addr("203.0.113.9:53"), net.now, net.cluster.clone());
    let mut most = 0;
    for at in [route_addr(), index_addr(1)] {
        let machine = net.machines.get_mut(&at).expect("there");
        let out = machine.packet(now, stranger, packet, &cluster);
        most = most.max(out.iter().map(|(_, bytes)| bytes.len()).sum());
    }
    most
}

fn live_net() -> Net {
    let mut net = Net::two_domains(|_| ());
    net.live(1, 1, "news", 7);
    // Housekeeping of the same moment is done: what comes out is for the packet alone.
    net.pass(cache_core::time::Span::from_millis(50));
    net
}

#[test]
fn no_message_draws_more_bytes_than_it_has_from_an_unproved_address() {
    let mut net = live_net();
    for message in messages() {
        let kind = message.name();
        let packet = Datagram { exchange: 1, cookie: Cookie([3; 16]), message }.encode(&net.cluster).expect("fits");
        let out = bytes_out(&mut net, &packet);
        assert!(out <= packet.len(), "{kind}: {out} bytes for {}", packet.len());
    }
    let stats = net.index(1).stats();
    assert_eq!((stats.peers, stats.dial_backs, stats.caches_live, stats.known_streams), (0, 0, 1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Cut, flipped, of another version or cluster: the rule holds for any bytes.
    #[test]
    fn no_bytes_at_all_draw_more_than_they_are(
        which in 0usize..22,
        cookie in prop::array::uniform16(any::<u8>()),
        flips in prop::collection::vec((0usize..300, any::<u8>()), 0..4),
        cut in 0usize..300,
        foreign in any::<bool>(),
    ) {
        let mut net = live_net();
        let cluster = if foreign { ClusterKey::derive("another") } else { net.cluster.clone() };
        let message = messages().swap_remove(which);
        let mut packet = Datagram { exchange: 1, cookie: Cookie(cookie), message }.encode(&cluster).expect("fits");
        for (at, bits) in flips {
            if let Some(byte) = packet.get_mut(at) { *byte ^= bits; }
        }
        packet.truncate(packet.len().saturating_sub(cut.saturating_sub(100)));
        prop_assert!(bytes_out(&mut net, &packet) <= packet.len());
    }

    #[test]
    fn garbage_is_met_with_silence(packet in prop::collection::vec(any::<u8>(), 0..1500)) {
        prop_assume!(!packet.starts_with(b"WC"));
        prop_assert_eq!(bytes_out(&mut live_net(), &packet), 0);
    }
}

#[test]
fn a_cookie_is_good_at_its_own_address_only() {
    let mut net = live_net();
    let join = net.join_message(1, 50, "news");
    let cluster = net.cluster.clone();
    let machine = net.machines.get_mut(&index_addr(1)).expect("there");
    let mut ask = |from, cookie| {
        let packet = Datagram { exchange: 1, cookie, message: join.clone().into() }.encode(&cluster).expect("fits");
        let mut out = machine.packet(Time::from_millis(300), from, &packet, &cluster);
        let (to, bytes) = out.pop().expect("an answer");
        assert_eq!((to, out.len()), (from, 0));
        Datagram::decode(&bytes, &cluster).expect("readable")
    };
    let challenge = ask(host(1, 50), Cookie::default());
    assert_eq!(challenge.message, Challenge {}.into());
    assert_eq!(ask(host(1, 51), challenge.cookie).message, Challenge {}.into());
    assert!(matches!(ask(host(1, 50), challenge.cookie).message, Message::Joined(_)));
}
