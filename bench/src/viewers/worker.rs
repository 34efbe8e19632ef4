//! One thread's viewers: sockets, readiness, and a look at its own slowness.
//!
//! Joins follow a schedule, so that a slow cache does not slow the load down. The loop looks at its own lag: a socket
//! that was ready had waited at most since the loop last found fewer ready sockets than it had asked for, and that wait
//! is the tool's, not the cache's.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cache_core::wire::StreamName;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::http::HttpViewer;
use super::library::{Library, Trust};
use super::native::{NativeViewer, Wants};
use super::sink::Sink;
use crate::measure::{Account, Durations, Measured, Trouble, wall_us};

/// Read at once: a whole chunk of any usual stream, and it stays in the processor's cache.
const SCRATCH_BYTES: usize = 256 << 10;

/// Connections begun in one turn, so that arrived chunks are not kept waiting behind a crowd of joins.
const JOINS_PER_TURN: usize = 32;

/// Ready sockets served in one turn.
const EVENTS_PER_TURN: usize = 256;

/// Longest wait in one turn, so that the stop flag is seen.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// Viewers from one source address: a loopback address has about 28 000 ports for one destination.
const VIEWERS_PER_SOURCE: usize = 16_000;

/// How a viewer gets the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Native(Wants),
    Http,
}

/// Whose chunks are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    All,
    /// Every so-manieth viewer's.
    Sample(usize),
    None,
}

impl Verify {
    fn covers(self, viewer: usize) -> bool {
        match self {
            Verify::All => true,
            Verify::Sample(every) => viewer.is_multiple_of(every),
            Verify::None => false,
        }
    }
}

/// What all workers do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cache: SocketAddr,
    pub(crate) stream: StreamName,
    pub(crate) way: Way,
    pub(crate) verify: Verify,
    pub(crate) trust: Trust,
    /// Whether the payload is the built-in generator's, and when its media time 0 was published, if that is known.
    pub(crate) generated: bool,
    pub(crate) origin_us: Option<u64>,
    /// When the first viewer joins (wall clock), and how many do in a second.
    pub(crate) first_join_us: u64,
    pub(crate) joins_per_second: u64,
}

/// What workers and the coordinator tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) joined: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    /// The measured span; 0 while it has not begun.
    pub(crate) start_us: AtomicU64,
    pub(crate) end_us: AtomicU64,
    pub(crate) stop: AtomicBool,
}

impl Shared {
    fn span(&self) -> Option<Measured> {
        let start_us = self.start_us.load(Ordering::Acquire);
        (start_us > 0).then(|| Measured { start_us, end_us: self.end_us.load(Ordering::Acquire) })
    }
}

/// What a worker has to tell at its end.
#[derive(Debug)]
pub(crate) struct Harvest {
    pub(crate) accounts: Vec<Account>,
    pub(crate) published: std::collections::BTreeMap<u64, u64>,
    pub(crate) checked: crate::measure::Checked,
    pub(crate) lateness: Durations,
    /// How long each ready socket may have waited for the tool, in the measured span.
    pub(crate) lag: Durations,
    /// Time of that span in which the thread did not wait for sockets.
    pub(crate) busy: Duration,
}

enum Machine {
    Native(NativeViewer),
    Http(HttpViewer),
}

struct Viewer {
    socket: TcpStream,
    machine: Machine,
    out: Vec<u8>,
    newest: Option<u64>,
}

struct Worker<'p> {
    plan: &'p Plan,
    shared: &'p Shared,
    poll: Poll,
    library: Library,
    viewers: Vec<Option<Viewer>>,
    accounts: Vec<Account>,
    lateness: Durations,
    scratch: Vec<u8>,
}

/// Runs the viewers numbered by `ids` (of all the tool's) until the stop flag is up.
pub(crate) fn run(plan: &Plan, shared: &Shared, ids: &[usize]) -> std::io::Result<Harvest> {
    let mut worker = Worker {
        plan,
        shared,
        poll: Poll::new()?,
        library: Library::new(plan.trust.clone(), plan.generated, plan.origin_us),
        viewers: Vec::with_capacity(ids.len()),
        accounts: Vec::with_capacity(ids.len()),
        lateness: Durations::new(),
        scratch: vec![0; SCRATCH_BYTES],
    };
    let (mut lag, mut busy) = (Durations::new(), Duration::ZERO);
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut caught_up = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let wait = worker.next_join(ids).map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX));
        match worker.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let turn = Instant::now();
        let served = events.iter().count();
        // All that were ready are among these; none waits for longer than this turn.
        if served < EVENTS_PER_TURN {
            caught_up = turn;
        }
        let span = shared.span();
        for event in &events {
            worker.serve(event.token().0, span);
        }
        worker.join_due(ids)?;
        if span.is_some_and(|span| span.holds(wall_us())) {
            lag.record_many(caught_up.elapsed().as_micros() as u64, served as u64);
            busy += turn.elapsed();
        }
    }
    let Worker { library, accounts, lateness, .. } = worker;
    Ok(Harvest { accounts, published: library.published, checked: library.checked, lateness, lag, busy })
}

impl Worker<'_> {
    fn intended_us(&self, id: usize) -> u64 {
        self.plan.first_join_us + id as u64 * 1_000_000 / self.plan.joins_per_second
    }

    /// How long until the next viewer joins.
    fn next_join(&self, ids: &[usize]) -> Option<Duration> {
        let id = ids.get(self.viewers.len())?;
        Some(Duration::from_micros(self.intended_us(*id).saturating_sub(wall_us())))
    }

    /// Begins the connections whose time has come.
    fn join_due(&mut self, ids: &[usize]) -> std::io::Result<()> {
        for _ in 0..JOINS_PER_TURN {
            let Some(id) = ids.get(self.viewers.len()).copied() else { break };
            let intended_us = self.intended_us(id);
            if intended_us > wall_us() {
                break;
            }
            self.accounts.push(Account { intended_us, ..Account::default() });
            let at = self.viewers.len();
            match connect(self.plan.cache, id) {
                Ok(mut socket) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut socket, Token(at), interest)?;
                    let mut out = Vec::new();
                    let verify = self.plan.verify.covers(id);
                    let machine = match self.plan.way {
                        Way::Native(wants) => {
                            Machine::Native(NativeViewer::new(&self.plan.stream, wants, verify, &mut out))
                        }
                        Way::Http => Machine::Http(HttpViewer::new(&self.plan.stream, &mut out)),
                    };
                    self.viewers.push(Some(Viewer { socket, machine, out, newest: None }));
                }
                Err(error) => {
                    self.viewers.push(None);
                    self.lose(at, Trouble::Connect(error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Reads and writes what a socket allows.
    fn serve(&mut self, at: usize, span: Option<Measured>) {
        let Some(Some(viewer)) = self.viewers.get_mut(at) else { return };
        let account = &mut self.accounts[at];
        let had_joined = account.joined_us.is_some();
        let mut sink = Sink { account, lateness: &mut self.lateness, span, newest: &mut viewer.newest };
        let result = exchange(
            &mut viewer.socket,
            &mut viewer.machine,
            &mut viewer.out,
            &mut self.scratch,
            &mut self.library,
            &mut sink,
        );
        if !had_joined && self.accounts[at].joined_us.is_some() {
            self.shared.joined.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(trouble) = result {
            self.viewers[at] = None;
            self.lose(at, trouble);
        }
    }

    /// A viewer is over.
    fn lose(&mut self, at: usize, trouble: Trouble) {
        let account = &mut self.accounts[at];
        account.trouble = Some(trouble);
        if account.joined_us.is_none() {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn exchange(
    socket: &mut TcpStream,
    machine: &mut Machine,
    out: &mut Vec<u8>,
    scratch: &mut [u8],
    library: &mut Library,
    sink: &mut Sink<'_>,
) -> Result<(), Trouble> {
    if let Ok(Some(error)) = socket.take_error() {
        return Err(Trouble::Connect(error.to_string()));
    }
    loop {
        let got = match socket.read(scratch) {
            Ok(0) => return Err(Trouble::Closed),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Not connected yet.
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(Trouble::Connect(error.to_string())),
        };
        match machine {
            Machine::Native(viewer) => viewer.feed(&scratch[..got], library, sink, out)?,
            Machine::Http(viewer) => viewer.feed(&scratch[..got], library, sink)?,
        }
        // Less than there was room for: the socket is drained, and its next byte is a new edge.
        if got < scratch.len() {
            break;
        }
    }
    while !out.is_empty() {
        match socket.write(out) {
            Ok(sent) => drop(out.drain(..sent)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(error) => return Err(Trouble::Connect(error.to_string())),
        }
    }
    Ok(())
}

/// Begins a connection; to a loopback cache from an address of 127.0.0.0/8 that has ports left.
fn connect(cache: SocketAddr, id: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(cache), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let (IpAddr::V4(ip), spread @ 1..) = (cache.ip(), id / VIEWERS_PER_SOURCE)
        && ip.is_loopback()
    {
        let [_, _, high, low] = (spread as u32).to_be_bytes();
        let source = SocketAddr::from((Ipv4Addr::new(127, 100, high, low), 0));
        socket.bind(&SockAddr::from(source))?;
    }
    match socket.connect(&SockAddr::from(cache)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
