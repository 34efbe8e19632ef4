//! Zero-copy sends: slots that the kernel may still be reading.
//!
//! ```text
//!  send -----> completion: bytes taken, or an error -----> notification: the pages are free
//!  lease taken                                             lease released
//!  |<------------- the slot must not change ------------->|
//! ```
//! The lease of a slot is kept here, not with the connection: a connection may be closed and gone long before the
//! last acknowledgement of what it was sent. Both completions carry the lease's place.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};

use cache_core::ring::{Lease, Reader, Ring};
use io_uring::{opcode, types};
use rustix::io::Errno;
use slab::Slab;

use super::completion::Completion;
use super::setup::Uring;
use super::token::{Operation, Token};

/// Wait until everything is taken, rather than complete with a part (MSG_WAITALL), and do not raise SIGPIPE.
const SEND_FLAGS: i32 = 0x100 | 0x4000;

/// Say in the notification whether the kernel copied (IORING_SEND_ZC_REPORT_USAGE).
const REPORT_USAGE: u16 = 1 << 3;

/// The zero-copy sends under way of one shard. `Owner` is what the shard calls the sending connection.
#[derive(Debug)]
pub struct ZeroCopy<Owner> {
    sends: Slab<Send<Owner>>,
    /// Keeps the memory mapped for as long as a send may read it.
    ring: ManuallyDrop<Ring>,
}

#[derive(Debug)]
struct Send<Owner> {
    lease: Lease,
    owner: Owner,
}

/// What a completion of a zero-copy send means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCopyEvent<Owner> {
    /// The socket has taken so many bytes, or has failed: the connection may be sent more.
    Sent(Owner, Result<u32, Errno>),
    /// The kernel is done with the pages; the lease has been released.
    Freed {
        /// Whose send it was; that connection may be gone.
        owner: Owner,
        /// The kernel copied the bytes after all.
        copied: bool,
    },
}

impl<Owner: Copy> ZeroCopy<Owner> {
    /// No send under way; slots of `ring` will be sent.
    pub fn new(ring: Ring) -> ZeroCopy<Owner> {
        ZeroCopy { sends: Slab::new(), ring: ManuallyDrop::new(ring) }
    }

    /// Sends `len` bytes from `from` on of the slot that `lease` (of `reader`) protects. `socket` must stay open until
    /// the [`ZeroCopyEvent::Sent`] of this send.
    ///
    /// # Panics
    /// When the range is not inside the slot, or the lease is not `reader`'s.
    pub fn send(
        &mut self,
        uring: &mut Uring,
        reader: &Reader,
        socket: BorrowedFd<'_>,
        lease: Lease,
        (from, len): (u32, u32),
        owner: Owner,
    ) {
        let range = &reader.bytes(&lease)[from as usize..(from + len) as usize];
        let (start, len) = (range.as_ptr(), range.len() as u32);
        let index = self.sends.insert(Send { lease, owner }) as u32;
        let entry = opcode::SendZc::new(types::Fd(socket.as_raw_fd()), start, len)
            .flags(SEND_FLAGS)
            .zc_flags(REPORT_USAGE)
            .build();
        // SAFETY: the range stays mapped while `self.ring` lives, which is not dropped while a send is under way; its
        // bytes stay as they are while the lease is held, which is until the kernel's last completion of this send.
        unsafe { uring.push_with_memory(entry, Token::new(Operation::ZeroCopy, 0, index)) };
    }

    /// Takes in a completion whose token's operation is [`Operation::ZeroCopy`]. `reader` is the one whose leases were
    /// handed in.
    ///
    /// # Panics
    /// When no such send is under way.
    pub fn complete(
        &mut self,
        reader: &Reader,
        completion: &Completion,
    ) -> (Option<ZeroCopyEvent<Owner>>, Option<ZeroCopyEvent<Owner>>) {
        let index = completion.token().index() as usize;
        let owner = self.sends[index].owner;
        let sent = (!completion.is_notification()).then_some(ZeroCopyEvent::Sent(owner, completion.result()));
        let freed = !completion.more();
        if freed {
            reader.release(self.sends.remove(index).lease);
        }
        (sent, freed.then_some(ZeroCopyEvent::Freed { owner, copied: completion.was_copied() }))
    }

    /// Sends whose pages the kernel may still read.
    pub fn under_way(&self) -> usize {
        self.sends.len()
    }
}

impl<Owner> Drop for ZeroCopy<Owner> {
    fn drop(&mut self) {
        // With sends under way their leases are never released and the memory stays mapped: the kernel may read on.
        if self.sends.is_empty() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        }
    }
}
