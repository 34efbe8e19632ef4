//! Latency profiles: how near to the publisher a swarm can play while its peers still help.

#[allow(dead_code, reason = "the other tests use more of it")]
mod peer_net;

use cache_core::proto::peer::{Profile, Tuning};
use peer_net::Net;

#[derive(Debug)]
struct Seen {
    continuity_min: f64,
    offload: f64,
    lag_ms_max: u64,
    startup_ms_max: u64,
}

/// Thirty viewers with uplinks of 1.5 times the stream, `tunings` dealt round.
fn swarm(seed: u64, tunings: &[Tuning]) -> Net {
    let mut net = Net::new(seed, 1_000, 2);
    net.uplink_kbps = 3_000;
    net.run(10_000);
    for n in 0..30 {
        net.watch(Tuning { upload_kbps: 3_000, ..tunings[n % tunings.len()].clone() });
        net.run(170);
    }
    net.run(40_000);
    net
}

fn seen(net: &Net) -> Seen {
    let stats = || net.viewers.values().map(|v| v.peer.stats());
    let sum = |of: fn(&cache_core::proto::peer::Stats) -> u64| stats().map(of).sum::<u64>() as f64;
    let (peers, caches) = (sum(|s| s.bytes_from_peers), sum(|s| s.bytes_from_caches));
    let lags = net.viewers.values().filter_map(|v| v.played.last());
    let startups =
        net.viewers.values().map(|v| v.played.first().map_or(u64::MAX, |(_, at)| at.since(v.launched).millis()));
    Seen {
        continuity_min: stats().map(|s| s.continuity()).fold(1.0, f64::min),
        offload: peers / (peers + caches),
        lag_ms_max: lags.map(|(seq, at)| at.since(net.published[seq].1).millis()).max().unwrap_or(u64::MAX),
        startup_ms_max: startups.max().unwrap_or(u64::MAX),
    }
}

#[test]
fn each_profile_keeps_its_lag_and_its_peers_help() {
    for (profile, lag_ms, offload) in
        [(Profile::Classic, 12_000, 0.8), (Profile::Mid, 6_000, 0.75), (Profile::Low, 3_000, 0.6)]
    {
        let seen = seen(&swarm(1, &[profile.tuning()]));
        println!("{profile:?}: {seen:?}");
        assert!(seen.continuity_min >= 0.98, "{profile:?}: {seen:?}");
        assert!(seen.lag_ms_max <= lag_ms && seen.offload > offload, "{profile:?}: {seen:?}");
        assert!(seen.startup_ms_max <= 1_000, "{profile:?}: {seen:?}");
    }
}

#[test]
fn peers_of_all_profiles_are_one_swarm() {
    let seen = seen(&swarm(2, &[Profile::Classic, Profile::Mid, Profile::Low].map(Profile::tuning)));
    println!("{seen:?}");
    assert!(seen.continuity_min >= 0.99 && seen.offload > 0.6, "{seen:?}");
}
