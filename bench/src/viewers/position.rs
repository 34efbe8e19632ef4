//! Where in the generated stream a viewer is that throws most of it away.
//!
//! ```text
//!  Lost    ------ bytes are read until a packet says which one it is ------+
//!                                                                          v
//!  Front   [ copies of tables | first packet ]   read: must be chunk k's   |
//!  Inside                       [ rest of chunk k ..................]  thrown away; its length is known
//!  Front                                                             [ copies | first packet of k + 1 ]
//! ```
//! So the position is proven with every chunk: a byte too many or too few, a chunk left out, another stream's chunk or
//! wrong bytes at a chunk's beginning are seen at the next front. Wrong bytes further inside are not; that is what
//! verifying viewers are for.

use cache_core::limits::TS_PACKET_BYTES;

use super::http::CHUNK_US;
use super::layout::{PacketBytes, Place, align, is_table, stamp};
use super::library::Library;
use super::sink::{Arrived, Sink};
use super::{Appetite, Discarded};
use crate::measure::{Trouble, wall_us};

/// Bytes within which a packet of the generated stream must be found.
const SEARCH_BYTES_MAX: usize = 64 << 10;

/// Read at once while lost: the copies and tables of a chunk's beginning, and some more.
const LOST_BYTES: usize = 8 * TS_PACKET_BYTES;

#[derive(Debug)]
enum Spot {
    Lost { bytes: Vec<u8>, searched: usize, tables_from: Option<u64> },
    Front { number: u64, bytes: Vec<u8>, place: Place },
    Inside { number: u64, left: usize, whole: bool, place: Place },
}

/// A viewer's position.
#[derive(Debug)]
pub(crate) struct Position {
    spot: Spot,
    /// The chunk that is to come, once it is known.
    expected: Option<u64>,
    /// The memory of a front, kept for the next one.
    spare: Vec<u8>,
}

impl Position {
    pub(crate) fn new() -> Position {
        Position { spot: lost(Vec::new()), expected: None, spare: Vec::new() }
    }

    /// What is wanted next.
    pub(crate) fn wants(&self) -> Appetite {
        match &self.spot {
            Spot::Lost { .. } => Appetite::Read(LOST_BYTES),
            Spot::Front { bytes, place, .. } => Appetite::Read(front_len(place) - bytes.len()),
            Spot::Inside { left, .. } => Appetite::Discard(*left),
        }
    }

    /// So many bytes came and were thrown away, no more than [`Position::wants`] allowed.
    pub(crate) fn discarded(&mut self, len: usize, library: &mut Library, sink: &mut Sink<'_>) -> Discarded {
        library.checked.bytes_discarded += len as u64;
        self.pass(len, library, sink)
    }

    /// Takes bytes that were read.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            match &mut self.spot {
                Spot::Inside { left, .. } => {
                    let len = bytes.len().min(*left);
                    bytes = &bytes[len..];
                    self.pass(len, library, sink);
                }
                Spot::Front { bytes: part, place, number } => {
                    let len = bytes.len().min(front_len(place) - part.len());
                    part.extend_from_slice(&bytes[..len]);
                    bytes = &bytes[len..];
                    if part.len() == front_len(place) {
                        let (number, place, part) = (*number, *place, std::mem::take(part));
                        self.front(number, place, part, library, sink)?;
                    }
                }
                Spot::Lost { bytes: kept, .. } => {
                    kept.extend_from_slice(bytes);
                    bytes = &[];
                    self.search(library, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on by `len` bytes inside a chunk.
    fn pass(&mut self, len: usize, library: &mut Library, sink: &mut Sink<'_>) -> Discarded {
        let Spot::Inside { number, left, whole, place } = &mut self.spot else { return Discarded::Part };
        *left = left.saturating_sub(len);
        if *left > 0 {
            return Discarded::Part;
        }
        let (number, whole, place) = (*number, *whole, *place);
        let now = wall_us();
        let published_us = library.media_published(number, (number + 1) * CHUNK_US, now);
        if whole {
            library.checked.not += 1;
            let uploaded = library.uploaded_number(number);
            sink.chunk_at(now, Arrived { seq: number, published_us, uploaded, bytes: place.bytes(), right: true });
        }
        self.expected = Some(number + 1);
        let next = library.layout.borrow_mut().place(number + 1);
        self.spot = match next {
            Some(place) => Spot::Front { number: number + 1, bytes: std::mem::take(&mut self.spare), place },
            None => lost(Vec::new()),
        };
        Discarded::Whole
    }

    /// A front is there: is it the one of chunk `number`?
    fn front(
        &mut self,
        number: u64,
        place: Place,
        mut bytes: Vec<u8>,
        library: &mut Library,
        sink: &mut Sink<'_>,
    ) -> Result<(), Trouble> {
        let (packets, _) = bytes.as_chunks::<TS_PACKET_BYTES>();
        let is_right = |(at, packet): (u64, &PacketBytes)| {
            let counter = stamp(packet).map(|stamp| stamp.counter);
            if at < place.copies { counter.is_some() && is_table(packet) } else { counter == Some(place.first) }
        };
        if (0..).zip(packets).all(is_right) {
            bytes.clear();
            self.spare = bytes;
            let left = (place.packets as usize - 1) * TS_PACKET_BYTES;
            self.spot = Spot::Inside { number, left, whole: true, place };
            return Ok(());
        }
        // Something was left out, or is wrong.
        if packets.iter().any(|packet| stamp(packet).is_none()) {
            sink.wrong(1);
        }
        self.spot = lost(bytes);
        self.search(library, sink)
    }

    /// Looks for a packet that says where this is.
    fn search(&mut self, library: &mut Library, sink: &mut Sink<'_>) -> Result<(), Trouble> {
        let Spot::Lost { bytes, searched, tables_from } = &mut self.spot else { return Ok(()) };
        while let Some(at) = align(bytes) {
            *searched += at;
            let rest = bytes.split_off(at);
            *bytes = rest;
            let Some(packet) = bytes.first_chunk::<TS_PACKET_BYTES>() else { break };
            let Some(stamp) = stamp(packet) else { break };
            let is_table = is_table(packet);
            let rest = bytes.split_off(TS_PACKET_BYTES);
            if is_table {
                tables_from.get_or_insert(stamp.counter);
                *bytes = rest;
                continue;
            }
            let number = stamp.media.micros() / CHUNK_US;
            let place = library.layout.borrow_mut().place(number);
            let inside = |place: &Place| (place.first..place.first + place.packets).contains(&stamp.counter);
            let Some(place) = place.filter(inside) else {
                return Err(Trouble::Protocol("the stream is not the generator's at this --kbps".to_owned()));
            };
            let begins = stamp.counter == place.first + place.lead;
            let whole = begins && (place.lead == 0 || *tables_from == Some(place.first));
            let left = (place.first + place.packets - stamp.counter - 1) as usize * TS_PACKET_BYTES;
            match self.expected {
                Some(expected) if number > expected => sink.skipped(number - expected),
                // What was there comes again.
                Some(expected) if number < expected => sink.wrong(1),
                _ => {}
            }
            self.spot = Spot::Inside { number, left, whole, place };
            if left == 0 {
                self.pass(0, library, sink);
            }
            return self.feed(&rest, library, sink);
        }
        // The beginning of a packet may be among the last bytes.
        let useless = bytes.len().saturating_sub(TS_PACKET_BYTES - 1);
        bytes.drain(..useless);
        *searched += useless;
        if *searched > SEARCH_BYTES_MAX {
            return Err(Trouble::Protocol("this is not the generator's stream".to_owned()));
        }
        Ok(())
    }
}

fn lost(bytes: Vec<u8>) -> Spot {
    Spot::Lost { bytes, searched: 0, tables_from: None }
}

/// Bytes that are read at a chunk's beginning.
fn front_len(place: &Place) -> usize {
    (place.copies as usize + 1) * TS_PACKET_BYTES
}
