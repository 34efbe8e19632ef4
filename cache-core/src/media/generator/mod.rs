//! A test stream that proves itself: a real transport stream with a tiny picture (or silence), made without an
//! encoder, at any bit rate, of which every packet carries a [`Stamp`].
//!
//! ```text
//!  one frame:  PAT PMT | picture ........... | filler (null packets, up to the bit rate)
//!              [stamp  ] [PCR stamp| stamp ..] [stamp noise] [stamp noise] ...
//!  counter     0   1     2           3         4             5
//! ```
//! A stamp is the stream's tag, the packet's number, its media time and a checksum over all 188 bytes. So a stretch of
//! the stream, wherever it begins, shows that each byte is right, where it is, and what is missing, doubled or out of
//! order ([`super::check::PayloadCheck`]).
//!
//! The picture is 64 x 48 H.264: uncompressed key frames in which bars wander, and repeats of them in between; the
//! sound is MPEG layer II without a sample. Players show them, ffmpeg finds nothing wrong.
//!
//! The same configuration gives the same bytes. Who calls: load generators, the demonstration without ffmpeg, tests.

mod h264;
mod mux;
mod stamp;

pub use stamp::{STAMP_BYTES, Stamp, StampFault};

use mux::Mux;
pub(crate) use mux::PMT_PID;

use super::pcr::{Pcr, TICKS_PER_SECOND, span_of};
use crate::limits::TS_PACKET_BYTES;
use crate::time::Span;
use crate::units::BitRate;

/// What a generated stream shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// H.264.
    Picture {
        /// Frames per second, 1..=60.
        fps: u32,
        /// Frames from one key frame to the next, at least 1.
        key_frame_every: u32,
    },
    /// MPEG-1 layer II in frames of 24 ms, and no picture.
    Sound,
}

/// A generated stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorConfig {
    /// Bits per second, packet heads included. Below what the content needs (a picture at 25 fps with a key frame a
    /// second: 100 kbit/s) there is no filler, and more is sent.
    pub rate: BitRate,
    /// What it shows.
    pub content: Content,
    /// Whether the stream has a clock.
    pub pcr: bool,
    /// The clock at the first frame.
    pub first_pcr: Pcr,
    /// In every stamp: tells streams apart.
    pub tag: u64,
}

impl Default for GeneratorConfig {
    /// 2 Mbit/s (paper, section 4), 25 fps, a key frame every 2 s.
    fn default() -> GeneratorConfig {
        GeneratorConfig {
            rate: BitRate::from_kbps(2_000),
            content: Content::Picture { fps: 25, key_frame_every: 50 },
            pcr: true,
            first_pcr: Pcr::new(TICKS_PER_SECOND),
            tag: 0,
        }
    }
}

/// Tables are sent with every key frame and at least so often (our guess; DVB asks for every 100 ms, which at low
/// rates would be most of the stream).
const TABLES_EVERY: Span = Span::from_millis(500);

/// A frame of sound: 1152 samples at 48 kHz.
const SOUND_TICKS: u64 = TICKS_PER_SECOND * 1_152 / 48_000;

/// Makes a stream frame by frame. Memory: constant.
#[derive(Clone, Debug)]
pub struct Generator {
    config: GeneratorConfig,
    mux: Mux,
    /// Frames made.
    frame: u64,
    /// The clock's distance from media time, in ticks.
    offset: u64,
    announce: bool,
    tables_at: Option<Span>,
    /// The elementary stream's newest access unit.
    unit: Vec<u8>,
}

impl Generator {
    /// Before the first frame. Numbers outside their range are taken to its nearest end.
    pub fn new(config: GeneratorConfig) -> Generator {
        let content = match config.content {
            Content::Picture { fps, key_frame_every } => {
                Content::Picture { fps: fps.clamp(1, 60), key_frame_every: key_frame_every.max(1) }
            }
            Content::Sound => Content::Sound,
        };
        Generator {
            config: GeneratorConfig { content, ..config },
            mux: Mux::new(content == Content::Sound, config.pcr, config.tag),
            frame: 0,
            offset: config.first_pcr.ticks(),
            announce: false,
            tables_at: None,
            unit: Vec::new(),
        }
    }

    /// When the next frame is due, in media time from the first on.
    pub fn due(&self) -> Span {
        span_of(self.ticks_at(self.frame))
    }

    /// Appends the next frame's packets, which are due at [`Generator::due`]. Returns when the one behind it is.
    pub fn next_frame(&mut self, out: &mut Vec<u8>) -> Span {
        let due = self.due();
        self.mux.set_media(due);
        let ticks = self.ticks_at(self.frame);
        let key = match self.config.content {
            Content::Picture { fps, key_frame_every } => {
                let (gop, place) = (self.frame / u64::from(key_frame_every), self.frame % u64::from(key_frame_every));
                self.unit.clear();
                if place == 0 {
                    h264::key_frame(gop, fps, &mut self.unit)
                } else {
                    h264::repeat(place, &mut self.unit)
                }
                place == 0
            }
            Content::Sound => {
                self.unit.clear();
                self.unit.extend_from_slice(&SILENCE_HEAD);
                self.unit.resize(SILENCE_BYTES, 0);
                true
            }
        };
        let tables_due = self.tables_at.is_none_or(|at| due >= at.plus(TABLES_EVERY));
        if tables_due || (key && self.config.content != Content::Sound) {
            self.mux.tables(out);
            self.tables_at = Some(due);
        }
        let clock = Pcr::new(ticks + self.offset);
        self.mux.unit(&self.unit, clock, key, std::mem::take(&mut self.announce), out);
        self.frame += 1;
        // Up to the bit rate, counted from the first packet on.
        let bits = u128::from(self.config.rate.0) * u128::from(self.ticks_at(self.frame));
        let packets = bits / (u128::from(TICKS_PER_SECOND) * 8 * TS_PACKET_BYTES as u128);
        while u128::from(self.mux.packets()) < packets {
            self.mux.filler(out);
        }
        self.due()
    }

    /// The clock jumps to `clock` at the next frame, with or without the mark that announces it. Stamps and media
    /// time go on.
    pub fn jump(&mut self, clock: Pcr, announced: bool) {
        self.offset = clock.since(Pcr::new(self.ticks_at(self.frame)));
        self.announce = announced;
    }

    fn ticks_at(&self, frame: u64) -> u64 {
        match self.config.content {
            Content::Picture { fps, .. } => frame * TICKS_PER_SECOND / u64::from(fps),
            Content::Sound => frame * SOUND_TICKS,
        }
    }
}

/// MPEG-1 layer II, no CRC, 32 kbit/s, 48 kHz, one channel; the bit allocation that follows is all zero: silence.
const SILENCE_HEAD: [u8; 4] = [0xFF, 0xFD, 0x14, 0xC0];

/// 144 x 32 000 / 48 000.
const SILENCE_BYTES: usize = 96;
