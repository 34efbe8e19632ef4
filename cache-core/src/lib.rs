//! Weircast's core: what is sent, what is decided, and where bytes stay.
//!
//! The crate is pure and deterministic, but for the mapped memory in [`ring`]: no clock, socket, thread, hash order
//! or process randomness. Time and chance are arguments.
//!
//! | module | answers |
//! |---|---|
//! | [`units`], [`time`], [`peer_id`] | the values that everything else speaks in |
//! | [`limits`] | every bound, in one place |
//! | [`wire`] | what is sent: frames, datagrams, the chunk header |
//! | [`sign`] | what is trusted: chunk signatures, address cookies, cluster tags |
//! | [`proto`] | what is decided: the state machines of peer, index, route and cache |
//! | [`ring`] | where bytes stay: the chunk ring in shared memory-mapped slabs (feature `shm`) |
//! | [`media`] | how a stream becomes chunks: the MPEG-TS slicer |
//!
//! Who may use whom: `units`, `time`, `limits`, `prng` use nothing; `wire` uses those; `proto::*` uses `wire` and
//! below, never `ring` and never another role; `ring` uses `units` and `limits`. `tests/architecture.rs` checks it.

pub mod limits;
pub mod media;
pub mod outbox;
pub mod peer_id;
pub mod prng;
pub mod proto;
#[cfg(feature = "shm")]
pub mod ring;
pub mod sign;
pub mod time;
pub mod units;
pub mod wire;
