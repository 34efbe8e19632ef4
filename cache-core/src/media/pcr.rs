//! The stream's clock: PCR values, and the timeline that they make.
//!
//! A PCR counts 27 MHz in 33 bits x 300 and wraps after 26 h 30 m 43 s. A [`Timeline`] is the same clock without the
//! wrap. A step of more than a second, or back, is a jump: the spec wants a PCR every 100 ms, and a second is our
//! guess of what a bad multiplexer may leave out.

use crate::time::Span;

/// Ticks of the system clock in a second.
pub const TICKS_PER_SECOND: u64 = 27_000_000;

/// Ticks in a millisecond.
pub const TICKS_PER_MS: u64 = TICKS_PER_SECOND / 1_000;

/// Where a PCR wraps.
pub const PCR_MODULUS: u64 = (1 << 33) * 300;

/// Largest step that still is the same clock.
pub const PCR_STEP_MAX: u64 = TICKS_PER_SECOND;

/// A program clock reference: 27 MHz ticks, 0..[`PCR_MODULUS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcr(u64);

impl Pcr {
    /// `ticks`, wrapped.
    pub const fn new(ticks: u64) -> Pcr {
        Pcr(ticks % PCR_MODULUS)
    }

    /// The ticks.
    pub const fn ticks(self) -> u64 {
        self.0
    }

    /// From its six bytes in an adaptation field.
    pub fn read(b: &[u8; 6]) -> Pcr {
        let base = u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])) << 1 | u64::from(b[4] >> 7);
        let extension = u64::from(b[4] & 1) << 8 | u64::from(b[5]);
        Pcr::new(base * 300 + extension)
    }

    /// Its six bytes.
    pub const fn bytes(self) -> [u8; 6] {
        let (base, extension) = (self.0 / 300, self.0 % 300);
        let [a, b, c, d] = ((base >> 1) as u32).to_be_bytes();
        [a, b, c, d, ((base & 1) << 7) as u8 | 0x7E | (extension >> 8) as u8, extension as u8]
    }

    /// Ticks from `earlier` on, across the wrap.
    pub const fn since(self, earlier: Pcr) -> u64 {
        (self.0 + PCR_MODULUS - earlier.0) % PCR_MODULUS
    }
}

/// A stream's clock without wraps, from one jump to the next.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    last: Pcr,
    elapsed: u64,
    step: u64,
}

impl Timeline {
    /// A clock whose first PCR is `pcr`, read `elapsed` ticks after its origin.
    pub const fn starting(pcr: Pcr, elapsed: u64) -> Timeline {
        Timeline { last: pcr, elapsed, step: 0 }
    }

    /// Goes on to `pcr`. False, and nothing changed, when it is a jump.
    pub fn advance(&mut self, pcr: Pcr) -> bool {
        let step = pcr.since(self.last);
        if step > PCR_STEP_MAX {
            return false;
        }
        self.last = pcr;
        self.elapsed += step;
        self.step = step;
        true
    }

    /// Goes on at `pcr` though it is a jump: as far from the last PCR as that was from the one before.
    pub const fn jump(&mut self, pcr: Pcr) {
        self.last = pcr;
        self.elapsed += self.step;
    }

    /// Ticks from the origin to the newest PCR.
    pub const fn elapsed(&self) -> u64 {
        self.elapsed
    }

    /// Ticks from the origin to where the next PCR would stand if it kept the last distance.
    pub const fn next_expected(&self) -> u64 {
        self.elapsed + self.step
    }
}

/// `ticks` as a [`Span`], rounded down to the microsecond.
pub const fn span_of(ticks: u64) -> Span {
    Span::from_micros(ticks / (TICKS_PER_SECOND / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        for ticks in [0, 299, 300, 1 << 20, PCR_MODULUS - 1] {
            assert_eq!(Pcr::read(&Pcr::new(ticks).bytes()), Pcr::new(ticks));
        }
    }

    #[test]
    fn the_clock_goes_on_over_the_wrap() {
        let mut timeline = Timeline::starting(Pcr::new(PCR_MODULUS - TICKS_PER_MS), 0);
        assert!(timeline.advance(Pcr::new(TICKS_PER_MS)));
        assert_eq!(timeline.elapsed(), 2 * TICKS_PER_MS);
    }

    #[test]
    fn a_step_back_or_of_more_than_a_second_is_a_jump() {
        let mut timeline = Timeline::starting(Pcr::new(TICKS_PER_SECOND), 7);
        assert!(!timeline.advance(Pcr::new(TICKS_PER_SECOND - 1)));
        assert!(!timeline.advance(Pcr::new(2 * TICKS_PER_SECOND + 1)));
        assert_eq!(timeline.elapsed(), 7);
        assert!(timeline.advance(Pcr::new(2 * TICKS_PER_SECOND)));
    }
}
