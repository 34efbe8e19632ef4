//! What a way of linking peers must offer. The loop, the links and the framing know no more of it than this.
//!
//! A transport accepts and makes *streams*: ordered, reliable bytes both ways, non-blocking, pollable. TCP is one
//! ([`super::tcp::Tcp`]). Frames mean the same over any of them.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::event::Source;
use mio::{Registry, Token};

/// Makes streams.
pub(crate) trait Transport {
    /// One link's bytes.
    type Stream: Stream;

    /// Where this program can be reached.
    fn local_addr(&self) -> SocketAddr;

    /// Lets `registry` tell of incoming connections as `token`.
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()>;

    /// The next incoming connection; `WouldBlock` when there is none.
    fn accept(&mut self) -> io::Result<(Self::Stream, SocketAddr)>;

    /// Begins to connect. The stream becomes writable when it stands or has failed.
    fn connect(&mut self, to: SocketAddr) -> io::Result<Self::Stream>;

    /// Bytes that `stream` has taken and the other end's host has not confirmed; `None` where nobody tells.
    fn outstanding(&mut self, stream: &Self::Stream) -> Option<u64>;
}

/// Ordered bytes both ways; `WouldBlock` where nothing can be done.
pub(crate) trait Stream: Read + Write + Source {
    /// Whether a stream of [`Transport::connect`] stands; an error when it failed.
    fn connected(&self) -> io::Result<bool>;

    /// Says that nothing more will be written; reading goes on.
    fn finish(&self) -> io::Result<()>;
}
