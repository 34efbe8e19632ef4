//! Plans reckoned by hand: what is full first, what a failure costs, what peers save.

mod kit;

use kit::{ENDLESS, caches, costs, no_plan, planned, players, table};
use weircast_planner::calibration::{Calibration, Capacity};
use weircast_planner::node::Resource;
use weircast_planner::plan::{Planner, plan};
use weircast_planner::scenario::{Domains, Hardware, Streams, Survive, Uplink};

/// How full the first domain's caches are of `resource`: used, in its unit.
fn used(plan: &weircast_planner::plan::Plan, resource: Resource) -> f64 {
    let usage = plan.domains[0].cache.iter().find(|usage| usage.resource == resource);
    usage.expect("a cache has every resource").used
}

#[test]
fn cores_are_full_first() {
    // 30 000 viewers x 5 chunks x 20 us = 3.0 cores; 0.8 of each core may be used: 3.75, so 4 caches.
    let plan = planned(&players(30_000, 2_000.0, Hardware { cores: 1.0, ..ENDLESS }));
    assert_eq!((caches(&plan), plan.bottlenecks[0].resource), (vec![4], Resource::Cores));
    // Each: 3.0 / 4, its copy of the stream taken in (5 x 100 us), and its part of the 3 copies that are pulled from the
    // first cache (3 x 5 x 20 us / 4).
    assert!((used(&plan, Resource::Cores) - (0.75 + 0.0005 + 0.000_075)).abs() < 1e-9);
    // 4 x 0.8 cores less 4 x 0.000575 are 3.1977 cores: 31 977 viewers, found to a thousandth.
    assert!((31_940.0..=31_977.0).contains(&plan.viewers_max), "{}", plan.viewers_max);
    // 4 caches, 1 index server, 1 route server.
    assert_eq!((plan.nodes, plan.routes), (6, 1));
}

#[test]
fn a_stream_between_two_measured_rates_costs_what_lies_between() {
    // A core sends a chunk of 4 Mbit/s (100 152 bytes) in 20 us and one of 8 (200 152) in 60: 10 000 and 3 333 viewers.
    // 6 Mbit/s (150 152) is half-way: 40 us, 5 000 viewers. One of 16 (400 152) takes 100 us and bends the cost, elsewhere.
    let at = |kbps, us: f64| Capacity { kbps, viewers: 1e6 / (5.0 * us), ..costs().capacities[0].clone() };
    let grid = Calibration { capacities: vec![at(16_000.0, 100.0), at(4_000.0, 20.0), at(8_000.0, 60.0)], ..costs() };
    let of = |kbps| plan(&players(12_000, kbps, Hardware { cores: 1.0, ..ENDLESS }), &grid, &table()).expect("a plan");
    // 12 000 x 5 x 40 us = 2.4 cores, 3.0 caches with 0.8 of each: what taking in costs makes it 4.
    let half_way = of(6_000.0);
    assert_eq!((caches(&half_way), half_way.bottlenecks[0].resource), (vec![4], Resource::Cores));
    // Each: 2.4 / 4, the stream taken in (5 x 100 us), 3 of 4 pulls (5 x 40 us; http's cost stands for it).
    assert!((used(&half_way, Resource::Cores) - (0.6 + 0.0005 + 0.000_15)).abs() < 1e-9);
    // 12 Mbit/s: 80 us, 4.8 cores, 6 caches and a little.
    assert_eq!(caches(&of(12_000.0)), [7]);
    let told = |kbps| of(kbps).warnings.iter().filter(|line| line.contains("near enough")).cloned().collect::<Vec<_>>();
    assert_eq!(told(6_000.0), [""; 0]);
    let [outside] = &told(3_000.0)[..] else { panic!("{:?}", told(3_000.0)) };
    assert!(outside.contains("3000 kbit/s is below 4000, the lowest"), "{outside}");
    assert!(outside.ends_with("`weircast-plan calibrate --add --ways http --kbps 3000`"), "{outside}");
}

#[test]
fn the_network_card_is_full_first() {
    // A chunk of 4 Mbit/s is 100 152 bytes: 4.00608 Mbit/s, x 1538/1448 on the line = 4.25508; x 8 000 = 34 040.6 Mbit/s.
    // 8 000 of 10 000 may be used: 4.26, so 5 caches of 6 808.1, and the first serves 4 pulls: 17.0 Mbit/s.
    let plan = planned(&players(8_000, 4_000.0, Hardware { nic_mbps: 10_000.0, ..ENDLESS }));
    assert_eq!((caches(&plan), plan.bottlenecks[0].resource), (vec![5], Resource::Nic));
    let stream = 100_152.0 * 8.0 * 5.0 * 1_538.0 / 1_448.0 / 1e6;
    assert!((used(&plan, Resource::Nic) - (stream * 8_000.0 / 5.0 + 4.0 * stream)).abs() < 1e-6);
}

#[test]
fn memory_is_full_first() {
    // 100 streams of 8 Mbit/s. A chunk is 200 152 bytes, 200 192 with the gap to the next cache line; 10 to a segment. The
    // window's 256 chunks, the first of them last in its segment: (9 + 255) / 10 = 26, and one begun, 27; one to spare, 28:
    // 56 MiB. One cache: 5 600 MiB; 3 277 of 4 096 may be used: 2 caches with 2 800 MiB each.
    let mut scenario = players(1_000, 8_000.0, Hardware { memory_mib: 4_096, ..ENDLESS });
    scenario.streams = vec![Streams { kbps: 8_000.0, count: 100, share: 1.0 }];
    let plan = planned(&scenario);
    assert_eq!((caches(&plan), plan.bottlenecks[0].resource), (vec![2], Resource::Memory));
    // Tables: the header (4 KiB), the board (256 KiB), 16 bytes for each segment, and for each of 50 streams 64 + 128 + 1024
    // bytes and 256 x 64 of descriptors, 880 000: under 2 MiB together, and rounded up to that. 500 links of 16 KiB are
    // 7.8125 MiB, the reserve is 64. Each of 50 streams comes over a link with 64 KiB and four chunks of 200 000 bytes.
    let sources = 50.0 * (65_536.0 + 4.0 * 200_000.0) / (1024.0 * 1024.0);
    assert!((used(&plan, Resource::Memory) - (2_800.0 + 2.0 + 7.8125 + sources + 64.0)).abs() < 1e-9);
    assert_eq!(plan.domains[0].ring_mib, 2_802.0);
}

#[test]
fn descriptors_are_full_first() {
    // 50 000 links of 20 000 descriptors, of which 16 000 may be used: 3.1, so 4 caches with 12 500 links each; each takes
    // the stream in once, and of the 3 pulls that this makes each serves 0.75; 128 are beside.
    let plan = planned(&players(50_000, 100.0, Hardware { descriptors: 20_000, ..ENDLESS }));
    assert_eq!((caches(&plan), plan.bottlenecks[0].resource), (vec![4], Resource::Descriptors));
    assert_eq!(used(&plan, Resource::Descriptors), 12_500.0 + 1.0 + 0.75 + 128.0);
}

#[test]
fn many_small_streams_fill_the_thread_that_takes_them_in() {
    // 2 000 streams x 5 chunks x 100 us = 1.0 of one thread, however many cores there are; 0.8 may be used: 2 caches.
    let mut scenario = players(2_000, 500.0, ENDLESS);
    scenario.streams = vec![Streams { kbps: 500.0, count: 2_000, share: 1.0 }];
    let plan = planned(&scenario);
    assert_eq!((caches(&plan), plan.bottlenecks[0].resource), (vec![2], Resource::ControlThread));
    assert!((used(&plan, Resource::ControlThread) - 0.5).abs() < 1e-9);
}

#[test]
fn one_node_of_each_kind_may_fail() {
    // As above 4 caches carry it; one more may fail; two index and two route servers.
    let mut scenario = players(30_000, 2_000.0, Hardware { cores: 1.0, ..ENDLESS });
    scenario.survive = Survive::Node;
    let plan = planned(&scenario);
    assert_eq!((caches(&plan), plan.domains[0].caches_left, plan.domains[0].indexes, plan.routes), (vec![5], 4, 2, 2));
    assert_eq!(plan.nodes, 5 + 2 + 2);
}

#[test]
fn a_whole_domain_may_fail() {
    // 60 000 viewers in 3 domains: 20 000 each, 30 000 when one has failed: 4 caches in each, as above. The two pulls of the
    // stream from its domain (2 x 5 x 20 us) cost next to nothing.
    let mut scenario = players(60_000, 2_000.0, Hardware { cores: 1.0, ..ENDLESS });
    (scenario.domains.count, scenario.survive) = (3, Survive::Domain);
    let plan = planned(&scenario);
    assert_eq!((caches(&plan), plan.routes), (vec![4, 4, 4], 2));
    assert!((plan.domains[0].viewers_worst - 30_000.0).abs() < 1e-6);
    // Shares 1/2, 1/4, 1/4. When the largest fails the others have a half each: 30 000. When one of the small ones fails the
    // largest has 1/2 / (3/4) = 2/3: 40 000 viewers, 4.0 cores / 0.8 = 5 caches and a little: 6.
    scenario.domains = Domains { count: 0, shares: vec![2.0, 1.0, 1.0] };
    assert_eq!(caches(&planned(&scenario)), [6, 4, 4]);
}

#[test]
fn peers_take_off_what_was_simulated() {
    // 1 000 peers of 2 Mbit/s with uplinks of 2 Mbit/s, a ratio of 1: offload 0.9, 100 copies of 50 152 bytes.
    let mut scenario = players(1_000, 2_000.0, Hardware { cores: 1.0, ..ENDLESS });
    scenario.audience.players = 0.0;
    let plan = planned(&scenario);
    assert!((plan.offload - 0.9).abs() < 1e-9);
    let stream = 50_152.0 * 8.0 * 5.0 * 1_538.0 / 1_448.0 / 1e6;
    assert!((plan.traffic.cache_to_peer - 100.0 * stream).abs() < 1e-6);
    assert!((plan.traffic.peer_to_peer - 900.0 * stream).abs() < 1e-6);
    // Control is 0.02 of all: 1/49 of the chunks' bytes.
    assert!((plan.traffic.control - 1_000.0 * stream / 49.0).abs() < 1e-6);
    // 10 % more uplink: 1.1, a tenth of the way from 100 copies to 40: 94.
    assert!((plan.buys[1].from_caches_mbps - 94.0 * stream).abs() < 1e-6);
    // A tenth uploads nothing: 0.9, four fifths of the way from 550 copies (0.5) to 100: 190.
    scenario.audience.free_riders = 0.1;
    assert!((planned(&scenario).traffic.cache_to_peer - 190.0 * stream).abs() < 1e-6);
    // Half the peers have nothing and half have 4 Mbit/s: a mean of 1 again.
    scenario.audience.free_riders = 0.0;
    scenario.audience.uplinks = vec![Uplink { share: 1.0, mbps: 0.0 }, Uplink { share: 1.0, mbps: 4.0 }];
    assert!((planned(&scenario).traffic.cache_to_peer - 100.0 * stream).abs() < 1e-6);
}

#[test]
fn an_index_server_that_is_full_makes_more_domains() {
    // A million peers: 200 000 heartbeats/s of 10 us and 10 000 joins/s of 30 us: 2.3 of one thread; 0.8 may be used: 2.9,
    // so 3 domains. In one:
    let mut scenario = players(1_000_000, 100.0, ENDLESS);
    (scenario.audience.players, scenario.domains.count) = (0.0, 1);
    assert_eq!(
        no_plan(&scenario),
        "domains = 1: one index server answers for a whole domain, and it is short of cores: 2.3 cores are needed and 0.8 may \
         be used (1.0 less the head-room); plan for more domains, or for index servers with more cores"
    );
    scenario.domains.count = 0;
    let plan = planned(&scenario);
    assert_eq!((plan.domains.len(), plan.bottlenecks[1].resource), (3, Resource::Cores));
}

#[test]
fn one_more_cache_buys_what_it_carries() {
    let scenario = players(30_000, 2_000.0, Hardware { cores: 1.0, ..ENDLESS });
    let plan = plan(&scenario, &costs(), &table()).expect("a plan");
    // 5 x 0.8 cores are 40 000 viewers, less what 5 copies cost.
    assert!((39_920.0..40_000.0).contains(&plan.buys[0].viewers_max), "{:?}", plan.buys[0]);
    let planner = Planner::new(&scenario, &costs(), &table()).expect("good values");
    assert!(
        planner.carries(&[1.0], &[4], plan.viewers_max) && !planner.carries(&[1.0], &[4], plan.viewers_max * 1.002)
    );
}

#[test]
fn what_no_number_of_nodes_carries_is_told() {
    // A ring of 8 Mbit/s takes 56 MiB; with 2 MiB of tables, 0.8 for its publisher and the reserve of 64 that is 122.8, more
    // than 0.8 x 128.
    let impossible = no_plan(&players(10, 8_000.0, Hardware { memory_mib: 128, ..ENDLESS }));
    assert!(impossible.starts_with("domains = 1: with 1 domain even 256 caches"), "{impossible}");
    assert!(impossible.contains("short of memory: 122.8 MiB are needed and 102.4 may be used"), "{impossible}");
    assert!(impossible.ends_with("or caches with more memory"), "{impossible}");
}
