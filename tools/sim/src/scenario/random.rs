//! A scenario with everything in it, from a seed: what `weircast-sim torture` runs.
//!
//! The limits keep a run short (50 to 200 peers, two to five simulated minutes) and fair: faults end before a quiet
//! tail in which all viewers must play again, and caches have room for everybody, so that what breaks is not plain
//! lack of bandwidth. Numbers are our guesses.

use cache_core::prng::Prng;
use cache_core::proto::peer::{RequestControl, Tuning, UrgentZone};

use super::{Audience, Caches, Fault, LogNormal, Network, Scenario, Stream, Trouble, UplinkClass, Who};

/// Simulated seconds at the end without a fault.
pub const QUIET_S: u64 = 30;
/// Simulated seconds at the beginning without a fault.
pub const CALM_S: u64 = 20;
/// Most faults of one scenario.
const FAULTS_MAX: usize = 10;

/// The scenario of `seed`: the same for ever within a revision.
pub fn scenario(seed: u64) -> Scenario {
    let mut dice = Dice(Prng::new(seed ^ 0x746f_7274_7572_6500));
    let duration_s = 120 + dice.below(181);
    let network = network(&mut dice);
    let caches = Caches { count: 1 + dice.below(3) as u16, up_kbps: 0, viewers_max: 0 };
    let faults = (0..1 + dice.below(FAULTS_MAX as u64)).map(|_| fault(&mut dice, duration_s, &network, &caches));
    let mut faults: Vec<Fault> = faults.collect();
    faults.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    Scenario {
        name: format!("torture {seed}"),
        duration_s,
        warmup_s: CALM_S,
        stream: stream(&mut dice),
        network,
        caches,
        audience: audience(&mut dice),
        faults,
        peer: tuning(&mut dice),
        ..Scenario::default()
    }
}

fn stream(dice: &mut Dice) -> Stream {
    let wraps = [65_536_u64, 1 << 32].map(|wrap| wrap - 200);
    let first_chunk = if dice.odds(0.3) { wraps[dice.below(2) as usize] } else { 1_000 };
    Stream {
        kbps: [200, 800, 2_000, 6_000][dice.below(4) as usize],
        join_point_chunks: 1 + dice.below(25),
        first_chunk,
        cdn: true,
    }
}

fn network(dice: &mut Dice) -> Network {
    let regions = [1, 4, 9, 16][dice.below(4) as usize];
    Network {
        regions,
        domains: 1 + dice.below(u64::from(regions.min(3))) as u16,
        delay_ms_per_unit: dice.between(0.0, 200.0),
        delay_base_ms: dice.between(0.5, 50.0),
        jitter: dice.between(0.0, 1.0),
        loss_permille: if dice.odds(0.3) { dice.between(0.0, 50.0) } else { dice.between(0.0, 5.0) },
        nat_closed: if dice.odds(0.5) { dice.between(0.0, 0.6) } else { 0.0 },
        index_by_location: dice.odds(0.8),
        ..Network::default()
    }
}

fn audience(dice: &mut Dice) -> Audience {
    let bad = |dice: &mut Dice, most| if dice.odds(0.4) { dice.between(0.0, most) } else { 0.0 };
    let class = |dice: &mut Dice| UplinkClass {
        share: dice.between(0.1, 1.0),
        up: dice.between(0.2, 4.0),
        down: dice.between(1.5, 20.0),
    };
    Audience {
        peers: 50 + dice.below(151) as u32,
        arrive_over_s: if dice.odds(0.3) { 0.5 } else { dice.between(1.0, 20.0) },
        session: dice.odds(0.7).then_some(LogNormal { mu: 4.29, sigma: 1.28 }),
        replaced_per_s: if dice.odds(0.3) { dice.between(0.0, 0.03) } else { 0.0 },
        uplink: (0..dice.below(4)).map(|_| class(dice)).collect(),
        free_riders: bad(dice, 0.5),
        liars: bad(dice, 0.3),
        polluters: bad(dice, 0.3),
    }
}

/// Mostly what ships.
fn tuning(dice: &mut Dice) -> Tuning {
    let mut tuning = Tuning::default();
    if dice.odds(0.7) {
        return tuning;
    }
    tuning.request_control = [RequestControl::Paper, RequestControl::Repaired][dice.below(2) as usize];
    tuning.urgent_zone = [UrgentZone::ThirdOfWindow, UrgentZone::ThirdOfRest][dice.below(2) as usize];
    tuning.members_c = dice.between(0.5, 4.0);
    tuning.exchange_share = dice.between(0.0, 0.45);
    tuning.download_weight = dice.between(0.1, 0.9);
    tuning.request_share = dice.between(1.1, 4.0);
    tuning.startup_chunks = 1 + dice.below(10);
    tuning
}

fn fault(dice: &mut Dice, duration_s: u64, network: &Network, caches: &Caches) -> Fault {
    let (first, last) = (CALM_S as f64, (duration_s - QUIET_S) as f64);
    let at_s = dice.between(first, last - 1.0);
    let left = last - at_s;
    let for_s = dice.between(0.1, left.clamp(0.2, 30.0));
    let over_s = dice.between(0.1, left.clamp(0.2, 10.0));
    let who = |dice: &mut Dice| match dice.below(6) {
        0 => Who::Publisher,
        1 => Who::Route,
        2 => Who::Index(dice.below(u64::from(network.domains)) as u16),
        3 | 4 => Who::Cache(dice.below(u64::from(network.domains) * u64::from(caches.count)) as u16),
        _ => Who::Region(dice.below(u64::from(network.regions)) as u32),
    };
    let what = match dice.below(8) {
        0 | 1 => Trouble::Kill { who: who(dice), for_s: Some(for_s) },
        2 => Trouble::Stop { who: who(dice), for_s },
        3 | 4 => {
            let from = who(dice);
            let to = if from == Who::Publisher { Who::Cache(0) } else { Who::Peers };
            Trouble::Partition { from, to, one_way: dice.odds(0.3), for_s }
        }
        5 => Trouble::Leave { share: dice.between(0.0, 0.5), over_s, killed: dice.odds(0.5) },
        6 => Trouble::Join { peers: 1 + dice.below(100) as u32, over_s },
        _ => Trouble::Throttle { share: dice.between(0.0, 1.0), factor: dice.between(0.0, 1.0), for_s },
    };
    Fault { at_s, what }
}

struct Dice(Prng);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound as usize) as u64
    }

    /// Thousandths between the ends, so that a scenario reads well when it is shown.
    fn between(&mut self, from: f64, to: f64) -> f64 {
        let part = self.below(1_001) as f64 / 1_000.0;
        ((from + (to - from) * part) * 1_000.0).round() / 1_000.0
    }

    fn odds(&mut self, share: f64) -> bool {
        (self.below(1_000) as f64) < share * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_random_scenario_can_be_run_and_ends_quietly() {
        for seed in 0..2_000 {
            let scenario = scenario(seed);
            scenario.check().unwrap_or_else(|bad| panic!("seed {seed}: {bad}"));
            assert!((50..=200).contains(&scenario.audience.peers));
            for fault in &scenario.faults {
                let quiet_from = (scenario.duration_s - QUIET_S) as f64 + 0.5;
                assert!(fault.ends_s().is_some_and(|end| end <= quiet_from), "seed {seed}: {fault:?}");
            }
        }
    }

    #[test]
    fn every_kind_of_fault_comes_up() {
        let faults: Vec<Fault> = (0..200).flat_map(|seed| scenario(seed).faults).collect();
        let has = |kind: fn(&Trouble) -> bool| faults.iter().any(|fault| kind(&fault.what));
        assert!(has(|what| matches!(what, Trouble::Kill { who: Who::Publisher, .. })));
        assert!(has(|what| matches!(what, Trouble::Kill { who: Who::Cache(_), .. })));
        assert!(has(|what| matches!(what, Trouble::Kill { who: Who::Index(_), .. })));
        assert!(has(|what| matches!(what, Trouble::Stop { .. })));
        assert!(has(|what| matches!(what, Trouble::Partition { .. })));
        assert!(has(|what| matches!(what, Trouble::Leave { killed: true, .. })));
        assert!(has(|what| matches!(what, Trouble::Join { .. })));
        assert!(has(|what| matches!(what, Trouble::Throttle { .. })));
    }

    #[test]
    fn the_same_seed_is_the_same_scenario() {
        assert_eq!(scenario(7), scenario(7));
        assert_ne!(scenario(7), scenario(8));
    }
}
