//! Program specific information: sections put together from packets, and what a PAT and a PMT say
//! (ISO/IEC 13818-1, 2.4.4).
//!
//! A section may begin anywhere in a packet and go on over several. A damaged one (wrong CRC), one that is not yet
//! in force, and one over [`SECTION_BYTES_MAX`] is passed over. Of a PAT in several sections the first is read; it
//! names more programs than are remembered.

use super::packet::{Packet, Pid};
use crate::limits::{ELEMENTARY_STREAMS_MAX, PROGRAMS_MAX, SECTION_BYTES_MAX, SECTION_PACKETS_MAX, TS_PACKET_BYTES};

const PAT_TABLE: u8 = 0;
const PMT_TABLE: u8 = 2;
const STUFFING: u8 = 0xFF;

/// Puts the sections of one PID together. Memory: one section and the packets that it came in.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    section: Vec<u8>,
    packets: Vec<u8>,
    continuity: Option<u8>,
}

impl Assembler {
    /// Takes the PID's next packet; gives each section that it completes, with the packets from its beginning on, to
    /// `done`.
    pub fn push(&mut self, packet: Packet<'_>, mut done: impl FnMut(&[u8], &[u8])) {
        if !packet.has_payload() || packet.is_damaged() || packet.is_scrambled() {
            return;
        }
        let last = self.continuity.replace(packet.continuity());
        if last == self.continuity && !packet.starts_unit() {
            return; // Sent twice, which is allowed.
        }
        let follows = last.is_some_and(|last| (last + 1) & 0x0F == packet.continuity());
        let payload = packet.payload();
        if !packet.starts_unit() {
            if follows && !self.packets.is_empty() {
                self.append(packet, payload, &mut done);
            } else {
                self.reset();
            }
            return;
        }
        let Some((tail, mut rest)) =
            payload.split_first().and_then(|(pointer, rest)| rest.split_at_checked(usize::from(*pointer)))
        else {
            return self.reset();
        };
        if follows && !self.packets.is_empty() {
            self.append(packet, tail, &mut done);
        }
        while rest.first().is_some_and(|table| *table != STUFFING) {
            self.reset();
            rest = self.append(packet, rest, &mut done);
        }
    }

    /// Adds `bytes` of `packet` to the section; what is left of them once it is complete.
    fn append<'b>(&mut self, packet: Packet<'_>, mut bytes: &'b [u8], done: &mut impl FnMut(&[u8], &[u8])) -> &'b [u8] {
        if self.packets.len() == SECTION_PACKETS_MAX * TS_PACKET_BYTES {
            self.reset();
            return &[];
        }
        self.packets.extend_from_slice(packet.0);
        loop {
            let want = section_len(&self.section).unwrap_or(SECTION_HEAD);
            if want > SECTION_BYTES_MAX {
                self.reset();
                return &[];
            }
            let taken = bytes.len().min(want - self.section.len());
            self.section.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if section_len(&self.section) == Some(self.section.len()) {
                done(&self.section, &self.packets);
                self.reset();
                return bytes;
            }
            if bytes.is_empty() {
                return bytes;
            }
        }
    }

    fn reset(&mut self) {
        self.section.clear();
        self.packets.clear();
    }
}

const SECTION_HEAD: usize = 3;

/// Bytes of a section whose head is there.
fn section_len(section: &[u8]) -> Option<usize> {
    let head = section.first_chunk::<SECTION_HEAD>()?;
    Some(SECTION_HEAD + (usize::from(head[1] & 0x0F) << 8 | usize::from(head[2])))
}

/// A program of the PAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramEntry {
    /// Its number.
    pub number: u16,
    /// The PID of its PMT.
    pub pid: Pid,
}

/// What an elementary stream is, as far as it matters to where a viewer can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// MPEG-1 or MPEG-2 video.
    Mpeg2,
    /// H.264.
    H264,
    /// HEVC (H.265).
    Hevc,
    /// Video of another kind; its key frames are those marked for random access.
    OtherVideo,
    /// Sound.
    Audio,
    /// Subtitles, data.
    Other,
}

/// An elementary stream of a PMT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elementary {
    /// Its PID.
    pub pid: Pid,
    /// What it is.
    pub codec: Codec,
}

/// What a PMT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pmt {
    /// The program's number.
    pub number: u16,
    /// The PID that carries the program's clock; `None`: it has no clock.
    pub pcr_pid: Option<Pid>,
    /// The elementary streams.
    pub streams: Vec<Elementary>,
}

/// The programs of a whole PAT section; `None` when it is something else, damaged or not in force.
pub fn read_pat(section: &[u8]) -> Option<Vec<ProgramEntry>> {
    let table = Table::read(section, PAT_TABLE)?;
    let programs = table.body.as_chunks::<4>().0.iter().map(|[a, b, c, d]| ProgramEntry {
        number: u16::from_be_bytes([*a, *b]),
        pid: Pid(u16::from_be_bytes([*c & 0x1F, *d])),
    });
    // Number 0 is the network's table, not a program's.
    Some(programs.filter(|program| program.number != 0).take(PROGRAMS_MAX).collect())
}

/// What a whole PMT section says; `None` when it is something else, damaged or not in force.
pub fn read_pmt(section: &[u8]) -> Option<Pmt> {
    let table = Table::read(section, PMT_TABLE)?;
    let (head, rest) = table.body.split_first_chunk::<4>()?;
    let pcr_pid = Pid(u16::from_be_bytes([head[0] & 0x1F, head[1]]));
    let mut rest = rest.get(usize::from(u16::from_be_bytes([head[2] & 0x0F, head[3]]))..)?;
    let mut streams = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        let pid = Pid(u16::from_be_bytes([head[1] & 0x1F, head[2]]));
        let (descriptors, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([head[3] & 0x0F, head[4]])))?;
        rest = tail;
        if streams.len() < ELEMENTARY_STREAMS_MAX {
            streams.push(Elementary { pid, codec: codec(head[0], descriptors) });
        }
    }
    Some(Pmt { number: table.id, pcr_pid: (pcr_pid != Pid::NULL).then_some(pcr_pid), streams })
}

/// The stream type's codec (ISO/IEC 13818-1 table 2-34, ATSC A/53, SMPTE RP 227, ETSI EN 300 468 for private data).
fn codec(stream_type: u8, descriptors: &[u8]) -> Codec {
    match stream_type {
        0x01 | 0x02 => Codec::Mpeg2,
        0x1B => Codec::H264,
        0x24 => Codec::Hevc,
        0x10 | 0x1E..=0x20 | 0x21 | 0x25 | 0x33 | 0x42 | 0xD1 | 0xD2 | 0xD4 | 0xEA => Codec::OtherVideo,
        0x03 | 0x04 | 0x0F | 0x11 | 0x1C | 0x2D | 0x2E | 0x81 | 0x87 => Codec::Audio,
        0x06 => private_codec(descriptors),
        _ => Codec::Other,
    }
}

/// What private data is, by its descriptors.
fn private_codec(mut descriptors: &[u8]) -> Codec {
    while let Some(([tag, len], tail)) = descriptors.split_first_chunk::<2>() {
        let Some((body, tail)) = tail.split_at_checked(usize::from(*len)) else { break };
        descriptors = tail;
        match (*tag, body.first_chunk::<4>()) {
            (0x05, Some(b"HEVC")) => return Codec::Hevc,
            (0x05, Some(b"AV01" | b"VC-1" | b"drac")) => return Codec::OtherVideo,
            (0x05, Some(b"Opus" | b"AC-3" | b"EAC3" | b"BSSD" | b"DTS1" | b"DTS2" | b"DTS3")) => return Codec::Audio,
            // AC-3, enhanced AC-3, DTS, AAC.
            (0x6A | 0x7A | 0x7B | 0x7C, _) => return Codec::Audio,
            _ => {}
        }
    }
    Codec::Other
}

/// The common form of a PAT's and a PMT's section.
struct Table<'a> {
    id: u16,
    body: &'a [u8],
}

impl<'a> Table<'a> {
    fn read(section: &'a [u8], table: u8) -> Option<Table<'a>> {
        let (head, rest) = section.split_first_chunk::<8>()?;
        let body = rest.get(..rest.len().checked_sub(4)?)?;
        let has_syntax = head[1] & 0x80 != 0;
        let in_force = head[5] & 1 != 0;
        let first = head[6] == 0;
        // The CRC over a whole section, its own four bytes included, is 0.
        let whole = section_len(section) == Some(section.len()) && crc32(section) == 0;
        (head[0] == table && has_syntax && in_force && first && whole)
            .then(|| Table { id: u16::from_be_bytes([head[3], head[4]]), body })
    }
}

/// CRC-32/MPEG-2: polynomial 0x04C11DB7, from all ones, most significant bit first.
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| (crc << 8) ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc >> 31 != 0 { 0x04C1_1DB7 } else { 0 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
    }
}
