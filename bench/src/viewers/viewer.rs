//! One viewer: its socket, its machine, and what it may read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::get::GetViewer;
use super::http::HttpViewer;
use super::library::Library;
use super::native::NativeViewer;
use super::plan::{Plan, Way};
use super::sink::Sink;
use super::{Appetite, Discarded};
use crate::measure::{Trouble, wall_us};

/// Viewers from one source address: a loopback address has about 28 000 ports for one destination.
const VIEWERS_PER_SOURCE: usize = 16_000;

/// Reads in one go, so that a viewer with much to read does not keep others waiting.
const READS_PER_TURN: usize = 4;

/// Who an event or an alarm is for: the place in the worker's table, and whose it was then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) place: usize,
    pub(super) account: usize,
}

impl Token {
    /// As epoll keeps it: 32 bits each; there are fewer accounts than that in any run.
    fn word(self) -> u64 {
        (self.place as u64) << 32 | (self.account as u64 & 0xFFFF_FFFF)
    }

    pub(super) fn from_word(word: u64) -> Token {
        Token { place: (word >> 32) as usize, account: (word & 0xFFFF_FFFF) as usize }
    }
}

/// What a viewer is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Its next request is due.
    Request,
    /// A slow one may read on.
    Allowance,
    /// It leaves.
    Leave,
    /// It has waited long enough for its first chunk.
    Patience,
}

#[derive(Debug)]
pub(super) enum Machine {
    Native(Box<NativeViewer>),
    Http(Box<HttpViewer>),
    Get(Box<GetViewer>),
}

/// Whether there may be more to read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    More,
    Enough,
}

#[derive(Debug)]
pub(super) struct Viewer {
    pub(super) socket: Socket,
    pub(super) machine: Machine,
    pub(super) out: Vec<u8>,
    pub(super) token: Token,
    /// Its number among the tool's viewers, and its account's among the thread's.
    pub(super) id: usize,
    pub(super) account: usize,
    pub(super) scheduled: bool,
    pub(super) connected: bool,
    /// Bytes that it may still read; `None`: all.
    pub(super) allowance: Option<usize>,
    /// Requests made, and whether an alarm for the next one is set.
    pub(super) asked: u64,
    pub(super) alarmed: bool,
    reads: usize,
    watched: epoll::EventFlags,
}

impl Viewer {
    /// How often a slow viewer may read on.
    pub(super) const SLOW_STEP_US: u64 = 100_000;

    /// What a slow viewer may read in a step: half of what comes.
    pub(super) fn slow_bytes(kbps: u64) -> usize {
        (kbps * 1_000 / 8 * Viewer::SLOW_STEP_US / 1_000_000 / 2) as usize
    }

    /// Begins a connection and has its first words ready.
    pub(super) fn begin(
        plan: &Plan,
        id: usize,
        account: usize,
        stream: usize,
        scheduled: bool,
        server: SocketAddr,
    ) -> std::io::Result<Viewer> {
        let socket = connect(server, id)?;
        let mut out = Vec::new();
        let verify = plan.verify.covers(id);
        let machine = match plan.way {
            Way::Native(wants) => {
                let name = plan.name(stream).ok_or(std::io::ErrorKind::InvalidInput)?;
                Machine::Native(Box::new(NativeViewer::new(&name, wants, verify, &mut out)))
            }
            Way::Http => {
                Machine::Http(Box::new(HttpViewer::new(&plan.host, &plan.path(stream, None), verify, &mut out)))
            }
            Way::Get { modulo, closed_loop, .. } => {
                Machine::Get(Box::new(GetViewer::new(plan, &plan.path(stream, None), verify, modulo, closed_loop, id)))
            }
        };
        Ok(Viewer {
            socket,
            machine,
            out,
            token: Token::default(),
            id,
            account,
            scheduled,
            connected: false,
            allowance: None,
            asked: 0,
            alarmed: false,
            reads: 0,
            watched: epoll::EventFlags::empty(),
        })
    }

    /// Tells `epoll` what this viewer waits for. Costs nothing when it knows.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, known: bool) -> std::io::Result<()> {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.allowance != Some(0));
        flags.set(epoll::EventFlags::OUT, !self.connected || !self.out.is_empty());
        if known && flags == self.watched {
            return Ok(());
        }
        self.watched = flags;
        let data = epoll::EventData::new_u64(self.token.word());
        if known {
            epoll::modify(epoll, &self.socket, data, flags)?;
        } else {
            epoll::add(epoll, &self.socket, data, flags)?;
        }
        Ok(())
    }

    /// Reads, or has the kernel throw away, what the machine wants next.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        library: &mut Library,
        sink: &mut Sink<'_>,
    ) -> Result<Read, Trouble> {
        self.reads += 1;
        let (wanted, flags) = match self.machine.wants() {
            Appetite::Read(len) => (len, RecvFlags::empty()),
            Appetite::Discard(len) => (len, RecvFlags::TRUNC),
        };
        let len = wanted.min(scratch.len()).min(self.allowance.unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(self.enough());
        }
        let got = match recv(&self.socket, &mut scratch[..len], flags) {
            Ok((_, 0)) => return Err(Trouble::Closed),
            Ok((_, got)) => got,
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(self.enough()),
            Err(Errno::INTR) => return Ok(Read::More),
            Err(error) => return Err(Trouble::Connect(error.to_string())),
        };
        if sink.account.first_byte_us.is_none() {
            sink.account.first_byte_us = Some(wall_us());
        }
        if let Some(allowance) = &mut self.allowance {
            *allowance = allowance.saturating_sub(got);
        }
        let out = &mut self.out;
        let whole = if flags == RecvFlags::TRUNC {
            match &mut self.machine {
                Machine::Native(machine) => machine.discarded(got, library, sink, out)?,
                Machine::Http(machine) => machine.discarded(got, library, sink),
                Machine::Get(machine) => machine.discarded(got, library, sink)?,
            }
        } else {
            match &mut self.machine {
                Machine::Native(machine) => machine.feed(&scratch[..got], library, sink, out)?,
                Machine::Http(machine) => machine.feed(&scratch[..got], library, sink)?,
                Machine::Get(machine) => machine.feed(&scratch[..got], library, sink)?,
            }
            Discarded::Part
        };
        // Less than there was room for: the socket is drained. A whole chunk: most likely.
        if got < len || whole == Discarded::Whole || self.reads >= READS_PER_TURN {
            return Ok(self.enough());
        }
        Ok(Read::More)
    }

    fn enough(&mut self) -> Read {
        self.reads = 0;
        Read::Enough
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self) -> Result<(), Trouble> {
        while !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == self.out.len() => self.out.clear(),
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOTCONN) => break,
                Err(error) => return Err(Trouble::Connect(error.to_string())),
            }
        }
        Ok(())
    }
}

impl Machine {
    fn wants(&self) -> Appetite {
        match self {
            Machine::Native(machine) => machine.wants(),
            Machine::Http(machine) => machine.wants(),
            Machine::Get(machine) => machine.wants(),
        }
    }

    /// Where the server sent this viewer, if it did.
    pub(super) fn instead(&self) -> Option<SocketAddr> {
        match self {
            Machine::Native(machine) => machine.instead(),
            Machine::Http(machine) => machine.instead(),
            Machine::Get(_) => None,
        }
    }

    /// An error when an event says that the connection has failed.
    pub(super) fn is_over(&self, socket: &Socket, flags: epoll::EventFlags, connected: bool) -> Result<(), Trouble> {
        let broken = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
        if connected && !flags.intersects(broken) {
            return Ok(());
        }
        match sockopt::socket_error(socket) {
            Ok(Ok(())) if connected && !flags.contains(epoll::EventFlags::IN) => Err(Trouble::Closed),
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(Trouble::Connect(error.to_string())),
        }
    }
}

/// Begins a connection; to a loopback server from an address of 127.0.0.0/8 that has ports left.
fn connect(server: SocketAddr, id: usize) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let (IpAddr::V4(ip), spread @ 1..) = (server.ip(), id / VIEWERS_PER_SOURCE)
        && ip.is_loopback()
    {
        let [_, _, high, low] = (spread as u32).to_be_bytes();
        let source = SocketAddr::from((Ipv4Addr::new(127, 100, high, low), 0));
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(server)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket)
}
