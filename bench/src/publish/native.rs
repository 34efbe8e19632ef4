//! The publisher's side of Weircast's protocol, for a cache that stands alone (one with an index takes the terms that
//! its index granted: `weircast-peer publish` asks for one).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_core::limits::CONTROL_BODY_BYTES_MAX;
use cache_core::media::Slice;
use cache_core::peer_id::PeerId;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::codec::Blob;
use cache_core::wire::exchange::{Hello, Publish, Role};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{FRAME_HEAD_BYTES, Frame, FrameHead};

use super::Target;

/// A cache that takes nothing for so long is not there any more (our guess).
const PATIENCE: Duration = Duration::from_secs(10);

/// An accepted publisher.
pub(super) struct NativeLink {
    socket: TcpStream,
    key: PublisherKey,
    stream: StreamId,
    epoch: Epoch,
    next: ChunkSeq,
}

impl NativeLink {
    /// Connects and is accepted.
    pub(super) fn open(target: &Target, key: &PublisherKey, epoch: Epoch) -> Result<NativeLink> {
        let mut socket = TcpStream::connect_timeout(&target.cache, PATIENCE)
            .with_context(|| format!("cannot connect to the cache at {}", target.cache))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = stream_id(&target.stream);
        let ticket = Blob::default();
        say(
            &mut socket,
            Hello { role: Role::Publisher, peer: PeerId::NONE, stream, domain: DomainId(0), listen: None, ticket },
        )?;
        let Frame::Welcome(welcome) = hear(&mut socket)? else { bail!("the cache does not welcome a publisher") };
        let signature = key.sign_publish(stream, epoch, &welcome.nonce);
        say(&mut socket, Publish { stream: target.stream.clone(), epoch, key: key.public(), signature })?;
        let Frame::PublishOk(ok) = hear(&mut socket)? else { bail!("the cache does not answer a Publish") };
        Ok(NativeLink { socket, key: key.clone(), stream, epoch, next: ok.next })
    }

    /// Sends a chunk; returns when the socket has it.
    pub(super) fn send(&mut self, slice: &Slice) -> Result<()> {
        self.drain_acks()?;
        let mut header = slice.header(self.stream, self.epoch, self.next);
        self.key.sign_chunk(&mut header, &slice.payload);
        let mut frame = chunk_prefix(&header).to_vec();
        frame.extend_from_slice(&slice.payload);
        self.socket.write_all(&frame).context("the cache does not take the stream any more")?;
        self.next = self.next.next();
        Ok(())
    }

    /// Reads what the cache has said meanwhile; a refusal is an error.
    fn drain_acks(&mut self) -> Result<()> {
        let mut first = [0];
        loop {
            self.socket.set_nonblocking(true)?;
            let peeked = self.socket.peek(&mut first);
            self.socket.set_nonblocking(false)?;
            match peeked {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the link to the cache broke"),
                Ok(0) => bail!("the cache closed the link"),
                Ok(_) => match hear(&mut self.socket)? {
                    Frame::Ack(_) => {}
                    other => bail!("a cache does not say {} to a publisher", other.name()),
                },
            }
        }
    }
}

fn say(socket: &mut TcpStream, frame: impl Into<Frame>) -> Result<()> {
    let mut bytes = Vec::new();
    frame.into().encode(&mut bytes);
    socket.write_all(&bytes).context("the cache closed the link")
}

/// The next control frame; a refusal is an error.
fn hear(socket: &mut TcpStream) -> Result<Frame> {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head).context("the cache does not answer")?;
    let head = FrameHead::decode(&head).context("this is not a Weircast cache")?;
    if head.body_len > CONTROL_BODY_BYTES_MAX {
        bail!("a cache sends no chunks to a publisher");
    }
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body).context("the cache does not answer")?;
    match Frame::decode(head.kind, &body)? {
        Frame::Refused(no) => bail!("the cache refuses the publisher: {} {}", no.reason, no.detail.as_str()),
        frame => Ok(frame),
    }
}
