//! A shard's settings.

use std::net::SocketAddr;
use std::sync::Arc;

use cache_core::proto::cache::admission::Budget;
use cache_core::time::Span;
use serde::{Deserialize, Serialize};

use super::siblings::Siblings;

/// How chunks are put into a socket. The ring must recycle its memory in the matching way (`cache_core::ring`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendBackend {
    /// `sendfile` from the ring's file: the least work where no network card copies (measured: 0.167 CPU-s per GiB
    /// with huge pages at 125 KB, plain copy 0.288). Needs a ring that punches its segments.
    #[default]
    Sendfile,
    /// io_uring SEND_ZC from the mapped ring, registered with the kernel where it allows that, for real network cards. A
    /// viewer on whose path the kernel copies after all (loopback, veth) is served by copying from its first
    /// notification on. Needs a ring that keeps its pages.
    SendZc,
    /// `send` from the mapped ring: the kernel copies. Works everywhere.
    Copy,
    /// Tries SEND_ZC with each viewer's first chunks, and goes on with `sendfile` where the kernel copies. Needs a ring
    /// that punches its segments, so the ring is not registered.
    Auto,
}

impl SendBackend {
    /// How a viewer's first chunk is sent.
    pub(super) const fn first(self) -> Way {
        match self {
            SendBackend::Sendfile => Way::Sendfile,
            SendBackend::SendZc | SendBackend::Auto => Way::ZeroCopy,
            SendBackend::Copy => Way::Copy,
        }
    }

    /// What serves where zero-copy sends are of no use: the best that goes with the ring's recycling.
    pub(super) const fn instead_of_zero_copy(self) -> SendBackend {
        match self {
            SendBackend::Auto => SendBackend::Sendfile,
            SendBackend::SendZc => SendBackend::Copy,
            other => other,
        }
    }
}

/// How one viewer's chunks are sent at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `sendfile`.
    Sendfile,
    /// SEND_ZC.
    ZeroCopy,
    /// `send`.
    Copy,
}

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Where it listens; for messages, the listener itself is handed in.
    pub listen: SocketAddr,
    /// How chunks are sent.
    pub send: SendBackend,
    /// The most viewers; one more is refused with `Full`. Default 8192: what one core serves at 2 Mbit/s (measured:
    /// 11 900 by push on loopback) with room to spare.
    pub connections_max: u32,
    /// The CPU to run on; `None` leaves it to the kernel. A CPU that cannot be had is warned of once.
    pub pin_to: Option<usize>,
    /// Chunks that a push may fall behind before it skips ahead. Default 25 = 5 s (our guess: a player's usual buffer).
    pub skip_behind_chunks: u64,
    /// A viewer that takes no byte for this long while there is something for it is cut off. Default 10 s (our guess:
    /// longer than a change of network, short enough to bound the pages that a stopped reader holds).
    pub stall_cutoff: Span,
    /// The whole handshake's time. Default 5 s (our guess; a slow link needs under 1 s).
    pub handshake_deadline: Span,
    /// How far behind the newest chunk an HTTP viewer begins when there is a choice. Default 5 = 1 s (our guess: rides
    /// out one late chunk).
    pub http_back_chunks: u64,
    /// Bytes that one connection may be sent before the next one's turn. Default 256 KiB: a chunk of 10 Mbit/s whole.
    pub turn_bytes: u32,
    /// How long a draining shard waits for viewers to take what is being sent. Default 5 s (our guess).
    pub drain_deadline: Span,
    /// How long an `Open` waits for control's answer. Default 10 s (our guess: a pull from another domain takes 2 s).
    pub want_deadline: Span,
    /// Messages between the shard and control, each way. Default 1024: one publication of each of so many streams.
    pub queue_messages: usize,
    /// Other caches that are served beyond every limit on viewers: a stream for their whole domain hangs on each. The role is
    /// only claimed, so it is bounded; one more is served as a viewer is. Default [`ShardConfig::CACHES_MAX`].
    pub caches_max: u32,
    /// What the shard may be asked for before it refuses joins.
    pub budget: Budget,
    /// The shards of this cache, among which connections are dealt out: by the shard's index. Default: it is alone.
    pub siblings: Arc<Siblings>,
    /// A connection that asks for chunks over HTTP and has asked for nothing for this long is closed. Default 15 s (our
    /// guess: a player asks for each chunk of 200 ms; one that pauses connects again).
    pub http_idle: Span,
    /// How long a chunk that was asked for over HTTP ahead of its publication is waited for. Default 10 s (our guess:
    /// proxies and players give an answer's head that long).
    pub http_wait: Span,
    /// With [`SendBackend::SendZc`] and [`SendBackend::Auto`]: goes on with it even when the kernel copies. For measurements; default false.
    pub zero_copy_despite_copies: bool,
}

impl ShardConfig {
    /// The least that `queue_messages` should be.
    pub const QUEUE_MESSAGES_MIN: usize = 1024;

    /// Other caches that a node serves beyond its limits (our guess: each domain pulls a stream once).
    pub const CACHES_MAX: u32 = 64;

    /// The defaults, listening on `listen`.
    pub fn new(listen: SocketAddr) -> ShardConfig {
        ShardConfig {
            listen,
            send: SendBackend::default(),
            connections_max: 8192,
            pin_to: None,
            skip_behind_chunks: 25,
            stall_cutoff: Span::from_secs(10),
            handshake_deadline: Span::from_secs(5),
            http_back_chunks: 5,
            turn_bytes: 256 << 10,
            drain_deadline: Span::from_secs(5),
            want_deadline: Span::from_secs(10),
            queue_messages: ShardConfig::QUEUE_MESSAGES_MIN,
            caches_max: ShardConfig::CACHES_MAX,
            budget: Budget::default(),
            siblings: Arc::new(Siblings::new(0)),
            http_idle: Span::from_secs(15),
            http_wait: Span::from_secs(10),
            zero_copy_despite_copies: false,
        }
    }
}

/// Longest handshake in bytes: a Hello with a ticket has under 400, an HTTP head of a browser under 1 KiB.
pub(super) const HANDSHAKE_BYTES_MAX: usize = 4096;

/// Connections above `connections_max` that may be in their handshake: a publisher gets in although viewers are many,
/// and a viewer gets a typed refusal. Beyond that, connections are closed unread.
pub(super) const HANDSHAKE_RESERVE: u32 = 64;

/// Streams on one connection; a cache that pulls from another one opens each stream that its domain watches.
pub(super) const STREAMS_PER_CONNECTION_MAX: usize = 64;

/// Streams that a shard waits for at once.
pub(super) const STREAMS_WANTED_MAX: usize = 256;

/// Answers that a connection has not taken. A viewer with so many unread answers (600 refusals) does not read.
pub(super) const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Requests over HTTP that a connection has sent ahead of their answers, in bytes: some 150 of a program, 20 of a browser.
pub(super) const ASKED_AHEAD_BYTES_MAX: usize = 16 << 10;

/// How long an answered connection may take to close its side, so that the answer is not lost to a reset.
pub(super) const LINGER: Span = Span::from_secs(1);

/// Patience of a shard that is late by its own fault, in chunks: 1 s (our guess).
pub(super) const LATE_SKIP_CHUNKS: u64 = 5;

/// A fan-out over this makes a shard late by its own fault: five chunks (our guess).
pub(super) const LATE_FANOUT: Span = Span::from_secs(1);

/// How long it stays so at the least (our guess).
pub(super) const LATE_FOR: Span = Span::from_secs(1);

/// A shard that wakes, or ends its turn, so much over the time was not slow but stopped: SIGSTOP, a paused virtual machine
/// (our guess: five chunks).
pub(super) const STOPPED: Span = Span::from_secs(1);

/// How long a shard that was stopped lets control take in what publishers have sent meanwhile, before it serves the newest
/// of it: a chunk's length (our guess).
pub(super) const SETTLE: Span = Span::from_millis(200);

/// How often deadlines are looked at: a quarter second is exact enough for deadlines of seconds.
pub(super) const TICK: Span = Span::from_millis(250);

/// How long accepting pauses when descriptors have run out.
pub(super) const ACCEPT_PAUSE: Span = Span::from_millis(100);

/// Connections served between two looks at the completion queue.
pub(super) const TURN_CONNECTIONS: usize = 64;
