//! Every value that cannot be is named, with the reason and what to write instead.

mod kit;

use kit::{ENDLESS, no_plan, players};
use weircast_planner::scenario::{Domains, Latency, Scenario, Streams, Survive, Zipf};

fn says(change: impl FnOnce(&mut Scenario), sentence: &str) {
    let mut scenario = players(1_000, 2_000.0, ENDLESS);
    scenario.audience.players = 0.0;
    change(&mut scenario);
    let said = no_plan(&scenario);
    assert_eq!(said, sentence);
}

#[test]
fn viewers_and_streams() {
    says(
        |scenario| scenario.viewers = 0,
        "viewers = 0: there is nobody to plan for; write the number of viewers at the peak, at least 1",
    );
    says(
        |scenario| scenario.viewers = -5,
        "viewers = -5: there is nobody to plan for; write the number of viewers at the peak, at least 1",
    );
    says(
        |scenario| scenario.streams[0].kbps = -2_000.0,
        "stream.kbps = -2000: a stream has a rate above 0; write kbit/s: 2000 for 2 Mbit/s",
    );
    says(
        |scenario| scenario.streams[0].kbps = f64::NAN,
        "stream.kbps = NaN: a stream has a rate above 0; write kbit/s: 2000 for 2 Mbit/s",
    );
    says(
        |scenario| scenario.streams[0].kbps = 50_000.0,
        "stream.kbps = 50000: a chunk of 200 ms holds 1 MiB, that is 41943 kbit/s; lower the rate, or divide the stream",
    );
    says(
        |scenario| scenario.streams.clear(),
        "stream = nothing: there is nothing to watch; add [[stream]] with kbps and share, or [zipf] with streams, kbps and \
         exponent",
    );
    says(
        |scenario| scenario.streams = vec![Streams { kbps: 100.0, count: 30_000, share: 1.0 }],
        "stream.count = 30000: an index server knows 20000 streams at the most; plan for 20000 streams or fewer",
    );
    says(
        |scenario| scenario.zipf = Some(Zipf { streams: 5, kbps: 100.0, exponent: -1.0, share: 1.0 }),
        "zipf.exponent = -1: the k-th stream has viewers in proportion to k^-exponent; write 0 (all alike) to 5; 1 when nothing better is \
         known",
    );
    says(
        |scenario| scenario.streams[0].share = 0.0,
        "stream.share = 0: all shares together are divided by their sum; give one of them more than 0",
    );
}

#[test]
fn the_audience() {
    says(
        |scenario| scenario.audience.uplinks[0].mbps = -1.0,
        "audience.uplink.mbps = -1: no access link uploads at such a rate; write Mbit/s from 0 (uploads nothing) to 100000",
    );
    says(
        |scenario| scenario.audience.uplinks.clear(),
        "audience.uplink = nothing: what peers can upload decides how much the caches must send; add [[audience.uplink]] with \
         share and mbps",
    );
    says(
        |scenario| scenario.audience.free_riders = 1.5,
        "audience.free_riders = 1.5: it is a share of all; write 0 to 1: 0.1 for a tenth",
    );
    says(
        |scenario| (scenario.viewers, scenario.audience.areas) = (200_000, Some(3)),
        "audience.areas = 3: PeerIDs name 65536 peers of an area, 196608 in all of these, and 200000 are planned for; plan for \
         4 areas or more (finer [[location]] entries of the route server make more), or for fewer viewers",
    );
}

#[test]
fn domains_hardware_and_targets() {
    says(
        |scenario| scenario.survive = Survive::Domain,
        "survive = \"domain\": with one domain nobody is left when a domain fails; plan for 2 domains or more, or survive = \
         \"node\"",
    );
    says(
        |scenario| scenario.domains = Domains { count: 3, shares: vec![1.0, 2.0] },
        "domains.count = 3: there are 2 shares; leave one of the two out",
    );
    says(
        |scenario| scenario.domains.count = -2,
        "domains.count = -2: a deployment has 1 to 1000 domains; write their number, or 0 for as many as are needed",
    );
    says(
        |scenario| scenario.cache.cores = 0.0,
        "cache.cores = 0: a server runs on 1 to 1023 cores; write how many it may use",
    );
    says(
        |scenario| scenario.cache.memory_mib = -1,
        "cache.memory_mib = -1: no server has so much memory; write MiB: 16384 for 16 GiB",
    );
    says(
        |scenario| scenario.headroom = 1.0,
        "headroom = 1: head-room is the share of every resource that stays free; write 0 to 0.9; 0.2 keeps a fifth free",
    );
    says(
        |scenario| scenario.latency = Latency::Low,
        "latency = \"low\": the table of offload is of \"classic\"; make one with `weircast-plan simulate --latency low`",
    );
}

#[test]
fn an_unknown_key_is_an_error() {
    let example = include_str!("../examples/evening.toml");
    assert!(toml::from_str::<Scenario>(example).is_ok());
    let typo = example.replace("headroom", "head_room");
    let error = toml::from_str::<Scenario>(&typo).expect_err("a typo").to_string();
    assert!(error.contains("unknown field `head_room`"), "{error}");
}
