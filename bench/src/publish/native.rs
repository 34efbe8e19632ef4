//! The publisher's side of Weircast's protocol, for a cache that stands alone (one with an index takes the terms that
//! its index granted: `weircast-peer publish` asks for one).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_core::limits::CONTROL_BODY_BYTES_MAX;
use cache_core::peer_id::PeerId;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::codec::Blob;
use cache_core::wire::exchange::{Hello, Publish, Role};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{FRAME_HEAD_BYTES, Frame, FrameHead, StreamName};

use super::link::Cut;

/// A cache that takes nothing for so long is not there any more (our guess).
const PATIENCE: Duration = Duration::from_secs(10);

/// An accepted publisher: it numbers, signs and hears.
pub(super) struct Signer {
    key: PublisherKey,
    stream: StreamId,
    epoch: Epoch,
    next: ChunkSeq,
    heard: Vec<u8>,
}

/// Connects and is accepted.
pub(super) fn open(
    cache: SocketAddr,
    name: &StreamName,
    key: &PublisherKey,
    epoch: Epoch,
) -> Result<(TcpStream, Signer)> {
    let mut socket = TcpStream::connect_timeout(&cache, PATIENCE)
        .with_context(|| format!("cannot connect to the cache at {cache}"))?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let stream = stream_id(name);
    let ticket = Blob::default();
    say(
        &mut socket,
        Hello { role: Role::Publisher, peer: PeerId::NONE, stream, domain: DomainId(0), listen: None, ticket },
    )?;
    let Frame::Welcome(welcome) = hear(&mut socket)? else { bail!("the cache does not welcome a publisher") };
    let signature = key.sign_publish(stream, epoch, &welcome.nonce);
    say(&mut socket, Publish { stream: name.clone(), epoch, key: key.public(), signature })?;
    let Frame::PublishOk(ok) = hear(&mut socket)? else { bail!("the cache does not answer a Publish") };
    Ok((socket, Signer { key: key.clone(), stream, epoch, next: ok.next, heard: Vec::new() }))
}

impl Signer {
    pub(super) fn next_seq(&self) -> u64 {
        self.next.get()
    }

    /// The frame's bytes in front of the payload of the next chunk.
    pub(super) fn prefix(&mut self, cut: &Cut, published: WallClock) -> Vec<u8> {
        let mut header = cut.slice.header(self.stream, self.epoch, self.next);
        header.published = published;
        header.hash = cut.hash;
        self.key.sign_header(&mut header);
        self.next = self.next.next();
        chunk_prefix(&header).to_vec()
    }

    /// Takes what the cache has said; anything but an acknowledgement is an error.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        self.heard.extend_from_slice(bytes);
        let mut rest = self.heard.as_slice();
        while let Some((head, body)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let head = control(head)?;
            let Some((body, behind)) = body.split_at_checked(head.body_len) else { break };
            match frame(head, body)? {
                Frame::Ack(_) => {}
                other => bail!("a cache does not say {} to a publisher", other.name()),
            }
            rest = behind;
        }
        let taken = self.heard.len() - rest.len();
        self.heard.drain(..taken);
        Ok(())
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
    let head = control(&head)?;
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body).context("the cache does not answer")?;
    frame(head, &body)
}

fn control(head: &[u8; FRAME_HEAD_BYTES]) -> Result<FrameHead> {
    let head = FrameHead::decode(head).context("this is not a Weircast cache")?;
    if head.body_len > CONTROL_BODY_BYTES_MAX {
        bail!("a cache sends no chunks to a publisher");
    }
    Ok(head)
}

fn frame(head: FrameHead, body: &[u8]) -> Result<Frame> {
    match Frame::decode(head.kind, body)? {
        Frame::Refused(no) => bail!("the cache refuses the publisher: {} {}", no.reason, no.detail.as_str()),
        frame => Ok(frame),
    }
}
