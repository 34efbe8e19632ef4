//! The pacer: when the bytes of a file are due.

mod media_kit;

use cache_core::media::Pacer;
use media_kit::*;

/// When each packet is due, in milliseconds, asked packet by packet behind a sync search of three.
fn due_ms(packets: &[Ts]) -> Vec<u64> {
    let mut pacer = Pacer::new();
    let ask = |packet: &Ts| pacer.due(&packet.bytes()).expect("a transport stream").millis();
    packets.iter().map(ask).skip(2).collect()
}

#[test]
fn packets_are_due_at_their_pcr() {
    let packets = [0, 40, 80, 120].map(|ms| ts(VIDEO).pcr_ms(5_000 + ms));
    assert_eq!(due_ms(&packets), [80, 120]);
}

#[test]
fn a_repeated_file_goes_on_in_step() {
    let packets = [0, 40, 80, 120, 0, 40, 80].map(|ms| ts(VIDEO).pcr_ms(5_000 + ms));
    assert_eq!(due_ms(&packets), [80, 120, 160, 200, 240]);
}

#[test]
fn only_one_clock_counts() {
    let packets =
        [(VIDEO, 0), (AUDIO, 900), (VIDEO, 40), (AUDIO, 100), (VIDEO, 80)].map(|(pid, ms)| ts(pid).pcr_ms(ms));
    assert_eq!(due_ms(&packets), [40, 40, 80]);
}

#[test]
fn a_stream_without_clock_is_due_at_once() {
    assert_eq!(due_ms(&[picture(), picture(), picture()]), [0]);
}

#[test]
fn half_a_packet_at_the_end_of_a_file_does_not_stay() {
    let file = bytes(&[0, 40, 80].map(|ms| ts(VIDEO).pcr_ms(ms)));
    let mut pacer = Pacer::new();
    pacer.due(&file).expect("a transport stream");
    pacer.due(&file[..100]).expect("a transport stream");
    pacer.rewind();
    assert_eq!(pacer.due(&file).expect("a transport stream").millis(), 80 + 40 + 80);
}
