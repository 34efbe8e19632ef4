//! The least number of servers that carries the demand with head-room, also when what is to be survived has failed.
//!
//! For a division into domains each domain's caches are counted up until every resource of every one has room. Without a
//! given number of domains the division with the fewest nodes is taken; as each division's nodes never fall with the
//! audience, neither does their least.

use serde::Serialize;

use cache_core::proto::index::IndexBounds;

use crate::calibration::{BadCalibration, Calibration};
use crate::demand::{Class, Local, Traffic, classes, local};
use crate::explain::{settings, warnings, working};
use crate::node::{CacheWork, Costs, Pulls, Resource, Usage, bottleneck, index_usages, route_usages};

use crate::offload::{BadTable, Offload, OffloadTable};
use crate::scenario::{BadValue, DOMAINS_MAX, Scenario, Survive};

/// A plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// What was planned for.
    pub scenario: Scenario,
    /// The domains.
    pub domains: Vec<DomainPlan>,
    /// Route servers.
    pub routes: u32,
    /// How full the one that answers is.
    pub route: Vec<Usage>,
    /// All nodes.
    pub nodes: u32,
    /// The first resource of each kind of server to be full.
    pub bottlenecks: Vec<Bottleneck>,
    /// On the line, by kind, Mbit/s.
    pub traffic: Traffic,
    /// Share of peers' chunk bytes that comes from peers.
    pub offload: f64,
    /// The most viewers that these nodes carry, with the same head-room.
    pub viewers_max: f64,
    /// What more of something buys.
    pub buys: Vec<Buy>,
    /// How it was reckoned, line by line.
    pub working: Vec<String>,
    /// What to know before it is trusted.
    pub warnings: Vec<String>,
    /// What to write into the servers' configuration.
    pub settings: Vec<String>,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DomainPlan {
    /// Share of the viewers.
    pub share: f64,
    /// Viewers in ordinary times.
    pub viewers: f64,
    /// Viewers after the failure that is survived.
    pub viewers_worst: f64,
    /// Cache servers.
    pub caches: u32,
    /// Cache servers after the failure.
    pub caches_left: u32,
    /// Index servers.
    pub indexes: u32,
    /// Memory for the chunks of each cache, MiB.
    pub ring_mib: f64,
    /// Streams of each cache.
    pub streams: f64,
    /// How full each cache is after the failure.
    pub cache: Vec<Usage>,
    /// How full the index server is after the failure.
    pub index: Vec<Usage>,
}

/// What is full first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bottleneck {
    /// Cache, index or route.
    pub server: &'static str,
    /// What of it.
    pub resource: Resource,
    /// How full, 0 to 1, after the failure; 1 less the head-room is the most.
    pub share: f64,
}

/// What more of something buys.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Buy {
    /// What more there is.
    pub what: String,
    /// The most viewers then.
    pub viewers_max: f64,
    /// What caches send then, for the planned audience, Mbit/s.
    pub from_caches_mbps: f64,
    /// Nodes that the planned audience needs then.
    pub nodes: u32,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoPlan {
    /// The input.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// The calibration.
    #[error(transparent)]
    Calibration(#[from] BadCalibration),
    /// The table of offload.
    #[error(transparent)]
    Table(#[from] BadTable),
    /// The table is another profile's.
    #[error(
        "latency = \"{wanted}\": the table of offload is of \"{got}\"; make one with `weircast-plan simulate --latency {wanted}`"
    )]
    Latency {
        /// The scenario's.
        wanted: crate::scenario::Latency,
        /// The table's.
        got: crate::scenario::Latency,
    },
    /// No number of nodes suffices.
    #[error("{0}")]
    Impossible(String),
}

/// Everything that is planned with.
pub struct Planner<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) offload: Offload,
    pub(crate) costs: Costs,
}

/// A division into domains, weighed.
pub(crate) struct Division {
    classes: Vec<Class>,
    /// In ordinary times.
    pub(crate) locals: Vec<Vec<Local>>,
    /// After the failure.
    works: Vec<CacheWork>,
    peers_worst: Vec<f64>,
    pub(crate) shares: Vec<f64>,
    worst: Vec<f64>,
}

impl<'a> Planner<'a> {
    /// Checks everything that was given.
    pub fn new(scenario: &'a Scenario, calibration: &Calibration, table: &OffloadTable) -> Result<Planner<'a>, NoPlan> {
        scenario.check()?;
        calibration.check()?;
        if table.latency != scenario.latency {
            return Err(NoPlan::Latency { wanted: scenario.latency, got: table.latency });
        }
        Ok(Planner { scenario, offload: table.read()?, costs: Costs::of(calibration) })
    }

    fn division(&self, shares: &[f64], viewers: f64) -> Division {
        let all: f64 = shares.iter().sum();
        let shares: Vec<f64> = shares.iter().map(|share| share / all).collect();
        let worst: Vec<f64> = (0..shares.len()).map(|at| self.worst_share(&shares, at)).collect();
        let classes = classes(self.scenario, viewers);
        let of = |shares: &[f64]| {
            let mut done: Vec<(f64, Vec<Local>)> = Vec::new();
            let mut all = Vec::new();
            for share in shares {
                let known = done.iter().find(|(other, _)| other == share).map(|(_, locals)| locals.clone());
                let locals = known.unwrap_or_else(|| local(self.scenario, &self.offload, &classes, *share));
                if !done.iter().any(|(other, _)| other == share) {
                    done.push((*share, locals.clone()));
                }
                all.push(locals);
            }
            all
        };
        let (locals, after) = (of(&shares), of(&worst));
        let pulls = Pulls::between(&locals, &self.costs);
        let mut works: Vec<CacheWork> = Vec::new();
        for at in 0..after.len() {
            let same = (0..at).find(|other| worst[*other] == worst[at]);
            works.push(match same {
                Some(other) => works[other].clone(),
                None => CacheWork::of(self.scenario, &self.costs, &after[at], &pulls),
            });
        }
        let peers_worst = worst.iter().map(|share| viewers * share * (1.0 - self.scenario.audience.players)).collect();
        Division { classes, locals, works, peers_worst, shares, worst }
    }

    /// The share of a domain when the largest of the others has failed and all that are left have its audience in
    /// proportion to their own.
    fn worst_share(&self, shares: &[f64], at: usize) -> f64 {
        if self.scenario.survive != Survive::Domain {
            return shares[at];
        }
        let others = shares.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, share)| *share);
        let lost = others.fold(0.0, f64::max);
        if lost < 1.0 { shares[at] / (1.0 - lost) } else { f64::INFINITY }
    }

    /// Caches left of `caches` after the failure.
    fn left(&self, caches: u32) -> u32 {
        if self.scenario.survive == Survive::Node { caches.saturating_sub(1) } else { caches }
    }

    fn indexes(&self) -> u32 {
        if self.scenario.survive == Survive::Node { 2 } else { 1 }
    }

    fn routes(&self) -> u32 {
        if self.scenario.survive == Survive::None { 1 } else { 2 }
    }

    fn has_room(&self, usages: &[Usage]) -> bool {
        usages.iter().all(|usage| usage.used <= usage.there * (1.0 - self.scenario.headroom))
    }

    /// The least number of caches of a domain, or the resource that no number of them has enough of.
    fn caches(&self, work: &CacheWork) -> Result<u32, Usage> {
        let most = IndexBounds::default().caches_max as u32;
        let fits = |caches: &u32| {
            let left = self.left(*caches);
            left > 0 && self.has_room(&work.usages(self.scenario, &self.costs, left))
        };
        (1..=most).find(fits).ok_or_else(|| {
            let usages = work.usages(self.scenario, &self.costs, self.left(most));
            bottleneck(&usages).clone()
        })
    }

    /// The caches of each domain, or why this division cannot be.
    fn solve(&self, division: &Division) -> Result<Vec<u32>, String> {
        let mut caches: Vec<u32> = Vec::new();
        for (at, work) in division.works.iter().enumerate() {
            let same = (0..at).find(|other| division.worst[*other] == division.worst[at]);
            if let Some(other) = same {
                caches.push(caches[other]);
                continue;
            }
            caches.push(self.caches(work).map_err(|full| self.impossible("cache", &full, division.shares.len()))?);
            let index = index_usages(self.scenario, &self.costs, division.peers_worst[at]);
            if !self.has_room(&index) {
                return Err(self.impossible("index", bottleneck(&index), division.shares.len()));
            }
        }
        let route = self.route(division);
        if !self.has_room(&route) {
            return Err(self.impossible("route", bottleneck(&route), division.shares.len()));
        }
        Ok(caches)
    }

    fn route(&self, division: &Division) -> Vec<Usage> {
        let peers: f64 = division.locals.iter().flatten().map(|local| local.count * local.peers).sum();
        let announced = division.locals.iter().flatten().map(|local| local.count * local.held).sum();
        route_usages(self.scenario, &self.costs, peers, announced)
    }

    fn impossible(&self, server: &str, full: &Usage, domains: usize) -> String {
        let (name, room) = (full.resource.text(), 1.0 - self.scenario.headroom);
        let most = IndexBounds::default().caches_max;
        let domain_word = if domains == 1 { "1 domain".to_owned() } else { format!("{domains} domains") };
        // A hundredth of a core is told apart from none.
        let amount = |value: f64| if value < 0.1 { format!("{value:.4}") } else { format!("{value:.1}") };
        let short = format!(
            "is short of {name}: {} {} are needed and {} may be used ({} less the head-room)",
            amount(full.used),
            full.unit,
            amount(full.there * room),
            amount(full.there)
        );
        match server {
            "cache" => format!(
                "domains = {domains}: with {domain_word} even {most} caches in each do not suffice, each {short}; plan for \
                 more domains, or caches with more {name}"
            ),
            "index" => format!(
                "domains = {domains}: one index server answers for a whole domain, and it {short}; plan for more domains, \
                 or for index servers with more {name}"
            ),
            _ => format!(
                "viewers = {}: one route server answers for all domains, and it {short}; plan for route servers with more \
                 {name}, or for deployments with a route server each",
                self.scenario.viewers
            ),
        }
    }

    /// The domains' shares and caches of the division with the fewest nodes.
    fn best(&self) -> Result<(Vec<f64>, Vec<u32>), NoPlan> {
        let viewers = self.scenario.viewers as f64;
        let domains = &self.scenario.domains;
        let fixed = match (domains.shares.is_empty(), domains.count) {
            (false, _) => Some(domains.shares.clone()),
            (true, 1..) => Some(vec![1.0; domains.count as usize]),
            _ => None,
        };
        if let Some(shares) = fixed {
            let caches = self.solve(&self.division(&shares, viewers)).map_err(NoPlan::Impossible)?;
            return Ok((shares, caches));
        }
        let mut best: Option<(u32, Vec<f64>, Vec<u32>)> = None;
        let mut why = String::new();
        let least = if self.scenario.survive == Survive::Domain { 2 } else { 1 };
        let beside = 1 + self.indexes() + u32::from(self.scenario.survive == Survive::Node);
        for count in least..=DOMAINS_MAX as u32 {
            // Each domain has a cache and an index server at the least.
            if best.as_ref().is_some_and(|(nodes, ..)| count * beside + self.routes() >= *nodes) {
                break;
            }
            let shares = vec![1.0; count as usize];
            match self.solve(&self.division(&shares, viewers)) {
                Ok(caches) => {
                    let nodes = caches.iter().sum::<u32>() + count * self.indexes() + self.routes();
                    if best.as_ref().is_none_or(|(least, ..)| nodes < *least) {
                        best = Some((nodes, shares, caches));
                    }
                }
                Err(reason) => why = reason,
            }
            // A route server serves all domains: more of them do not help it.
            if best.is_none() && why.starts_with("viewers") {
                break;
            }
        }
        best.map(|(_, shares, caches)| (shares, caches)).ok_or(NoPlan::Impossible(why))
    }

    /// Whether these caches carry so many viewers, with head-room and after the failure.
    pub fn carries(&self, shares: &[f64], caches: &[u32], viewers: f64) -> bool {
        let division = self.division(shares, viewers);
        let caches_do = division.works.iter().zip(caches).all(|(work, caches)| {
            let left = self.left(*caches);
            left > 0 && self.has_room(&work.usages(self.scenario, &self.costs, left))
        });
        let index_does =
            division.peers_worst.iter().all(|peers| self.has_room(&index_usages(self.scenario, &self.costs, *peers)));
        caches_do && index_does && self.has_room(&self.route(&division))
    }

    /// The most viewers that these caches carry, to a thousandth.
    fn viewers_max(&self, shares: &[f64], caches: &[u32]) -> f64 {
        let (mut good, mut bad) = (0.0, 1.0);
        while bad < 1e11 && self.carries(shares, caches, bad) {
            (good, bad) = (bad, bad * 2.0);
        }
        while bad - good > good / 1_000.0 && bad - good > 0.5 {
            let middle = (good + bad) / 2.0;
            if self.carries(shares, caches, middle) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        good.floor()
    }

    fn traffic(&self, division: &Division, caches: &[u32]) -> Traffic {
        let mut traffic = Traffic::of_viewers(&division.classes, &division.locals, self.offload.control());
        traffic.cache_to_cache_between_domains = Pulls::between(&division.locals, &self.costs).bps / 1e6;
        let inside = division.works.iter().zip(caches).map(|(work, caches)| work.pulled_inside_bps(*caches));
        traffic.cache_to_cache_in_domains = inside.sum::<f64>() / 1e6;
        traffic
    }
}

/// Plans.
pub fn plan(scenario: &Scenario, calibration: &Calibration, table: &OffloadTable) -> Result<Plan, NoPlan> {
    let planner = Planner::new(scenario, calibration, table)?;
    let (shares, caches) = planner.best()?;
    let viewers = scenario.viewers as f64;
    let division = planner.division(&shares, viewers);
    let traffic = planner.traffic(&division, &caches);
    let domains: Vec<DomainPlan> = (0..shares.len())
        .map(|at| (at, division.works[at].ring(scenario, planner.left(caches[at]))))
        .map(|(at, ring)| DomainPlan {
            ring_mib: ring.mib,
            streams: ring.streams,
            share: division.shares[at],
            viewers: viewers * division.shares[at],
            viewers_worst: viewers * division.worst[at],
            caches: caches[at],
            caches_left: planner.left(caches[at]),
            indexes: planner.indexes(),
            cache: division.works[at].usages(scenario, &planner.costs, planner.left(caches[at])),
            index: index_usages(scenario, &planner.costs, division.peers_worst[at]),
        })
        .collect();
    let route = planner.route(&division);
    let fullest = |server, usages: Vec<&Usage>| {
        let usage = usages.into_iter().max_by(|a, b| a.share().total_cmp(&b.share())).expect("there is a domain");
        Bottleneck { server, resource: usage.resource, share: usage.share() }
    };
    let bottlenecks = vec![
        fullest("cache", domains.iter().map(|domain| bottleneck(&domain.cache)).collect()),
        fullest("index", domains.iter().map(|domain| bottleneck(&domain.index)).collect()),
        fullest("route", vec![bottleneck(&route)]),
    ];
    let mut plan = Plan {
        scenario: scenario.clone(),
        routes: planner.routes(),
        nodes: domains.iter().map(|domain| domain.caches + domain.indexes).sum::<u32>() + planner.routes(),
        bottlenecks,
        offload: traffic.peer_to_peer / (traffic.peer_to_peer + traffic.cache_to_peer).max(f64::MIN_POSITIVE),
        traffic,
        viewers_max: planner.viewers_max(&shares, &caches),
        buys: Vec::new(),
        working: Vec::new(),
        warnings: warnings(&planner, calibration, &division),
        settings: Vec::new(),
        domains,
        route,
    };
    plan.buys = buys(&planner, calibration, table, &plan, &shares, &caches)?;
    plan.working = working(&planner, calibration, &division, &plan);
    plan.settings = settings(&plan);
    Ok(plan)
}

fn buys(
    planner: &Planner<'_>,
    calibration: &Calibration,
    table: &OffloadTable,
    plan: &Plan,
    shares: &[f64],
    caches: &[u32],
) -> Result<Vec<Buy>, NoPlan> {
    let fullest = |domain: &DomainPlan| bottleneck(&domain.cache).share();
    let tightest = (0..caches.len()).max_by(|a, b| fullest(&plan.domains[*a]).total_cmp(&fullest(&plan.domains[*b])));
    let mut more = caches.to_vec();
    // Equal domains are full together: one more cache in one of them would change nothing.
    let alike = |at: &usize| tightest.is_some_and(|tight| plan.domains[*at].share == plan.domains[tight].share);
    let added: Vec<usize> = (0..more.len()).filter(alike).collect();
    added.iter().for_each(|at| more[*at] += 1);
    let what = match added.len() {
        1 => "one more cache in the fullest domain".to_owned(),
        count => format!("one more cache in each of {count} domains"),
    };
    let node = Buy {
        what,
        viewers_max: planner.viewers_max(shares, &more),
        from_caches_mbps: planner
            .traffic(&planner.division(shares, planner.scenario.viewers as f64), &more)
            .from_caches(),
        nodes: plan.nodes + added.len() as u32,
    };
    let mut richer = planner.scenario.clone();
    richer.audience.uplinks.iter_mut().for_each(|class| class.mbps = (class.mbps * 1.1).min(100_000.0));
    richer.domains.shares = shares.to_vec();
    richer.domains.count = 0;
    let with = Planner::new(&richer, calibration, table)?;
    let division = with.division(shares, richer.viewers as f64);
    let fewer = with.solve(&division).map_err(NoPlan::Impossible)?;
    let uplink = Buy {
        what: "10 % more uplink".to_owned(),
        viewers_max: with.viewers_max(shares, caches),
        from_caches_mbps: with.traffic(&division, caches).from_caches(),
        nodes: fewer.iter().sum::<u32>() + shares.len() as u32 * with.indexes() + with.routes(),
    };
    Ok(vec![node, uplink])
}
