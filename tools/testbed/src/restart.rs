//! Kills a cache under load at random moments, starts it again on its port, and holds everything that it serves against
//! what was published.
//!
//! ```text
//!  publishers: one chunk after the other, each acknowledged -+               +- look: first chunk, then every chunk
//!  viewers: what there is, over and over, byte by byte ------+-> cache       |  of every stream's window
//!                                                                 | kill -9  |  (publishers wait)
//!                                                                 '-> cache -+-> publishers go on at the next number
//! ```
//! A chunk's bytes follow from its stream and number, so that every one can be judged by itself: a byte that is not the
//! chunk's own is *wrong*, an acknowledged chunk of the window that is not served is *missing*. Every length and pause
//! comes from the seed; where in the cache's work a kill falls does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cache_core::limits::WINDOW_CHUNKS;
use cache_core::peer_id::PeerId;
use cache_core::prng::Prng;
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::time::WallClock;
use cache_core::units::{ChunkSeq, DomainId, Epoch};
use cache_core::wire::codec::Blob;
use cache_core::wire::exchange::{Hello, Publish, Role};
use cache_core::wire::frame::chunk_prefix;
use cache_core::wire::{ChunkHeader, FRAME_HEAD_BYTES, Frame, FrameHead, StreamName};

use crate::native::CacheLink;
use crate::process::Process;
use crate::programs::Programs;
use crate::wait::{HANG, eventually};
use crate::workdir::Workdir;

/// What is done to the cache.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The binaries.
    pub programs: Programs,
    /// From it follow chunks, pauses and damage.
    pub seed: u64,
    /// How often the cache is killed.
    pub kills: u32,
    /// Streams, one publisher each.
    pub streams: u64,
    /// Viewers that read all the time.
    pub viewers: u64,
    /// Longest payload.
    pub chunk_bytes_max: u64,
    /// The ring's memory.
    pub memory_mib: u64,
    /// Before the first kill each stream has so many chunks.
    pub chunks_before: u64,
    /// Bits that are turned in the ring's file between a kill and the next start. Then chunks may be missing.
    pub flips: u64,
    /// Further lines of the cache's configuration.
    pub more: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From each start of the cache (before `exec`) to the first whole chunk at a viewer.
    pub first_chunk: Vec<Duration>,
    /// Chunks looked at after restarts that were served.
    pub served: u64,
    /// Chunks that the viewers read under load.
    pub watched: u64,
    /// Acknowledged chunks of a window that were not served.
    pub missing: u64,
    /// What was wrong, in words: at most [`COMPLAINTS_MAX`].
    pub wrong: Vec<String>,
}

/// One is one too many; more than these are not worth reading.
pub const COMPLAINTS_MAX: usize = 20;

/// Publishers and viewers look at what has changed so often.
const LOOK: Duration = Duration::from_millis(1);

/// Longest time between the publishers' coming back and the next kill (our guess: several chunks of each).
const LIFE_MS_MAX: u64 = 150;

/// What the threads share.
struct Shared<'a> {
    torture: &'a Torture,
    cache: SocketAddr,
    /// Publishers may publish.
    open: AtomicBool,
    over: AtomicBool,
    watched: AtomicU64,
    publishers: Vec<PublisherState>,
    wrong: Mutex<Vec<String>>,
}

#[derive(Default)]
struct PublisherState {
    connected: AtomicBool,
    /// Chunks acknowledged: all below this number.
    acked: AtomicU64,
}

impl Torture {
    /// Does it. `progress` hears of each restart, and ends all of it by an error. An error: that, or something could not
    /// be done at all.
    pub fn run(&self, mut progress: impl FnMut(u32, Duration) -> Result<()>) -> Result<Outcome> {
        let memory = tempfile::Builder::new().prefix("weircast-").tempdir_in("/dev/shm").context("/dev/shm")?;
        let dir = Arc::new(Workdir::new()?);
        let ring = memory.path().join("ring");
        let mut cache = Life::start(self, &dir, &ring, "127.0.0.1:0")?;
        let listen = cache.ready()?;
        let shared = Shared {
            torture: self,
            cache: listen,
            open: AtomicBool::new(true),
            over: AtomicBool::new(false),
            watched: AtomicU64::new(0),
            publishers: (0..self.streams).map(|_| PublisherState::default()).collect(),
            wrong: Mutex::default(),
        };
        let shared = &shared;
        let mut outcome = Outcome::default();
        let done = std::thread::scope(|scope| {
            for stream in 0..self.streams {
                scope.spawn(move || shared.publish(stream));
            }
            for viewer in 0..self.viewers {
                scope.spawn(move || shared.watch(viewer));
            }
            let done = self.kill_and_look(shared, &dir, &ring, cache, &mut outcome, &mut progress);
            shared.over.store(true, Ordering::Relaxed);
            done
        });
        done.with_context(|| dir.logs())?;
        outcome.watched = shared.watched.load(Ordering::Relaxed);
        outcome.wrong = shared.wrong.lock().map_or_else(|_| Vec::new(), |wrong| wrong.clone());
        Ok(outcome)
    }

    fn kill_and_look(
        &self,
        shared: &Shared<'_>,
        dir: &Arc<Workdir>,
        ring: &Path,
        mut cache: Life,
        outcome: &mut Outcome,
        progress: &mut impl FnMut(u32, Duration) -> Result<()>,
    ) -> Result<()> {
        let mut chance = Prng::new(self.seed);
        let filled = || shared.publishers.iter().all(|p| p.acked.load(Ordering::Relaxed) >= self.chunks_before);
        eventually("chunks in every stream", HANG * 5, || filled().then_some(()))?;
        for kill in 0..self.kills {
            std::thread::park_timeout(Duration::from_micros(chance.next_u64() % (LIFE_MS_MAX * 1000)));
            cache.process.kill();
            shared.open.store(false, Ordering::Relaxed);
            let down = || shared.publishers.iter().all(|p| !p.connected.load(Ordering::Relaxed));
            eventually("publishers to notice", HANG, || down().then_some(()))?;
            for _ in 0..self.flips {
                flip(ring, &mut chance)?;
            }
            let begun = Instant::now();
            cache = Life::start(self, dir, ring, &shared.cache.to_string())?;
            let first = chance.next_u64() % self.streams;
            let waited = shared.first_chunk(first)?;
            let took = waited.duration_since(begun);
            outcome.first_chunk.push(took);
            progress(kill + 1, took)?;
            ensure!(cache.ready()? == shared.cache, "the cache is at its old address");
            for stream in 0..self.streams {
                let (served, missing) = shared.look(stream)?;
                outcome.served += served;
                outcome.missing += missing;
            }
            shared.open.store(true, Ordering::Relaxed);
            let up = || shared.publishers.iter().all(|p| p.connected.load(Ordering::Relaxed));
            eventually("publishers to come back", HANG, || up().then_some(()))?;
        }
        Ok(())
    }
}

/// One life of the cache.
struct Life {
    process: Process,
}

impl Life {
    fn start(torture: &Torture, dir: &Arc<Workdir>, ring: &Path, listen: &str) -> Result<Life> {
        let config = dir.file("cache.toml");
        // The viewers read without a pause: a cache that minded its load would refuse the one that looks for chunks.
        let text = format!(
            "listen = \"{listen}\"\nshards = 1\nmemory_mib = {}\nslab = \"{}\"\nstall_forget_s = 3600\n\
             busy_max_permille = 1000\nfanout_ms_max = 60000\n{}\n",
            torture.memory_mib,
            ring.display(),
            torture.more
        );
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let args = ["--config".to_owned(), config.display().to_string()];
        let process = Process::spawn(dir, &torture.programs, "cache", "weircast-cache", &args)?;
        Ok(Life { process })
    }

    fn ready(&mut self) -> Result<SocketAddr> {
        let ready = self.process.wait_ready(HANG)?;
        ready["listen"].as_str().and_then(|listen| listen.parse().ok()).context("a ready line names the address")
    }
}

/// Turns a bit of the file, anywhere behind the words that say what it is.
fn flip(ring: &Path, chance: &mut Prng) -> Result<()> {
    const HEADER_BYTES: u64 = 48;
    let file = std::fs::File::options().read(true).write(true).open(ring)?;
    let at = HEADER_BYTES + chance.next_u64() % (file.metadata()?.len() - HEADER_BYTES);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << (chance.next_u64() % 8);
    Ok(file.write_all_at(&byte, at)?)
}

fn name(stream: u64) -> String {
    format!("torture-{stream}")
}

impl Shared<'_> {
    fn complain(&self, what: String) {
        if let Ok(mut wrong) = self.wrong.lock()
            && wrong.len() < COMPLAINTS_MAX
        {
            wrong.push(what);
        }
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn key(&self, stream: u64) -> PublisherKey {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&self.torture.seed.to_be_bytes());
        seed[8..16].copy_from_slice(&stream.to_be_bytes());
        PublisherKey::from_seed(&seed)
    }

    /// Chunk `seq` of a stream: it follows from the seed and the two numbers.
    fn chunk(&self, stream: u64, seq: u64) -> Result<(ChunkHeader, Vec<u8>)> {
        let mut chance = Prng::new(self.torture.seed ^ stream << 48 ^ seq);
        let len = 1 + chance.next_u64() % self.torture.chunk_bytes_max;
        let mut payload = Vec::with_capacity(len as usize + 8);
        while (payload.len() as u64) < len {
            payload.extend_from_slice(&chance.next_u64().to_ne_bytes());
        }
        payload.truncate(len as usize);
        let mut header = ChunkHeader {
            stream: stream_id(&StreamName::new(&name(stream))?),
            epoch: Epoch(1),
            seq: ChunkSeq::new(seq),
            published: WallClock::from_micros(seq * 200_000),
            payload_len: payload.len() as u32,
            tables_len: 0,
            duration_ms: 200,
            key_frame: Some(0),
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        };
        self.key(stream).sign_chunk(&mut header, &payload);
        Ok((header, payload))
    }

    /// Holds a served chunk against the published one.
    fn judge(&self, stream: u64, seq: u64, (header, payload): &(ChunkHeader, Vec<u8>)) -> Result<()> {
        let (right_header, right_payload) = self.chunk(stream, seq)?;
        if *header != right_header || *payload != right_payload {
            let place = payload.iter().zip(&right_payload).position(|(a, b)| a != b);
            self.complain(format!("chunk {seq} of stream {stream} is wrong, in the payload from {place:?}"));
        }
        Ok(())
    }

    fn publish(&self, stream: u64) {
        while self.goes_on() {
            if self.open.load(Ordering::Relaxed) {
                // How it ended is nobody's concern: the cache was killed, or is not there yet.
                let _ = self.publish_once(stream);
                self.publishers[stream as usize].connected.store(false, Ordering::Relaxed);
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn publish_once(&self, stream: u64) -> Result<()> {
        let state = &self.publishers[stream as usize];
        let mut link = PublisherLink::open(self.cache, &name(stream), &self.key(stream))?;
        let acked = state.acked.load(Ordering::Relaxed);
        // Where bits were turned, a whole stream may have been lost: it begins anew.
        if self.torture.flips == 0 && !(acked..=acked + 1).contains(&link.next) {
            self.complain(format!(
                "stream {stream} goes on at {}, though all below {acked} were acknowledged",
                link.next
            ));
        }
        state.connected.store(true, Ordering::Relaxed);
        while self.goes_on() {
            let seq = link.next;
            link.send(&self.chunk(stream, seq)?)?;
            state.acked.store(seq + 1, Ordering::Relaxed);
            if seq >= self.torture.chunks_before {
                std::thread::park_timeout(LOOK);
            }
        }
        Ok(())
    }

    fn watch(&self, viewer: u64) {
        let mut stream = viewer;
        while self.goes_on() {
            stream = (stream + 1) % self.torture.streams;
            let _ = self.watch_once(stream);
            std::thread::park_timeout(LOOK);
        }
    }

    fn watch_once(&self, stream: u64) -> Result<()> {
        let mut link = CacheLink::open(self.cache, &name(stream))?;
        for seq in link.info.oldest.get()..=link.info.head.get() {
            if let Some(chunk) = link.chunk_if_there(seq)? {
                self.judge(stream, seq, &chunk)?;
                self.watched.fetch_add(1, Ordering::Relaxed);
            }
            if !self.goes_on() {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the cache to come up and for a chunk out of it, of this stream or another; when that was there.
    fn first_chunk(&self, mut stream: u64) -> Result<Instant> {
        let deadline = Instant::now() + HANG;
        loop {
            let first = CacheLink::open(self.cache, &name(stream)).and_then(|mut link| {
                let head = link.info.head.get();
                let chunk = link.chunk_if_there(head)?.context("the newest chunk is there")?;
                Ok((head, chunk))
            });
            match first {
                Ok((seq, chunk)) => {
                    let now = Instant::now();
                    self.judge(stream, seq, &chunk)?;
                    return Ok(now);
                }
                Err(error) if Instant::now() >= deadline => return Err(error).context("the cache does not come back"),
                Err(_) => {
                    stream = (stream + 1) % self.torture.streams;
                    std::thread::park_timeout(LOOK);
                }
            }
        }
    }

    /// Fetches every chunk of a stream's window; how many were served, and how many acknowledged ones were not.
    fn look(&self, stream: u64) -> Result<(u64, u64)> {
        let acked = self.publishers[stream as usize].acked.load(Ordering::Relaxed);
        let mut link = match CacheLink::open(self.cache, &name(stream)) {
            Ok(link) => link,
            // Where bits were turned, a whole stream may be lost.
            Err(_) if self.torture.flips > 0 => return Ok((0, acked.min(WINDOW_CHUNKS))),
            Err(error) => bail!("stream {stream} is lost: {error:#}"),
        };
        let head = link.info.head.get();
        if head > acked || (head + 1 < acked && self.torture.flips == 0) {
            self.complain(format!("the head of stream {stream} is {head}, and all below {acked} were acknowledged"));
        }
        let (mut served, mut missing) = (0, 0);
        for seq in (head + 1).saturating_sub(WINDOW_CHUNKS)..=head {
            match link.chunk_if_there(seq)? {
                Some(chunk) => {
                    self.judge(stream, seq, &chunk)?;
                    served += 1;
                }
                None => missing += 1,
            }
        }
        Ok((served, missing))
    }
}

/// A publisher's link to a cache that stands alone.
struct PublisherLink {
    socket: TcpStream,
    next: u64,
}

impl PublisherLink {
    fn open(cache: SocketAddr, stream: &str, key: &PublisherKey) -> Result<PublisherLink> {
        let name = StreamName::new(stream)?;
        let mut socket = TcpStream::connect_timeout(&cache, HANG)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANG))?;
        socket.set_write_timeout(Some(HANG))?;
        let (id, ticket) = (stream_id(&name), Blob::default());
        let hello =
            Hello { role: Role::Publisher, peer: PeerId::NONE, stream: id, domain: DomainId(0), listen: None, ticket };
        say(&mut socket, hello)?;
        let Frame::Welcome(welcome) = hear(&mut socket)? else { bail!("no Welcome") };
        let signature = key.sign_publish(id, Epoch(1), &welcome.nonce);
        say(&mut socket, Publish { stream: name, epoch: Epoch(1), key: key.public(), signature })?;
        let Frame::PublishOk(ok) = hear(&mut socket)? else { bail!("no PublishOk") };
        Ok(PublisherLink { socket, next: ok.next.get() })
    }

    /// Sends the next chunk and waits until it is acknowledged.
    fn send(&mut self, (header, payload): &(ChunkHeader, Vec<u8>)) -> Result<()> {
        self.socket.write_all(&chunk_prefix(header))?;
        self.socket.write_all(payload)?;
        let Frame::Ack(ack) = hear(&mut self.socket)? else { bail!("no Ack") };
        ensure!(ack.seq == header.seq, "another chunk is acknowledged");
        self.next += 1;
        Ok(())
    }
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
