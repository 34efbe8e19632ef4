//! Waiting, for tasks of one executor: a mailbox, a race of two futures, a deadline.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use cache_core::time::Span;

/// Messages for one task. Bounded: what does not fit is given back to the sender.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    max: usize,
    inner: RefCell<(VecDeque<T>, Option<Waker>)>,
}

impl<T> Mailbox<T> {
    /// Room for `max` messages.
    pub(super) fn new(max: usize) -> Mailbox<T> {
        Mailbox { max, inner: RefCell::new((VecDeque::new(), None)) }
    }

    /// Puts a message in and wakes the owner.
    pub(super) fn put(&self, message: T) -> Result<(), T> {
        let mut inner = self.inner.borrow_mut();
        if inner.0.len() >= self.max {
            return Err(message);
        }
        inner.0.push_back(message);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
        Ok(())
    }

    /// The next message. One task at a time waits here.
    pub(super) async fn take(&self) -> T {
        poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            match inner.0.pop_front() {
                Some(message) => Poll::Ready(message),
                None => {
                    inner.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Which of two futures was first.
#[derive(Debug)]
pub(super) enum First<A, B> {
    /// The one given first.
    This(A),
    /// The other.
    That(B),
}

/// Runs both until one is done and drops the other. Both done: the first one given wins.
pub(super) async fn race<A, B>(this: impl Future<Output = A>, that: impl Future<Output = B>) -> First<A, B> {
    let mut this = pin!(this);
    let mut that = pin!(that);
    poll_fn(|cx| {
        if let Poll::Ready(a) = this.as_mut().poll(cx) {
            return Poll::Ready(First::This(a));
        }
        that.as_mut().poll(cx).map(First::That)
    })
    .await
}

/// `span` for std and glommio.
pub(super) fn duration(span: Span) -> Duration {
    Duration::from_micros(span.micros())
}

/// Does nothing for `span`.
pub(super) async fn sleep(span: Span) {
    glommio::timer::Timer::new(duration(span)).await;
}

/// `future`, or [`io::ErrorKind::TimedOut`] after `span`.
pub(super) async fn within<T>(span: Span, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match race(future, sleep(span)).await {
        First::This(done) => done,
        First::That(()) => Err(io::ErrorKind::TimedOut.into()),
    }
}
