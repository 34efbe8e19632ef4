//! What a core of a node does, as measured: the file that `weircast-plan calibrate` writes.
//!
//! A cache's capacity is measured as the most viewers who are served in time, by way of sending and by rate. What sending a
//! chunk costs follows from them ([`crate::cost`]); it is not in the file.

use serde::{Deserialize, Serialize};

use crate::cost::SendCost;
use crate::sizes::chunk_bytes;
use crate::trust::middle;

/// Version of the file; another one is refused. It tells what the file's numbers mean; how costs follow from them is the
/// planner's.
pub const VERSION: u32 = 2;

/// A node, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`VERSION`].
    pub version: u32,
    /// The command that measured it.
    pub made_by: String,
    /// When, in plain words.
    pub date: String,
    /// On which machine, in plain words.
    pub host: String,
    /// Whether the machine is the operator's own; `false` in what is shipped with the planner.
    pub is_own: bool,
    /// Where taking in, index and route servers were measured, in plain words, when that was another machine than `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constants_from: Option<String>,
    /// The most viewers in time, by way of sending and rate.
    pub capacities: Vec<Capacity>,
    /// Taking in a chunk (receiving, verifying, copying into the ring), in microseconds of control's core.
    pub ingest_us: f64,
    /// User memory of a cache for each viewer, in bytes.
    pub viewer_bytes: f64,
    /// A heartbeat at an index server, in microseconds.
    pub index_question_us: f64,
    /// A peer's coming there and another's going, all their datagrams together, in microseconds.
    #[serde(default)]
    pub index_join_us: f64,
    /// A renewed lease, or an announcement, at a route server, in microseconds.
    pub route_question_us: f64,
    /// A peer's coming there and another's going, all their datagrams together, in microseconds.
    #[serde(default)]
    pub route_join_us: f64,
}

/// How viewers are sent chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `/live/NAME.ts`, as players do.
    Http,
    /// Chunk by chunk on request, as peers do.
    Pull,
    /// Each chunk unasked, as caches pull from each other.
    Push,
}

impl Way {
    /// Its word on the command line of `weircast-load`.
    pub const fn word(self) -> &'static str {
        match self {
            Way::Http => "http",
            Way::Pull => "pull",
            Way::Push => "push",
        }
    }
}

/// One capacity: the middle of its rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// How.
    pub way: Way,
    /// The stream's rate, kbit/s.
    pub kbps: f64,
    /// Cores that the cache had.
    pub cores: f64,
    /// The most viewers who all got every chunk in time.
    pub viewers: f64,
    /// The 99th percentile of lateness that was in time, in milliseconds.
    pub p99_ms: f64,
    /// The server's CPU-seconds for a GiB near that number.
    pub cpu_s_per_gib: f64,
    /// What each round found, in their order. Empty: it was not measured in rounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Round>,
}

/// What one round found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// The most viewers in time.
    pub viewers: f64,
    /// The server's CPU-seconds for a GiB near that number: the middle of the levels.
    pub cpu_s_per_gib: f64,
}

/// Why a calibration cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadCalibration {
    /// Something else, or broken.
    #[error("no calibration made by `weircast-plan calibrate`: {0}")]
    NotOne(String),
    /// Another version.
    #[error(
        "the calibration has version {0}, this program reads {VERSION}: make it again with `weircast-plan calibrate`"
    )]
    Version(u64),
    /// A number that cannot have been measured.
    #[error(
        "the calibration says {key} = {got}, which cannot have been measured: make it again with `weircast-plan calibrate`"
    )]
    Number {
        /// Which.
        key: &'static str,
        /// What it says.
        got: f64,
    },
    /// No capacity at all.
    #[error("the calibration has no capacities: make it again with `weircast-plan calibrate`")]
    Empty,
}

impl Capacity {
    /// The middle of `rounds` (at least one).
    pub fn of_rounds(way: Way, kbps: f64, cores: f64, p99_ms: f64, rounds: Vec<Round>) -> Capacity {
        let of = |part: fn(&Round) -> f64| middle(rounds.iter().map(part).collect()).unwrap_or_default();
        let (viewers, cpu_s_per_gib) = (of(|round| round.viewers), of(|round| round.cpu_s_per_gib));
        Capacity { way, kbps, cores, viewers, p99_ms, cpu_s_per_gib, rounds }
    }

    /// Whether `other` is the same question, which then is one of its rounds' too.
    pub fn is_like(&self, other: &Capacity) -> bool {
        (self.way, self.kbps, self.cores) == (other.way, other.kbps, other.cores)
    }

    /// What `newer` adds to it: its rounds, or where one of the two has none, or another limit, all that it says.
    fn and(&self, newer: &Capacity) -> Capacity {
        if self.rounds.is_empty() || newer.rounds.is_empty() || self.p99_ms != newer.p99_ms {
            return newer.clone();
        }
        let rounds = self.rounds.iter().chain(&newer.rounds).copied().collect();
        Capacity::of_rounds(self.way, self.kbps, self.cores, self.p99_ms, rounds)
    }
}

impl Calibration {
    /// What is planned with when the operator has measured nothing: recorded on the development machine.
    pub fn recorded() -> Calibration {
        let text = include_str!("../recorded/calibration.json");
        serde_json::from_str(text).expect("a test reads the recorded file")
    }

    /// The operator's own capacities and memory on `host`; all else is the recorded machine's, and is said to be.
    pub fn of_capacities(
        made_by: String,
        date: String,
        host: String,
        capacities: Vec<Capacity>,
        viewer_bytes: f64,
    ) -> Calibration {
        let recorded = Calibration::recorded();
        let constants_from = Some(format!("{}, {}", recorded.host, recorded.date));
        Calibration { made_by, date, host, is_own: true, constants_from, capacities, viewer_bytes, ..recorded }
    }

    /// Reads a file and looks at every number. A file of another version is told to be one, whatever else is in it.
    pub fn read(text: &str) -> Result<Calibration, BadCalibration> {
        let not_one = |error: serde_json::Error| BadCalibration::NotOne(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(not_one)?;
        if let Some(version) = value.get("version").and_then(serde_json::Value::as_u64)
            && version != u64::from(VERSION)
        {
            return Err(BadCalibration::Version(version));
        }
        let calibration: Calibration = serde_json::from_value(value).map_err(not_one)?;
        calibration.check().map(|()| calibration)
    }

    /// Looks at every number.
    pub fn check(&self) -> Result<(), BadCalibration> {
        if self.version != VERSION {
            return Err(BadCalibration::Version(self.version.into()));
        }
        if self.capacities.is_empty() {
            return Err(BadCalibration::Empty);
        }
        let numbers = [
            ("ingest_us", self.ingest_us),
            ("index_question_us", self.index_question_us),
            ("index_join_us", self.index_join_us),
            ("route_question_us", self.route_question_us),
            ("route_join_us", self.route_join_us),
        ];
        let of = |capacity: &Capacity| {
            [
                ("capacities.kbps", capacity.kbps),
                ("capacities.cores", capacity.cores),
                ("capacities.viewers", capacity.viewers),
            ]
        };
        let all = numbers.into_iter().chain(self.capacities.iter().flat_map(of));
        for (key, got) in all.chain([("viewer_bytes", self.viewer_bytes.max(f64::MIN_POSITIVE))]) {
            if !(got > 0.0 && got.is_finite()) {
                return Err(BadCalibration::Number { key, got });
            }
        }
        Ok(())
    }

    /// What was measured before on the same machine and what `newer` adds to it: its capacities, as further rounds of those
    /// of the same way, rate, cores and limit, and unless it holds `only_capacities` all else that it has measured again.
    pub fn and(self, newer: Calibration, only_capacities: bool) -> Calibration {
        let mut capacities = self.capacities.clone();
        for new in &newer.capacities {
            match capacities.iter_mut().find(|old| old.is_like(new)) {
                Some(old) => *old = old.and(new),
                None => capacities.push(new.clone()),
            }
        }
        capacities.sort_by(|a, b| a.way.cmp(&b.way).then(a.kbps.total_cmp(&b.kbps)));
        let made_by = if self.made_by == newer.made_by {
            newer.made_by.clone()
        } else {
            format!("{}; {}", self.made_by, newer.made_by)
        };
        let viewer_bytes = self.viewer_bytes.max(newer.viewer_bytes);
        let date = newer.date.clone();
        let rest = if only_capacities { self } else { newer };
        Calibration { made_by, date, capacities, viewer_bytes, ..rest }
    }

    /// The cost of sending by `way`; by the dearest that was measured when it was not. At least one capacity is there
    /// ([`Calibration::check`]).
    pub fn send(&self, way: Way) -> SendCost {
        let of = |way| SendCost::of(way, self.capacities.iter());
        of(way).unwrap_or_else(|| {
            let at = |cost: &SendCost| cost.core_s(chunk_bytes(2_000.0));
            let costs = [Way::Http, Way::Pull, Way::Push].into_iter().filter_map(of);
            costs.max_by(|a, b| at(a).total_cmp(&at(b))).expect("a checked calibration has a capacity")
        })
    }

    /// The most viewers of a stream of `kbps`, sent everything by `way`, on `cores`.
    pub fn viewers_max(&self, way: Way, kbps: f64, cores: f64) -> f64 {
        self.send(way).viewers_max(kbps, cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(way: Way, kbps: f64, viewers: f64) -> Capacity {
        Capacity { way, kbps, cores: 1.0, viewers, p99_ms: 150.0, cpu_s_per_gib: 0.3, rounds: Vec::new() }
    }

    fn with(capacities: &[Capacity]) -> Calibration {
        Calibration { capacities: capacities.to_vec(), ..Calibration::recorded() }
    }

    #[test]
    fn what_is_recorded_can_be_used_and_says_that_it_is_not_the_operators() {
        let recorded = Calibration::recorded();
        assert_eq!(recorded.check(), Ok(()));
        assert!(!recorded.is_own);
    }

    #[test]
    fn a_capacity_is_its_own_prediction() {
        let calibration = with(&[capacity(Way::Http, 2_000.0, 12_000.0), capacity(Way::Http, 8_000.0, 4_000.0)]);
        for (kbps, viewers) in [(2_000.0, 12_000.0), (8_000.0, 4_000.0)] {
            assert!((calibration.viewers_max(Way::Http, kbps, 1.0) / viewers - 1.0).abs() < 1e-9);
            assert!((calibration.viewers_max(Way::Http, kbps, 3.0) / viewers - 3.0).abs() < 1e-9);
        }
        // 16.67 us for 50 152 bytes, 50 us for 200 152: 33.33 us for 150 000 bytes more; 4 Mbit/s has 50 000 bytes more
        // than 2: 16.67 + 11.11 = 27.78 us, 5 times a second: 7 200 viewers.
        assert!((calibration.viewers_max(Way::Http, 4_000.0, 1.0) - 7_200.0).abs() < 0.5);
    }

    #[test]
    fn a_way_that_was_not_measured_has_the_dearest_ones_cost() {
        let calibration = with(&[capacity(Way::Pull, 2_000.0, 9_000.0), capacity(Way::Push, 2_000.0, 10_000.0)]);
        assert_eq!([Way::Pull, Way::Push].map(|way| calibration.send(way).measured), [Way::Pull, Way::Push]);
        assert_eq!(calibration.send(Way::Http).measured, Way::Pull);
    }

    #[test]
    fn what_is_measured_later_is_put_beside_what_was_there() {
        let (old, new) = (capacity(Way::Http, 2_500.0, 9_000.0), capacity(Way::Http, 2_500.0, 10_000.0));
        let (kept, added) = (capacity(Way::Http, 10_000.0, 3_000.0), capacity(Way::Pull, 2_500.0, 8_000.0));
        let before = Calibration { ingest_us: 100.0, viewer_bytes: 600.0, ..with(&[kept.clone(), old]) };
        let newer = Calibration { ingest_us: 200.0, viewer_bytes: 500.0, ..with(&[added.clone(), new.clone()]) };
        let both = before.clone().and(newer.clone(), true);
        assert_eq!(both.capacities, [new, kept, added]);
        assert_eq!((both.ingest_us, both.viewer_bytes), (100.0, 600.0));
        assert_eq!(before.and(newer, false).ingest_us, 200.0);
    }

    #[test]
    fn a_capacity_that_is_measured_again_has_more_rounds() {
        let round = |viewers| Round { viewers, cpu_s_per_gib: viewers / 1e4 };
        let of = |viewers: &[f64]| {
            let rounds = viewers.iter().map(|viewers| round(*viewers)).collect();
            Capacity::of_rounds(Way::Http, 4_000.0, 1.0, 150.0, rounds)
        };
        let both = with(&[of(&[6_000.0])]).and(with(&[of(&[5_000.0, 7_000.0])]), true);
        assert_eq!(both.capacities, [of(&[6_000.0, 5_000.0, 7_000.0])]);
        assert_eq!((both.capacities[0].viewers, both.capacities[0].cpu_s_per_gib), (6_000.0, 0.6));
        // Another limit, or no rounds: what was is no round of it.
        let other = Capacity { p99_ms: 100.0, ..of(&[9_000.0]) };
        assert_eq!(with(&[other]).and(with(&[of(&[5_000.0])]), true).capacities, [of(&[5_000.0])]);
        let bare = capacity(Way::Http, 4_000.0, 9_000.0);
        assert_eq!(with(&[bare]).and(with(&[of(&[5_000.0])]), true).capacities, [of(&[5_000.0])]);
    }

    #[test]
    fn constants_of_another_machine_stay_told_apart_until_they_are_measured() {
        let words = || ("a command".to_owned(), "a day".to_owned(), "a host".to_owned());
        let partial = || {
            let (made_by, date, host) = words();
            let capacities = vec![capacity(Way::Http, 2_500.0, 9_000.0)];
            Calibration::of_capacities(made_by, date, host, capacities, 600.0)
        };
        let whole = || Calibration { constants_from: None, ingest_us: 100.0, ..partial() };
        let from = |calibration: Calibration| {
            let text = serde_json::to_string(&calibration).expect("JSON");
            let read: Calibration = serde_json::from_str(&text).expect("the same file");
            assert_eq!(read, calibration);
            read.constants_from
        };
        let recorded = Calibration::recorded();
        let another = Some(format!("{}, {}", recorded.host, recorded.date));
        assert!(partial().is_own);
        assert_eq!(from(partial()), another);
        assert_eq!(from(partial().and(partial(), true)), another, "no run has measured them");
        assert_eq!(from(partial().and(whole(), false)), None, "the later one has");
        let kept = whole().and(partial(), true);
        assert_eq!(kept.ingest_us, 100.0);
        assert_eq!(from(kept), None, "the earlier one had");
    }

    #[test]
    fn numbers_that_nobody_measured_are_refused() {
        let broken = Calibration { ingest_us: -1.0, ..Calibration::recorded() };
        assert_eq!(broken.check(), Err(BadCalibration::Number { key: "ingest_us", got: -1.0 }));
        assert_eq!(with(&[]).check(), Err(BadCalibration::Empty));
        assert_eq!(Calibration { version: 9, ..Calibration::recorded() }.check(), Err(BadCalibration::Version(9)));
    }

    #[test]
    fn a_file_of_another_version_is_told_by_its_version_and_not_by_a_key() {
        let said = |text: &str| Calibration::read(text).expect_err("not readable").to_string();
        let old = said("{\"version\": 1, \"what_was_called_otherwise\": 3}");
        assert!(old.starts_with("the calibration has version 1, this program reads 2: make it again"), "{old}");
        assert!(said("{\"version\": 2}").starts_with("no calibration made by"), "{}", said("{\"version\": 2}"));
        assert!(said("{").starts_with("no calibration made by"));
        let own = serde_json::to_string(&Calibration::recorded()).expect("JSON");
        assert_eq!(Calibration::read(&own), Ok(Calibration::recorded()));
    }
}
