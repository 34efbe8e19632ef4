//! A look at another process's ring: read-only, and without a trace in it.

use std::fs::File;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::chunk::ChunkRef;
use super::control::Control;
use super::error::RingError;
use super::layout::{Layout, MAGIC, VERSION, header};
use super::memory::Words;
use super::shm;
use super::stats::RingStats;
use super::sync::load_acquire;
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
        let place = path.display().to_string();
        let failed = |what| move |e: std::io::Error| (what, Errno::from_io_error(&e).unwrap_or(Errno::IO));
        let io = |(what, errno)| shm::io(what, &place)(errno);
        let bytes = file.metadata().map_err(failed("look at")).map_err(io)?.len();
        let foreign = |why| RingError::Foreign { path: path.to_owned(), why };
        if bytes < (header::WORDS * size_of::<u64>()) as u64 {
            return Err(foreign("it is too short"));
        }
        let words = Words::map_read_only(file.as_fd(), header::WORDS).map_err(failed("map")).map_err(io)?;
        if load_acquire(&words[header::MAGIC]) != MAGIC {
            return Err(foreign("its first bytes are another's"));
        }
        let fact = |word| load_acquire(&words[word]);
        if fact(header::VERSION) != VERSION {
            return Err(RingError::Version { path: path.to_owned(), found: fact(header::VERSION), ours: VERSION });
        }
        let layout = Layout::plan(fact(header::BUDGET_BYTES), fact(header::STREAMS_MAX), fact(header::RETAIN_CHUNKS));
        let layout = layout.map_err(|_| foreign("its header is damaged"))?;
        if bytes != layout.file_bytes() {
            return Err(foreign("its length is not what its header says"));
        }
        let words = Words::map_read_only(file.as_fd(), layout.control_words).map_err(failed("map")).map_err(io)?;
        Ok(RingObserver { file, view: View::new(Arc::new(Control::new(words, layout))) })
    }

    /// Copies a chunk, prefix and payload, into `out`, whose contents it replaces. False when the chunk was given up
    /// meanwhile or cannot be read: `out` then holds nothing.
    pub fn read(&self, chunk: &ChunkRef, out: &mut Vec<u8>) -> bool {
        use std::os::unix::fs::FileExt;
        out.clear();
        out.resize(chunk.len as usize, 0);
        let whole = self.file.read_exact_at(out, chunk.file_offset).is_ok();
        let good = whole && self.valid(chunk);
        if !good {
            out.clear();
        }
        good
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
