//! The rate and the delay that are really there between two hosts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Host;
use crate::wait::HANG;

/// Sent at a time.
const BLOCK_BYTES: usize = 16 * 1024;

/// Payload bits per second from one host to another over one TCP connection, while `bytes` pass; the first eighth is left
/// out, because a connection begins slowly and a bucket begins full.
pub fn tcp_bps(from: &Host, to: &Host, bytes: u64) -> Result<f64> {
    let listener = to.within(|| TcpListener::bind(SocketAddr::from((to.addr, 0))))??;
    let at = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || from.within(|| send(at, bytes)));
        // A sender that cannot connect has said so; without one there is nothing to accept.
        listener.set_nonblocking(true)?;
        let mut stream = crate::eventually("the connection", HANG, || listener.accept().ok())?.0;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HANG))?;
        let (mut block, mut seen, mut start) = ([0; BLOCK_BYTES], 0, None);
        while seen < bytes {
            let read = stream.read(&mut block).context("nothing arrives")?;
            anyhow::ensure!(read > 0, "{seen} of {bytes} bytes have arrived");
            seen += read as u64;
            if seen >= bytes / 8 {
                start.get_or_insert((Instant::now(), seen));
            }
        }
        let (since, before) = start.context("nothing was sent")?;
        let rate = (seen - before) as f64 * 8.0 / since.elapsed().as_secs_f64();
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
        Ok(rate)
    })
}

fn send(to: SocketAddr, bytes: u64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, HANG).with_context(|| format!("{to} is not reached"))?;
    stream.set_write_timeout(Some(HANG))?;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(BLOCK_BYTES as u64) as usize;
        stream.write_all(&[0x57; BLOCK_BYTES][..size])?;
        left -= size as u64;
    }
    Ok(())
}

/// Half of the middle of `count` round trips of a small datagram between two idle hosts.
pub fn one_way_delay(from: &Host, to: &Host, count: usize) -> Result<Duration> {
    let socket = |host: &Host| -> Result<UdpSocket> {
        let socket = host.within(|| UdpSocket::bind(SocketAddr::from((host.addr, 0))))??;
        socket.set_read_timeout(Some(HANG))?;
        Ok(socket)
    };
    let (near, far) = (socket(from)?, socket(to)?);
    let there = far.local_addr()?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || -> Result<()> {
            let mut datagram = [0; 64];
            for _ in 0..count {
                let (len, back) = far.recv_from(&mut datagram)?;
                far.send_to(&datagram[..len], back)?;
            }
            Ok(())
        });
        let mut trips = Vec::with_capacity(count);
        let mut answer = [0; 64];
        for _ in 0..count {
            let sent = Instant::now();
            near.send_to(b"round trip", there)?;
            near.recv(&mut answer).context("a datagram was not echoed")?;
            trips.push(sent.elapsed());
        }
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        trips.sort();
        Ok(trips.get(trips.len() / 2).copied().unwrap_or_default() / 2)
    })
}
