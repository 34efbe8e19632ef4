//! The cache server.
//!
//! ```text
//!  shard 0..N-1   one thread each, pinned; raw io_uring: accept, receive, send from the slabs      data/
//!      ^  |
//!      |  v       bridge: SPSC queues of names and descriptors, an eventfd doorbell each way        bridge.rs
//!  control        one thread; glommio: publishers, pulls from other caches, the index client        control/
//! ```
//! Every connection begins on a shard. A shard reads the first frame or HTTP head; viewers stay, publishers and
//! administrators are handed to control with the bytes already read.

pub mod bridge;
pub mod control;
pub mod data;
