//! Links over TCP. Every socket is bound to the peer's own address, so that an address tells the domain.

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::outstanding::Outstanding;
use super::transport::{Stream, Transport};

/// Connections that may wait to be accepted. Our guess: a full partner list's worth in one loop turn.
const BACKLOG: i32 = 128;

/// The TCP transport.
#[derive(Debug)]
pub(crate) struct Tcp {
    listener: Option<TcpListener>,
    local: SocketAddr,
    outstanding: Outstanding,
}

impl Tcp {
    /// Listens at `bind` (port 0: any).
    pub(crate) fn listen(bind: SocketAddr) -> io::Result<Tcp> {
        let socket = Socket::new(Domain::for_address(bind), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        // A restart must not wait for the former process' connections to time out.
        socket.set_reuse_address(bind.port() != 0)?;
        socket.bind(&bind.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into());
        let local = listener.local_addr()?;
        Ok(Tcp { listener: Some(listener), local, outstanding: Outstanding::new() })
    }

    /// Only makes links, from `bind`'s address.
    pub(crate) fn outgoing(bind: SocketAddr) -> Tcp {
        Tcp { listener: None, local: bind, outstanding: Outstanding::new() }
    }
}

impl Transport for Tcp {
    type Stream = TcpStream;

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.listener.as_mut().map_or(Ok(()), |listener| registry.register(listener, token, Interest::READABLE))
    }

    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(listener) = &self.listener else { return Err(io::ErrorKind::WouldBlock.into()) };
        let (stream, from) = listener.accept()?;
        // Requests and announcements are small and urgent.
        let _ = stream.set_nodelay(true);
        Ok((stream, from))
    }

    fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if !self.local.ip().is_unspecified() {
            socket.bind(&SocketAddr::new(self.local.ip(), 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Err(e) if e.raw_os_error() == Some(IN_PROGRESS) || e.kind() == io::ErrorKind::WouldBlock => {}
            other => other?,
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    fn outstanding(&mut self, stream: &TcpStream) -> Option<u64> {
        self.outstanding.bytes(stream.local_addr().ok()?, stream.peer_addr().ok()?)
    }
}

/// `EINPROGRESS` of Linux.
const IN_PROGRESS: i32 = 115;

impl Stream for TcpStream {
    fn connected(&self) -> io::Result<bool> {
        if let Some(error) = self.take_error()? {
            return Err(error);
        }
        match self.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn finish(&self) -> io::Result<()> {
        self.shutdown(std::net::Shutdown::Write)
    }
}
