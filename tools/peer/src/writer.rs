//! A thread for output that may block: a file, a pipe, a terminal. The event loop never waits for it.
//!
//! ```text
//!   event loop --offer--> [ at most `room` pieces ] --> thread --write_all--> file, pipe, terminal
//!                                                          |
//!                         waker <-- failed ----------------+
//! ```
//! A full channel takes nothing more: the caller decides what to leave out.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use cache_core::time::WallClock;
use mio::Waker;

use crate::clock;

/// Writes in a thread of its own.
#[derive(Debug)]
pub(crate) struct Writer {
    pieces: Option<SyncSender<Bytes>>,
    ended: Receiver<()>,
    shared: Arc<Shared>,
    /// The thread's last call would be lost with its waker's descriptor.
    _waker: Option<Arc<Waker>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Microseconds of the wall clock when the first piece was written; 0 before.
    first_write: AtomicU64,
    failure: OnceLock<io::Error>,
}

impl Writer {
    /// A thread called `name` that writes to `to`, with `room` pieces waiting at most; `waker` tells of a failure.
    pub(crate) fn spawn(
        name: &str,
        mut to: impl Write + Send + 'static,
        room: usize,
        waker: Option<Arc<Waker>>,
    ) -> io::Result<Writer> {
        let (pieces, waiting) = sync_channel::<Bytes>(room);
        let (end, ended) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let kept = waker.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for piece in waiting {
                if let Err(error) = to.write_all(&piece).and_then(|()| to.flush()) {
                    let _ = of_thread.failure.set(error);
                    if let Some(waker) = waker {
                        let _ = waker.wake();
                    }
                    break;
                }
                let at = clock::wall().micros();
                let _ = of_thread.first_write.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
            }
            // Closed before the end is told: what reads a file then finds it whole.
            drop(to);
            // The receiver may be gone: nobody waits for the end then.
            let _ = end.send(());
        })?;
        Ok(Writer { pieces: Some(pieces), ended, shared, _waker: kept })
    }

    /// Hands over a piece. False: there is no room, or writing has failed; nothing was taken.
    pub(crate) fn offer(&self, piece: Bytes) -> bool {
        match self.pieces.as_ref().map(|pieces| pieces.try_send(piece)) {
            Some(Ok(())) => true,
            None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) => false,
        }
    }

    /// When the first piece was written.
    pub(crate) fn first_write(&self) -> Option<WallClock> {
        match self.shared.first_write.load(Ordering::Relaxed) {
            0 => None,
            at => Some(WallClock::from_micros(at)),
        }
    }

    /// Why writing ended, if it has.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.shared.failure.get()
    }

    /// Waits until everything is written, at most for `patience`: a reader that has stopped must not keep the program.
    pub(crate) fn finish(&mut self, patience: Duration) {
        self.pieces = None;
        let _ = self.ended.recv_timeout(patience);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Waits for leave before each write, then fails when told to.
    struct Gate(mpsc::Receiver<bool>, Arc<OnceLock<Vec<u8>>>, Vec<u8>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.0.recv().unwrap_or(false) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.2.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            let _ = self.1.set(std::mem::take(&mut self.2));
        }
    }

    #[test]
    fn a_stopped_reader_never_blocks_the_loop() {
        let (leave, gate) = mpsc::channel();
        let result = Arc::new(OnceLock::new());
        let mut writer = Writer::spawn("test", Gate(gate, Arc::clone(&result), Vec::new()), 2, None).expect("thread");
        let taken = (0u8..100).filter(|i| writer.offer(Bytes::copy_from_slice(&[*i]))).count();
        assert!((2..=3).contains(&taken), "two wait and one may be in the thread's hands: {taken}");
        assert_eq!(writer.first_write(), None);
        (0..taken).for_each(|_| leave.send(true).expect("the gate is there"));
        writer.finish(Duration::from_secs(60));
        assert_eq!(result.get().map(Vec::len), Some(taken));
        assert!(writer.first_write().is_some());
    }

    #[test]
    fn a_full_disk_is_told() {
        let (leave, gate) = mpsc::channel();
        let mut writer = Writer::spawn("test", Gate(gate, Arc::default(), Vec::new()), 2, None).expect("thread");
        assert!(writer.offer(Bytes::from_static(b"x")));
        leave.send(false).expect("the gate is there");
        writer.finish(Duration::from_secs(60));
        assert_eq!(writer.failure().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
        assert!(!writer.offer(Bytes::from_static(b"y")));
    }
}
