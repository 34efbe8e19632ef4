//! The wire over any bytes and any message: decoding never panics and allocates within its limits, messages come
//! back, the buffer map does what a list of flags does.

mod counting_alloc;
mod wire_kit;

use cache_core::limits::{CONTROL_BODY_BYTES_MAX, DATAGRAM_BYTES_MAX, WINDOW_CHUNKS};
use cache_core::sign::ClusterKey;
use cache_core::units::ChunkSeq;
use cache_core::wire::datagram::{Cookie, DATAGRAM_HEAD_BYTES};
use cache_core::wire::frame::{FRAME_HEAD_BYTES, FrameHead, KIND_CHUNK, chunk_prefix};
use cache_core::wire::{BufferMap, CHUNK_HEADER_BYTES, ChunkHeader, Datagram, DecodeError, Frame, VERSION};
use counting_alloc::{Counting, most_held};
use proptest::prelude::*;
use proptest::sample::Index;
use wire_kit::{Draw, Fill, any_frames, any_header, any_messages};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that reading one message may hold: the longest lists of `limits` as they stand in memory (40 members of
/// 40 bytes, 32 partners, 24 streams), and a blob or text.
const DECODE_BYTES_MAX: usize = 4096;

fn cluster() -> ClusterKey {
    ClusterKey::derive("test")
}

/// A datagram of any kind and body, its tag right where it needs one.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![b'W', b'C', VERSION, kind];
    packet.extend([0; DATAGRAM_HEAD_BYTES - 4]);
    packet.extend(body);
    if kind >= 128 {
        let tag = cluster().tag(&packet);
        packet.extend(tag);
    }
    packet
}

fn body_of(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes.split_off(FRAME_HEAD_BYTES)
}

/// Reads `body` as a frame and as a datagram of `kind`; what can be read is written and read back the same.
fn read_anything(kind: u8, body: &[u8]) {
    let packet = packet(kind, body);
    let (most, (frame, datagram)) = most_held(|| (Frame::decode(kind, body), Datagram::decode(&packet, &cluster())));
    assert!(most <= DECODE_BYTES_MAX, "{most} bytes were held");
    if let Ok(frame) = frame {
        assert_eq!(Frame::decode(kind, &body_of(&frame)), Ok(frame));
    }
    if let Ok(datagram) = datagram {
        let again = datagram.encode(&cluster()).expect("it came in a datagram");
        assert_eq!(Datagram::decode(&again, &cluster()), Ok(datagram));
    }
}

/// One byte changed, some cut off or some put in.
fn harm(bytes: &mut Vec<u8>, how: u8, place: Index, value: u8) {
    if bytes.is_empty() {
        return bytes.push(value);
    }
    let place = place.index(bytes.len());
    match how % 4 {
        0 => bytes[place] ^= value,
        1 => bytes[place] = 0xFF,
        2 => bytes.truncate(place),
        _ => bytes.insert(place, value),
    }
}

proptest! {
    #[test]
    fn decoding_any_bytes_never_panics(kind: u8, body in prop::collection::vec(any::<u8>(), 0..1_300)) {
        read_anything(kind, &body);
        read_anything(kind % 32, &body);
        let (most, _) = most_held(|| ChunkHeader::decode(&body));
        prop_assert_eq!(most, 0);
        if let Some(head) = body.first_chunk() {
            let (most, _) = most_held(|| FrameHead::decode(head));
            prop_assert_eq!(most, 0);
        }
        let _refused = Datagram::decode(&body, &cluster());
    }

    #[test]
    fn decoding_harmed_messages_never_panics(
        seed: u64,
        which: Index,
        harms in prop::collection::vec((any::<u8>(), any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut draw = Draw::new(seed, Fill::Any);
        let frames = any_frames(&mut draw);
        let frame = &frames[which.index(frames.len())];
        let mut body = body_of(frame);
        harms.iter().for_each(|(how, place, value)| harm(&mut body, *how, *place, *value));
        read_anything(frame.kind(), &body);

        let messages = any_messages(&mut draw);
        let message = messages[which.index(messages.len())].clone();
        let (kind, sealed) = (message.kind(), message.is_sealed());
        let Some(mut body) = (Datagram { exchange: 1, cookie: Cookie::default(), message }).encode(&cluster()) else {
            return Ok(());
        };
        body.truncate(body.len() - if sealed { 16 } else { 0 });
        body.drain(..DATAGRAM_HEAD_BYTES);
        harms.iter().for_each(|(how, place, value)| harm(&mut body, *how, *place, *value));
        read_anything(kind, &body);
    }

    #[test]
    fn frames_come_back_and_only_whole(seed: u64, cut: Index) {
        for frame in any_frames(&mut Draw::new(seed, Fill::Any)) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            let (head, body) = bytes.split_first_chunk().expect("a frame has a head");
            prop_assert_eq!(FrameHead::decode(head), Ok(FrameHead { kind: frame.kind(), body_len: body.len() }));
            if !body.is_empty() {
                prop_assert!(Frame::decode(frame.kind(), &body[..cut.index(body.len())]).is_err());
            }
            let longer = [body, &[0]].concat();
            prop_assert_eq!(Frame::decode(frame.kind(), &longer), Err(DecodeError::Trailing(1)));
            prop_assert_eq!(Frame::decode(frame.kind(), body), Ok(frame));
        }
    }

    #[test]
    fn datagrams_come_back_and_do_not_when_a_sealed_one_is_touched(seed: u64, exchange: u32, place: Index, bit in 0u8..8) {
        for message in any_messages(&mut Draw::new(seed, Fill::Any)) {
            let datagram = Datagram { exchange, cookie: Cookie([seed as u8; 16]), message };
            let Some(mut packet) = datagram.encode(&cluster()) else { continue };
            prop_assert!(packet.len() <= DATAGRAM_BYTES_MAX);
            let back = Datagram::decode(&packet, &cluster());
            prop_assert_eq!(back.as_ref(), Ok(&datagram));
            if datagram.message.is_sealed() {
                prop_assert!(Datagram::decode(&packet, &ClusterKey::derive("another")).is_err());
                let place = place.index(packet.len());
                packet[place] ^= 1 << bit;
                // With its kind changed to one that is not sealed, it is another message or none.
                let touched = Datagram::decode(&packet, &cluster());
                prop_assert!(touched.is_err() || place == 3);
            }
        }
    }

    #[test]
    fn chunk_headers_come_back_to_the_bit(seed: u64, place: Index, bit in 0u8..8) {
        let header = any_header(&mut Draw::new(seed, Fill::Any));
        let encoded = header.encode();
        prop_assert_eq!(ChunkHeader::decode(&encoded), Ok(header));
        prop_assert_eq!(&header.signed_bytes()[..], &encoded[..80]);
        let prefix = chunk_prefix(&header);
        let (head, rest) = prefix.split_first_chunk().expect("a frame has a head");
        let body_len = CHUNK_HEADER_BYTES + header.payload_len as usize;
        prop_assert_eq!(FrameHead::decode(head), Ok(FrameHead { kind: KIND_CHUNK, body_len }));
        prop_assert_eq!(rest, &encoded[..]);
        // Every bit counts: what a changed header is read as is written as those bytes again.
        let mut touched = encoded;
        touched[place.index(CHUNK_HEADER_BYTES)] ^= 1 << bit;
        if let Ok(read) = ChunkHeader::decode(&touched) {
            prop_assert_ne!(read, header);
            prop_assert_eq!(read.encode(), touched);
        }
    }

    #[test]
    fn wire16_finds_the_nearest_sequence(reference in 0u64..1 << 48, distance in -32_768i64..32_768) {
        if let Some(seq) = reference.checked_add_signed(distance) {
            let seq = ChunkSeq::new(seq);
            prop_assert_eq!(ChunkSeq::from_wire16(seq.wire16(), ChunkSeq::new(reference)), seq);
        }
    }

    #[test]
    fn any_wire16_is_read_as_itself(wire: u16, reference: u64) {
        prop_assert_eq!(ChunkSeq::from_wire16(wire, ChunkSeq::new(reference)).wire16(), wire);
    }
}

#[test]
fn the_largest_frames_fit_their_limit() {
    for frame in any_frames(&mut Draw::new(1, Fill::Full)) {
        assert!(body_of(&frame).len() <= CONTROL_BODY_BYTES_MAX, "{}", frame.name());
    }
}

#[test]
fn of_the_datagrams_only_an_answer_with_every_list_full_is_too_long() {
    let mut draw = Draw::new(1, Fill::Full);
    let too_long: Vec<&str> = any_messages(&mut draw)
        .into_iter()
        .filter(|message| {
            let datagram = Datagram { exchange: 0, cookie: Cookie::default(), message: message.clone() };
            datagram.encode(&cluster()).is_none()
        })
        .map(|message| message.name())
        .collect();
    assert_eq!(too_long, ["Joined"], "the index shortens it");
}

/// What is done to a buffer map.
#[derive(Clone, Debug)]
enum Step {
    Set(i64, bool),
    Slide(i64),
    Wire(i64),
}

fn map_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (-20i64..280, any::<bool>()).prop_map(|(at, held)| Step::Set(at, held)),
        3 => prop_oneof![4 => -3i64..10, 2 => -300i64..300, 1 => -100_000i64..100_000].prop_map(Step::Slide),
        1 => (-32_000i64..32_000).prop_map(Step::Wire),
    ];
    prop::collection::vec(step, 1..120)
}

/// The same as a list of flags.
struct Model {
    base: u64,
    held: Vec<bool>,
}

impl Model {
    fn at(&mut self, seq: u64) -> Option<&mut bool> {
        self.held.get_mut(usize::try_from(seq.checked_sub(self.base)?).ok()?)
    }

    fn slide_to(&mut self, base: u64) {
        let old = std::mem::replace(&mut self.held, vec![false; WINDOW_CHUNKS as usize]);
        let old_base = std::mem::replace(&mut self.base, base);
        for (slot, held) in old.into_iter().enumerate() {
            if let Some(flag) = self.at(old_base + slot as u64) {
                *flag = held;
            }
        }
    }

    fn seqs(&self) -> Vec<ChunkSeq> {
        let held = (0..).zip(&self.held).filter(|(_, held)| **held);
        held.map(|(slot, _)| ChunkSeq::new(self.base + slot)).collect()
    }
}

proptest! {
    #[test]
    fn a_buffer_map_is_a_list_of_flags(base in prop_oneof![0u64..400, 65_000u64..66_000, 0u64..1 << 48], steps in map_steps()) {
        let mut map = BufferMap::new(ChunkSeq::new(base));
        let mut model = Model { base, held: vec![false; WINDOW_CHUNKS as usize] };
        for step in steps {
            match step {
                Step::Set(at, held) => {
                    let seq = model.base.saturating_add_signed(at);
                    let inside = model.at(seq).map(|flag| *flag = held).is_some();
                    prop_assert_eq!(map.set(ChunkSeq::new(seq), held), inside);
                    prop_assert_eq!(map.holds(ChunkSeq::new(seq)), inside && held);
                }
                Step::Slide(by) => {
                    let base = model.base.saturating_add_signed(by);
                    map.slide_to(ChunkSeq::new(base));
                    model.slide_to(base);
                }
                Step::Wire(distance) => {
                    let reference = ChunkSeq::new(model.base.saturating_add_signed(distance));
                    prop_assert_eq!(BufferMap::from_wire(&map.to_wire(), reference), map);
                }
            }
            let seqs = model.seqs();
            prop_assert_eq!(map.base(), ChunkSeq::new(model.base));
            prop_assert_eq!(map.end(), ChunkSeq::new(model.base + WINDOW_CHUNKS));
            prop_assert_eq!(map.count(), seqs.len());
            for from in [model.base.saturating_sub(70), model.base.saturating_sub(9), model.base, model.base + 77, model.base + 250] {
                let bits = (0..64).fold(0, |bits, i| bits | u64::from(map.holds(ChunkSeq::new(from + i))) << i);
                prop_assert_eq!(map.held_from(ChunkSeq::new(from)), bits);
            }
            prop_assert_eq!(map.newest(), seqs.last().copied());
            prop_assert_eq!(map.leading(), model.held.iter().take_while(|held| **held).count());
            prop_assert_eq!(map.iter().collect::<Vec<_>>(), seqs);
        }
    }
}
