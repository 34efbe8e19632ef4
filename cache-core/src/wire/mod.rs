//! What is sent.
//!
//! | over | between | module |
//! |---|---|---|
//! | TCP, in [`frame`]s | peer and peer, peer and cache, cache and cache, publisher and cache | [`exchange`], [`chunk`] |
//! | UDP, in [`datagram`]s | anyone and index, anyone and route | [`index`], [`route`] |
//!
//! Decoding never panics, and allocates no more than the bytes that are there and the limits of [`crate::limits`]
//! allow. A program answers a version that it does not speak with a refusal that names its own.

pub mod buffer_map;
pub mod chunk;
pub mod codec;
pub mod datagram;
pub mod exchange;
pub mod frame;
pub mod index;
pub mod name;
pub mod refusal;
pub mod route;
pub mod seal;

pub use buffer_map::{BufferMap, WireBufferMap};
pub use chunk::{CHUNK_HEADER_BYTES, CHUNK_SIGNED_BYTES, ChunkHeader};
pub use codec::{Blob, DecodeError, List, Text};
pub use datagram::{Datagram, Message};
pub use exchange::Frame;
pub use frame::{CHUNK_PREFIX_BYTES, FRAME_HEAD_BYTES, FrameHead, KIND_CHUNK};
pub use name::StreamName;
pub use refusal::{RefusalReason, Refused};

/// The wire version, in every frame and datagram. It changes when a message of one version cannot be read as one of
/// the other; new kinds alone do not change it, a program that does not know a kind refuses that message.
pub const VERSION: u8 = 4;
