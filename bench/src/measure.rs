//! What is measured, and how it adds up.
//!
//! ```text
//!   first join            all joined: start        end       end + grace
//!  -----|---------------------|---------------------|------------|---->  wall clock
//!        joins, by schedule   |<-- measured span -->|  stragglers
//! ```
//! A chunk is *due* when its publisher's clock lies in the measured span; due chunks are the same for every viewer, and
//! a viewer is *served* when it has each of them by the end of the grace and nothing wrong. Lateness is the arrival of
//! a chunk's last byte minus the publisher's clock in its header: the schedule's moment, not the moment at which
//! somebody got round to it, so that a stall is seen in every chunk that it held up. One host, one clock. Lateness from
//! the upload is the same minus the moment at which the publisher's last byte of the chunk was written: the server's part.
//!
//! A viewer that leaves by plan is served when it has everything between its first and its last chunk.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::viewers::Temper;

/// Largest recorded duration; above it only "a minute" is known.
const DURATION_US_MAX: u64 = 60_000_000;

/// Microseconds since the Unix epoch, as chunk headers carry them.
pub(crate) fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Durations in microseconds, to 3 digits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct Durations(Histogram<u64>);

/// As processes tell each other: each duration and how often it was.
impl From<Durations> for Vec<(u64, u64)> {
    fn from(durations: Durations) -> Vec<(u64, u64)> {
        durations.0.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }
}

impl From<Vec<(u64, u64)>> for Durations {
    fn from(pairs: Vec<(u64, u64)>) -> Durations {
        let mut durations = Durations::new();
        for (us, count) in pairs {
            durations.record_many(us, count);
        }
        durations
    }
}

impl Durations {
    pub(crate) fn new() -> Durations {
        Durations(Histogram::new_with_bounds(1, DURATION_US_MAX, 3).expect("1 to a minute at 3 digits is a range"))
    }

    pub(crate) fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    /// The same duration, `count` times.
    pub(crate) fn record_many(&mut self, us: u64, count: u64) {
        self.0.saturating_record_n(us.max(1), count);
    }

    pub(crate) fn add(&mut self, other: &Durations) {
        self.0.add(&other.0).expect("all have the same range");
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The value at quantile `q` in milliseconds; 0 when nothing was recorded.
    pub(crate) fn ms(&self, q: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(q) as f64 / 1_000.0 }
    }

    /// How many lie from `from_ms` (included) to `to_ms`.
    pub(crate) fn between(&self, from_ms: f64, to_ms: f64) -> u64 {
        let us = |ms: f64| (ms * 1_000.0) as u64;
        self.0
            .iter_recorded()
            .filter(|at| (us(from_ms)..us(to_ms)).contains(&at.value_iterated_to()))
            .map(|at| at.count_at_value())
            .sum()
    }
}

/// A set of chunk numbers near each other: one bit each from the first one on. Bounded by the run's length.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SeqSet {
    base: u64,
    bits: Vec<u64>,
}

/// Most numbers a set spans: a day of chunks. What is farther away is not remembered (and then counts as missed).
const SPAN_MAX: u64 = 24 * 3_600 * 5;

impl SeqSet {
    /// An empty set with room for `numbers` in a row, so that adding them allocates nothing.
    pub(crate) fn with_room(numbers: u64) -> SeqSet {
        SeqSet { base: 0, bits: Vec::with_capacity(numbers.min(SPAN_MAX) as usize / 64 + 1) }
    }

    /// The least and the greatest number in it.
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        let word = self.bits.iter().rposition(|word| *word != 0)?;
        Some((self.base, self.base + 64 * word as u64 + u64::from(self.bits[word].ilog2())))
    }

    /// Adds `seq`; false when it was there, or is before the first one, or too far behind it.
    pub(crate) fn insert(&mut self, seq: u64) -> bool {
        if self.bits.is_empty() {
            self.base = seq;
        }
        let Some(at) = seq.checked_sub(self.base).filter(|at| *at < SPAN_MAX) else { return false };
        let (word, bit) = ((at / 64) as usize, at % 64);
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & (1 << bit) == 0;
        self.bits[word] |= 1 << bit;
        new
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        let Some(at) = seq.checked_sub(self.base) else { return false };
        self.bits.get((at / 64) as usize).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// Why a viewer was not served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// It could not connect.
    Connect(String),
    /// A typed no.
    Refused(String),
    /// Something that is not the protocol.
    Protocol(String),
    /// The other side ended the connection.
    Closed,
    /// The stream ended before the measured span did.
    Ended,
    /// No whole chunk for so long after the join that nobody waits any more.
    Silent,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Connect(why) => write!(f, "could not connect: {why}"),
            Trouble::Refused(why) => write!(f, "refused: {why}"),
            Trouble::Protocol(why) => write!(f, "broken protocol: {why}"),
            Trouble::Closed => f.write_str("the cache closed the connection"),
            Trouble::Ended => f.write_str("the stream ended"),
            Trouble::Silent => f.write_str("no whole chunk in 10 s"),
        }
    }
}

/// One viewer's account, from one join to its end. Who comes back has another.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) temper: Temper,
    /// Which of the streams it watches.
    pub(crate) stream: usize,
    /// When it was scheduled to join (wall clock).
    pub(crate) intended_us: u64,
    /// When its first byte of the server's came.
    pub(crate) first_byte_us: Option<u64>,
    /// When its first chunk was complete.
    pub(crate) joined_us: Option<u64>,
    /// When it left by plan.
    pub(crate) left_us: Option<u64>,
    /// Chunks that arrived and were not found wrong (get mode: requests, by their moment).
    pub(crate) got: SeqSet,
    /// The greatest number among them.
    #[serde(skip)]
    pub(crate) newest: Option<u64>,
    pub(crate) chunks: u64,
    pub(crate) bytes: u64,
    /// Of these, those that came in the measured span.
    pub(crate) span_bytes: u64,
    /// Chunks with a wrong byte, number or signature.
    pub(crate) wrong: u64,
    /// Chunks that the cache said it leaves out.
    pub(crate) skipped: u64,
    /// How often it was sent to another cache, and went.
    pub(crate) redirected: u64,
    /// It was sent to another cache.
    pub(crate) sent_elsewhere: bool,
    pub(crate) trouble: Option<Trouble>,
}

/// How chunks were verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checked {
    /// Signature, hash and payload, in full.
    pub(crate) by_signature: u64,
    /// Hash and payload in full, the publisher's key not being known.
    pub(crate) by_hash: u64,
    /// The payload's own checksums (HTTP carries no chunk header).
    pub(crate) by_payload: u64,
    /// Every byte equal to a chunk that was verified in full.
    pub(crate) by_comparison: u64,
    /// Discarded, but for the header or the packets that say which chunk it is (`--verify`).
    pub(crate) not: u64,
    /// Bytes of chunks that were read, and that the kernel threw away unread.
    pub(crate) bytes_read: u64,
    pub(crate) bytes_discarded: u64,
}

/// Durations that a thread records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Of good viewers, over due chunks: from the publisher's clock, and from the end of the upload.
    pub(crate) lateness: Durations,
    pub(crate) from_upload: Durations,
    /// Of bad viewers, from the publisher's clock.
    pub(crate) bad_lateness: Durations,
}

impl Figures {
    pub(crate) fn new() -> Figures {
        Figures { lateness: Durations::new(), from_upload: Durations::new(), bad_lateness: Durations::new() }
    }

    pub(crate) fn add(&mut self, other: &Figures) {
        self.lateness.add(&other.lateness);
        self.from_upload.add(&other.from_upload);
        self.bad_lateness.add(&other.bad_lateness);
    }
}

impl Checked {
    pub(crate) fn add(&mut self, other: &Checked) {
        self.by_signature += other.by_signature;
        self.by_hash += other.by_hash;
        self.by_payload += other.by_payload;
        self.by_comparison += other.by_comparison;
        self.not += other.not;
        self.bytes_read += other.bytes_read;
        self.bytes_discarded += other.bytes_discarded;
    }
}

/// The measured span, in microseconds of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) start_us: u64,
    pub(crate) end_us: u64,
}

impl Measured {
    pub(crate) fn holds(&self, published_us: u64) -> bool {
        (self.start_us..self.end_us).contains(&published_us)
    }
}

/// The numbers of the chunks that were due: all that were published in the span, seen or not. A number between two that
/// were seen is due; so are those that the stream's even pace puts between the last one seen and the span's end, or
/// between its beginning and the first: a cache that falls silent must not shorten the list of what it owes.
pub(crate) fn due(published: &BTreeMap<u64, u64>, span: Measured) -> std::ops::Range<u64> {
    let mut inside = published.iter().filter(|(_, at)| span.holds(**at)).map(|(seq, at)| (*seq, *at));
    let Some(first) = inside.next() else { return 0..0 };
    let last = inside.next_back().unwrap_or(first);
    let interval = interval(published);
    // Half an interval is left to a publisher's jitter.
    let room = |gap_us: u64| (gap_us + interval / 2).saturating_sub(interval).checked_div(interval).unwrap_or(0);
    let before = published.range(..first.0).next_back().map_or(0, |(seq, _)| first.0 - seq - 1);
    first.0 - before.min(room(first.1 - span.start_us))..last.0 + 1 + room(span.end_us - last.1)
}

/// Time from one chunk to the next, on average, in microseconds; 0 when there are not two.
fn interval(published: &BTreeMap<u64, u64>) -> u64 {
    let (Some((first, from)), Some((last, to))) = (published.first_key_value(), published.last_key_value()) else {
        return 0;
    };
    to.saturating_sub(*from).checked_div(last - first).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_what_was_put_in() {
        let mut set = SeqSet::default();
        assert!(set.insert(1_000) && set.insert(1_070) && !set.insert(1_070));
        assert!(!set.insert(999), "before the first");
        assert!(!set.insert(u64::MAX), "no memory for a number that somebody made up");
        let inside: Vec<u64> = (990..1_200).filter(|seq| set.contains(*seq)).collect();
        assert_eq!(inside, [1_000, 1_070]);
    }

    #[test]
    fn a_number_that_nobody_saw_is_due() {
        let published = BTreeMap::from([(7, 100), (8, 300), (10, 700), (11, 900)]);
        let span = |start_us, end_us| Measured { start_us, end_us };
        assert_eq!(due(&published, span(200, 800)), 8..11);
        assert_eq!(due(&published, span(900, 901)), 11..12);
        assert_eq!(due(&published, span(901, 2_000)), 0..0);
    }

    #[test]
    fn what_a_silent_cache_owes_is_due() {
        let span = Measured { start_us: 990, end_us: 2_000 };
        let all: BTreeMap<u64, u64> = (0..30).map(|seq| (seq, 40 + 100 * seq)).collect();
        let but = |lost: std::ops::Range<u64>| {
            let mut seen = all.clone();
            seen.retain(|seq, _| !lost.contains(seq));
            due(&seen, span)
        };
        assert_eq!(due(&all, span), 10..20);
        assert_eq!(but(15..30), 10..20, "silent from the middle on");
        assert_eq!(but(8..15), 10..20, "silent across the beginning");
        assert_eq!(but(15..25), 10..20, "silent across the end");
    }
}
