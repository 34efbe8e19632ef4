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
    /// Chunks that were pushed, of all that were kept.
    pushed: f64,
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
        pushed: sum(|s| s.chunks_pushed) / sum(|s| s.chunks_verified),
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
        assert_eq!(seen.pushed > 0.0, profile.tuning().push, "{profile:?}: {seen:?}");
    }
}

#[test]
fn peers_of_all_profiles_are_one_swarm() {
    let seen = seen(&swarm(2, &[Profile::Classic, Profile::Mid, Profile::Low].map(Profile::tuning)));
    println!("{seen:?}");
    assert!(seen.continuity_min >= 0.99 && seen.offload > 0.6, "{seen:?}");
}

#[test]
fn leaders_that_die_are_followed_by_others() {
    let mut net = swarm(3, &[Tuning { push: true, ..Profile::Low.tuning() }]);
    let (dead, living): (Vec<_>, Vec<_>) = net.viewers.keys().copied().partition(|node| node % 3 == 0);
    let sum = |net: &Net| {
        let stats = |node: &usize| net.viewers[node].peer.stats();
        living
            .iter()
            .map(stats)
            .fold([0; 3], |sum, s| [sum[0] + s.chunks_due, sum[1] + s.chunks_played, sum[2] + s.chunks_pushed])
    };
    net.run(10_000);
    let before = sum(&net);
    dead.into_iter().for_each(|node| net.kill(node));
    net.run(20_000);
    let after = sum(&net);
    let [due, played, pushed] = std::array::from_fn(|i| after[i] - before[i]);
    println!("{due} due, {played} played, {pushed} pushed");
    assert!(played * 100 >= due * 99, "{played} of {due}");
    assert!(pushed * 10 >= played, "{pushed} of {played}");
}
