//! Whole swarms in a network in memory: the protocol works before a socket exists.
//!
//! A failing run is repeated by its seed: the network, the machines and their chance follow from it.

mod peer_net;

use cache_core::proto::peer::{End, Input, State, Stats, Tuning};
use cache_core::time::{Span, Time};
use cache_core::units::Epoch;
use peer_net::{Net, NodeId};

/// What a swarm did, summed up over the living.
#[derive(Debug)]
struct Report {
    continuity_min: f64,
    offload: f64,
    missed: u64,
    startup_ms_max: u64,
    lag_ms_max: u64,
    wrong: u64,
}

fn living(net: &Net) -> impl Iterator<Item = (NodeId, &Stats)> {
    net.viewers.iter().filter(|(_, v)| v.alive && !v.frozen).map(|(n, v)| (*n, v.peer.stats()))
}

fn report(net: &Net) -> Report {
    let sum = |of: fn(&Stats) -> u64| living(net).map(|(_, s)| of(s)).sum::<u64>();
    let (peers, caches) = (sum(|s| s.bytes_from_peers), sum(|s| s.bytes_from_caches));
    let watching = || net.viewers.values().filter(|v| v.alive && !v.frozen);
    let startup = watching().map(|v| v.played.first().map_or(u64::MAX, |(_, at)| at.since(v.launched).millis()));
    let lag = watching().filter_map(|v| v.played.last()).map(|(seq, at)| at.since(net.published[seq].1).millis());
    Report {
        continuity_min: living(net).map(|(_, s)| s.continuity()).fold(1.0, f64::min),
        offload: peers as f64 / (peers + caches).max(1) as f64,
        missed: sum(|s| s.chunks_missed),
        startup_ms_max: startup.max().unwrap_or(u64::MAX),
        lag_ms_max: lag.max().unwrap_or(0),
        wrong: sum(|s| s.chunks_wrong),
    }
}

/// A stream that has run for ten seconds and `count` viewers who come `apart_ms` one after the other.
fn swarm(seed: u64, count: usize, apart_ms: u64, tuning: &Tuning) -> Net {
    let mut net = Net::new(seed, 0, 2);
    net.run(10_000);
    for _ in 0..count {
        net.watch(tuning.clone());
        net.run(apart_ms);
    }
    net
}

#[test]
fn twenty_peers_play_without_a_gap_and_mostly_from_each_other() {
    let mut net = swarm(1, 20, 50, &Tuning::default());
    net.run(60_000);
    let r = report(&net);
    println!("{r:?}");
    assert_eq!((r.continuity_min, r.missed, r.wrong), (1.0, 0, 0));
    assert!(r.offload > 0.8, "{r:?}");
    assert!(r.startup_ms_max < 1_000, "{r:?}");
}
