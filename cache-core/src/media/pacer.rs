//! When each byte of a recorded stream is due.
//!
//! A file is read faster than it plays; its PCRs tell how fast it was meant to be sent. Time goes on over jumps of the
//! clock (a file that is repeated, or was cut together) by the distance of the last two PCRs.
//!
//! Use: read a block of a few packets (7 x 188 bytes; the block is the grain of the pace), ask when it is due, wait
//! until then, send it.

use super::framing::{Framer, NotTransportStream};
use super::packet::{Packet, Pid};
use super::pcr::{Timeline, span_of};
use crate::time::Span;

/// Reads a stream's PCRs. Memory: constant.
#[derive(Debug, Default)]
pub struct Pacer {
    framer: Framer,
    clock: PcrClock,
}

#[derive(Debug, Default)]
struct PcrClock {
    pid: Option<Pid>,
    timeline: Option<Timeline>,
    announced: bool,
}

impl Pacer {
    /// Before the first byte.
    pub fn new() -> Pacer {
        Pacer::default()
    }

    /// When `bytes`, the stream's next, are due: so long after the stream's first PCR (zero before it, and always in a
    /// stream without PCRs). Never less than the last answer. The clock is that of the first PID that carries one.
    pub fn due(&mut self, bytes: &[u8]) -> Result<Span, NotTransportStream> {
        let Pacer { framer, clock } = self;
        framer.push(bytes, |packet| clock.take(Packet(packet)))?;
        Ok(clock.timeline.map_or(Span::ZERO, |timeline| span_of(timeline.elapsed())))
    }

    /// The file begins again: what was left of its last packet is dropped.
    pub fn rewind(&mut self) {
        self.framer = Framer::new();
    }
}

impl PcrClock {
    fn take(&mut self, packet: Packet<'_>) {
        let adaptation = packet.adaptation();
        if packet.is_damaged() || self.pid.is_some_and(|pid| pid != packet.pid()) {
            return;
        }
        self.announced |= adaptation.discontinuity;
        let Some(pcr) = adaptation.pcr else { return };
        self.pid = Some(packet.pid());
        match &mut self.timeline {
            None => self.timeline = Some(Timeline::starting(pcr, 0)),
            Some(timeline) => {
                if self.announced || !timeline.advance(pcr) {
                    timeline.jump(pcr);
                }
            }
        }
        self.announced = false;
    }
}
