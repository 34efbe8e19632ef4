//! What the control plane counts: its row of the ring's board. One thread writes.
//!
//! A line is `name,` for what only rises and `name: Gauge,` for a level.

pub(super) use cache_core::ring::Counter;

macro_rules! counters {
    ($($columns:tt)*) => {
        cache_core::counter_row! {
            /// The control plane's counters.
            pub(super) struct Counters: "control" { $($columns)* }
        }
    };
}

counters! {
    /// Payload bytes stored from publishers of Weircast's protocol.
    bytes_from_publishers,
    /// Payload bytes stored from uploads over HTTP.
    bytes_from_uploads,
    /// Payload bytes stored from other caches.
    bytes_from_caches,
    /// Chunks stored.
    chunks_stored,
    /// Chunks that were there already.
    chunks_duplicate,
    /// Chunks whose signature or hash was wrong.
    chunks_wrong,
    /// Chunks of a source whose turn was over.
    chunks_fenced,
    /// Chunks whose number made no sense: beyond all numbers, or too far ahead for a publisher.
    chunks_out_of_range,
    /// Chunks dropped because no memory of the ring was free.
    chunks_without_memory,
    /// Publishers taken (both protocols).
    publishers_taken,
    /// Publishers refused: name taken, not authorised, fenced, no room, no index.
    publishers_refused,
    /// Publishers disconnected because they sent nothing, or left a chunk unfinished.
    publishers_silent,
    /// Publishers disconnected because they could not be understood: framing, order of messages, no transport stream.
    publishers_garbled,
    /// Connections closed unread because control had too many.
    connections_refused,
    /// HTTP requests answered with an error.
    http_errors,
    /// Pulls begun.
    pulls,
    /// Links to parents opened.
    pull_links,
    /// Links to parents that failed, were refused or fell silent.
    pull_links_lost,
    /// Pulls that found no parent.
    pulls_failed,
    /// Streams that a shard asked for.
    wants,
    /// Datagrams that could not be read.
    datagrams_bad,
    /// Questions to the index that nobody answered.
    index_silent,
    /// Chunks announced to a shard whose queue was full; the next one makes it good.
    shard_queue_full,
    /// Answers that a shard had no room for, for so long that they were dropped.
    shard_answers_lost,
    /// Deadlines that are waited for: one for each connection in control's hands that waits, and for each pull (gauge).
    deadlines: Gauge,
}
