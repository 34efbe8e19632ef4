use super::*;
use crate::time::WallClock;

const ID: StreamId = StreamId(7);

struct Rig {
    table: Streams,
    now: Time,
    out: Outbox<StreamOutput>,
}

impl Rig {
    fn new() -> Rig {
        Rig { table: Streams::new(CacheKnobs::default(), 2), now: Time::ZERO, out: Outbox::new() }
    }

    fn publish(&mut self, epoch: u64) -> Result<(Tenure, ChunkSeq), RefusalReason> {
        let name = StreamName::new("news").expect("a name");
        self.table.open_publisher(self.now, ID, &name, Epoch(epoch), ChunkSeq::FIRST, &mut self.out)
    }

    fn pull(&mut self) -> Option<Tenure> {
        let name = StreamName::new("news").expect("a name");
        self.table.open_pull(self.now, ID, &name, Epoch(0), &mut self.out).expect("room")
    }

    fn chunk(&mut self, tenure: Tenure, epoch: u64, seq: u64, end: bool) -> Verdict {
        let seq = ChunkSeq::new(seq);
        let verdict = self.table.judge(ID, tenure, Epoch(epoch), seq);
        if let Verdict::Append { .. } = verdict {
            let header = ChunkHeader {
                stream: ID,
                epoch: Epoch(epoch),
                seq,
                published: WallClock::default(),
                payload_len: 0,
                tables_len: 0,
                duration_ms: 200,
                key_frame: None,
                discontinuity: false,
                end,
                hash: [0; 32],
                signature: [0; 64],
            };
            self.table.stored(self.now, ID, &header, &mut self.out);
        }
        verdict
    }

    /// Runs to the table's next timeout; the decisions of that moment.
    fn wait(&mut self) -> Vec<StreamOutput> {
        self.out.drain();
        self.now = self.table.next_timeout();
        assert_ne!(self.now, Time::NEVER);
        self.table.tick(self.now, &mut self.out);
        self.taken()
    }

    fn taken(&mut self) -> Vec<StreamOutput> {
        self.out.drain().collect()
    }

    fn state(&self) -> Option<HoldState> {
        self.table.get(ID).map(Stream::state)
    }
}

use StreamOutput::{Changed, Dismiss, Ended, Forgotten, Ready};

fn is_forgotten(out: &[StreamOutput]) -> bool {
    out.iter().any(|o| matches!(o, Forgotten { held, .. } if held.state == HoldState::Ended))
}

#[test]
fn a_published_stream_lives_stalls_comes_back_and_ends() {
    let mut rig = Rig::new();
    let (first, next) = rig.publish(1).expect("open");
    assert_eq!(next, ChunkSeq::FIRST);
    assert_eq!(rig.table.held(ID), None, "nothing to tell before the first chunk");
    rig.chunk(first, 1, 0, false);
    assert_eq!(rig.taken(), [Ready(ID), Changed(ID)]);
    assert_eq!(rig.state(), Some(HoldState::Origin));
    assert_eq!(rig.wait(), [Changed(ID)]);
    assert_eq!((rig.state(), rig.now), (Some(HoldState::Stalled), Time::from_millis(1_000)));
    rig.chunk(first, 1, 1, false);
    assert_eq!((rig.state(), rig.taken()), (Some(HoldState::Origin), vec![Changed(ID)]));
    rig.chunk(first, 1, 2, true);
    let last = ChunkSeq::new(2);
    assert_eq!(rig.taken(), [Dismiss { stream: ID, tenure: first }, Ended { stream: ID, last }, Changed(ID)]);
    assert!(is_forgotten(&rig.wait()));
    assert_eq!(rig.state(), None);
}

#[test]
fn a_publisher_that_comes_back_goes_on_at_the_next_number() {
    let mut rig = Rig::new();
    let (first, _) = rig.publish(1).expect("open");
    rig.chunk(first, 1, 0, false);
    rig.chunk(first, 1, 1, false);
    rig.table.source_gone(rig.now, ID, first, &mut rig.out);
    assert_eq!(rig.state(), Some(HoldState::Stalled));
    let (second, next) = rig.publish(2).expect("open");
    assert_eq!(next, ChunkSeq::new(2));
    assert_eq!(rig.chunk(second, 2, 2, false), Verdict::Append { gap: 0 });
    assert_eq!(rig.state(), Some(HoldState::Origin));
}

#[test]
fn a_publisher_that_was_elsewhere_meanwhile_goes_on_above_what_others_have() {
    let mut rig = Rig::new();
    let (first, _) = rig.publish(1).expect("open");
    rig.chunk(first, 1, 0, false);
    rig.table.source_gone(rig.now, ID, first, &mut rig.out);
    let name = StreamName::new("news").expect("a name");
    let known = ChunkSeq::new(500);
    let opened = rig.table.open_publisher(rig.now, ID, &name, Epoch(3), known, &mut rig.out);
    let (third, next) = opened.expect("open");
    assert_eq!(next, known, "another cache took them under term 2: a lower one would be a duplicate there");
    assert_eq!(rig.chunk(third, 3, 500, false), Verdict::Append { gap: 0 });
}

#[test]
fn a_newer_connection_of_the_same_epoch_replaces_and_an_older_epoch_is_fenced() {
    let mut rig = Rig::new();
    let (first, _) = rig.publish(2).expect("open");
    rig.chunk(first, 2, 0, false);
    rig.taken();
    let (second, next) = rig.publish(2).expect("open");
    assert_eq!(rig.taken(), [Dismiss { stream: ID, tenure: first }]);
    assert_eq!(rig.chunk(first, 2, 1, false), Verdict::Fenced);
    assert_eq!((next, rig.chunk(second, 2, 1, false)), (ChunkSeq::new(1), Verdict::Append { gap: 0 }));
    assert_eq!(rig.publish(1), Err(RefusalReason::Fenced));
    rig.table.source_gone(rig.now, ID, first, &mut rig.out);
    assert_eq!(rig.state(), Some(HoldState::Origin), "the replaced one's end is nobody's loss");
}

#[test]
fn a_silent_stream_is_ended_then_forgotten() {
    let mut rig = Rig::new();
    let (first, _) = rig.publish(1).expect("open");
    rig.chunk(first, 1, 0, false);
    rig.wait();
    let last = ChunkSeq::FIRST;
    assert_eq!(rig.wait(), [Dismiss { stream: ID, tenure: first }, Ended { stream: ID, last }, Changed(ID)]);
    assert_eq!(rig.now, Time::from_millis(61_000));
    assert!(is_forgotten(&rig.wait()));
    assert_eq!(rig.table.next_timeout(), Time::NEVER);
}

#[test]
fn one_pull_per_stream_and_it_ends_when_nobody_watches() {
    let mut rig = Rig::new();
    let pull = rig.pull().expect("a first pull");
    assert_eq!(rig.pull(), None);
    assert_eq!(rig.table.held(ID).map(|h| h.state), Some(HoldState::Fetching));
    rig.table.viewers(rig.now, 0, ID, 3, None);
    for seq in 100..200 {
        assert_ne!(rig.chunk(pull, 1, seq, false), Verdict::Fenced);
        rig.now = rig.now.after(crate::units::CHUNK_SPAN);
        rig.table.tick(rig.now, &mut rig.out);
    }
    assert_eq!(rig.state(), Some(HoldState::Relay));
    rig.table.viewers(rig.now, 0, ID, 0, None);
    let left = rig.now;
    rig.wait();
    let gone = rig.wait();
    assert_eq!(rig.now, left.after(CacheKnobs::default().pull_grace));
    assert!(gone.contains(&Dismiss { stream: ID, tenure: pull }) && is_forgotten(&gone));
}

#[test]
fn a_pull_that_brought_nothing_leaves_nothing() {
    let mut rig = Rig::new();
    let pull = rig.pull().expect("a first pull");
    rig.table.source_gone(rig.now, ID, pull, &mut rig.out);
    assert!(is_forgotten(&rig.taken()));
    assert_eq!(rig.state(), None);
}

#[test]
fn a_publisher_takes_a_pulled_stream_over() {
    let mut rig = Rig::new();
    let pull = rig.pull().expect("a first pull");
    rig.chunk(pull, 1, 50, false);
    rig.taken();
    let (tenure, next) = rig.publish(2).expect("open");
    assert_eq!(next, ChunkSeq::new(51));
    assert_eq!(rig.taken(), [Dismiss { stream: ID, tenure: pull }]);
    rig.chunk(tenure, 2, 51, false);
    assert_eq!(rig.state(), Some(HoldState::Origin));
}

#[test]
fn a_publisher_taken_over_elsewhere_makes_way_for_a_pull() {
    let mut rig = Rig::new();
    let (publisher, _) = rig.publish(3).expect("open");
    rig.chunk(publisher, 3, 0, false);
    rig.taken();
    let name = StreamName::new("news").expect("a name");
    let same = rig.table.open_pull(rig.now, ID, &name, Epoch(3), &mut rig.out);
    assert_eq!((same, rig.taken()), (Ok(None), vec![]), "its own epoch is no news");
    let pull = rig.table.open_pull(rig.now, ID, &name, Epoch(4), &mut rig.out).expect("room").expect("a pull");
    assert_eq!(rig.taken(), [Dismiss { stream: ID, tenure: publisher }]);
    assert_eq!(rig.chunk(pull, 4, 1, false), Verdict::Append { gap: 0 });
    assert_eq!(rig.state(), Some(HoldState::Relay));
}

#[test]
fn a_silent_publisher_makes_way_for_a_pull_of_its_own_term_only() {
    let mut rig = Rig::new();
    let (publisher, _) = rig.publish(3).expect("open");
    rig.chunk(publisher, 3, 0, false);
    assert_eq!(rig.wait(), [Changed(ID)], "stalled");
    let name = StreamName::new("news").expect("a name");
    let mut pull = |epoch| rig.table.open_pull(rig.now, ID, &name, Epoch(epoch), &mut rig.out).expect("room");
    assert_eq!(pull(2), None);
    assert!(pull(3).is_some(), "the index says that it goes on elsewhere");
    assert_eq!(rig.taken(), [Dismiss { stream: ID, tenure: publisher }]);
}

#[test]
fn the_table_is_bounded() {
    let mut rig = Rig::new();
    for n in 0..3u64 {
        let name = StreamName::new("x").expect("a name");
        let opened = rig.table.open_pull(rig.now, StreamId(n), &name, Epoch(0), &mut rig.out);
        assert_eq!(opened.is_ok(), n < 2);
    }
}

#[test]
fn an_inherited_stream_is_stalled_until_its_publisher_returns_and_is_forgotten_if_not() {
    let mut rig = Rig::new();
    let was = |end| FormerStream {
        name: StreamName::new("news").expect("a name"),
        epoch: Epoch(3),
        head: ChunkSeq::new(9),
        next: ChunkSeq::new(11),
        end,
        pulled: false,
    };
    assert!(rig.table.inherit(rig.now, ID, was(false), &mut rig.out));
    assert_eq!((rig.state(), rig.taken()), (Some(HoldState::Stalled), vec![Changed(ID)]));
    assert!(rig.table.is_ready(ID), "viewers are served");
    assert_eq!(rig.publish(2), Err(RefusalReason::Fenced));
    let (tenure, next) = rig.publish(3).expect("its own publisher");
    assert_eq!(next, ChunkSeq::new(11));
    assert_eq!(rig.chunk(tenure, 3, 11, false), Verdict::Append { gap: 0 });
    assert_eq!(rig.state(), Some(HoldState::Origin));
    assert!(!rig.table.inherit(rig.now, ID, was(false), &mut rig.out), "it is there");

    for (end, last) in [(false, HoldState::Stalled), (true, HoldState::Ended)] {
        let mut rig = Rig::new();
        assert!(rig.table.inherit(rig.now, ID, was(end), &mut rig.out));
        assert_eq!(rig.state(), Some(last));
        if !end {
            rig.wait();
            assert_eq!(
                (rig.state(), rig.now),
                (Some(HoldState::Ended), Time::ZERO.after(CacheKnobs::default().forget_after))
            );
        }
        assert!(is_forgotten(&rig.wait()));
    }
}
