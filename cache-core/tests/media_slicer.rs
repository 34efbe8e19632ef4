//! The slicer, behaviour by behaviour, over streams drawn packet by packet.

mod media_kit;

use cache_core::media::packet::{Packet, Pid};
use cache_core::media::pcr::{PCR_MODULUS, Pcr, TICKS_PER_MS};
use cache_core::media::{NotTransportStream, Slicer, SlicerConfig, TableMemory};
use cache_core::outbox::Outbox;
use cache_core::time::{Span, WallClock};
use media_kit::*;

/// Tables, then a picture with its PCR every `step_ms` up to `end_ms`, a key frame every `key_every`.
fn stream(step_ms: u64, end_ms: u64, key_every: u64) -> Vec<Ts> {
    let mut packets = tables();
    for (i, ms) in (0..end_ms).step_by(step_ms as usize).enumerate() {
        let frame = if (i as u64).is_multiple_of(key_every) { idr() } else { picture() };
        packets.extend([frame.pcr_ms(1_000 + ms), ts(VIDEO).payload(&[7; 184]), ts(AUDIO).payload(&[8; 184])]);
    }
    packets
}

#[test]
fn a_chunk_is_two_hundred_milliseconds_of_the_streams_clock() {
    let slices = slice(&bytes(&stream(40, 1_000, 25)));
    assert_eq!(durations(&slices), [200; 5]);
    assert_eq!(packet_counts(&slices), [2 + 15, 15, 15, 15, 15]);
}

#[test]
fn the_grid_does_not_move_with_coarse_pcrs() {
    // A chunk begins with the first PCR on or behind its line: at 0, 210, 420, 630, 840 ms.
    let slices = slice(&bytes(&stream(70, 1_050, 100)));
    assert_eq!(durations(&slices), [200; 5]);
    assert_eq!(packet_counts(&slices), [2 + 9, 9, 9, 9, 9]);
}

#[test]
fn lines_between_far_pcrs_fall_on_packets_between_them() {
    let mut packets = vec![ts(VIDEO).pcr_ms(0)];
    packets.extend((0..9).map(|i| ts(VIDEO).payload(&[i; 184])));
    packets.push(ts(VIDEO).pcr_ms(1_000));
    let slices = slice(&bytes(&packets));
    assert_eq!(durations(&slices)[..5], [200; 5]);
    assert_eq!(packet_counts(&slices), [2, 2, 2, 2, 2, 1]);
}

#[test]
fn a_chunk_is_never_empty_and_its_time_goes_to_the_next() {
    let packets = [ts(VIDEO).pcr_ms(0), ts(VIDEO).pcr_ms(600), ts(VIDEO).pcr_ms(640)];
    let slices = slice(&bytes(&packets));
    assert_eq!(packet_counts(&slices), [1, 2]);
    assert_eq!(durations(&slices), [600, 80], "600 ms, then two PCRs 40 ms apart and as much again");
}

#[test]
fn the_clock_goes_on_over_its_wrap() {
    let start = PCR_MODULUS - 300 * TICKS_PER_MS;
    let packets: Vec<Ts> =
        (0..15).map(|i| ts(VIDEO).pcr(Pcr::new(start + i * 40 * TICKS_PER_MS)).payload(&[1])).collect();
    let slices = slice(&bytes(&packets));
    assert_eq!(durations(&slices), [200, 200, 200]);
    assert!(slices.iter().all(|slice| !slice.discontinuity));
}

#[test]
fn a_jump_begins_a_new_grid_and_marks_the_chunk_behind_it() {
    for to_ms in [0, 3_000] {
        let at = |ms| ts(VIDEO).pcr_ms(ms);
        let slices = slice(&bytes(&[at(1_000), at(1_040), at(to_ms), at(to_ms + 100), at(to_ms + 200)]));
        assert_eq!(packet_counts(&slices), [2, 2, 1]);
        assert_eq!(durations(&slices)[..2], [80, 200], "what is known of the chunk before the jump, then a whole one");
        let marks: Vec<bool> = slices.iter().map(|slice| slice.discontinuity).collect();
        assert_eq!(marks, [false, true, false]);
    }
}

#[test]
fn an_announced_discontinuity_is_one_however_small_the_step() {
    let at = |ms| ts(VIDEO).pcr_ms(ms);
    let (slices, stats) = slice_with_stats(&bytes(&[
        at(0),
        at(40),
        ts(AUDIO).discontinuity().payload(&[1]),
        at(80).discontinuity(),
        at(120),
    ]));
    assert_eq!(packet_counts(&slices), [3, 2]);
    assert!(slices[1].discontinuity);
    assert_eq!(stats.clock_jumps, 1, "the mark on a PID without the clock is none of the clock's");
}

#[test]
fn a_resumed_upload_begins_with_a_discontinuity() {
    let mut slicer = Slicer::new(SlicerConfig { resumed: true });
    let mut out = Outbox::new();
    slicer.push(NOON, &bytes(&stream(40, 400, 5)), &mut out).expect("a transport stream");
    slicer.finish(NOON, &mut out).expect("a transport stream");
    let marks: Vec<bool> = out.drain().map(|slice| slice.discontinuity).collect();
    assert_eq!(marks, [true, false]);
}

#[test]
fn the_clock_may_have_its_own_pid_and_another_programs_does_not_count() {
    let mut packets = [pat(&[(1, PMT)]), pmt(CLOCK, &[(H264, VIDEO)], 0)].concat();
    for ms in (0..600).step_by(40) {
        packets.extend([ts(CLOCK).pcr_ms(ms), picture(), ts(Pid(0x99)).pcr_ms(90_000 - ms)]);
    }
    let slices = slice(&bytes(&packets));
    assert_eq!(durations(&slices), [200; 3]);
}

#[test]
fn the_pmts_clock_is_taken_once_it_is_seen() {
    // Before the PMT the first PCR leads; the PMT names another PID, whose clock is elsewhere.
    let mut packets = vec![ts(VIDEO).pcr_ms(0), ts(VIDEO).pcr_ms(40)];
    packets.extend(pat(&[(1, PMT)]));
    packets.extend(pmt(CLOCK, &[(H264, VIDEO)], 0));
    packets.push(ts(VIDEO).pcr_ms(80));
    for ms in [50_000, 50_100, 50_200] {
        packets.extend([ts(CLOCK).pcr_ms(ms), ts(VIDEO).pcr_ms(ms - 49_000)]);
    }
    let slices = slice(&bytes(&packets));
    assert_eq!(packet_counts(&slices), [5, 4, 2]);
    assert_eq!(slices.iter().filter(|slice| slice.discontinuity).count(), 1);
}

#[test]
fn without_a_clock_the_time_of_arrival_cuts() {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    let picture = bytes(&[picture()]);
    for i in 0..26 {
        slicer.push(NOON.after(Span::from_millis(40).times(i)), &picture, &mut out).expect("a transport stream");
    }
    slicer.finish(NOON.after(Span::from_secs(1)), &mut out).expect("a transport stream");
    let slices: Vec<_> = out.drain().collect();
    // The first three packets come out of the sync search at 80 ms.
    assert_eq!(durations(&slices)[..4], [200; 4]);
    assert_eq!(packet_counts(&slices), [7, 5, 5, 5, 4]);
    assert_eq!(slices[1].published, NOON.after(Span::from_millis(480)));
}

#[test]
fn a_clock_that_falls_silent_is_replaced_and_comes_back() {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    for ms in (0..6_000).step_by(40) {
        let clocked = !(1_000..4_000).contains(&ms);
        let packet = if clocked { picture().pcr_ms(ms) } else { picture() };
        slicer.push(NOON.after(Span::from_millis(ms)), &packet.bytes(), &mut out).expect("a transport stream");
    }
    slicer.finish(NOON.after(Span::from_secs(6)), &mut out).expect("a transport stream");
    let slices: Vec<_> = out.drain().collect();
    let total: u64 = slices.iter().map(|slice| u64::from(slice.duration_ms)).sum();
    assert!((5_800..=6_200).contains(&total), "{total} ms");
    assert!(slices.iter().filter(|slice| slice.duration_ms != 200).count() <= 3);
    assert_eq!(slices.iter().filter(|slice| slice.discontinuity).count(), 1);
}

#[test]
fn an_upload_that_was_held_up_keeps_its_clock() {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    let input = bytes(&stream(40, 2_000, 25));
    for (i, piece) in input.chunks(1_316).enumerate() {
        let late = if i > 10 { 5_000 } else { 0 };
        slicer.push(NOON.after(Span::from_millis(late)), piece, &mut out).expect("a transport stream");
    }
    slicer.finish(NOON, &mut out).expect("a transport stream");
    let durations: Vec<u16> = out.drain().map(|slice| slice.duration_ms).collect();
    assert_eq!(durations, [200; 10]);
}

#[test]
fn a_full_chunk_is_cut_early_and_its_parts_add_up() {
    let mut packets = tables();
    for ms in (0..600).step_by(40) {
        packets.push(picture().pcr_ms(ms));
        packets.extend((0..1_200).map(|_| ts(VIDEO).payload(&[1; 184])));
    }
    let (slices, stats) = slice_with_stats(&bytes(&packets));
    assert_eq!(stats.full_chunks, 3);
    assert!(slices.iter().all(|slice| slice.payload.len() <= 1 << 20));
    assert_eq!(durations(&slices), [160, 40, 160, 40, 160, 40]);
    assert_eq!(joined(&slices), bytes(&packets));
}

#[test]
fn tables_stand_in_front_of_key_frames_and_of_every_twenty_fifth_chunk() {
    let slices = slice(&bytes(&stream(40, 12_000, 150)));
    let with_tables: Vec<usize> =
        (0..slices.len()).filter(|i| slices[*i].tables_len as usize == bytes(&tables()).len()).collect();
    // Key frames at 0 s and 6 s (chunks 0 and 30).
    assert_eq!(with_tables, [0, 25, 30, 55]);
    assert!(slices[25].payload.starts_with(&bytes(&tables())));
    assert_eq!(slices[30].key_frame, Some(0));
    assert!(slices.iter().enumerate().all(|(i, slice)| slice.key_frame.is_some() == (i % 30 == 0)));
}

#[test]
fn the_first_key_frames_packet_is_marked() {
    let packets = [
        tables(),
        vec![ts(VIDEO).pcr_ms(0), picture(), ts(AUDIO).payload(&[1]), idr(), ts(VIDEO).payload(&[2; 184]), idr()],
    ]
    .concat();
    let slices = slice(&bytes(&packets));
    assert_eq!(key_packets(&slices), [Some(5)]);
}

#[test]
fn a_key_frame_whose_head_is_cut_off_by_the_line_is_still_marked() {
    // The picture begins in the first chunk; only the second one's bytes tell that it is an IDR picture.
    let mut parameters = vec![0, 0, 1, 9, 0x10, 0, 0, 1, 0x67];
    parameters.resize(160, 0x55);
    let packets = [
        tables(),
        vec![
            ts(CLOCK).pcr_ms(0),
            ts(VIDEO).pes(0xE0, &parameters),
            ts(CLOCK).pcr_ms(200),
            ts(VIDEO).counter(1).payload(&[0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, 0x88]),
            ts(CLOCK).pcr_ms(240),
        ],
    ]
    .concat();
    let slices = slice(&bytes(&packets));
    assert_eq!(key_packets(&slices), [Some(3), None]);
    assert!(slices[0].tables_len > 0);
}

#[test]
fn start_codes_may_lie_across_packets_and_pes_headers_too() {
    let mut head = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0, 200];
    head.resize(184, 0xFF);
    let mut rest = vec![0xFF; 200 + 9 - 184];
    rest.extend([0, 0, 1, 0x67, 0]);
    let packets = [
        tables(),
        vec![
            ts(VIDEO).sections(&head),
            ts(VIDEO).counter(1).payload(&rest),
            ts(AUDIO).payload(&[1]),
            ts(VIDEO).counter(2).payload(&[0]),
            ts(VIDEO).counter(3).payload(&[1]),
            ts(VIDEO).counter(4).payload(&[0x65]),
        ],
    ]
    .concat();
    assert_eq!(key_packets(&slice(&bytes(&packets))), [Some(2)]);
}

/// Whether a stream of `kind` with this one picture has a key frame.
fn is_key(kind: u8, packet: Ts) -> bool {
    let packets = [pat(&[(1, PMT)]), pmt(VIDEO, &[(AAC, AUDIO), (kind, VIDEO)], 0), vec![packet]].concat();
    key_packets(&slice(&bytes(&packets)))[0] == Some(2)
}

#[test]
fn h264_begins_at_idr_or_at_parameters_with_a_recovery_point() {
    let pes = |nals: &[&[u8]]| {
        ts(VIDEO).pes(0xE0, &nals.iter().flat_map(|nal| [&[0, 0, 1], *nal].concat()).collect::<Vec<u8>>())
    };
    assert!(is_key(H264, pes(&[&[0x65, 0x88]])));
    assert!(!is_key(H264, pes(&[&[0x41, 0x9A]])));
    assert!(is_key(H264, pes(&[&[0x67, 1], &[0x68, 1], &[0x06, 6, 1, 0x80], &[0x41, 0x9A]])));
    assert!(!is_key(H264, pes(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x9A]])));
    assert!(is_key(H264, pes(&[&[0x67, 1], &[0x68, 1], &[0x41, 0x9A]]).random_access()));
    assert!(!is_key(H264, pes(&[&[0x41, 0x9A], &[0x67, 1], &[0x65, 0x88]])), "judged by its first picture");
    assert!(!is_key(H264, pes(&[&[0x41, 0x9A]]).random_access()), "no decoder begins without parameters");
}

#[test]
fn hevc_begins_at_irap_pictures() {
    for (nal, key) in [(1, false), (9, false), (15, false), (16, true), (19, true), (20, true), (21, true)] {
        let head = [0, 0, 1, 32 << 1, 1, 0, 0, 1, 33 << 1, 1, 0, 0, 1, nal << 1, 1];
        assert_eq!(is_key(HEVC, ts(VIDEO).pes(0xE0, &head)), key, "type {nal}");
    }
}

#[test]
fn mpeg2_begins_at_a_sequence_header_with_an_intra_picture() {
    let picture = |kind: u8| [0, 0, 1, 0, 0, kind << 3, 0, 0];
    let with_sequence = |kind: u8| [&[0, 0, 1, 0xB3, 0x12, 0x34][..], &picture(kind)].concat();
    assert!(is_key(MPEG2, ts(VIDEO).pes(0xE0, &with_sequence(1))));
    assert!(!is_key(MPEG2, ts(VIDEO).pes(0xE0, &with_sequence(2))));
    assert!(!is_key(MPEG2, ts(VIDEO).pes(0xE0, &picture(1))));
}

#[test]
fn video_of_other_kinds_begins_at_its_random_access_mark() {
    const VVC: u8 = 0x33;
    assert!(is_key(VVC, ts(VIDEO).pes(0xE0, &[1, 2, 3]).random_access()));
    assert!(!is_key(VVC, ts(VIDEO).pes(0xE0, &[1, 2, 3])));
}

#[test]
fn without_video_every_start_of_sound_is_a_place_to_begin() {
    let mut packets = [pat(&[(1, PMT)]), pmt(AUDIO, &[(AAC, AUDIO)], 0)].concat();
    for ms in (0..600).step_by(100) {
        packets.extend([ts(AUDIO).pcr_ms(ms).payload(&[1]), ts(AUDIO).pes(0xC0, &[0xFF, 0xF1])]);
    }
    let slices = slice(&bytes(&packets));
    assert_eq!(key_packets(&slices), [Some(3), Some(1), Some(1)]);
    assert!(slices.iter().all(|slice| slice.tables_len == 376));
}

#[test]
fn without_tables_chunks_are_cut_and_marked_all_the_same() {
    let packets: Vec<Ts> = stream(40, 400, 5).into_iter().skip(2).collect();
    let slices = slice(&bytes(&packets));
    assert_eq!(durations(&slices), [200, 200]);
    assert!(slices.iter().all(|slice| slice.tables_len == 0));
    let marked = vec![idr().pcr_ms(0).random_access(), picture(), picture()];
    assert_eq!(key_packets(&slice(&bytes(&marked))), [Some(0)]);
}

#[test]
fn a_pmt_over_several_packets_is_copied_whole() {
    let long = pmt(VIDEO, &[(H264, VIDEO)], 900);
    assert_eq!(long.len(), 6);
    let mut packets = pat(&[(1, PMT)]);
    for (i, packet) in long.iter().enumerate() {
        packets.extend([packet.clone(), ts(AUDIO).counter(i as u8).payload(&[1])]);
    }
    packets.push(idr().pcr_ms(0));
    let slices = slice(&bytes(&packets));
    assert_eq!(slices[0].payload[..7 * 188], bytes(&[pat(&[(1, PMT)]), long].concat()));
    assert_eq!(slices[0].tables_len, 7 * 188);
}

#[test]
fn a_section_may_begin_behind_the_end_of_another() {
    // A section of 40 bytes whose last 10 stand in front of the PMT in its packet.
    let other = section(0x42, 7, &[3; 28]);
    let mut pmt_section = pmt(VIDEO, &[(H264, VIDEO)], 0)[0].bytes()[5..].to_vec();
    pmt_section.truncate(3 + usize::from(pmt_section[2]));
    let (head, tail) = other.split_at(30);
    let mut second = vec![tail.len() as u8];
    second.extend_from_slice(tail);
    second.extend_from_slice(&pmt_section);
    second.resize(184, 0xFF);
    let mut first = vec![0xFF; 184];
    first[0] = 183 - 30;
    first[184 - 30..].copy_from_slice(head);
    let mut memory = TableMemory::new();
    for packet in [pat(&[(1, PMT)]), vec![ts(PMT).sections(&first), ts(PMT).counter(1).sections(&second)]].concat() {
        memory.push(Packet(&packet.bytes()));
    }
    assert_eq!(memory.program().and_then(|program| program.pcr_pid), Some(VIDEO));
    assert_eq!(memory.packets().len(), 2 * 188);
}

#[test]
fn damaged_and_coming_tables_are_passed_over() {
    let good = bytes(&tables());
    let mut damaged = good.clone();
    damaged[188 + 5 + 9] ^= 1;
    let mut memory = TableMemory::new();
    memory.push_all(&damaged);
    assert!(memory.packets().is_empty(), "a PMT with a wrong CRC");
    memory.push_all(&good);
    assert_eq!(memory.packets(), good);
    memory.push_all(&damaged);
    assert_eq!(memory.packets(), good, "the good ones stay");
}

#[test]
fn a_new_pmt_moves_the_search_to_its_video() {
    let other = Pid(0x200);
    let mut packets = tables();
    packets.push(picture().pcr_ms(0));
    packets.push(ts(CLOCK).payload(&[1]));
    packets.extend(pmt(VIDEO, &[(HEVC, other)], 0).into_iter().map(|packet| packet.counter(1)));
    packets.push(idr());
    packets.push(ts(other).pes(0xE0, &[0, 0, 1, 19 << 1, 1]));
    let slices = slice(&bytes(&packets));
    assert_eq!(key_packets(&slices), [Some(6)]);
    assert_eq!(slices[0].payload[188..376], packets[4].bytes(), "with the PMT in force there");
}

#[test]
fn what_is_no_packet_is_stepped_over_and_counted() {
    let good = stream(40, 1_000, 25);
    let mut input = vec![0x47; 100];
    input.extend(bytes(&good[..20]));
    input.extend([1, 2, 3]);
    input.extend(bytes(&good[20..]));
    input.extend([0x47; 50]);
    let (slices, stats) = slice_with_stats(&input);
    assert_eq!(joined(&slices), bytes(&good));
    assert_eq!((stats.bytes_skipped, stats.sync_losses), (153, 1));
}

fn refusal(input: &[u8]) -> Option<NotTransportStream> {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    let pushed = input.chunks(1_000).find_map(|piece| slicer.push(NOON, piece, &mut out).err());
    let finished = slicer.finish(NOON, &mut out).err();
    assert!(out.is_empty());
    assert!(pushed.is_none() || pushed == finished, "a refusal is final");
    finished
}

#[test]
fn what_never_is_a_transport_stream_is_refused() {
    assert_eq!(refusal(&b"#EXTM3U\nGIVEN\n".repeat(10_000)), Some(NotTransportStream::NoSync(64 << 10)));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\r\n"), Some(NotTransportStream::NoSync(18)));
    assert_eq!(refusal(b""), None, "nothing is wrong with nothing");
    let g_near_the_end = [vec![b'a'; 20_000], vec![b'G'], vec![b'a'; 187]].concat();
    assert_eq!(refusal(&g_near_the_end), Some(NotTransportStream::NoSync(20_188)), "one sync byte is chance");
    assert_eq!(refusal(&g_near_the_end[19_990..]), Some(NotTransportStream::NoSync(198)));
    let late = [vec![0; 65_536], bytes(&stream(40, 1_000, 25))].concat();
    assert_eq!(refusal(&late), Some(NotTransportStream::NoSync(64 << 10)));
}

#[test]
fn packets_of_another_size_are_refused_by_name() {
    let wide = |front: &[u8], behind: &[u8]| {
        let packets = stream(40, 2_000, 25);
        packets.iter().flat_map(|packet| [front, &packet.bytes(), behind].concat()).collect::<Vec<u8>>()
    };
    assert_eq!(refusal(&wide(&[0, 1, 2, 3], &[])), Some(NotTransportStream::PacketSize(192)));
    assert_eq!(refusal(&wide(&[], &[9; 16])), Some(NotTransportStream::PacketSize(204)));
}

#[test]
fn one_packet_is_a_stream() {
    assert_eq!(packet_counts(&slice(&idr().bytes())), [1]);
}

#[test]
fn stamps_follow_the_streams_clock() {
    let mut slicer = Slicer::new(SlicerConfig::default());
    let mut out = Outbox::new();
    let jitter = |ms: u64| ms * 7 % 90;
    for ms in (0..4_000).step_by(40) {
        let now = NOON.after(Span::from_millis(1_000 + ms + jitter(ms)));
        slicer.push(now, &picture().pcr_ms(ms).bytes(), &mut out).expect("a transport stream");
    }
    let stamps: Vec<WallClock> = out.drain().map(|slice| slice.published).collect();
    let steps: Vec<u64> = stamps.windows(2).skip(8).map(|pair| pair[1].since(pair[0]).millis()).collect();
    assert!(steps.iter().all(|step| *step == 200), "{steps:?}");
}

#[test]
fn tables_strewn_over_too_many_packets_are_not_remembered() {
    let section: Vec<u8> = pmt(VIDEO, &[(H264, VIDEO)], 160)[0].bytes()[5..].to_vec();
    let strewn = |bytes: usize| {
        let mut packets = pat(&[(1, PMT)]);
        for (i, piece) in section.chunks(bytes).enumerate() {
            let packet = ts(PMT).counter(i as u8);
            packets.push(if i == 0 { packet.sections(&[&[0], piece].concat()) } else { packet.payload(piece) });
        }
        let mut memory = TableMemory::new();
        memory.push_all(&media_kit::bytes(&packets));
        memory.packets().len() / 188
    };
    assert_eq!((strewn(60), strewn(24), strewn(20)), (1 + 4, 1 + 8, 0));
}
