//! How bytes come and go: sockets of the one event loop thread.
//!
//! ```text
//!   udp          datagrams with index and route servers        one socket, the listener's port
//!   transport    the interface that a way of linking peers has: accept, connect, a byte stream
//!   tcp          its implementation over TCP
//!   outstanding  what the kernel still holds of a connection's bytes
//!   framing      bytes -> frames and chunks                     nothing is allocated before its limit is checked
//!   queue        frames and chunks -> bytes                     bounded; chunks are never copied
//!   link         one connection: reader, queue, what has left, deadlines
//!   links        all of them: what the machine's link numbers mean
//! ```
//! Used by `watch` and `publish`, who decide nothing here: they pass a machine's outputs in and its inputs out.
//! Nothing in here blocks; every count and size has a limit, and what meets one is counted in [`NetCounters`].

pub(crate) mod framing;
pub(crate) mod link;
pub(crate) mod links;
mod outstanding;
pub(crate) mod poll;
pub(crate) mod queue;
pub(crate) mod tcp;
pub(crate) mod transport;
pub(crate) mod udp;

use serde::Serialize;

/// What the sockets met. All are totals since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct NetCounters {
    /// Links accepted.
    pub(crate) links_accepted: u64,
    /// Links made.
    pub(crate) links_connected: u64,
    /// Links that could not be made.
    pub(crate) connects_failed: u64,
    /// Connections turned away at [`links::LINKS_MAX`].
    pub(crate) links_over_limit: u64,
    /// Times that no descriptor was left for a connection.
    pub(crate) descriptors_exhausted: u64,
    /// Links closed for bytes that are no frame of ours.
    pub(crate) garbage: u64,
    /// Links closed because the first frame, or the rest of one, did not come within [`link::PATIENCE`].
    pub(crate) timeouts: u64,
    /// Links closed because the other end did not take, or confirm, what was queued for it.
    pub(crate) slow_receivers: u64,
    /// Chunks that counted as sent when the kernel had taken them, because it does not tell what has left.
    pub(crate) sends_unconfirmed: u64,
    /// Datagrams that are none of ours.
    pub(crate) datagrams_bad: u64,
    /// Datagrams that could not be sent (no room in the socket, no route, too long).
    pub(crate) datagrams_unsent: u64,
}
