//! Datagrams with index and route servers: one socket, at the listener's port.

use std::io;
use std::net::SocketAddr;

use cache_core::limits::DATAGRAM_BYTES_MAX;
use cache_core::sign::ClusterKey;
use cache_core::wire::Datagram;
use mio::net::UdpSocket;
use mio::{Interest, Registry};

use super::poll::UDP;
use super::tcp::Tcp;
use super::transport::Transport;

/// Datagrams taken in one turn. Our guess: far above any honest rate, small against a turn's time.
const PER_TURN: usize = 64;

/// Ports tried until one is free for TCP and UDP alike.
const PORT_TRIES: usize = 32;

/// The socket.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    /// A peer is no member of the cluster: it can neither make nor read the servers' sealed messages.
    outsider: ClusterKey,
    more: bool,
    bad: u64,
    unsent: u64,
}

impl Udp {
    /// A socket at `bind`.
    pub(crate) fn bind(bind: SocketAddr) -> io::Result<Udp> {
        let socket = UdpSocket::bind(bind)?;
        Ok(Udp { socket, outsider: ClusterKey::derive(""), more: false, bad: 0, unsent: 0 })
    }

    /// Lets the poll tell of datagrams as [`UDP`].
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.socket, UDP, Interest::READABLE)
    }

    /// Where it is bound.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The next datagram of this turn. `None`: no more now, or the turn's share (see [`Udp::has_more`]).
    pub(crate) fn receive(&mut self, taken: &mut usize) -> Option<(SocketAddr, Datagram)> {
        let mut packet = [0; DATAGRAM_BYTES_MAX + 1];
        self.more = false;
        while *taken < PER_TURN {
            *taken += 1;
            match self.socket.recv_from(&mut packet) {
                Ok((len, from)) => match Datagram::decode(&packet[..len], &self.outsider) {
                    Ok(datagram) => return Some((canonical(from), datagram)),
                    Err(error) => {
                        tracing::debug!(%from, %error, "bad datagram");
                        self.bad += 1;
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                // An ICMP error of a former send: whoever asked asks again.
                Err(error) => tracing::debug!(%error, "a datagram was refused"),
            }
        }
        self.more = true;
        None
    }

    /// Whether the last turn left datagrams.
    pub(crate) const fn has_more(&self) -> bool {
        self.more
    }

    /// Sends a datagram; one that cannot be sent is dropped and counted, whoever asked asks again.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &Datagram) {
        let sent = datagram.encode(&self.outsider).map(|packet| self.socket.send_to(&packet, to));
        if !matches!(sent, Some(Ok(_))) {
            tracing::debug!(%to, ?sent, "datagram not sent");
            self.unsent += 1;
        }
    }

    /// Bad and unsent datagrams so far.
    pub(crate) const fn counts(&self) -> (u64, u64) {
        (self.bad, self.unsent)
    }
}

/// An IPv4 address stays one, also on a socket of both families.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A listener and a datagram socket at the same address and port.
pub(crate) fn bind_both(bind: SocketAddr) -> io::Result<(Tcp, Udp)> {
    let mut tries = PORT_TRIES;
    loop {
        tries -= 1;
        let tcp = Tcp::listen(bind)?;
        match Udp::bind(SocketAddr::new(bind.ip(), tcp.local_addr().port())) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && bind.port() == 0 && tries > 0 => {}
            udp => return Ok((tcp, udp?)),
        }
    }
}
