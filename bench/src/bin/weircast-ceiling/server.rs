//! The loop: one thread, one epoll, `sendfile` until a socket takes no more.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::fs::sendfile;
use rustix::io::Errno;
use slab::Slab;

use crate::Serve;
use crate::slots::{BEHIND_MAX, Range, Slots};

const CHUNK_SPAN: Duration = Duration::from_millis(200);

const LISTENER: Token = Token(usize::MAX);

/// Longest request; those of `weircast-load` are under 200 bytes.
const REQUEST_BYTES_MAX: usize = 4096;

/// Head of a stream's response. `sinks` counts on its length and on where the number stands.
pub(crate) const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nX-First: ";

/// Digits of the number, and the blank line behind it.
pub(crate) const STREAM_HEAD_BYTES: usize = STREAM_HEAD.len() + NUMBER_BYTES + 4;
pub(crate) const NUMBER_BYTES: usize = 12;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// One chunk for each request.
    Single,
    /// Each new chunk when it is due.
    Stream,
    /// Chunk after chunk, without pace.
    Flood,
}

struct Peer {
    socket: TcpStream,
    request: Vec<u8>,
    wants: Wants,
    /// What is being sent.
    range: Range,
    /// The chunk after it.
    next: u64,
    /// Flood: among those that may be sent to.
    ready: bool,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    slots: Slots,
    peers: Slab<Peer>,
    /// Flood: who may be sent to.
    ready: Vec<usize>,
    turn: usize,
}

/// Serves until it is killed. (A peer that is gone is an error of the call: Rust's runtime ignores SIGPIPE.)
pub(crate) fn run(options: &Serve) -> Result<()> {
    let poll = Poll::new()?;
    let listener = socket2::Socket::new(socket2::Domain::for_address(options.listen), socket2::Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.set_nonblocking(true)?;
    listener.bind(&options.listen.into()).with_context(|| format!("cannot listen on {}", options.listen))?;
    listener.listen(4096)?;
    let mut listener = TcpListener::from_std(listener.into());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let slots = Slots::new(&options.content.dir, options.content.kbps, options.plain)?;
    let listen = listener.local_addr()?;
    let mut server = Server { poll, listener, slots, peers: Slab::new(), ready: Vec::new(), turn: 0 };

    let (origin, origin_us) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros());
    let first = server.slots.head;
    let ready = serde_json::json!({
        "role": "ceiling", "listen": listen, "origin_us": origin_us as u64, "first": first,
    });
    println!("ready {ready}");
    let mut events = Events::with_capacity(1024);
    loop {
        let due = origin + CHUNK_SPAN * (server.slots.head - first + 1) as u32;
        let wait = match (server.ready.is_empty(), options.still) {
            (false, _) => Some(Duration::ZERO),
            (true, true) => None,
            (true, false) => Some(due.saturating_duration_since(Instant::now())),
        };
        match server.poll.poll(&mut events, wait) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept()?,
                Token(at) => server.serve(at, event.is_readable()),
            }
        }
        // A thread that sleeps in epoll_wait wakes at a whole millisecond behind the time, which would be the
        // largest part of a lateness at rest: it may be up to a millisecond early instead.
        if !options.still && due.saturating_duration_since(Instant::now()) < Duration::from_millis(1) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            server.slots.advance()?;
            server.fan_out();
        }
        server.flood();
    }
}

impl Server {
    fn accept(&mut self) -> Result<()> {
        loop {
            let (mut socket, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            socket.set_nodelay(true)?;
            let entry = self.peers.vacant_entry();
            let interests = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(entry.key()), interests)?;
            let range = Range { offset: 0, left: 0 };
            entry.insert(Peer { socket, request: Vec::new(), wants: Wants::Single, range, next: 0, ready: false });
        }
    }

    fn serve(&mut self, at: usize, readable: bool) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        let mut alive = !readable || read(peer, &self.slots);
        if alive && peer.wants == Wants::Flood {
            if !peer.ready {
                peer.ready = true;
                self.ready.push(at);
            }
        } else if alive {
            alive = pump(peer, &self.slots);
        }
        if !alive {
            self.drop_peer(at);
        }
    }

    /// The newest chunk to everybody, beginning with another peer each time.
    fn fan_out(&mut self) {
        self.turn = self.turn.wrapping_add(self.peers.len() / 8 + 1);
        let len = self.peers.capacity();
        let mut gone = Vec::new();
        for at in (0..len).map(|at| (at + self.turn) % len) {
            let Some(peer) = self.peers.get_mut(at).filter(|peer| peer.wants == Wants::Stream) else { continue };
            if !pump(peer, &self.slots) {
                gone.push(at);
            }
        }
        for at in gone {
            self.drop_peer(at);
        }
    }

    /// One chunk to each that takes one.
    fn flood(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.retain(|at| {
            let Some(peer) = self.peers.get_mut(*at) else { return false };
            if peer.range.left == 0 {
                peer.range = self.slots.chunk(peer.next);
                peer.next += 1;
            }
            match send(peer, &self.slots) {
                Sent::All => true,
                Sent::Part => {
                    peer.ready = false;
                    false
                }
                Sent::Gone => {
                    self.drop_peer(*at);
                    false
                }
            }
        });
        self.ready = ready;
    }

    fn drop_peer(&mut self, at: usize) {
        if let Some(mut peer) = self.peers.try_remove(at) {
            // Closing the socket takes it out of the epoll as well.
            let _ = self.poll.registry().deregister(&mut peer.socket);
        }
    }
}

/// Sends what is due; false when the peer is gone or hopelessly behind.
fn pump(peer: &mut Peer, slots: &Slots) -> bool {
    loop {
        if peer.range.left > 0 {
            match send(peer, slots) {
                Sent::All => {}
                Sent::Part => return peer.wants != Wants::Stream || slots.head - peer.next < BEHIND_MAX,
                Sent::Gone => return false,
            }
        }
        if peer.wants != Wants::Stream || peer.next >= slots.head {
            return true;
        }
        peer.range = slots.chunk(peer.next);
        peer.next += 1;
    }
}

enum Sent {
    All,
    Part,
    Gone,
}

fn send(peer: &mut Peer, slots: &Slots) -> Sent {
    while peer.range.left > 0 {
        match sendfile(&peer.socket, &slots.file, Some(&mut peer.range.offset), peer.range.left as usize) {
            Ok(0) => return Sent::Gone,
            Ok(sent) => peer.range.left -= sent as u64,
            Err(Errno::AGAIN) => return Sent::Part,
            Err(Errno::INTR) => {}
            Err(_) => return Sent::Gone,
        }
    }
    Sent::All
}

/// Reads requests; false when the peer is gone or says something else. One request is answered before the next is read.
fn read(peer: &mut Peer, slots: &Slots) -> bool {
    let mut some = [0; 1024];
    loop {
        match peer.socket.read(&mut some) {
            Ok(0) => return false,
            Ok(got) => {
                peer.request.extend_from_slice(&some[..got]);
                if got < some.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    if peer.range.left > 0 || !peer.request.ends_with(b"\r\n\r\n") {
        return peer.request.len() < REQUEST_BYTES_MAX;
    }
    let path = peer.request.split(|byte| *byte == b' ').nth(1).and_then(|path| std::str::from_utf8(path).ok());
    let Some(path) = path else { return false };
    let name = path.rsplit('/').next().and_then(|name| name.strip_suffix(".ts"));
    if path == "/flood" {
        peer.wants = Wants::Flood;
    } else if let Some(seq) = name.and_then(|name| name.parse::<u64>().ok()) {
        peer.range = slots.response(seq);
        peer.request.clear();
        return true;
    } else {
        peer.wants = Wants::Stream;
    }
    peer.request.clear();
    peer.next = slots.head;
    let head = format!("{STREAM_HEAD}{:01$}\r\n\r\n", slots.head, NUMBER_BYTES);
    // A fresh socket's buffer takes this whole.
    peer.socket.write(head.as_bytes()).is_ok_and(|sent| sent == head.len())
}
