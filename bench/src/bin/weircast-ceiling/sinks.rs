//! The other end: connections whose bytes are thrown away unread (`MSG_TRUNC`), counted and timed.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::server::{NUMBER_BYTES, STREAM_HEAD, STREAM_HEAD_BYTES};
use crate::slots::plain_bytes;
use crate::{Content, Flood, Push, Span, pin};

/// Thrown away at once. The buffer is named to the kernel and not written.
const DISCARD_BYTES: usize = 1 << 20;

const CHUNK_US: u64 = 200_000;

/// Between the last join and the measured span (our guess).
const SETTLE: Duration = Duration::from_millis(1_000);

/// Joins begun in a second (our guess: each costs a tenth of a millisecond here).
const JOINS_PER_SECOND: f64 = 3_000.0;

/// Longest wait for a socket.
const WAIT: Duration = Duration::from_millis(20);

/// Sinks from one source address: a loopback address has about 28 000 ports for one destination.
const SINKS_PER_SOURCE: usize = 16_000;

/// A search stops when its bounds are this near, as a share (differences below are noise here).
const NEAR: f64 = 0.04;

/// `weircast-ceiling serve` as a child.
struct Server {
    child: Child,
    listen: SocketAddr,
    origin_us: u64,
    first: u64,
}

struct Sink {
    socket: TcpStream,
    /// Its request is sent: it is connected.
    asked: bool,
    head: Vec<u8>,
    /// The chunk that is arriving, and how much of it lacks.
    seq: u64,
    lacks: u64,
}

/// What a span has shown.
struct Seen {
    lateness: Histogram<u64>,
    chunks: u64,
    bytes: u64,
    seconds: f64,
    server_cpu_s: f64,
    /// The sinks' own thread: its share of the span that it ran for.
    busy: f64,
    lost: usize,
}

/// Paced: for each number of sinks, or in search of the largest.
pub(crate) fn push(options: &Push) -> Result<()> {
    let mut rows = Vec::new();
    let mut reach = None;
    match options.reach_ms {
        None => {
            for sinks in &options.sinks {
                rows.push(paced(options, *sinks)?.0);
            }
        }
        Some(limit) => {
            let (mut good, mut bad) = match options.sinks[..] {
                [first, .., last] if first < last => (first, last),
                _ => bail!("a search needs two numbers: -n SMALLEST -n LARGEST"),
            };
            let (mut at, mut found) = (good, 0);
            while (bad - good) as f64 > NEAR * good as f64 {
                let (row, p99) = paced(options, at)?;
                rows.push(row);
                if p99.is_some_and(|p99| p99 < limit) {
                    (good, found) = (at, at)
                } else {
                    bad = at
                }
                at = (good + bad) / 2;
            }
            reach = Some(found);
        }
    }
    println!(
        "{}",
        serde_json::json!({ "dir": options.content.dir, "kbps": options.content.kbps, "rows": rows, "reach": reach })
    );
    Ok(())
}

/// One number of sinks: its row, and its p99 unless a sink lacked a chunk.
fn paced(options: &Push, sinks: usize) -> Result<(serde_json::Value, Option<f64>)> {
    let seen = measure(&options.content, options.span, sinks, "/live/ceiling.ts")?;
    let due = sinks as f64 * seen.seconds * 1e6 / CHUNK_US as f64;
    let ms = |q| seen.lateness.value_at_quantile(q) as f64 / 1e3;
    // The span's edges cut a chunk for each sink.
    let whole = seen.chunks as f64 > due * 0.98 - sinks as f64 && seen.lost == 0;
    let mut row = seen.row(sinks);
    row["served_in_full"] = whole.into();
    row["lateness_ms"] = serde_json::json!({ "p50": ms(0.5), "p99": ms(0.99), "max": ms(1.0) });
    eprintln!("{row}");
    Ok((row, whole.then(|| ms(0.99))))
}

/// Without pace.
pub(crate) fn flood(options: &Flood) -> Result<()> {
    let row = measure(&options.content, options.span, options.sinks, "/flood")?.row(options.sinks);
    println!("{row}");
    Ok(())
}

impl Seen {
    fn row(&self, sinks: usize) -> serde_json::Value {
        let gib = self.bytes as f64 / (1u64 << 30) as f64;
        serde_json::json!({
            "sinks": sinks, "seconds": self.seconds, "gib_per_s": gib / self.seconds,
            "server_cpu_s_per_gib": self.server_cpu_s / gib, "server_busy": self.server_cpu_s / self.seconds,
            "sink_busy": self.busy, "lost": self.lost,
        })
    }
}

impl Server {
    fn start(content: &Content) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", "--plain", "--with-parent", "--kbps", &content.kbps.to_string(), "--dir"]);
        command.arg(&content.dir);
        if let Some(cpu) = content.cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start itself")?;
        let mut line = String::new();
        let out = child.stdout.take().context("standard output is piped")?;
        BufReader::new(out).read_line(&mut line)?;
        let ready = line.strip_prefix("ready ").context("the server did not start")?;
        let ready: serde_json::Value = serde_json::from_str(ready)?;
        let number = |key: &str| ready[key].as_u64().with_context(|| format!("no {key} in {ready}"));
        let listen = ready["listen"].as_str().context("no address")?.parse()?;
        let (origin_us, first) = (number("origin_us")?, number("first")?);
        Ok(Server { child, listen, origin_us, first })
    }

    /// Its one thread's time on a CPU.
    fn cpu_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        let ns: u64 = stat.split_whitespace().next().context("an empty schedstat")?.parse()?;
        Ok(ns as f64 / 1e9)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn measure(content: &Content, span: Span, sinks: usize, path: &str) -> Result<Seen> {
    let server = Server::start(content)?;
    pin(span.sink_cpu)?;
    let mut poll = Poll::new()?;
    let mut all = Vec::with_capacity(sinks);
    let request = format!("GET {path} HTTP/1.1\r\nHost: ceiling\r\n\r\n");
    let mut buffer = vec![0; DISCARD_BYTES];
    let mut events = Events::with_capacity(512);
    let mut seen = Seen {
        lateness: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        chunks: 0,
        bytes: 0,
        seconds: span.seconds,
        server_cpu_s: 0.0,
        busy: 0.0,
        lost: 0,
    };
    let clock = Clock { origin_us: server.origin_us, first: server.first, chunk_bytes: plain_bytes(content.kbps) };
    let mut turn =
        |poll: &mut Poll, all: &mut Vec<Option<Sink>>, wait, seen: &mut Seen, counts: bool| -> Result<Duration> {
            match poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let begun = Instant::now();
            for event in &events {
                let Some(sink) = all.get_mut(event.token().0) else { continue };
                let Some(open) = sink else { continue };
                if !open.asked && event.is_writable() {
                    // A fresh socket's buffer takes this whole; when it was not connected, the next read says so.
                    open.asked = open.socket.write(request.as_bytes()).is_ok();
                }
                if event.is_readable() && !drain(open, &mut buffer, clock, seen, counts) {
                    *sink = None;
                    seen.lost += 1;
                }
            }
            Ok(begun.elapsed())
        };
    let begun = Instant::now();
    for id in 0..sinks {
        let mut socket = connect(server.listen, id)?;
        poll.registry().register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        all.push(Some(Sink { socket, asked: false, head: Vec::new(), seq: 0, lacks: 0 }));
        // Joins are spread over time, so that what has arrived meanwhile is taken in.
        let due = begun + Duration::from_secs_f64((id + 1) as f64 / JOINS_PER_SECOND);
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            turn(&mut poll, &mut all, wait, &mut seen, false)?;
            if Instant::now() >= due {
                break;
            }
        }
        // The server gives some up: the rest would tell no more.
        if seen.lost > 0 {
            return Ok(seen);
        }
    }
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        turn(&mut poll, &mut all, WAIT, &mut seen, false)?;
    }
    let (begun, cpu) = (Instant::now(), server.cpu_s()?);
    let mut busy = Duration::ZERO;
    while begun.elapsed().as_secs_f64() < span.seconds {
        busy += turn(&mut poll, &mut all, WAIT, &mut seen, true)?;
    }
    seen.seconds = begun.elapsed().as_secs_f64();
    seen.server_cpu_s = server.cpu_s()? - cpu;
    seen.busy = busy.as_secs_f64() / seen.seconds;
    Ok(seen)
}

/// When which chunk is due.
#[derive(Clone, Copy)]
struct Clock {
    origin_us: u64,
    first: u64,
    chunk_bytes: u64,
}

impl Clock {
    fn due_us(self, seq: u64) -> u64 {
        self.origin_us + (seq + 1).saturating_sub(self.first) * CHUNK_US
    }
}

/// Takes what is there; false when the connection is over.
fn drain(sink: &mut Sink, buffer: &mut [u8], clock: Clock, seen: &mut Seen, counts: bool) -> bool {
    loop {
        let head_lacks = STREAM_HEAD_BYTES - sink.head.len();
        let got = if head_lacks > 0 {
            let mut some = [0; STREAM_HEAD_BYTES];
            recv(&sink.socket, &mut some[..head_lacks], RecvFlags::empty()).map(|(got, _)| {
                sink.head.extend_from_slice(&some[..got]);
                got
            })
        } else {
            recv(&sink.socket, &mut *buffer, RecvFlags::TRUNC).map(|(_, got)| got)
        };
        match got {
            Ok(0) => return false,
            Ok(_) if head_lacks > 0 => {
                if sink.head.len() == STREAM_HEAD_BYTES {
                    let digits = &sink.head[STREAM_HEAD.len()..][..NUMBER_BYTES];
                    let Some(seq) = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) else {
                        return false;
                    };
                    (sink.seq, sink.lacks) = (seq, clock.chunk_bytes);
                }
            }
            Ok(got) => {
                arrived(sink, got as u64, clock, seen, counts);
                if got < buffer.len() {
                    return true;
                }
            }
            Err(Errno::AGAIN) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn arrived(sink: &mut Sink, mut bytes: u64, clock: Clock, seen: &mut Seen, counts: bool) {
    seen.bytes += if counts { bytes } else { 0 };
    while bytes >= sink.lacks {
        bytes -= sink.lacks;
        if counts {
            seen.chunks += 1;
            // Recording saturates at a minute; the smallest is a microsecond.
            seen.lateness.saturating_record(wall_us().saturating_sub(clock.due_us(sink.seq)).max(1));
        }
        sink.seq += 1;
        sink.lacks = clock.chunk_bytes;
    }
    sink.lacks -= bytes;
}

/// Begins a connection.
fn connect(to: SocketAddr, id: usize) -> Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let source = std::net::Ipv4Addr::new(127, 0, 1, (id / SINKS_PER_SOURCE) as u8 + 1);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            Err(error).with_context(|| format!("cannot connect to {to}"))
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
