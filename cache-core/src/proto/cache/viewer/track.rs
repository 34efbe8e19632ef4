//! One stream of a connection over Weircast's protocol: what was asked for, and the push.

use smallvec::SmallVec;

use super::{AHEAD_CHUNKS_MAX, Held, Holdings, Patience, committed, first_ready};
use crate::units::ChunkSeq;
use crate::wire::RefusalReason;

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This chunk's frame, which was in the ring a moment ago. When it no longer is, say so by [`Track::lost`].
    Chunk(ChunkSeq),
    /// This message.
    Say(Answer),
    /// Nothing until the stream grows or the viewer asks for more.
    Idle,
}

/// A message instead of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `Unavailable`: `count` chunks from `first` on will not come.
    Unavailable {
        /// Why.
        reason: RefusalReason,
        /// The first.
        first: ChunkSeq,
        /// How many.
        count: u16,
    },
    /// `Skipped`: the push goes on there.
    Skipped(ChunkSeq),
    /// `Ended`: that was the last chunk.
    Ended(ChunkSeq),
}

/// Chunks asked for and not answered: `count` from `first` on.
#[derive(Clone, Copy, Debug)]
struct Asked {
    first: ChunkSeq,
    count: u16,
}

/// Every chunk from `next` on, in order.
#[derive(Clone, Copy, Debug)]
struct Push {
    next: ChunkSeq,
    /// How far behind the head it may fall: where it began, and the cache's patience on top. A viewer that asked to
    /// begin far back is not punished for it.
    behind_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Live,
    /// The stream has ended; the viewer has not been told.
    Untold(ChunkSeq),
    Told(ChunkSeq),
}

/// One stream of one connection.
#[derive(Clone, Debug)]
pub struct Track {
    asked: SmallVec<[Asked; 2]>,
    /// Sum of the counts in `asked`.
    outstanding: u32,
    /// The head at which every run in `asked` was found parked: nothing to look at until it moves.
    parked_at: Option<ChunkSeq>,
    push: Option<Push>,
    /// The chunk named last, if it was a pushed one.
    last_pushed: Option<ChunkSeq>,
    end: End,
}

impl Default for Track {
    fn default() -> Track {
        Track::new()
    }
}

impl Track {
    /// A stream that was opened and of which nothing was asked.
    pub fn new() -> Track {
        Track { asked: SmallVec::new(), outstanding: 0, parked_at: None, push: None, last_pushed: None, end: End::Live }
    }

    /// Chunks asked for and not answered.
    pub const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Whether chunks are being pushed.
    pub const fn subscribed(&self) -> bool {
        self.push.is_some()
    }

    /// The viewer asks for `count` chunks from `first` on. At most `room` are taken; what is not, and what is too far
    /// ahead, is answered through `say` at once.
    pub fn request(
        &mut self,
        first: ChunkSeq,
        count: u16,
        room: u32,
        holdings: &impl Holdings,
        mut say: impl FnMut(Answer),
    ) {
        let top = holdings.head().map_or(ChunkSeq::FIRST, |head| head.ahead(AHEAD_CHUNKS_MAX));
        let near = top.since(first).map_or(0, |distance| distance.saturating_add(1)).min(u64::from(count)) as u16;
        let taken = u32::from(near).min(room) as u16;
        if taken > 0 {
            self.asked.push(Asked { first, count: taken });
            self.outstanding += u32::from(taken);
            self.parked_at = None;
        }
        for (reason, from, to) in [(RefusalReason::Busy, taken, near), (RefusalReason::NotYet, near, count)] {
            if from < to {
                say(Answer::Unavailable { reason, first: first.ahead(u64::from(from)), count: to - from });
            }
        }
    }

    /// The viewer wants every chunk from `from` on (at most one above the head) instead of an earlier push.
    pub fn subscribe(&mut self, from: ChunkSeq, holdings: &impl Holdings, patience: Patience) {
        let next = holdings.head().map_or(from, |head| from.min(head.next()));
        let next = holdings.oldest().map_or(next, |oldest| next.max(oldest));
        let behind = holdings.head().and_then(|head| head.since(next)).unwrap_or(0);
        self.push = Some(Push { next, behind_max: behind.saturating_add(patience.skip_behind_chunks) });
        if let End::Told(last) = self.end {
            self.end = End::Untold(last);
        }
    }

    /// The viewer wants no more pushes.
    pub fn unsubscribe(&mut self) {
        self.push = None;
    }

    /// The stream has ended with chunk `last`.
    pub fn ended(&mut self, last: ChunkSeq) {
        if self.end != End::Told(last) {
            self.end = End::Untold(last);
        }
        self.parked_at = None;
    }

    /// The stream goes on after all (its publisher came back).
    pub fn resumed(&mut self) {
        self.end = End::Live;
    }

    /// The oldest chunk that this viewer is committed to be sent when `head` is the newest: asked for, or next of a push
    /// that is not about to skip. `None` when it waits for nothing.
    pub fn needs_from(&self, head: ChunkSeq) -> Option<ChunkSeq> {
        let pushed = self.push.map(|push| committed(push.next, push.behind_max, head));
        self.asked.iter().map(|run| run.first).chain(pushed).min()
    }

    /// What to send next; what is answered is taken off the list. Chunks asked for go before pushed ones: they are
    /// bounded, and somebody misses them.
    pub fn next(&mut self, holdings: &impl Holdings, patience: Patience) -> Next {
        let next = match self.next_asked(holdings) {
            Next::Idle => self.next_pushed(holdings, patience),
            next => next,
        };
        match (next, self.end) {
            // A push that is behind the end goes on first, unless the ring has forgotten the stream.
            (Next::Idle, End::Untold(last))
                if self.push.is_none_or(|push| push.next > last) || holdings.head().is_none() =>
            {
                self.end = End::Told(last);
                self.push = None;
                Next::Say(Answer::Ended(last))
            }
            (next, _) => next,
        }
    }

    /// Chunk `seq`, named by [`Track::next`] a moment ago, is gone, and not a byte of it was sent. One that was pushed
    /// is skipped over next; for one that was asked for, there is the message.
    pub fn lost(&mut self, seq: ChunkSeq) -> Option<Answer> {
        match &mut self.push {
            Some(push) if self.last_pushed == Some(seq) => {
                push.next = seq;
                None
            }
            _ => Some(Answer::Unavailable { reason: RefusalReason::Gone, first: seq, count: 1 }),
        }
    }

    fn next_asked(&mut self, holdings: &impl Holdings) -> Next {
        let head = holdings.head();
        if self.asked.is_empty() || (head.is_some() && self.parked_at == head) {
            return Next::Idle;
        }
        for at in 0..self.asked.len() {
            let Asked { first, count } = self.asked[at];
            match holdings.held(first) {
                Held::Ready => {
                    self.answered(at, 1);
                    self.last_pushed = None;
                    return Next::Chunk(first);
                }
                Held::Gone => {
                    // The first is: asked again it might have come, late.
                    let gone = (1..count).take_while(|i| holdings.held(first.ahead(u64::from(*i))) == Held::Gone);
                    let gone = 1 + gone.count() as u16;
                    self.answered(at, gone);
                    return Next::Say(Answer::Unavailable { reason: RefusalReason::Gone, first, count: gone });
                }
                Held::NotYet if self.end != End::Live => {
                    self.answered(at, count);
                    return Next::Say(Answer::Unavailable { reason: RefusalReason::NotYet, first, count });
                }
                Held::NotYet => {}
            }
        }
        self.parked_at = head;
        Next::Idle
    }

    /// Takes the first `count` chunks of run `at` off the list.
    fn answered(&mut self, at: usize, count: u16) {
        let run = &mut self.asked[at];
        run.first = run.first.ahead(u64::from(count));
        run.count -= count;
        if run.count == 0 {
            self.asked.remove(at);
        }
        self.outstanding -= u32::from(count);
    }

    fn next_pushed(&mut self, holdings: &impl Holdings, patience: Patience) -> Next {
        let Some(push) = &mut self.push else { return Next::Idle };
        let Some(head) = holdings.head() else { return Next::Idle };
        let Some(behind) = head.since(push.next) else { return Next::Idle };
        let ready = holdings.held(push.next) == Held::Ready;
        if ready && behind <= push.behind_max {
            let seq = push.next;
            push.next = seq.next();
            self.last_pushed = Some(seq);
            return Next::Chunk(seq);
        }
        let to = if behind > push.behind_max { Some(head) } else { first_ready(holdings, push.next) };
        let Some(to) = to else { return Next::Idle };
        let behind = head.since(to).unwrap_or(0);
        *push = Push { next: to, behind_max: behind.saturating_add(patience.skip_behind_chunks) };
        Next::Say(Answer::Skipped(to))
    }
}

#[cfg(test)]
mod tests;
