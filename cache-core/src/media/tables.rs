//! The newest PAT and PMTs, remembered as the packets they came in.
//!
//! A viewer that begins in the middle of a stream needs them first: they are copied in front of chunks. The copies
//! are byte for byte what the stream carried, so a player sees nothing but packets sent twice.

use super::packet::{Packet, Pid};
use super::psi::{Assembler, Pmt, ProgramEntry, read_pat, read_pmt};
use crate::limits::{TABLES_BYTES_MAX, TS_PACKET_BYTES};

/// Remembers tables. Memory: the PAT and [`crate::limits::PROGRAMS_MAX`] PMTs, 8 packets each at most.
#[derive(Clone, Debug, Default)]
pub struct TableMemory {
    pat: Assembler,
    pat_packets: Vec<u8>,
    programs: Vec<Program>,
    packets: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Program {
    entry: ProgramEntry,
    assembler: Assembler,
    packets: Vec<u8>,
    pmt: Option<Pmt>,
}

impl TableMemory {
    /// Nothing remembered.
    pub fn new() -> TableMemory {
        TableMemory::default()
    }

    /// Takes a stream's next packet, of whatever PID. True when a program's streams are others than before.
    pub fn push(&mut self, packet: Packet<'_>) -> bool {
        if packet.pid() == Pid::PAT { self.push_pat(packet) } else { self.push_pmt(packet) }
    }

    /// Takes whole packets, as a chunk's payload has them.
    pub fn push_all(&mut self, payload: &[u8]) {
        for packet in payload.as_chunks::<TS_PACKET_BYTES>().0 {
            self.push(Packet(packet));
        }
    }

    /// The PAT's and then the PMTs' packets, to stand in front of a stretch of the stream: a multiple of 188 bytes, at
    /// most [`TABLES_BYTES_MAX`]. Empty until a PAT and a PMT are complete; PMTs that do not fit are left out.
    pub fn packets(&self) -> &[u8] {
        &self.packets
    }

    /// The program that is sliced: the first of the PAT whose PMT is known.
    pub fn program(&self) -> Option<&Pmt> {
        self.programs.iter().find_map(|program| program.pmt.as_ref())
    }

    fn push_pat(&mut self, packet: Packet<'_>) -> bool {
        let mut newest = None;
        self.pat.push(packet, |section, packets| {
            if let Some(entries) = read_pat(section) {
                newest = Some((entries, packets.to_vec()));
            }
        });
        let Some((entries, packets)) = newest else { return false };
        let before = self.program().cloned();
        let mut known = std::mem::take(&mut self.programs);
        for entry in entries {
            let program = match known.iter().position(|program| program.entry == entry) {
                Some(i) => known.swap_remove(i),
                None => Program { entry, assembler: Assembler::default(), packets: Vec::new(), pmt: None },
            };
            self.programs.push(program);
        }
        self.pat_packets = packets;
        self.join_packets();
        before.as_ref() != self.program()
    }

    fn push_pmt(&mut self, packet: Packet<'_>) -> bool {
        let mut complete = false;
        let mut changed = false;
        for program in self.programs.iter_mut().filter(|program| program.entry.pid == packet.pid()) {
            let Program { entry, assembler, packets, pmt } = program;
            assembler.push(packet, |section, from| {
                let Some(newest) = read_pmt(section).filter(|newest| newest.number == entry.number) else { return };
                complete = true;
                packets.clear();
                packets.extend_from_slice(from);
                if pmt.as_ref() != Some(&newest) {
                    *pmt = Some(newest);
                    changed = true;
                }
            });
        }
        if complete {
            self.join_packets();
        }
        changed
    }

    fn join_packets(&mut self) {
        self.packets.clear();
        if self.program().is_none() {
            return;
        }
        self.packets.extend_from_slice(&self.pat_packets);
        for program in &self.programs {
            if self.packets.len() + program.packets.len() <= TABLES_BYTES_MAX {
                self.packets.extend_from_slice(&program.packets);
            }
        }
    }
}
