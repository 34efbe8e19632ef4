//! What the kernel still holds of a connection's bytes: written, and not confirmed by the other end.
//!
//! The kernel is asked by its socket diagnostics (`sock_diag(7)`), which need no privilege and answer within the call:
//! ```text
//!   request   16 message head | 8 family, protocol, states | 48 both addresses and ports
//!   answer    16 message head | 4 family, state, ..        | 48 ... | expires | receive queue | send queue | ...
//! ```
//! The send queue counts from the first byte that is not confirmed to the last one written, whether it waits here, in a
//! modem or is on the way: what stands before an uplink and what the kernel has already let go look alike from here, and
//! both delay the next chunk. Where nothing answers (another system, a sandbox) nothing is known.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// `AF_NETLINK`, `NETLINK_SOCK_DIAG`, `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST`, `IPPROTO_TCP` of Linux.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const TCP: u8 = 6;

/// `AF_INET`, `AF_INET6` of Linux.
const INET: u8 = 2;
const INET6: u8 = 10;

/// `TCP_LISTEN`: when a connection is gone, the listener at its port answers.
const LISTEN: u8 = 10;

/// Any socket with these addresses will do.
const NO_COOKIE: [u8; 8] = [0xff; 8];

const HEAD_BYTES: usize = 16;
const REQUEST_BYTES: usize = 72;

/// Where an answer has its state and its send queue.
const STATE_AT: usize = HEAD_BYTES + 1;
const SEND_QUEUE_AT: usize = HEAD_BYTES + 4 + 48 + 8;

/// Longest answer read: one without any extension has about a hundred bytes.
const ANSWER_BYTES_MAX: usize = 512;

/// Answers to earlier questions that are passed over in one look: there are none, unless a look was cut short.
const STALE_MAX: usize = 4;

/// Asks the kernel.
#[derive(Debug)]
pub(super) struct Outstanding {
    /// `None`: the kernel cannot be asked.
    socket: Option<Socket>,
    asked: u32,
}

impl Outstanding {
    pub(super) fn new() -> Outstanding {
        let socket = Socket::new(Domain::from(NETLINK), Type::DGRAM.nonblocking(), Some(Protocol::from(SOCK_DIAG)));
        if let Err(error) = &socket {
            tracing::debug!(%error, "the kernel does not tell what it holds of a connection's bytes");
        }
        Outstanding { socket: socket.ok(), asked: 0 }
    }

    /// Bytes written to the connection from `local` to `remote` and not confirmed. `None`: not known.
    pub(super) fn bytes(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
        let mut socket = self.socket.as_ref()?;
        self.asked = self.asked.wrapping_add(1);
        socket.send(&request(self.asked, local, remote)).ok()?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        for _ in 0..=STALE_MAX {
            let len = socket.read(&mut answer).ok()?;
            let answer = &answer[..len];
            if u32_at(answer, 8)? == self.asked {
                return send_queue(answer);
            }
        }
        None
    }
}

/// The message that asks for one socket.
fn request(number: u32, local: SocketAddr, remote: SocketAddr) -> [u8; REQUEST_BYTES] {
    let (family, scope) = match local {
        SocketAddr::V4(_) => (INET, 0),
        SocketAddr::V6(local) => (INET6, local.scope_id()),
    };
    let mut bytes = [0; REQUEST_BYTES];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&(REQUEST_BYTES as u32).to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&REQUEST.to_ne_bytes());
    put(&number.to_ne_bytes());
    put(&0_u32.to_ne_bytes());
    put(&[family, TCP, 0, 0]);
    put(&u32::MAX.to_ne_bytes());
    put(&local.port().to_be_bytes());
    put(&remote.port().to_be_bytes());
    put(&address(local.ip()));
    put(&address(remote.ip()));
    put(&scope.to_ne_bytes());
    put(&NO_COOKIE);
    bytes
}

/// An address of either family in the room of the longer.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The send queue of an answer; nothing of an error, or of a listener.
fn send_queue(answer: &[u8]) -> Option<u64> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != BY_FAMILY || *answer.get(STATE_AT)? == LISTEN {
        return None;
    }
    u32_at(answer, SEND_QUEUE_AT).map(u64::from)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Two connected sockets of `host`.
    fn pair(host: &str) -> Option<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind((host, 0)).ok()?;
        let near = TcpStream::connect(listener.local_addr().ok()?).ok()?;
        Some((near, listener.accept().ok()?.0))
    }

    fn held(outstanding: &mut Outstanding, stream: &TcpStream) -> Option<u64> {
        outstanding.bytes(stream.local_addr().ok()?, stream.peer_addr().ok()?)
    }

    #[test]
    fn bytes_are_outstanding_until_the_other_host_has_them() {
        let mut outstanding = Outstanding::new();
        for (host, needed) in [("127.0.0.1", true), ("::1", false)] {
            let Some((mut near, far)) = pair(host) else {
                assert!(!needed, "two sockets of {host}");
                continue;
            };
            assert_eq!(held(&mut outstanding, &near), Some(0), "{host}");
            near.set_nonblocking(true).expect("non-blocking");
            // Far more than the other end takes without reading.
            let block = [0; 1 << 16];
            let mut written = 0;
            while let Ok(len) = near.write(&block) {
                written += len as u64;
            }
            let full = held(&mut outstanding, &near).expect("known");
            assert!(full > 0 && full <= written, "{full} of {written}");
            assert_eq!(held(&mut outstanding, &far), Some(0), "each end has a queue of its own");
            let mut far = far;
            far.set_nonblocking(true).expect("non-blocking");
            let mut room = vec![0; 1 << 16];
            while held(&mut outstanding, &near) != Some(0) {
                while far.read(&mut room).is_ok_and(|len| len > 0) {}
            }
        }
    }

    #[test]
    fn of_a_connection_that_is_gone_nothing_is_known() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let (local, nobody) = (listener.local_addr().expect("bound"), "127.0.0.1:1".parse().expect("an address"));
        // Its listener answers instead, and is not listened to.
        assert_eq!(Outstanding::new().bytes(local, nobody), None);
        assert_eq!(Outstanding { socket: None, asked: 0 }.bytes(local, nobody), None);
    }

    #[test]
    fn answers_are_read_to_their_end_and_not_beyond() {
        let mut answer = [0; SEND_QUEUE_AT + 4];
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        answer[SEND_QUEUE_AT..].copy_from_slice(&77_u32.to_ne_bytes());
        assert_eq!(send_queue(&answer), Some(77));
        assert_eq!(send_queue(&answer[..SEND_QUEUE_AT + 3]), None);
        answer[4] = 2;
        assert_eq!(send_queue(&answer), None, "an error");
    }
}
