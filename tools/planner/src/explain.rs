//! A plan in sentences: what to know before it is trusted, what to configure, how it was reckoned.

use cache_core::proto::index::IndexBounds;
use cache_core::proto::route::ids::IdsConfig;

use crate::calibration::{Calibration, Way};
use crate::node::Usage;
use crate::offload::{bound, usable_uplink};
use crate::plan::{Division, Plan, Planner};
use crate::scenario::Survive;
use crate::{sizes, trust};

/// A continuity below this is told: what is to be reached while 1 % of the peers are replaced each second.
const CONTINUITY_MIN: f64 = 0.995;

/// Fewer peers than this are served by the caches anyway (our guess).
const SWARM_MIN: f64 = 10.0;

/// What to know before the plan is trusted.
pub(crate) fn warnings(planner: &Planner<'_>, calibration: &Calibration, division: &Division) -> Vec<String> {
    let mut warnings = Vec::new();
    if !calibration.is_own {
        warnings.push(format!(
            "NOT YOUR NODE: the costs were measured on {} ({}, {}); run `weircast-plan calibrate` on yours",
            calibration.host, calibration.made_by, calibration.date
        ));
    }
    if let Some(from) = &calibration.constants_from {
        warnings.push(format!(
            "NOT YOUR NODE: taking chunks in, index and route servers were measured on {from}; run `weircast-plan calibrate \
             --add` without --only-capacities on yours"
        ));
    }
    for (cost, word) in [(&planner.costs.http, "http"), (&planner.costs.pull, "pull"), (&planner.costs.push, "push")] {
        if cost.measured.word() != word {
            warnings.push(format!(
                "sending by {word} was not measured; the cost of {} stands for it",
                cost.measured.word()
            ));
        }
    }
    warnings.extend(trust::doubts(calibration));
    warnings.extend(trust::gaps(calibration, &sent(division)));
    let most = calibration.capacities.iter().map(|capacity| capacity.cores).fold(0.0, f64::max);
    if planner.scenario.cache.cores > most {
        warnings.push(format!(
            "a cache with {} cores is taken to do {:.1} times what was measured on {most}",
            planner.scenario.cache.cores,
            planner.scenario.cache.cores / most
        ));
    }
    let worst = division.locals.iter().flatten().filter(|local| local.peers >= SWARM_MIN).map(|local| {
        let uplink = usable_uplink(&planner.scenario.audience, local.kbps);
        (planner.offload.continuity(uplink, local.peers), local.kbps, uplink)
    });
    if let Some((continuity, kbps, uplink)) =
        worst.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(it, ..)| *it < CONTINUITY_MIN)
    {
        warnings.push(format!(
            "peers of streams of {kbps} kbit/s upload {uplink:.2} times the rate; the simulated swarm most like them had a \
             continuity of {continuity:.4}, under {CONTINUITY_MIN}"
        ));
    }
    let peers = division.locals.iter().flatten().map(|local| local.peers).fold(0.0, f64::max);
    if planner.offload.is_beyond(peers) {
        warnings.push(format!(
            "the largest swarm, {peers:.0} peers, is larger than any that was simulated; the share of the largest stands for it"
        ));
    }
    if planner.scenario.survive == Survive::Domain {
        let text = "a domain's audience moves when the route server's configuration gives its addresses to the others; until \
                    then its viewers have no index server";
        warnings.push(text.to_owned());
    }
    warnings
}

/// By which ways which rates are sent: to players, to peers, and between caches, of which every plan may have more than one.
fn sent(division: &Division) -> Vec<(Way, f64)> {
    let mut sent = Vec::new();
    for local in division.locals.iter().flatten() {
        let ways = [(Way::Http, local.players), (Way::Pull, local.copies), (Way::Push, local.held)];
        sent.extend(ways.into_iter().filter(|(_, copies)| *copies > 0.0).map(|(way, _)| (way, local.kbps)));
    }
    sent.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    sent.dedup();
    sent
}

/// What to write into the servers' configuration.
pub(crate) fn settings(plan: &Plan) -> Vec<String> {
    let hardware = &plan.scenario.cache;
    let ring = plan.domains.iter().map(|domain| domain.ring_mib).fold(0.0, f64::max);
    let streams = plan.domains.iter().map(|domain| domain.streams).fold(0.0, f64::max);
    let peers = plan.domains.iter().map(|domain| domain.viewers_worst).fold(0.0, f64::max);
    let mut settings = vec![
        format!("cache.toml: memory_mib = {ring:.0}, streams_max = {streams:.0}"),
        format!("cache.toml: bandwidth_max_mbps = {:.0}", hardware.nic_mbps),
    ];
    let bounds = IndexBounds::default();
    if peers > bounds.peers_max as f64 || peers > bounds.peers_per_stream_max as f64 {
        settings.push(format!("index.toml: peers_max and peers_per_stream_max = {peers:.0} or more"));
    }
    let ids = IdsConfig::default().ids_max as f64;
    if plan.scenario.peers() > ids {
        settings.push(format!("route.toml: ids_max = {:.0} or more", plan.scenario.peers()));
    }
    settings
}

/// How many streams are shown one by one.
const STREAMS_SHOWN: usize = 4;

/// How it was reckoned, line by line.
pub(crate) fn working(
    planner: &Planner<'_>,
    calibration: &Calibration,
    division: &Division,
    plan: &Plan,
) -> Vec<String> {
    let scenario = planner.scenario;
    let costs = &planner.costs;
    let constants = calibration.constants_from.as_ref();
    let constants = constants.map(|from| format!("; taking in, index and route servers on {from}")).unwrap_or_default();
    let mut lines = vec![
        format!("costs: {} on {}, {}{constants}", calibration.made_by, calibration.host, calibration.date),
        format!(
            "a chunk costs a core, in a line between rates: to a player {}; to a peer {}; to a cache {}; to take in {:.0} us",
            costs.http.text(),
            costs.pull.text(),
            costs.push.text(),
            costs.ingest_s * 1e6
        ),
        format!("measured: {}", trust::lines(calibration).join("; ")),
        format!("offload: {}", planner.offload.origin()),
        format!(
            "a link takes {:.1} KiB; a line carries {:.1} % of TCP's payload; areas needed for PeerIDs: {:.0}",
            costs.link_bytes / 1024.0,
            100.0 * sizes::LINE_SHARE,
            (scenario.peers() / sizes::PEERS_PER_AREA as f64).ceil()
        ),
    ];
    let (first, share) = (&division.locals[0], division.shares[0]);
    for class in first.iter().take(STREAMS_SHOWN) {
        let uplink = usable_uplink(&scenario.audience, class.kbps);
        let bytes = sizes::chunk_bytes(class.kbps);
        lines.push(format!(
            "stream of {} kbit/s{} in a domain with {:.1} % of the viewers: {:.1} players + {:.1} peers; uplink/rate {uplink:.3}; \
             bound min((N-1)/N, uplink/rate) = {:.4}, x {:.4} by the runs = offload {:.4}; caches send {:.1} copies x {:.3} \
             Mbit/s; a chunk is {bytes} bytes, the ring keeps {} segments",
            class.kbps,
            if class.count > 1.0 { format!(" (one of {})", class.count) } else { String::new() },
            100.0 * share,
            class.players,
            class.peers,
            bound(uplink, class.peers.max(1.0)),
            efficiency(planner, uplink, class.peers),
            planner.offload.share(uplink, class.peers),
            class.players + class.copies,
            sizes::line_bps(class.kbps) / 1e6,
            sizes::segments(class.kbps, scenario.window_chunks as u64),
        ));
    }
    if first.len() > STREAMS_SHOWN {
        lines.push(format!("... and {} streams more, each in the same way", first.len() - STREAMS_SHOWN));
    }
    for (at, domain) in plan.domains.iter().enumerate() {
        lines.push(format!(
            "domain {}: {:.0} viewers, {:.0} after the failure; {} caches, {} left then; each of these:",
            at + 1,
            domain.viewers,
            domain.viewers_worst,
            domain.caches,
            domain.caches_left
        ));
        lines.extend(domain.cache.iter().map(|usage| usage_line("cache", usage)));
        lines.extend(domain.index.iter().map(|usage| usage_line("index", usage)));
    }
    lines.extend(plan.route.iter().map(|usage| usage_line("route", usage)));
    lines
}

fn efficiency(planner: &Planner<'_>, uplink: f64, peers: f64) -> f64 {
    let bound = bound(uplink, peers.max(1.0));
    if bound > 0.0 { planner.offload.share(uplink, peers) / bound } else { 1.0 }
}

fn usage_line(server: &str, usage: &Usage) -> String {
    format!(
        "  {server} {}: {}; {:.1} % of {} {}",
        usage.resource.text(),
        usage.working,
        100.0 * usage.share(),
        usage.there,
        usage.unit
    )
}
