//! The generated stream and its check: what is right is proven right, every kind of harm is seen.

mod media_kit;

use cache_core::media::generator::{Stamp, StampFault};
use cache_core::media::pcr::{PCR_MODULUS, Pcr, TICKS_PER_SECOND};
use cache_core::media::{CheckReport, Content, Generator, GeneratorConfig, PayloadCheck};
use cache_core::time::Span;
use cache_core::units::BitRate;
use media_kit::*;
use proptest::prelude::*;

const TAG: u64 = 0xFEED;

fn config(kbps: u64) -> GeneratorConfig {
    GeneratorConfig { rate: BitRate::from_kbps(kbps), tag: TAG, ..GeneratorConfig::default() }
}

fn report(packets: &[&[u8]]) -> CheckReport {
    let mut check = PayloadCheck::new(TAG);
    packets.iter().for_each(|bytes| check.push(bytes));
    check.report()
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    assert_eq!(generated(config(500), 60), generated(config(500), 60));
    assert_ne!(generated(config(500), 60), generated(GeneratorConfig { tag: 1, ..config(500) }, 60));
}

#[test]
fn the_bit_rate_is_met_to_the_packet() {
    for kbps in [150, 2_000, 20_000] {
        let bytes = generated(config(kbps), 50).len() as u64;
        let wanted = kbps * 1_000 / 8 * 2;
        assert!(bytes <= wanted && bytes + 188 > wanted, "{bytes} of {wanted} in two seconds");
    }
}

#[test]
fn frames_are_due_at_the_frame_rate() {
    let content = Content::Picture { fps: 30, key_frame_every: 30 };
    let mut generator = Generator::new(GeneratorConfig { content, ..config(500) });
    let due: Vec<u64> = (0..30).map(|_| generator.next_frame(&mut Vec::new()).micros()).collect();
    assert_eq!((due[0], due[2], due[29]), (33_333, 100_000, 1_000_000));
}

#[test]
fn a_whole_stream_is_perfect_and_tells_its_media_time() {
    let mut check = PayloadCheck::new(TAG);
    check.push(&generated(config(1_000), 100));
    assert!(check.report().is_perfect(), "{:?}", check.report());
    assert_eq!(check.media(), Span::from_millis(99 * 40));
    assert_eq!(check.next(), Some(1_000_000 / 8 * 4 / 188));
}

#[test]
fn chunks_with_their_copies_of_tables_are_perfect_wherever_one_begins() {
    let slices = slice(&generated(config(1_000), 250));
    let copies = slices.iter().filter(|slice| slice.tables_len > 0).count() as u64;
    assert_eq!(copies, 5, "a key frame every two seconds");
    for begin in [0, 10, 13] {
        let payloads: Vec<&[u8]> = slices[begin..].iter().map(|slice| slice.payload.as_slice()).collect();
        let report = report(&payloads);
        assert!(report.is_perfect(), "from chunk {begin}: {report:?}");
    }
}

#[test]
fn key_frames_are_where_the_configuration_puts_them() {
    let content = Content::Picture { fps: 25, key_frame_every: 25 };
    let slices = slice(&generated(GeneratorConfig { content, ..config(300) }, 100));
    let keys: Vec<usize> = (0..slices.len()).filter(|i| slices[*i].key_frame.is_some()).collect();
    assert_eq!(keys, [0, 5, 10, 15]);
    assert_eq!(durations(&slices), [200; 20]);
}

#[test]
fn sound_alone_can_be_begun_in_every_chunk() {
    let slices = slice(&generated(GeneratorConfig { content: Content::Sound, ..config(200) }, 500));
    assert_eq!(slices.len(), 60);
    assert!(slices.iter().all(|slice| slice.key_frame.is_some() && slice.tables_len == 376));
    assert!(report(&slices.iter().map(|slice| slice.payload.as_slice()).collect::<Vec<_>>()).is_perfect());
}

#[test]
fn the_clock_can_be_left_out_wrap_and_jump() {
    let unclocked = generated(GeneratorConfig { pcr: false, ..config(300) }, 25);
    assert_eq!(slice(&unclocked).len(), 1, "all came at one moment");

    let wrapping = GeneratorConfig { first_pcr: Pcr::new(PCR_MODULUS - TICKS_PER_SECOND / 2), ..config(300) };
    let slices = slice(&generated(wrapping, 50));
    assert_eq!(durations(&slices), [200; 10]);
    assert!(slices.iter().all(|slice| !slice.discontinuity));

    for announced in [false, true] {
        let mut generator = Generator::new(config(300));
        let mut stream = Vec::new();
        for frame in 0..50 {
            if frame == 25 {
                generator.jump(Pcr::new(7 * TICKS_PER_SECOND), announced);
            }
            generator.next_frame(&mut stream);
        }
        let slices = slice(&stream);
        let marked: Vec<usize> = (0..slices.len()).filter(|i| slices[*i].discontinuity).collect();
        assert_eq!(marked, [5]);
        assert_eq!(durations(&slices), [200; 10]);
        assert!(report(&[&stream]).is_perfect(), "stamps do not jump");
    }
}

#[test]
fn loss_repetition_and_disorder_are_told_apart() {
    let stream = generated(config(1_000), 10);
    let packet = |i: usize| &stream[i * 188..(i + 1) * 188];
    let run = |order: &[usize]| report(&order.iter().map(|i| packet(*i)).collect::<Vec<_>>());
    // Tables of the first frame are packets 0 and 1.
    let right = |right| CheckReport { right, ..CheckReport::default() };
    assert_eq!(run(&[2, 3, 4, 5]), right(4));
    assert_eq!(run(&[2, 3, 6, 7]), CheckReport { lost: 2, gaps: 1, ..right(4) });
    assert_eq!(run(&[2, 3, 3, 4]), CheckReport { duplicated: 1, ..right(3) });
    assert_eq!(run(&[2, 4, 3, 5]), CheckReport { reordered: 1, gaps: 1, ..right(3) });
    assert_eq!(run(&[2, 5, 3, 3, 6]), CheckReport { lost: 1, gaps: 1, reordered: 1, duplicated: 1, ..right(3) });
    assert_eq!(run(&[2, 3, 0, 1, 4]), CheckReport { table_copies: 2, ..right(3) });
}

#[test]
fn another_streams_packets_are_foreign() {
    let mut check = PayloadCheck::new(TAG + 1);
    check.push(&generated(config(200), 1));
    assert_eq!(check.report().right, 0);
    assert!(check.report().foreign > 10 && !check.report().is_unharmed());
}

#[test]
fn what_was_not_generated_has_no_stamp() {
    assert_eq!(Stamp::read(&picture().bytes()), Err(StampFault::Missing));
    assert_eq!(Stamp::read(&ts(NULL).payload(&[0; 184]).bytes()), Err(StampFault::Checksum));
}

proptest! {
    #[test]
    fn any_wrong_bit_anywhere_is_seen(place in 0usize..188 * 40, bit in 0u8..8) {
        let mut stream = generated(config(500), 10);
        stream[place] ^= 1 << bit;
        let mut check = PayloadCheck::new(TAG);
        check.push(&stream);
        prop_assert_eq!(check.report().wrong, 1);
    }

    #[test]
    fn the_report_does_not_depend_on_fragmentation(cuts in prop::collection::vec(1usize..1_000, 1..50)) {
        let stream = generated(config(500), 10);
        let mut check = PayloadCheck::new(TAG);
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at(rest.len().min(*cut));
            check.push(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(check.report(), report(&[&stream]));
    }

    #[test]
    fn checking_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut check = PayloadCheck::new(TAG);
        check.push(&bytes);
        prop_assert_eq!(check.report().wrong, bytes.len() as u64 / 188);
    }
}
