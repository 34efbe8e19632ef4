//! Deadlines of seconds, for tasks of one executor that come in thousands: [`within`], [`after`].
//!
//! ```text
//!  a task waits, and is polled again and again     [due, waker] [due, waker] ...     one sleep of 100 ms at most, on and on
//!    first poll: one entry  --------------------->  the table  <--------------------  while there is an entry:
//!    done or dropped: the entry is gone <---------                                    who is due is woken
//! ```
//! Every piece of every chunk has a deadline, and nearly none is met. So entering and leaving must cost next to nothing and
//! leave nothing behind: a place in a table. A timer of glommio's stands in two hash tables, one of which every turn of the
//! reactor looks through, and in a wheel whose slots keep their room; the 256th of them builds that wheel, which then goes
//! through each millisecond since the executor's start. Who is late learns of it at once, with less than [`LOOK_EVERY`] to go
//! from the beginning up to that later.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use cache_core::time::Span;
use slab::Slab;

use super::wait::{First, duration, race, sleep};

/// How often the table is looked at: a tenth of the shortest deadline that there is, and as often as control ticks anyway.
/// Cost: some nanoseconds for each entry (our guess).
const LOOK_EVERY: Span = Span::from_millis(100);

/// Deadlines that are close together are looked at together.
const PAUSE_MIN: Span = Span::from_millis(1);

thread_local! {
    /// The table of this thread's executor.
    static TABLE: Table = const { Table { entries: RefCell::new(Slab::new()), watched_by: Cell::new(None) } };
}

#[derive(Debug)]
struct Table {
    entries: RefCell<Slab<Entry>>,
    /// The executor of which a task looks at it; it may have ended, and the task with it unheard.
    watched_by: Cell<Option<usize>>,
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    waker: Waker,
}

/// `future`, or [`io::ErrorKind::TimedOut`] when it is not done after `span`.
pub(super) async fn within<T>(span: Span, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match race(future, after(span)).await {
        First::This(done) => done,
        First::That(()) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Over after `span`.
pub(super) fn after(span: Span) -> Deadline {
    Deadline { due: Instant::now() + duration(span), key: None }
}

/// How many wait, each for one deadline.
pub(super) fn waiting() -> usize {
    TABLE.with(|table| table.entries.borrow().len())
}

/// Over when it is due. It stands in the table from its first poll on, once.
#[derive(Debug)]
pub(super) struct Deadline {
    due: Instant,
    key: Option<usize>,
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.due <= Instant::now() {
            return Poll::Ready(());
        }
        TABLE.with(|table| match self.key {
            Some(key) => table.entries.borrow_mut()[key].waker.clone_from(cx.waker()),
            None => {
                self.key = Some(table.entries.borrow_mut().insert(Entry { due: self.due, waker: cx.waker().clone() }));
                let executor = glommio::executor().id();
                if table.watched_by.replace(Some(executor)) != Some(executor) {
                    glommio::spawn_local(watch()).detach();
                }
            }
        });
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        // A thread that ends has no table any more. What the entry held goes when the table is no longer borrowed.
        let entry = TABLE.try_with(|table| table.entries.borrow_mut().try_remove(key));
        drop(entry);
    }
}

/// Looks at the table while there is anything in it.
async fn watch() {
    let mut pause = LOOK_EVERY;
    while waiting() > 0 {
        sleep(pause).await;
        let now = Instant::now();
        let next = TABLE.with(|table| {
            let entries = table.entries.borrow();
            entries.iter().filter(|(_, entry)| entry.due <= now).for_each(|(_, entry)| entry.waker.wake_by_ref());
            entries.iter().map(|(_, entry)| entry.due).filter(|due| *due > now).min()
        });
        let left = next.map_or(LOOK_EVERY, |due| Span::from_micros((due - now).as_micros() as u64 + 1));
        pause = left.clamp(PAUSE_MIN, LOOK_EVERY);
    }
    TABLE.with(|table| table.watched_by.set(None));
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use glommio::LocalExecutorBuilder;

    use super::*;

    const LONG: Span = Span::from_secs(3600);

    fn run<T>(future: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::default().make().expect("an executor").run(future)
    }

    /// Ready when it has been polled `polls` times, each time woken at once; what `seen` says of each.
    async fn polled(polls: usize, mut seen: impl FnMut()) -> io::Result<()> {
        let mut count = 0;
        poll_fn(|cx| {
            seen();
            count += 1;
            cx.waker().wake_by_ref();
            if count < polls { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }

    #[test]
    fn a_deadline_stands_in_the_table_once_however_often_it_is_polled_and_leaves_nothing_behind() {
        run(async {
            let mut most = 0;
            for _ in 0..10 {
                within(LONG, polled(100, || most = most.max(waiting()))).await.expect("in time");
                assert_eq!(waiting(), 0);
            }
            assert_eq!(most, 1);
        });
    }

    #[test]
    fn who_is_late_is_told_and_who_is_not_is_left_alone() {
        run(async {
            let patient = glommio::spawn_local(within(LONG, std::future::pending::<io::Result<()>>()));
            let late = within(Span::from_millis(1), std::future::pending::<io::Result<()>>()).await;
            assert_eq!(late.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
            assert_eq!(waiting(), 1, "the patient one");
            patient.cancel().await;
            assert_eq!(waiting(), 0);
        });
    }

    #[test]
    fn the_next_executor_of_a_thread_has_its_deadlines_watched() {
        for _ in 0..2 {
            run(async {
                let late = within(Span::from_millis(1), std::future::pending::<io::Result<()>>()).await;
                assert!(late.is_err());
                // Left to be dropped with its executor.
                glommio::spawn_local(within(LONG, std::future::pending::<io::Result<()>>())).detach();
                glommio::executor().yield_now().await;
            });
        }
    }
}
