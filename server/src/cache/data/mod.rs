//! The data plane: shards, one thread each, that serve viewers out of the ring.
//!
//! ```text
//!   kernel: accept, receive, poll, zero-copy                       control
//!      | completions                                                 | Published, StreamReady, Ended, Drain ...
//!      v                                                             v
//!  +-- shard.rs: one turn = completions, messages, run queue, deadlines -------------------------------+
//!  | accept ---> connection (Handshake) -- handshake.rs, http.rs: who is it? --> control (publishers)  |
//!  |                  | viewer                                                                         |
//!  |                  v                                                                                |
//!  | native.rs: frames in    streams.rs: who watches what     pump.rs: what next? -> sender.rs: bytes  |
//!  +---------------------------------------------------------------------------------------------------+
//!      | lookup, lease                                               | NativePublisher, Http, Want, Viewers
//!      v                                                             v
//!    ring                                                          control
//! ```
//! # Concepts
//! - A **connection** begins in its handshake: single receives until the first frame or HTTP head is whole (at most
//!   4 KiB, 5 s). A publisher's is handed to control with all bytes read; a viewer's stays for good.
//! - A **viewer**'s machine (`cache_core::proto::cache::viewer`) says what it is sent next. The **pump** carries that out
//!   until the socket is full, the turn's bytes are spent or there is nothing more.
//! - The **run queue** holds the connections that may have something to send, each at most once: a fast viewer takes its
//!   turn behind all others.
//! - A viewer that falls behind skips; one that takes nothing is cut off. Neither costs the others anything.
//!
//! # Bounds
//! Connections, streams per connection, wanted streams, chunks asked for, unread answers, bytes per turn: `config.rs`
//! and `cache_core::limits`; each is counted in [`ShardCounters`] when it is met.
//!
//! # What it does not do
//! It receives no chunk, verifies none but those that a former process left, and knows no other server: control does.

mod accept;
mod close;
mod config;
mod connection;
mod counters;
mod deadlines;
mod handle;
mod handshake;
mod http;
mod inbox;
mod messages;
mod native;
mod positions;
mod pump;
mod receive;
mod sender;
mod shard;
mod shelf;
mod streams;

use std::net::TcpListener;
use std::sync::{Arc, mpsc};

use cache_core::ring::{Reader, Ring};

pub use config::{SendBackend, ShardConfig};
pub use counters::{Counter, ShardCounters};
pub use handle::{ShardError, ShardHandle, bind};
pub(crate) use shelf::is_whole;

use crate::uring::Doorbell;

/// Starts shard `index`: it serves `listener` (from [`bind`]) out of `ring` through `reader` (`ring.reader(index)`).
/// Returns when it is serving.
///
/// The program must ignore SIGPIPE: `sendfile` has no flag against it.
///
/// # Errors
/// [`ShardError`]; nothing is left running, and the listener is closed.
pub fn start(
    index: u32,
    config: ShardConfig,
    listener: TcpListener,
    reader: Reader,
    ring: Ring,
) -> Result<ShardHandle, ShardError> {
    let host = |error| ShardError::Host { index, error };
    let doorbell_to_shard = Arc::new(Doorbell::polled().map_err(host)?);
    let doorbell_to_control = Arc::new(Doorbell::polled().map_err(host)?);
    let counters = Arc::new(ShardCounters::default());
    let (to, from_control) = rtrb::RingBuffer::new(config.queue_messages);
    let (to_control, from) = rtrb::RingBuffer::new(config.queue_messages);
    let (serving, started) = mpsc::sync_channel(1);
    let links = shard::Links {
        from_control,
        to_control,
        doorbell: doorbell_to_shard.clone(),
        doorbell_to_control: doorbell_to_control.clone(),
        counters: counters.clone(),
    };
    let run = move || {
        // The ring belongs to the thread that makes it.
        match shard::Shard::new(config, listener, reader, ring, links) {
            Ok(shard) => {
                let _ = serving.send(Ok(()));
                shard.run(index);
            }
            Err(error) => {
                let _ = serving.send(Err(error));
            }
        }
    };
    let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(run).map_err(host)?;
    match started.recv() {
        Ok(Ok(())) => {
            let wake = handle::WakeOnDrop(doorbell_to_shard.clone());
            Ok(ShardHandle { index, to, from, doorbell_to_shard, doorbell_to_control, counters, thread, _wake: wake })
        }
        Ok(Err(error)) => Err(ShardError::Uring { index, error }),
        Err(_) => Err(host(std::io::Error::other("its thread ended at once"))),
    }
}
