//! Puts units and tables into stamped packets.

use super::super::packet::{Pid, SYNC_BYTE};
use super::super::pcr::Pcr;
use super::super::psi::crc32;
use super::stamp::{FLAG_PCR, FLAG_PRIVATE, STAMP_BYTES, Stamp};
use crate::limits::TS_PACKET_BYTES;
use crate::prng::mix;
use crate::time::Span;

/// The PID of the PMT.
pub(crate) const PMT_PID: Pid = Pid(0x1000);
const UNIT_PID: Pid = Pid(0x100);
const PROGRAM: u16 = 1;
const FLAG_RANDOM_ACCESS: u8 = 0x40;
const FLAG_DISCONTINUITY: u8 = 0x80;

/// From a frame's PCR to its presentation, 90 kHz: 200 ms, so that all of a frame's bytes are there by then.
const DELAY_90KHZ: u64 = 18_000;

/// A packet's head, the adaptation field's length and flags, and the stamp with its length.
const HEAD_BYTES: usize = 4 + 2 + 1 + STAMP_BYTES;

#[derive(Clone, Debug)]
pub(super) struct Mux {
    sound: bool,
    pcr: bool,
    stamp: Stamp,
    pat_counter: u8,
    pmt_counter: u8,
    unit_counter: u8,
    pes: Vec<u8>,
}

impl Mux {
    pub(super) fn new(sound: bool, pcr: bool, tag: u64) -> Mux {
        let stamp = Stamp { tag, counter: 0, media: Span::ZERO };
        Mux { sound, pcr, stamp, pat_counter: 0, pmt_counter: 0, unit_counter: 0, pes: Vec::new() }
    }

    /// The media time of the packets from here on.
    pub(super) fn set_media(&mut self, media: Span) {
        self.stamp.media = media;
    }

    /// Packets made.
    pub(super) fn packets(&self) -> u64 {
        self.stamp.counter
    }

    /// Appends PAT and PMT.
    pub(super) fn tables(&mut self, out: &mut Vec<u8>) {
        let [number_high, number_low] = PROGRAM.to_be_bytes();
        let [pmt_high, pmt_low] = pid_bytes(PMT_PID);
        let pat = section(0, &[number_high, number_low, pmt_high, pmt_low]);
        let [clock_high, clock_low] = pid_bytes(if self.pcr { UNIT_PID } else { Pid::NULL });
        let [unit_high, unit_low] = pid_bytes(UNIT_PID);
        let kind = if self.sound { 0x03 } else { 0x1B };
        let pmt = section(2, &[clock_high, clock_low, 0xF0, 0, kind, unit_high, unit_low, 0xF0, 0]);
        let (pat_counter, pmt_counter) = (next(&mut self.pat_counter), next(&mut self.pmt_counter));
        self.packet(Pid::PAT, true, pat_counter, 0, None, &pat, out);
        self.packet(PMT_PID, true, pmt_counter, 0, None, &pmt, out);
    }

    /// Appends a frame that begins at `clock`.
    pub(super) fn unit(&mut self, unit: &[u8], clock: Pcr, key: bool, announce: bool, out: &mut Vec<u8>) {
        let mut pes = std::mem::take(&mut self.pes);
        pes.clear();
        pes_head(self.sound, unit.len(), clock, &mut pes);
        pes.extend_from_slice(unit);
        let mut rest = pes.as_slice();
        let mut first = true;
        while first || !rest.is_empty() {
            let mut flags = 0;
            if first {
                flags |= if key { FLAG_RANDOM_ACCESS } else { 0 };
                flags |= if announce { FLAG_DISCONTINUITY } else { 0 };
            }
            let pcr = (first && self.pcr).then_some(clock);
            let room = TS_PACKET_BYTES - HEAD_BYTES - if pcr.is_some() { 6 } else { 0 };
            let (piece, tail) = rest.split_at(rest.len().min(room));
            let counter = next(&mut self.unit_counter);
            self.packet(UNIT_PID, first, counter, flags, pcr, piece, out);
            rest = tail;
            first = false;
        }
        self.pes = pes;
    }

    /// Appends a null packet of noise.
    pub(super) fn filler(&mut self, out: &mut Vec<u8>) {
        let mut packet = [0; TS_PACKET_BYTES];
        packet[..4].copy_from_slice(&[SYNC_BYTE, 0x1F, 0xFF, 0x10]);
        let mut word = mix(self.stamp.tag ^ mix(self.stamp.counter));
        for noise in packet[4 + STAMP_BYTES..].chunks_exact_mut(8) {
            word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            noise.copy_from_slice(&word.to_be_bytes());
        }
        self.finish(packet, 4, out);
    }

    /// Appends a packet of `payload`, padded in the adaptation field, or for tables behind them.
    #[allow(clippy::too_many_arguments, reason = "a packet's fields, called from this file only")]
    fn packet(
        &mut self,
        pid: Pid,
        start: bool,
        counter: u8,
        flags: u8,
        pcr: Option<Pcr>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        let is_table = pid != UNIT_PID;
        let mut packet = [0xFF; TS_PACKET_BYTES];
        let [pid_high, pid_low] = pid.0.to_be_bytes();
        let start_flag = if start { 0x40 } else { 0 };
        packet[..4].copy_from_slice(&[SYNC_BYTE, start_flag | pid_high, pid_low, 0x30 | counter]);
        let mut place = 6;
        if let Some(pcr) = pcr {
            packet[place..place + 6].copy_from_slice(&pcr.bytes());
            place += 6;
        }
        packet[place] = STAMP_BYTES as u8;
        place += 1;
        let payload_at = if is_table { HEAD_BYTES } else { TS_PACKET_BYTES - payload.len() };
        packet[4] = (payload_at - 5) as u8;
        packet[5] = flags | FLAG_PRIVATE | if pcr.is_some() { FLAG_PCR } else { 0 };
        packet[payload_at..payload_at + payload.len()].copy_from_slice(payload);
        self.finish(packet, place, out);
    }

    fn finish(&mut self, mut packet: [u8; TS_PACKET_BYTES], place: usize, out: &mut Vec<u8>) {
        self.stamp.write(&mut packet, place);
        self.stamp.counter += 1;
        out.extend_from_slice(&packet);
    }
}

/// The counter, which then goes on.
fn next(counter: &mut u8) -> u8 {
    let now = *counter;
    *counter = (now + 1) & 0x0F;
    now
}

/// A PID behind three set bits, as tables write it.
fn pid_bytes(pid: Pid) -> [u8; 2] {
    (0xE000 | pid.0).to_be_bytes()
}

/// A section behind its pointer.
fn section(table: u8, body: &[u8]) -> Vec<u8> {
    let [id_high, id_low] = PROGRAM.to_be_bytes();
    let mut section = vec![table, 0xB0, (body.len() + 9) as u8, id_high, id_low, 0xC1, 0, 0];
    section.extend_from_slice(body);
    let crc = crc32(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section.insert(0, 0);
    section
}

/// The head of a PES packet with a presentation time (ISO/IEC 13818-1, 2.4.3.6).
fn pes_head(sound: bool, unit_len: usize, clock: Pcr, out: &mut Vec<u8>) {
    let pts = (clock.ticks() / 300 + DELAY_90KHZ) % (1 << 33);
    // A video's length may be left out.
    let (id, len) = if sound { (0xC0, (unit_len + 8) as u16) } else { (0xE0, 0) };
    let [len_high, len_low] = len.to_be_bytes();
    out.extend_from_slice(&[0, 0, 1, id, len_high, len_low, 0x84, 0x80, 5]);
    out.extend_from_slice(&[
        0x21 | (pts >> 29) as u8 & 0x0E,
        (pts >> 22) as u8,
        (pts >> 14) as u8 | 1,
        (pts >> 7) as u8,
        (pts << 1) as u8 | 1,
    ]);
}
