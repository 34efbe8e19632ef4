//! What a shard counts: a row of the ring's board (`cache_core::ring::Board`), with one writer, read by control and by
//! observer processes at any time.
//!
//! A line is `name,` for what only rises and `name: Gauge,` for a level.

use cache_core::ring::Row;

macro_rules! counters {
    ($($columns:tt)*) => {
        cache_core::counter_row! {
            /// One shard's counters.
            pub struct ShardCounters: "shard" { $($columns)* }
        }
    };
}

/// One shard's counters where they stand: on cache lines that no other thread writes to.
pub type ShardRow = Row<ShardCounters>;

counters! {
    /// Turns of the shard's loop: it stands still only in a shard that hangs, or has nothing to do.
    turns,
    /// Connections open at the moment (gauge).
    connections: Gauge,
    /// Viewers over Weircast's protocol at the moment, without other caches (gauge).
    viewers_native: Gauge,
    /// Viewers over HTTP at the moment (gauge).
    viewers_http: Gauge,
    /// Other caches that pull from here at the moment (gauge).
    caches: Gauge,
    /// Share of the last second at work, in thousandths (gauge).
    busy_permille: Gauge,
    /// Longest turn of the last second, in microseconds (gauge).
    turn_us_max: Gauge,
    /// Longest time of the last second from a chunk's publication until its last viewer had its turn, in us (gauge).
    fanout_us_max: Gauge,
    /// Chunk bytes given to sockets per second, over the last second (gauge).
    chunk_bytes_per_s: Gauge,
    /// Whether joins are taken: 0, or the code of why not (1 descriptors, 2 memory, 3 bandwidth, 4 fanout, 5 busy; gauge).
    admission: Gauge,
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
    /// Answered connections that were closed before the other side did so, because others waited for their places.
    lingers_cut_short,
    /// Handshakes over their time.
    handshakes_late,
    /// Connections of caches closed because for too long they took chunks of no stream.
    caches_idle_closed,
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
    zero_copy_copied_permille: Gauge,
    /// Whether zero-copy sends go from memory that is registered with the kernel (gauge, 0 or 1).
    zero_copy_registered: Gauge,
    /// Times that registering the ring's memory failed; its zero-copy sends cost a sixth more.
    zero_copy_register_failed,
    /// Viewers moved from zero-copy to another way of sending.
    zero_copy_fallbacks,
    /// Messages to control lost to a full queue.
    messages_lost,
}

#[cfg(test)]
mod tests {
    use cache_core::ring::{Kind, RowOf};

    use super::*;

    #[test]
    fn every_counter_is_named_and_described() {
        let counters = ShardRow::alone();
        counters.skips.add(3);
        let mut seen = Vec::new();
        counters.each(|name, what, value| {
            assert!(what.len() > 10, "{name} says what it counts");
            seen.push((name, value));
        });
        assert!(seen.contains(&("skips", 3)) && seen.contains(&("turns", 0)));
    }

    #[test]
    fn what_is_described_as_a_gauge_is_declared_as_one() {
        for column in ShardCounters::COLUMNS {
            let described = column.what.contains("gauge");
            assert_eq!(column.kind == Kind::Gauge, described, "{}: Gauge and \"(gauge)\", or neither", column.name);
        }
    }
}
