//! The cache server's decisions, apart from its sockets and its ring.
//!
//! | module | decides |
//! |---|---|
//! | [`config`] | the knobs, with their defaults and where they come from |
//! | [`ingest`] | whether a chunk goes into the ring: order, epochs, duplicates |
//! | [`streams`] | what the cache is to each stream: origin, relay, fetching, stalled, ended; when it is forgotten |
//! | [`relay`] | which parent a stream is fetched from, and when the next one is tried |
//! | [`viewer`] | what a viewer is sent next |
//! | [`replacement`] | who loses chunks first when the memory for them is short |
//! | [`admission`] | how many connections there may be, and how loaded the cache says it is |
//!
//! All are pure. Chunks are names here; their bytes are with the driver, in the ring.

pub mod admission;
pub mod config;
pub mod ingest;
pub mod relay;
pub mod replacement;
pub mod streams;
pub mod viewer;
