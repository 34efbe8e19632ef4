//! A viewer over HTTP: one endless transport stream that begins where a decoder can.

use super::{Held, Holdings, Patience, committed, first_ready};
use crate::limits::WINDOW_CHUNKS;
use crate::units::ChunkSeq;

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayoutNext {
    /// This chunk's tables, then its transport stream from the key frame on (all of it when it has none).
    Begin(ChunkSeq),
    /// This chunk's transport stream, without its tables.
    Chunk(ChunkSeq),
    /// Nothing until the stream grows.
    Idle,
    /// The stream has ended: finish the response.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A place to begin is waited for.
    Joining {
        /// The lowest chunk to begin at.
        from: ChunkSeq,
        /// How far behind the head to begin when there is a choice.
        back: u64,
        /// So far back that the ring might take its first chunks from under it.
        shifted: bool,
    },
    Playing {
        next: ChunkSeq,
        /// How far behind the head it began: the cache's patience comes on top.
        began: u64,
    },
}

/// One HTTP viewer.
#[derive(Clone, Copy, Debug)]
pub struct Playout {
    state: State,
    last: Option<ChunkSeq>,
}

impl Playout {
    /// A viewer that would like to begin `back` chunks behind the head.
    pub const fn new(back: u64) -> Playout {
        Playout { state: State::Joining { from: ChunkSeq::FIRST, back, shifted: false }, last: None }
    }

    /// A viewer that watches `back` chunks behind the head, as far as the ring goes back: it keeps a tenth of that away
    /// from the oldest chunk (our guess), because it takes what a player takes, while the ring moves on.
    pub const fn shifted(back: u64) -> Playout {
        Playout { state: State::Joining { from: ChunkSeq::FIRST, back, shifted: true }, last: None }
    }

    /// The stream has ended with chunk `last`.
    pub fn ended(&mut self, last: ChunkSeq) {
        self.last = Some(last);
    }

    /// The stream goes on after all.
    pub fn resumed(&mut self) {
        self.last = None;
    }

    /// Chunk `seq`, named by [`Playout::next`] a moment ago, is gone, and not a byte of it was sent.
    pub fn lost(&mut self, seq: ChunkSeq) {
        self.state = State::Joining { from: seq, back: 0, shifted: false };
    }

    /// The oldest chunk that this viewer is committed to be sent when `head` is the newest; `None` before it has begun.
    pub fn needs_from(&self, head: ChunkSeq, patience: Patience) -> Option<ChunkSeq> {
        match self.state {
            State::Joining { .. } => None,
            State::Playing { next, began } => {
                Some(committed(next, began.saturating_add(patience.skip_behind_chunks), head))
            }
        }
    }

    /// What to send next.
    pub fn next(&mut self, holdings: &impl Holdings, patience: Patience) -> PlayoutNext {
        let Some(head) = holdings.head() else {
            // Nothing was published yet, or the ring has forgotten the stream.
            return if self.last.is_some() { PlayoutNext::End } else { PlayoutNext::Idle };
        };
        match self.state {
            State::Joining { from, back, shifted } => {
                let kept = holdings.oldest().and_then(|oldest| head.since(oldest)).unwrap_or(0);
                let back = if shifted { back.min(kept - kept / 10) } else { back };
                match join(holdings, head, from, back) {
                    Some(seq) => self.begin(head, seq),
                    None => self.idle(),
                }
            }
            State::Playing { next, began } => self.play(holdings, head, next, began, patience),
        }
    }

    fn play(
        &mut self,
        holdings: &impl Holdings,
        head: ChunkSeq,
        next: ChunkSeq,
        began: u64,
        patience: Patience,
    ) -> PlayoutNext {
        let Some(behind) = head.since(next) else { return self.idle() };
        if behind > began.saturating_add(patience.skip_behind_chunks)
            && let Some(seq) = join(holdings, head, next.next(), 0)
        {
            return self.begin(head, seq);
        }
        // Too far behind, but no better place: it goes on where it is.
        if holdings.held(next) == Held::Ready {
            self.state = State::Playing { next: next.next(), began };
            return PlayoutNext::Chunk(next);
        }
        match first_ready(holdings, next) {
            // A gap that the publisher left is nothing to a decoder but a discontinuity.
            Some(seq) if holdings.oldest().is_some_and(|oldest| oldest <= next) => {
                self.state = State::Playing { next: seq.next(), began };
                PlayoutNext::Chunk(seq)
            }
            // Its place was recycled.
            _ => {
                self.state = State::Joining { from: next, back: 0, shifted: false };
                match join(holdings, head, next, 0) {
                    Some(seq) => self.begin(head, seq),
                    None => self.idle(),
                }
            }
        }
    }

    fn begin(&mut self, head: ChunkSeq, seq: ChunkSeq) -> PlayoutNext {
        self.state = State::Playing { next: seq.next(), began: head.since(seq).unwrap_or(0) };
        PlayoutNext::Begin(seq)
    }

    fn idle(&self) -> PlayoutNext {
        match (self.last, self.state) {
            (Some(last), State::Playing { next, .. }) if next <= last => PlayoutNext::Idle,
            (Some(_), _) => PlayoutNext::End,
            (None, _) => PlayoutNext::Idle,
        }
    }
}

/// Where to begin, at `from` or above: the newest join point `back` behind the head, else the newest one, else the
/// newest chunk with tables (a stream without key frames, or one whose last is out of the ring).
fn join(holdings: &impl Holdings, head: ChunkSeq, from: ChunkSeq, back: u64) -> Option<ChunkSeq> {
    let at_or_above = |seq: &ChunkSeq| *seq >= from;
    let newest_with_tables = || {
        let count = head.since(from)?.saturating_add(1).min(WINDOW_CHUNKS);
        (0..count).map(|below| head.back(below)).find(|seq| holdings.has_tables(*seq))
    };
    holdings
        .join_point(back)
        .filter(at_or_above)
        .or_else(|| holdings.join_point(0).filter(at_or_above))
        .or_else(newest_with_tables)
}

#[cfg(test)]
mod tests {
    use super::super::Drawn;
    use super::*;

    const PATIENCE: Patience = Patience { skip_behind_chunks: 4 };

    fn sent(playout: &mut Playout, ring: &Drawn) -> String {
        let mut all = Vec::new();
        loop {
            all.push(match playout.next(ring, PATIENCE) {
                PlayoutNext::Idle => return all.join(" "),
                PlayoutNext::Begin(seq) => format!("begin:{seq}"),
                PlayoutNext::Chunk(seq) => seq.to_string(),
                PlayoutNext::End => {
                    all.push("end".to_owned());
                    return all.join(" ");
                }
            });
        }
    }

    #[test]
    fn begins_at_the_newest_key_frame_and_follows() {
        let mut ring = Drawn::at(0, "K##K##");
        let mut playout = Playout::new(0);
        assert_eq!(sent(&mut playout, &ring), "begin:3 4 5");
        ring.publish("K#");
        assert_eq!(sent(&mut playout, &ring), "6 7", "it does not begin again at every key frame");
    }

    #[test]
    fn begins_further_back_when_asked_and_possible() {
        let ring = Drawn::at(0, "K##K##");
        assert_eq!(sent(&mut Playout::new(3), &ring), "begin:0 1 2 3 4 5", "2 is wanted; 0 is the nearest below");
        assert_eq!(sent(&mut Playout::new(200), &ring), "begin:0 1 2 3 4 5");
    }

    #[test]
    fn who_watches_late_begins_there_and_keeps_away_from_the_oldest_chunks() {
        let ring = Drawn::at(100, &"K####".repeat(20));
        let begins = |back| Playout::shifted(back).next(&ring, PATIENCE);
        assert_eq!(begins(0), PlayoutNext::Begin(ChunkSeq::new(195)));
        assert_eq!(begins(50), PlayoutNext::Begin(ChunkSeq::new(145)), "149 is wanted");
        assert_eq!(begins(u64::MAX), PlayoutNext::Begin(ChunkSeq::new(105)), "109 is a tenth above 100");
        let mut playout = Playout::shifted(80);
        assert_eq!(playout.next(&ring, PATIENCE), PlayoutNext::Begin(ChunkSeq::new(115)));
        assert_eq!(playout.next(&ring, PATIENCE), PlayoutNext::Chunk(ChunkSeq::new(116)), "late on purpose: no skip");
    }

    #[test]
    fn without_a_key_frame_begins_where_tables_are_else_waits() {
        let mut ring = Drawn::at(0, "####");
        let mut playout = Playout::new(0);
        assert_eq!(sent(&mut playout, &ring), "");
        ring.publish("t#");
        assert_eq!(sent(&mut playout, &ring), "begin:4 5");
    }

    #[test]
    fn slow_viewer_skips_to_the_newest_join_point_ahead() {
        let mut ring = Drawn::at(0, "K");
        let mut playout = Playout::new(0);
        assert_eq!(sent(&mut playout, &ring), "begin:0");
        ring.publish("##K##K##");
        assert_eq!(sent(&mut playout, &ring), "begin:6 7 8");
    }

    #[test]
    fn slow_viewer_goes_on_where_no_better_place_is() {
        let mut ring = Drawn::at(0, "K");
        let mut playout = Playout::new(0);
        assert_eq!(sent(&mut playout, &ring), "begin:0");
        ring.publish("########");
        assert_eq!(sent(&mut playout, &ring), "1 2 3 4 5 6 7 8");
    }

    #[test]
    fn whose_place_was_recycled_begins_again() {
        let mut ring = Drawn::at(0, "K##");
        let mut playout = Playout::new(0);
        assert_eq!(sent(&mut playout, &ring), "begin:0 1 2");
        ring.publish("##");
        ring.forget_below(4);
        assert_eq!(sent(&mut playout, &ring), "", "no place to begin at");
        ring.publish("#K#");
        assert_eq!(sent(&mut playout, &ring), "begin:6 7");
    }

    #[test]
    fn a_gap_does_not_begin_again() {
        let ring = Drawn::at(0, "K#..#");
        assert_eq!(sent(&mut Playout::new(0), &ring), "begin:0 1 4");
    }

    #[test]
    fn the_end_comes_behind_the_last_chunk() {
        let mut ring = Drawn::at(0, "K#");
        let mut playout = Playout::new(0);
        assert_eq!(playout.next(&ring, PATIENCE), PlayoutNext::Begin(ChunkSeq::new(0)));
        playout.ended(ChunkSeq::new(1));
        assert_eq!(sent(&mut playout, &ring), "1 end");
        ring.publish("#");
        playout.resumed();
        assert_eq!(sent(&mut playout, &ring), "2");
    }

    #[test]
    fn waiting_ends_with_the_stream() {
        let mut playout = Playout::new(0);
        playout.ended(ChunkSeq::new(3));
        assert_eq!(sent(&mut playout, &Drawn::at(0, "####")), "end");
    }
}
