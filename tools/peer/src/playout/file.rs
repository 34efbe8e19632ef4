//! Play-out into a file or a pipe, through a [`Writer`]. A pipe whose reader stops loses chunks and goes on at a key
//! frame; it never delays the peer.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cache_core::time::WallClock;
use mio::Waker;

use super::start::Starter;
use crate::net::framing::Chunk;
use crate::writer::Writer;

/// Pieces that may wait. Our guess: half a minute of media, longer than a disk's longest pause.
const ROOM: usize = 150;

/// How long the last pieces may take at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A file or a pipe.
#[derive(Debug)]
pub(crate) struct FileSink {
    writer: Writer,
    starter: Starter,
    skipped: u64,
}

impl FileSink {
    /// Writes to `path`, which is created or emptied; `-` is standard output.
    pub(crate) fn open(path: &Path, waker: Arc<Waker>) -> io::Result<FileSink> {
        let file = if path == Path::new("-") {
            File::from(io::stdout().as_fd().try_clone_to_owned()?)
        } else {
            File::create(path)?
        };
        let writer = Writer::spawn("output", file, ROOM, Some(waker))?;
        Ok(FileSink { writer, starter: Starter::default(), skipped: 0 })
    }

    /// Writes the next chunk.
    pub(crate) fn play(&mut self, chunk: &Chunk) {
        let Some(piece) = self.starter.next(chunk) else { return };
        // Both or none would need room for two: tables alone do no harm.
        let taken = piece.tables.is_none_or(|tables| self.writer.offer(tables)) && self.writer.offer(piece.stream);
        if !taken {
            self.skipped += 1;
            self.starter.restart();
        }
    }

    /// When the first byte was written.
    pub(crate) fn first_byte(&self) -> Option<WallClock> {
        self.writer.first_write()
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.writer.failure()
    }

    /// Chunks left out for lack of room.
    pub(crate) const fn chunks_skipped(&self) -> u64 {
        self.skipped
    }

    /// Waits until all is written.
    pub(crate) fn finish(&mut self) {
        self.writer.finish(PATIENCE);
    }
}
