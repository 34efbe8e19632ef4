//! Bytes in any fragmentation become 188-byte packets.
//!
//! Sync is taken where three sync bytes stand 188 apart, and kept while every packet begins with one. When a packet
//! does not, the search begins at its first byte; what is stepped over is counted and belongs to no packet. What is
//! cut off where does not matter: the packets depend on the bytes alone.

use super::packet::SYNC_BYTE;
use crate::limits::{SYNC_SEARCH_BYTES_MAX, TS_PACKET_BYTES};

/// Sync bytes that must stand at packet distance for sync to be taken.
const SYNCS_TO_LOCK: usize = 3;

/// Sync bytes at another distance that tell a stream of longer packets (random bytes do it once in 2^40 places).
const SYNCS_TO_REFUSE: usize = 5;

/// Packet sizes of other kinds of transport stream: with a time stamp in front (M2TS), with a Reed-Solomon code behind.
const OTHER_PACKET_BYTES: [usize; 2] = [192, 204];

/// Bytes that must be seen before a sync byte is passed over.
const LOOKAHEAD: usize = (SYNCS_TO_REFUSE - 1) * OTHER_PACKET_BYTES[1] + 1;

/// Bytes kept while searching.
const SEARCH_BYTES: usize = 4096;

const _: () = assert!(SEARCH_BYTES > LOOKAHEAD, "the search moves on with every full buffer");

/// What was sent is not an MPEG transport stream of 188-byte packets. Final: every further call says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTransportStream {
    /// No sync in the first [`SYNC_SEARCH_BYTES_MAX`] bytes, or at the end of fewer.
    #[error(
        "this is not an MPEG transport stream: no packets in its first {0} bytes (send MPEG-TS, with ffmpeg: -f mpegts)"
    )]
    NoSync(u64),
    /// The packets are not 188 bytes long.
    #[error(
        "this transport stream has packets of {0} bytes, only 188 are taken (remultiplex it, with ffmpeg: -c copy -f mpegts)"
    )]
    PacketSize(usize),
}

/// Finds packets. Memory: at most 4 KiB.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// While in sync less than a packet, else what the search has not passed.
    carry: Vec<u8>,
    locked: bool,
    refused: Option<NotTransportStream>,
    ever_locked: bool,
    bytes_skipped: u64,
    sync_losses: u64,
}

impl Framer {
    /// Before the first byte.
    pub fn new() -> Framer {
        Framer::default()
    }

    /// Bytes that belong to no packet.
    pub const fn bytes_skipped(&self) -> u64 {
        self.bytes_skipped
    }

    /// How often sync was lost.
    pub const fn sync_losses(&self) -> u64 {
        self.sync_losses
    }

    /// Gives every packet that `bytes` completes to `each`, in order. On an error the packets before it have been
    /// given.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8; TS_PACKET_BYTES]),
    ) -> Result<(), NotTransportStream> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        while !bytes.is_empty() {
            if self.locked && self.carry.is_empty() {
                // The usual way: whole packets, straight from the input.
                let taken = self.emit(bytes, &mut each);
                bytes = &bytes[taken..];
                if self.locked {
                    self.carry.extend_from_slice(bytes);
                    return Ok(());
                }
                continue;
            }
            let want = if self.locked { TS_PACKET_BYTES } else { SEARCH_BYTES };
            let taken = bytes.len().min(want.saturating_sub(self.carry.len()));
            self.carry.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.settle(&mut each)?;
        }
        Ok(())
    }

    /// Ends the stream: whole packets that were held back for want of a third sync byte are given, the rest is
    /// skipped. An error when there were bytes and never a packet.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8; TS_PACKET_BYTES])) -> Result<(), NotTransportStream> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        if !self.locked {
            let carry = &self.carry;
            let in_step = |start: &usize| carry.iter().skip(*start).step_by(TS_PACKET_BYTES).all(|b| *b == SYNC_BYTE);
            // What has been a transport stream may resume anywhere. What has not is too short to show three sync bytes,
            // so it must begin with one: in the last packet of any other body a `G` stands somewhere every second time.
            let last = match (self.ever_locked, self.bytes_skipped) {
                (true, _) => carry.len().saturating_sub(TS_PACKET_BYTES - 1),
                (false, 0) => usize::from(carry.len() >= TS_PACKET_BYTES),
                (false, _) => 0,
            };
            if let Some(start) = (0..last).find(in_step) {
                self.lock_at(start, &mut each);
            }
        }
        self.skip(self.carry.len());
        self.locked = false;
        if !self.ever_locked && self.bytes_skipped > 0 {
            return Err(self.refuse(NotTransportStream::NoSync(self.bytes_skipped)));
        }
        Ok(())
    }

    /// Takes what can be taken from the carry, searching as long as there is no sync.
    fn settle(&mut self, each: &mut impl FnMut(&[u8; TS_PACKET_BYTES])) -> Result<(), NotTransportStream> {
        if self.locked {
            self.drain_packets(each);
        }
        while !self.locked {
            let found = self.search();
            let (Found::Sync(passed) | Found::OtherSize(passed, _) | Found::NotIn(passed)) = found;
            if !self.ever_locked && self.bytes_skipped + passed as u64 >= SYNC_SEARCH_BYTES_MAX {
                return Err(self.refuse(NotTransportStream::NoSync(SYNC_SEARCH_BYTES_MAX)));
            }
            match found {
                Found::Sync(start) => self.lock_at(start, each),
                Found::OtherSize(_, size) => return Err(self.refuse(NotTransportStream::PacketSize(size))),
                Found::NotIn(passed) => {
                    self.skip(passed);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn search(&self) -> Found {
        let at = |place: usize| self.carry.get(place).is_some_and(|byte| *byte == SYNC_BYTE);
        let in_step = |start: usize, size: usize, count: usize| (0..count).all(|i| at(start + i * size));
        for start in 0..self.carry.len() {
            if !at(start) {
                continue;
            }
            if in_step(start, TS_PACKET_BYTES, SYNCS_TO_LOCK) {
                return Found::Sync(start);
            }
            if self.carry.len() - start < LOOKAHEAD {
                return Found::NotIn(start);
            }
            let other = OTHER_PACKET_BYTES.into_iter().find(|size| in_step(start, *size, SYNCS_TO_REFUSE));
            if let (Some(size), false) = (other, self.ever_locked) {
                return Found::OtherSize(start, size);
            }
        }
        Found::NotIn(self.carry.len())
    }

    fn lock_at(&mut self, start: usize, each: &mut impl FnMut(&[u8; TS_PACKET_BYTES])) {
        self.skip(start);
        self.locked = true;
        self.ever_locked = true;
        self.drain_packets(each);
    }

    fn drain_packets(&mut self, each: &mut impl FnMut(&[u8; TS_PACKET_BYTES])) {
        let mut carry = std::mem::take(&mut self.carry);
        let taken = self.emit(&carry, each);
        carry.drain(..taken);
        self.carry = carry;
    }

    /// Gives the packets at the start of `bytes`, up to the first without sync byte; how many bytes they are.
    fn emit(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8; TS_PACKET_BYTES])) -> usize {
        let packets = bytes.as_chunks::<TS_PACKET_BYTES>().0;
        for (i, packet) in packets.iter().enumerate() {
            if packet[0] != SYNC_BYTE {
                self.locked = false;
                self.sync_losses += 1;
                return i * TS_PACKET_BYTES;
            }
            each(packet);
        }
        packets.len() * TS_PACKET_BYTES
    }

    fn skip(&mut self, count: usize) {
        self.carry.drain(..count);
        self.bytes_skipped += count as u64;
    }

    fn refuse(&mut self, why: NotTransportStream) -> NotTransportStream {
        self.carry = Vec::new();
        self.refused = Some(why);
        why
    }
}

enum Found {
    /// Here.
    Sync(usize),
    /// Here, of packets that long.
    OtherSize(usize, usize),
    /// No sync before this place; what is behind it needs more bytes.
    NotIn(usize),
}
