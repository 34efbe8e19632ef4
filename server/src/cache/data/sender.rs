//! Putting a chunk's bytes into a socket, in one of three ways, without copying them in user space.
//!
//! | way | the kernel reads | protected by | may change afterwards |
//! |---|---|---|---|
//! | [`SendBackend::Sendfile`] | the ring's pages, until every queue has let go of them | the ring takes fresh pages (punch) | the slot, not the pages |
//! | [`SendBackend::SendZc`] | the ring's pages, until the notification | the lease, until the notification | nothing |
//! | [`SendBackend::Copy`] | the slot, during the call | the lease, during the call | everything |
//!
//! A chunk that goes in several pieces holds no lease between them (but for zero-copy's notification): the next piece
//! asks for a new one, and when the slot has been recycled in between there is none, and the connection is to be cut.

use std::os::fd::BorrowedFd;

use cache_core::ring::{ChunkRef, Reader, Ring};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::config::SendBackend;
use super::connection::Key;
use crate::uring::{Completion, Uring, ZeroCopy, ZeroCopyEvent};

/// Who sends: a connection's place and generation.
pub(super) type Owner = (Key, u32);

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many bytes, at least one, are in the socket.
    Bytes(u32),
    /// The socket is full.
    Blocked,
    /// The kernel has the piece; its completion will tell.
    UnderWay,
    /// The slot has been recycled. Not a byte of another chunk was sent.
    Gone,
    /// The connection has failed.
    Failed,
}

/// Sends slots of one ring for one shard.
#[derive(Debug)]
pub(super) struct Sender {
    ring: Ring,
    reader: Reader,
    zero_copy: ZeroCopy<Owner>,
}

impl Sender {
    pub(super) fn new(ring: Ring, reader: Reader) -> Sender {
        Sender { zero_copy: ZeroCopy::new(ring.clone()), ring, reader }
    }

    /// The ring's reader, for questions.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Zero-copy sends whose pages the kernel may still read.
    pub(super) fn under_way(&self) -> usize {
        self.zero_copy.under_way()
    }

    /// Sends the piece of `chunk` at `from`, `len` bytes (at least 1), or the front of it. Cost: one system call, or
    /// one submission.
    pub(super) fn send(
        &mut self,
        uring: &mut Uring,
        way: SendBackend,
        socket: BorrowedFd<'_>,
        chunk: &ChunkRef,
        (from, len): (u32, u32),
        owner: Owner,
    ) -> Sent {
        let Some(lease) = self.reader.lease(chunk) else { return Sent::Gone };
        if way == SendBackend::SendZc {
            self.zero_copy.send(uring, &self.reader, socket, lease, (from, len), owner);
            return Sent::UnderWay;
        }
        let outcome = if way == SendBackend::Sendfile {
            let mut offset = chunk.file_offset + u64::from(from);
            rustix::fs::sendfile(socket, self.ring.file(), Some(&mut offset), len as usize)
        } else {
            let piece = &self.reader.bytes(&lease)[from as usize..(from + len) as usize];
            rustix::net::send(socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        };
        // The lease has kept the generation as it was; asked all the same, because wrong bytes are the one thing that
        // must never go out, and the question costs one cache line that is already here.
        let intact = self.reader.valid(chunk);
        self.reader.release(lease);
        match outcome {
            _ if !intact => Sent::Gone,
            Ok(0) => Sent::Gone,
            Ok(count) => Sent::Bytes(count as u32),
            // A signal came first: no byte was taken, so the socket is asked again when it is writable, which is at once.
            Err(Errno::AGAIN | Errno::INTR) => Sent::Blocked,
            Err(_) => Sent::Failed,
        }
    }

    /// Takes in a completion of a zero-copy send: what it says of the sending connection, and of the pages.
    pub(super) fn complete(
        &mut self,
        completion: &Completion,
    ) -> (Option<ZeroCopyEvent<Owner>>, Option<ZeroCopyEvent<Owner>>) {
        self.zero_copy.complete(&self.reader, completion)
    }
}
