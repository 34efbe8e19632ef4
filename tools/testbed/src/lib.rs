//! Weircast's programs, started for real on loopback: the ground under the demo and the end-to-end tests.
//!
//! ```text
//!  127.0.0.1   route, and for each domain an index and a cache (ports chosen free)
//!  127.0.1.x   peers and publishers of domain 1      the route server's CIDR table tells
//!  127.0.2.x   peers and publishers of domain 2      a peer's domain from its address
//! ```
//! | module | its one job |
//! |---|---|
//! | [`cluster`] | route, indexes and caches, wired and started in order |
//! | [`viewer`] | `weircast-peer watch` and its report |
//! | [`process`] | one program: spawned, waited for, signalled, reaped |
//! | [`programs`] | where the binaries are |
//! | [`workdir`] | the temporary directory; log tails when a test fails |
//! | [`ffmpeg`] | the media tools of the host, or `SKIP: needs ffmpeg` |
//! | [`media`] | streams whose bytes are known; whether what was played is what was published |
//! | [`http`], [`native`] | as much of an HTTP client, and of a viewer, as the tests need |
//! | [`namespaces`] | a network of its own for each program, with rates; needs root |
//! | [`restart`] | a cache that is killed under load, again and again |
//! | [`wait`] | waiting on a condition with a deadline, never for a time |
//!
//! Nothing outlives its owner: every value that stands for a process kills and reaps it when dropped, also on a panic,
//! and every program runs under `weircast-guard`, so that the kernel kills it when the thread that started it is gone
//! (a killed demo leaves nothing behind). Start programs from a thread that lives as long as they shall.
//!
//! Used by `tools/xtask` and by `tests/`; no server or peer uses it.

pub mod cluster;
pub mod ffmpeg;
pub mod http;
pub mod media;
pub mod namespaces;
pub mod native;
pub mod process;
pub mod programs;
pub mod restart;
pub mod viewer;
pub mod wait;
pub mod workdir;

mod config;

pub use cluster::{Cluster, ClusterBuilder};
pub use process::Process;
pub use programs::Programs;
pub use viewer::{PeerProcess, PeerReport, Watch};
pub use wait::eventually;
