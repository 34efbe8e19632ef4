//! A TCP connection of the control plane: non-blocking, waited for through glommio.
//!
//! glommio polls descriptors that are not its own ([`PollableFd`]); reads and writes are std's. So a socket that a shard
//! accepted on its own ring is taken over as it is, and several tasks can hold one link.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use cache_core::time::Span;
use glommio::io::PollableFd;
use socket2::{Domain, Protocol, Socket, Type};

use super::deadline::within;

/// An open connection. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Link {
    socket: PollableFd<TcpStream>,
    peer: SocketAddr,
}

impl Link {
    /// Takes over an accepted socket.
    pub(super) fn adopt(socket: OwnedFd, peer: SocketAddr) -> io::Result<Link> {
        Link::wrap(TcpStream::from(socket), peer)
    }

    /// Connects to `peer` within `span`.
    pub(super) async fn connect(peer: SocketAddr, span: Span) -> io::Result<Link> {
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let connecting = match socket.connect(&peer.into()) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => true,
            Err(error) => return Err(error),
        };
        let link = Link::wrap(socket.into(), peer)?;
        if connecting {
            within(span, link.writable()).await?;
            if let Some(error) = link.socket.get_ref().take_error()? {
                return Err(error);
            }
        }
        Ok(link)
    }

    fn wrap(socket: TcpStream, peer: SocketAddr) -> io::Result<Link> {
        socket.set_nonblocking(true)?;
        // Answers are short and waited for.
        let _ = socket.set_nodelay(true);
        Ok(Link { socket: PollableFd::new(socket).map_err(io::Error::other)?, peer })
    }

    /// The other side.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Reads what is there, waiting for the first byte; 0 at the end. Lets other tasks run once, however much there is
    /// to read: a sender that is never out of data gets no more than its turn.
    pub(super) async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        glommio::executor().yield_now().await;
        loop {
            match self.socket.get_ref().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.readable().await.map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes all of `bytes` within `span`.
    pub(super) async fn write_all(&self, bytes: &[u8], span: Span) -> io::Result<()> {
        within(span, async {
            let mut rest = bytes;
            while !rest.is_empty() {
                match self.socket.get_ref().write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => rest = &rest[n..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }

    /// Ends both directions: whoever reads gets 0.
    pub(super) fn shut_down(&self) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Both);
    }

    /// Says that nothing more comes, then reads and drops what the other side still sends, `bytes_max` and `span` at the
    /// most. A socket closed with unread bytes resets the connection, and the answer just written would be lost.
    pub(super) async fn linger(&self, span: Span, bytes_max: usize) {
        let _ = self.socket.get_ref().shutdown(Shutdown::Write);
        let mut scratch = [0; 4096];
        let mut left = bytes_max;
        let drained = async {
            while left > 0 {
                match self.read(&mut scratch).await? {
                    0 => break,
                    n => left = left.saturating_sub(n),
                }
            }
            Ok(())
        };
        let _ = within(span, drained).await;
    }

    async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await.map_err(io::Error::other)
    }
}
