//! One stream of a connection over Weircast's protocol: what was asked for, and the push.

use smallvec::SmallVec;

use super::{AHEAD_CHUNKS_MAX, Held, Holdings, Patience, first_ready};
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
                    let gone = (0..count).take_while(|i| holdings.held(first.ahead(u64::from(*i))) == Held::Gone);
                    let gone = gone.count() as u16;
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
mod tests {
    use super::super::Drawn;
    use super::*;

    const PATIENCE: Patience = Patience { skip_behind_chunks: 4 };

    fn seq(n: u64) -> ChunkSeq {
        ChunkSeq::new(n)
    }

    /// Everything that is sent until the track is idle: chunks as numbers, messages as words.
    fn sent(track: &mut Track, ring: &Drawn) -> String {
        let mut all = Vec::new();
        loop {
            all.push(match track.next(ring, PATIENCE) {
                Next::Idle => return all.join(" "),
                Next::Chunk(seq) => seq.to_string(),
                Next::Say(Answer::Skipped(to)) => format!("skipped:{to}"),
                Next::Say(Answer::Ended(last)) => format!("ended:{last}"),
                Next::Say(Answer::Unavailable { reason, first, count }) => format!("{reason:?}:{first}+{count}"),
            });
        }
    }

    fn ask(track: &mut Track, ring: &Drawn, first: u64, count: u16, room: u32) -> Vec<Answer> {
        let mut answers = Vec::new();
        track.request(seq(first), count, room, ring, |answer| answers.push(answer));
        answers
    }

    #[test]
    fn chunks_that_are_there_are_sent_those_gone_and_in_a_gap_are_named() {
        let ring = Drawn::at(10, "##..##");
        let mut track = Track::new();
        assert_eq!(ask(&mut track, &ring, 8, 8, 512), []);
        assert_eq!(sent(&mut track, &ring), "Gone:8+2 10 11 Gone:12+2 14 15");
        assert_eq!(track.outstanding(), 0);
    }

    #[test]
    fn a_chunk_ahead_is_parked_and_sent_when_it_is_published() {
        let mut ring = Drawn::at(10, "###");
        let mut track = Track::new();
        ask(&mut track, &ring, 12, 3, 512);
        assert_eq!(sent(&mut track, &ring), "12");
        assert_eq!(track.outstanding(), 2);
        ring.publish("#");
        assert_eq!(sent(&mut track, &ring), "13");
        ring.publish(".#");
        assert_eq!(sent(&mut track, &ring), "Gone:14+1", "the publisher left a gap there");
    }

    #[test]
    fn too_far_ahead_is_refused_and_so_is_what_there_is_no_room_for() {
        let ring = Drawn::at(0, "#");
        let mut track = Track::new();
        let no = |reason, first, count| Answer::Unavailable { reason, first: seq(first), count };
        assert_eq!(ask(&mut track, &ring, 255, 4, 512), [no(RefusalReason::NotYet, 257, 2)]);
        assert_eq!(ask(&mut track, &ring, 1, 5, 3), [no(RefusalReason::Busy, 4, 2)]);
        assert_eq!(track.outstanding(), 5);
        assert_eq!(ask(&mut track, &ring, u64::MAX, 2, 512), [no(RefusalReason::NotYet, u64::MAX, 2)]);
    }

    #[test]
    fn a_push_follows_the_stream() {
        let mut ring = Drawn::at(10, "###");
        let mut track = Track::new();
        track.subscribe(seq(11), &ring, PATIENCE);
        assert_eq!(sent(&mut track, &ring), "11 12");
        ring.publish("##");
        assert_eq!(sent(&mut track, &ring), "13 14");
        track.unsubscribe();
        ring.publish("#");
        assert_eq!(sent(&mut track, &ring), "");
    }

    #[test]
    fn a_subscription_is_clamped_to_what_is_kept() {
        let mut ring = Drawn::at(10, "###");
        let mut track = Track::new();
        track.subscribe(seq(3), &ring, PATIENCE);
        assert_eq!(sent(&mut track, &ring), "10 11 12");
        track.subscribe(seq(5_000), &ring, PATIENCE);
        assert_eq!(sent(&mut track, &ring), "");
        ring.publish("#");
        assert_eq!(sent(&mut track, &ring), "13", "not 5000: that would never come");
    }

    #[test]
    fn slow_viewer_skips_ahead_to_the_newest_chunk() {
        let mut ring = Drawn::at(0, "#");
        let mut track = Track::new();
        track.subscribe(seq(0), &ring, PATIENCE);
        ring.publish("####");
        assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(0)), "4 behind is within patience");
        ring.publish("##");
        assert_eq!(sent(&mut track, &ring), "skipped:6 6");
    }

    #[test]
    fn who_began_far_back_may_stay_there() {
        let mut ring = Drawn::at(0, "##########");
        let mut track = Track::new();
        track.subscribe(seq(0), &ring, PATIENCE);
        ring.publish("####");
        assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(0)), "13 behind, but it began 9 behind");
        ring.publish("##");
        assert_eq!(track.next(&ring, PATIENCE), Next::Say(Answer::Skipped(seq(15))));
    }

    #[test]
    fn a_gap_is_skipped_over_and_told() {
        let ring = Drawn::at(0, "#..##");
        let mut track = Track::new();
        track.subscribe(seq(0), &ring, PATIENCE);
        assert_eq!(sent(&mut track, &ring), "0 skipped:3 3 4");
    }

    #[test]
    fn what_was_recycled_under_a_push_is_skipped_over() {
        let mut ring = Drawn::at(0, "#####");
        let mut track = Track::new();
        track.subscribe(seq(0), &ring, PATIENCE);
        ring.forget_below(3);
        assert_eq!(sent(&mut track, &ring), "skipped:3 3 4");
    }

    #[test]
    fn a_chunk_lost_before_its_first_byte_is_skipped_or_told() {
        let mut ring = Drawn::at(0, "####");
        let mut track = Track::new();
        track.subscribe(seq(1), &ring, PATIENCE);
        assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(1)));
        ring.forget_below(3);
        assert_eq!(track.lost(seq(1)), None);
        assert_eq!(sent(&mut track, &ring), "skipped:3 3");
        ask(&mut track, &ring, 3, 1, 512);
        assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(3)));
        let gone = Answer::Unavailable { reason: RefusalReason::Gone, first: seq(3), count: 1 };
        assert_eq!(track.lost(seq(3)), Some(gone));
    }

    #[test]
    fn the_end_is_told_once_behind_the_last_chunk() {
        let ring = Drawn::at(0, "###");
        let mut track = Track::new();
        track.subscribe(seq(1), &ring, PATIENCE);
        ask(&mut track, &ring, 3, 2, 512);
        track.ended(seq(2));
        assert_eq!(sent(&mut track, &ring), "NotYet:3+2 1 2 ended:2");
        track.ended(seq(2));
        assert_eq!(sent(&mut track, &ring), "");
    }

    #[test]
    fn the_end_of_a_stream_that_the_ring_has_forgotten_is_told() {
        let mut track = Track::new();
        track.subscribe(seq(1), &Drawn::at(0, "###"), PATIENCE);
        track.ended(seq(2));
        assert_eq!(sent(&mut track, &Drawn::default()), "ended:2");
    }

    #[test]
    fn a_stream_that_comes_back_is_served_again() {
        let mut ring = Drawn::at(0, "###");
        let mut track = Track::new();
        track.ended(seq(2));
        assert_eq!(sent(&mut track, &ring), "ended:2");
        ring.publish("#");
        track.resumed();
        track.subscribe(seq(3), &ring, PATIENCE);
        assert_eq!(sent(&mut track, &ring), "3");
    }
}
