//! The publisher's timetable: when each chunk was due and when its last byte was written, for viewers in other
//! threads and processes of the same host.
//!
//! ```text
//!  file:   | stream 0: origin, first number, - , - | row 0 | row 1 | ... | row 1022 |   | stream 1: ...
//!  row:    | number + 1 | due | completed | bytes of the chunk behind its tables |        8 bytes each, microseconds
//! ```
//! It is a file in memory (or where `--times` says) because that needs neither a lock nor unsafe code, and is the same for
//! threads and processes. A row is written twice: when the chunk is due, and when its last byte has been written. Rows
//! are reused after 204 s; who asks for a chunk asks within seconds.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cache_core::units::CHUNK_SPAN;

const ROW_BYTES: u64 = 32;
const ROWS: u64 = 1023;
const STREAM_BYTES: u64 = (1 + ROWS) * ROW_BYTES;

/// In the first row, so that another file is told apart.
const MARK: u64 = u64::from_be_bytes(*b"WCTIMES1");

/// What is known of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its number, counted from the beginning of the publication.
    pub(crate) number: u64,
    /// When it was due (wall clock, microseconds).
    pub(crate) due_us: u64,
    /// When its last byte was written; `None` as long as it is not.
    pub(crate) completed_us: Option<u64>,
    /// The transport stream's bytes, without tables in front.
    pub(crate) bytes: u64,
}

/// When a stream began, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// When media time 0 was due.
    pub(crate) origin_us: u64,
    /// The number that the cache gave the first chunk; `None` when the cache numbers (an upload over HTTP).
    pub(crate) first_seq: Option<u64>,
}

/// The file, open. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    file: Arc<File>,
    path: PathBuf,
}

impl Timetable {
    /// A timetable in memory.
    pub(crate) fn in_memory() -> Result<Timetable> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let fd = rustix::fs::memfd_create("weircast-load times", flags).context("the kernel gives no memory file")?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&fd));
        Ok(Timetable { file: Arc::new(File::from(fd)), path: path.into() })
    }

    /// A timetable in a file that others can open.
    pub(crate) fn create(path: &Path) -> Result<Timetable> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Timetable { file: Arc::new(file), path: path.to_owned() })
    }

    /// Somebody else's.
    pub(crate) fn open(path: &Path) -> Result<Timetable> {
        let file = File::open(path).with_context(|| {
            format!("cannot read {}: is the publisher (`weircast-load publish --times`) running?", path.display())
        })?;
        let times = Timetable { file: Arc::new(file), path: path.to_owned() };
        ensure!(times.read(0, 0).is_some_and(|[mark, ..]| mark == MARK), "{} is no timetable", path.display());
        Ok(times)
    }

    /// Where another process of this host can open it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The publication of `stream` begins.
    pub(crate) fn begin(&self, stream: usize, begin: Begin) -> Result<()> {
        let first = begin.first_seq.map_or(0, |seq| seq + 1);
        self.write(stream, 0, [MARK, begin.origin_us, first, 0]).context("the timetable cannot be written")
    }

    /// Writes what is known of a chunk.
    pub(crate) fn note(&self, stream: usize, row: Row) -> Result<()> {
        let words = [row.number + 1, row.due_us, row.completed_us.unwrap_or(0), row.bytes];
        self.write(stream, 1 + row.number % ROWS, words).context("the timetable cannot be written")
    }

    /// How the publication of `stream` began; `None` before it.
    pub(crate) fn began(&self, stream: usize) -> Option<Begin> {
        let [mark, origin_us, first, _] = self.read(stream, 0)?;
        (mark == MARK).then_some(Begin { origin_us, first_seq: first.checked_sub(1) })
    }

    /// What is known of a chunk; `None` before it is due, and long after.
    pub(crate) fn row(&self, stream: usize, number: u64) -> Option<Row> {
        let [name, due_us, completed, bytes] = self.read(stream, 1 + number % ROWS)?;
        let completed_us = (completed > 0).then_some(completed);
        (name == number + 1).then_some(Row { number, due_us, completed_us, bytes })
    }

    fn write(&self, stream: usize, row: u64, words: [u64; 4]) -> std::io::Result<()> {
        let mut bytes = [0; ROW_BYTES as usize];
        for (field, word) in bytes.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        self.file.write_all_at(&bytes, stream as u64 * STREAM_BYTES + row * ROW_BYTES)
    }

    fn read(&self, stream: usize, row: u64) -> Option<[u64; 4]> {
        let mut bytes = [0; ROW_BYTES as usize];
        self.file.read_exact_at(&mut bytes, stream as u64 * STREAM_BYTES + row * ROW_BYTES).ok()?;
        let mut words = [0; 4];
        for (field, word) in bytes.as_chunks::<8>().0.iter().zip(&mut words) {
            *word = u64::from_ne_bytes(*field);
        }
        Some(words)
    }
}

/// One stream's timetable as a thread reads it: each row is read from the file until it is complete, then kept.
#[derive(Debug)]
pub(crate) struct Times {
    table: Timetable,
    stream: usize,
    begin: Option<Begin>,
    kept: RefCell<[Row; KEPT]>,
}

/// Rows kept: 12.8 s, as long as chunks are (`library`).
const KEPT: usize = 64;

impl Times {
    pub(crate) fn new(table: &Timetable, stream: usize) -> Times {
        let nothing = Row { number: u64::MAX, ..Row::default() };
        Times { table: table.clone(), stream, begin: table.began(stream), kept: RefCell::new([nothing; KEPT]) }
    }

    /// When media time 0 was due.
    pub(crate) fn origin_us(&self) -> Option<u64> {
        self.begin.map(|begin| begin.origin_us)
    }

    /// The number that the cache gave the first chunk, if the publisher numbers.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        self.begin?.first_seq
    }

    /// The chunk number that viewers see as `seq`, counted from the beginning; `None` when that is not known.
    pub(crate) fn number_of(&self, seq: u64) -> Option<u64> {
        seq.checked_sub(self.begin?.first_seq?)
    }

    /// The newest chunk that was due at `at_us`, as viewers number it, if the publisher numbers.
    pub(crate) fn head_at(&self, at_us: u64) -> Option<u64> {
        let begin = self.begin?;
        let chunks = at_us.checked_sub(begin.origin_us)? / CHUNK_SPAN.micros();
        Some(begin.first_seq? + chunks.checked_sub(1)?)
    }

    /// The row of a chunk by its number from the beginning. Cost: nothing for a chunk that is complete and was asked
    /// for before, else one read of 32 bytes.
    pub(crate) fn row(&self, number: u64) -> Option<Row> {
        let mut kept = self.kept.borrow_mut();
        let place = &mut kept[number as usize % KEPT];
        if place.number != number {
            let row = self.table.row(self.stream, number)?;
            if row.completed_us.is_none() {
                return Some(row);
            }
            *place = row;
        }
        Some(*place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_publisher_notes_is_what_viewers_read() -> Result<()> {
        let publisher = Timetable::in_memory()?;
        let viewer = Timetable::open(publisher.path());
        assert!(viewer.is_err(), "nothing has begun");
        for stream in [0, 3] {
            publisher.begin(stream, Begin { origin_us: 1_000_000, first_seq: Some(40 + stream as u64) })?;
        }
        let viewer = Timetable::open(publisher.path())?;
        let times = Times::new(&viewer, 3);
        assert_eq!((times.origin_us(), times.number_of(45), times.number_of(42)), (Some(1_000_000), Some(2), None));
        assert_eq!((times.head_at(1_199_999), times.head_at(1_400_000)), (None, Some(44)));
        assert_eq!(Times::new(&viewer, 1).origin_us(), None);

        let mut row = Row { number: 2, due_us: 1_600_000, completed_us: None, bytes: 50_000 };
        assert_eq!(times.row(2), None);
        publisher.note(3, row)?;
        assert_eq!(times.row(2), Some(row), "due and not complete: read again");
        row.completed_us = Some(1_600_300);
        publisher.note(3, row)?;
        assert_eq!(times.row(2), Some(row));
        publisher.note(3, Row { number: 2 + ROWS, ..row })?;
        assert_eq!((times.row(2), viewer.row(3, 2)), (Some(row), None), "kept here, reused in the file");
        Ok(())
    }
}
