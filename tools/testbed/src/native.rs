//! As much of a viewer's side of Weircast's protocol as the tests need to look into a cache.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use cache_core::peer_id::PeerId;
use cache_core::sign::stream_id;
use cache_core::units::{ChunkSeq, DomainId};
use cache_core::wire::codec::{Blob, List};
use cache_core::wire::exchange::{Hello, Open, Request, Role, Run, StreamInfo};
use cache_core::wire::{ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, StreamName};

use crate::wait::HANG;

/// A link to a cache on which one stream is open.
#[derive(Debug)]
pub struct CacheLink {
    socket: TcpStream,
    /// What the cache said when the stream was opened.
    pub info: StreamInfo,
}

impl CacheLink {
    /// Connects and opens `stream`; a refusal is an error with its words.
    pub fn open(cache: SocketAddr, stream: &str) -> Result<CacheLink> {
        let name = StreamName::new(stream)?;
        let mut socket = TcpStream::connect_timeout(&cache, HANG)?;
        socket.set_read_timeout(Some(HANG))?;
        let (id, ticket) = (stream_id(&name), Blob::default());
        let hello =
            Hello { role: Role::Viewer, peer: PeerId::NONE, stream: id, domain: DomainId(0), listen: None, ticket };
        say(&mut socket, hello)?;
        say(&mut socket, Open { stream: name, back: 0 })?;
        loop {
            match hear(&mut socket)? {
                Heard::Frame(Frame::Welcome(_)) => {}
                Heard::Frame(Frame::StreamInfo(info)) => return Ok(CacheLink { socket, info }),
                Heard::Frame(Frame::Unavailable(no)) => bail!("the cache says: {}", no.reason),
                other => bail!("a cache does not answer an Open by {other:?}"),
            }
        }
    }

    /// Fetches one chunk.
    pub fn chunk(&mut self, seq: u64) -> Result<(ChunkHeader, Vec<u8>)> {
        self.chunk_if_there(seq)?.with_context(|| format!("the cache does not have chunk {seq}"))
    }

    /// Fetches one chunk; `None` when the cache says that it does not have it. One that is yet to come is waited for.
    pub fn chunk_if_there(&mut self, seq: u64) -> Result<Option<(ChunkHeader, Vec<u8>)>> {
        let runs = List::first_of([Run { first: ChunkSeq::new(seq), count: 1 }]);
        say(&mut self.socket, Request { stream: self.info.stream, runs, within_ms: 0 })?;
        match hear(&mut self.socket)? {
            Heard::Chunk(header, payload) => Ok(Some((*header, payload))),
            Heard::Frame(Frame::Unavailable(_)) => Ok(None),
            Heard::Frame(frame) => bail!("the cache answers a request by {frame:?}"),
        }
    }
}

#[derive(Debug)]
enum Heard {
    Frame(Frame),
    Chunk(Box<ChunkHeader>, Vec<u8>),
}

fn say(socket: &mut TcpStream, frame: impl Into<Frame>) -> Result<()> {
    let mut bytes = Vec::new();
    frame.into().encode(&mut bytes);
    Ok(socket.write_all(&bytes)?)
}

fn hear(socket: &mut TcpStream) -> Result<Heard> {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head).context("the cache does not answer")?;
    let head = FrameHead::decode(&head)?;
    // Its length was checked against the largest frame.
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body).context("the cache ends inside a frame")?;
    if head.kind != KIND_CHUNK {
        return match Frame::decode(head.kind, &body)? {
            Frame::Refused(no) => bail!("the cache refuses: {} {}", no.reason, no.detail.as_str()),
            frame => Ok(Heard::Frame(frame)),
        };
    }
    let header = ChunkHeader::decode(&body)?;
    let payload = body.split_off(cache_core::wire::CHUNK_HEADER_BYTES);
    Ok(Heard::Chunk(Box::new(header), payload))
}
