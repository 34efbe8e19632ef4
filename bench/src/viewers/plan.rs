//! What all viewers do: told once, to every thread and process.

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::prng::{Prng, mix};
use cache_core::wire::StreamName;
use serde::{Deserialize, Serialize};

use super::native::Wants;
use crate::options::Arrivals;

/// How a viewer gets the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    Native(Wants),
    Http,
    /// Single chunks: `back` behind the newest, or files 0 to `modulo` - 1.
    Get {
        back: u64,
        modulo: Option<u64>,
        closed_loop: bool,
    },
}

/// Whose chunks are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verify {
    All,
    /// Every so-manieth viewer's.
    Sample(usize),
    None,
}

impl Verify {
    pub(super) fn covers(self, viewer: usize) -> bool {
        match self {
            Verify::All => true,
            Verify::Sample(every) => viewer.is_multiple_of(every),
            Verify::None => false,
        }
    }
}

/// How a viewer behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Temper {
    #[default]
    Good,
    /// Reads at half the stream's rate.
    Slow,
    /// Stops reading after its first chunk, and stays.
    Stopped,
    /// Leaves without a word; another takes the place at once.
    Leaving,
    /// Loses its connection and comes back.
    Reconnecting,
}

impl std::fmt::Display for Temper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Temper::Good => "good",
            Temper::Slow => "slow",
            Temper::Stopped => "stopped",
            Temper::Leaving => "leaving",
            Temper::Reconnecting => "reconnecting",
        })
    }
}

/// Shares of bad viewers, in millionths of all.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shares {
    pub(crate) slow: u32,
    pub(crate) stopped: u32,
    pub(crate) leaving: u32,
    pub(crate) reconnect: u32,
}

impl Shares {
    /// The temper of viewer number `id`: each share is spread evenly, and the count is exact to one viewer for every
    /// temper in every stretch of numbers from 0 on.
    pub(crate) fn temper(&self, id: usize) -> Temper {
        // Viewer by viewer, each temper is owed its share; the one that is owed a whole viewer gets it. In closed form:
        // the place of `id` on a line of a million, in steps of the golden ratio, which fills it evenly.
        let place = ((id as u64).wrapping_mul(618_033) % 1_000_000) as u32;
        let bad = [
            (self.slow, Temper::Slow),
            (self.stopped, Temper::Stopped),
            (self.leaving, Temper::Leaving),
            (self.reconnect, Temper::Reconnecting),
        ];
        let mut from = 0;
        for (share, temper) in bad {
            if (from..from + share).contains(&place) {
                return temper;
            }
            from += share;
        }
        Temper::Good
    }
}

/// When viewers join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Schedule {
    /// When the first one does (wall clock), and how many do in a second.
    pub(crate) first_us: u64,
    pub(crate) per_second: u64,
    pub(crate) arrivals: Arrivals,
}

impl Schedule {
    /// The moments of the joins numbered `ids` (increasing) of all.
    pub(super) fn moments(&self, ids: &[usize]) -> Vec<u64> {
        match self.arrivals {
            Arrivals::Even => ids.iter().map(|id| self.first_us + *id as u64 * 1_000_000 / self.per_second).collect(),
            Arrivals::Poisson => {
                // Every process draws the whole schedule, so that all draw the same.
                let mut chance = Prng::new(POISSON_SEED);
                let (mut at, mut moments, mut ids) = (0.0, Vec::new(), ids.iter().peekable());
                for id in 0.. {
                    let Some(wanted) = ids.peek() else { break };
                    if **wanted == id {
                        moments.push(self.first_us + at as u64);
                        ids.next();
                    }
                    at += exponential(&mut chance) * 1e6 / self.per_second as f64;
                }
                moments
            }
        }
    }
}

/// The same joins in each run.
const POISSON_SEED: u64 = 20;

/// A draw from the exponential distribution with mean 1.
fn exponential(chance: &mut Prng) -> f64 {
    let unit = (chance.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - unit).ln()
}

/// What all workers do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    /// Over HTTP: the `Host` header and the path, in which `{stream}` and `{seq}` stand for the stream's name and the
    /// chunk's number.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Whether tables stand in front of chunks over HTTP, as a Weircast cache sends them.
    pub(crate) tables: bool,
    pub(crate) names: Vec<String>,
    pub(crate) way: Way,
    pub(crate) verify: Verify,
    /// Threads look for ready sockets without sleeping.
    pub(crate) spin: bool,
    /// The publisher's keys, by term; empty when they are not known: hash and payload only, and the report says so.
    pub(crate) keys: Vec<(u64, [u8; 32])>,
    /// Whether the payload is the built-in generator's, and at which rate.
    pub(crate) generated: bool,
    pub(crate) kbps: u64,
    /// The publisher's timetable.
    pub(crate) times: Option<PathBuf>,
    pub(crate) joins: Schedule,
    pub(crate) shares: Shares,
    /// How long a viewer stays from its first whole chunk on.
    pub(crate) hold_us: Option<u64>,
    /// Percent of the good viewers that leave in a minute and are replaced.
    pub(crate) churn: f64,
    /// Who is sent to another cache goes there.
    pub(crate) follow: bool,
    /// Chunks that a viewer is likely to see, to make room for.
    pub(crate) chunks: u64,
}

impl Plan {
    /// How long the viewer of account number `account` of viewer `id` stays from its first whole chunk on; `None`: to
    /// the end.
    pub(super) fn stay_us(&self, temper: Temper, id: usize, account: usize) -> Option<u64> {
        let mut chance = Prng::new(mix(id as u64) ^ account as u64);
        match temper {
            Temper::Good if self.churn > 0.0 => Some((exponential(&mut chance) * 60e6 * 100.0 / self.churn) as u64),
            Temper::Good => self.hold_us,
            Temper::Slow | Temper::Stopped => None,
            Temper::Leaving | Temper::Reconnecting => Some(1_000_000 + chance.below(4_000_000) as u64),
        }
    }

    /// Between losing the connection and coming back.
    pub(super) fn away_us(&self, id: usize, account: usize) -> u64 {
        Prng::new(mix(account as u64) ^ id as u64).below(1_000_000) as u64
    }

    /// The path of a request.
    pub(super) fn path(&self, stream: usize, seq: Option<u64>) -> String {
        let path = self.path.replace("{stream}", &self.names[stream]);
        seq.map_or_else(|| path.clone(), |seq| path.replace("{seq}", &seq.to_string()))
    }

    pub(super) fn name(&self, stream: usize) -> Option<StreamName> {
        StreamName::new(&self.names[stream]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_in_every_stretch() {
        let shares = Shares { slow: 100_000, stopped: 10_000, leaving: 50_000, reconnect: 0 };
        let count = |range: std::ops::Range<usize>, temper| range.filter(|id| shares.temper(*id) == temper).count();
        for (range, slow, stopped, leaving) in
            [(0..1_000, 100, 10, 50), (4_000..5_000, 100, 10, 50), (0..100, 10, 1, 5)]
        {
            for (temper, want) in [(Temper::Slow, slow), (Temper::Stopped, stopped), (Temper::Leaving, leaving)] {
                let got = count(range.clone(), temper) as i64;
                assert!((got - want).abs() <= 1 + want / 20, "{temper:?} in {range:?}: {got}, not {want}");
            }
        }
        assert_eq!(count(0..10_000, Temper::Reconnecting), 0);
        assert!((0..10_000).all(|id| Shares::default().temper(id) == Temper::Good));
    }

    #[test]
    fn joins_are_scheduled_the_same_in_every_process() {
        for arrivals in [Arrivals::Even, Arrivals::Poisson] {
            let schedule = Schedule { first_us: 1_000_000, per_second: 100, arrivals };
            let all: Vec<usize> = (0..2_000).collect();
            let odd: Vec<usize> = (1..2_000).step_by(2).collect();
            let moments = schedule.moments(&all);
            assert!(moments.is_sorted() && moments[0] == 1_000_000);
            let mean = (moments[1_999] - moments[0]) / 1_999;
            assert!((9_000..11_000).contains(&mean), "{arrivals:?}: one each {mean} us");
            let of_odd: Vec<u64> = odd.iter().map(|id| moments[*id]).collect();
            assert_eq!(schedule.moments(&odd), of_odd);
        }
    }
}
