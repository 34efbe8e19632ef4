//! Doorbells: an eventfd that one thread rings and another waits on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes another thread. Rings add up: one waking may stand for many, so the woken side looks at everything it has.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// A doorbell that nobody has rung. Its waiter polls the descriptor and then calls [`Doorbell::quiet`]; the
    /// descriptor is non-blocking, so a read of it does not wait.
    ///
    /// # Errors
    /// The descriptor table is full (EMFILE, ENFILE).
    pub fn polled() -> io::Result<Doorbell> {
        Ok(Doorbell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the waiter. Cost: one system call, which cannot block (the count would have to pass 2^64 - 2).
    pub fn ring(&self) {
        // The only errors are a full count, which means that the waiter is being woken anyway.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets the rings so far; to be called before looking at what they were about.
    pub fn quiet(&self) {
        // EAGAIN: nobody has rung.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
