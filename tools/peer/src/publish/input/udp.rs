//! Transport stream from a UDP port, plain or in RTP, also multicast.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use cache_core::time::Time;
use mio::net::UdpSocket;
use mio::{Interest, Registry};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Input, InputError, Step, rtp};
use crate::net::poll::INPUT;

/// Wished for the socket: 800 ms at 40 Mbit/s. The kernel may grant less.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Largest datagram of an Ethernet without jumbo frames is 1500; some tools send larger ones over loopback.
const DATAGRAM_MAX: usize = 65_536;

/// A port.
#[derive(Debug)]
pub(crate) struct UdpInput {
    socket: UdpSocket,
    buf: Vec<u8>,
    bad: u64,
}

impl UdpInput {
    /// Receives at `addr`; a multicast address is joined.
    pub(crate) fn open(addr: SocketAddr, registry: &Registry) -> io::Result<UdpInput> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // A smaller buffer works too, it only loses sooner.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        if addr.ip().is_multicast() {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        match addr.ip() {
            IpAddr::V4(ip) if ip.is_multicast() => socket.join_multicast_v4(&ip, &Ipv4Addr::UNSPECIFIED)?,
            IpAddr::V6(ip) if ip.is_multicast() => socket.join_multicast_v6(&ip, 0)?,
            _ => {}
        }
        let mut socket = UdpSocket::from_std(socket.into());
        registry.register(&mut socket, INPUT, Interest::READABLE)?;
        Ok(UdpInput { socket, buf: vec![0; DATAGRAM_MAX], bad: 0 })
    }
}

impl Input for UdpInput {
    fn next(&mut self, _: Time) -> Result<Step, InputError> {
        loop {
            match self.socket.recv(&mut self.buf) {
                Ok(len) => match rtp::transport_stream(&self.buf[..len]) {
                    Some(stream) => return Ok(Step::Bytes(Bytes::copy_from_slice(stream))),
                    None => {
                        self.bad += 1;
                        if self.bad.is_power_of_two() {
                            tracing::warn!(so_far = self.bad, "a datagram holds no MPEG transport stream: left out");
                        }
                    }
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Idle),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
