//! A peer among nothing but liars: whatever servers, partners and caches say, in whatever order, it neither fails nor
//! answers one event by more than a bounded number of decisions, and its clock does not spin.
//!
//! A failing seed is replayed by `HOSTILE_SEED=n cargo test -p cache-core --test peer_hostile`.

mod wire_kit;

use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::prng::Prng;
use cache_core::proto::peer::{Input, LinkId, Output, Peer, PeerConfig, Tuning};
use cache_core::sign::{ChunkFault, stream_id};
use cache_core::time::{Span, Time};
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::datagram::Datagram;
use cache_core::wire::exchange::*;
use cache_core::wire::{ChunkHeader, Frame, Message, StreamName};
use wire_kit::{Any, Draw, Fill, any_frames, any_header, any_messages};

/// Decisions that one event may lead to: a window of refusals, chunks and announcements, told to each of some partners.
const DECISIONS_MAX: usize = 3_000;

struct World {
    rng: Prng,
    peer: Peer,
    now: Time,
    stream: StreamId,
    links: Vec<LinkId>,
    /// Numbers that mean something to the peer: about where it plays.
    near: u64,
    /// What was asked of whom, so that some of it can be answered.
    questions: Vec<(SocketAddr, Datagram)>,
    /// What an honest world would say next; it is said most of the time.
    due: Vec<Input>,
    wanted: Vec<(LinkId, ChunkSeq)>,
    sending: Vec<(LinkId, ChunkSeq)>,
    over: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let stream = StreamName::new("news").expect("a name");
        let config = PeerConfig {
            stream: stream.clone(),
            routes: vec![SocketAddr::from(([10, 0, 0, 1], 1))],
            listen: Some(SocketAddr::from(([0, 0, 0, 0], 5))),
            tuning: Tuning {
                upload_kbps: if seed.is_multiple_of(2) { 0 } else { 3_000 },
                push: seed.is_multiple_of(3),
                ..Tuning::default()
            },
        };
        let mut rng = Prng::new(seed);
        let near = [0, 1_000, 70_000, 1 << 40, u64::MAX - 300][rng.below(5)];
        World {
            peer: Peer::new(config, seed),
            rng,
            now: Time::from_millis(1),
            stream: stream_id(&stream),
            links: Vec::new(),
            near,
            questions: Vec::new(),
            due: Vec::new(),
            wanted: Vec::new(),
            sending: Vec::new(),
            over: false,
        }
    }

    fn put(&mut self, input: Input) {
        let mut out = Outbox::new();
        self.peer.handle(self.now, input, &mut out);
        assert!(out.as_slice().len() <= DECISIONS_MAX, "{} decisions", out.as_slice().len());
        for output in out.drain() {
            match output {
                Output::Datagram { to, datagram } => self.questions.push((to, datagram)),
                Output::Connect { link, .. } => {
                    self.links.push(link);
                    self.due.push(Input::Connected { link });
                }
                Output::Send { link, frame: Frame::Hello(_) } => {
                    let frame = Welcome::any(&mut Draw::new(self.rng.next_u64(), Fill::Any)).into();
                    self.due.push(Input::Frame { link, frame });
                }
                Output::Send { link, frame: Frame::Open(_) } => {
                    let begin = self.seq();
                    let mut info = StreamInfo::any(&mut Draw::new(self.rng.next_u64(), Fill::Any));
                    (info.stream, info.begin, info.head) = (self.stream, begin, begin.ahead(30));
                    self.due.push(Input::Frame { link, frame: info.into() });
                }
                Output::Send { link, frame: Frame::Request(request) } => {
                    self.wanted.extend(request.runs.iter().map(|run| (link, run.first)));
                }
                Output::Send { link, frame: Frame::Follow(_) } => {
                    let frame = Leads::any(&mut Draw::new(self.rng.next_u64(), Fill::Any)).into();
                    self.due.push(Input::Frame { link, frame });
                }
                Output::SendChunk { link, seq } => self.sending.push((link, seq)),
                Output::Close { link } => self.links.retain(|other| *other != link),
                Output::Finished { .. } => self.over = true,
                _ => {}
            }
        }
        let keep = |len: usize| len.saturating_sub(64);
        self.questions.drain(..keep(self.questions.len()));
        self.wanted.drain(..keep(self.wanted.len()));
        self.due.drain(..keep(self.due.len()));
    }

    fn seq(&mut self) -> ChunkSeq {
        ChunkSeq::new(self.near.saturating_add(self.rng.below(300) as u64))
    }

    fn header(&mut self, seq: ChunkSeq) -> ChunkHeader {
        let mut header = any_header(&mut Draw::new(self.rng.next_u64(), Fill::Any));
        (header.stream, header.seq, header.end) = (self.stream, seq, self.rng.below(200) == 0);
        header
    }

    /// A frame of any kind, made plausible.
    fn frame(&mut self) -> Frame {
        let mut frames = any_frames(&mut Draw::new(self.rng.next_u64(), Fill::Any));
        let mut frame = frames.swap_remove(self.rng.below(frames.len()));
        let (seq, stream) = (self.seq(), self.stream);
        match &mut frame {
            Frame::Hello(hello) => (hello.stream, hello.role) = (stream, Role::Peer),
            Frame::Request(request) => {
                request.stream = stream;
                if self.rng.below(2) == 0 {
                    let run = Run { first: seq, count: u16::MAX };
                    request.runs = cache_core::wire::List::first_of(vec![run; 32]);
                }
            }
            Frame::Unavailable(said) => (said.stream, said.first) = (stream, seq),
            Frame::StreamInfo(info) => info.stream = stream,
            Frame::Ended(ended) => (ended.stream, ended.last) = (stream, ended.last.max(seq)),
            Frame::Have(have) => {
                have.seqs = cache_core::wire::List::first_of((0..32).map(|n| seq.ahead(n)));
            }
            _ => {}
        }
        frame
    }

    fn answer(&mut self) {
        let Some((server, asked)) = self.questions.pop() else { return };
        let draw = &mut Draw::new(self.rng.next_u64(), Fill::Full);
        let right: Message = match asked.message {
            Message::RouteJoin(_) => cache_core::wire::route::RouteJoined::any(draw).into(),
            Message::Join(_) => cache_core::wire::index::Joined::any(draw).into(),
            Message::PeerHeartbeat(beat) if self.rng.below(4) > 0 => {
                cache_core::wire::index::PeerHeartbeatAck { stream: beat.stream, size: 500 }.into()
            }
            _ => any_messages(draw).swap_remove(self.rng.below(29)),
        };
        self.put(Input::Datagram { from: server, datagram: Datagram { message: right, ..asked } });
    }

    fn step(&mut self) {
        let link = self.links.get(self.rng.below(self.links.len().max(1))).copied();
        match (self.rng.below(20), link) {
            (0, _) => {
                let link = self.peer.new_link();
                self.links.push(link);
                let from = SocketAddr::from(([10, 0, 1, self.rng.next_u64() as u8], 9));
                self.put(Input::Accepted { link, from });
            }
            (1, Some(link)) => self.put(Input::Connected { link }),
            (2, Some(link)) if self.rng.below(4) == 0 => {
                self.links.retain(|other| *other != link);
                self.put(Input::Closed { link });
            }
            (11..=15, _) if !self.due.is_empty() => {
                let input = self.due.remove(0);
                self.put(input);
            }
            (3, Some(link)) => {
                let frame = self.frame();
                self.put(Input::Frame { link, frame });
            }
            (4..=7, _) if !self.wanted.is_empty() => {
                let (link, seq) = self.wanted.swap_remove(self.rng.below(self.wanted.len()));
                let header = self.header(seq);
                let checked = match self.rng.below(10) {
                    0 => Err(ChunkFault::UnknownEpoch(Epoch(3))),
                    1 => Err(ChunkFault::Signature(seq)),
                    _ => Ok(()),
                };
                self.put(Input::Chunk { link, header, checked });
            }
            (8, Some(link)) => {
                let seq = self.seq();
                let header = self.header(seq);
                self.put(Input::Chunk { link, header, checked: Ok(()) });
            }
            (9, _) if !self.sending.is_empty() => {
                let (link, seq) = self.sending.remove(0);
                self.put(Input::ChunkSent { link, seq });
            }
            (10, _) => self.answer(),
            _ => {
                let pause = Span::from_millis(if self.rng.below(100) == 0 { 5_000 } else { self.rng.below(60) as u64 });
                self.now = self.now.after(pause);
                self.put(Input::Tick);
                for _ in 0..1_000 {
                    if self.peer.next_timeout() > self.now {
                        return;
                    }
                    self.put(Input::Tick);
                }
                panic!("the clock spins at {:?}", self.now);
            }
        }
    }
}

#[test]
fn liars_neither_break_a_peer_nor_make_it_shout() {
    let one = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let mut played = 0;
    for seed in one.map_or(0..300, |seed| seed..seed + 1) {
        println!("HOSTILE_SEED={seed}");
        let mut world = World::new(seed);
        world.put(Input::Start);
        world.answer();
        world.answer();
        for _ in 0..2_000 {
            world.step();
            if world.over {
                break;
            }
        }
        played += world.peer.stats().chunks_verified;
    }
    assert!(one.is_some() || played > 1_000, "the liars were so wild that nothing was exchanged: {played}");
}
