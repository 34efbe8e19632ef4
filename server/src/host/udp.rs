//! The loop of a server that speaks datagrams only: one socket, one machine, one glommio executor.
//!
//! ```text
//!  socket readable ─┐                 ┌─ at most BATCH packets in, each one transition
//!  timer due ───────┼─ one turn ──────┼─ a tick when one is due
//!  signal, SIGHUP ──┘  (clock read    └─ what was decided out; what the socket does not take is dropped, counted:
//!                       once)             every dialogue repeats
//! ```
//! The socket is std's, non-blocking and not shared: glommio's own `UdpSocket` sets `SO_REUSEPORT`, which would let a second
//! server of the same user bind the port unnoticed and take half of the datagrams.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use cache_core::limits::DATAGRAM_BYTES_MAX;
use cache_core::outbox::Outbox;
use cache_core::proto::gate::{Outgoing, refusal_of};
use cache_core::sign::ClusterKey;
use cache_core::time::Time;
use cache_core::wire::Datagram;
use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::clock::Clock;
use super::signals::{Hangups, Signals};

/// Packets taken in one turn before timers and signals are looked at again. Our guess: under a millisecond of work.
const BATCH: usize = 64;

/// The longest sleep; a machine without timers is looked at this often.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// glommio's memory for storage I/O, which these servers do not do: its least (64 KiB).
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of the executor's rings: a socket, two signal descriptors and a timer.
const RING_DEPTH: usize = 16;

/// A machine behind a socket. Each call is one transition; what it decides to send goes into `out`.
pub trait DatagramServer {
    /// A datagram came.
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>);
    /// Time has passed.
    fn tick(&mut self, now: Time, out: &mut Outbox<Outgoing>);
    /// When [`DatagramServer::tick`] has something to do.
    fn next_timeout(&self) -> Time;
    /// A SIGHUP came: files may be read again. Datagrams wait meanwhile. Called only where [`serve`] was given
    /// [`Hangups`].
    fn hung_up(&mut self) {}
}

/// What the loop has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that could not be read.
    pub unreadable: u64,
    /// Packets that the socket did not take, or that did not fit.
    pub dropped: u64,
}

/// An executor for [`serve`], on this thread, bound to no CPU.
pub fn executor(name: &str) -> anyhow::Result<LocalExecutor> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|error| anyhow::anyhow!("the executor cannot start: {error}"))
}

/// Serves `machine` on `socket` until a signal asks to end. A server of datagrams has nothing to drain: every answer is
/// sent in the turn in which the question came.
///
/// Fails when the reactor or the socket does.
pub async fn serve(
    socket: UdpSocket,
    cluster: &ClusterKey,
    clock: Clock,
    mut signals: Signals,
    mut hangups: Option<Hangups>,
    machine: &mut impl DatagramServer,
) -> anyhow::Result<UdpStats> {
    // glommio waits on second handles of the signals' pipes; the first ones are read.
    let mut wake = vec![Wake::of(&signals)?];
    if let Some(hangups) = &hangups {
        wake.push(Wake::of(hangups)?);
    }
    let mut wait = Wait { socket: PollState::new(), wake, timer: Timer::new(SLEEP_MAX) };
    let mut port =
        Port { v6: socket.local_addr()?.is_ipv6(), socket: PollableFd::new(socket)?, stats: UdpStats::default() };
    let mut out = Outbox::new();
    loop {
        let now = clock.now();
        let more = port.receive(now, cluster, machine, &mut out)?;
        if machine.next_timeout() <= now {
            machine.tick(now, &mut out);
        }
        for outgoing in out.drain() {
            port.send(&outgoing, cluster);
        }
        if let Some(asked) = signals.take() {
            tracing::info!(?asked, stats = ?port.stats, "ending");
            return Ok(port.stats);
        }
        if hangups.as_mut().is_some_and(Hangups::take) {
            machine.hung_up();
        }
        if more {
            glommio::executor().yield_now().await;
        } else {
            let due = clock.instant(machine.next_timeout());
            let sleep = due.map_or(SLEEP_MAX, |due| due.saturating_duration_since(std::time::Instant::now()));
            wait.until_something(&port.socket, sleep.min(SLEEP_MAX)).await?;
        }
    }
}

/// What is waited for; registrations outlive a turn that another event ended.
struct Wait {
    socket: PollState,
    wake: Vec<Wake>,
    timer: Timer,
}

/// A descriptor that wakes the loop and is read elsewhere.
struct Wake {
    fd: PollableFd<std::os::fd::OwnedFd>,
    state: PollState,
}

impl Wake {
    fn of(fd: impl std::os::fd::AsFd) -> anyhow::Result<Wake> {
        Ok(Wake { fd: PollableFd::new(rustix::io::dup(fd)?)?, state: PollState::new() })
    }
}

impl Wait {
    async fn until_something(&mut self, socket: &PollableFd<UdpSocket>, sleep: Duration) -> anyhow::Result<()> {
        self.timer = Timer::new(sleep);
        poll_fn(|cx| {
            if let Poll::Ready(ready) = socket.poll_readable(cx, &mut self.socket) {
                return Poll::Ready(ready);
            }
            for wake in &mut self.wake {
                if let Poll::Ready(ready) = wake.fd.poll_readable(cx, &mut wake.state) {
                    return Poll::Ready(ready);
                }
            }
            Pin::new(&mut self.timer).poll(cx).map(|_| Ok(()))
        })
        .await
        .map_err(|error| anyhow::anyhow!("the reactor failed: {error}"))
    }
}

struct Port {
    socket: PollableFd<UdpSocket>,
    v6: bool,
    stats: UdpStats,
}

impl Port {
    /// Takes up to [`BATCH`] packets; true when there may be more.
    fn receive(
        &mut self,
        now: Time,
        cluster: &ClusterKey,
        machine: &mut impl DatagramServer,
        out: &mut Outbox<Outgoing>,
    ) -> anyhow::Result<bool> {
        // One byte more than the limit: a longer packet is seen to be longer.
        let mut packet = [0; DATAGRAM_BYTES_MAX + 1];
        for _ in 0..BATCH {
            let (len, from) = match self.socket.get_ref().recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(anyhow::anyhow!("the socket failed: {error}")),
            };
            self.stats.received += 1;
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            match Datagram::decode(&packet[..len], cluster) {
                Ok(datagram) => machine.datagram(now, from, datagram, out),
                Err(error) => {
                    self.stats.unreadable += 1;
                    tracing::debug!(%from, %error, "unreadable packet");
                    if let Some(refusal) = refusal_of(&packet[..len], error, cluster) {
                        self.send_bytes(from, &refusal);
                    }
                }
            }
        }
        Ok(true)
    }

    fn send(&mut self, outgoing: &Outgoing, cluster: &ClusterKey) {
        match outgoing.datagram.encode(cluster) {
            Some(bytes) => self.send_bytes(outgoing.to, &bytes),
            None => {
                self.stats.dropped += 1;
                tracing::warn!(message = outgoing.datagram.message.name(), "a message does not fit a datagram");
            }
        }
    }

    fn send_bytes(&mut self, to: SocketAddr, bytes: &[u8]) {
        let to = match to.ip() {
            IpAddr::V4(ip) if self.v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        match self.socket.get_ref().send_to(bytes, to) {
            Ok(_) => self.stats.sent += 1,
            Err(error) => {
                self.stats.dropped += 1;
                tracing::debug!(%to, %error, "not sent");
            }
        }
    }
}

/// Errors that concern one packet (an ICMP answer, an interruption), not the socket.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable)
}
