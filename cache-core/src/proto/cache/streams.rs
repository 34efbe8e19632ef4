//! What the cache is to each stream, and for how long.
//!
//! ```text
//!   open_publisher --> (no chunk) --first chunk--> Origin --1 s silent, or its link closed--> Stalled
//!   open_pull -------> Fetching ----first chunk--> Relay  --1 s silent----------------------> Stalled
//!   Stalled --chunk--> Origin or Relay        Stalled --forget_after--> Ended
//!   any --end chunk--> Ended --ended_keep--> forgotten: its memory goes back
//!   Relay, Fetching --no viewer for pull_grace--> forgotten
//!   inherit (the process before this one held it) --> Stalled, or Ended
//! ```
//! A stream has one source at a time, named by its [`Tenure`]: who comes later with the same or a newer epoch replaces
//! the one before, whose chunks are refused from then on.

use std::collections::BTreeMap;

use super::config::CacheKnobs;
use super::ingest::{Ingest, Verdict};
use super::replacement::{Audience, Standing};
use crate::outbox::Outbox;
use crate::time::Time;
use crate::units::{ChunkSeq, Epoch, StreamId};
use crate::wire::index::{HeldStream, HoldState};
use crate::wire::{ChunkHeader, RefusalReason, StreamName};

/// One source's turn at one stream; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure(u64);

/// What the driver does about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamOutput {
    /// Its first chunk is there: those who wait can begin.
    Ready(StreamId),
    /// The index should hear of it at once.
    Changed(StreamId),
    /// This source has been replaced, or is wanted no longer: close its link.
    Dismiss {
        /// The stream.
        stream: StreamId,
        /// Whose turn is over.
        tenure: Tenure,
    },
    /// No chunk will follow `last`.
    Ended {
        /// The stream.
        stream: StreamId,
        /// Its last chunk.
        last: ChunkSeq,
    },
    /// Give its memory back.
    Forgotten {
        /// Its name.
        name: StreamName,
        /// The last that the index hears of it.
        held: HeldStream,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    None,
    Publisher(Tenure),
    Pull(Tenure),
}

impl Source {
    const fn tenure(self) -> Option<Tenure> {
        match self {
            Source::None => None,
            Source::Publisher(tenure) | Source::Pull(tenure) => Some(tenure),
        }
    }
}

/// A stream of the table.
#[derive(Clone, Debug)]
pub struct Stream {
    name: StreamName,
    ingest: Ingest,
    source: Source,
    pulled: bool,
    state: HoldState,
    /// Since when it is in `state`.
    since: Time,
    last_chunk: Time,
    missing: u64,
    audience: Audience,
}

impl Stream {
    /// Its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// What the cache is to it.
    pub fn state(&self) -> HoldState {
        self.state
    }

    /// Its numbering.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// Viewers on all shards, and other caches that pull it.
    pub fn viewers(&self) -> u32 {
        self.audience.count()
    }

    /// How it stands when memory is short.
    pub fn standing(&self, now: Time) -> Standing {
        self.audience.standing(now, self.ingest.head())
    }

    /// Chunks that were skipped by its sources.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Whether it is fetched from another cache.
    pub fn is_pulled(&self) -> bool {
        self.pulled
    }

    /// Whether a publisher has it now.
    pub fn has_publisher(&self) -> bool {
        matches!(self.source, Source::Publisher(_))
    }

    fn held(&self, id: StreamId) -> HeldStream {
        HeldStream {
            stream: id,
            state: self.state,
            epoch: self.ingest.epoch(),
            head: self.ingest.head().unwrap_or_default(),
            viewers: self.viewers(),
        }
    }

    fn set_state(&mut self, now: Time, id: StreamId, state: HoldState, out: &mut Outbox<StreamOutput>) {
        if self.state != state {
            self.state = state;
            self.since = now;
            out.push(StreamOutput::Changed(id));
        }
    }
}

/// What is known of a stream that the process before this one held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerStream {
    /// Its name.
    pub name: StreamName,
    /// The newest epoch that was let in.
    pub epoch: Epoch,
    /// The newest chunk that is there.
    pub head: ChunkSeq,
    /// Where numbering goes on; above `head`.
    pub next: ChunkSeq,
    /// The publisher ended the stream with `head`.
    pub end: bool,
    /// It was fetched from another cache.
    pub pulled: bool,
}

/// The table: at most `max` streams.
#[derive(Debug)]
pub struct Streams {
    knobs: CacheKnobs,
    max: usize,
    last_tenure: u64,
    streams: BTreeMap<StreamId, Stream>,
}

impl Streams {
    /// Empty. A stream above `max` is refused as [`RefusalReason::Full`].
    pub fn new(knobs: CacheKnobs, max: usize) -> Streams {
        Streams { knobs, max, last_tenure: 0, streams: BTreeMap::new() }
    }

    /// A stream.
    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// All streams by id.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.streams.iter().map(|(id, stream)| (*id, stream))
    }

    /// Whether the stream has a chunk to serve.
    pub fn is_ready(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|s| s.ingest.head().is_some())
    }

    /// A publisher begins a turn. `next` is where the index thinks that numbering goes on. Answers with the number its
    /// first chunk must have. Refused, and nothing changed: `Fenced` by a newer epoch, `Full`.
    pub fn open_publisher(
        &mut self,
        now: Time,
        id: StreamId,
        name: &StreamName,
        epoch: Epoch,
        next: ChunkSeq,
        out: &mut Outbox<StreamOutput>,
    ) -> Result<(Tenure, ChunkSeq), RefusalReason> {
        if self.streams.get(&id).is_some_and(|s| epoch < s.ingest.epoch()) {
            return Err(RefusalReason::Fenced);
        }
        let tenure = self.open(now, id, name, Source::Publisher, out)?;
        let stream = self.streams.get_mut(&id).ok_or(RefusalReason::Full)?;
        stream.pulled = false;
        stream.ingest.admit(epoch);
        stream.ingest.expect_from(next);
        Ok((tenure, stream.ingest.next()))
    }

    /// A pull begins a turn. `newest` is the newest epoch that the index names: a publisher here of an older one has
    /// been taken over elsewhere, and makes way; so does a silent one of that epoch, which has gone to another cache with
    /// what was granted to it. `Ok(None)`: the stream has a source that stays. Refused: `Full`.
    pub fn open_pull(
        &mut self,
        now: Time,
        id: StreamId,
        name: &StreamName,
        newest: Epoch,
        out: &mut Outbox<StreamOutput>,
    ) -> Result<Option<Tenure>, RefusalReason> {
        let stays = |stream: &Stream| match stream.source {
            Source::None => false,
            Source::Pull(_) => true,
            Source::Publisher(_) if stream.state == HoldState::Stalled => stream.ingest.epoch() > newest,
            Source::Publisher(_) => stream.ingest.epoch() >= newest,
        };
        if self.streams.get(&id).is_some_and(stays) {
            return Ok(None);
        }
        let tenure = self.open(now, id, name, Source::Pull, out)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.pulled = true;
            stream.audience.idle_again(now);
        }
        Ok(Some(tenure))
    }

    fn open(
        &mut self,
        now: Time,
        id: StreamId,
        name: &StreamName,
        source: fn(Tenure) -> Source,
        out: &mut Outbox<StreamOutput>,
    ) -> Result<Tenure, RefusalReason> {
        if !self.streams.contains_key(&id) && self.streams.len() >= self.max {
            return Err(RefusalReason::Full);
        }
        self.last_tenure += 1;
        let tenure = Tenure(self.last_tenure);
        let stream = self.streams.entry(id).or_insert_with(|| Stream {
            name: name.clone(),
            ingest: Ingest::default(),
            source: Source::None,
            pulled: false,
            state: HoldState::Fetching,
            since: now,
            last_chunk: now,
            missing: 0,
            audience: Audience::new(now),
        });
        if let Some(former) = stream.source.tenure() {
            out.push(StreamOutput::Dismiss { stream: id, tenure: former });
        }
        stream.source = source(tenure);
        if stream.state == HoldState::Ended {
            stream.set_state(now, id, HoldState::Stalled, out);
        }
        Ok(tenure)
    }

    /// Enters a stream that the process before this one held: without a source, stalled since `now`, or over. False, and
    /// nothing changed, when it is there already or the table is full.
    pub fn inherit(&mut self, now: Time, id: StreamId, was: FormerStream, out: &mut Outbox<StreamOutput>) -> bool {
        if self.streams.contains_key(&id) || self.streams.len() >= self.max {
            return false;
        }
        let stream = Stream {
            name: was.name,
            ingest: Ingest::inherited(was.epoch, was.head, was.next),
            source: Source::None,
            pulled: was.pulled,
            state: if was.end { HoldState::Ended } else { HoldState::Stalled },
            since: now,
            last_chunk: now,
            missing: 0,
            audience: Audience::new(now),
        };
        self.streams.insert(id, stream);
        if was.end {
            out.push(StreamOutput::Ended { stream: id, last: was.head });
        }
        out.push(StreamOutput::Changed(id));
        true
    }

    /// Judges a chunk of the source whose turn is `tenure`; out of turn it is fenced.
    pub fn judge(&self, id: StreamId, tenure: Tenure, epoch: Epoch, seq: ChunkSeq) -> Verdict {
        match self.streams.get(&id) {
            Some(stream) if stream.source == Source::Publisher(tenure) => stream.ingest.judge_published(epoch, seq),
            Some(stream) if stream.source == Source::Pull(tenure) => stream.ingest.judge(epoch, seq),
            _ => Verdict::Fenced,
        }
    }

    /// Notes that a chunk judged [`Verdict::Append`] was stored.
    pub fn stored(&mut self, now: Time, id: StreamId, header: &ChunkHeader, out: &mut Outbox<StreamOutput>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Verdict::Append { gap } = stream.ingest.judge(header.epoch, header.seq) {
            stream.missing += gap;
        }
        let first = stream.ingest.head().is_none();
        stream.ingest.stored(header);
        stream.last_chunk = now;
        if first {
            out.push(StreamOutput::Ready(id));
        }
        if header.end {
            Self::end(now, id, stream, out);
        } else {
            let state = if stream.pulled { HoldState::Relay } else { HoldState::Origin };
            stream.set_state(now, id, state, out);
        }
    }

    /// The source's link is closed. A stream without a chunk is forgotten.
    pub fn source_gone(&mut self, now: Time, id: StreamId, tenure: Tenure, out: &mut Outbox<StreamOutput>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.source.tenure() != Some(tenure) {
            return;
        }
        stream.source = Source::None;
        if stream.ingest.head().is_none() {
            self.forget(id, out);
        } else if stream.state != HoldState::Ended {
            stream.set_state(now, id, HoldState::Stalled, out);
        }
    }

    /// The source says that the stream is over (a parent's `Ended`).
    pub fn source_ended(&mut self, now: Time, id: StreamId, tenure: Tenure, out: &mut Outbox<StreamOutput>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.source.tenure() != Some(tenure) {
            return;
        }
        if stream.ingest.head().is_none() {
            self.forget(id, out);
        } else {
            Self::end(now, id, stream, out);
        }
    }

    /// A shard's count of viewers of a stream, and the lowest position among them.
    pub fn viewers(&mut self, now: Time, shard: u16, id: StreamId, count: u32, lowest: Option<ChunkSeq>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.audience.tell(now, shard, count, lowest);
        }
    }

    /// What time alone changes.
    pub fn tick(&mut self, now: Time, out: &mut Outbox<StreamOutput>) {
        let knobs = self.knobs;
        let mut forgotten = Vec::new();
        for (id, stream) in &mut self.streams {
            let idle = stream.audience.idle_since().is_some_and(|since| since.after(knobs.pull_grace) <= now);
            match stream.state {
                _ if stream.pulled && idle => forgotten.push(*id),
                HoldState::Origin | HoldState::Relay if stream.last_chunk.after(knobs.stalled_after) <= now => {
                    stream.set_state(now, *id, HoldState::Stalled, out);
                }
                HoldState::Stalled if stream.since.after(knobs.forget_after) <= now => Self::end(now, *id, stream, out),
                HoldState::Ended if stream.since.after(knobs.ended_keep) <= now => forgotten.push(*id),
                _ => {}
            }
        }
        for id in forgotten {
            self.forget(id, out);
        }
    }

    /// When [`Streams::tick`] is due.
    pub fn next_timeout(&self) -> Time {
        let knobs = &self.knobs;
        let due = |stream: &Stream| {
            let by_state = match stream.state {
                HoldState::Origin | HoldState::Relay => stream.last_chunk.after(knobs.stalled_after),
                HoldState::Stalled => stream.since.after(knobs.forget_after),
                HoldState::Ended => stream.since.after(knobs.ended_keep),
                HoldState::Fetching => Time::NEVER,
            };
            let idle_since = stream.audience.idle_since().filter(|_| stream.pulled);
            idle_since.map_or(by_state, |since| by_state.min(since.after(knobs.pull_grace)))
        };
        self.streams.values().map(due).min().unwrap_or(Time::NEVER)
    }

    /// A stream as the index is told of it; `None` before it has anything to tell (a publisher without a chunk).
    pub fn held(&self, id: StreamId) -> Option<HeldStream> {
        let stream = self.streams.get(&id)?;
        (stream.ingest.head().is_some() || stream.pulled).then(|| stream.held(id))
    }

    fn end(now: Time, id: StreamId, stream: &mut Stream, out: &mut Outbox<StreamOutput>) {
        if let Some(tenure) = stream.source.tenure() {
            out.push(StreamOutput::Dismiss { stream: id, tenure });
        }
        stream.source = Source::None;
        if let (Some(last), true) = (stream.ingest.head(), stream.state != HoldState::Ended) {
            out.push(StreamOutput::Ended { stream: id, last });
        }
        stream.set_state(now, id, HoldState::Ended, out);
    }

    fn forget(&mut self, id: StreamId, out: &mut Outbox<StreamOutput>) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if let Some(tenure) = stream.source.tenure() {
            out.push(StreamOutput::Dismiss { stream: id, tenure });
        }
        if let (Some(last), true) = (stream.ingest.head(), stream.state != HoldState::Ended) {
            out.push(StreamOutput::Ended { stream: id, last });
        }
        let held = HeldStream { state: HoldState::Ended, viewers: 0, ..stream.held(id) };
        out.push(StreamOutput::Forgotten { name: stream.name, held });
    }
}

#[cfg(test)]
mod tests;
