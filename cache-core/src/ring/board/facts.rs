//! The node's facts: which process, since when, and whether it goes on.

use super::super::sync::{AtomicU64, Ordering};
use super::{read_text, write_text};
use crate::time::{Span, WallClock};

const PID: usize = 0;
const STARTED: usize = 1;
pub(super) const HEARTBEAT: usize = 2;
const SHARDS: usize = 3;
const CONNECTIONS_MAX: usize = 4;
const HUGE_BYTES: usize = 5;
pub(super) const DRAINING: usize = 6;
/// Texts: a word for the length, and 24, 56 and 24 bytes.
const VERSION: std::ops::Range<usize> = 8..12;
const LISTEN: std::ops::Range<usize> = 12..20;
const BACKEND: std::ops::Range<usize> = 20..24;
pub(super) const WORDS: usize = 24;

const NOT_KNOWN: u64 = u64::MAX;

/// What a node says of itself. Texts are ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its process.
    pub pid: u32,
    /// When it began.
    pub started: WallClock,
    /// The program's version, at most 24 bytes.
    pub version: &'a str,
    /// Where it listens, at most 56 bytes.
    pub listen: &'a str,
    /// How it sends, at most 24 bytes.
    pub backend: &'a str,
    /// How many shards it has.
    pub shards: u32,
    /// The most connections that it takes.
    pub connections_max: u32,
    /// Bytes of the ring in huge pages; `None` when that is not known.
    pub huge_bytes: Option<u64>,
}

/// What a board says of its node. `pid` is 0 until the node has described itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The process.
    pub pid: u32,
    /// When it began.
    pub started: WallClock,
    /// When control last went round, by the wall clock.
    pub heartbeat: WallClock,
    /// The program's version.
    pub version: String,
    /// Where it listens.
    pub listen: String,
    /// How it sends.
    pub backend: String,
    /// How many shards it has.
    pub shards: u32,
    /// The most connections that it takes.
    pub connections_max: u32,
    /// Bytes of the ring in huge pages.
    pub huge_bytes: Option<u64>,
    /// Whether it takes nothing new.
    pub draining: bool,
}

impl NodeView {
    /// How long ago control last went round.
    pub fn silent_for(&self, now: WallClock) -> Span {
        now.since(self.heartbeat)
    }
}

pub(super) fn write(words: &[AtomicU64], node: &Node<'_>) {
    let numbers = [
        (PID, u64::from(node.pid)),
        (STARTED, node.started.micros()),
        (HEARTBEAT, node.started.micros()),
        (SHARDS, u64::from(node.shards)),
        (CONNECTIONS_MAX, u64::from(node.connections_max)),
        (HUGE_BYTES, node.huge_bytes.unwrap_or(NOT_KNOWN)),
        (DRAINING, 0),
    ];
    for (at, value) in numbers {
        words[at].store(value, Ordering::Relaxed);
    }
    write_text(&words[VERSION], node.version);
    write_text(&words[LISTEN], node.listen);
    write_text(&words[BACKEND], node.backend);
}

pub(super) fn read(words: &[AtomicU64]) -> NodeView {
    let number = |at: usize| words[at].load(Ordering::Relaxed);
    let small = |at| u32::try_from(number(at)).unwrap_or(u32::MAX);
    NodeView {
        pid: small(PID),
        started: WallClock::from_micros(number(STARTED)),
        heartbeat: WallClock::from_micros(number(HEARTBEAT)),
        version: read_text(&words[VERSION]),
        listen: read_text(&words[LISTEN]),
        backend: read_text(&words[BACKEND]),
        shards: small(SHARDS),
        connections_max: small(CONNECTIONS_MAX),
        huge_bytes: Some(number(HUGE_BYTES)).filter(|bytes| *bytes != NOT_KNOWN),
        draining: number(DRAINING) != 0,
    }
}
