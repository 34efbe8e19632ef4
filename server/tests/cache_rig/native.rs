//! A publisher over Weircast's protocol, made of a plain socket.

use std::io::{Read, Write};
use std::net::TcpStream;

use cache_core::peer_id::PeerId;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::codec::List;
use cache_core::wire::exchange::{Hello, Open, Publish, Request, Role, Run};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{Blob, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, RefusalReason, StreamName};

use super::Cache;

pub struct Publisher {
    pub socket: TcpStream,
    key: PublisherKey,
    stream: StreamId,
    epoch: Epoch,
}

impl Publisher {
    /// Says Hello and Publish; what the cache answers to that.
    pub fn open(cache: &Cache, name: &str, seed: u8, epoch: u64) -> (Publisher, Frame) {
        let name = StreamName::new(name).expect("a name");
        let (key, stream, epoch) = (PublisherKey::from_seed(&[seed; 32]), stream_id(&name), Epoch(epoch));
        let mut socket = cache.connect();
        let hello = Hello {
            role: Role::Publisher,
            peer: PeerId::NONE,
            stream,
            domain: DomainId(0),
            listen: None,
            ticket: Blob::default(),
        };
        send(&mut socket, hello.into());
        let Frame::Welcome(welcome) = receive(&mut socket) else { panic!("no Welcome") };
        let signature = key.sign_publish(stream, epoch, &welcome.nonce);
        send(&mut socket, Publish { stream: name, epoch, key: key.public(), signature }.into());
        let answer = receive(&mut socket);
        (Publisher { socket, key, stream, epoch }, answer)
    }

    /// As [`Publisher::open`], taken; with the number that the first chunk must have.
    pub fn taken(cache: &Cache, name: &str, seed: u8, epoch: u64) -> (Publisher, ChunkSeq) {
        match Publisher::open(cache, name, seed, epoch) {
            (publisher, Frame::PublishOk(ok)) => (publisher, ok.next),
            (_, other) => panic!("{other:?}"),
        }
    }

    pub fn chunk(&self, seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut header = ChunkHeader {
            stream: self.stream,
            epoch: self.epoch,
            seq: ChunkSeq::new(seq),
            published: WallClock::from_micros(1),
            payload_len: payload.len() as u32,
            tables_len: 0,
            duration_ms: 200,
            key_frame: None,
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        };
        self.key.sign_chunk(&mut header, payload);
        let mut frame = chunk_prefix(&header).to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    /// Sends a chunk; the answer.
    pub fn publish(&mut self, seq: u64, payload: &[u8]) -> Frame {
        let chunk = self.chunk(seq, payload);
        self.socket.write_all(&chunk).expect("sent");
        receive(&mut self.socket)
    }
}

/// A viewer that asks for chunks one by one.
pub struct Viewer {
    socket: TcpStream,
    stream: StreamId,
    pub oldest: u64,
    pub head: u64,
}

impl Viewer {
    /// Opens a stream that is there.
    pub fn open(cache: &Cache, name: &str) -> Viewer {
        let name = StreamName::new(name).expect("a name");
        let stream = stream_id(&name);
        let mut socket = cache.connect();
        let (domain, ticket) = (DomainId(0), Blob::default());
        let hello = Hello { role: Role::Viewer, peer: PeerId::NONE, stream, domain, listen: None, ticket };
        send(&mut socket, hello.into());
        send(&mut socket, Open { stream: name, back: 0 }.into());
        loop {
            match receive(&mut socket) {
                Frame::Welcome(_) => {}
                Frame::StreamInfo(info) => {
                    return Viewer { socket, stream, oldest: info.oldest.get(), head: info.head.get() };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The whole frame of a chunk; `None` when the cache does not have it.
    pub fn fetch(&mut self, seq: u64) -> Option<Vec<u8>> {
        let runs = List::first_of([Run { first: ChunkSeq::new(seq), count: 1 }]);
        send(&mut self.socket, Request { stream: self.stream, runs, within_ms: 0 }.into());
        let mut frame = vec![0; FRAME_HEAD_BYTES];
        self.socket.read_exact(&mut frame).expect("a frame");
        let head = FrameHead::decode(frame.first_chunk().expect("its head")).expect("a head");
        frame.resize(FRAME_HEAD_BYTES + head.body_len, 0);
        self.socket.read_exact(&mut frame[FRAME_HEAD_BYTES..]).expect("a body");
        match head.kind {
            KIND_CHUNK => Some(frame),
            kind => match Frame::decode(kind, &frame[FRAME_HEAD_BYTES..]).expect("a frame") {
                Frame::Unavailable(_) => None,
                other => panic!("{other:?}"),
            },
        }
    }
}

pub fn send(socket: &mut TcpStream, frame: Frame) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    socket.write_all(&bytes).expect("sent");
}

pub fn receive(socket: &mut TcpStream) -> Frame {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head).expect("a frame");
    let head = FrameHead::decode(&head).expect("a head");
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body).expect("a body");
    Frame::decode(head.kind, &body).expect("a frame")
}

/// The sequence number that an answer acknowledges.
pub fn acked(answer: Frame) -> u64 {
    match answer {
        Frame::Ack(ack) => ack.seq.get(),
        other => panic!("{other:?}"),
    }
}

/// Why an answer refuses.
pub fn refused(answer: Frame) -> RefusalReason {
    match answer {
        Frame::Refused(refused) => refused.reason,
        other => panic!("{other:?}"),
    }
}
