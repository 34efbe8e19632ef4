//! Streams come, grow and end: what control says, and what viewers ask of it.

use cache_core::proto::cache::viewer::Playout;
use cache_core::ring::{Lookup, StreamSlot};
use cache_core::sign::stream_id;
use cache_core::units::{ChunkSeq, StreamId};
use cache_core::wire::{RefusalReason, StreamName};

use super::config::STREAMS_WANTED_MAX;
use super::connection::{Http, Key, Phase};
use super::http::{HttpError, PLAYOUT_HEAD};
use super::shard::Shard;
use super::streams::{State, StreamKey};
use crate::cache::bridge::{ToControl, ToShard};

impl Shard {
    pub(super) fn on_messages(&mut self) {
        while let Ok(message) = self.links.from_control.pop() {
            match message {
                ToShard::Published { stream } => self.on_published(stream),
                ToShard::StreamReady { stream, .. } => self.on_ready(stream),
                ToShard::StreamRefused { name, reason } => {
                    if let Some(key) = self.streams.find(stream_id(&name)) {
                        self.on_refused(key, reason);
                    }
                }
                ToShard::Ended { stream, last } => {
                    if let Some(key) = self.streams.find(stream) {
                        self.on_ended(key, last);
                    }
                }
                ToShard::Room(room) => self.admission.room(room),
                ToShard::Elsewhere { caches } => self.elsewhere.set(caches),
                ToShard::Drain => self.drain(),
                ToShard::Stop => self.stop(),
            }
        }
        if self.links.from_control.is_abandoned() {
            self.stop();
        }
    }

    /// The stream `id`, wanted from control if it is not in the ring.
    pub(super) fn find_or_want(&mut self, id: StreamId, name: StreamName) -> Result<StreamKey, RefusalReason> {
        let known = self.streams.find(id);
        if let Some(key) = known {
            match self.streams.get(key).state {
                State::Wanted(_) => return Ok(key),
                State::Live(slot) if self.sender.reader().head(slot).is_some() => return Ok(key),
                State::Live(_) => {}
            }
        }
        if let Some(slot) = self.in_ring(id) {
            return Ok(match known {
                Some(key) => {
                    self.streams.now_live(key, slot);
                    key
                }
                None => self.streams.insert(id, State::Live(slot)),
            });
        }
        let room = self.streams.wanted() < STREAMS_WANTED_MAX;
        if !room || !self.say(ToControl::Want { stream: name }) {
            self.links.counters.wants_refused.one();
            return Err(RefusalReason::Busy);
        }
        self.links.counters.wants.one();
        Ok(match known {
            // Its viewers have seen it end; the ring has forgotten it.
            Some(key) => {
                self.streams.now_wanted(key, self.now);
                key
            }
            None => self.streams.insert(id, State::Wanted(self.now)),
        })
    }

    /// Begins a viewer over HTTP, `back` chunks behind the newest if it has said so.
    pub(super) fn play(&mut self, key: Key, name: StreamName, head_only: bool, back: Option<u64>) {
        let Ok(stream) = self.find_or_want(stream_id(&name), name) else {
            return self.refuse_http(key, HttpError::Unavailable, head_only);
        };
        let mut playout = back.map_or(Playout::new(self.config.http_back_chunks), Playout::shifted);
        if let Some(last) = self.streams.get(stream).ended {
            playout.ended(last);
        }
        let place = self.streams.join(stream, key);
        let waiting = matches!(self.streams.get(stream).state, State::Wanted(_));
        self.connections[key as usize].phase =
            Phase::Http(Http { stream, place, waiting, head_only, begun: false, playout });
        self.viewers.http += 1;
        if !waiting {
            self.begin_playout(key, head_only);
        }
    }

    fn begin_playout(&mut self, key: Key, head_only: bool) {
        self.answer_bytes(key, PLAYOUT_HEAD);
        match head_only {
            true => self.finish(key),
            false => self.schedule(key),
        }
    }

    /// The place in the ring of a stream that has a chunk.
    fn in_ring(&self, id: StreamId) -> Option<StreamSlot> {
        let reader = self.sender.reader();
        reader.stream(id).filter(|slot| reader.head(*slot).is_some())
    }

    fn on_ready(&mut self, id: StreamId) {
        match (self.streams.find(id), self.in_ring(id)) {
            (Some(key), Some(slot)) => self.now_live(key, slot),
            (Some(key), None) => self.on_refused(key, RefusalReason::UnknownStream),
            // Whoever wanted it was refused meanwhile: control must not fetch it for nobody.
            (None, _) => {
                self.say(ToControl::Viewers { stream: id, count: 0, lowest: None });
            }
        }
    }

    /// A stream is in the ring: those who have waited for it are answered.
    fn now_live(&mut self, stream: StreamKey, slot: StreamSlot) {
        self.streams.now_live(stream, slot);
        let id = self.streams.get(stream).id;
        for key in self.streams.get(stream).viewers.clone() {
            match &mut self.connections[key as usize].phase {
                Phase::Native(native) => {
                    let joined = native.joined.iter_mut().find(|joined| joined.stream == stream);
                    if let Some(back) = joined.and_then(|joined| joined.waiting.take()) {
                        self.tell_info(key, id, back);
                        self.flush(key);
                    }
                }
                Phase::Http(http) if http.waiting => {
                    http.waiting = false;
                    let head_only = http.head_only;
                    self.begin_playout(key, head_only);
                }
                Phase::Asker(_) => self.schedule(key),
                _ => {}
            }
        }
    }

    /// A wanted stream cannot be had: whoever waits for it is told, and it is forgotten.
    pub(super) fn on_refused(&mut self, stream: StreamKey, reason: RefusalReason) {
        if !matches!(self.streams.get(stream).state, State::Wanted(_)) {
            return;
        }
        let id = self.streams.get(stream).id;
        for key in self.streams.get(stream).viewers.clone() {
            match &mut self.connections[key as usize].phase {
                Phase::Native(native) => {
                    let at = native.joined.iter().position(|joined| joined.stream == stream);
                    let Some(joined) = at.map(|at| native.joined.swap_remove(at)) else { continue };
                    self.leave(joined.stream, joined.place);
                    self.unavailable(key, id, reason, ChunkSeq::FIRST, 0);
                    self.flush(key);
                }
                Phase::Http(http) => {
                    let head_only = http.head_only;
                    let error = match reason {
                        RefusalReason::UnknownStream => HttpError::NoSuchStream,
                        _ => HttpError::Unavailable,
                    };
                    self.refuse_http(key, error, head_only);
                }
                Phase::Asker(_) => self.refuse_asker(key, reason),
                _ => {}
            }
        }
        if self.streams.is_told(stream) {
            // Control must not go on to announce it here.
            self.say(ToControl::Viewers { stream: id, count: 0, lowest: None });
        }
        self.streams.remove(stream);
    }

    pub(super) fn on_published(&mut self, id: StreamId) {
        let Some(stream) = self.streams.find(id) else { return };
        if self.lateness.is_settling() {
            return;
        }
        let slot = match self.streams.get(stream).state {
            State::Live(slot) if self.sender.reader().head(slot).is_some() => slot,
            // Wanted and there before control said so, or closed and opened again.
            _ => match self.in_ring(id) {
                Some(slot) => {
                    self.now_live(stream, slot);
                    slot
                }
                None => return,
            },
        };
        let reader = self.sender.reader();
        let Some(head) = reader.head(slot) else { return };
        if self.streams.get(stream).ended.is_some_and(|last| head > last) {
            self.streams.get_mut(stream).ended = None;
            self.each_viewer(stream, |phase| match phase {
                Phase::Native(native) => native.tracks_of(stream).for_each(|track| track.resumed()),
                Phase::Http(http) => http.playout.resumed(),
                _ => {}
            });
        }
        if matches!(self.sender.reader().lookup(slot, head), Lookup::Ready(chunk) if chunk.meta.end) {
            return self.on_ended(stream, head);
        }
        self.each_viewer(stream, |_| ());
        self.meter.published(self.now);
    }

    fn on_ended(&mut self, stream: StreamKey, last: ChunkSeq) {
        self.streams.get_mut(stream).ended = Some(last);
        self.each_viewer(stream, |phase| match phase {
            Phase::Native(native) => native.tracks_of(stream).for_each(|track| track.ended(last)),
            Phase::Http(http) => http.playout.ended(last),
            _ => {}
        });
    }

    /// Changes every viewer of a stream and puts it into the run queue.
    fn each_viewer(&mut self, stream: StreamKey, mut change: impl FnMut(&mut Phase)) {
        for at in self.streams.round(stream) {
            let key = self.streams.get(stream).viewers[at];
            let phase = &mut self.connections[key as usize].phase;
            change(phase);
            // Most of those who ask chunk by chunk wait for nothing.
            if !matches!(phase, Phase::Asker(asker) if !asker.waits()) {
                self.schedule(key);
            }
        }
    }
}
