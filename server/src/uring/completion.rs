//! Completions: what became of an operation.

use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::cqueue;
use rustix::io::Errno;

use super::token::{Operation, Token};

/// Set in a zero-copy notification's result when the kernel copied after all (IORING_NOTIF_USAGE_ZC_COPIED).
const COPIED: u32 = 1 << 31;

/// One completion. Made from the kernel's queue only, and not changed: leases are released on its word.
#[derive(Debug)]
pub struct Completion {
    token: Token,
    result: Result<u32, Errno>,
    more: bool,
    notification: bool,
    pub(super) buffer: Option<u16>,
    accepted: Option<OwnedFd>,
}

impl Completion {
    /// Takes an entry out of the completion queue; to be called once for each.
    pub(super) fn of(entry: &cqueue::Entry) -> Completion {
        let flags = entry.flags();
        let token = Token::from_bits(entry.user_data());
        let notification = cqueue::notif(flags);
        let result = match entry.result() {
            error if error < 0 && !notification => Err(Errno::from_raw_os_error(error.wrapping_neg())),
            value => Ok(value as u32),
        };
        let accepted = match (token.operation(), result) {
            // SAFETY: the kernel has made this descriptor for this entry, and nothing else knows its number.
            (Operation::Accept, Ok(descriptor)) => Some(unsafe { OwnedFd::from_raw_fd(descriptor as i32) }),
            _ => None,
        };
        let (more, buffer) = (cqueue::more(flags), cqueue::buffer_select(flags));
        Completion { token, result, more, notification, buffer, accepted }
    }

    /// The operation's name.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// The outcome: bytes or poll events by operation; or the error.
    pub const fn result(&self) -> Result<u32, Errno> {
        self.result
    }

    /// Whether another completion of the same operation follows: a multishot goes on, or a notification is to come.
    pub const fn more(&self) -> bool {
        self.more
    }

    /// Whether it only says that the kernel no longer needs a zero-copy send's pages.
    pub const fn is_notification(&self) -> bool {
        self.notification
    }

    /// Whether a notification says that the kernel copied the bytes (no zero copy on this path).
    pub fn was_copied(&self) -> bool {
        self.notification && self.result.is_ok_and(|usage| usage & COPIED != 0)
    }

    /// The connection that an accept took, once.
    pub fn take_accepted(&mut self) -> Option<OwnedFd> {
        self.accepted.take()
    }
}
