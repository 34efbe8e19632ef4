//! What a shard counts: plain atomics with one writer, read by control and metrics at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer: no read-modify-write is needed.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds; by the shard's own thread only.
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// One more.
    pub(super) fn one(&self) {
        self.add(1);
    }

    /// Sets a gauge.
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One shard's counters. Aligned so that no other thread's data shares their cache lines (128: lines are
        /// fetched in pairs).
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardCounters { $($(#[doc = $doc])* pub $name: Counter,)* }

        impl ShardCounters {
            /// Every counter's name, what it counts, and its value.
            pub fn each(&self, mut f: impl FnMut(&'static str, &'static str, u64)) {
                $(f(stringify!($name), concat!($($doc),*), self.$name.get());)*
            }
        }
    };
}

counters! {
    /// Turns of the shard's loop: it stands still only in a shard that hangs, or has nothing to do.
    turns,
    /// Connections open at the moment (gauge).
    connections,
    /// Viewers over Weircast's protocol at the moment (gauge).
    viewers_native,
    /// Viewers over HTTP at the moment (gauge).
    viewers_http,
    /// Share of the last second at work, in thousandths (gauge).
    busy_permille,
    /// Longest turn of the last second, in microseconds (gauge).
    turn_us_max,
    /// Longest time of the last second from a chunk's publication until its last viewer had its turn, in us (gauge).
    fanout_us_max,
    /// Chunk bytes given to sockets per second, over the last second (gauge).
    chunk_bytes_per_s,
    /// Whether joins are taken: 0, or the code of why not (1 descriptors, 2 memory, 3 bandwidth, 4 fanout, 5 busy; gauge).
    admission,
    /// Turns under 64 us of work.
    turns_under_64us,
    /// Turns of 64 to 255 us of work.
    turns_under_256us,
    /// Turns of 256 us to 1 ms of work.
    turns_under_1ms,
    /// Turns of 1 to 4 ms of work.
    turns_under_4ms,
    /// Turns of 4 to 16 ms of work.
    turns_under_16ms,
    /// Turns of 16 to 64 ms of work.
    turns_under_64ms,
    /// Turns of more work than that.
    turns_longer,
    /// Times that the shard found itself stopped for a second or more.
    stops,
    /// Times that the shard began to skip early because it was late itself.
    lates,
    /// Joins refused for want of descriptors.
    joins_refused_descriptors,
    /// Joins refused for want of memory.
    joins_refused_memory,
    /// Joins refused because as many bytes per second go out as may.
    joins_refused_bandwidth,
    /// Joins refused because chunks would take too long to all their viewers.
    joins_refused_fanout,
    /// Joins refused because the shard has no time left.
    joins_refused_busy,
    /// Refused joins that were told of another cache.
    joins_sent_elsewhere,
    /// Connections accepted here and passed to a less loaded shard.
    accepted_passed,
    /// Connections taken.
    accepted,
    /// Times that accepting paused because descriptors or memory had run out.
    accept_pauses,
    /// Connections closed or refused because `connections_max` was reached.
    refused_full,
    /// Handshakes over their time.
    handshakes_late,
    /// Handshakes over 4 KiB.
    handshakes_oversize,
    /// Connections whose first bytes were neither a frame nor HTTP, or that ended before they had said anything whole.
    handshakes_bad,
    /// Frames of a wire version that is not spoken here.
    versions_refused,
    /// Frames that could not be read or did not belong there; each closed its connection.
    frames_bad,
    /// Frames of an unknown kind, passed over.
    frames_unknown,
    /// HTTP requests answered with an error.
    http_errors,
    /// Connections handed to control.
    handed_over,
    /// Connections refused because the queue to control was full.
    handovers_refused,
    /// Streams that control was asked for.
    wants,
    /// Opens refused because too many streams were wanted, or the queue to control was full.
    wants_refused,
    /// Opens that control never answered.
    wants_late,
    /// Chunks asked for.
    chunks_requested,
    /// Chunks answered with Unavailable.
    chunks_unavailable,
    /// Chunks sent whole.
    chunks_sent,
    /// Bytes of chunks given to sockets.
    chunk_bytes_sent,
    /// Bytes of other messages given to sockets.
    message_bytes_sent,
    /// Times that a viewer was moved ahead because it had fallen behind or the stream had a gap.
    skips,
    /// Viewers cut off because they took nothing for too long.
    cut_stalled,
    /// Viewers cut off because the rest of a half-sent chunk had been recycled.
    cut_recycled,
    /// Viewers cut off because they did not read their answers.
    cut_unread_answers,
    /// Connections that failed while being sent to (reset by the other side, mostly).
    send_failures,
    /// Times that a socket took no more and was waited for.
    sends_blocked,
    /// Receives ended because no receive buffer was free.
    receive_buffers_empty,
    /// Zero-copy sends.
    zero_copy_sends,
    /// Zero-copy sends that the kernel copied after all.
    zero_copy_copied,
    /// Viewers moved from zero-copy to copying.
    zero_copy_fallbacks,
    /// Messages to control lost to a full queue.
    messages_lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_named_and_described() {
        let counters = ShardCounters::default();
        counters.skips.add(3);
        let mut seen = Vec::new();
        counters.each(|name, what, value| {
            assert!(what.len() > 10, "{name} says what it counts");
            seen.push((name, value));
        });
        assert!(seen.contains(&("skips", 3)) && seen.contains(&("turns", 0)));
    }
}
