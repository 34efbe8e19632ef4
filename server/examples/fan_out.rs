//! What a cache's sending costs: one publisher and N viewers that throw away what they get, against a running cache.
//!
//! ```text
//!  publisher thread: one chunk of --bytes every 200 ms          this thread: epoll, recv(MSG_TRUNC), no copy
//!     notes when the chunk's last byte is written      --->     notes when each viewer has the chunk's last byte
//! ```
//! Chunks are all of one size, so that a viewer's count of bytes says which chunk it has whole; nothing is verified here
//! (`weircast-load` does that). `first` times one viewer's first byte of each chunk instead; `idle` only connects.
//!
//! `cargo run --release -p weircast-server --example fan_out -- --cache 127.0.0.1:7400 --pid PID push 5000`

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cache_core::peer_id::PeerId;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch, StreamId};
use cache_core::wire::exchange::{Hello, Open, Publish, Role, Subscribe};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{Blob, CHUNK_PREFIX_BYTES, ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, StreamName};
use clap::{Parser, ValueEnum};
use rustix::event::epoll;
use rustix::net::RecvFlags;

const PACKET: usize = 188;
/// Tables in front of each chunk.
const TABLES: usize = 2 * PACKET;
const PERIOD: Duration = Duration::from_millis(200);
/// What a chunk that is uploaded slowly is cut into.
const PIECE: usize = 4 << 10;
/// The most chunks of one run.
const CHUNKS_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Subscribers over Weircast's protocol.
    Push,
    /// `GET /live/NAME.ts`.
    Http,
    /// `GET /live/NAME/SEQ.ts`, each asked for ahead of its publication.
    Get,
    /// `GET /live/NAME/SEQ.ts` of what is there, the next as soon as the last has come.
    Closed,
    /// Connected and welcomed, no more.
    Idle,
    /// One subscriber's first byte.
    First,
}

#[derive(Debug, Parser)]
struct Options {
    mode: Mode,
    viewers: usize,
    #[arg(long)]
    cache: SocketAddr,
    /// The cache's process, for its processor time and memory.
    #[arg(long)]
    pid: u32,
    /// Payload of a chunk; 50 008 is 266 packets: 2 Mbit/s.
    #[arg(long, default_value_t = 266 * 188)]
    bytes: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// So long a chunk's upload takes, in microseconds, in pieces of 4 KiB, as over a line that is slower than loopback; 0: its
    /// bytes are written at once.
    #[arg(long, default_value_t = 0)]
    upload_us: u64,
    /// With `first`: the viewer does not sleep until its byte comes. Its waking is the viewer's, and takes tens of microseconds.
    #[arg(long)]
    spin: bool,
    /// Milliseconds between chunks.
    #[arg(long, default_value_t = PERIOD.as_millis() as u64)]
    period_ms: u64,
}

/// When each chunk was written, in microseconds since the start.
struct Times {
    start: Instant,
    begun: Vec<AtomicU64>,
    written: Vec<AtomicU64>,
    acked: Vec<AtomicU64>,
    first: AtomicU64,
    stop: AtomicU64,
}

impl Times {
    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    raise_nofile();
    let row = || (0..CHUNKS_MAX).map(|_| AtomicU64::new(0)).collect();
    let times = Arc::new(Times {
        start: Instant::now(),
        begun: row(),
        written: row(),
        acked: row(),
        first: AtomicU64::new(0),
        stop: AtomicU64::new(0),
    });
    let memory_empty = memory_kib(options.pid)?;
    let upload = Duration::from_micros(options.upload_us);
    let mut publisher = Publisher::open(options.cache, options.bytes, upload)?;
    times.first.store(publisher.next.get(), Relaxed);
    let thread = {
        let times = times.clone();
        let period = Duration::from_millis(options.period_ms);
        std::thread::spawn(move || publisher.run(&times, period))
    };
    while times.acked[8].load(Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(20));
        ensure!(!thread.is_finished(), "the publisher failed: {:?}", thread.join());
    }
    let outcome = match options.mode {
        Mode::First => first_bytes(&options, &times),
        _ => watch(&options, &times, memory_empty),
    };
    times.stop.store(1, Relaxed);
    let _ = thread.join();
    outcome
}

struct Publisher {
    socket: TcpStream,
    key: PublisherKey,
    stream: StreamId,
    epoch: Epoch,
    next: ChunkSeq,
    payload: Vec<u8>,
    upload: Duration,
}

impl Publisher {
    fn open(cache: SocketAddr, bytes: usize, upload: Duration) -> Result<Publisher> {
        let (key, stream, name) = (PublisherKey::from_seed(&[9; 32]), stream_id(&name()), name());
        let epoch = Epoch(std::time::UNIX_EPOCH.elapsed()?.as_secs());
        let mut socket = TcpStream::connect(cache).context("no cache there")?;
        socket.set_nodelay(true)?;
        say(&mut socket, hello(Role::Publisher))?;
        let Frame::Welcome(welcome) = hear(&mut socket)? else { bail!("no Welcome") };
        let signature = key.sign_publish(stream, epoch, &welcome.nonce);
        say(&mut socket, Publish { stream: name, epoch, key: key.public(), signature })?;
        let Frame::PublishOk(ok) = hear(&mut socket)? else { bail!("the cache refuses the publisher") };
        let mut payload = vec![0xff; TABLES + bytes];
        payload.chunks_mut(PACKET).for_each(|packet| packet[0] = 0x47);
        Ok(Publisher { socket, key, stream, epoch, next: ok.next, payload, upload })
    }

    fn run(&mut self, times: &Times, period: Duration) -> Result<()> {
        let begin = Instant::now();
        for index in 0..CHUNKS_MAX {
            let seq = self.next.get() + index as u64;
            self.payload[TABLES + 4..TABLES + 12].copy_from_slice(&seq.to_be_bytes());
            let mut header = ChunkHeader {
                stream: self.stream,
                epoch: self.epoch,
                seq: ChunkSeq::new(seq),
                published: WallClock::from_micros(std::time::UNIX_EPOCH.elapsed()?.as_micros() as u64),
                payload_len: self.payload.len() as u32,
                tables_len: TABLES as u16,
                duration_ms: 200,
                key_frame: Some(0),
                discontinuity: false,
                end: false,
                hash: [0; 32],
                signature: [0; 64],
            };
            self.key.sign_chunk(&mut header, &self.payload);
            let frame = [chunk_prefix(&header).as_slice(), &self.payload].concat();
            std::thread::sleep((begin + period * index as u32).saturating_duration_since(Instant::now()));
            if times.stop.load(Relaxed) != 0 {
                break;
            }
            times.begun[index].store(times.now(), Relaxed);
            let piece = if self.upload.is_zero() { frame.len() } else { PIECE };
            let (from, pieces) = (Instant::now(), frame.len().div_ceil(piece) as u32);
            for (at, piece) in (1u32..).zip(frame.chunks(piece)) {
                // The last one leaves when the span is over.
                std::thread::sleep((from + self.upload * at / pieces).saturating_duration_since(Instant::now()));
                self.socket.write_all(piece)?;
            }
            times.written[index].store(times.now(), Relaxed);
            ensure!(matches!(hear(&mut self.socket)?, Frame::Ack(_)), "no Ack");
            times.acked[index].store(times.now(), Relaxed);
        }
        Ok(())
    }
}

fn first_bytes(options: &Options, times: &Times) -> Result<()> {
    let (mut viewer, next) = native(options.cache, true)?;
    let base = times.first.load(Relaxed);
    let mut body = vec![0; CHUNK_PREFIX_BYTES + TABLES + options.bytes];
    let (mut begun, mut written, mut acked) = (Vec::new(), Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut seq = next;
    while Instant::now() < end {
        first_byte(&mut viewer, &mut body[..1], options.spin)?;
        let now = times.now();
        viewer.read_exact(&mut body[1..])?;
        let index = (seq - base) as usize;
        while times.acked[index].load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        begun.push(now - times.begun[index].load(Relaxed));
        written.push(now.saturating_sub(times.written[index].load(Relaxed)));
        acked.push(times.acked[index].load(Relaxed) - times.written[index].load(Relaxed));
        seq += 1;
    }
    for (what, mut values) in [("first byte sent", begun), ("last byte sent", written), ("last byte -> Ack", acked)] {
        println!("first byte at the viewer after {what}: {} us", percentiles(&mut values));
    }
    Ok(())
}

fn first_byte(viewer: &mut TcpStream, byte: &mut [u8], spin: bool) -> Result<()> {
    if !spin {
        return Ok(viewer.read_exact(byte)?);
    }
    loop {
        match rustix::net::recv(&*viewer, &mut *byte, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the cache closed"),
            Ok(_) => return Ok(()),
            // The publisher's thread may be on the same processor.
            Err(rustix::io::Errno::AGAIN) => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Viewer {
    socket: TcpStream,
    /// Chunks that it has whole, counted from the publisher's first.
    chunks: u64,
    /// Bytes of the next one.
    bytes: u64,
    /// Bytes to be read and looked at before the counting begins.
    intro: Vec<u8>,
    begun: bool,
}

fn watch(options: &Options, times: &Times, memory_empty: u64) -> Result<()> {
    let base = times.first.load(Relaxed);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut viewers = Vec::with_capacity(options.viewers);
    for at in 0..options.viewers {
        let mut viewer = join(options, base, times)?;
        viewer.socket.set_nonblocking(true)?;
        if options.mode == Mode::Closed {
            ask(&mut viewer.socket, base)?;
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, viewer.socket.as_fd(), epoll::EventData::new_u64(at as u64), flags)?;
        viewers.push(viewer);
        if at % 50 == 49 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    // What those who joined first have missed is made good before it counts.
    let begin = times.now() + 3_000_000;
    let end = begin + options.seconds * 1_000_000;
    let size = match options.mode {
        Mode::Push => CHUNK_PREFIX_BYTES + TABLES + options.bytes,
        Mode::Http => options.bytes,
        _ => TABLES + options.bytes,
    } as u64;
    let (mut late, mut missed, mut got, mut cpu) = (Vec::new(), 0u64, 0u64, None);
    let (mut idle_us, mut wait_from) = (0, times.now());
    let mut events = Vec::with_capacity(512);
    let mut scratch = vec![0; 1 << 20];
    let mut served = vec![0u32; viewers.len()];
    while times.now() < end {
        events.clear();
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
        let now = times.now();
        let counts = now >= begin;
        if counts {
            idle_us += now - wait_from;
            cpu.get_or_insert(cpu_us(options.pid)?);
        }
        for event in &events {
            let at = event.data.u64() as usize;
            let viewer = &mut viewers[at];
            loop {
                let count = match take(viewer, &mut scratch, options.mode) {
                    Ok(0) => bail!("viewer {at} was closed"),
                    Ok(count) => count,
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(error) => bail!("viewer {at}: {error}"),
                };
                viewer.bytes += count as u64;
                got += if counts { count as u64 } else { 0 };
                while viewer.begun && viewer.bytes >= size + head_len(viewer, options.mode) {
                    viewer.bytes -= size + head_len(viewer, options.mode);
                    let now = times.now();
                    let chunk = viewer.chunks as usize;
                    viewer.chunks += 1;
                    if options.mode == Mode::Get {
                        ask(&mut viewer.socket, base + viewer.chunks)?;
                    }
                    if options.mode == Mode::Closed {
                        ask(&mut viewer.socket, base)?;
                        served[at] += u32::from(counts);
                        continue;
                    }
                    let written = times.written[chunk].load(Relaxed);
                    if written >= begin && now < end {
                        late.push(now.saturating_sub(written));
                        served[at] += 1;
                    }
                }
            }
        }
        wait_from = times.now();
    }
    let used = cpu_us(options.pid)? - cpu.unwrap_or(0);
    let due = (0..CHUNKS_MAX).filter(|index| {
        let written = times.written[*index].load(Relaxed);
        written >= begin && written + 1_000_000 < end
    });
    let due = due.count() as u32;
    if options.mode != Mode::Idle && options.mode != Mode::Closed {
        missed = served.iter().filter(|served| **served < due).count() as u64;
    }
    let seconds = options.seconds as f64;
    println!(
        "{:?} {} viewers: lateness {} us; {missed} of them short of {due} chunks; {:.2} GiB/s; server {:.1} % of a CPU, \
         {:.3} CPU-s/GiB; sink idle {:.0} %; memory {:.2} KiB per viewer",
        options.mode,
        options.viewers,
        percentiles(&mut late),
        got as f64 / seconds / f64::from(1 << 30),
        used as f64 / seconds / 1e4,
        used as f64 / 1e6 / (got as f64 / f64::from(1 << 30)),
        idle_us as f64 / seconds / 1e4,
        memory_kib(options.pid)?.saturating_sub(memory_empty) as f64 / options.viewers.max(1) as f64,
    );
    Ok(())
}

/// The response's head, which stands in front of each chunk that was asked for.
fn head_len(viewer: &Viewer, mode: Mode) -> u64 {
    if matches!(mode, Mode::Get | Mode::Closed) { viewer.intro.len() as u64 } else { 0 }
}

/// Throws away what has come, but for the part that tells where the counting begins.
fn take(viewer: &mut Viewer, scratch: &mut [u8], mode: Mode) -> Result<usize, rustix::io::Errno> {
    if viewer.begun {
        return rustix::net::recv(&viewer.socket, &mut *scratch, RecvFlags::TRUNC | RecvFlags::DONTWAIT)
            .map(|(_, n)| n);
    }
    let (_, count) = rustix::net::recv(&viewer.socket, &mut *scratch, RecvFlags::DONTWAIT)?;
    viewer.intro.extend_from_slice(&scratch[..count]);
    let Some(head) = viewer.intro.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(count) };
    if mode != Mode::Http {
        assert!(viewer.intro.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&viewer.intro[..head]));
        viewer.bytes = 0;
        let rest = viewer.intro.len();
        viewer.intro.truncate(head + 4);
        viewer.begun = true;
        return Ok(rest);
    }
    if let Some(seq) = viewer.intro.get(head + 4 + TABLES + 4..).and_then(|rest| rest.first_chunk()) {
        viewer.begun = true;
        viewer.chunks = u64::from_be_bytes(*seq) - viewer.chunks;
        viewer.bytes = 0;
        return Ok(viewer.intro.len() - head - 4 - TABLES);
    }
    Ok(count)
}

fn ask(socket: &mut TcpStream, seq: u64) -> Result<()> {
    Ok(socket.write_all(format!("GET /live/fan/{seq}.ts HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?)
}

fn join(options: &Options, base: u64, times: &Times) -> Result<Viewer> {
    let viewer = |socket, chunks, begun| Viewer { socket, chunks, bytes: 0, intro: Vec::new(), begun };
    Ok(match options.mode {
        Mode::Idle => viewer(native(options.cache, false)?.0, 0, true),
        Mode::Push | Mode::First => {
            let (socket, next) = native(options.cache, true)?;
            viewer(socket, next - base, true)
        }
        Mode::Http => {
            let mut socket = TcpStream::connect(options.cache)?;
            socket.write_all(b"GET /live/fan.ts HTTP/1.1\r\nHost: x\r\n\r\n")?;
            viewer(socket, base, false)
        }
        Mode::Closed => viewer(TcpStream::connect(options.cache)?, 0, false),
        Mode::Get => {
            let mut socket = TcpStream::connect(options.cache)?;
            socket.set_nodelay(true)?;
            let next = 1 + (0..CHUNKS_MAX).rfind(|at| times.acked[*at].load(Relaxed) > 0).unwrap_or(0) as u64;
            ask(&mut socket, base + next)?;
            viewer(socket, next, false)
        }
    })
}

/// Welcomed, and with `watch` subscribed to what comes next: the chunk that it begins with.
fn native(cache: SocketAddr, watch: bool) -> Result<(TcpStream, u64)> {
    let mut socket = TcpStream::connect(cache)?;
    say(&mut socket, hello(Role::Viewer))?;
    ensure!(matches!(hear(&mut socket)?, Frame::Welcome(_)), "no Welcome");
    if !watch {
        return Ok((socket, 0));
    }
    say(&mut socket, Open { stream: name(), back: 0 })?;
    let Frame::StreamInfo(info) = hear(&mut socket)? else { bail!("no stream") };
    let next = info.head.next();
    say(&mut socket, Subscribe { stream: info.stream, from: next })?;
    Ok((socket, next.get()))
}

fn name() -> StreamName {
    StreamName::new("fan").expect("a good name")
}

fn hello(role: Role) -> Hello {
    Hello { role, peer: PeerId::NONE, stream: StreamId(0), domain: DomainId(0), listen: None, ticket: Blob::default() }
}

fn say(socket: &mut TcpStream, frame: impl Into<Frame>) -> Result<()> {
    let mut bytes = Vec::new();
    frame.into().encode(&mut bytes);
    Ok(socket.write_all(&bytes)?)
}

fn hear(socket: &mut TcpStream) -> Result<Frame> {
    let mut head = [0; FRAME_HEAD_BYTES];
    socket.read_exact(&mut head)?;
    let head = FrameHead::decode(&head)?;
    let mut body = vec![0; head.body_len];
    socket.read_exact(&mut body)?;
    Ok(Frame::decode(head.kind, &body)?)
}

fn percentiles(values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)));
    let at = |share| at(share).copied().unwrap_or(0);
    format!("p50 {} p90 {} p99 {} max {} of {}", at(0.5), at(0.9), at(0.99), at(1.0), values.len())
}

/// User and system time of a process.
fn cpu_us(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok((ticks(11) + ticks(12)) * 10_000)
}

/// Memory of a process that is neither a file's nor shared: the ring is not in it.
fn memory_kib(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no Anonymous")?;
    Ok(line.split_whitespace().next().unwrap_or("0").parse()?)
}

fn raise_nofile() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
