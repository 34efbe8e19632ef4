//! The drivers of Weircast's three servers around the machines of `cache-core`.
//!
//! | module | what it drives |
//! |---|---|
//! | [`host`] | what every server needs of its host: configuration, logs, limits, signals, readiness |
//! | [`uring`] | how bytes move: the small io_uring layer of the cache's data plane |
//! | [`cache`] | the cache server: data plane (shards) and control plane |
//! | [`index`], [`route`] | the index and route servers on glommio |

pub mod cache;
pub mod host;
pub mod index;
pub mod route;
pub mod uring;
