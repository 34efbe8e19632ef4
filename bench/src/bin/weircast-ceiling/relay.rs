//! How soon a chunk's first byte can be at a peer: a thread that reads a chunk from one socket and writes it to another,
//! on blocking sockets, and does nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::{Relay, pin};

/// Prints quantiles of the time from a chunk's first and last written byte to its first at the peer, as JSON.
pub(crate) fn run(options: &Relay) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut publisher = TcpStream::connect(listener.local_addr()?)?;
    let (mut from, _) = listener.accept()?;
    let mut peer = TcpStream::connect(listener.local_addr()?)?;
    let (mut to, _) = listener.accept()?;
    publisher.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let (bytes, cpu, peer_cpu, spin) = (options.bytes, options.cpu, options.sink_cpu, options.spin);
    let relay = std::thread::spawn(move || -> Result<()> {
        pin(cpu)?;
        let mut chunk = vec![0; bytes];
        // The publisher's end is the end.
        while from.read_exact(&mut chunk).is_ok() {
            to.write_all(&chunk)?;
        }
        Ok(())
    });
    let (arrivals, arrived) = mpsc::channel();
    let receiver = std::thread::spawn(move || -> Result<()> {
        pin(peer_cpu)?;
        let mut chunk = vec![0; bytes];
        while first_byte(&mut peer, &mut chunk[..1], spin) {
            let now = Instant::now();
            peer.read_exact(&mut chunk[1..])?;
            arrivals.send(now).context("nobody listens")?;
        }
        Ok(())
    });
    pin(peer_cpu)?;
    let chunk = vec![7; bytes];
    let mut since_first = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let mut since_last = since_first.clone();
    for _ in 0..options.chunks {
        std::thread::sleep(Duration::from_millis(options.period_ms));
        let first = Instant::now();
        publisher.write_all(&chunk)?;
        let last = Instant::now();
        let now = arrived.recv().context("the relay broke off")?;
        since_first.saturating_record(now.duration_since(first).as_micros() as u64);
        since_last.saturating_record(now.saturating_duration_since(last).as_micros() as u64);
    }
    drop(publisher);
    for thread in [relay, receiver] {
        thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    let quantiles = |of: &Histogram<u64>| serde_json::json!({ "p50": of.value_at_quantile(0.5), "p99": of.value_at_quantile(0.99) });
    let told = serde_json::json!({ "since_first_byte_us": quantiles(&since_first), "since_last_byte_us": quantiles(&since_last) });
    println!("ready {told}");
    Ok(())
}

/// Waits for a byte, asleep or awake; false when none comes any more.
fn first_byte(peer: &mut TcpStream, byte: &mut [u8], spin: bool) -> bool {
    if !spin {
        return peer.read_exact(byte).is_ok();
    }
    loop {
        match rustix::net::recv(&*peer, &mut *byte, RecvFlags::DONTWAIT) {
            Ok((_, got)) => return got > 0,
            // The publisher may be on the same processor.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
}
