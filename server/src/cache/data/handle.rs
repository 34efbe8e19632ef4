//! A shard as its owner holds it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::counters::ShardCounters;
use crate::cache::bridge::{ToControl, ToShard};
use crate::uring::{Doorbell, SetupError};

/// Connections that the kernel keeps until a shard takes them (it cuts this to `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A connection that nothing came through for this long is asked whether it still lives, and closed after three
/// questions without an answer: a viewer that has lost its network while it waited for nothing costs a place for 25 s
/// (our guess). One that is being sent to meets `stall_cutoff` first.
const SILENCE: Duration = Duration::from_secs(10);

/// Bytes that a viewer's socket holds and has not sent: about two chunks of 5 Mbit/s. Left to itself the kernel takes up
/// to 4 MiB (`net.ipv4.tcp_wmem`) for each viewer and has room again only when a third of it has gone: a slow viewer is
/// then half a minute behind before its machine hears of it, and is cut off as stopped although it reads all the time.
/// A fast one is not slowed down: what is on its way does not count.
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// Why a shard did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// No ring.
    #[error("shard {index}: {error}")]
    Uring {
        /// The shard.
        index: u32,
        /// Why.
        error: SetupError,
    },
    /// No thread or doorbell.
    #[error(
        "shard {index} cannot be started: {error}; raise the limits on descriptors (LimitNOFILE=) and tasks (TasksMax=)"
    )]
    Host {
        /// The shard.
        index: u32,
        /// Why.
        error: std::io::Error,
    },
}

/// A running shard. Dropping the handle without [`ShardHandle::join`] lets the thread stop by itself: a shard whose
/// queue from control has lost its other end stops.
#[derive(Debug)]
pub struct ShardHandle {
    /// Its number.
    pub index: u32,
    /// To the shard; ring [`ShardHandle::doorbell_to_shard`] afterwards ([`ShardHandle::tell`] does both).
    pub to: rtrb::Producer<ToShard>,
    /// From the shard.
    pub from: rtrb::Consumer<ToControl>,
    /// Wakes the shard.
    pub doorbell_to_shard: Arc<Doorbell>,
    /// Rung by the shard when `from` has something: poll it, `quiet` it, then hear everything.
    pub doorbell_to_control: Arc<Doorbell>,
    /// What it counts.
    pub counters: Arc<ShardCounters>,
    pub(super) thread: JoinHandle<()>,
    pub(super) _wake: WakeOnDrop,
}

/// Wakes the shard when the handle, and with it the queue's end, has been dropped (fields go in their order).
#[derive(Debug)]
pub(super) struct WakeOnDrop(pub(super) Arc<Doorbell>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.ring();
    }
}

impl ShardHandle {
    /// Sends `message` and wakes the shard.
    ///
    /// # Errors
    /// Gives the message back when the queue ([`super::ShardConfig::queue_messages`]) is full. A lost `Published` or `Ended` needs no care if
    /// another `Published` follows; every other message should be sent again.
    pub fn tell(&mut self, message: ToShard) -> Result<(), ToShard> {
        let pushed = self.to.push(message).map_err(|rtrb::PushError::Full(message)| message);
        self.doorbell_to_shard.ring();
        pushed
    }

    /// The next message from the shard.
    pub fn hear(&mut self) -> Option<ToControl> {
        self.from.pop().ok()
    }

    /// The descriptor that becomes readable when the shard has sent something.
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell_to_control.as_fd()
    }

    /// Waits until the shard's thread has ended; false when it panicked. It ends after `Stop`, and after `Drain` when it
    /// has finished.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Listens on `addr` for one shard. Every shard has a listener of its own on the same port (SO_REUSEPORT); the kernel
/// deals the connections out. With port 0, bind the first one and take its `local_addr` for the others. Connections
/// inherit TCP_NODELAY, keep-alive and the bound on unsent bytes. An IPv6 listener takes IPv4 as well.
///
/// # Errors
/// With the address in it: in use, not of this host, or no right to it (ports below 1024).
pub fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE / 2).with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listener().map_err(|error| {
        let cure = match Errno::from_io_error(&error) {
            Some(Errno::ADDRINUSE) => "another program listens there; stop it or choose another `listen`",
            Some(Errno::ADDRNOTAVAIL) => "this host has no such address; choose another `listen`",
            Some(Errno::ACCESS) => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one in `listen`",
            _ => "choose another `listen`",
        };
        std::io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}; {cure}"))
    })
}
