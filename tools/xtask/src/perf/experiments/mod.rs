//! What is measured. Each experiment starts its servers itself, one at a time.

mod bad_peers;
mod get;
mod http_ts;
mod latency;
mod memory;
mod native;
mod publishers;
mod reach;
mod restart;
mod soak;

use anyhow::Result;

use super::outcome::Outcome;
use super::stage::Stage;

/// One of the list. Each takes under five minutes with three pairs, so that a machine that others share can be kept
/// quiet for one; what belongs together has names that begin alike, and is chosen together by that beginning.
pub(crate) struct Experiment {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Part of a run that names none.
    pub(crate) in_default: bool,
    /// Part of a quick run.
    pub(crate) in_quick: bool,
    pub(crate) run: fn(&Stage) -> Result<Outcome>,
}

const fn usual(name: &'static str, about: &'static str, run: fn(&Stage) -> Result<Outcome>) -> Experiment {
    Experiment { name, about, in_default: true, in_quick: true, run }
}

/// Shows nothing in a quick run that another one does not.
const fn not_quick(experiment: Experiment) -> Experiment {
    Experiment { in_quick: false, ..experiment }
}

const GET: &str = "keep-alive GET of single chunks, closed loop: ceiling, Weircast, nginx, varnish";

/// In the order in which they run.
pub(crate) const ALL: &[Experiment] = &[
    usual("http-ts", "HTTP-TS viewers of one live 2 Mbit/s stream: ceiling, Weircast, icecast2", http_ts::run),
    not_quick(usual("http-ts-most", "the largest number of them that is served in time", http_ts::most)),
    not_quick(usual("get-16", GET, |stage| get::run(stage, 16))),
    usual("get-50", GET, |stage| get::run(stage, 50)),
    not_quick(usual("get-125", GET, |stage| get::run(stage, 125))),
    not_quick(usual("get-500", GET, |stage| get::run(stage, 500))),
    not_quick(usual("get-most", "viewers who get a chunk each 200 ms in time: ceiling, Weircast, nginx", get::most)),
    usual("native", "push and pull in Weircast's protocol, by each sending backend: ceiling, Weircast", native::run),
    not_quick(usual("native-most", "the largest number of them that is served in time", native::most)),
    usual("latency", "from publishing a chunk to its arrival at one peer", latency::run),
    usual("memory", "user memory for each peer", memory::run),
    usual("bad-peers", "what slow and stopped peers cost the others", bad_peers::run),
    usual("publishers", "a thousand publishers of 2 Mbit/s on one core, no chunk lost", publishers::run),
    usual("restart", "kill -9 under load, again and again: wrong bytes, time to serve again", restart::run),
    Experiment {
        name: "soak",
        about: "5 000 peers that come and go for half an hour: growth of memory",
        in_default: false,
        in_quick: true,
        run: soak::run,
    },
];
