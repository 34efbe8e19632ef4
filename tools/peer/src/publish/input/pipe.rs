//! Standard input, a FIFO or a device: a thread reads it, since reading may wait.
//!
//! ```text
//!   thread --read--> [ at most ROOM pieces ] --> loop          a full channel stops the thread, and so the writer
//! ```
//! What comes faster than it plays (`cat film.ts |`) is held back to its PCRs, so that viewers can follow; a live
//! source never meets that limit.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use bytes::Bytes;
use cache_core::media::Pacer;
use cache_core::time::{Span, Time};
use mio::Waker;

use super::{Input, InputError, Step};

/// Pieces that may wait, and their size: 4 MiB, a second at the highest rate.
const ROOM: usize = 64;
const PIECE_BYTES: usize = 64 << 10;

/// How far a pipe may be ahead of its clock. Our guess: above the burst with which encoders begin.
const AHEAD_MAX: Span = Span::from_secs(2);

/// A pipe.
#[derive(Debug)]
pub(crate) struct Pipe {
    pieces: Receiver<io::Result<Bytes>>,
    pacer: Pacer,
    begun: Option<Time>,
    waiting: Option<(Time, Bytes)>,
    /// The thread's last call would be lost with its waker's descriptor.
    _waker: Arc<Waker>,
}

impl Pipe {
    /// Reads `from` in a thread; `waker` tells of every piece.
    pub(crate) fn spawn(mut from: impl Read + Send + 'static, waker: Arc<Waker>) -> io::Result<Pipe> {
        let (send, pieces) = sync_channel(ROOM);
        let kept = Arc::clone(&waker);
        thread::Builder::new().name("input".to_owned()).spawn(move || {
            let mut buf = vec![0; PIECE_BYTES];
            loop {
                let piece = match from.read(&mut buf) {
                    Ok(0) => break,
                    Ok(len) => Ok(Bytes::copy_from_slice(&buf[..len])),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => Err(e),
                };
                let failed = piece.is_err();
                if send.send(piece).is_err() || waker.wake().is_err() || failed {
                    return;
                }
            }
            // The end is told by the closed channel.
            drop(send);
            let _ = waker.wake();
        })?;
        Ok(Pipe { pieces, pacer: Pacer::new(), begun: None, waiting: None, _waker: kept })
    }
}

impl Input for Pipe {
    fn next(&mut self, now: Time) -> Result<Step, InputError> {
        if self.waiting.is_none() {
            let piece = match self.pieces.try_recv() {
                Ok(piece) => piece?,
                Err(TryRecvError::Empty) => return Ok(Step::Idle),
                Err(TryRecvError::Disconnected) => return Ok(Step::End),
            };
            let begun = *self.begun.get_or_insert(now);
            let allowed = begun.after(self.pacer.due(&piece)?).before(AHEAD_MAX);
            self.waiting = Some((allowed, piece));
        }
        match self.waiting.take() {
            Some((allowed, piece)) if allowed > now => {
                self.waiting = Some((allowed, piece));
                Ok(Step::Wait(allowed))
            }
            Some((allowed, piece)) => {
                // A source that paused is live: its clock begins anew where it is, or it could run ahead by the pause.
                let ahead = allowed.after(AHEAD_MAX);
                if let Some(begun) = &mut self.begun {
                    *begun = begun.after(now.since(ahead));
                }
                Ok(Step::Bytes(piece))
            }
            None => Ok(Step::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_core::media::{Generator, GeneratorConfig};
    use mio::{Events, Poll, Token};

    use super::*;

    /// Everything that comes until it waits for its clock or ends; waits for the thread through the poll.
    fn take(pipe: &mut Pipe, poll: &mut Poll, now: Time) -> (Vec<u8>, Step) {
        let (mut bytes, mut events) = (Vec::new(), Events::with_capacity(4));
        loop {
            match pipe.next(now).expect("readable") {
                Step::Bytes(more) => bytes.extend_from_slice(&more),
                Step::Idle => poll.poll(&mut events, Some(std::time::Duration::from_secs(30))).expect("polled"),
                other => return (bytes, other),
            }
        }
    }

    #[test]
    fn a_file_through_a_pipe_is_held_back_to_its_clock_and_arrives_whole() {
        let (mut generator, mut recorded) = (Generator::new(GeneratorConfig::default()), Vec::new());
        while generator.next_frame(&mut recorded) < Span::from_secs(10) {}
        let mut poll = Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
        let mut pipe = Pipe::spawn(io::Cursor::new(recorded.clone()), waker).expect("a thread");
        let (mut all, step) = take(&mut pipe, &mut poll, Time::ZERO);
        let seconds = all.len() as f64 * 8.0 / 2e6;
        assert!((1.5..2.5).contains(&seconds) && matches!(step, Step::Wait(_)), "{seconds} s at once");
        let mut next = step;
        while let Step::Wait(until) = next {
            let (more, step) = take(&mut pipe, &mut poll, until);
            all.extend(more);
            next = step;
        }
        assert!(all == recorded);
    }
}
