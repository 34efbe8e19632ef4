//! A track on drawn rings.

use std::collections::BTreeMap;

use proptest::prelude::*;

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
    track.subscribe(seq(11), &ring);
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
    track.subscribe(seq(3), &ring);
    assert_eq!(sent(&mut track, &ring), "10 11 12");
    track.subscribe(seq(5_000), &ring);
    assert_eq!(sent(&mut track, &ring), "");
    ring.publish("#");
    assert_eq!(sent(&mut track, &ring), "13", "not 5000: that would never come");
}

#[test]
fn slow_viewer_skips_ahead_to_the_newest_chunk() {
    let mut ring = Drawn::at(0, "#");
    let mut track = Track::new();
    track.subscribe(seq(0), &ring);
    ring.publish("####");
    assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(0)), "4 behind is within patience");
    ring.publish("##");
    assert_eq!(sent(&mut track, &ring), "skipped:6 6");
}

#[test]
fn who_began_far_back_may_stay_there() {
    let mut ring = Drawn::at(0, "##########");
    let mut track = Track::new();
    track.subscribe(seq(0), &ring);
    ring.publish("####");
    assert_eq!(track.next(&ring, PATIENCE), Next::Chunk(seq(0)), "13 behind, but it began 9 behind");
    ring.publish("##");
    assert_eq!(track.next(&ring, PATIENCE), Next::Say(Answer::Skipped(seq(15))));
}

#[test]
fn a_gap_is_skipped_over_and_told() {
    let ring = Drawn::at(0, "#..##");
    let mut track = Track::new();
    track.subscribe(seq(0), &ring);
    assert_eq!(sent(&mut track, &ring), "0 skipped:3 3 4");
}

#[test]
fn what_was_recycled_under_a_push_is_skipped_over() {
    let mut ring = Drawn::at(0, "#####");
    let mut track = Track::new();
    track.subscribe(seq(0), &ring);
    ring.forget_below(3);
    assert_eq!(sent(&mut track, &ring), "skipped:3 3 4");
}

#[test]
fn a_chunk_lost_before_its_first_byte_is_skipped_or_told() {
    let mut ring = Drawn::at(0, "####");
    let mut track = Track::new();
    track.subscribe(seq(1), &ring);
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
    track.subscribe(seq(1), &ring);
    ask(&mut track, &ring, 3, 2, 512);
    track.ended(seq(2));
    assert_eq!(sent(&mut track, &ring), "NotYet:3+2 1 2 ended:2");
    track.ended(seq(2));
    assert_eq!(sent(&mut track, &ring), "");
}

#[test]
fn the_end_of_a_stream_that_the_ring_has_forgotten_is_told() {
    let mut track = Track::new();
    track.subscribe(seq(1), &Drawn::at(0, "###"));
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
    track.subscribe(seq(3), &ring);
    assert_eq!(sent(&mut track, &ring), "3");
}

/// What happens to a stream and its viewer, at random.
#[derive(Clone, Debug)]
enum Event {
    Ask(u64, u16),
    Publish(u8),
    Forget(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u64..60, 1u16..20).prop_map(|(first, count)| Event::Ask(first, count)),
        prop_oneof![Just(b'#'), Just(b'.')].prop_map(Event::Publish),
        (0u64..40).prop_map(Event::Forget),
    ]
}

proptest! {
    #[test]
    fn every_chunk_asked_for_is_answered_once(events in proptest::collection::vec(event(), 1..60)) {
        let (mut ring, mut track) = (Drawn::at(0, "#"), Track::new());
        let (mut asked, mut answered) = (BTreeMap::<u64, u32>::new(), BTreeMap::<u64, u32>::new());
        let note = |all: &mut BTreeMap<u64, u32>, first: u64, count: u16| {
            (first..first + u64::from(count)).for_each(|seq| *all.entry(seq).or_default() += 1);
        };
        let mut last = ChunkSeq::FIRST;
        for event in events.into_iter().map(Some).chain([None]) {
            match event {
                Some(Event::Ask(first, count)) => {
                    note(&mut asked, first, count);
                    let room = 100 - track.outstanding();
                    track.request(seq(first), count, room, &ring, |answer| match answer {
                        Answer::Unavailable { first, count, .. } => note(&mut answered, first.get(), count),
                        other => panic!("{other:?}"),
                    });
                }
                Some(Event::Publish(mark)) => ring.publish(std::str::from_utf8(&[mark]).expect("ASCII")),
                // The newest chunk is never forgotten.
                Some(Event::Forget(below)) => ring.forget_below(below.min(last.get())),
                None => track.ended(last),
            }
            last = ring.head().unwrap_or(last);
            loop {
                match track.next(&ring, PATIENCE) {
                    Next::Idle => break,
                    Next::Chunk(seq) => {
                        prop_assert_eq!(ring.held(seq), Held::Ready);
                        note(&mut answered, seq.get(), 1);
                    }
                    Next::Say(Answer::Unavailable { first, count, .. }) => note(&mut answered, first.get(), count),
                    Next::Say(_) => {}
                }
            }
        }
        prop_assert_eq!(track.outstanding(), 0);
        prop_assert_eq!(asked, answered);
    }
}

#[test]
fn a_cache_that_is_late_itself_skips_sooner_and_its_patience_comes_back() {
    let mut ring = Drawn::at(0, "###");
    let mut track = Track::new();
    track.subscribe(seq(0), &ring);
    let (none, some) = (Patience { skip_behind_chunks: 0 }, PATIENCE);
    assert_eq!(track.next(&ring, none), Next::Chunk(seq(0)), "it asked to begin two behind");
    ring.publish("##");
    assert_eq!(track.next(&ring, none), Next::Say(Answer::Skipped(seq(4))), "three behind");
    assert_eq!(track.next(&ring, none), Next::Chunk(seq(4)));
    ring.publish("##");
    assert_eq!(track.next(&ring, some), Next::Chunk(seq(5)));
}
