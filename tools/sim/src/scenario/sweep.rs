//! One key over many values, each with several seeds; a second key draws a curve for each of its values.
//!
//! ```toml
//! [sweep]
//! key = "audience.uplink.0.up"
//! values = [0.5, 1.0, 1.3]
//! seeds = 5
//! curves = { key = "peer.request_control", values = ["paper", "repaired"] }
//! metrics = ["offload", "continuity"]        # what is drawn; the CSV has all
//! ```

use serde::{Deserialize, Serialize};

use super::check::List;
use crate::report::metric;

/// Most values of a key. Our guess.
const VALUES_MAX: usize = 100;
/// Most seeds at a value. Our guess.
pub const SEEDS_MAX: u64 = 10_000;

/// What `weircast-sim sweep` varies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The key, as for `--set`.
    pub key: String,
    /// Its values, as they would stand in the file.
    pub values: Vec<toml::Value>,
    /// Seeds for each value; 5 when not written.
    #[serde(default = "five")]
    pub seeds: u64,
    /// One curve for each value of this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// The metrics that are drawn. Empty: offload, continuity, start-up and inter-region share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
}

/// The second key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curves {
    /// The key, as for `--set`.
    pub key: String,
    /// Its values.
    pub values: Vec<toml::Value>,
}

const fn five() -> u64 {
    5
}

impl Sweep {
    /// The metrics that are drawn.
    pub fn drawn(&self) -> Vec<&str> {
        if self.metrics.is_empty() {
            return vec!["offload", "continuity", "startup_p95_ms", "inter_region_share"];
        }
        self.metrics.iter().map(String::as_str).collect()
    }

    pub(super) fn check(&self, list: &mut List) {
        let mut values = |key: &str, count: usize| {
            if count == 0 || count > VALUES_MAX {
                list.say(key, format!("{count} values"), format!("must be 1 to {VALUES_MAX}: give a list"));
            }
        };
        values("sweep.values", self.values.len());
        if let Some(curves) = &self.curves {
            values("sweep.curves.values", curves.values.len());
        }
        if self.seeds == 0 || self.seeds > SEEDS_MAX {
            list.say("sweep.seeds", self.seeds, format!("must be 1 to {SEEDS_MAX}"));
        }
        for name in self.metrics.iter().filter(|name| metric::named(name).is_none()) {
            list.say("sweep.metrics", name, "is no metric: `weircast-sim metrics` lists them");
        }
    }
}
