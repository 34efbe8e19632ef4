//! Completions: what became of an operation.

use io_uring::cqueue;
use rustix::io::Errno;

use super::token::Token;

/// Set in a zero-copy notification's result when the kernel copied after all (IORING_NOTIF_USAGE_ZC_COPIED).
const COPIED: u32 = 1 << 31;

/// One completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The operation's name.
    pub token: Token,
    /// Its outcome: bytes, a descriptor or poll events by operation; or the error.
    pub result: Result<u32, Errno>,
    /// Another completion of the same operation follows: a multishot goes on, or a notification is still to come.
    pub more: bool,
    /// The kernel no longer needs the pages of a zero-copy send; `result` is then no number of bytes.
    pub notification: bool,
    /// The buffer that received bytes are in.
    pub(super) buffer: Option<u16>,
}

impl Completion {
    pub(super) fn of(entry: &cqueue::Entry) -> Completion {
        let flags = entry.flags();
        let result = entry.result();
        let notification = cqueue::notif(flags);
        Completion {
            token: Token::from_bits(entry.user_data()),
            result: if result < 0 && !notification {
                Err(Errno::from_raw_os_error(result.wrapping_neg()))
            } else {
                Ok(result as u32)
            },
            more: cqueue::more(flags),
            notification,
            buffer: cqueue::buffer_select(flags),
        }
    }

    /// Whether a notification says that the kernel copied the bytes (no zero copy on this path).
    pub fn was_copied(&self) -> bool {
        self.notification && self.result.is_ok_and(|usage| usage & COPIED != 0)
    }
}
