//! Taking over the file that a dead process left: what of it can be believed, and whose each segment is.
//!
//! ```text
//!  file at the path            |                                              | then
//!  ----------------------------+----------------------------------------------+-------------------------------------
//!  none, or empty              |                                              | a new one is made
//!  locked                      | its process lives                            | InUse
//!  no regular file, or another user's                                         | Foreign: a person must look
//!  on a disk                                                                  | NotInMemory: left as it is
//!  without our magic           | somebody's, or garbage                       | set aside under another name
//!  ours, not finished          | its process died while making it             | replaced
//!  ours, of another layout     | version, size, streams, retention or length  | replaced
//!  ours, of this layout        |                                              | taken over
//! ```
//! # What is believed
//! Whatever stands in the file is a claim. A chunk is kept when its stream is open, its descriptor is whole (even version)
//! and speaks of a number up to the stream's head and within retention, of a published range inside a segment of the same
//! generation that no other stream claims, and when the descriptor's seal fits the stream's id, the descriptor's words
//! and the 152 bytes in front of the payload. Every number is held against its range before it is used. All else is
//! cleared. What is kept is *suspect* until the payload's hash has been checked, which the ring cannot do itself: the
//! newest chunk of each stream at once, the others when they are first to be sent ([`super::Reader::vouch`]).
//!
//! Taking over changes the file in single stores, each of which leaves it as good as it was for the next one, should this
//! process be killed meanwhile; what a dead process left half written is only ever made to say nothing.
//!
//! # Segments
//! Those with kept chunks stay their stream's. The one with its newest chunk is filled on behind it, if nothing stands
//! there that was ever published: what is appended then is on bytes that no socket was given. All others are nobody's, to be given up and
//! renewed before they are filled, as any segment is; sockets of the dead process may still hold their pages, so they are
//! renewed by fresh pages even under [`Recycle::InPlace`](super::Recycle::InPlace).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::chunk::StreamSlot;
use super::config::{Backing, RingConfig};
use super::control::Control;
use super::descriptor::{Entry, seal};
use super::error::RingError;
use super::layout::{CHUNK_ALIGN, Layout, MAGIC, PREFIX_BYTES, SEGMENT_BYTES, VERSION, header};
use super::memory::{self, Slabs, Words};
use super::shm::{self, SlabFile, failed};
use super::stats::Counter;
use super::sync::Ordering;
use crate::limits::CHUNK_PAYLOAD_BYTES_MAX;
use crate::time::WallClock;
use crate::units::{ChunkSeq, Epoch, StreamId};

/// What was found at the ring's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or the ring is a memfd.
    Nothing,
    /// A ring that cannot be taken over, which was replaced; why.
    Replaced(String),
    /// Something else, which has this name now.
    SetAside {
        /// The new name.
        to: PathBuf,
        /// Something that had been set aside before, and was removed.
        removed: Option<PathBuf>,
    },
    /// A dead process's ring, which was taken over.
    Ring,
}

/// What a ring began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// What stood at its path.
    pub found: Found,
    /// The streams that go on, each with at least one chunk.
    pub streams: Vec<InheritedStream>,
    /// Chunks kept.
    pub chunks: u64,
    /// Chunks that were half written, not yet published or damaged.
    pub torn: u64,
}

/// A stream that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedStream {
    /// Its id.
    pub id: StreamId,
    /// Its place. The stream is open; whoever does not want it closes it.
    pub slot: StreamSlot,
    /// What [`Writer::set_note`](super::Writer::set_note) was last told; empty when nothing, or when it is damaged.
    pub note: Vec<u8>,
    /// The newest chunk, which has been checked.
    pub head: ChunkSeq,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it ended the stream.
    pub end: bool,
    /// The number after the newest one that was ever published: behind `head`, or above it when chunks were lost.
    pub next: ChunkSeq,
}

/// What stands in the file, as far as it is believed.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) streams: Vec<FoundStream>,
    /// By segment.
    pub(super) claims: Vec<Claim>,
    chunks: u64,
    torn: u64,
}

/// A stream that has chunks.
#[derive(Debug)]
pub(super) struct FoundStream {
    pub(super) id: StreamId,
    pub(super) slot: StreamSlot,
    pub(super) head: ChunkSeq,
    /// The segment of its newest chunk.
    pub(super) newest_segment: u32,
    /// Where the next chunk begins in there; the segment's length when it must not be filled on.
    pub(super) fill: u32,
    note: Vec<u8>,
    epoch: Epoch,
    end: bool,
    next: ChunkSeq,
}

/// Whose a segment is.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    pub(super) stream: Option<u32>,
    /// Its newest chunk.
    pub(super) newest: Option<ChunkSeq>,
    /// Its age in segments: later ones have greater numbers, from 1; 0 is nobody's.
    pub(super) born: u64,
    published: WallClock,
    /// Where the last of its chunks ends.
    end: u32,
    /// More than one stream says that it is its own: it is nobody's.
    disputed: bool,
}

/// A number above those that any stream reaches: five chunks a second take 1.7 million years.
const SEQ_MAX: u64 = 1 << 48;

/// A generation above those that any segment reaches.
const GENERATION_MAX: u64 = 1 << 48;

/// Opens the ring's file at the configured path, or makes it: the words and segments, and what was found.
pub(super) fn open_or_create(config: &RingConfig, layout: &Layout) -> Result<(Words, Slabs, Found), RingError> {
    let Backing::File(path) = &config.backing else {
        let (words, slabs) = memory::create(config, layout)?;
        return Ok((words, slabs, Found::Nothing));
    };
    let found = match shm::open_locked(path)? {
        None => Found::Nothing,
        // A mistaken path: whatever this is stays as it is.
        Some(old) if !shm::is_in_memory(&old, path)? => {
            return Err(RingError::NotInMemory { place: path.display().to_string() });
        }
        Some(old) => match judge(&old, path, layout)? {
            Judged::Ours => {
                // An error leaves the file as it was, for another try.
                let mut file = SlabFile::fill_up(old, path, true, layout.file_bytes())?;
                file.set_keep(config.keep_file);
                let (words, slabs) = memory::map(file, layout)?;
                return Ok((words, slabs, Found::Ring));
            }
            Judged::Empty => replace(path).map(|()| Found::Nothing)?,
            Judged::Unusable(why) => replace(path).map(|()| Found::Replaced(why))?,
            Judged::Foreign => set_aside(&old, path)?,
        },
    };
    let (words, slabs) = memory::create(config, layout)?;
    Ok((words, slabs, found))
}

enum Judged {
    Ours,
    Empty,
    Unusable(String),
    Foreign,
}

/// What a file is, by its first words and its length.
fn judge(file: &OwnedFd, path: &Path, layout: &Layout) -> Result<Judged, RingError> {
    let place = path.display().to_string();
    let mut head = [0; header::WORDS * 8];
    let got = rustix::io::pread(file, &mut head, 0).map_err(failed("read", &place))?;
    let bytes = rustix::fs::fstat(file).map_err(failed("look at", &place))?.st_size as u64;
    let fact = |word| u64::from_ne_bytes(head.as_chunks::<8>().0[word]);
    let unusable = |why: String| Ok(Judged::Unusable(why));
    if got == 0 {
        return Ok(Judged::Empty);
    }
    if fact(header::MAGIC) != MAGIC {
        return Ok(Judged::Foreign);
    }
    match fact(header::VERSION) {
        VERSION => {}
        0 => return unusable("its process ended before it was finished".into()),
        other => return unusable(format!("it has layout version {other}, this program uses {VERSION}")),
    }
    for (what, word, ours) in [
        ("bytes", header::BUDGET_BYTES, layout.budget_bytes),
        ("streams at most", header::STREAMS_MAX, u64::from(layout.streams)),
        ("chunks kept of each", header::RETAIN_CHUNKS, layout.retain),
    ] {
        let theirs = fact(word);
        if theirs != ours {
            return unusable(format!("it was made for {theirs} {what}, and {ours} are configured"));
        }
    }
    if bytes != layout.file_bytes() {
        return unusable(format!("it is {bytes} bytes long instead of {}", layout.file_bytes()));
    }
    Ok(Judged::Ours)
}

fn replace(path: &Path) -> Result<(), RingError> {
    rustix::fs::unlink(path).map_err(failed("replace", &path.display().to_string()))
}

/// Renames what is no ring, after the second in which it was last changed. Of what was set aside before only this one is kept, so that memory is not filled with it.
fn set_aside(file: &OwnedFd, path: &Path) -> Result<Found, RingError> {
    let changed = rustix::fs::fstat(file).map_err(failed("look at", &path.display().to_string()))?.st_mtime;
    let prefix = format!("{}.set-aside-", path.file_name().unwrap_or_default().to_string_lossy());
    let ours = |name: &str| name.strip_prefix(&prefix).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let beside = path.parent().and_then(|directory| std::fs::read_dir(directory).ok());
    let mut removed = None;
    for entry in beside.into_iter().flatten().flatten() {
        let former = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && ours(&entry.file_name().to_string_lossy()) && rustix::fs::unlink(&former) == Ok(()) {
            removed = Some(former);
        }
    }
    let to = path.with_file_name(format!("{prefix}{changed}"));
    rustix::fs::rename(path, &to).map_err(failed("set aside", &path.display().to_string()))?;
    Ok(Found::SetAside { to, removed })
}

/// Reads what a dead process left, clears what is not believed and marks the rest as inherited. `is_whole` judges a chunk
/// by all of its bytes. Only where there is no reader and no writer yet.
pub(super) fn scan(control: &Control, slabs: &Slabs, is_whole: &mut dyn FnMut(&[u8]) -> bool) -> Scan {
    control.reset_counters();
    let mut scan = Scan {
        streams: Vec::new(),
        claims: vec![Claim::default(); control.layout.segments as usize],
        chunks: 0,
        torn: 0,
    };
    let mut ids = BTreeSet::new();
    let mut kept: Vec<Vec<ChunkSeq>> = Vec::new();
    for index in 0..control.layout.streams {
        let entry = control.stream(index);
        let open = entry.identity().filter(|(_, id)| entry.is_sane() && ids.insert(*id));
        if open.is_none() {
            entry.shut();
        }
        let chunks = scan.descriptors(control, slabs, index, open.map(|(_, id)| id));
        kept.push(chunks);
    }
    for index in 0..control.layout.streams {
        let chunks = &mut kept[index as usize];
        scan.stream(control, slabs, index, chunks, is_whole);
    }
    for segment in 0..control.layout.segments {
        let generation = control.generation(segment);
        if !(1..=GENERATION_MAX).contains(&generation.load(Ordering::Relaxed)) {
            generation.store(1, Ordering::Relaxed);
        }
    }
    scan.order();
    let used = scan.streams.iter().map(|found| found.slot.index + 1).max().unwrap_or(0);
    control.set_streams_used(used);
    for (counter, count) in [(Counter::inherited, scan.chunks), (Counter::torn, scan.torn)] {
        (0..count).for_each(|_| control.count(counter));
    }
    scan
}

/// What a descriptor is worth.
enum Worth {
    Kept(Entry),
    /// Its chunk has expired, or its segment was given up: nothing is lost by clearing it.
    Stale,
    Torn,
}

impl Scan {
    /// The chunks of stream `index` that are believed one by one; enters their claims.
    fn descriptors(&mut self, control: &Control, slabs: &Slabs, index: u32, id: Option<StreamId>) -> Vec<ChunkSeq> {
        let mut kept = Vec::new();
        let head = control.stream(index).head().filter(|head| head.get() < SEQ_MAX);
        for row in 0..control.layout.retain {
            let descriptor = control.descriptor(index, ChunkSeq::new(row));
            if descriptor.is_clear() {
                continue;
            }
            let worth = match (id, head) {
                (Some(id), Some(head)) => match descriptor.read() {
                    Some(entry) => judge_chunk(control, slabs, id, head, row, entry),
                    None => Worth::Torn,
                },
                // A stream's first chunk, not yet published; or a closed stream's, being cleared.
                (Some(_), None) => Worth::Torn,
                (None, _) => Worth::Stale,
            };
            match worth {
                Worth::Kept(entry) => {
                    self.claims[entry.segment as usize].enter(index, &entry);
                    kept.push(entry.meta.seq);
                    continue;
                }
                Worth::Stale => {}
                Worth::Torn => self.torn += 1,
            }
            descriptor.reset();
        }
        kept
    }

    /// Settles stream `index`, of which `chunks` are believed: its newest whole chunk is its head.
    fn stream(
        &mut self,
        control: &Control,
        slabs: &Slabs,
        index: u32,
        chunks: &mut Vec<ChunkSeq>,
        is_whole: &mut dyn FnMut(&[u8]) -> bool,
    ) {
        let entry = control.stream(index);
        let Some((generation, id)) = entry.identity() else { return };
        let published = entry.head();
        chunks.retain(|seq| {
            let descriptor = control.descriptor(index, *seq);
            let disputed = descriptor.read().is_none_or(|entry| self.claims[entry.segment as usize].disputed);
            if disputed {
                descriptor.reset();
                self.torn += 1;
            }
            !disputed
        });
        chunks.sort_unstable();
        let newest = loop {
            let Some(seq) = chunks.pop() else { break None };
            let descriptor = control.descriptor(index, seq);
            let Some(entry) = descriptor.read() else { continue };
            let (at, len) = place(control, &entry);
            // SAFETY: there is no writer yet that could change the range, and `judge_chunk` has found it inside a segment.
            if is_whole(unsafe { slabs.bytes(at, len) }) {
                break Some(entry);
            }
            descriptor.reset();
            self.torn += 1;
        };
        let Some(newest) = newest else {
            entry.shut();
            return;
        };
        let head = newest.meta.seq;
        if published != Some(head) {
            entry.advance(head);
        }
        // It was the dead process's to say how many it keeps, and is the next one's: who wants more gets what is there.
        entry.set_retain(0);
        control.descriptor(index, head).inherit();
        control.verdicts.set(control.layout.row(index, head.get()), true);
        for seq in chunks.iter() {
            control.descriptor(index, *seq).inherit();
        }
        self.chunks += 1 + chunks.len() as u64;
        let note = entry.notes();
        self.streams.push(FoundStream {
            id,
            slot: StreamSlot { index, generation },
            head,
            newest_segment: newest.segment,
            fill: self.fill(control, newest.segment),
            note: if note == 0 { Vec::new() } else { control.note(index, note).read(id).unwrap_or_default() },
            epoch: newest.meta.epoch,
            end: newest.meta.end,
            next: published.unwrap_or(head).max(head).next(),
        });
    }

    /// Where `segment` is filled on. When more was published in it than was kept, that may still be on its way from the dead
    /// process's sockets: then nowhere.
    fn fill(&self, control: &Control, segment: u32) -> u32 {
        let end = self.claims[segment as usize].end;
        let all_kept = control.filled(segment).load(Ordering::Relaxed) == u64::from(end);
        if all_kept { end.next_multiple_of(CHUNK_ALIGN as u32) } else { SEGMENT_BYTES as u32 }
    }

    /// Frees the segments of streams that did not come through, and puts the others into the order of their age.
    fn order(&mut self) {
        let open: BTreeSet<u32> = self.streams.iter().map(|found| found.slot.index).collect();
        for claim in &mut self.claims {
            if claim.disputed || claim.stream.is_some_and(|stream| !open.contains(&stream)) {
                *claim = Claim::default();
            }
        }
        let mut by_age: Vec<usize> = (0..self.claims.len()).filter(|at| self.claims[*at].stream.is_some()).collect();
        by_age.sort_by_key(|at| self.claims[*at].published);
        for (born, at) in (1..).zip(by_age) {
            self.claims[at].born = born;
        }
    }

    /// What the ring's owner is told.
    pub(super) fn report(&self, found: Found) -> Inherited {
        let stream = |found: &FoundStream| InheritedStream {
            id: found.id,
            slot: found.slot,
            note: found.note.clone(),
            head: found.head,
            epoch: found.epoch,
            end: found.end,
            next: found.next,
        };
        let streams = self.streams.iter().map(stream).collect();
        Inherited { found, streams, chunks: self.chunks, torn: self.torn }
    }
}

impl Claim {
    fn enter(&mut self, stream: u32, entry: &Entry) {
        self.disputed |= self.stream.is_some_and(|other| other != stream);
        self.stream = Some(stream);
        self.newest = self.newest.max(Some(entry.meta.seq));
        self.published = self.published.max(entry.meta.published);
        self.end = self.end.max(entry.offset + PREFIX_BYTES as u32 + entry.meta.payload_len);
    }
}

/// Whether a whole descriptor in `row` of stream `id`, whose newest chunk is `head`, is believed.
fn judge_chunk(control: &Control, slabs: &Slabs, id: StreamId, head: ChunkSeq, row: u64, entry: Entry) -> Worth {
    let layout = &control.layout;
    let seq = entry.meta.seq;
    if entry.segment >= layout.segments || seq.get() % layout.retain != row {
        return Worth::Torn;
    }
    let generation = control.generation(entry.segment).load(Ordering::Relaxed);
    match head.since(seq) {
        None => return Worth::Torn,
        Some(age) if age >= layout.retain => return Worth::Stale,
        Some(_) => {}
    }
    if generation != entry.generation {
        return Worth::Stale;
    }
    let end = u64::from(entry.offset) + PREFIX_BYTES as u64 + u64::from(entry.meta.payload_len);
    let published = control.filled(entry.segment).load(Ordering::Relaxed);
    if !(1..=GENERATION_MAX).contains(&generation)
        || entry.meta.payload_len as usize > CHUNK_PAYLOAD_BYTES_MAX
        || end > published
        || published > SEGMENT_BYTES
    {
        return Worth::Torn;
    }
    let (at, _) = place(control, &entry);
    // SAFETY: there is no writer yet that could change the range, which is inside a segment, as has just been shown.
    let prefix = unsafe { slabs.bytes(at, PREFIX_BYTES) };
    if seal(id, &entry, prefix) == entry.seal { Worth::Kept(entry) } else { Worth::Torn }
}

/// Where a chunk stands in the file, and its length.
fn place(control: &Control, entry: &Entry) -> (u64, usize) {
    let at = control.layout.segment_offset(entry.segment) + u64::from(entry.offset);
    (at, PREFIX_BYTES + entry.meta.payload_len as usize)
}
