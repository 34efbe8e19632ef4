//! The shards as control sees them: a queue and a doorbell each way.
//!
//! Of a chunk hear those shards that have viewers of its stream; what they hear is bounded by what they have told of. A
//! chunk's announcement that finds a queue full is dropped (the next one stands for it too). Answers are kept until
//! there is room: a viewer waits for each.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};

use cache_core::time::{Span, Time};
use cache_core::units::StreamId;

use super::counters::Counters;
use crate::cache::bridge::{ToControl, ToShard};
use crate::cache::data::ShardHandle;

/// Answers kept for one shard while its queue is full (our guess: a shard waits for 256 streams at the most).
const BACKLOG_MAX: usize = 1024;

/// With thousands of chunks in a second, many of them stand for one change of thread (our guess).
const LEAVE_EVERY: Span = Span::from_millis(1);

#[derive(Debug)]
struct Line {
    handle: ShardHandle,
    /// Streams of which the shard has viewers: those it hears of.
    watched: HashSet<StreamId>,
    backlog: VecDeque<ToShard>,
}

/// All shards.
#[derive(Debug)]
pub(super) struct Shards {
    lines: RefCell<Vec<Line>>,
    /// When the processor was last left to the shards.
    left_at: Cell<Time>,
}

impl Shards {
    /// The shards, in the order of their indexes.
    pub(super) fn new(handles: Vec<ShardHandle>) -> Shards {
        let line = |handle| Line { handle, watched: HashSet::new(), backlog: VecDeque::new() };
        Shards { lines: RefCell::new(handles.into_iter().map(line).collect()), left_at: Cell::new(Time::ZERO) }
    }

    /// Tells one shard.
    pub(super) fn tell(&self, shard: usize, message: ToShard, counters: &Counters) {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(shard) else { return };
        line.backlog.push_back(message);
        line.flush();
        if line.backlog.len() > BACKLOG_MAX {
            line.backlog.pop_front();
            counters.shard_answers_lost.one();
        }
    }

    /// Tells every shard.
    pub(super) fn tell_all(&self, message: impl Fn() -> ToShard, counters: &Counters) {
        let count = self.lines.borrow().len();
        for shard in 0..count {
            self.tell(shard, message(), counters);
        }
    }

    /// Tells the shards that have viewers of the stream of a new chunk, and if there is one leaves it the processor, which
    /// it may share: what control has left to do for this chunk (its acknowledgement, a look at the reactor) can wait for
    /// its first viewers.
    pub(super) fn published(&self, now: Time, stream: StreamId, counters: &Counters) {
        let mut told = false;
        for line in self.lines.borrow_mut().iter_mut().filter(|line| line.watched.contains(&stream)) {
            line.published(stream, counters);
            told = true;
        }
        if told && self.left_at.get().after(LEAVE_EVERY) <= now {
            self.left_at.set(now);
            rustix::thread::sched_yield();
        }
    }

    /// A shard has viewers of a stream, or has none any more. One that had none is told of the stream at once: what was
    /// published since it looked, nobody has told it. Whether it is one that had none.
    pub(super) fn watches(&self, shard: usize, stream: StreamId, watches: bool, counters: &Counters) -> bool {
        let mut lines = self.lines.borrow_mut();
        let Some(line) = lines.get_mut(shard) else { return false };
        if !watches {
            line.watched.remove(&stream);
            return false;
        }
        let new = line.watched.insert(stream);
        if new {
            line.published(stream, counters);
        }
        new
    }

    /// Hands over what had to wait.
    pub(super) fn flush(&self) {
        self.lines.borrow_mut().iter_mut().for_each(Line::flush);
    }

    /// The next message from a shard.
    pub(super) fn hear(&self, shard: usize) -> Option<ToControl> {
        self.lines.borrow_mut().get_mut(shard)?.handle.hear()
    }

    /// Gives the handles out, to wait for the threads. Nobody is told anything afterwards.
    pub(super) fn take(&self) -> Vec<ShardHandle> {
        self.lines.take().into_iter().map(|line| line.handle).collect()
    }
}

impl Line {
    fn published(&mut self, stream: StreamId, counters: &Counters) {
        self.flush();
        if !self.backlog.is_empty() || self.handle.tell(ToShard::Published { stream }).is_err() {
            counters.shard_queue_full.one();
        }
    }

    fn flush(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.handle.tell(message) {
                self.backlog.push_front(message);
                break;
            }
        }
    }
}
