//! The ring against a naive model: any sequence of operations, every byte looked at.
//!
//! The model knows which chunks were accepted and holds leases and old names for as long as it likes. It does not
//! predict evictions: a retained chunk may be missing only when the ring says that it evicted one.
#![cfg(all(feature = "shm", not(loom)))]

mod ring_common;

use std::collections::BTreeMap;

use cache_core::ring::Writer;
use cache_core::ring::{
    ChunkMeta, ChunkRef, Lease, Lookup, PREFIX_BYTES, Reader, Recycle, Reservation, Ring, RingError,
};
use proptest::prelude::*;
use ring_common::*;

const SEGMENTS: u64 = 6;
const RETAIN: u64 = 8;
const STREAMS: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Opens a stream in place `at` of the model, if there is none.
    Open {
        at: usize,
    },
    Close {
        at: usize,
    },
    /// Publishes a chunk `skip` after the next one.
    Publish {
        at: usize,
        skip: u64,
        len: usize,
        join: bool,
    },
    /// Publishes a chunk `back` before the newest.
    PublishLate {
        at: usize,
        back: u64,
    },
    /// Reserves now and publishes at a later `Publish` of the stream, or never.
    Hold {
        at: usize,
        len: usize,
    },
    DropHeld {
        at: usize,
    },
    /// Looks a chunk `back` before the newest up and keeps its name, and perhaps leases it with one of two readers.
    Look {
        at: usize,
        back: u64,
        lease: Option<usize>,
    },
    /// Leases a name kept from before.
    LeaseOld {
        which: usize,
        reader: usize,
    },
    Release {
        which: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..STREAMS;
    let len = prop_oneof![3 => 300_000usize..=1 << 20, 1 => 0usize..2_000];
    prop_oneof![
        2 => at.clone().prop_map(|at| Op::Open { at }),
        1 => at.clone().prop_map(|at| Op::Close { at }),
        12 => (at.clone(), prop_oneof![6 => Just(0u64), 1 => 0u64..12], len.clone(), any::<bool>())
            .prop_map(|(at, skip, len, join)| Op::Publish { at, skip, len, join }),
        2 => (at.clone(), 0u64..12).prop_map(|(at, back)| Op::PublishLate { at, back }),
        1 => (at.clone(), len).prop_map(|(at, len)| Op::Hold { at, len }),
        1 => at.clone().prop_map(|at| Op::DropHeld { at }),
        6 => (at, 0u64..12, proptest::option::of(0usize..2)).prop_map(|(at, back, lease)| Op::Look { at, back, lease }),
        2 => (any::<usize>(), 0usize..2).prop_map(|(which, reader)| Op::LeaseOld { which, reader }),
        4 => any::<usize>().prop_map(|which| Op::Release { which }),
    ]
}

struct Model {
    writer: Writer,
    ring: Ring,
    readers: [Reader; 2],
    streams: [Option<Live>; STREAMS],
    next_id: u64,
    names: Vec<(Stream, ChunkRef)>,
    leases: Vec<(usize, Lease, Stream, ChunkRef)>,
}

struct Live {
    stream: Stream,
    accepted: BTreeMap<u64, ChunkMeta>,
    held: Option<Reservation>,
}

impl Live {
    fn head(&self) -> Option<u64> {
        self.accepted.last_key_value().map(|(n, _)| *n)
    }

    fn window(&self) -> impl Iterator<Item = (&u64, &ChunkMeta)> {
        let start = self.head().map_or(0, |head| (head + 1).saturating_sub(RETAIN));
        self.accepted.range(start..)
    }
}

impl Model {
    fn new(recycle: Recycle) -> Model {
        let (writer, ring, first) =
            ring(SEGMENTS, |config| (config.readers_max, config.retain_chunks, config.recycle) = (2, RETAIN, recycle));
        let second = ring.reader(1).expect("the second");
        let streams = std::array::from_fn(|_| None);
        Model { writer, ring, readers: [first, second], streams, next_id: 1, names: Vec::new(), leases: Vec::new() }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Open { at } => {
                if self.streams[at].is_none() {
                    let stream = open(&mut self.writer, self.next_id);
                    self.next_id += 1;
                    self.streams[at] = Some(Live { stream, accepted: BTreeMap::new(), held: None });
                }
            }
            Op::Close { at } => {
                if let Some(live) = self.streams[at].take() {
                    self.writer.close_stream(live.stream.slot);
                    // What was held over the end is refused.
                    if let Some(mut held) = live.held {
                        let len = self.writer.bytes_mut(&mut held).len();
                        assert!(!self.writer.publish(held, meta(1 << 50, len - PREFIX_BYTES)));
                    }
                }
            }
            Op::Publish { at, skip, len, join } => {
                let Some(live) = &self.streams[at] else { return };
                let n = live.head().map_or(40, |head| head + 1) + skip;
                self.publish(at, if join { join_meta(n, len.max(376)) } else { meta(n, len) });
            }
            Op::PublishLate { at, back } => {
                let Some(Live { stream, accepted, .. }) = &self.streams[at] else { return };
                let Some(head) = self.streams[at].as_ref().and_then(Live::head) else { return };
                let n = head - back;
                let there = matches!(self.readers[0].lookup(stream.slot, seq(n)), Lookup::Ready(_));
                assert!(!there || accepted.contains_key(&n));
                let published = self.publish(at, meta(n, 1_000));
                assert!(published.is_none_or(|accepted| accepted == (!there && back < RETAIN)), "chunk {n}");
            }
            Op::Hold { at, len } => {
                let Some(live) = &mut self.streams[at] else { return };
                match self.writer.reserve(live.stream.slot, PREFIX_BYTES + len) {
                    Ok(r) => assert!(live.held.replace(r).is_none(), "one at a time"),
                    Err(RingError::Reserved) => assert!(live.held.is_some()),
                    Err(e) => assert_eq!(e, RingError::NoSpace),
                }
            }
            Op::DropHeld { at } => {
                if let Some(live) = &mut self.streams[at] {
                    live.held = None;
                }
            }
            Op::Look { at, back, lease } => {
                let Some(live) = &self.streams[at] else { return };
                let n = live.head().unwrap_or(40).saturating_sub(back);
                if let Lookup::Ready(chunk) = self.readers[0].lookup(live.stream.slot, seq(n)) {
                    assert_eq!(chunk.meta, live.accepted[&n]);
                    self.names.push((live.stream, chunk));
                    if let Some(reader) = lease {
                        let got = self.readers[reader].lease(&chunk).expect("it was ready and nothing came between");
                        self.leases.push((reader, got, live.stream, chunk));
                    }
                }
            }
            Op::LeaseOld { which, reader } => {
                if let Some((stream, chunk)) = pick(&self.names, which) {
                    let lease = self.readers[reader].lease(&chunk);
                    assert_eq!(lease.is_some(), self.readers[reader].valid(&chunk));
                    self.leases.extend(lease.map(|lease| (reader, lease, stream, chunk)));
                }
            }
            Op::Release { which } => {
                if !self.leases.is_empty() {
                    let (reader, lease, ..) = self.leases.swap_remove(which % self.leases.len());
                    self.readers[reader].release(lease);
                }
            }
        }
    }

    /// Publishes what was held, with `meta`'s number, or else `meta`; whether it was accepted, `None` for want of room.
    fn publish(&mut self, at: usize, meta: ChunkMeta) -> Option<bool> {
        let live = self.streams[at].as_mut().expect("the caller has looked");
        let held = live
            .held
            .take()
            .map_or_else(|| self.writer.reserve(live.stream.slot, PREFIX_BYTES + meta.payload_len as usize), Ok);
        let mut r = match held {
            Ok(r) => r,
            Err(e) => {
                assert_eq!(e, RingError::NoSpace);
                return None;
            }
        };
        let bytes = self.writer.bytes_mut(&mut r);
        bytes.fill(fill_of(live.stream.id, meta.seq.get()));
        let meta = ChunkMeta { payload_len: (bytes.len() - PREFIX_BYTES) as u32, ..meta };
        let accepted = self.writer.publish(r, meta);
        if accepted {
            live.accepted.insert(meta.seq.get(), meta);
        }
        Some(accepted)
    }

    fn check(&self) {
        let stats = self.ring.stats();
        let segments =
            stats.segments_free + stats.segments_in_use + stats.segments_quarantined + stats.segments_retired;
        assert_eq!((segments, stats.segments_retired), (SEGMENTS, 0));
        for (reader, lease, stream, chunk) in &self.leases {
            assert_fill(self.readers[*reader].bytes(lease), stream.id, chunk);
        }
        for live in self.streams.iter().flatten() {
            self.check_stream(live, stats.evicted > 0);
        }
    }

    fn check_stream(&self, live: &Live, some_evicted: bool) {
        let (reader, slot) = (&self.readers[1], live.stream.slot);
        assert_eq!(reader.stream(live.stream.id), Some(slot));
        assert_eq!(reader.head(slot).map(|head| head.get()), live.head());
        let head = live.head().unwrap_or(0);
        let mut there = Vec::new();
        for n in head.saturating_sub(2 * RETAIN)..head + 2 {
            match reader.lookup(slot, seq(n)) {
                Lookup::NotYet => assert!(live.head().is_none_or(|head| n > head)),
                Lookup::Gone => {
                    let retained = live.window().any(|(retained, _)| *retained == n);
                    assert!(n <= head && (!retained || some_evicted), "chunk {n} is missing");
                }
                Lookup::Ready(chunk) => {
                    assert!(head - n < RETAIN);
                    assert_eq!(chunk.meta, live.accepted[&n]);
                    assert_whole(reader, live.stream, &chunk);
                    there.push(chunk.meta);
                }
            }
        }
        self.check_joins(live, head, &there);
    }

    /// The answers about oldest and join points, from the list of what is there.
    fn check_joins(&self, live: &Live, head: u64, there: &[ChunkMeta]) {
        let (reader, slot) = (&self.readers[1], live.stream.slot);
        assert_eq!(reader.oldest(slot), there.first().map(|meta| meta.seq));
        let joins: Vec<u64> = there.iter().filter(|meta| meta.is_join_point()).map(|meta| meta.seq.get()).collect();
        for back in 0..RETAIN + 2 {
            let wanted = head.saturating_sub(back);
            let below = joins.iter().rev().find(|n| **n <= wanted);
            let expected = below.or_else(|| joins.iter().find(|n| **n > wanted));
            assert_eq!(reader.join_point(slot, back).map(|seq| seq.get()), expected.copied(), "{back} back");
            let next = joins.iter().find(|n| **n >= wanted);
            assert_eq!(reader.next_join_point(slot, seq(wanted)).map(|seq| seq.get()), next.copied());
        }
    }
}

fn pick<T: Copy>(items: &[T], which: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[which % items.len()])
}

fn run(recycle: Recycle, ops: Vec<Op>) {
    let mut model = Model::new(recycle);
    for op in ops {
        model.apply(op);
        model.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_ring_in_place_does_what_the_model_says(ops in proptest::collection::vec(op(), 1..80)) {
        run(Recycle::InPlace, ops);
    }

    #[test]
    fn the_ring_with_fresh_pages_does_what_the_model_says(ops in proptest::collection::vec(op(), 1..80)) {
        run(Recycle::Punch, ops);
    }
}
