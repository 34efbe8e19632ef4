use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::List;
use cache_core::wire::datagram::{Challenge, Cookie};
use cache_core::wire::exchange::{Have, PartnersQuery};

use super::*;
use crate::scenario::Network;
use crate::world::chance;
use crate::world::chunks::Cut;

const CHUNK_BYTES: u64 = 50_000;

/// Two peers at one place, 5 ms from each other, 2 Mbit/s up and down; one chunk.
fn pair(loss_permille: f64, jitter: f64) -> (Fabric, u32, u32) {
    let map = Map::new(&Network { regions: 4, ..Network::default() });
    let chunks = Chunks::new(StreamId(1), CHUNK_BYTES as u32);
    let rng = chance::stream(1, "test");
    let mut fabric = Fabric::new(map, chunks, rng, loss_permille, jitter, Invariants::new(Time::ZERO));
    let at = fabric.map.middle(0);
    let mut peer = || fabric.add_peer(at, 0).expect("room");
    let (a, b) = (peer(), peer());
    for node in [a, b] {
        fabric.hosts[node as usize].up_bps = 2_000_000;
        fabric.hosts[node as usize].down_bps = 2_000_000;
    }
    let cut = Cut { seq: ChunkSeq::new(1), epoch: Epoch(1), at: Time::ZERO, take: 1, join_point: false };
    fabric.chunks.enter(cut);
    (fabric, a, b)
}

/// A link from one to the other that stands, and nothing on its way.
fn linked(fabric: &mut Fabric, from: u32, to: u32) -> u32 {
    let addr = fabric.host(to).addr();
    let link = fabric.dial(from, 1, addr);
    fabric.links[link as usize].open = [true, true];
    arrivals(fabric);
    link
}

/// What arrives, and when: `c` a chunk, `f` a frame, `d` a datagram.
fn arrivals(fabric: &mut Fabric) -> Vec<(u64, char)> {
    let mut all = Vec::new();
    while let Some((at, event)) = fabric.queue.take(Time::from_millis(100_000)) {
        fabric.now = at;
        let Some(event) = fabric.waits(event) else { continue };
        all.push((
            at.micros(),
            match event {
                Event::Link { what: What::Chunk { .. }, .. } => 'c',
                Event::Link { what: What::Frame { .. }, .. } => 'f',
                Event::Datagram { .. } => 'd',
                _ => continue,
            },
        ));
    }
    all
}

fn datagram() -> Datagram {
    Datagram { exchange: 1, cookie: Cookie::default(), message: Challenge {}.into() }
}

#[test]
fn a_rate_is_a_rate_and_delays_come_on_top() {
    let (mut fabric, a, b) = pair(0.0, 0.0);
    let link = linked(&mut fabric, a, b);
    let start = fabric.now.micros();
    (0..10).for_each(|_| fabric.send_chunk(link, 0, 0, 0));
    let took: Vec<u64> = arrivals(&mut fabric).iter().map(|(at, _)| at - start).collect();
    let one = transmission_us(fabric.wire_bytes_of_chunk(), 2_000_000);
    assert!(one > 200_000 && one < 210_000, "50 KB at 2 Mbit/s with the segments' headers: {one}");
    assert_eq!(took, (1..=10).map(|n| n * one + 5_000).collect::<Vec<_>>());
}

#[test]
fn the_downlink_is_shared_by_all_who_send_to_it() {
    let (mut fabric, a, b) = pair(0.0, 0.0);
    let c = fabric.add_peer(fabric.map.middle(0), 0).expect("room");
    fabric.hosts[c as usize].up_bps = 20_000_000;
    let (one, other) = (linked(&mut fabric, a, b), linked(&mut fabric, c, b));
    let start = fabric.now.micros();
    (0..5).for_each(|_| {
        fabric.send_chunk(one, 0, 0, 0);
        fabric.send_chunk(other, 0, 0, 0);
    });
    let last = arrivals(&mut fabric).last().map(|(at, _)| at - start).expect("arrived");
    let transmission = transmission_us(fabric.wire_bytes_of_chunk(), 2_000_000);
    assert!(last >= 10 * transmission && last < 11 * transmission, "{last}");
}

#[test]
fn nothing_overtakes_on_a_link_whatever_is_lost() {
    let (mut fabric, a, b) = pair(100.0, 0.9);
    fabric.hosts[a as usize].up_bps = 0;
    fabric.hosts[b as usize].down_bps = 0;
    let link = linked(&mut fabric, a, b);
    let mut sent = String::new();
    for n in 0..200 {
        if n % 3 == 0 {
            fabric.send_chunk(link, 0, 0, 0);
            sent.push('c');
        } else {
            fabric.send(link, 0, PartnersQuery {}.into());
            sent.push('f');
        }
    }
    let all = arrivals(&mut fabric);
    assert_eq!(all.iter().map(|(_, what)| *what).collect::<String>(), sent);
    assert!(all.last().map_or(0, |(at, _)| *at) > RETRANSMIT_US, "some were lost and sent again");
}

#[test]
fn datagrams_are_lost_as_often_as_was_said() {
    let (mut fabric, a, b) = pair(100.0, 0.0);
    let to = fabric.host(b).addr();
    (0..5_000).for_each(|_| fabric.datagram(a, to, datagram()));
    let arrived = arrivals(&mut fabric).len();
    assert!((4_400..4_600).contains(&arrived), "{arrived} of 5000 with 10 % lost");
}

#[test]
fn a_partition_loses_datagrams_and_holds_links_up_until_it_is_healed() {
    let (mut fabric, a, _) = pair(0.0, 0.0);
    let far = fabric.add_peer(fabric.map.middle(3), 0).expect("room");
    let link = linked(&mut fabric, a, far);
    let healed = Time::from_millis(30_000);
    let cut = |one_way| Partition { from: Who::Region(0), to: Who::Region(3), one_way, until: healed };
    fabric.partitions.push(cut(false));
    let (near_addr, far_addr) = (fabric.host(a).addr(), fabric.host(far).addr());
    fabric.datagram(a, far_addr, datagram());
    fabric.datagram(far, near_addr, datagram());
    fabric.send(link, 0, PartnersQuery {}.into());
    let all = arrivals(&mut fabric);
    assert_eq!(all.iter().map(|(_, what)| *what).collect::<String>(), "f");
    assert!(all[0].0 >= healed.micros() + RETRANSMIT_US);
    fabric.now = Time::from_millis(1);
    fabric.partitions = vec![cut(true)];
    fabric.datagram(a, far_addr, datagram());
    fabric.datagram(far, near_addr, datagram());
    assert_eq!(arrivals(&mut fabric).len(), 1, "only one way");
}

#[test]
fn who_cannot_be_dialled_is_reached_where_it_has_spoken_from() {
    let (mut fabric, a, b) = pair(0.0, 0.0);
    fabric.hosts[b as usize].dialable = false;
    let (own, seen) = (fabric.host(b).addr(), fabric.source(b));
    fabric.datagram(a, own, datagram());
    assert_eq!(arrivals(&mut fabric).len(), 0);
    fabric.datagram(a, seen, datagram());
    assert_eq!(arrivals(&mut fabric).len(), 1);
}

#[test]
fn news_of_one_chunk_is_as_long_as_its_frame() {
    let (mut fabric, a, b) = pair(0.0, 0.0);
    let link = linked(&mut fabric, a, b);
    let mut taken = |seqs: &[u64]| {
        let before = fabric.traffic.control;
        let seqs = seqs.iter().map(|seq| ChunkSeq::new(*seq));
        let frame = Frame::from(Have { seqs: List::first_of(seqs) });
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        fabric.send(link, 0, frame);
        // Both ends are peers, and each counts it.
        ((fabric.traffic.control - before) / 2, bytes.len() as u64 + HEADERS_BYTES)
    };
    for seqs in [&[7][..], &[7, 9], &[]] {
        let (counted, encoded) = taken(seqs);
        assert_eq!(counted, encoded, "{} chunks", seqs.len());
    }
}
