//! The slicer over any stream, in any pieces: what is true of every input.

mod counting_alloc;
mod media_kit;

use cache_core::limits::{CHUNK_PAYLOAD_BYTES_MAX, TABLES_BYTES_MAX, TS_PACKET_BYTES};
use cache_core::media::packet::{Packet, Pid};
use cache_core::media::{Content, GeneratorConfig, Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::time::Span;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::{CHUNK_HEADER_BYTES, ChunkHeader};
use counting_alloc::{Counting, most_held};
use media_kit::*;
use mpeg2ts::ts::{ReadTsPacket, TsPacketReader};
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One step of a stream, not always a sensible one.
#[derive(Clone, Debug)]
enum Step {
    Tables,
    /// A new PMT, with so many bytes of descriptors and another video PID.
    Pmt(usize, u16),
    /// A clock reading, so many milliseconds further (or, 0, an announced jump).
    Clock(u64),
    Key,
    Picture,
    Filler(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::Tables),
        1 => (0usize..900, 0x100u16..0x103).prop_map(|(filler, pid)| Step::Pmt(filler, pid)),
        8 => prop_oneof![9 => 1u64..300, 1 => 300u64..3_000, 1 => Just(0)].prop_map(Step::Clock),
        3 => Just(Step::Key),
        5 => Just(Step::Picture),
        5 => (1usize..30).prop_map(Step::Filler),
    ];
    prop::collection::vec(step, 3..80)
}

fn draw(steps: &[Step]) -> Vec<u8> {
    let mut clock_ms = 0;
    let draw = |step: &Step| match step {
        Step::Tables => tables(),
        Step::Pmt(filler, pid) => pmt(VIDEO, &[(H264, Pid(*pid))], *filler),
        Step::Clock(0) => vec![ts(VIDEO).pcr_ms(clock_ms).discontinuity()],
        Step::Clock(ms) => {
            clock_ms += ms;
            vec![ts(VIDEO).pcr_ms(clock_ms)]
        }
        Step::Key => vec![idr(), ts(VIDEO).payload(&[9; 184])],
        Step::Picture => vec![picture()],
        Step::Filler(count) => vec![ts(AUDIO).payload(&[5; 184]); *count],
    };
    bytes(&steps.iter().flat_map(draw).collect::<Vec<Ts>>())
}

/// `input` cut into pieces of the given lengths, over and over.
fn pieces<'a>(mut input: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if input.is_empty() {
            break;
        }
        let (piece, rest) = input.split_at(input.len().min(*length));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// What is true of every slice.
fn check_slice(slice: &Slice) {
    let tables = usize::from(slice.tables_len);
    assert!(slice.payload.len() <= CHUNK_PAYLOAD_BYTES_MAX && tables <= TABLES_BYTES_MAX);
    assert!(!slice.stream_bytes().is_empty());
    assert!(slice.payload.len().is_multiple_of(TS_PACKET_BYTES) && tables.is_multiple_of(TS_PACKET_BYTES));
    if let Some(at) = slice.key_frame {
        let packet = slice.stream_bytes()[at as usize..].first_chunk().expect("a key frame begins inside its chunk");
        assert!(Packet(packet).starts_unit());
    }
    let header = slice.header(StreamId(1), Epoch(2), ChunkSeq::new(3));
    let encoded: [u8; CHUNK_HEADER_BYTES] = header.encode();
    assert_eq!(ChunkHeader::decode(&encoded), Ok(header));
}

proptest! {
    #[test]
    fn slices_joined_are_the_input_and_do_not_depend_on_its_pieces(
        steps in steps(),
        lengths in prop::collection::vec(1usize..2_000, 1..20),
    ) {
        let input = draw(&steps);
        let (slices, stats) = slice_with_stats(&input);
        prop_assert_eq!(&joined(&slices), &input);
        slices.iter().for_each(check_slice);
        prop_assert_eq!(slice_pieces(pieces(&input, &lengths)), (slices, stats));
    }

    #[test]
    fn what_is_lost_with_sync_does_not_depend_on_the_pieces_either(
        steps in steps(),
        garbage in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..600)), 0..5),
        lengths in prop::collection::vec(1usize..2_000, 1..20),
    ) {
        // Sync is there at first, then anything may come anywhere.
        let mut input = [bytes(&tables()), bytes(&[picture(), picture()])].concat();
        let lead = input.len();
        input.extend(draw(&steps));
        for (place, bytes) in garbage {
            let place = lead + place.index(input.len() - lead);
            input.splice(place..place, bytes);
        }
        let (slices, stats) = slice_with_stats(&input);
        slices.iter().for_each(check_slice);
        prop_assert_eq!(joined(&slices).len() as u64 + stats.bytes_skipped, input.len() as u64);
        prop_assert_eq!(slice_pieces(pieces(&input, &lengths)), (slices, stats));
    }

    #[test]
    fn garbage_never_panics_and_is_refused_alike_however_it_is_cut(
        seed in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(0x47)], 1..3_000),
        repeat in 1usize..60,
        lengths in prop::collection::vec(1usize..5_000, 1..20),
    ) {
        let input = seed.repeat(repeat);
        let run = |pieces: &[&[u8]]| {
            let mut slicer = Slicer::new(SlicerConfig::default());
            let mut out = Outbox::new();
            let pushed = pieces.iter().find_map(|piece| slicer.push(NOON, piece, &mut out).err());
            let finished = slicer.finish(NOON, &mut out).err();
            (pushed.or(finished), out.drain().collect::<Vec<Slice>>())
        };
        prop_assert_eq!(run(&[&input]), run(&pieces(&input, &lengths)));
    }

    #[test]
    fn packets_full_of_garbage_never_panic(
        packets in prop::collection::vec(
            (prop::sample::select(vec![0u16, 0x1000, 0x100, 0x101]), any::<u8>(), any::<[u8; 32]>()),
            3..100,
        ),
    ) {
        let mut input = bytes(&tables());
        for (pid, control, noise) in packets {
            let mut packet = noise.repeat(6);
            packet.truncate(TS_PACKET_BYTES);
            packet[..4].copy_from_slice(&[0x47, (pid >> 8) as u8 | (control & 0xC0), pid as u8, control & 0x3F]);
            input.extend(packet);
        }
        let slices = slice(&input);
        slices.iter().for_each(check_slice);
        prop_assert_eq!(joined(&slices), input);
    }

    #[test]
    fn time_that_jumps_anywhere_never_panics(
        steps in steps(),
        nows in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let input = draw(&steps);
        let mut slicer = Slicer::new(SlicerConfig::default());
        let mut out = Outbox::new();
        for (piece, now) in pieces(&input, &[1_000]).iter().zip(nows.iter().cycle()) {
            let now = cache_core::time::WallClock::from_micros(*now);
            slicer.push(now, piece, &mut out).expect("a transport stream");
        }
        slicer.finish(NOON, &mut out).expect("a transport stream");
        let slices: Vec<Slice> = out.drain().collect();
        slices.iter().for_each(check_slice);
        prop_assert_eq!(joined(&slices), input);
    }
}

#[test]
fn packets_are_read_as_another_reader_reads_them() {
    for content in [Content::Sound, Content::Picture { fps: 25, key_frame_every: 10 }] {
        let stream = generated(GeneratorConfig { content, ..GeneratorConfig::default() }, 50);
        let mut oracle = TsPacketReader::new(stream.as_slice());
        for packet in stream.as_chunks().0.iter().map(Packet) {
            let theirs = oracle.read_ts_packet().expect("it can be read").expect("as many packets");
            assert_eq!(packet.pid().0, theirs.header.pid.as_u16());
            let adaptation = packet.adaptation();
            let field = theirs.adaptation_field;
            assert_eq!(
                adaptation.pcr.map(|pcr| pcr.ticks()),
                field.as_ref().and_then(|f| f.pcr).map(|pcr| pcr.as_u64())
            );
            assert_eq!(adaptation.random_access, field.is_some_and(|field| field.random_access_indicator));
        }
        assert!(oracle.read_ts_packet().expect("its end").is_none());
    }
}

/// A chunk being filled, the one before it and its copy with tables; a vector grows to twice of what it needs.
const HELD_BYTES_MAX: usize = 5 << 20;

/// Twenty seconds of arrivals of `piece`, 1 MiB every 100 ms, handed out as fast as they are cut.
fn most_held_by(piece: &[u8]) -> usize {
    let piece = piece.repeat((1 << 20) / piece.len() + 1);
    let (most, ()) = most_held(|| {
        let mut slicer = Slicer::new(SlicerConfig::default());
        let mut out = Outbox::new();
        for i in 0..200 {
            for (k, part) in piece.chunks(64 << 10).enumerate() {
                let now = NOON.after(Span::from_millis(100 * i + k as u64));
                let _refused = slicer.push(now, part, &mut out);
                out.drain();
            }
        }
    });
    most
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let endless_section = {
        let mut body = section(2, 1, &[0; 500]);
        body[1..3].copy_from_slice(&[0xBF, 0xFF]);
        let first = ts(PMT).sections(&[&[0], &body[..183]].concat());
        [
            bytes(&tables()),
            bytes(&[first]),
            bytes(&(1..16).map(|i| ts(PMT).counter(i).payload(&[1])).collect::<Vec<_>>()),
        ]
        .concat()
    };
    let inputs = [
        ("no clock, no tables", bytes(&[picture()])),
        ("null packets", bytes(&[ts(NULL).payload(&[0; 184])])),
        ("a key frame in every packet", bytes(&[idr()])),
        ("a picture that never ends", bytes(&[tables(), vec![ts(VIDEO).pes(0xE0, &[7; 100])]].concat())),
        ("tables only", bytes(&tables())),
        ("a section that never ends", endless_section),
        ("a clock that stands still", bytes(&[ts(VIDEO).pcr_ms(1).payload(&[1])])),
        ("noise", (0..10_007u32).map(|i| ((i * i) >> 7) as u8).collect()),
        ("sync bytes", vec![0x47; 1_000]),
    ];
    for (what, input) in inputs {
        let most = most_held_by(&input);
        assert!(most <= HELD_BYTES_MAX, "{what}: {most} bytes");
    }
}
