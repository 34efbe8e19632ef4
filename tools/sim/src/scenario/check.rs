//! Every range, with a sentence for each value outside: which key, what it is, what it may be, what to do.

use std::fmt::Display;

use super::{Caches, Fault, Network, Scenario, Trouble, UplinkClass, Who};
use crate::cycle::places::FINER_MAX;

/// Longest run: eleven days and a half; sequence numbers of 16 bits wrap after 3.6 hours. Our guess.
pub const DURATION_S_MAX: u64 = 1_000_000;
/// Most peers at once, those that faults add included: what fits a large machine's memory. Our guess.
pub const PEERS_MAX: u32 = 2_000_000;
/// Most regions, domains and caches: more than any scenario of the paper by ten. Our guess.
pub const REGIONS_MAX: u32 = 1_024;
/// Most regions where PeerIDs say more than the region: each is a country of its own, a field of 8 bits; the largest square.
pub const FINER_REGIONS_MAX: u32 = 225;
/// Most faults of one scenario. Our guess.
pub const FAULTS_MAX: usize = 1_000;
/// Largest number of the first chunk: far above 2^32, and far from where counting would overflow.
pub const FIRST_CHUNK_MAX: u64 = 1 << 48;

/// A value that cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, with its path.
    pub key: String,
    /// What it is.
    pub value: String,
    /// What it may be, and what to do: a clause.
    pub cure: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.cure)
    }
}

/// All that is wrong with a scenario; at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BadScenario(pub Vec<Problem>);

impl Scenario {
    /// Checks every range. A scenario that passes can be run.
    pub fn check(&self) -> Result<(), BadScenario> {
        let mut list = List::default();
        self.check_frame(&mut list);
        check_network(&self.network, self.stream.cdn, &mut list);
        check_caches(&self.caches, self, &mut list);
        self.check_audience(&mut list);
        for (number, fault) in self.faults.iter().enumerate() {
            self.check_fault(number, fault, &mut list);
        }
        if let Err(bad) = self.peer.check() {
            list.say(format!("peer.{}", bad.key), "out of range", bad.allowed);
        }
        self.expect.check(&mut list);
        if let Some(sweep) = &self.sweep {
            sweep.check(&mut list);
        }
        if list.0.is_empty() { Ok(()) } else { Err(BadScenario(list.0)) }
    }

    fn check_frame(&self, list: &mut List) {
        if self.name.is_empty() || self.name.len() > 80 || self.name.contains(char::is_control) {
            list.say("name", format!("{:?}", self.name), "must be 1 to 80 characters of one line");
        }
        list.within("duration_s", self.duration_s, 1, DURATION_S_MAX, "");
        if self.warmup_s >= self.duration_s {
            let cure = format!("must be below duration_s = {}: lengthen the run", self.duration_s);
            list.say("warmup_s", self.warmup_s, cure);
        }
        let stream = &self.stream;
        list.within("stream.kbps", stream.kbps, 8, 200_000, "a chunk is 200 ms of it");
        list.within("stream.join_point_chunks", stream.join_point_chunks, 1, 250, "a window is 256 chunks");
        list.within("stream.first_chunk", stream.first_chunk, 0, FIRST_CHUNK_MAX, "");
        list.within("fault", self.faults.len(), 0, FAULTS_MAX, "so many tables [[fault]]");
    }

    fn check_audience(&self, list: &mut List) {
        let audience = &self.audience;
        list.within("audience.peers", audience.peers, 1, PEERS_MAX, "");
        let duration = self.duration_s as f64;
        list.within("audience.arrive_over_s", audience.arrive_over_s, 0.0, duration, "the run is no longer");
        if let Some(session) = audience.session {
            list.within("audience.session.mu", session.mu, 0.0, 20.0, "it is the mean of ln(seconds)");
            list.within("audience.session.sigma", session.sigma, 0.0, 5.0, "it is a deviation of ln(seconds)");
        }
        list.within("audience.replaced_per_s", audience.replaced_per_s, 0.0, 0.5, "0.01 is 1 % of the peers a second");
        for (key, share) in [
            ("audience.free_riders", audience.free_riders),
            ("audience.liars", audience.liars),
            ("audience.polluters", audience.polluters),
        ] {
            list.share(key, share);
        }
        for (number, class) in audience.uplink.iter().enumerate() {
            let UplinkClass { share, up, down } = *class;
            let key = |name| format!("audience.uplink[{number}].{name}");
            list.within(key("share"), share, 0.0, 1e6, "shares are divided by their sum");
            list.within(key("up"), up, 0.0, 10_000.0, "it is over the stream's rate");
            list.within(key("down"), down, 1.0, 10_000.0, "over the stream's rate: with less nobody could play");
        }
        let sum: f64 = audience.uplink.iter().map(|class| class.share).sum();
        if !audience.uplink.is_empty() && sum <= 0.0 {
            list.say("audience.uplink", "shares of 0", "one share must be above 0");
        }
    }

    fn check_fault(&self, number: usize, fault: &Fault, list: &mut List) {
        let key = |name: &str| format!("fault[{number}].{name}");
        let duration = self.duration_s as f64;
        list.within(key("at_s"), fault.at_s, 0.0, duration, "it would come after the end: lengthen duration_s");
        let mut who = |name: &str, who: Who| {
            if let Some(cure) = self.nobody(who) {
                list.say(key(name), who, cure);
            }
        };
        match fault.what {
            Trouble::Kill { who: group, .. } | Trouble::Stop { who: group, .. } => who("who", group),
            Trouble::Partition { from, to, .. } => {
                who("from", from);
                who("to", to);
                if from == to {
                    list.say(key("to"), to, "must be another group than `from`");
                }
            }
            Trouble::Leave { .. } | Trouble::Join { .. } | Trouble::Throttle { .. } => {}
        }
        match fault.what {
            Trouble::Kill { for_s: None, .. } => {}
            Trouble::Kill { for_s: Some(for_s), .. }
            | Trouble::Stop { for_s, .. }
            | Trouble::Partition { for_s, .. } => list.within(key("for_s"), for_s, 0.0, 1e6, ""),
            Trouble::Leave { share, over_s, .. } => {
                list.share(key("share"), share);
                list.within(key("over_s"), over_s, 0.0, duration, "");
            }
            Trouble::Join { peers, over_s } => {
                list.within(key("peers"), peers, 1, PEERS_MAX, "");
                list.within(key("over_s"), over_s, 0.0, duration, "");
            }
            Trouble::Throttle { share, factor, for_s } => {
                list.share(key("share"), share);
                list.within(key("factor"), factor, 0.0, 1.0, "it is what remains of the uplink");
                list.within(key("for_s"), for_s, 0.0, 1e6, "");
            }
        }
    }

    /// Why there is nobody of that name.
    fn nobody(&self, who: Who) -> Option<String> {
        let (one, count, key) = match who {
            Who::Publisher | Who::Route | Who::Peers => return None,
            Who::Index(domain) => (u32::from(domain), u32::from(self.network.domains), "network.domains"),
            Who::Cache(_) if !self.stream.cdn => return Some("there is no cache while stream.cdn = false".to_owned()),
            Who::Cache(cache) => {
                let caches = u32::from(self.network.domains) * u32::from(self.caches.count);
                (u32::from(cache), caches, "network.domains times caches.count")
            }
            Who::Region(region) => (region, self.network.regions, "network.regions"),
        };
        (one >= count).then(|| format!("there are {count}, numbered from 0: see {key}"))
    }
}

fn check_network(network: &Network, cdn: bool, list: &mut List) {
    let regions = network.regions;
    let side = regions.isqrt();
    list.within("network.regions", regions, 1, REGIONS_MAX, "");
    if side * side != regions {
        let near = format!("must be a square number: {} or {}", side * side, (side + 1) * (side + 1));
        list.say("network.regions", regions, near);
    }
    list.within("network.finer", network.finer, 1, FINER_MAX, "1: PeerIDs say the region alone");
    if network.finer > 1 && regions > FINER_REGIONS_MAX {
        let cure =
            format!("must be at most {FINER_REGIONS_MAX} while network.finer is above 1: each is a country then");
        list.say("network.regions", regions, cure);
    }
    list.within("network.domains", u32::from(network.domains), 1, regions.max(1), "a domain is one region or more");
    if !cdn && network.domains > 1 {
        list.say("network.domains", network.domains, "must be 1 while stream.cdn = false: only caches join domains");
    }
    list.within("network.delay_ms_per_unit", network.delay_ms_per_unit, 0.0, 10_000.0, "");
    list.within("network.delay_base_ms", network.delay_base_ms, 0.0, 10_000.0, "");
    list.within("network.jitter", network.jitter, 0.0, 10.0, "it is a share of the path's delay");
    list.within("network.loss_permille", network.loss_permille, 0.0, 500.0, "10 is 1 %");
    list.share("network.nat_closed", network.nat_closed);
    let table = &network.delay_table_ms;
    let square = table.len() == regions as usize && table.iter().all(|row| row.len() == regions as usize);
    if !table.is_empty() && !square {
        let is = format!("{} rows of {:?}", table.len(), table.iter().map(Vec::len).collect::<Vec<_>>());
        list.say("network.delay_table_ms", is, format!("must have {regions} rows and columns, as network.regions"));
    }
    if let Some(bad) = table.iter().flatten().find(|ms| !(0.0..=10_000.0).contains(*ms)) {
        list.say("network.delay_table_ms", bad, "must be 0 to 10000 milliseconds each");
    }
}

fn check_caches(caches: &Caches, scenario: &Scenario, list: &mut List) {
    list.within("caches.count", caches.count, 1, 256, "for none at all write stream.cdn = false");
    if caches.up_kbps != 0 && caches.up_kbps < scenario.stream.kbps {
        let least = scenario.stream.kbps;
        let none = if scenario.stream.cdn { "unlimited" } else { "as the best class of viewers" };
        list.say("caches.up_kbps", caches.up_kbps, format!("must be 0 ({none}) or at least stream.kbps = {least}"));
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct List(Vec<Problem>);

impl List {
    pub(super) fn say(&mut self, key: impl Into<String>, value: impl Display, cure: impl Into<String>) {
        self.0.push(Problem { key: key.into(), value: value.to_string(), cure: cure.into() });
    }

    /// Says so when `value` is not in `from..=to`; a NaN is not.
    fn within<T: PartialOrd + Display + Copy>(&mut self, key: impl Into<String>, value: T, from: T, to: T, hint: &str) {
        if !(value >= from && value <= to) {
            let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
            self.say(key, value, format!("must be {from} to {to}{hint}"));
        }
    }

    fn share(&mut self, key: impl Into<String>, value: f64) {
        self.within(key, value, 0.0, 1.0, "a share: 0.5 is half");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut Scenario)) -> Vec<String> {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        scenario.check().err().map_or(Vec::new(), |bad| bad.0.iter().map(Problem::to_string).collect())
    }

    fn fault(what: Trouble) -> Vec<Fault> {
        vec![Fault { at_s: 1.0, what }]
    }

    #[test]
    fn the_default_scenario_can_be_run() {
        assert_eq!(Scenario::default().check(), Ok(()));
    }

    #[test]
    fn a_bad_value_is_named_with_its_range_and_a_cure() {
        let text = |list: Vec<String>| list.join("|");
        assert_eq!(text(said(|s| s.network.regions = 15)), "network.regions = 15: must be a square number: 9 or 16");
        assert_eq!(
            text(said(|s| s.audience.free_riders = -0.1)),
            "audience.free_riders = -0.1: must be 0 to 1 (a share: 0.5 is half)"
        );
        assert_eq!(
            text(said(|s| s.warmup_s = 180)),
            "warmup_s = 180: must be below duration_s = 180: lengthen the run"
        );
        assert_eq!(
            text(said(|s| s.network.jitter = f64::NAN)),
            "network.jitter = NaN: must be 0 to 10 (it is a share of the path's delay)"
        );
        assert_eq!(
            text(said(|s| s.peer.exchange_share = 0.5)),
            "peer.exchange_share = out of range: must be at least 0 and below 0.5"
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let list = said(|s| {
            s.stream.kbps = 0;
            s.audience.peers = 0;
            s.caches.count = 0;
            s.network.delay_table_ms = vec![vec![1.0; 16]; 15];
        });
        assert_eq!(list.len(), 4, "{list:?}");
    }

    #[test]
    fn a_fault_can_only_meet_who_is_there() {
        let list = |what| said(|s| s.faults = fault(what));
        assert_eq!(list(Trouble::Stop { who: Who::Cache(0), for_s: 1.0 }), Vec::<String>::new());
        let second = list(Trouble::Stop { who: Who::Cache(1), for_s: 1.0 });
        assert_eq!(
            second,
            ["fault[0].who = cache 1: there are 1, numbered from 0: see network.domains times caches.count"]
        );
        assert_eq!(list(Trouble::Kill { who: Who::Region(16), for_s: None }).len(), 1);
        assert_eq!(list(Trouble::Kill { who: Who::Index(1), for_s: None }).len(), 1);
        let same = Trouble::Partition { from: Who::Peers, to: Who::Peers, one_way: false, for_s: 1.0 };
        assert_eq!(list(same).len(), 1);
        let without = said(|s| {
            s.stream.cdn = false;
            s.faults = fault(Trouble::Stop { who: Who::Cache(0), for_s: 1.0 });
        });
        assert_eq!(without, ["fault[0].who = cache 0: there is no cache while stream.cdn = false"]);
    }

    #[test]
    fn a_fault_after_the_end_is_refused() {
        let list = said(|s| s.faults = vec![Fault { at_s: 181.0, what: Trouble::Join { peers: 1, over_s: 0.0 } }]);
        assert_eq!(list.len(), 1, "{list:?}");
    }
}
