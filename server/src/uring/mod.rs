//! How bytes move: the small io_uring layer of the cache's data plane.
//!
//! ```text
//!  one shard thread                                          kernel
//!  +---------------------------------------------+
//!  | Uring                                       |
//!  |   accept, receive, poll, cancel ------------+--> submission queue
//!  |   enter(wait) -> Completion, Completion ... <---- completion queue
//!  |   Buffers  2 KiB each, lent to the kernel  <----- received bytes
//!  |   ZeroCopy leases of slots, kept until ----<----- "the pages are free again"
//!  +---------------------------------------------+
//!  Doorbell  an eventfd: another thread rings, the ring's poll wakes the shard
//! ```
//! *Token*: what an operation is called; it comes back with each of its completions. *Multishot*: one operation, many
//! completions; [`Completion::more`] says whether it goes on.
//!
//! The ring is set up for one thread that runs its own completions (SINGLE_ISSUER, DEFER_TASKRUN: Linux 6.1, the
//! oldest kernel supported). Nothing is received, and no buffer is written, but while the owner is inside
//! [`Uring::enter`]: that is what makes the buffers safe to read between two calls.
//!
//! Used by `cache::data` alone. It decides nothing: no connection, no chunk and no deadline is known here.

mod buffers;
mod completion;
mod doorbell;
mod setup;
mod submit;
mod token;
mod zero_copy;

pub use completion::Completion;
pub use doorbell::Doorbell;
pub use setup::{SetupError, Uring, UringConfig};
pub use submit::Wait;
pub use token::{Operation, Token};
pub use zero_copy::{ZeroCopy, ZeroCopyEvent};

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn more_operations_than_the_queue_holds_all_complete() {
        let mut uring = Uring::new(&UringConfig { connections_max: 64 }).expect("an io_uring");
        let bell = Doorbell::polled().expect("a descriptor");
        bell.ring();
        const OPERATIONS: u32 = 5_000;
        for index in 0..OPERATIONS {
            uring.poll_writable(bell.as_fd(), Token::new(Operation::Writable, 1, index));
        }
        let (mut seen, mut completions) = (vec![false; OPERATIONS as usize], Vec::new());
        while seen.contains(&false) {
            uring.enter(Wait::Forever, &mut completions).expect("a working ring");
            for completion in completions.drain(..) {
                assert!(
                    !std::mem::replace(&mut seen[completion.token().index() as usize], true),
                    "each completes once"
                );
            }
        }
    }

    #[test]
    fn a_doorbell_wakes_and_a_passed_time_does_too() {
        let mut uring = Uring::new(&UringConfig { connections_max: 64 }).expect("an io_uring");
        let bell = std::sync::Arc::new(Doorbell::polled().expect("a descriptor"));
        let token = Token::single(Operation::Doorbell);
        uring.poll_readable_many(bell.as_fd(), token);
        let mut completions = Vec::new();
        uring.enter(Wait::AtMost(std::time::Duration::from_millis(1)), &mut completions).expect("a working ring");
        assert!(completions.is_empty());
        for _ in 0..3 {
            let ringer = bell.clone();
            let thread = std::thread::spawn(move || ringer.ring());
            uring.enter(Wait::Forever, &mut completions).expect("a working ring");
            assert!(completions.drain(..).all(|completion| completion.token() == token && completion.more()));
            bell.quiet();
            assert!(thread.join().is_ok());
        }
    }

    #[test]
    fn a_cancelled_operation_says_so() {
        let mut uring = Uring::new(&UringConfig { connections_max: 64 }).expect("an io_uring");
        let bell = Doorbell::polled().expect("a descriptor");
        let token = Token::single(Operation::Doorbell);
        uring.poll_readable_many(bell.as_fd(), token);
        uring.cancel(token);
        let mut completions = Vec::new();
        uring.enter(Wait::Forever, &mut completions).expect("a working ring");
        assert_eq!(completions[0].token(), token);
        assert_eq!(completions[0].result(), Err(rustix::io::Errno::CANCELED));
    }
}
