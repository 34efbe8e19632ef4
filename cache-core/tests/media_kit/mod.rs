//! Transport streams drawn by hand, packet by packet, and a slicer driven over them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use cache_core::media::packet::Pid;
use cache_core::media::pcr::{Pcr, TICKS_PER_MS};
use cache_core::media::psi::crc32;
use cache_core::media::{Generator, GeneratorConfig, Slice, Slicer, SlicerConfig, SlicerStats};
use cache_core::outbox::Outbox;
use cache_core::time::WallClock;

pub const PMT: Pid = Pid(0x1000);
pub const VIDEO: Pid = Pid(0x100);
pub const AUDIO: Pid = Pid(0x101);
pub const CLOCK: Pid = Pid(0x1F0);
pub const NULL: Pid = Pid::NULL;

pub const H264: u8 = 0x1B;
pub const HEVC: u8 = 0x24;
pub const MPEG2: u8 = 0x02;
pub const AAC: u8 = 0x0F;

/// One packet in the making.
#[derive(Clone)]
pub struct Ts {
    pid: Pid,
    start: bool,
    flags: u8,
    pcr: Option<Pcr>,
    payload: Vec<u8>,
    pub counter: u8,
}

pub fn ts(pid: Pid) -> Ts {
    Ts { pid, start: false, flags: 0, pcr: None, payload: Vec::new(), counter: 0 }
}

impl Ts {
    pub fn pcr_ms(self, ms: u64) -> Ts {
        self.pcr(Pcr::new(ms * TICKS_PER_MS))
    }

    pub fn pcr(self, pcr: Pcr) -> Ts {
        Ts { pcr: Some(pcr), flags: self.flags | 0x10, ..self }
    }

    pub fn random_access(self) -> Ts {
        Ts { flags: self.flags | 0x40, ..self }
    }

    pub fn discontinuity(self) -> Ts {
        Ts { flags: self.flags | 0x80, ..self }
    }

    pub fn payload(self, payload: &[u8]) -> Ts {
        Ts { payload: payload.to_vec(), ..self }
    }

    /// A PES packet starts here and holds `elementary`.
    pub fn pes(self, stream_id: u8, elementary: &[u8]) -> Ts {
        let mut payload = vec![0, 0, 1, stream_id, 0, 0, 0x80, 0, 0];
        payload.extend_from_slice(elementary);
        Ts { start: true, payload, ..self }
    }

    /// Sections start here.
    pub fn sections(self, bytes: &[u8]) -> Ts {
        Ts { start: true, payload: bytes.to_vec(), ..self }
    }

    pub fn counter(self, counter: u8) -> Ts {
        Ts { counter: counter & 15, ..self }
    }

    pub fn bytes(&self) -> [u8; 188] {
        let mut adaptation = Vec::new();
        let room = 184 - self.payload.len();
        if self.flags != 0 || room > 0 {
            adaptation.push(0);
            if self.flags != 0 || room > 1 {
                adaptation.push(self.flags);
            }
            adaptation.extend(self.pcr.map(Pcr::bytes).into_iter().flatten());
            assert!(adaptation.len() <= room, "the payload is too long for one packet");
            adaptation.resize(room, 0xFF);
            adaptation[0] = (room - 1) as u8;
        }
        let control = (0x10 * u8::from(!self.payload.is_empty())) | (0x20 * u8::from(!adaptation.is_empty()));
        let mut packet = vec![
            0x47,
            (0x40 * u8::from(self.start)) | (self.pid.0 >> 8) as u8,
            self.pid.0 as u8,
            control | self.counter,
        ];
        packet.extend(adaptation);
        packet.extend_from_slice(&self.payload);
        packet.try_into().expect("a packet is 188 bytes")
    }
}

/// A whole section: head, `body`, CRC.
pub fn section(table: u8, id: u16, body: &[u8]) -> Vec<u8> {
    let len = body.len() + 9;
    let mut section = vec![table, 0xB0 | (len >> 8) as u8, len as u8, (id >> 8) as u8, id as u8, 0xC1, 0, 0];
    section.extend_from_slice(body);
    let crc = crc32(&section);
    section.extend_from_slice(&crc.to_be_bytes());
    section
}

/// `section` in as many packets of `pid` as it takes, the last one padded.
pub fn packets_of(pid: Pid, section: &[u8]) -> Vec<Ts> {
    let mut payload = vec![0];
    payload.extend_from_slice(section);
    payload.resize(payload.len().next_multiple_of(184), 0xFF);
    let piece = |(i, piece): (usize, &[u8])| {
        let packet = ts(pid).counter(i as u8);
        if i == 0 { packet.sections(piece) } else { packet.payload(piece) }
    };
    payload.chunks(184).enumerate().map(piece).collect()
}

pub fn pat(programs: &[(u16, Pid)]) -> Vec<Ts> {
    let body: Vec<u8> = programs
        .iter()
        .flat_map(|(number, pid)| [(number >> 8) as u8, *number as u8, 0xE0 | (pid.0 >> 8) as u8, pid.0 as u8])
        .collect();
    packets_of(Pid::PAT, &section(0, 1, &body))
}

/// The PMT of program 1; `filler` bytes of descriptors make it long.
pub fn pmt(pcr_pid: Pid, streams: &[(u8, Pid)], filler: usize) -> Vec<Ts> {
    let mut descriptors = Vec::new();
    while descriptors.len() < filler {
        let len = (filler - descriptors.len()).clamp(2, 200) - 2;
        descriptors.extend([0xFE, len as u8]);
        descriptors.resize(descriptors.len() + len, 0xAA);
    }
    let mut body = vec![
        0xE0 | (pcr_pid.0 >> 8) as u8,
        pcr_pid.0 as u8,
        0xF0 | (descriptors.len() >> 8) as u8,
        descriptors.len() as u8,
    ];
    body.extend(descriptors);
    for (kind, pid) in streams {
        body.extend([*kind, 0xE0 | (pid.0 >> 8) as u8, pid.0 as u8, 0xF0, 0]);
    }
    packets_of(PMT, &section(2, 1, &body))
}

/// PAT and PMT of a stream with H.264 and AAC whose clock is in the video.
pub fn tables() -> Vec<Ts> {
    [pat(&[(1, PMT)]), pmt(VIDEO, &[(H264, VIDEO), (AAC, AUDIO)], 0)].concat()
}

pub fn idr() -> Ts {
    ts(VIDEO).pes(0xE0, &[0, 0, 0, 1, 9, 0x10, 0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, 0x88])
}

pub fn picture() -> Ts {
    ts(VIDEO).pes(0xE0, &[0, 0, 0, 1, 9, 0x30, 0, 0, 1, 0x41, 0x9A])
}

pub fn bytes(packets: &[Ts]) -> Vec<u8> {
    packets.iter().flat_map(Ts::bytes).collect()
}

pub const NOON: WallClock = WallClock::from_micros(1_700_000_000_000_000);

/// The slices of `input`, all of it at once at [`NOON`].
pub fn slice(input: &[u8]) -> Vec<Slice> {
    slice_with_stats(input).0
}

pub fn slice_with_stats(input: &[u8]) -> (Vec<Slice>, SlicerStats) {
    slice_pieces(std::iter::once(input))
}

/// The slices of an input that comes in pieces, all at [`NOON`].
pub fn slice_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Slice>, SlicerStats) {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    for piece in pieces {
        slicer.push(NOON, piece, &mut out).expect("a transport stream");
    }
    slicer.finish(NOON, &mut out).expect("a transport stream");
    (out.drain().collect(), slicer.stats())
}

/// The transport stream that `slices` carry.
pub fn joined(slices: &[Slice]) -> Vec<u8> {
    slices.iter().flat_map(Slice::stream_bytes).copied().collect()
}

pub fn durations(slices: &[Slice]) -> Vec<u16> {
    slices.iter().map(|slice| slice.duration_ms).collect()
}

/// Packets in each slice behind the tables.
pub fn packet_counts(slices: &[Slice]) -> Vec<usize> {
    slices.iter().map(|slice| slice.stream_bytes().len() / 188).collect()
}

/// Key-frame offsets in packets.
pub fn key_packets(slices: &[Slice]) -> Vec<Option<u32>> {
    slices.iter().map(|slice| slice.key_frame.map(|at| at / 188)).collect()
}

/// The first `frames` frames of a generated stream.
pub fn generated(config: GeneratorConfig, frames: usize) -> Vec<u8> {
    let mut generator = Generator::new(config);
    let mut out = Vec::new();
    for _ in 0..frames {
        generator.next_frame(&mut out);
    }
    out
}
