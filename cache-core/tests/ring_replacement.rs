//! Who loses when the ring is short: ranks, protection, retention by stream, and segments made clean ahead of need.
//! In the drawings a pair of chunks (two halves) is a segment.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use cache_core::ring::{Lookup, Reader, Recycle, RingError, Writer};
use proptest::prelude::*;
use ring_common::*;

#[test]
fn the_stream_of_the_lowest_rank_loses_though_others_are_older() {
    let (mut writer, ring, reader) = ring(6, |_| ());
    let [a, b] = [1, 2].map(|id| open(&mut writer, id));
    publish_halves(&mut writer, a, 0..6);
    publish_halves(&mut writer, b, 0..6);
    writer.set_rank(a.slot, 7);
    publish_halves(&mut writer, a, 6..8);
    assert_eq!((drawn(&reader, a, 0..9).as_str(), drawn(&reader, b, 0..7).as_str()), ("########>", "..####>"));
    writer.set_rank(b.slot, 8);
    publish_halves(&mut writer, b, 6..8);
    assert_eq!((drawn(&reader, a, 0..9).as_str(), drawn(&reader, b, 0..9).as_str()), ("..######>", "..######>"));
    assert_eq!(ring.stats().evicted, 2);
}

#[test]
fn what_is_protected_stays_and_the_asking_stream_is_refused() {
    let (mut writer, ring, reader) = ring(4, |_| ());
    let [a, b] = [1, 2].map(|id| open(&mut writer, id));
    publish_halves(&mut writer, a, 0..4);
    publish_halves(&mut writer, b, 0..4);
    writer.protect_from(a.slot, Some(seq(1)));
    writer.protect_from(b.slot, Some(seq(3)));
    publish_halves(&mut writer, a, 4..6);
    assert_eq!((drawn(&reader, a, 0..7).as_str(), drawn(&reader, b, 0..5).as_str()), ("######>", "..##>"));
    assert_eq!(publish(&mut writer, b, meta(4, HALF)), Err(RingError::NoSpace));
    assert_eq!((ring.stats().withheld, ring.stats().no_space), (1, 1));
    writer.protect_from(a.slot, Some(seq(2)));
    publish_halves(&mut writer, b, 4..6);
    assert_eq!((drawn(&reader, a, 0..7).as_str(), drawn(&reader, b, 0..7).as_str()), ("..####>", "..####>"));
    writer.protect_from(a.slot, None);
    publish_halves(&mut writer, b, 6..8);
    assert_eq!((drawn(&reader, a, 0..7).as_str(), drawn(&reader, b, 0..9).as_str()), ("....##>", "..######>"));
}

#[test]
fn a_watched_stream_that_needs_all_it_has_takes_the_last_segment_of_an_idle_one() {
    let (mut writer, ring, reader) = ring(3, |_| ());
    let [a, b] = [1, 2].map(|id| open(&mut writer, id));
    publish_halves(&mut writer, b, 0..1);
    publish_halves(&mut writer, a, 0..4);
    writer.set_rank(a.slot, 1);
    writer.protect_from(a.slot, Some(seq(0)));
    publish_halves(&mut writer, a, 4..6);
    assert_eq!((drawn(&reader, a, 0..7).as_str(), drawn(&reader, b, 0..2).as_str()), ("######>", ".>"));
    // It is the idle one that is refused from now on.
    assert_eq!(publish(&mut writer, b, meta(1, 100)), Err(RingError::NoSpace));
    assert_eq!(ring.stats().withheld, 1);
    writer.protect_from(a.slot, Some(seq(2)));
    assert_eq!(publish(&mut writer, b, meta(1, 100)), Ok(true));
}

#[test]
fn without_protection_a_streams_own_last_segment_goes_before_anothers() {
    let (mut writer, _ring, reader) = ring(2, |_| ());
    let [a, b] = [1, 2].map(|id| open(&mut writer, id));
    writer.set_rank(a.slot, 1);
    publish_halves(&mut writer, b, 0..1);
    publish_halves(&mut writer, a, 0..4);
    assert_eq!((drawn(&reader, a, 0..5).as_str(), drawn(&reader, b, 0..2).as_str()), ("..##>", "#>"));
}

#[test]
fn a_stream_keeps_what_it_is_told_to() {
    let (mut writer, ring, reader) = ring(6, |_| ());
    let [a, b] = [1, 2].map(|id| open(&mut writer, id));
    writer.set_retain(a.slot, 3);
    publish_halves(&mut writer, a, 0..6);
    assert_eq!((drawn(&reader, a, 0..7).as_str(), reader.oldest(a.slot)), ("...###>", Some(seq(3))));
    assert_eq!(publish(&mut writer, a, meta(2, 10)), Ok(false), "too old");
    publish_halves(&mut writer, b, 0..8);
    assert_eq!(drawn(&reader, b, 0..9), "########>");
    assert_eq!((ring.stats().evicted, ring.stats().recycled), (0, 1), "what a has no use for is enough");
    writer.set_retain(a.slot, 1_000);
    publish_halves(&mut writer, a, 6..8);
    assert_eq!(drawn(&reader, a, 0..9), ".....###>", "what has expired does not come back");
}

#[test]
fn a_stream_that_is_opened_again_keeps_as_much_as_any() {
    let (mut writer, _ring, reader) = ring(6, |_| ());
    let a = open(&mut writer, 1);
    writer.set_retain(a.slot, 1);
    writer.set_rank(a.slot, 9);
    writer.close_stream(a.slot);
    writer.set_retain(a.slot, 2);
    let a = open(&mut writer, 1);
    publish_halves(&mut writer, a, 0..6);
    assert_eq!(drawn(&reader, a, 0..7), "######>");
}

#[test]
fn tidying_makes_expired_segments_clean_and_takes_no_more_than_one_that_is_needed() {
    let (mut writer, ring, reader) = ring(64, |config| config.retain_chunks = 4);
    let a = open(&mut writer, 1);
    assert!(!writer.tidy(), "all are clean");
    publish_halves(&mut writer, a, 0..126);
    assert_eq!(ring.stats().segments_free, 1);
    let tidied = std::iter::repeat_with(|| writer.tidy()).take_while(|tidied| *tidied).count();
    assert_eq!(tidied, 15, "a quarter is the stock");
    assert_eq!((ring.stats().segments_free, ring.stats().recycled, ring.stats().evicted), (16, 15, 0));
    publish_halves(&mut writer, a, 126..158);
    assert_eq!((ring.stats().segments_free, ring.stats().recycled), (0, 15), "all had been made ready");
    assert_eq!(drawn(&reader, a, 153..159), ".####>");
}

#[test]
fn tidying_gives_up_ahead_of_need_only_what_would_be_next_and_nothing_protected_or_leased() {
    let (mut writer, ring, reader) = ring(4, |_| ());
    let a = open(&mut writer, 1);
    publish_halves(&mut writer, a, 0..8);
    let lease = reader.lease(&ready(&reader, a, 0)).expect("there");
    writer.protect_from(a.slot, Some(seq(2)));
    assert!(!writer.tidy(), "the one is leased, the others are protected");
    reader.release(lease);
    assert!(writer.tidy() && !writer.tidy());
    assert_eq!((drawn(&reader, a, 0..9).as_str(), ring.stats().evicted), ("..######>", 1));
}

/// One step of the model below.
#[derive(Clone, Debug)]
enum Op {
    Publish { at: usize },
    Rank { at: usize, rank: u64 },
    Protect { at: usize, back: Option<u64> },
    Retain { at: usize, chunks: u64 },
    Close { at: usize },
}

const STREAMS: usize = 4;
const SEGMENTS: usize = 8;

fn op() -> impl Strategy<Value = Op> {
    let at = 0..STREAMS;
    prop_oneof![
        16 => at.clone().prop_map(|at| Op::Publish { at }),
        3 => (at.clone(), 0u64..4).prop_map(|(at, rank)| Op::Rank { at, rank }),
        3 => (at.clone(), proptest::option::of(0u64..8)).prop_map(|(at, back)| Op::Protect { at, back }),
        1 => (at.clone(), 1u64..=8).prop_map(|(at, chunks)| Op::Retain { at, chunks }),
        1 => at.prop_map(|at| Op::Close { at }),
    ]
}

/// A segment as the model sees it: whose, and which chunks. No owner: closed, expired.
#[derive(Clone, Debug)]
struct Segment {
    owner: Option<usize>,
    chunks: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    rank: u64,
    protected_from: Option<u64>,
    retain: u64,
    next: u64,
}

const NEW: Rules = Rules { rank: 0, protected_from: None, retain: 8, next: 0 };

/// The naive pool: all segments in the order in which they were begun, walked for each question.
struct Naive {
    segments: Vec<Segment>,
    rules: [Rules; STREAMS],
}

impl Naive {
    fn newest(&self, at: usize) -> Option<usize> {
        self.segments.iter().rposition(|segment| segment.owner == Some(at))
    }

    fn protected(&self, segment: &Segment) -> bool {
        let from = segment.owner.and_then(|owner| self.rules[owner].protected_from);
        from.is_some_and(|from| segment.chunks.iter().any(|n| *n >= from))
    }

    fn expire(&mut self) {
        for index in 0..self.segments.len() {
            let Some(owner) = self.segments[index].owner else { continue };
            let Rules { retain, next, .. } = self.rules[owner];
            let live = self.segments[index].chunks.iter().any(|n| n + retain >= next);
            if !live && self.newest(owner) != Some(index) {
                self.segments[index].owner = None;
            }
        }
    }

    /// Which segment stream `at` gets: `None` refused, `Some(None)` a free one.
    fn victim(&self, at: usize) -> Option<Option<usize>> {
        if self.segments.len() < SEGMENTS {
            return Some(None);
        }
        let all = || self.segments.iter().enumerate();
        if let Some((index, _)) = all().find(|(_, segment)| segment.owner.is_none()) {
            return Some(Some(index));
        }
        let rank = |segment: &Segment| segment.owner.map(|owner| self.rules[owner].rank);
        let is_newest =
            |index: usize, segment: &Segment| self.newest(segment.owner.expect("none is free")) == Some(index);
        let oldest = all().filter(|(index, segment)| !is_newest(*index, segment) && !self.protected(segment));
        if let Some((index, _)) = oldest.min_by_key(|(index, segment)| (rank(segment), *index)) {
            return Some(Some(index));
        }
        let loose = |index: &usize| !self.protected(&self.segments[*index]);
        if let Some(own) = self.newest(at).filter(loose) {
            return Some(Some(own));
        }
        let lesser = all().filter(|(_, segment)| rank(segment) < Some(self.rules[at].rank));
        let least = lesser.filter(|(index, _)| loose(index)).min_by_key(|(_, segment)| rank(segment));
        least.map(|(index, _)| Some(index))
    }

    /// Publishes; whether it could.
    fn publish(&mut self, at: usize) -> bool {
        let n = self.rules[at].next;
        let index = match self.newest(at).filter(|index| self.segments[*index].chunks.len() < 2) {
            Some(index) => index,
            None => {
                let Some(victim) = self.victim(at) else { return false };
                if let Some(victim) = victim {
                    self.segments.remove(victim);
                }
                self.segments.push(Segment { owner: Some(at), chunks: Vec::new() });
                self.segments.len() - 1
            }
        };
        self.segments[index].chunks.push(n);
        self.rules[at].next = n + 1;
        true
    }

    fn drawn(&self, at: usize) -> String {
        let Rules { retain, next, .. } = self.rules[at];
        let there = |n: u64| self.segments.iter().any(|s| s.owner == Some(at) && s.chunks.contains(&n));
        (0..next).map(|n| if n + retain >= next && there(n) { '#' } else { '.' }).collect()
    }
}

fn looks(reader: &Reader, stream: Stream, next: u64) -> String {
    let look = |n| if matches!(reader.lookup(stream.slot, seq(n)), Lookup::Ready(_)) { '#' } else { '.' };
    (0..next).map(look).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The queues and the tournament decide as a walk over all segments does.
    #[test]
    fn who_loses_is_who_a_walk_over_everything_finds(ops in proptest::collection::vec(op(), 1..120)) {
        let (mut writer, _ring, reader) = ring(SEGMENTS as u64, |config| config.recycle = Recycle::InPlace);
        let mut next_id = STREAMS as u64;
        let mut streams: [Stream; STREAMS] = std::array::from_fn(|at| open(&mut writer, at as u64));
        let mut naive = Naive { segments: Vec::new(), rules: [NEW; STREAMS] };
        for op in ops {
            apply(&mut writer, &mut streams, &mut naive, &mut next_id, &op);
            naive.expire();
            for (at, stream) in streams.iter().enumerate() {
                prop_assert_eq!(looks(&reader, *stream, naive.rules[at].next), naive.drawn(at), "stream {}, {:?}", at, op);
            }
        }
    }
}

fn apply(writer: &mut Writer, streams: &mut [Stream; STREAMS], naive: &mut Naive, next_id: &mut u64, op: &Op) {
    match *op {
        Op::Publish { at } => {
            let published = publish(writer, streams[at], meta(naive.rules[at].next, HALF));
            assert_eq!(published.is_ok(), naive.publish(at), "{published:?}");
        }
        Op::Rank { at, rank } => {
            writer.set_rank(streams[at].slot, rank);
            naive.rules[at].rank = rank;
        }
        Op::Protect { at, back } => {
            let from = back.map(|back| naive.rules[at].next.saturating_sub(back));
            writer.protect_from(streams[at].slot, from.map(seq));
            naive.rules[at].protected_from = from;
        }
        Op::Retain { at, chunks } => {
            writer.set_retain(streams[at].slot, chunks);
            naive.rules[at].retain = chunks.min(naive.rules[at].retain);
        }
        Op::Close { at } => {
            writer.close_stream(streams[at].slot);
            streams[at] = open(writer, *next_id);
            *next_id += 1;
            naive.rules[at] = NEW;
            naive.segments.iter_mut().filter(|s| s.owner == Some(at)).for_each(|s| s.owner = None);
        }
    }
}
