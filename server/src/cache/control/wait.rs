//! Waiting, for tasks of one executor: a mailbox, a race of two futures, a sleep. Deadlines are in [`super::deadline`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use cache_core::time::Span;
use glommio::timer::Timer;

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

/// How much too early glommio may wake: where it has had 256 timers at a time it looks at milliseconds only.
const EARLY: Duration = Duration::from_millis(1);

/// Does nothing for `span`. For a few tasks of the executor: from the 256th timer on, glommio's take longer, and waking the first
/// time takes as long as all milliseconds since the start. Who comes in hundreds takes [`super::deadline::after`].
pub(super) fn sleep(span: Span) -> Sleep {
    // Before the timer's own reading of the clock: what wakes is due.
    let due = Instant::now() + duration(span);
    Sleep { timer: Timer::new(duration(span)), due, waiting: None }
}

/// A glommio timer that enters the reactor once. Left to itself it enters anew with every poll, and dropped it takes out
/// the last entry only: in a race each event of the other future leaves an entry behind until its time has come.
#[derive(Debug)]
pub(super) struct Sleep {
    timer: Timer,
    due: Instant,
    /// Who is woken.
    waiting: Option<Waker>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.due.saturating_duration_since(Instant::now());
        match &self.waiting {
            Some(_) if left.is_zero() => return Poll::Ready(()),
            Some(waker) if waker.will_wake(cx.waker()) && left > EARLY => return Poll::Pending,
            // Its entry may be spent: another one, which is not early.
            Some(_) => self.timer = Timer::new(left + EARLY),
            None => {}
        }
        self.waiting = Some(cx.waker().clone());
        Pin::new(&mut self.timer).poll(cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use glommio::LocalExecutorBuilder;

    use super::*;

    /// So many timers that glommio keeps them in a wheel of milliseconds.
    const MANY: usize = 300;

    /// Who sleeps for longer than that sleeps for ever.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_sleep_that_is_woken_too_early_sleeps_on_and_wakes() {
        LocalExecutorBuilder::default().make().expect("an executor").run(async {
            let _others: Vec<_> = (0..MANY).map(|_| glommio::spawn_local(sleep(Span::from_secs(3600)))).collect();
            glommio::executor().yield_now().await;
            // So that the wheel is looked at in each sleep's last millisecond.
            let _events = glommio::spawn_local(async {
                loop {
                    Timer::new(Duration::from_micros(50)).await;
                }
            });
            for count in 0..20 {
                let (begun, span) = (Instant::now(), Span::from_millis(2));
                let woken = race(Timer::new(PATIENCE), sleep(span)).await;
                assert!(matches!(woken, First::That(())), "lost after {count} sleeps");
                assert!(begun.elapsed() >= duration(span), "woken too early");
            }
        });
    }
}
