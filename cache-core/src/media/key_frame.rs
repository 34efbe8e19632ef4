//! Where a decoder can begin.
//!
//! A key frame begins with the packet in which its PES packet starts. Whether it is one is told by
//!
//! | stream | key frame |
//! |---|---|
//! | H.264 | first slice is of an IDR picture; or a sequence parameter set and a recovery point, or a random access mark |
//! | HEVC | first slice is of an IRAP picture (types 16..=23) |
//! | MPEG-1/2 | a sequence header and then an I picture |
//! | other or scrambled video | the packet's random access mark |
//! | no video: first sound, else first stream, of the PMT | every PES packet |
//! | no PMT | a PES packet of video with a random access mark |
//!
//! The verdict may take several packets (parameter sets and SEI come first); meanwhile the finder is *undecided*
//! about the packet where the PES began. It looks at the first [`KEY_FRAME_SEARCH_BYTES_MAX`] bytes and the first
//! picture of a PES packet, and takes a random access mark for what it says when it finds no picture there.

use super::packet::{Packet, Pid};
use super::psi::{Codec, Pmt};
use crate::limits::KEY_FRAME_SEARCH_BYTES_MAX;

/// Finds key frames in one elementary stream. Memory: constant.
#[derive(Debug, Default)]
pub(super) struct KeyFrameFinder {
    /// Whose stream; `None` without a PMT.
    target: Option<(Pid, Codec)>,
    open: Option<Candidate>,
}

/// A PES packet that has begun and is not judged.
#[derive(Debug)]
struct Candidate {
    at: u64,
    marked: bool,
    /// Bytes of the PES header still to pass over; `None` until its length is known.
    header_left: Option<usize>,
    looked_at: usize,
    /// The newest bytes, newest lowest.
    window: u64,
    parameters: bool,
    recovery_point: bool,
}

impl KeyFrameFinder {
    /// Looks at the stream of `program` that viewers wait for from here on.
    pub(super) fn retarget(&mut self, program: &Pmt) {
        let is_video = |codec| matches!(codec, Codec::Mpeg2 | Codec::H264 | Codec::Hevc | Codec::OtherVideo);
        let streams = &program.streams;
        let stream = streams
            .iter()
            .find(|stream| is_video(stream.codec))
            .or_else(|| streams.iter().find(|stream| stream.codec == Codec::Audio))
            .or_else(|| streams.first());
        let target = stream.map(|stream| (stream.pid, stream.codec));
        if target != self.target {
            *self = KeyFrameFinder { target, open: None };
        }
    }

    /// The place of the packet whose kind is not known yet.
    pub(super) fn undecided(&self) -> Option<u64> {
        self.open.as_ref().map(|candidate| candidate.at)
    }

    /// Forgets it.
    pub(super) fn give_up(&mut self) {
        self.open = None;
    }

    /// Takes the stream's next packet, which stands at `at`; the place of the key frame that it proves.
    pub(super) fn push(&mut self, packet: Packet<'_>, at: u64) -> Option<u64> {
        let codec = match self.target {
            Some((pid, codec)) if pid == packet.pid() => codec,
            None if is_video_start(packet) => Codec::OtherVideo,
            _ => return None,
        };
        if packet.is_damaged() || !packet.has_payload() {
            return None;
        }
        let marked = packet.adaptation().random_access;
        if packet.starts_unit() {
            self.open = None;
            match codec {
                Codec::Audio | Codec::Other => return Some(at),
                Codec::OtherVideo => return marked.then_some(at),
                _ if packet.is_scrambled() => return marked.then_some(at),
                Codec::Mpeg2 | Codec::H264 | Codec::Hevc => self.open = Some(Candidate::new(at, marked)),
            }
        }
        let candidate = self.open.as_mut()?;
        let verdict = candidate.look_at(codec, packet.payload())?;
        let at = candidate.at;
        self.open = None;
        verdict.then_some(at)
    }
}

fn is_video_start(packet: Packet<'_>) -> bool {
    packet.starts_unit() && matches!(packet.payload(), [0, 0, 1, 0xE0..=0xEF, ..])
}

impl Candidate {
    fn new(at: u64, marked: bool) -> Candidate {
        Candidate {
            at,
            marked,
            header_left: None,
            looked_at: 0,
            window: u64::MAX,
            parameters: false,
            recovery_point: false,
        }
    }

    /// Whether it is a key frame, once that is known.
    fn look_at(&mut self, codec: Codec, mut payload: &[u8]) -> Option<bool> {
        let header_left = match self.header_left {
            Some(left) => left,
            // The fixed nine bytes of a PES header stand in its first packet or there is no picture to be found.
            None => match payload.first_chunk::<9>() {
                Some([0, 0, 1, .., len]) => 9 + usize::from(*len),
                _ => return Some(self.marked),
            },
        };
        let passed = header_left.min(payload.len());
        self.header_left = Some(header_left - passed);
        payload = &payload[passed..];
        for byte in payload {
            self.window = self.window << 8 | u64::from(*byte);
            let verdict = match codec {
                Codec::H264 => self.h264(),
                Codec::Hevc => self.hevc(),
                _ => self.mpeg2(),
            };
            if verdict.is_some() {
                return verdict;
            }
        }
        self.looked_at += payload.len();
        (self.looked_at >= KEY_FRAME_SEARCH_BYTES_MAX).then_some(self.marked)
    }

    /// The newest bytes, `N` of them, when a start code stands in front of them.
    fn after_start_code<const N: usize>(&self) -> Option<[u8; N]> {
        let window = self.window.to_be_bytes();
        let (head, bytes) = window.split_last_chunk::<N>()?;
        head.ends_with(&[0, 0, 1]).then_some(*bytes)
    }

    fn h264(&mut self) -> Option<bool> {
        const SEI_RECOVERY_POINT: u8 = 6;
        if let Some([nal, payload_type]) = self.after_start_code() {
            self.recovery_point |= nal & 0x1F == 6 && payload_type == SEI_RECOVERY_POINT;
        }
        let [nal] = self.after_start_code()?;
        match nal & 0x1F {
            5 => Some(true),
            7 => {
                self.parameters = true;
                None
            }
            1..=4 => Some(self.parameters && (self.recovery_point || self.marked)),
            _ => None,
        }
    }

    fn hevc(&mut self) -> Option<bool> {
        let [nal] = self.after_start_code()?;
        match nal >> 1 & 0x3F {
            16..=23 => Some(true),
            0..=31 => Some(false),
            _ => None,
        }
    }

    fn mpeg2(&mut self) -> Option<bool> {
        const SEQUENCE_HEADER: u8 = 0xB3;
        const PICTURE: u8 = 0;
        const INTRA: u8 = 1;
        if let Some([SEQUENCE_HEADER]) = self.after_start_code() {
            self.parameters = true;
        }
        // Ten bits of order, three of type.
        let [PICTURE, _, kind] = self.after_start_code()? else { return None };
        Some(self.parameters && kind >> 3 & 7 == INTRA)
    }
}
