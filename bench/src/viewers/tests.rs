//! Viewers without sockets: what they say, what they find wrong.

use std::cell::RefCell;
use std::rc::Rc;

use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::exchange::{Skipped, StreamInfo, Unavailable};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{
    CHUNK_PREFIX_BYTES, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, RefusalReason, StreamName,
};

use super::layout::Layout;
use super::library::Library;
use super::native::{NativeViewer, Wants};
use super::plan::{Plan, Schedule, Shares, Verify, Way};
use super::sink::Sink;
use super::{Appetite, Discarded};
use crate::measure::{Account, Figures, Measured, Trouble};
use crate::options::Arrivals;

const EPOCH: Epoch = Epoch(3);

fn name() -> StreamName {
    StreamName::new("live").expect("a good name")
}

fn stream() -> StreamId {
    stream_id(&name())
}

fn publisher() -> PublisherKey {
    PublisherKey::from_seed(&[7; 32])
}

/// What a native viewer's library needs to know.
pub(super) fn plan() -> Plan {
    Plan {
        server: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
        host: "cache".to_owned(),
        path: "/live/{stream}.ts".to_owned(),
        tables: true,
        names: vec!["live".to_owned()],
        way: Way::Http,
        verify: Verify::All,
        spin: false,
        keys: vec![(EPOCH.0, publisher().public())],
        generated: false,
        kbps: 2_000,
        times: None,
        joins: Schedule { first_us: 0, per_second: 100, arrivals: Arrivals::Even },
        shares: Shares::default(),
        hold_us: None,
        churn: 0.0,
        follow: false,
        chunks: 0,
    }
}

pub(super) fn library_of(plan: &Plan) -> Library {
    let layout = Rc::new(RefCell::new(Layout::new(plan.kbps, plan.tables)));
    Library::new(plan, 0, &name(), None, layout)
}

fn library() -> Library {
    library_of(&plan())
}

/// A chunk's frame, with this payload.
fn chunk(seq: u64, payload: &[u8]) -> Vec<u8> {
    chunk_of(EPOCH, seq, payload)
}

fn chunk_of(epoch: Epoch, seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut header = ChunkHeader {
        stream: stream(),
        epoch,
        seq: ChunkSeq::new(seq),
        published: WallClock::from_micros(1_000 * seq),
        payload_len: payload.len() as u32,
        tables_len: 0,
        duration_ms: 200,
        key_frame: None,
        discontinuity: false,
        end: false,
        hash: [0; 32],
        signature: [0; 64],
    };
    publisher().sign_chunk(&mut header, payload);
    [&chunk_prefix(&header)[..], payload].concat()
}

fn frame(frame: impl Into<Frame>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.into().encode(&mut bytes);
    bytes
}

fn info(head: u64) -> Vec<u8> {
    frame(StreamInfo {
        stream: stream(),
        epoch: EPOCH,
        oldest: ChunkSeq::FIRST,
        head: ChunkSeq::new(head),
        head_published: WallClock::from_micros(0),
        begin: ChunkSeq::FIRST,
        spare_permille: 500,
    })
}

/// A viewer with its account.
struct Bench {
    viewer: NativeViewer,
    account: Account,
    figures: Figures,
    said: Vec<u8>,
}

impl Bench {
    fn new(wants: Wants, verify: bool) -> Bench {
        let mut said = Vec::new();
        let viewer = NativeViewer::new(&name(), wants, verify, &mut said);
        Bench { viewer, account: Account::default(), figures: Figures::new(), said }
    }

    fn feed(&mut self, library: &mut Library, bytes: &[u8]) -> Result<(), Trouble> {
        let span = Some(Measured { start_us: 0, end_us: u64::MAX });
        let mut sink = Sink { account: &mut self.account, figures: &mut self.figures, span };
        self.viewer.feed(bytes, library, &mut sink, &mut self.said)
    }

    /// Feeds as a socket does that holds `bytes`: what is to be discarded is not seen by the viewer.
    fn draw(&mut self, library: &mut Library, mut bytes: &[u8]) -> Result<(), Trouble> {
        let span = Some(Measured { start_us: 0, end_us: u64::MAX });
        while !bytes.is_empty() {
            let mut sink = Sink { account: &mut self.account, figures: &mut self.figures, span };
            bytes = match self.viewer.wants() {
                Appetite::Read(len) => {
                    let (some, rest) = bytes.split_at(len.min(bytes.len()));
                    self.viewer.feed(some, library, &mut sink, &mut self.said)?;
                    rest
                }
                Appetite::Discard(len) => {
                    let len = len.min(bytes.len());
                    let whole = self.viewer.discarded(len, library, &mut sink, &mut self.said)?;
                    assert_eq!(whole == Discarded::Whole, matches!(self.viewer.wants(), Appetite::Read(_)));
                    &bytes[len..]
                }
            };
        }
        Ok(())
    }

    /// What was said since the last look, as frames.
    fn said(&mut self) -> Vec<Frame> {
        let (mut rest, mut frames) = (self.said.as_slice(), Vec::new());
        while let Some((head, body)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let head = FrameHead::decode(head).expect("a good head");
            let (body, left) = body.split_at(head.body_len);
            frames.push(Frame::decode(head.kind, body).expect("a good body"));
            rest = left;
        }
        self.said.clear();
        frames
    }

    /// The chunks asked for since the last look.
    fn asked(&mut self) -> Vec<u64> {
        let mut asked = Vec::new();
        for said in self.said() {
            let Frame::Request(request) = said else { continue };
            asked.extend(request.runs.iter().flat_map(|run| {
                let first = run.first.get();
                first..first + u64::from(run.count)
            }));
        }
        asked
    }
}

const PULL: Wants = Wants::Pull { ahead: 2 };

#[test]
fn a_pull_viewer_keeps_requests_waiting_at_the_cache() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, true));
    bench.feed(&mut library, &info(40)).expect("good");
    assert_eq!(bench.asked(), [40, 41, 42]);
    bench.feed(&mut library, &chunk(40, b"forty")).expect("good");
    assert_eq!(bench.asked(), [43]);
    let gone = Unavailable { stream: stream(), reason: RefusalReason::Gone, first: ChunkSeq::new(41), count: 2 };
    bench.feed(&mut library, &frame(gone)).expect("good");
    assert_eq!(bench.asked(), [44, 45]);
    assert_eq!((bench.account.chunks, bench.account.skipped), (1, 2));
}

#[test]
fn the_last_chunk_of_an_earlier_publisher_is_neither_due_nor_wrong() {
    for (wants, asked) in [(PULL, vec![43]), (Wants::Push, vec![])] {
        let (mut library, mut bench) = (library(), Bench::new(wants, true));
        bench.feed(&mut library, &info(40)).expect("good");
        bench.said.clear();
        bench.feed(&mut library, &chunk_of(Epoch(EPOCH.0 - 1), 40, b"another's")).expect("good");
        assert_eq!((bench.account.chunks, bench.account.wrong), (0, 0));
        assert_eq!(bench.asked(), asked);
        bench.feed(&mut library, &chunk(41, b"ours")).expect("good");
        bench.feed(&mut library, &chunk_of(Epoch(EPOCH.0 + 1), 42, b"a stranger's")).expect("good");
        assert_eq!((bench.account.chunks, bench.account.wrong), (2, 1));
    }
}

#[test]
fn a_push_viewer_subscribes_and_counts_what_is_left_out() {
    let (mut library, mut bench) = (library(), Bench::new(Wants::Push, true));
    bench.said();
    bench.feed(&mut library, &info(40)).expect("good");
    assert!(matches!(&bench.said()[..], [Frame::Subscribe(to)] if to.from.get() == 40));
    bench.feed(&mut library, &chunk(40, b"forty")).expect("good");
    bench.feed(&mut library, &frame(Skipped { stream: stream(), next: ChunkSeq::new(46) })).expect("good");
    bench.feed(&mut library, &chunk(46, b"forty-six")).expect("good");
    assert_eq!((bench.account.chunks, bench.account.skipped), (2, 5));
}

#[test]
fn the_first_arrival_is_verified_in_full_and_the_others_by_comparison() {
    let mut library = library();
    let (mut first, mut second) = (Bench::new(PULL, true), Bench::new(PULL, true));
    let bytes = [chunk(40, &[1; 5_000]), chunk(41, &[]), chunk(42, &[2; 300])].concat();
    first.feed(&mut library, &bytes).expect("good");
    // However the bytes are cut.
    for piece in bytes.chunks(7) {
        second.feed(&mut library, piece).expect("good");
    }
    assert_eq!((library.checked.by_signature, library.checked.by_comparison), (3, 3));
    for bench in [first, second] {
        assert_eq!((bench.account.chunks, bench.account.wrong, bench.figures.lateness.count()), (3, 0, 3));
        assert_eq!(bench.account.bytes, 5_300 + 3 * 144);
    }
}

#[test]
fn every_wrong_byte_is_found_whether_first_or_not() {
    let good = chunk(40, &[1; 1_000]);
    // A byte of the hash, of the signature, and three of the payload.
    let places = [8 + 60, 8 + 100, CHUNK_PREFIX_BYTES, CHUNK_PREFIX_BYTES + 500, good.len() - 1];
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1;
        for known in [false, true] {
            let (mut library, mut bench) = (library(), Bench::new(PULL, true));
            if known {
                Bench::new(PULL, true).feed(&mut library, &good).expect("good");
            }
            bench.feed(&mut library, &bad).expect("framing is not lost");
            assert_eq!(bench.account.wrong, 1, "byte {place}, a right one known: {known}");
            assert!(!bench.account.got.contains(40));
        }
    }
}

#[test]
fn a_second_chunk_under_the_same_number_is_wrong_though_well_signed() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, true));
    bench.feed(&mut library, &chunk(40, b"one")).expect("good");
    bench.feed(&mut library, &chunk(40, b"two")).expect("good");
    assert_eq!((bench.account.chunks, bench.account.wrong), (2, 1));
}

#[test]
fn what_is_not_verified_is_said_to_be_so() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, false));
    let mut bytes = chunk(40, &[1; 1_000]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    bench.feed(&mut library, &bytes).expect("good");
    assert_eq!((bench.account.wrong, library.checked.not, library.checked.by_signature), (0, 1, 0));
}

#[test]
fn a_discarding_viewer_reads_heads_and_has_payloads_thrown_away() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, false));
    bench.said();
    let bytes = [info(40), chunk(40, &[1; 5_000]), chunk(41, &[]), chunk(42, &[2; 300])].concat();
    bench.draw(&mut library, &bytes).expect("good");
    assert_eq!(bench.asked(), [40, 41, 42, 43, 44, 45]);
    assert_eq!((bench.account.chunks, bench.account.bytes, bench.figures.lateness.count()), (3, 5_300 + 3 * 144, 3));
    // The answer to Open and the first chunk's head are read together, with some of the payload.
    let (read, discarded) = (library.checked.bytes_read, library.checked.bytes_discarded);
    assert_eq!(read + discarded, bytes.len() as u64);
    assert!(discarded > 5_000, "{discarded} discarded, {read} read");
}

#[test]
fn a_discarding_viewer_finds_another_streams_chunk() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, false));
    let mut other = chunk(40, &[1; 1_000]);
    other[8] ^= 1;
    bench.draw(&mut library, &other).expect("framing is not lost");
    assert_eq!((bench.account.wrong, bench.account.joined_us), (1, None));
}

#[test]
fn a_refusal_and_lost_framing_end_the_viewer() {
    let (mut library, mut bench) = (library(), Bench::new(PULL, true));
    let unknown =
        Unavailable { stream: stream(), reason: RefusalReason::UnknownStream, first: ChunkSeq::FIRST, count: 0 };
    assert!(matches!(bench.feed(&mut library, &frame(unknown)), Err(Trouble::Refused(_))));
    let mut bench = Bench::new(PULL, true);
    assert!(matches!(bench.feed(&mut library, b"HTTP/1.1 400 Bad Request\r\n"), Err(Trouble::Protocol(_))));
}
