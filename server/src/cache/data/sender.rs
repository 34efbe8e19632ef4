//! Putting a chunk's bytes into a socket, in one of three ways, without copying them in user space.
//!
//! | way | the kernel reads | protected by | may change afterwards |
//! |---|---|---|---|
//! | [`Way::Sendfile`] | the ring's pages, until every queue has let go of them | the ring takes fresh pages (punch) | the slot, not the pages |
//! | [`Way::ZeroCopy`], registered | the pages of the start, until the notification | the lease, until the notification | nothing |
//! | [`Way::ZeroCopy`], not registered | the ring's pages, until the notification | the lease, until the notification | nothing |
//! | [`Way::Copy`] | the slot, during the call | the lease, during the call | everything |
//!
//! Registering pins the pages of that moment, so it goes with a ring that keeps them and never with one that punches; so
//! `auto`, which falls back to sendfile, sends from memory that is not registered.
//!
//! Every call is made under a lease: what it reads is the chunk, never what came after it, nor the zeros of fresh pages. A
//! chunk that goes in several pieces holds no lease between them (but for zero-copy's notification): the next piece
//! asks for a new one, and when the slot has been recycled in between there is none, and the connection is to be cut.

use std::os::fd::BorrowedFd;

use cache_core::ring::{ChunkRef, Reader, Ring};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::config::Way;
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

    /// Registers the ring's memory for zero-copy sends, unless its pages are renewed meanwhile; whether it was.
    ///
    /// # Errors
    /// ENOMEM mostly: over the limit on locked memory. Sends go on as they would without.
    pub(super) fn register(&mut self, uring: &Uring) -> Result<bool, Errno> {
        if self.ring.renews_pages() {
            return Ok(false);
        }
        self.zero_copy.register(uring).map(|()| true)
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
        way: Way,
        socket: BorrowedFd<'_>,
        chunk: &ChunkRef,
        (from, len): (u32, u32),
        owner: Owner,
    ) -> Sent {
        let Some(lease) = self.reader.lease(chunk) else { return Sent::Gone };
        if way == Way::ZeroCopy {
            self.zero_copy.send(uring, &self.reader, socket, lease, (from, len), owner);
            return Sent::UnderWay;
        }
        let outcome = if way == Way::Sendfile {
            let mut offset = chunk.file_offset + u64::from(from);
            rustix::fs::sendfile(socket, self.ring.file(), Some(&mut offset), len as usize)
        } else {
            let piece = &self.reader.bytes(&lease)[from as usize..(from + len) as usize];
            rustix::net::send(socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        };
        self.reader.release(lease);
        // The ring may have given the segment up during the call: the lease has kept bytes and pages all the same, so
        // what is in the socket is right, and the next piece is told.
        match outcome {
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use cache_core::ring::{ChunkMeta, Lookup, PREFIX_BYTES, RingConfig, StreamSlot, Writer};
    use cache_core::time::WallClock;
    use cache_core::units::{ChunkSeq, Epoch, StreamId};
    use socket2::{Domain, SockRef, Socket, Type};

    use super::*;
    use crate::uring::UringConfig;

    /// Two of them fill a segment.
    const LEN: usize = 1_000_000;

    /// Publishes chunk `seq`, all of whose bytes are its number.
    fn publish(writer: &mut Writer, slot: StreamSlot, seq: u64) {
        let mut reserved = writer.reserve(slot, LEN).expect("room in the ring");
        writer.bytes_mut(&mut reserved).fill(seq as u8);
        let meta = ChunkMeta {
            seq: ChunkSeq::new(seq),
            epoch: Epoch(1),
            published: WallClock::from_micros(1),
            payload_len: (LEN - PREFIX_BYTES) as u32,
            tables_len: 0,
            key_frame: None,
            duration_ms: 200,
            discontinuity: false,
            end: false,
        };
        assert!(writer.publish(reserved, meta));
    }

    /// A socket that blocks holds the call, and so the lease, until the other side reads.
    #[test]
    fn bytes_in_the_socket_count_though_the_ring_gave_the_chunk_up_meanwhile() {
        let (mut writer, ring) = Ring::create(&RingConfig::memfd(18 << 20)).expect("18 MiB");
        let slot = writer.open_stream(StreamId(1)).expect("the first");
        publish(&mut writer, slot, 1);
        let mut sender = Sender::new(ring.clone(), ring.reader(0).expect("the first"));
        let Lookup::Ready(chunk) = sender.reader().lookup(slot, ChunkSeq::new(1)) else { panic!("it is there") };

        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let narrow = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        narrow.set_recv_buffer_size(32 << 10).expect("a socket");
        narrow.connect(&listener.local_addr().expect("bound").into()).expect("it listens");
        let mut client = TcpStream::from(narrow);
        let (socket, _) = listener.accept().expect("the client");
        SockRef::from(&socket).set_send_buffer_size(32 << 10).expect("a socket");
        let thread = std::thread::spawn(move || {
            let mut uring = Uring::new(&UringConfig { connections_max: 64 }).expect("an io_uring");
            let piece = (0, LEN as u32);
            let sent = sender.send(&mut uring, Way::Sendfile, socket.as_fd(), &chunk, piece, (0, 0));
            (sent, sender.reader().valid(&chunk))
        });
        let mut got = vec![0; 1];
        client.read_exact(&mut got).expect("the chunk begins");
        // A closed stream's segment is the first to be given up, lease or not.
        writer.close_stream(slot);
        let slot = writer.open_stream(StreamId(2)).expect("the second");
        for seq in 2..40 {
            publish(&mut writer, slot, seq);
        }
        assert!(ring.stats().quarantined > 0, "it was given up under the lease");
        client.read_to_end(&mut got).expect("the socket is closed behind it");
        assert_eq!(thread.join().expect("no panic"), (Sent::Bytes(got.len() as u32), false));
        assert!(got.iter().all(|byte| *byte == 1));
    }
}
