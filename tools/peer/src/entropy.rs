//! Unpredictable bytes from the operating system.

use std::fs::File;
use std::io::{self, Read};

/// `N` bytes of `/dev/urandom`. Fails where there is no such device (a container without `/dev`).
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut device| device.read_exact(&mut bytes));
    read.map_err(|e| io::Error::new(e.kind(), format!("/dev/urandom cannot be read ({e}): mount /dev")))?;
    Ok(bytes)
}

/// A seed for the machines.
pub(crate) fn seed() -> io::Result<u64> {
    bytes().map(u64::from_be_bytes)
}
