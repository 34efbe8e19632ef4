//! What goes wrong, and when.
//!
//! ```toml
//! [[fault]]
//! at_s = 60
//! kind = "kill"
//! who = { cache = 0 }
//! for_s = 20
//! ```
//! A fault is written flat and kept in two parts. `Written` is the flat form, one variant for each kind with exactly
//! the keys that this kind has: serde's `flatten` would let a misspelt key pass.

use serde::{Deserialize, Serialize};

/// Something that goes wrong at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Fault {
    /// When, in simulated seconds.
    pub at_s: f64,
    /// What.
    #[serde(flatten)]
    pub what: Trouble,
}

/// What goes wrong. Caches and domains are numbered from 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trouble {
    /// A process dies, its links are reset, and it starts again after `for_s` (`None`: never). A cache's ring survives.
    Kill {
        /// Who.
        who: Who,
        /// Until it is started again, seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        for_s: Option<f64>,
    },
    /// A process stands still (SIGSTOP) and goes on after `for_s`.
    Stop {
        /// Who.
        who: Who,
        /// For how long, seconds.
        for_s: f64,
    },
    /// Nothing passes between two groups for `for_s`.
    Partition {
        /// One side.
        from: Who,
        /// The other.
        to: Who,
        /// Only what goes from the first to the second is lost. `false` when not written.
        one_way: bool,
        /// For how long, seconds.
        for_s: f64,
    },
    /// This share of the peers leaves (or dies) within `over_s`, and is not replaced.
    Leave {
        /// Share, 0 to 1.
        share: f64,
        /// Within seconds.
        over_s: f64,
        /// Without a farewell. `false` when not written.
        killed: bool,
    },
    /// This many more peers come within `over_s` and stay.
    Join {
        /// How many.
        peers: u32,
        /// Within seconds.
        over_s: f64,
    },
    /// This share of the peers has its uplink cut to `factor` of what it was, for `for_s`.
    Throttle {
        /// Share, 0 to 1.
        share: f64,
        /// Factor, 0 to 1.
        factor: f64,
        /// For how long, seconds.
        for_s: f64,
    },
}

/// One node or a group of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// The publisher.
    Publisher,
    /// The route server.
    Route,
    /// Index servers of a domain.
    Index(u16),
    /// A cache, counted through all domains.
    Cache(u16),
    /// All peers.
    Peers,
    /// The peers of a region.
    Region(u32),
}

/// A fault as it stands in a file.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Kill {
        at_s: f64,
        who: Who,
        for_s: Option<f64>,
    },
    Stop {
        at_s: f64,
        who: Who,
        for_s: f64,
    },
    Partition {
        at_s: f64,
        from: Who,
        to: Who,
        #[serde(default)]
        one_way: bool,
        for_s: f64,
    },
    Leave {
        at_s: f64,
        share: f64,
        over_s: f64,
        #[serde(default)]
        killed: bool,
    },
    Join {
        at_s: f64,
        peers: u32,
        over_s: f64,
    },
    Throttle {
        at_s: f64,
        share: f64,
        factor: f64,
        for_s: f64,
    },
}

impl From<Written> for Fault {
    fn from(written: Written) -> Fault {
        let (at_s, what) = match written {
            Written::Kill { at_s, who, for_s } => (at_s, Trouble::Kill { who, for_s }),
            Written::Stop { at_s, who, for_s } => (at_s, Trouble::Stop { who, for_s }),
            Written::Partition { at_s, from, to, one_way, for_s } => {
                (at_s, Trouble::Partition { from, to, one_way, for_s })
            }
            Written::Leave { at_s, share, over_s, killed } => (at_s, Trouble::Leave { share, over_s, killed }),
            Written::Join { at_s, peers, over_s } => (at_s, Trouble::Join { peers, over_s }),
            Written::Throttle { at_s, share, factor, for_s } => (at_s, Trouble::Throttle { share, factor, for_s }),
        };
        Fault { at_s, what }
    }
}

impl Fault {
    /// When it is over; `None`: never, as with what leaves or is not started again.
    pub fn ends_s(&self) -> Option<f64> {
        let lasts = match self.what {
            Trouble::Kill { for_s, .. } => for_s?,
            Trouble::Stop { for_s, .. } | Trouble::Partition { for_s, .. } | Trouble::Throttle { for_s, .. } => for_s,
            Trouble::Leave { over_s, .. } | Trouble::Join { over_s, .. } => over_s,
        };
        Some(self.at_s + lasts)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.what)
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Kill { who, for_s: Some(for_s) } => write!(f, "{who} killed, back after {for_s} s"),
            Trouble::Kill { who, for_s: None } => write!(f, "{who} killed for good"),
            Trouble::Stop { who, for_s } => write!(f, "{who} stopped for {for_s} s"),
            Trouble::Partition { from, to, one_way, for_s } => {
                let way = if *one_way { "to" } else { "and" };
                write!(f, "nothing passes from {from} {way} {to} for {for_s} s")
            }
            Trouble::Leave { share, over_s, killed } => {
                let how = if *killed { "die" } else { "leave" };
                write!(f, "{:.0} % of the peers {how} within {over_s} s", share * 100.0)
            }
            Trouble::Join { peers, over_s } => write!(f, "{peers} peers more within {over_s} s"),
            Trouble::Throttle { share, factor, for_s } => {
                write!(f, "uplinks of {:.0} % of the peers times {factor} for {for_s} s", share * 100.0)
            }
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Publisher => write!(f, "publisher"),
            Who::Route => write!(f, "route server"),
            Who::Index(domain) => write!(f, "index of domain {domain}"),
            Who::Cache(number) => write!(f, "cache {number}"),
            Who::Peers => write!(f, "all peers"),
            Who::Region(region) => write!(f, "peers of region {region}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn read(text: &str) -> Result<Scenario, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn every_kind_of_fault_survives_writing_and_reading() {
        let kinds = [
            Trouble::Kill { who: Who::Cache(1), for_s: None },
            Trouble::Kill { who: Who::Publisher, for_s: Some(2.5) },
            Trouble::Stop { who: Who::Index(0), for_s: 5.0 },
            Trouble::Partition { from: Who::Peers, to: Who::Route, one_way: true, for_s: 1.0 },
            Trouble::Leave { share: 0.5, over_s: 1.0, killed: true },
            Trouble::Join { peers: 7, over_s: 0.5 },
            Trouble::Throttle { share: 0.1, factor: 0.0, for_s: 9.0 },
            Trouble::Stop { who: Who::Region(3), for_s: 1.0 },
        ];
        let faults = kinds.map(|what| Fault { at_s: 60.0, what }).to_vec();
        let scenario = Scenario { faults, ..Scenario::default() };
        let text = toml::to_string(&scenario).expect("a scenario can be written");
        assert_eq!(read(&text).expect("and read again"), scenario, "{text}");
    }

    #[test]
    fn a_misspelt_key_in_a_fault_is_an_error_that_names_it() {
        let text = "[[fault]]\nat_s = 1\nkind = 'kill'\nwho = { cache = 0 }\nfor_secs = 3\n";
        let said = read(text).expect_err("for_secs is no key").to_string();
        assert!(said.contains("for_secs") && said.contains("`for_s`"), "{said}");
        assert!(said.contains("line "), "it says where: {said}");
    }

    #[test]
    fn a_key_of_another_kind_is_an_error_too() {
        let text = "[[fault]]\nat_s = 1\nkind = 'join'\npeers = 5\nover_s = 1\nkilled = true\n";
        assert!(read(text).expect_err("who joins is not killed").to_string().contains("killed"));
    }

    #[test]
    fn a_kind_that_does_not_exist_is_named_with_those_that_do() {
        let said = read("[[fault]]\nat_s = 1\nkind = 'burn'\n").expect_err("no such kind").to_string();
        assert!(said.contains("burn") && said.contains("throttle"), "{said}");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = "[[fault]]\nat_s = 1\nkind = 'leave'\nshare = 0.5\nover_s = 1\n\
            [[fault]]\nat_s = 2\nkind = 'kill'\nwho = 'publisher'\n";
        let faults = read(text).expect("good").faults;
        assert_eq!(faults[0].what, Trouble::Leave { share: 0.5, over_s: 1.0, killed: false });
        assert_eq!(faults[1].what, Trouble::Kill { who: Who::Publisher, for_s: None });
        assert_eq!((faults[0].ends_s(), faults[1].ends_s()), (Some(2.0), None));
    }
}
