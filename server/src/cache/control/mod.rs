//! The cache server's control plane: who publishes, what is pulled, what the index is told. One thread, glommio.
//!
//! ```text
//!   shard 0..N-1 --publisher, HTTP request, want, viewer count--> sessions --> publisher   one task per connection
//!        ^                                                            |  '---> http/       uploads, /stats
//!        |  Published, StreamReady, Ended                             v
//!        +---------------------------------------------- hub (shared state)
//!                                                          |      |      |
//!                      ring <-- store (with the stream table)   index   pull   one task per fetched stream
//!                                                              (UDP)     '--- TCP to one parent cache
//! ```
//! | module | job |
//! |---|---|
//! | [`config`], `retention` | settings |
//! | `start`, `slab`, `huge` | everything that can fail at start |
//! | `prepare` | what root does beforehand |
//! | `life` | ready, periodic work, drain and end |
//! | `hub` | what tasks share; carries the stream table's decisions out |
//! | `store`, `note` | chunks into the ring, and what the next process must know of each stream |
//! | `sessions`, `shards` | from and to the shards |
//! | `publisher`, `http` | those who send streams in |
//! | `room` | what the node has left, told to the shards; whom they send elsewhere, and where |
//! | `authority`, `index` | who may; what the index server says and is told |
//! | `pull` | streams of other caches |
//! | `link`, `frames` | TCP and frames, with their bounds |
//! | `wait`, `deadline` | waiting: for each other, for a time, for something in time |
//!
//! Payload comes through here once, on its way into the ring; what goes out is the data plane's. A task never waits with
//! a cell of the hub borrowed.

mod authority;
pub mod config;
mod counters;
mod deadline;
mod frames;
mod http;
mod hub;
mod huge;
mod index;
mod life;
mod link;
mod note;
mod prepare;
mod publisher;
mod pull;
mod retention;
mod room;
mod sessions;
mod shards;
mod slab;
mod start;
mod stats;
mod store;
mod wait;

pub use config::CacheConfig;

use crate::host::findings::Findings;
use crate::host::program::{Ended, Failed};

/// Serves until it is told to end. An error before serving leaves nothing behind.
pub fn run(config: CacheConfig) -> Result<Ended, Failed> {
    life::run(start::start(config)?)
}

/// Mounts a tmpfs with huge pages for the chunk ring, or unmounts it; what was done, in one line. Needs root.
pub fn prepare(config: &CacheConfig, asked: &crate::host::cli::Prepare) -> anyhow::Result<String> {
    config.validate()?;
    prepare::prepare(config, asked)
}

/// Looks at what [`run`] would need: values, descriptors, addresses, memory.
pub fn check(config: &CacheConfig, findings: &mut Findings) {
    start::check(config, findings);
}
