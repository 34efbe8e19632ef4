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
