//! Operations and the one call into the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::{opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::buffers::{BUFFER_BYTES, GROUP};
use super::completion::Completion;
use super::setup::Uring;
use super::token::{Operation, Token};

/// How long [`Uring::enter`] may wait for a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, run what is due, return.
    No,
    /// At most this long.
    AtMost(Duration),
    /// Until there is one.
    Forever,
}

/// A range of memory, laid out as the kernel's iovec (readv(2): a pointer and a size_t).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Range {
    pub(super) start: *const u8,
    pub(super) len: usize,
}

/// Every operation takes a descriptor that must stay open until its last completion; a closed and reused number would
/// name another file. The kernel holds the file itself from [`Uring::enter`] on.
impl Uring {
    /// Takes connections from `listener`, one completion each, non-blocking and close-on-exec, until an error.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, token: Token) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        self.push(opcode::AcceptMulti::new(fd(listener)).flags(flags.bits() as i32).build(), token);
    }

    /// Receives once into a pool buffer.
    pub fn receive_once(&mut self, socket: BorrowedFd<'_>, token: Token) {
        let receive = opcode::Recv::new(fd(socket), std::ptr::null_mut(), BUFFER_BYTES as u32).buf_group(GROUP);
        self.push(receive.build().flags(squeue::Flags::BUFFER_SELECT), token);
    }

    /// Receives into pool buffers until the other side closes, the pool is empty or the operation is cancelled.
    pub fn receive_many(&mut self, socket: BorrowedFd<'_>, token: Token) {
        self.push(opcode::RecvMulti::new(fd(socket), GROUP).build(), token);
    }

    /// Completes once when `socket` takes bytes again, or has failed.
    pub fn poll_writable(&mut self, socket: BorrowedFd<'_>, token: Token) {
        self.push(opcode::PollAdd::new(fd(socket), u32::from(PollFlags::OUT.bits())).build(), token);
    }

    /// Completes whenever `watched` becomes readable.
    pub fn poll_readable_many(&mut self, watched: BorrowedFd<'_>, token: Token) {
        self.push(opcode::PollAdd::new(fd(watched), u32::from(PollFlags::IN.bits())).multi(true).build(), token);
    }

    /// Ends the operation called `target`; it completes with ECANCELED, or as it would have when it was faster.
    pub fn cancel(&mut self, target: Token) {
        let cancel = opcode::AsyncCancel::new(target.bits()).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(cancel, Token::single(Operation::Ignored));
    }

    /// Submits everything, waits as `wait` says, and puts all completions into `out` in their order.
    ///
    /// # Errors
    /// Only those that mean a broken ring; a passed time, a signal and a full completion queue are no errors.
    pub fn enter(&mut self, wait: Wait, out: &mut Vec<Completion>) -> io::Result<()> {
        let outcome = match wait {
            // What a full queue has forced out before is waiting to be handled.
            _ if !self.taken.is_empty() => self.ring.submit(),
            Wait::No => self.ring.submit(),
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = types::Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
            }
        };
        if let Err(error) = outcome {
            let passing = [Errno::TIME, Errno::INTR, Errno::BUSY, Errno::AGAIN];
            if !Errno::from_io_error(&error).is_some_and(|errno| passing.contains(&errno)) {
                return Err(error);
            }
        }
        out.append(&mut self.taken);
        out.extend(self.ring.completion().map(|entry| Completion::of(&entry)));
        Ok(())
    }

    /// Appends what `completion` received to `out` and gives its buffer back to the kernel; nothing when it names none.
    /// To be called once for every completion of a receive.
    pub fn take_received(&mut self, completion: &mut Completion, out: &mut Vec<u8>) {
        let Some(id) = completion.buffer.take() else { return };
        let len = completion.result().unwrap_or(0) as usize;
        out.extend_from_slice(self.buffers.filled(id, len));
        self.buffers.give(id);
    }

    /// Registers ranges of memory as buffers 0, 1 ...
    ///
    /// # Safety
    /// The ranges are mapped. The kernel pins their pages for as long as the ring lives.
    pub(super) unsafe fn register(&self, ranges: &[Range]) -> Result<(), Errno> {
        // SAFETY: a `Range` is an iovec, which is what is inferred here; the kernel copies the list during the call, and
        // the caller has promised that what it names is mapped.
        let registered = unsafe {
            let iovecs = std::slice::from_raw_parts(ranges.as_ptr().cast(), ranges.len());
            self.ring.submitter().register_buffers(iovecs)
        };
        registered.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Queues an operation that uses no memory of ours.
    fn push(&mut self, entry: squeue::Entry, token: Token) {
        // SAFETY: no operation built in this file points at memory: receives take pool buffers, which outlive the
        // last receive.
        unsafe { self.push_with_memory(entry, token) }
    }

    /// Queues `entry`; when the queue is full, what is in it is submitted first.
    ///
    /// # Safety
    /// The memory that `entry` points at must stay valid and unchanged until its last completion.
    pub(super) unsafe fn push_with_memory(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.bits());
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            // A full completion queue refuses submissions (EBUSY) until it has been emptied.
            if self.ring.submit().is_err() {
                self.taken.extend(self.ring.completion().map(|entry| Completion::of(&entry)));
            }
        }
    }
}

fn fd(fd: BorrowedFd<'_>) -> types::Fd {
    types::Fd(fd.as_raw_fd())
}
