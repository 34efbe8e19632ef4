//! Several shards: connections are spread evenly, and none is lost on its way from one to another.

mod shard_support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cache_core::ring::Recycle;
use cache_core::wire::Frame;
use cache_core::wire::exchange::Role;
use shard_support::*;
use weircast_server::cache::bridge::{ToControl, ToShard};
use weircast_server::cache::data::{self, ShardHandle, Siblings};

/// Shards that know each other, each on a port of its own, so that a test chooses who accepts.
fn shards(source: &Source, count: usize) -> Vec<(ShardHandle, SocketAddr)> {
    let siblings = Arc::new(Siblings::new(count));
    let one = |index: u32| {
        let listener = data::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shard = start(index, &source.ring, listener, addr, |config| {
            config.siblings = siblings.clone();
            config.connections_max = 400;
        });
        (shard, addr)
    };
    (0..count as u32).map(one).collect()
}

fn stop(mut shard: ShardHandle) {
    assert!(shard.tell(ToShard::Stop).is_ok(), "the queue has room");
    while !matches!(hear_any(&mut shard), ToControl::Stopped) {}
    assert!(shard.join(), "the shard did not panic");
}

fn spread(listeners: usize) {
    const VIEWERS: usize = 240;
    let mut source = Source::new(32, Recycle::Punch);
    source.publish(1, JOIN);
    let shards = shards(&source, 4);
    let mut viewers: Vec<_> = (0..VIEWERS).map(|n| Client::watching(shards[n % listeners].1).0).collect();
    let counts: Vec<_> = shards.iter().map(|(shard, _)| shard.counters.connections.get()).collect();
    assert_eq!(counts.iter().sum::<u64>(), VIEWERS as u64);
    assert!(counts.iter().all(|count| (50..=70).contains(count)), "60 each, or nearly: {counts:?}");
    let passed: u64 = shards.iter().map(|(shard, _)| shard.counters.accepted_passed.get()).sum();
    assert!(listeners > 1 || passed >= 170, "three of four were passed on: {passed}");
    // Whoever has been passed on is a viewer like any other.
    viewers.iter_mut().for_each(|viewer| {
        viewer.request(source.id, &[(1, 1)]);
        assert_eq!(viewer.chunk(), 1);
    });
    shards.into_iter().for_each(|(shard, _)| stop(shard));
}

#[test]
fn viewers_through_one_listener_end_up_on_all_shards() {
    spread(1);
}

#[test]
fn viewers_through_two_listeners_end_up_on_all_shards() {
    spread(2);
}

/// A viewer who was lost would wait until the test hangs.
fn everyone_is_answered_while_one_leaves(leave: ToShard) {
    let mut source = Source::new(32, Recycle::Punch);
    source.publish(1, JOIN);
    let mut shards = shards(&source, 2);
    let addr = shards[0].1;
    let over = Arc::new(AtomicBool::new(false));
    let crowds: Vec<_> = (0..2)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                let (mut served, mut closed) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    let mut client = Client::connect(addr);
                    client.send(hello(Role::Viewer));
                    match client.next() {
                        Got::Frame(Frame::Welcome(_)) => served += 1,
                        Got::End => closed += 1,
                        other => panic!("{other:?}"),
                    }
                }
                (served, closed)
            })
        })
        .collect();
    let counters: Vec<_> = shards.iter().map(|(shard, _)| shard.counters.clone()).collect();
    until("shard 1 is given viewers", || counters[1].accepted.get() > 50);
    let (mut leaving, _) = shards.pop().expect("two");
    assert!(leaving.tell(leave).is_ok(), "the queue has room");
    while !matches!(hear_any(&mut leaving), ToControl::Stopped) {}
    assert!(leaving.join(), "the shard did not panic");
    // One that shard 0 was passing on when the other left is counted before the next one is kept.
    let before = counters[0].accepted.get();
    until("shard 0 keeps one", || counters[0].accepted.get() > before);
    let (kept, passed) = (counters[0].accepted.get(), counters[0].accepted_passed.get());
    until("shard 0 goes on alone", || counters[0].accepted.get() > kept + 50);
    assert_eq!(counters[0].accepted_passed.get(), passed, "nobody is given to who has left");
    over.store(true, Ordering::Relaxed);
    let (served, closed) = crowds.into_iter().map(|crowd| crowd.join().expect("no panic")).fold((0, 0), |a, b| {
        let (b_served, b_closed): (u64, u64) = b;
        (a.0 + b_served, a.1 + b_closed)
    });
    assert!(served > closed, "{served} served, {closed} closed");
    shards.into_iter().for_each(|(shard, _)| stop(shard));
}

#[test]
fn nobody_is_lost_on_the_way_to_a_shard_that_stops() {
    everyone_is_answered_while_one_leaves(ToShard::Stop);
}

#[test]
fn nobody_is_lost_on_the_way_to_a_shard_that_drains() {
    everyone_is_answered_while_one_leaves(ToShard::Drain);
}
