//! One publisher's link: what waits to be written, without ever blocking the others.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use cache_core::media::Slice;
use cache_core::time::WallClock;
use cache_core::wire::StreamName;
use rustix::event::epoll;

use super::http::Body;
use super::native::Signer;
use super::{Target, Upload, http, native};

/// Pieces that may wait in front of a server that does not take them: 10 s of chunks, a second of pictures.
const WAITING_MAX: usize = 50;

/// Answers are small: acknowledgements and refusals.
const HEARD_BYTES: usize = 4096;

/// A slice with its hash, shared by all streams.
pub(super) struct Cut {
    pub(super) slice: Slice,
    pub(super) hash: [u8; 32],
}

/// What one stream says in front of payloads, and what it makes of the answers.
enum Tongue {
    Native(Box<Signer>),
    Http(Body),
}

/// Bytes that wait: a head, a part of a slice, a tail.
struct Piece {
    head: Vec<u8>,
    cut: Rc<Cut>,
    part: std::ops::Range<usize>,
    tail: &'static [u8],
    sent: usize,
    done: Done,
}

/// A piece that has been written.
#[derive(Clone, Copy)]
pub(super) struct Done {
    /// When it was queued.
    pub(super) begun_us: u64,
    /// The chunk that it completes, and when that was due.
    pub(super) row: Option<(u64, u64)>,
    /// That chunk's bytes behind its tables.
    pub(super) bytes: u64,
}

/// A publisher that the server has taken.
pub(super) struct Link {
    socket: TcpStream,
    tongue: Tongue,
    waiting: VecDeque<Piece>,
}

impl Link {
    /// Connects and is accepted.
    pub(super) fn open(target: &Target, name: &StreamName) -> Result<Link> {
        let (socket, tongue) = match &target.upload {
            Upload::Native { key, epoch } => {
                let (socket, signer) = native::open(target.cache, name, key, *epoch)?;
                (socket, Tongue::Native(Box::new(signer)))
            }
            Upload::Http { secret } => {
                let (socket, body) = http::open(target.cache, name, secret.as_deref())?;
                (socket, Tongue::Http(body))
            }
            Upload::Foreign(url) => {
                let (socket, body) = http::open_foreign(url, name)?;
                (socket, Tongue::Http(body))
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Link { socket, tongue, waiting: VecDeque::new() })
    }

    /// The number that the first chunk will have, if this side numbers.
    pub(super) fn next_seq(&self) -> Option<u64> {
        match &self.tongue {
            Tongue::Native(signer) => Some(signer.next_seq()),
            Tongue::Http(_) => None,
        }
    }

    /// Tells `epoll` what this link waits for.
    pub(super) fn watch(&self, epoll: &OwnedFd, at: usize, known: bool) -> Result<()> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, self.is_waiting());
        let data = epoll::EventData::new_u64(at as u64);
        let result = if known {
            epoll::modify(epoll, &self.socket, data, flags)
        } else {
            epoll::add(epoll, &self.socket, data, flags)
        };
        result.context("waiting for a link failed")
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues pieces `piece` (of `pieces`) of a chunk.
    pub(super) fn queue(
        &mut self,
        cut: &Rc<Cut>,
        piece: std::ops::Range<u64>,
        pieces: u64,
        published: WallClock,
        row: Option<(u64, u64)>,
        now: u64,
    ) -> Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            bail!("the server does not take the stream any more: {WAITING_MAX} pieces wait");
        }
        let (head, part, tail) = match &mut self.tongue {
            Tongue::Native(signer) => (signer.prefix(cut, published), 0..cut.slice.payload.len(), &b""[..]),
            Tongue::Http(body) => {
                let tables = usize::from(cut.slice.tables_len);
                let whole = cut.slice.payload.len() - tables;
                let place = |at: u64| tables + whole * at as usize / pieces as usize;
                let part = place(piece.start)..place(piece.end);
                let (head, tail) = body.around(part.len());
                (head, part, tail)
            }
        };
        let done = Done { begun_us: now, row, bytes: cut.slice.stream_bytes().len() as u64 };
        self.waiting.push_back(Piece { head, cut: cut.clone(), part, tail, sent: 0, done });
        Ok(())
    }

    /// Writes what the socket takes; `Some` for each piece that is written to its end, to be called again then.
    pub(super) fn flush(&mut self) -> Result<Option<Done>> {
        while let Some(piece) = self.waiting.front_mut() {
            let parts = [piece.head.as_slice(), &piece.cut.slice.payload[piece.part.clone()], piece.tail];
            let mut skip = piece.sent;
            let slices = parts.map(|part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                IoSlice::new(&part[skipped..])
            });
            if slices.iter().all(|slice| slice.is_empty()) {
                let done = piece.done;
                self.waiting.pop_front();
                return Ok(Some(done));
            }
            match (&self.socket).write_vectored(&slices) {
                Ok(sent) => piece.sent += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => {
                    // The reason is in the answer, if there is one.
                    self.hear()?;
                    return Err(error).context("the server does not take the stream any more");
                }
            }
        }
        Ok(None)
    }

    /// Reads what the server has said; a refusal is an error with its words.
    pub(super) fn hear(&mut self) -> Result<()> {
        let mut heard = [0; HEARD_BYTES];
        loop {
            match (&self.socket).read(&mut heard) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the link to the server broke"),
                Ok(0) => bail!("the server closed the upload"),
                Ok(got) => match &mut self.tongue {
                    Tongue::Native(signer) => signer.hear(&heard[..got])?,
                    Tongue::Http(body) => body.hear(&heard[..got])?,
                },
            }
        }
    }

    /// Ends the upload as well as the socket allows at once.
    pub(super) fn end(self) -> Result<()> {
        match &self.tongue {
            Tongue::Http(body) if self.waiting.is_empty() => {
                (&self.socket).write_all(body.end()).context("the server closed the upload")
            }
            _ => Ok(()),
        }
    }
}
