//! Frames of viewers over Weircast's protocol.

use cache_core::proto::cache::viewer::{Answer, Holdings, OUTSTANDING_CHUNKS_MAX, Track, begin};
use cache_core::ring::StreamSlot;
use cache_core::sign::stream_id;
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::exchange::{Ended, Open, Request, Run, Skipped, StreamInfo, Subscribe, Unavailable};
use cache_core::wire::{Frame, RefusalReason};

use super::config::{ANSWER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use super::connection::{Joined, Key, Native, Phase};
use super::shard::Shard;
use super::shelf::Shelf;
use super::streams::State;

/// Most chunks of one run: a window.
const RUN_CHUNKS: std::ops::RangeInclusive<u16> = 1..=256;

impl Shard {
    pub(super) fn on_frame(&mut self, key: Key, frame: Frame) {
        match frame {
            Frame::Open(open) => self.on_open(key, open),
            Frame::Request(request) => self.on_request(key, request),
            Frame::Subscribe(subscribe) => self.on_subscribe(key, &subscribe),
            Frame::Unsubscribe(unsubscribe) => {
                if let Some(joined) = self.joined(key, unsubscribe.stream) {
                    joined.track.unsubscribe();
                }
            }
            Frame::Leave(_) => self.close(key),
            // A peer speaks to its cache as it does to its partners; these prove that it lives.
            Frame::Gossip(_) | Frame::Have(_) | Frame::PartnersQuery(_) | Frame::Partners(_) => {}
            _ => self.bad_frame(key),
        }
    }

    fn on_open(&mut self, key: Key, Open { stream: name, back }: Open) {
        let id = stream_id(&name);
        if let Some(joined) = self.joined(key, id) {
            match joined.waiting {
                Some(_) => joined.waiting = Some(back),
                None => self.tell_info(key, id, back),
            }
            return;
        }
        let native = self.native(key);
        if native.is_none_or(|native| native.joined.len() >= STREAMS_PER_CONNECTION_MAX) {
            return self.unavailable(key, id, RefusalReason::Busy, ChunkSeq::FIRST, 0);
        }
        if !self.admits_another(key) {
            return self.unavailable(key, id, RefusalReason::Full, ChunkSeq::FIRST, 0);
        }
        let stream = match self.find_or_want(id, name) {
            Ok(stream) => stream,
            Err(reason) => return self.unavailable(key, id, reason, ChunkSeq::FIRST, 0),
        };
        let waiting = matches!(self.streams.get(stream).state, State::Wanted(_)).then_some(back);
        let mut track = Track::new();
        if let Some(last) = self.streams.get(stream).ended {
            track.ended(last);
        }
        let place = self.streams.join(stream, key);
        if let Some(native) = self.native(key) {
            native.joined.push(Joined { stream, id, place, waiting, track });
        }
        if waiting.is_none() {
            self.tell_info(key, id, back);
        }
    }

    fn on_request(&mut self, key: Key, Request { stream: id, runs, .. }: Request) {
        if runs.iter().any(|run| !RUN_CHUNKS.contains(&run.count)) {
            return self.bad_frame(key);
        }
        for Run { first, count } in runs.into_vec() {
            self.links.counters.chunks_requested.add(u64::from(count));
            let Some(slot) = self.live(key, id) else {
                self.unavailable(key, id, RefusalReason::UnknownStream, first, count);
                continue;
            };
            let Shard { connections, sender, links, .. } = self;
            let connection = &mut connections[key as usize];
            connection.about_to_append(self.now);
            let Phase::Native(native) = &mut connection.phase else { return };
            let outstanding: u32 = native.joined.iter().map(|joined| joined.track.outstanding()).sum();
            let room = OUTSTANDING_CHUNKS_MAX.saturating_sub(outstanding);
            let Some(joined) = native.joined.iter_mut().find(|joined| joined.id == id) else { return };
            let out = connection.answers.append();
            joined.track.request(first, count, room, &Shelf::new(sender.reader(), slot), |answer| {
                if let Answer::Unavailable { count, .. } = answer {
                    links.counters.chunks_unavailable.add(u64::from(count));
                }
                frame_of(id, answer).encode(out);
            });
        }
    }

    fn on_subscribe(&mut self, key: Key, subscribe: &Subscribe) {
        let id = subscribe.stream;
        let Some(slot) = self.live(key, id) else {
            return self.unavailable(key, id, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0);
        };
        let Shard { connections, sender, .. } = self;
        if let Phase::Native(native) = &mut connections[key as usize].phase
            && let Some(joined) = native.joined.iter_mut().find(|joined| joined.id == id)
        {
            joined.track.subscribe(subscribe.from, &Shelf::new(sender.reader(), slot));
        }
    }

    /// Answers an `Open` of a live stream.
    pub(super) fn tell_info(&mut self, key: Key, id: StreamId, back: u16) {
        let info = self.live(key, id).and_then(|slot| self.info(id, slot, back));
        match info {
            Some(info) => self.answer(key, Frame::from(info)),
            // Closed in the ring a moment ago.
            None => self.unavailable(key, id, RefusalReason::UnknownStream, ChunkSeq::FIRST, 0),
        }
    }

    fn info(&self, id: StreamId, slot: StreamSlot, back: u16) -> Option<StreamInfo> {
        let shelf = Shelf::new(self.sender.reader(), slot);
        let head = shelf.head()?;
        let newest = shelf.chunk(head)?;
        Some(StreamInfo {
            stream: id,
            epoch: newest.meta.epoch,
            oldest: shelf.oldest().unwrap_or(head),
            head,
            head_published: newest.meta.published,
            begin: begin(&shelf, u64::from(back))?,
            spare_permille: self.admission.spare_permille(),
        })
    }

    /// The place in the ring of a live stream that the viewer has opened.
    fn live(&mut self, key: Key, id: StreamId) -> Option<StreamSlot> {
        let stream = self.joined(key, id)?.stream;
        match self.streams.get(stream).state {
            State::Live(slot) => Some(slot),
            State::Wanted(_) => None,
        }
    }

    /// What the viewer has of stream `id`, if it has opened it.
    fn joined(&mut self, key: Key, id: StreamId) -> Option<&mut Joined> {
        self.native(key)?.joined.iter_mut().find(|joined| joined.id == id)
    }

    fn native(&mut self, key: Key) -> Option<&mut Native> {
        match &mut self.connections.get_mut(key as usize)?.phase {
            Phase::Native(native) => Some(native),
            _ => None,
        }
    }

    /// Says that chunks, or with `count` 0 the stream, will not come.
    pub(super) fn unavailable(&mut self, key: Key, id: StreamId, reason: RefusalReason, first: ChunkSeq, count: u16) {
        self.links.counters.chunks_unavailable.add(u64::from(count));
        self.answer(key, Frame::from(Unavailable { stream: id, reason, first, count }));
    }

    /// Appends a message to what the connection is sent; it goes out with the next flush.
    pub(super) fn answer(&mut self, key: Key, frame: Frame) {
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(key as usize) {
            connection.about_to_append(now);
            frame.encode(connection.answers.append());
        }
    }

    /// Sends what there is to send, or cuts the connection off when it does not read its answers.
    pub(super) fn flush(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        if connection.answers.rest().len() > ANSWER_BYTES_MAX {
            self.links.counters.cut_unread_answers.one();
            return self.cut(key);
        }
        self.schedule(key);
    }
}

/// A machine's message as a frame.
pub(super) fn frame_of(stream: StreamId, answer: Answer) -> Frame {
    match answer {
        Answer::Unavailable { reason, first, count } => Unavailable { stream, reason, first, count }.into(),
        Answer::Skipped(next) => Skipped { stream, next }.into(),
        Answer::Ended(last) => Ended { stream, last }.into(),
    }
}
