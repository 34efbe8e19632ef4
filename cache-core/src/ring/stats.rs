//! Counters: written by the writer into the file's header, read by anyone, an observer process included.

use super::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// What the ring has done and how its segments stand. The numbers are read one by one while the writer goes
        /// on: each is true of some moment, their sums need not add up.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct RingStats {
            $($(#[$meta])* pub $name: u64,)*
        }

        #[derive(Clone, Copy)]
        #[allow(non_camel_case_types, reason = "named as the fields are")]
        pub(super) enum Counter { $($name,)* }

        pub(super) const COUNTERS: usize = [$(Counter::$name as usize),*].len();

        impl RingStats {
            pub(super) fn read(words: &[AtomicU64]) -> RingStats {
                RingStats { $($name: words[Counter::$name as usize].load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Segments never used, or clean again.
    segments_free,
    /// Segments that hold chunks, of open streams or closed ones.
    segments_in_use,
    /// Segments due for reuse that were leased when their turn came.
    segments_quarantined,
    /// Segments given up because their pages could not be renewed.
    segments_retired,
    /// Streams open.
    streams_open,
    /// Chunks published.
    published,
    /// Chunks not published: a number that was there already, or too old, or a stream closed meanwhile.
    publish_refused,
    /// Segments filled again.
    recycled,
    /// Segments taken from a stream although chunks in them had not expired: the ring is too small for its streams.
    evicted,
    /// Times a segment went into quarantine.
    quarantined,
    /// Reservations refused for want of a segment.
    no_space,
    /// Those of them that were refused rather than take what viewers are about to be sent.
    withheld,
    /// Chunks found in the file of a process that had died, and kept.
    inherited,
    /// Chunks found there half written, damaged, or in a segment that two streams claimed; none is ever served.
    torn,
}
