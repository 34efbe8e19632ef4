//! A shard's streams: those that one of its viewers has opened, and who they are.
//!
//! A stream is *wanted* (control has been asked for it, its viewers wait) or *live* (it is in the ring). It is
//! forgotten when its last viewer has gone and control has been told so.

use std::collections::HashMap;

use cache_core::ring::StreamSlot;
use cache_core::time::Time;
use cache_core::units::{ChunkSeq, StreamId};
use slab::Slab;

use super::connection::Key;

/// A stream's place in the table.
pub(super) type StreamKey = u32;

/// The golden section of 2^32.
const GOLDEN: u32 = 0x9e37_79b9;

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) state: State,
    /// The connections that have opened it; each knows its place in here.
    pub(super) viewers: Vec<Key>,
    /// Set when the stream has ended: its last chunk.
    pub(super) ended: Option<ChunkSeq>,
    /// Where the next round through its viewers begins, as a fraction of their number.
    round_at: u32,
    /// The lowest position among its viewers, as of the last look.
    lowest: Option<ChunkSeq>,
    /// The number of viewers and the position that control knows.
    told: Option<(u32, Option<ChunkSeq>)>,
    /// Whether it stands in the list of streams whose viewers have changed.
    changed: bool,
}

/// Whether it can be served.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Control was asked for it then.
    Wanted(Time),
    /// It is there.
    Live(StreamSlot),
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_id: HashMap<StreamId, StreamKey>,
    table: Slab<Stream>,
    changed: Vec<StreamKey>,
    wanted: usize,
}

impl Streams {
    /// The place of stream `id`.
    pub(super) fn find(&self, id: StreamId) -> Option<StreamKey> {
        self.by_id.get(&id).copied()
    }

    /// The stream at `key`.
    pub(super) fn get(&self, key: StreamKey) -> &Stream {
        &self.table[key as usize]
    }

    /// The stream at `key`.
    pub(super) fn get_mut(&mut self, key: StreamKey) -> &mut Stream {
        &mut self.table[key as usize]
    }

    /// How many are wanted.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Whether control has been told that it has viewers.
    pub(super) fn is_told(&self, key: StreamKey) -> bool {
        self.get(key).told.is_some_and(|(count, _)| count > 0)
    }

    /// Adds a stream that is not in the table, without viewers.
    pub(super) fn insert(&mut self, id: StreamId, state: State) -> StreamKey {
        let stream = Stream {
            id,
            state,
            viewers: Vec::new(),
            ended: None,
            round_at: 0,
            lowest: None,
            told: None,
            changed: false,
        };
        let key = self.table.insert(stream) as StreamKey;
        self.by_id.insert(id, key);
        self.wanted += usize::from(matches!(state, State::Wanted(_)));
        self.note(key);
        key
    }

    /// A wanted stream is there, or a live one has another place in the ring.
    pub(super) fn now_live(&mut self, key: StreamKey, slot: StreamSlot) {
        let stream = &mut self.table[key as usize];
        self.wanted -= usize::from(matches!(stream.state, State::Wanted(_)));
        stream.state = State::Live(slot);
        self.note(key);
    }

    /// A stream that the ring has forgotten is wanted again.
    pub(super) fn now_wanted(&mut self, key: StreamKey, now: Time) {
        let stream = &mut self.table[key as usize];
        self.wanted += usize::from(matches!(stream.state, State::Live(_)));
        stream.state = State::Wanted(now);
    }

    /// Forgets a stream that has no viewer.
    pub(super) fn remove(&mut self, key: StreamKey) {
        let stream = self.table.remove(key as usize);
        debug_assert!(stream.viewers.is_empty(), "a viewer's stream is not forgotten");
        self.by_id.remove(&stream.id);
        self.wanted -= usize::from(matches!(stream.state, State::Wanted(_)));
        self.changed.retain(|other| *other != key);
    }

    /// Adds a viewer; its place.
    pub(super) fn join(&mut self, key: StreamKey, viewer: Key) -> u32 {
        self.note(key);
        let viewers = &mut self.table[key as usize].viewers;
        viewers.push(viewer);
        viewers.len() as u32 - 1
    }

    /// Removes the viewer at `place`. The viewer that is returned has that place from now on.
    pub(super) fn leave(&mut self, key: StreamKey, place: u32) -> Option<Key> {
        self.note(key);
        let viewers = &mut self.table[key as usize].viewers;
        viewers.swap_remove(place as usize);
        viewers.get(place as usize).copied()
    }

    /// The first stream at `key` or behind it.
    pub(super) fn at_or_after(&self, key: StreamKey) -> Option<StreamKey> {
        (key..self.table.capacity() as StreamKey).find(|key| self.table.contains(*key as usize))
    }

    /// Notes the lowest position of a stream's viewers.
    pub(super) fn set_lowest(&mut self, key: StreamKey, lowest: Option<ChunkSeq>) {
        if self.table[key as usize].lowest != lowest {
            self.table[key as usize].lowest = lowest;
            self.note(key);
        }
    }

    /// The places of a stream's viewers in the order of this round. Each round begins elsewhere, so that nobody is always
    /// last: a golden section further, which spreads any number of rounds evenly over any number of viewers.
    pub(super) fn round(&mut self, key: StreamKey) -> impl Iterator<Item = usize> + use<> {
        let stream = &mut self.table[key as usize];
        stream.round_at = stream.round_at.wrapping_add(GOLDEN);
        let count = stream.viewers.len();
        let first = ((u64::from(stream.round_at) * count as u64) >> 32) as usize;
        (first..count).chain(0..first)
    }

    /// The live streams.
    pub(super) fn live(&self) -> Vec<StreamId> {
        let live = |stream: &&Stream| matches!(stream.state, State::Live(_));
        self.table.iter().map(|(_, stream)| stream).filter(live).map(|stream| stream.id).collect()
    }

    /// Tells `tell` of each stream whose number of viewers, or their lowest position, has changed; forgets those that
    /// have none. What `tell` cannot take (false) is told another time.
    pub(super) fn flush(&mut self, mut tell: impl FnMut(StreamId, u32, Option<ChunkSeq>) -> bool) {
        let mut at = 0;
        while let Some(&key) = self.changed.get(at) {
            let stream = &mut self.table[key as usize];
            let count = stream.viewers.len() as u32;
            let live = matches!(stream.state, State::Live(_));
            let now = Some((count, stream.lowest));
            if live && stream.told != now {
                if !tell(stream.id, count, stream.lowest) {
                    at += 1;
                    continue;
                }
                stream.told = now;
            }
            stream.changed = false;
            self.changed.swap_remove(at);
            if live && count == 0 {
                self.remove(key);
            }
        }
    }

    /// The wanted streams that were asked for before `time`.
    pub(super) fn wanted_before(&self, time: Time) -> Vec<StreamKey> {
        let late = |stream: &Stream| matches!(stream.state, State::Wanted(since) if since < time);
        self.table.iter().filter(|(_, stream)| late(stream)).map(|(key, _)| key as StreamKey).collect()
    }

    fn note(&mut self, key: StreamKey) {
        let stream = &mut self.table[key as usize];
        if !stream.changed {
            stream.changed = true;
            self.changed.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> StreamSlot {
        let config = cache_core::ring::RingConfig::memfd(16 << 20);
        let (mut writer, _ring) = cache_core::ring::Ring::create(&config).expect("16 MiB of memory");
        writer.open_stream(StreamId(1)).expect("the first of 64")
    }

    fn told(streams: &mut Streams) -> Vec<u32> {
        let mut told = Vec::new();
        streams.flush(|_, count, _| {
            told.push(count);
            true
        });
        told
    }

    fn insert(streams: &mut Streams, state: State) -> StreamKey {
        streams.insert(StreamId(7), state)
    }

    #[test]
    fn control_is_told_when_the_number_changes_and_not_otherwise() {
        let mut streams = Streams::default();
        let key = insert(&mut streams, State::Live(slot()));
        for viewer in [10, 11, 12] {
            streams.join(key, viewer);
        }
        assert_eq!(told(&mut streams), [3]);
        assert_eq!(streams.leave(key, 0), Some(12), "the last one takes the free place");
        streams.join(key, 13);
        assert_eq!(told(&mut streams), Vec::<u32>::new());
        for _ in 0..3 {
            streams.leave(key, 0);
        }
        assert_eq!(told(&mut streams), [0]);
        assert_eq!(streams.find(StreamId(7)), None);
    }

    #[test]
    fn nobody_is_always_last() {
        for (viewers, rounds) in [(10, 20), (100, 50), (1_000, 50), (997, 64)] {
            let mut streams = Streams::default();
            let key = insert(&mut streams, State::Live(slot()));
            (0..viewers).for_each(|viewer| {
                streams.join(key, viewer);
            });
            let mut ranks = vec![0u64; viewers as usize];
            for _ in 0..rounds {
                let order: Vec<_> = streams.round(key).collect();
                assert_eq!(order.len(), viewers as usize);
                order.into_iter().enumerate().for_each(|(rank, place)| ranks[place] += rank as u64);
            }
            let middle = f64::from(viewers - 1) / 2.0;
            for (place, sum) in ranks.into_iter().enumerate() {
                let mean = sum as f64 / f64::from(rounds);
                let off = (mean - middle).abs() / f64::from(viewers);
                assert!(off < 0.06, "place {place} of {viewers} has the mean rank {mean} in {rounds} rounds");
            }
        }
    }

    #[test]
    fn what_cannot_be_told_is_told_another_time() {
        let mut streams = Streams::default();
        let key = insert(&mut streams, State::Live(slot()));
        streams.join(key, 1);
        streams.flush(|_, _, _| false);
        assert_eq!(told(&mut streams), [1]);
    }

    #[test]
    fn a_wanted_stream_is_kept_for_its_answer_though_its_viewers_leave() {
        let mut streams = Streams::default();
        let key = insert(&mut streams, State::Wanted(Time::from_millis(5)));
        streams.join(key, 1);
        streams.leave(key, 0);
        assert_eq!((told(&mut streams), streams.wanted()), (vec![], 1));
        assert_eq!(streams.wanted_before(Time::from_millis(6)), [key]);
        streams.now_live(key, slot());
        assert_eq!((told(&mut streams), streams.wanted()), (vec![0], 0), "control must not pull it for nobody");
    }
}
