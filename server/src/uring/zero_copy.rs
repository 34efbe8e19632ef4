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

use cache_core::ring::{Lease, Reader, Ring, SEGMENT_BYTES};
use io_uring::{opcode, types};
use rustix::io::Errno;
use slab::Slab;

use super::completion::Completion;
use super::setup::Uring;
use super::submit::Range;
use super::token::{Operation, Token};

/// Do not raise SIGPIPE (MSG_NOSIGNAL), and complete at once with what the socket takes, or EAGAIN (MSG_DONTWAIT). With
/// MSG_WAITALL a slow viewer of a large piece would show no progress until its end, and without either the lease of a
/// stopped viewer's chunk would be held for as long as it waits.
const SEND_FLAGS: i32 = 0x4000 | 0x40;

/// Largest buffer that the kernel registers.
const REGISTERED_BYTES_MAX: usize = 1 << 30;
const _: () = assert!(REGISTERED_BYTES_MAX.is_multiple_of(SEGMENT_BYTES as usize), "no chunk lies across two buffers");

/// Say in the notification whether the kernel copied (IORING_SEND_ZC_REPORT_USAGE).
const REPORT_USAGE: u16 = 1 << 3;

/// The zero-copy sends under way of one shard. `Owner` is what the shard calls the sending connection.
#[derive(Debug)]
pub struct ZeroCopy<Owner> {
    sends: Slab<Send<Owner>>,
    /// Where registered memory begins.
    registered: Option<usize>,
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
        ZeroCopy { sends: Slab::new(), registered: None, ring: ManuallyDrop::new(ring) }
    }

    /// Registers the ring's memory with `uring`: its pages need not be looked up for each send, 17 % of the cost (measured;
    /// 125 KB). They are pinned as they are now, so the ring must keep them (not [`Recycle::Punch`]): what is written to
    /// fresh pages is never sent. All later sends go through `uring`.
    ///
    /// # Errors
    /// ENOMEM over the limit on locked memory, or what else the kernel says; nothing is registered then.
    ///
    /// [`Recycle::Punch`]: cache_core::ring::Recycle::Punch
    pub fn register(&mut self, uring: &Uring) -> Result<(), Errno> {
        let payload = self.ring.payload();
        let base = payload.cast::<u8>();
        let piece =
            |at: usize| Range { start: base.wrapping_add(at), len: REGISTERED_BYTES_MAX.min(payload.len() - at) };
        let pieces: Vec<Range> = (0..payload.len()).step_by(REGISTERED_BYTES_MAX).map(piece).collect();
        // SAFETY: the pieces are the ring's mapping, which `self.ring` keeps.
        unsafe { uring.register(&pieces)? };
        self.registered = Some(base.addr());
        Ok(())
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
            .buf_index(self.registered.map(|base| ((start.addr() - base) / REGISTERED_BYTES_MAX) as u16))
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use cache_core::ring::{ChunkMeta, Lookup, PREFIX_BYTES, Recycle, RingConfig, Writer};
    use cache_core::time::WallClock;
    use cache_core::units::{ChunkSeq, Epoch, StreamId};

    use super::*;
    use crate::uring::{UringConfig, Wait};

    /// More than half a segment: one in each.
    const LEN: usize = 1_040_000;

    fn publish(writer: &mut Writer, slot: cache_core::ring::StreamSlot, seq: u64) {
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

    /// The first byte that arrives of each chunk that is published and sent, all segments being used several times.
    fn sent_under(recycle: Recycle) -> Vec<(u8, u8)> {
        let (mut writer, ring) = Ring::create(&RingConfig { recycle, ..RingConfig::memfd(10 << 20) }).expect("10 MiB");
        let slot = writer.open_stream(StreamId(1)).expect("the first");
        let reader = ring.reader(0).expect("the first");
        let mut uring = Uring::new(&UringConfig { connections_max: 64 }).expect("an io_uring");
        let mut zero_copy = ZeroCopy::new(ring);
        zero_copy.register(&uring).expect("10 MiB may be locked");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (socket, _) = listener.accept().expect("the client");
        let mut all = Vec::new();
        for seq in 1..20 {
            publish(&mut writer, slot, seq);
            let Lookup::Ready(chunk) = reader.lookup(slot, ChunkSeq::new(seq)) else { panic!("it is there") };
            let lease = reader.lease(&chunk).expect("it is there");
            zero_copy.send(&mut uring, &reader, socket.as_fd(), lease, (0, 100), ());
            let (mut got, mut completions) = ([0; 100], Vec::new());
            uring.enter(Wait::No, &mut completions).expect("a working ring");
            client.read_exact(&mut got).expect("it was sent");
            while zero_copy.under_way() > 0 {
                for completion in completions.drain(..) {
                    if let (Some(ZeroCopyEvent::Sent((), result)), _) = zero_copy.complete(&reader, &completion) {
                        assert_eq!(result, Ok(100));
                    }
                }
                if zero_copy.under_way() > 0 {
                    uring.enter(Wait::Forever, &mut completions).expect("a working ring");
                }
            }
            all.push((seq as u8, got[0]));
        }
        all
    }

    #[test]
    fn registered_memory_sends_what_stands_in_it() {
        assert!(sent_under(Recycle::InPlace).iter().all(|(published, got)| published == got));
    }

    #[test]
    fn registered_memory_sends_old_pages_when_they_are_punched() {
        assert!(sent_under(Recycle::Punch).iter().any(|(published, got)| published != got));
    }
}
