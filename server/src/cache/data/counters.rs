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
    /// Connections over HTTP closed because nothing was asked on them for too long.
    http_idle_closed,
    /// Connections over HTTP cut off because they had sent too many requests ahead of the answers.
    cut_asked_ahead,
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
    /// Zero-copy sends whose pages the kernel has given back.
    zero_copy_notified,
    /// Of these, the ones that the kernel copied after all.
    zero_copy_copied,
    /// How many of a thousand zero-copy sends were copied so far (gauge).
    zero_copy_copied_permille,
    /// Whether zero-copy sends go from memory that is registered with the kernel (gauge, 0 or 1).
    zero_copy_registered,
    /// Times that registering the ring's memory failed; its zero-copy sends cost a sixth more.
    zero_copy_register_failed,
    /// Viewers moved from zero-copy to another way of sending.
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
