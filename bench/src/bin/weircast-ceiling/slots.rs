//! The file of chunks: fixed slots, used round and round, each a response head and behind it a chunk.
//!
//! ```text
//!  slot   | HTTP head, 128 bytes | chunk ...................... | unused |
//!           GET of one chunk sends both; a stream sends the chunk alone
//! ```
//! A slot is overwritten in place. Whoever is still being sent its old bytes would get the new ones, so the server
//! drops readers long before ([`BEHIND_MAX`]).

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use cache_core::media::{Generator, GeneratorConfig, Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::time::WallClock;
use cache_core::units::BitRate;

/// 51.2 s, as a cache keeps.
pub(crate) const SLOTS: u64 = 256;

/// A reader so far behind, 2 s, is dropped: it was not served in time, and to go on would be to send it what nobody
/// wants any more. Its slots are far from being overwritten then.
pub(crate) const BEHIND_MAX: u64 = 10;

/// The response head, padded by a field without meaning.
const HEAD_BYTES: usize = 128;

/// Chunks of the generated stream differ by a picture's packets; a slot has this much room for a nominal one (our guess).
const ROOM: u64 = 2;

/// The slots and what fills them.
pub(crate) struct Slots {
    pub(crate) file: File,
    stride: u64,
    fill: Fill,
    /// Bytes of each slot's chunk.
    lengths: Vec<u64>,
    /// Number of the next chunk to be written.
    pub(crate) head: u64,
}

enum Fill {
    /// The same bytes each time.
    Plain(Vec<u8>),
    Generated(Box<Stream>),
}

/// The self-checking stream.
struct Stream {
    generator: Generator,
    slicer: Slicer,
    cut: Outbox<Slice>,
    ready: VecDeque<Slice>,
}

impl Stream {
    fn new(kbps: u64) -> Stream {
        let config = GeneratorConfig { rate: BitRate::from_kbps(kbps), ..GeneratorConfig::default() };
        let slicer = Slicer::new(SlicerConfig::default());
        Stream { generator: Generator::new(config), slicer, cut: Outbox::new(), ready: VecDeque::new() }
    }

    fn next(&mut self) -> Result<Slice> {
        loop {
            if let Some(slice) = self.ready.pop_front() {
                return Ok(slice);
            }
            let mut picture = Vec::new();
            self.generator.next_frame(&mut picture);
            let pushed = self.slicer.push(WallClock::default(), &picture, &mut self.cut);
            pushed.context("the generated stream cannot be sliced")?;
            self.ready.extend(self.cut.drain());
        }
    }
}

/// Writes the first `count` chunks of the generated stream to files in `dir`.
pub(crate) fn files(dir: &Path, kbps: u64, count: u64) -> Result<()> {
    let mut stream = Stream::new(kbps);
    for seq in 0..count {
        let path = dir.join(format!("{seq}.ts"));
        std::fs::write(&path, stream.next()?.stream_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Where to send from, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) left: u64,
}

/// Bytes of a plain chunk at `kbps`.
pub(crate) fn plain_bytes(kbps: u64) -> u64 {
    kbps * 1_000 / 8 / 5
}

impl Slots {
    /// Makes the file in `dir`, with room for every slot, and fills each once.
    pub(crate) fn new(dir: &Path, kbps: u64, plain: bool) -> Result<Slots> {
        let path = dir.join(format!("weircast-ceiling-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        std::fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        let stride = (HEAD_BYTES as u64 + ROOM * plain_bytes(kbps)).next_multiple_of(4096);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, SLOTS * stride)
            .with_context(|| format!("{} has no room for {} MiB", dir.display(), (SLOTS * stride) >> 20))?;
        let fill = if plain {
            Fill::Plain((0..plain_bytes(kbps)).map(|at| (at % 251) as u8).collect())
        } else {
            Fill::Generated(Box::new(Stream::new(kbps)))
        };
        let mut slots = Slots { file, stride, fill, lengths: vec![0; SLOTS as usize], head: 0 };
        for _ in 0..SLOTS {
            slots.advance()?;
        }
        Ok(slots)
    }

    /// Writes the next chunk.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let offset = (self.head % SLOTS) * self.stride;
        let written = match &mut self.fill {
            Fill::Plain(bytes) => put(&self.file, offset, self.stride, bytes)?,
            Fill::Generated(stream) => put(&self.file, offset, self.stride, stream.next()?.stream_bytes())?,
        };
        self.lengths[(self.head % SLOTS) as usize] = written;
        self.head += 1;
        Ok(())
    }

    /// The bytes of chunk `seq`, or of the one that has taken its slot.
    pub(crate) fn chunk(&self, seq: u64) -> Range {
        Range { offset: (seq % SLOTS) * self.stride + HEAD_BYTES as u64, left: self.lengths[(seq % SLOTS) as usize] }
    }

    /// The response with that chunk.
    pub(crate) fn response(&self, seq: u64) -> Range {
        let chunk = self.chunk(seq);
        Range { offset: chunk.offset - HEAD_BYTES as u64, left: chunk.left + HEAD_BYTES as u64 }
    }
}

fn put(file: &File, offset: u64, stride: u64, chunk: &[u8]) -> Result<u64> {
    anyhow::ensure!(HEAD_BYTES + chunk.len() <= stride as usize, "a chunk of {} bytes does not fit", chunk.len());
    let fields = format!("HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nContent-Length: {}\r\nX: ", chunk.len());
    let head = format!("{fields:x<0$}\r\n\r\n", HEAD_BYTES - 4);
    file.write_all_at(head.as_bytes(), offset)?;
    file.write_all_at(chunk, offset + HEAD_BYTES as u64)?;
    Ok(chunk.len() as u64)
}
