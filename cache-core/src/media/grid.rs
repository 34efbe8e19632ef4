//! Where chunks end in time: every 200 ms of the stream's own clock, counted from its first PCR.
//!
//! ```text
//!  PCR      |0        |90       |170 |230           |410     |470 ...    ms since the first
//!  lines    0                      200            400          600
//!  chunks   [------------------------[--------------[-----------[        a chunk begins with the first PCR packet
//!                                                                        on or behind its line
//! ```
//! The lines do not move, so durations are 200 ms on average and exactly, however coarse the PCRs are, and a chunk's
//! number tells its time. A line between two PCRs more than 200 ms apart falls on a packet between them, by bytes.
//!
//! Without PCRs the wall clock takes their place: before the first one, in a stream that has none, and after a second
//! in which bytes came but no PCR. The clock is that of the PID that the PMT names; until it is seen there, of the
//! first PID that carries one.

use super::packet::{Packet, Pid};
use super::pcr::{PCR_STEP_MAX, Pcr, TICKS_PER_MS, TICKS_PER_SECOND, Timeline};
use crate::time::{Span, WallClock};
use crate::units::CHUNK_SPAN;

/// Distance of the lines in ticks.
pub(super) const LINE_TICKS: u64 = CHUNK_SPAN.millis() * TICKS_PER_MS;

/// Bytes without a PCR for so long mean that there is none any more: as long as the largest step between two.
const SILENCE_MAX: Span = Span::from_micros(PCR_STEP_MAX * 1_000_000 / TICKS_PER_SECOND);

/// The most of a pause between two pushes that counts towards [`SILENCE_MAX`]: an upload that was held up brought no
/// bytes, so it says nothing about PCRs.
const PAUSE_COUNTED: Span = Span::from_millis(200);

/// What a packet means for the chunk that is open when it comes; the packet itself belongs to the chunk after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing.
    Within,
    /// The clock ticks inside the chunk.
    Tick,
    /// Between the last PCR, `from`, and this packet's, `to`, there is at least one line.
    Cross { from: u64, to: u64 },
    /// The chunk ends here, after `duration_ms`, at `end` on the stream's clock (`None`: by the wall clock).
    Cut { duration_ms: u16, end: Option<u64>, discontinuity: bool },
}

/// The lines and the clock that they stand on.
#[derive(Debug)]
pub(super) struct Grid {
    clock: Clock,
    /// Whose PCRs are read.
    pid: Option<Pid>,
    /// A discontinuity was announced and its PCR has not come.
    announced: bool,
    /// There was a PCR before the wall clock took over.
    was_clocked: bool,
    silence: Span,
    last_push: Option<WallClock>,
    /// Where the open chunk begins, in ticks of the clock.
    start: u64,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Ticks since this moment; `None` before the first packet.
    Wall(Option<WallClock>),
    Pcr(Timeline),
}

impl Grid {
    pub(super) const fn new() -> Grid {
        Grid {
            clock: Clock::Wall(None),
            pid: None,
            announced: false,
            was_clocked: false,
            silence: Span::ZERO,
            last_push: None,
            start: 0,
        }
    }

    /// Bytes come at `now`.
    pub(super) fn bytes_come(&mut self, now: WallClock) {
        let pause = self.last_push.map_or(Span::ZERO, |last| now.since(last));
        self.last_push = Some(now);
        self.silence = self.silence.plus(pause.min(PAUSE_COUNTED));
    }

    /// The next packet, at `now`; `pmt_pid` is the PID that the PMT names for the clock.
    pub(super) fn packet(&mut self, now: WallClock, packet: Packet<'_>, pmt_pid: Option<Pid>) -> Event {
        let adaptation = packet.adaptation();
        let pid = packet.pid();
        let ours = pmt_pid == Some(pid) || self.pid.is_none_or(|ours| ours == pid);
        if ours && !packet.is_damaged() {
            self.announced |= adaptation.discontinuity && self.pid == Some(pid);
            if let Some(pcr) = adaptation.pcr {
                self.pid = Some(pid);
                self.silence = Span::ZERO;
                return self.tick(now, pcr);
            }
        }
        match self.clock {
            Clock::Wall(origin) => self.wall(now, origin),
            Clock::Pcr(_) if self.silence > SILENCE_MAX => self.lose_clock(now),
            Clock::Pcr(_) => Event::Within,
        }
    }

    /// The first line behind `ticks`.
    pub(super) const fn line_after(ticks: u64) -> u64 {
        (ticks / LINE_TICKS + 1) * LINE_TICKS
    }

    /// The first line behind the open chunk's beginning.
    pub(super) const fn next_line(&self) -> u64 {
        Grid::line_after(self.start)
    }

    /// Ends the open chunk at `end`; its duration.
    pub(super) fn close(&mut self, end: u64) -> u16 {
        let start = std::mem::replace(&mut self.start, end);
        // Rounded where it stands on the clock, so that parts add up to the whole.
        u16::try_from((end / TICKS_PER_MS).saturating_sub(start / TICKS_PER_MS)).unwrap_or(u16::MAX)
    }

    /// The newest that the clock has told, and whether it is the stream's own.
    pub(super) fn elapsed(&self, now: WallClock) -> (u64, bool) {
        match &self.clock {
            Clock::Wall(origin) => (origin.map_or(0, |origin| ticks_of(now.since(origin))), false),
            Clock::Pcr(timeline) => (timeline.elapsed(), true),
        }
    }

    /// Where the open chunk ends when nothing more comes of it: one more step of the clock, not over the line.
    pub(super) fn end(&self, now: WallClock) -> (u64, bool) {
        match &self.clock {
            Clock::Wall(_) => {
                let (elapsed, own) = self.elapsed(now);
                (elapsed.clamp(self.start, self.next_line()), own)
            }
            Clock::Pcr(timeline) => (timeline.next_expected().min(Grid::line_after(timeline.elapsed())), true),
        }
    }

    fn tick(&mut self, now: WallClock, pcr: Pcr) -> Event {
        let announced = std::mem::take(&mut self.announced);
        match &mut self.clock {
            Clock::Pcr(timeline) => {
                let from = timeline.elapsed();
                if announced || !timeline.advance(pcr) {
                    let end = self.end(now).0;
                    let duration_ms = self.close(end);
                    self.start_clock(pcr, 0);
                    return Event::Cut { duration_ms, end: Some(end), discontinuity: true };
                }
                let to = timeline.elapsed();
                if to < self.next_line() { Event::Tick } else { Event::Cross { from, to } }
            }
            Clock::Wall(_) if self.was_clocked => {
                let (end, _) = self.end(now);
                let duration_ms = self.close(end);
                self.start_clock(pcr, 0);
                Event::Cut { duration_ms, end: None, discontinuity: true }
            }
            Clock::Wall(_) => {
                // The open chunk goes on, and is as old as the wall clock says.
                let elapsed = self.end(now).0 - self.start;
                self.start_clock(pcr, elapsed.min(LINE_TICKS - 1));
                Event::Tick
            }
        }
    }

    fn start_clock(&mut self, pcr: Pcr, elapsed: u64) {
        self.clock = Clock::Pcr(Timeline::starting(pcr, elapsed));
        self.was_clocked = true;
        self.start = 0;
    }

    fn wall(&mut self, now: WallClock, origin: Option<WallClock>) -> Event {
        let Some(origin) = origin else {
            self.start_wall(now);
            return Event::Within;
        };
        let elapsed = ticks_of(now.since(origin));
        let set_back = now < origin || elapsed < self.start;
        if set_back || elapsed - self.start > PCR_STEP_MAX {
            // The clock was set, or the stream paused: nothing tells how long the open chunk is.
            self.start_wall(now);
            return Event::Cut { duration_ms: CHUNK_SPAN.millis() as u16, end: None, discontinuity: false };
        }
        if elapsed < self.next_line() {
            return Event::Within;
        }
        let duration_ms = self.close(elapsed / LINE_TICKS * LINE_TICKS);
        Event::Cut { duration_ms, end: None, discontinuity: false }
    }

    fn start_wall(&mut self, now: WallClock) {
        self.clock = Clock::Wall(Some(now));
        self.start = 0;
    }

    fn lose_clock(&mut self, now: WallClock) -> Event {
        let end = self.elapsed(now).0 + ticks_of(self.silence);
        let duration_ms = self.close(end);
        self.pid = None;
        self.announced = false;
        self.start_wall(now);
        Event::Cut { duration_ms, end: None, discontinuity: false }
    }
}

const fn ticks_of(span: Span) -> u64 {
    span.micros().saturating_mul(TICKS_PER_SECOND / 1_000_000)
}

const _: () = assert!(LINE_TICKS <= PCR_STEP_MAX, "two PCRs of one clock are at most five lines apart");
