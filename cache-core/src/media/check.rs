//! Proves a received stretch of a generated stream right.
//!
//! Every packet's checksum is checked, and its number against the one before: what is missing, what comes again, what
//! comes late. Copies of tables in front of chunks are told apart: they are packets of the PAT's and the PMT's PIDs
//! whose number has passed, or that come before anything else.

use super::generator::{PMT_PID, Stamp};
use super::packet::{Packet, Pid, SYNC_BYTE};
use crate::limits::TS_PACKET_BYTES;
use crate::time::Span;

/// Gaps that are remembered, to tell what comes late from what comes again (our guess: a receiver that has had so
/// many has failed its test anyway).
const GAPS_MAX: usize = 64;

/// What was found, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Right and in their place.
    pub right: u64,
    /// Right copies of tables.
    pub table_copies: u64,
    /// With a wrong byte, or without a stamp.
    pub wrong: u64,
    /// Right, of another stream.
    pub foreign: u64,
    /// Never came (those that come late are taken off again).
    pub lost: u64,
    /// Stretches of lost packets.
    pub gaps: u64,
    /// Came again.
    pub duplicated: u64,
    /// Came behind one with a greater number.
    pub reordered: u64,
}

impl CheckReport {
    /// Whether every byte was right and in its place, and there was at least one.
    pub const fn is_perfect(&self) -> bool {
        self.right > 0 && self.is_unharmed() && self.lost == 0 && self.gaps == 0
    }

    /// Whether every byte that came was right and in order; some may be missing (a viewer that skipped ahead).
    pub const fn is_unharmed(&self) -> bool {
        self.wrong == 0 && self.foreign == 0 && self.duplicated == 0 && self.reordered == 0
    }
}

/// Checks one stretch. Memory: constant.
#[derive(Clone, Debug)]
pub struct PayloadCheck {
    tag: u64,
    carry: Vec<u8>,
    next: Option<u64>,
    media: Span,
    missing: Vec<std::ops::Range<u64>>,
    report: CheckReport,
}

impl PayloadCheck {
    /// For the stream whose stamps carry `tag`.
    pub const fn new(tag: u64) -> PayloadCheck {
        PayloadCheck {
            tag,
            carry: Vec::new(),
            next: None,
            media: Span::ZERO,
            missing: Vec::new(),
            report: CheckReport {
                right: 0,
                table_copies: 0,
                wrong: 0,
                foreign: 0,
                lost: 0,
                gaps: 0,
                duplicated: 0,
                reordered: 0,
            },
        }
    }

    /// Takes the next bytes, in any fragmentation; the first one begins a packet.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if !self.carry.is_empty() {
            let taken = bytes.len().min(TS_PACKET_BYTES - self.carry.len());
            self.carry.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let Ok(packet) = <[u8; TS_PACKET_BYTES]>::try_from(self.carry.as_slice()) {
                self.carry.clear();
                self.packet(&packet);
            }
        }
        let (packets, rest) = bytes.as_chunks();
        for packet in packets {
            self.packet(packet);
        }
        self.carry.extend_from_slice(rest);
    }

    /// What was found so far; a packet that is not whole is not in it.
    pub const fn report(&self) -> CheckReport {
        self.report
    }

    /// The number of the packet that is expected next.
    pub const fn next(&self) -> Option<u64> {
        self.next
    }

    /// The media time of the newest packet: with the moment at which the generator began, how old it is.
    pub const fn media(&self) -> Span {
        self.media
    }

    fn packet(&mut self, packet: &[u8; TS_PACKET_BYTES]) {
        let stamp = match Stamp::read(packet) {
            Ok(stamp) if packet[0] == SYNC_BYTE => stamp,
            _ => return self.report.wrong += 1,
        };
        if stamp.tag != self.tag {
            return self.report.foreign += 1;
        }
        let is_table = matches!(Packet(packet).pid(), Pid::PAT | PMT_PID);
        let counter = stamp.counter;
        match self.next {
            None if is_table => self.report.table_copies += 1,
            Some(next) if counter < next && is_table => self.report.table_copies += 1,
            Some(next) if counter < next => {
                if self.fill_gap(counter) {
                    self.report.reordered += 1;
                    self.report.lost -= 1;
                } else {
                    self.report.duplicated += 1;
                }
            }
            next => {
                let expected = next.unwrap_or(counter);
                if counter > expected {
                    self.report.gaps += 1;
                    self.report.lost = self.report.lost.saturating_add(counter - expected);
                    if self.missing.len() < GAPS_MAX {
                        self.missing.push(expected..counter);
                    }
                }
                self.next = Some(counter.saturating_add(1));
                self.media = stamp.media;
                self.report.right += 1;
            }
        }
    }

    /// Whether `counter` was missing; it is not any more.
    fn fill_gap(&mut self, counter: u64) -> bool {
        let Some(i) = self.missing.iter().position(|gap| gap.contains(&counter)) else { return false };
        let gap = self.missing.swap_remove(i);
        self.missing.extend([gap.start..counter, counter + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
        self.missing.truncate(GAPS_MAX);
        true
    }
}
