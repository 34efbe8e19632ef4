//! The shards as control sees them: a queue and a doorbell each way.
//!
//! A chunk's announcement that finds a queue full is dropped (the next one stands for it too). Answers are kept until
//! there is room: a viewer waits for each.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use rtrb::Producer;

use super::counters::Counters;
use crate::cache::bridge::ToShard;
use crate::uring::Doorbell;

/// Answers kept for one shard while its queue is full (our guess: a shard waits for 256 streams at the most).
const BACKLOG_MAX: usize = 1024;

#[derive(Debug)]
struct Line {
    queue: Producer<ToShard>,
    doorbell: Arc<Doorbell>,
    backlog: VecDeque<ToShard>,
}

/// All shards.
#[derive(Debug)]
pub(super) struct Shards {
    lines: Vec<RefCell<Line>>,
}

impl Shards {
    /// The shards, in the order of their indexes.
    pub(super) fn new(lines: impl IntoIterator<Item = (Producer<ToShard>, Arc<Doorbell>)>) -> Shards {
        let line = |(queue, doorbell)| RefCell::new(Line { queue, doorbell, backlog: VecDeque::new() });
        Shards { lines: lines.into_iter().map(line).collect() }
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Tells one shard.
    pub(super) fn tell(&self, shard: usize, message: ToShard, counters: &Counters) {
        let Some(line) = self.lines.get(shard) else { return };
        let line = &mut *line.borrow_mut();
        line.backlog.push_back(message);
        line.flush();
        if line.backlog.len() > BACKLOG_MAX {
            line.backlog.pop_front();
            counters.shard_answers_lost.one();
        }
    }

    /// Tells every shard.
    pub(super) fn tell_all(&self, message: impl Fn() -> ToShard, counters: &Counters) {
        for shard in 0..self.lines.len() {
            self.tell(shard, message(), counters);
        }
    }

    /// Tells every shard of a new chunk.
    pub(super) fn published(&self, stream: cache_core::units::StreamId, counters: &Counters) {
        for line in &self.lines {
            let line = &mut *line.borrow_mut();
            line.flush();
            if !line.backlog.is_empty() || line.queue.push(ToShard::Published { stream }).is_err() {
                counters.shard_queue_full.one();
            }
            line.doorbell.ring();
        }
    }

    /// Hands over what had to wait.
    pub(super) fn flush(&self) {
        for line in &self.lines {
            line.borrow_mut().flush();
        }
    }
}

impl Line {
    fn flush(&mut self) {
        let before = self.backlog.len();
        while let Some(message) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.queue.push(message) {
                self.backlog.push_front(message);
                break;
            }
        }
        if self.backlog.len() < before {
            self.doorbell.ring();
        }
    }
}
