//! How a stream becomes chunks: the MPEG-TS slicer, and what goes with it.
//!
//! ```text
//!  bytes, any fragmentation
//!    | framing     188-byte packets; sync search, bytes skipped
//!    v
//!  packet ---+--> psi, tables   PAT and PMT: which PID is what, copies for late joiners
//!            +--> pcr           the stream's clock: wraps, jumps
//!            +--> key_frame     where a decoder can begin
//!            v
//!          slicer               cuts every 200 ms of the stream's own clock -> Slice -> ChunkHeader
//! ```
//! Everything here is pure: the wall clock is an argument, and memory is bounded whatever the input
//! ([`crate::limits`]).
//!
//! | module | answers |
//! |---|---|
//! | [`slicer`] | where a chunk ends, what stands in front of it |
//! | [`tables`] | the newest PAT and PMT ([`TableMemory`]) |
//! | [`pacer`] | when each byte of a file is due |
//! | [`generator`], [`check`] | a test stream that proves itself |
//!
//! A publisher (`weircast-peer publish`, a cache for an HTTP upload) uses [`Slicer`]; HTTP play-out uses the tables
//! that ride in chunks. It does not decode, remultiplex or change a byte of the transport stream.

pub mod check;
mod clock;
pub mod framing;
pub mod generator;
mod grid;
mod key_frame;
pub mod pacer;
pub mod packet;
pub mod pcr;
pub mod psi;
mod sealed;
pub mod slicer;
pub mod tables;

pub use check::{CheckReport, PayloadCheck};
pub use framing::{Framer, NotTransportStream};
pub use generator::{Content, Generator, GeneratorConfig};
pub use pacer::Pacer;
pub use slicer::{Slice, Slicer, SlicerConfig, SlicerStats};
pub use tables::TableMemory;
