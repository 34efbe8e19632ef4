//! What holds of every plan.

mod kit;

use kit::{caches, costs, table};
use proptest::prelude::*;
use weircast_planner::plan::{Planner, plan};
use weircast_planner::report;
use weircast_planner::scenario::{Audience, Domains, Hardware, Latency, Scenario, Streams, Survive, Uplink, Zipf};

prop_compose! {
    fn hardware()(cores in 0.5..64.0_f64, nic in 500.0..50_000.0_f64, memory in 512..65_536_i64, descriptors in 1_000..200_000_i64)
        -> Hardware {
        Hardware { cores, nic_mbps: nic, memory_mib: memory, descriptors }
    }
}

prop_compose! {
    fn audience()(players in 0.0..1.0_f64, free_riders in 0.0..1.0_f64, mbps in prop::collection::vec(0.0..20.0_f64, 1..4))
        -> Audience {
        let uplinks = mbps.into_iter().map(|mbps| Uplink { share: 1.0, mbps }).collect();
        Audience { players, uplinks, free_riders, replaced_per_s: 0.01, areas: None }
    }
}

prop_compose! {
    fn scenario()(
        viewers in 1..60_000_i64,
        streams in prop::collection::vec((100.0..20_000.0_f64, 1..5_i64, 0.1..5.0_f64), 1..4),
        zipf in prop::option::of((1..20_i64, 100.0..5_000.0_f64, 0.0..2.0_f64)),
        audience in audience(),
        count in 0..5_i64,
        cache in hardware(),
        headroom in 0.0..0.5_f64,
        survive in prop::sample::select(vec![Survive::None, Survive::Node, Survive::Domain]),
    ) -> Scenario {
        let least = if survive == Survive::Domain && count == 1 { 2 } else { count };
        Scenario {
            name: "any".into(),
            viewers,
            streams: streams.into_iter().map(|(kbps, count, share)| Streams { kbps, count, share }).collect(),
            zipf: zipf.map(|(streams, kbps, exponent)| Zipf { streams, kbps, exponent, share: 1.0 }),
            audience,
            domains: Domains { count: least, shares: Vec::new() },
            cache,
            index: None,
            route: None,
            latency: Latency::Classic,
            window_chunks: 256,
            headroom,
            survive,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_viewers_never_take_fewer_nodes(scenario in scenario(), more in 1..60_000_i64) {
        let larger = Scenario { viewers: scenario.viewers + more, ..scenario.clone() };
        if let Ok(larger) = plan(&larger, &costs(), &table()) {
            let smaller = plan(&scenario, &costs(), &table());
            let smaller = smaller.map_err(|none| TestCaseError::fail(format!("the larger audience has a plan: {none}")))?;
            prop_assert!(smaller.nodes <= larger.nodes, "{} nodes, then {}", smaller.nodes, larger.nodes);
        }
    }

    #[test]
    fn more_uplink_never_makes_caches_send_more(scenario in scenario(), factor in 1.0..3.0_f64) {
        let mut richer = scenario.clone();
        richer.audience.uplinks.iter_mut().for_each(|class| class.mbps *= factor);
        if let (Ok(poor), Ok(rich)) = (plan(&scenario, &costs(), &table()), plan(&richer, &costs(), &table())) {
            prop_assert!(rich.traffic.cache_to_peer <= poor.traffic.cache_to_peer * (1.0 + 1e-9));
            prop_assert!(rich.nodes <= poor.nodes);
        }
    }

    #[test]
    fn a_plan_carries_its_audience_and_no_smaller_one_does(scenario in scenario()) {
        let Ok(made) = plan(&scenario, &costs(), &table()) else { return Ok(()) };
        let planner = Planner::new(&scenario, &costs(), &table()).expect("it was planned");
        let shares: Vec<f64> = made.domains.iter().map(|domain| domain.share).collect();
        let count = caches(&made);
        prop_assert!(planner.carries(&shares, &count, scenario.viewers as f64));
        let room = 1.0 - scenario.headroom + 1e-9;
        let usages = made.domains.iter().flat_map(|domain| domain.cache.iter().chain(&domain.index)).chain(&made.route);
        for usage in usages {
            prop_assert!(usage.share() <= room, "{usage:?}");
        }
        for at in 0..count.len() {
            let mut fewer = count.clone();
            fewer[at] -= 1;
            prop_assert!(!planner.carries(&shares, &fewer, scenario.viewers as f64), "{fewer:?} would do");
        }
        prop_assert!(made.viewers_max >= (scenario.viewers as f64 * 0.998).floor());
        prop_assert!(made.buys[0].viewers_max >= made.viewers_max * 0.998);
        // All that peers and players watch comes from somewhere.
        let traffic = made.traffic;
        prop_assert!(traffic.kinds().iter().all(|(_, mbps)| *mbps >= -1e-6 && mbps.is_finite()), "{traffic:?}");
        let page = report::html(&made);
        prop_assert!(page.contains("</table>") && !page.contains("http://") && !page.contains("<script"));
    }
}
