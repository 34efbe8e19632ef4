//! Secret random bytes from the kernel: cookie keys, publisher keys, and the seeds of machines.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// `N` unguessable bytes. Waits for the kernel's pool at boot; fails only where the system call is forbidden.
pub fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(got) => filled += got,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// 64 unguessable bits.
pub fn seed() -> std::io::Result<u64> {
    bytes().map(u64::from_ne_bytes)
}
