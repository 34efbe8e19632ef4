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

/// One of the list.
pub(crate) struct Experiment {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Part of a run that names none.
    pub(crate) in_default: bool,
    pub(crate) run: fn(&Stage) -> Result<Outcome>,
}

/// In the order in which they run.
pub(crate) const ALL: &[Experiment] = &[
    Experiment {
        name: "http-ts",
        about: "HTTP-TS viewers of one live 2 Mbit/s stream: ceiling, Weircast, icecast2",
        in_default: true,
        run: http_ts::run,
    },
    Experiment {
        name: "get",
        about: "keep-alive GET of single chunks, closed loop: ceiling, Weircast, nginx, varnish",
        in_default: true,
        run: get::run,
    },
    Experiment {
        name: "native",
        about: "push and pull in Weircast's protocol, by each sending backend: ceiling, Weircast",
        in_default: true,
        run: native::run,
    },
    Experiment {
        name: "latency",
        about: "from publishing a chunk to its arrival at one peer",
        in_default: true,
        run: latency::run,
    },
    Experiment { name: "memory", about: "user memory for each peer", in_default: true, run: memory::run },
    Experiment {
        name: "bad-peers",
        about: "what slow and stopped peers cost the others",
        in_default: true,
        run: bad_peers::run,
    },
    Experiment {
        name: "publishers",
        about: "a thousand publishers of 2 Mbit/s on one core, no chunk lost",
        in_default: true,
        run: publishers::run,
    },
    Experiment {
        name: "restart",
        about: "kill -9 under load, again and again: wrong bytes, time to serve again",
        in_default: true,
        run: restart::run,
    },
    Experiment {
        name: "soak",
        about: "5 000 peers that come and go for half an hour: growth of memory",
        in_default: false,
        run: soak::run,
    },
];
