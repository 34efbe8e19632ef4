//! A look at another process's ring: read-only, and without a trace in it.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::board::{self, BoardView, StreamView};
use super::chunk::{ChunkRef, StreamSlot};
use super::control::Control;
use super::error::RingError;
use super::layout::{CHUNK_BYTES_MAX, Layout, MAGIC, VERSION, header};
use super::memory::Words;
use super::shm::{self, errno};
use super::stats::RingStats;
use super::view::View;

/// A read-only observer of a ring in a file: all questions of [`View`], and copies of chunks.
///
/// The control area is mapped read-only. Payload is read with `pread`: unlike a mapping it takes no page of a file
/// whose pages are being given up, and the kernel, not this process, does the copying while the writer may write. The
/// observer holds no lease, so a chunk may go while it is copied; [`RingObserver::read`] then says so.
#[derive(Debug)]
pub struct RingObserver {
    file: File,
    view: View,
}

impl RingObserver {
    /// Opens the ring at `path` (of a memfd: `/proc/PID/fd/N`).
    ///
    /// # Errors
    /// [`RingError::Io`] when the file cannot be opened or mapped, [`RingError::Foreign`] when it is no ring (or one
    /// still being made), [`RingError::Version`] when it is one of another layout.
    pub fn open(path: &Path) -> Result<RingObserver, RingError> {
        let file = shm::open_read_only(path)?;
        let io = |what| move |e: std::io::Error| shm::failed(what, &path.display().to_string())(errno(&e));
        let foreign = |why| RingError::Foreign { path: path.to_owned(), why };
        let bytes = file.metadata().map_err(io("look at"))?.len();
        let mut head = [0; header::WORDS * 8];
        if bytes < head.len() as u64 {
            return Err(foreign("it is too short"));
        }
        file.read_exact_at(&mut head, 0).map_err(io("read"))?;
        let fact = |word| u64::from_ne_bytes(head.as_chunks::<8>().0[word]);
        if fact(header::MAGIC) != MAGIC {
            return Err(foreign("its first bytes are another's"));
        }
        match fact(header::VERSION) {
            VERSION => {}
            0 => return Err(foreign("it is still being made")),
            found => return Err(RingError::Version { path: path.to_owned(), found, ours: VERSION }),
        }
        let layout = Layout::plan(fact(header::BUDGET_BYTES), fact(header::STREAMS_MAX), fact(header::RETAIN_CHUNKS));
        let layout = layout.map_err(|_| foreign("its header is damaged"))?;
        if bytes != layout.file_bytes() {
            return Err(foreign("its length is not what its header says"));
        }
        let words = Words::map_read_only(file.as_fd(), &layout).map_err(io("map"))?;
        Ok(RingObserver { file, view: View::new(Arc::new(Control::new(words, layout))) })
    }

    /// Copies a chunk, prefix and payload, into `out`, whose contents it replaces. False when the chunk was given up
    /// meanwhile or cannot be read: `out` then holds nothing. A [suspect](ChunkRef::suspect) chunk is the caller's to check.
    pub fn read(&self, chunk: &ChunkRef, out: &mut Vec<u8>) -> bool {
        out.clear();
        out.resize((chunk.len as usize).min(CHUNK_BYTES_MAX), 0);
        let good = self.file.read_exact_at(out, chunk.file_offset).is_ok() && self.valid(chunk);
        if !good {
            out.clear();
        }
        good
    }

    /// The board: the node's facts and counters; `None` while it is being laid out, so ask again.
    pub fn board(&self) -> Option<BoardView> {
        BoardView::read(self.view.control().board())
    }

    /// What the board says of a stream; `None` when nothing, or when it has been closed.
    pub fn stream_facts(&self, slot: StreamSlot) -> Option<StreamView> {
        let inside = slot.index < self.view.control().layout.streams;
        inside.then(|| board::read_stream(self.view.control().stream_facts(slot.index), slot.generation)).flatten()
    }

    /// Bytes of the whole file, segments and all that is in front of them.
    pub fn file_bytes(&self) -> u64 {
        self.view.control().layout.file_bytes()
    }

    /// The writer's counters.
    pub fn stats(&self) -> RingStats {
        self.view.control().stats()
    }
}

impl Deref for RingObserver {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}
