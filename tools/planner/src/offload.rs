//! What peers take off the caches: a table of simulated runs, over the uplink (mean, over the stream's rate) and the number
//! of peers of a stream in a domain.
//!
//! The table is read as *copies*: how many of N peers' streams the caches send, N (1 - offload). Between the runs copies are
//! interpolated, in N on logarithmic scales, in the uplink evenly:
//! ```text
//!  copies
//!    N |*                  uplink 0: everybody is served by the caches
//!      |   *
//!      |       *           below 1 the uplink is what limits: N (1 - uplink)
//!      |           *  *  * above, the mesh: a few copies, whatever N is
//!      +------------------ uplink / rate
//! ```
//! A file holds one table for each latency profile that was simulated; a plan takes its scenario's.
//!
//! More peers never need fewer copies and more uplink never more: where two runs say otherwise (chance does) the worse one
//! counts for both. Beyond the largest N the share stays what it is there.

use serde::{Deserialize, Serialize};

use crate::scenario::{Audience, Latency};
use cache_core::proto::peer::Tuning;

/// Simulated runs of one latency profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffloadTable {
    /// The profile.
    pub latency: Latency,
    /// Where it comes from: the command, or in plain words what it stands for.
    pub origin: String,
    /// Runs: every uplink with every number of peers.
    pub runs: Vec<OffloadRun>,
}

/// The tables of a file: at most one for each latency profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OffloadTables(Vec<OffloadTable>);

/// One simulated swarm (or the mean of several seeds).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffloadRun {
    /// Mean uplink of a peer over the stream's rate.
    pub uplink: f64,
    /// Peers of the stream.
    pub peers: u32,
    /// Chunk bytes from peers over all chunk bytes that peers got.
    pub offload: f64,
    /// Bytes that are not chunks over all bytes, at peers.
    pub control: f64,
    /// Continuity, for whoever reads the table.
    pub continuity: f64,
}

/// The table, ready to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Offload {
    uplinks: Vec<f64>,
    peers: Vec<f64>,
    /// Of [`Offload::peers`].
    logarithms: Vec<f64>,
    /// By uplink, then by peers; never falls with peers, never rises with the uplink.
    copies: Vec<Vec<f64>>,
    control: f64,
    origin: String,
    runs: Vec<OffloadRun>,
}

/// A table that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadTable {
    /// No run.
    #[error("the table of offload has no runs: make one with `weircast-plan simulate`")]
    Empty,
    /// Not a full grid.
    #[error(
        "the table of offload lacks the run with uplink {uplink} and {peers} peers: make it again with `weircast-plan simulate`"
    )]
    Hole {
        /// Which.
        uplink: f64,
        /// Which.
        peers: u32,
    },
    /// A share that is none.
    #[error(
        "the table of offload says {got} of a run with uplink {uplink} and {peers} peers, and shares are 0 to 1: make it again with \
         `weircast-plan simulate`"
    )]
    Share {
        /// What it says.
        got: f64,
        /// Where.
        uplink: f64,
        /// Where.
        peers: u32,
    },
}

/// The most that peers can take off: everybody but one gets everything from others, and what is uploaded was received.
pub fn bound(uplink: f64, peers: f64) -> f64 {
    ((peers - 1.0) / peers).max(0.0).min(uplink)
}

/// Mean uplink over the rate of a stream, as it counts: a peer uploads to no more partners than it accepts, each of whom
/// takes the stream once.
pub fn usable_uplink(audience: &Audience, kbps: f64) -> f64 {
    let most = Tuning::default().accepted_max as f64;
    let all: f64 = audience.uplinks.iter().map(|class| class.share).sum();
    let mean: f64 =
        audience.uplinks.iter().map(|class| class.share / all * (class.mbps * 1_000.0 / kbps).min(most)).sum();
    mean * (1.0 - audience.free_riders)
}

/// A file of tables without the one that is planned with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "latency = \"{wanted}\": there is a table of offload of {there}, and the others' peers take something else off the caches; \
     make one with `weircast-plan simulate --latency {wanted} --out offload.json`, and plan with --offload offload.json"
)]
pub struct NoTable {
    /// The scenario's profile.
    pub wanted: Latency,
    /// Those that there are tables of.
    pub there: String,
}

impl OffloadTables {
    /// The tables that come with the planner.
    pub fn recorded() -> OffloadTables {
        let text = include_str!("../recorded/offload.json");
        serde_json::from_str(text).expect("a test reads the recorded tables")
    }

    /// The profile's.
    pub fn of(&self, latency: Latency) -> Result<&OffloadTable, NoTable> {
        self.0.iter().find(|table| table.latency == latency).ok_or_else(|| {
            let there: Vec<String> = self.0.iter().map(|table| format!("\"{}\"", table.latency)).collect();
            let there = if there.is_empty() { "no profile".to_owned() } else { there.join(", ") };
            NoTable { wanted: latency, there }
        })
    }

    /// Puts a table in place of its profile's.
    pub fn put(&mut self, table: OffloadTable) {
        self.0.retain(|old| old.latency != table.latency);
        self.0.push(table);
        self.0.sort_by_key(|table| table.latency as u8);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &OffloadTable> {
        self.0.iter()
    }
}

impl OffloadTable {
    /// Reads the runs.
    pub fn read(&self) -> Result<Offload, BadTable> {
        let distinct = |of: fn(&OffloadRun) -> f64| {
            let mut values: Vec<f64> = self.runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.dedup();
            values
        };
        let (mut uplinks, mut peers) = (distinct(|run| run.uplink), distinct(|run| f64::from(run.peers)));
        if uplinks.is_empty() {
            return Err(BadTable::Empty);
        }
        if let Some(run) = self.runs.iter().find(|run| !((0.0..=1.0).contains(&run.offload) && run.uplink >= 0.0)) {
            return Err(BadTable::Share { got: run.offload, uplink: run.uplink, peers: run.peers });
        }
        let mut copies = Vec::new();
        for uplink in &uplinks {
            let mut row = Vec::new();
            for n in &peers {
                let run = self.runs.iter().find(|run| run.uplink == *uplink && f64::from(run.peers) == *n);
                let run = run.ok_or(BadTable::Hole { uplink: *uplink, peers: *n as u32 })?;
                row.push((n * (1.0 - run.offload)).max(n.min(1.0)));
            }
            copies.push(row);
        }
        // What needs no run: without uplink all is sent by caches, and a peer alone is.
        if uplinks[0] > 0.0 {
            uplinks.insert(0, 0.0);
            copies.insert(0, peers.clone());
        }
        if peers[0] > 1.0 {
            peers.insert(0, 1.0);
            copies.iter_mut().for_each(|row| row.insert(0, 1.0));
        }
        for row in &mut copies {
            for column in 1..row.len() {
                row[column] = row[column].max(row[column - 1]);
            }
        }
        for row in 1..copies.len() {
            let (before, after) = copies.split_at_mut(row);
            for (copies, fewer_uplink) in after[0].iter_mut().zip(&before[row - 1]) {
                *copies = copies.min(*fewer_uplink);
            }
        }
        let control = self.runs.iter().map(|run| run.control).sum::<f64>() / self.runs.len() as f64;
        let logarithms = peers.iter().map(|n| n.ln()).collect();
        Ok(Offload {
            uplinks,
            peers,
            logarithms,
            copies,
            control,
            origin: self.origin.clone(),
            runs: self.runs.clone(),
        })
    }
}

impl Offload {
    /// How many copies of a stream the caches of a domain send to `peers` peers (an expected number, so any fraction) with
    /// this mean uplink over the rate. Between 0 and `peers`.
    pub fn copies(&self, uplink: f64, peers: f64) -> f64 {
        if peers <= 1.0 {
            return peers.max(0.0);
        }
        let (low, high, part) = between(&self.uplinks, uplink);
        let of = |row: usize| self.in_row(&self.copies[row], peers);
        let copies = if part == 0.0 { of(low) } else { of(low) * (1.0 - part) + of(high) * part };
        copies.clamp(1.0, peers)
    }

    fn in_row(&self, row: &[f64], peers: f64) -> f64 {
        let last = self.peers.len() - 1;
        if peers >= self.peers[last] {
            return row[last] * peers / self.peers[last];
        }
        let (low, high, part) = between(&self.logarithms, peers.ln());
        (row[low].ln() * (1.0 - part) + row[high].ln() * part).exp()
    }

    /// Share of the chunk bytes that peers get from peers.
    pub fn share(&self, uplink: f64, peers: f64) -> f64 {
        if peers <= 0.0 { 0.0 } else { 1.0 - self.copies(uplink, peers) / peers }
    }

    /// Bytes that are not chunks over all bytes, at peers: the runs' mean.
    pub const fn control(&self) -> f64 {
        self.control
    }

    /// Continuity of the run that is most like a swarm of so many `peers` with this mean uplink over the rate.
    pub fn continuity(&self, uplink: f64, peers: f64) -> f64 {
        let far = |a: f64, b: f64| (a.max(0.01) / b.max(0.01)).ln().abs();
        let unlike = |run: &OffloadRun| far(run.uplink, uplink) + far(f64::from(run.peers), peers);
        let alike = self.runs.iter().min_by(|a, b| unlike(a).total_cmp(&unlike(b)));
        alike.map_or(1.0, |run| run.continuity)
    }

    /// Where the table comes from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether `peers` is more than any run had.
    pub fn is_beyond(&self, peers: f64) -> bool {
        self.peers.last().is_some_and(|last| peers > *last)
    }
}

/// The two neighbours of `x` among ascending `values`, and how far `x` is from the first to the second; clamped.
fn between(values: &[f64], x: f64) -> (usize, usize, f64) {
    let last = values.len() - 1;
    let high = values.partition_point(|value| *value <= x);
    if high == 0 {
        return (0, 0, 0.0);
    }
    if high > last {
        return (last, last, 0.0);
    }
    (high - 1, high, (x - values[high - 1]) / (values[high] - values[high - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(uplink: f64, peers: u32, offload: f64) -> OffloadRun {
        OffloadRun { uplink, peers, offload, control: 0.02, continuity: 1.0 }
    }

    fn table(runs: &[OffloadRun]) -> Offload {
        let table = OffloadTable { latency: Latency::Classic, origin: "a test".into(), runs: runs.to_vec() };
        table.read().expect("a full grid")
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        let recorded = OffloadTables::recorded();
        assert!(recorded.of(Latency::Classic).is_ok());
        assert!(recorded.iter().all(|table| table.read().is_ok()));
    }

    #[test]
    fn each_profile_has_its_own_table_and_one_that_has_none_is_told() {
        let table =
            |latency, offload| OffloadTable { latency, origin: "a test".into(), runs: vec![run(1.0, 100, offload)] };
        let mut tables = OffloadTables::default();
        assert!(tables.of(Latency::Mid).expect_err("none").to_string().contains("of no profile"));
        tables.put(table(Latency::Mid, 0.5));
        tables.put(table(Latency::Classic, 0.7));
        tables.put(table(Latency::Mid, 0.6));
        assert_eq!(tables.of(Latency::Mid), Ok(&table(Latency::Mid, 0.6)));
        assert_eq!(tables.iter().count(), 2);
        let said = tables.of(Latency::Low).expect_err("none").to_string();
        assert!(said.starts_with("latency = \"low\": there is a table of offload of \"classic\", \"mid\""), "{said}");
        assert!(said.contains("simulate --latency low"), "{said}");
    }

    #[test]
    fn a_run_is_its_own_prediction() {
        let table = table(&[run(0.5, 100, 0.45), run(1.3, 100, 0.94), run(0.5, 1_000, 0.46), run(1.3, 1_000, 0.96)]);
        for (uplink, peers, offload) in [(0.5, 100.0, 0.45), (1.3, 100.0, 0.94), (1.3, 1_000.0, 0.96)] {
            assert!((table.share(uplink, peers) - offload).abs() < 1e-12, "{uplink} {peers}");
        }
        // Copies at 100 and 1000 peers: 6 and 40; half-way on logarithmic scales (316.2 peers) sqrt(240) = 15.49.
        assert!((table.copies(1.3, 100_000_f64.sqrt()) - 240_f64.sqrt()).abs() < 1e-9);
        // Half-way from no uplink (100 copies) to 0.5 (55): 77.5.
        assert!((table.copies(0.25, 100.0) - 77.5).abs() < 1e-9);
        // Beyond the largest the share stays 0.96.
        assert!((table.share(1.3, 1e6) - 0.96).abs() < 1e-12);
        assert_eq!(table.continuity(1.3, 90.0), 1.0);
        assert_eq!((table.copies(2.0, 1.0), table.copies(2.0, 0.25)), (1.0, 0.25));
        assert!((table.copies(0.0, 50.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn where_chance_says_otherwise_the_worse_run_counts() {
        // 1 % of 1000 is 10 copies, fewer than the 20 of 100: no larger audience needs less.
        let table = table(&[run(1.0, 100, 0.8), run(1.0, 1_000, 0.99)]);
        assert!((table.copies(1.0, 1_000.0) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_with_a_hole_or_a_wrong_share_is_named() {
        let table = |runs: &[OffloadRun]| {
            OffloadTable { latency: Latency::Classic, origin: String::new(), runs: runs.to_vec() }.read()
        };
        assert_eq!(table(&[]), Err(BadTable::Empty));
        let hole = table(&[run(1.0, 100, 0.8), run(2.0, 200, 0.9)]).expect_err("not a grid");
        assert_eq!(hole, BadTable::Hole { uplink: 1.0, peers: 200 });
        assert!(matches!(table(&[run(1.0, 100, 1.2)]), Err(BadTable::Share { .. })));
    }

    #[test]
    fn a_peers_uplink_counts_as_far_as_it_has_partners_for_it() {
        let class = |share, mbps| crate::scenario::Uplink { share, mbps };
        let audience = Audience {
            players: 0.0,
            uplinks: vec![class(3.0, 1.0), class(1.0, 1_000.0)],
            free_riders: 0.5,
            replaced_per_s: 0.0,
            areas: None,
        };
        // Rate 2 Mbit/s: three quarters have 0.5, one quarter 500, of which 16 partners take 16:
        // 0.75 x 0.5 + 0.25 x 16 = 4.375; half of them upload: 2.1875.
        assert!((usable_uplink(&audience, 2_000.0) - 2.1875).abs() < 1e-12);
    }
}
