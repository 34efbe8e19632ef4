//! Who loses chunks first when the memory for them is short.
//!
//! ```text
//!  loses first                                                             loses last
//!  | nobody watches, for a while | its last viewer has just left | few viewers ... many viewers |
//!
//!  oldest       lowest position            head        of a watched stream, what stands from the lowest position
//!  |...............|##########################|        of its viewers on is not taken from it at all
//!      may go          they are about to need it
//! ```
//! Within one rank the oldest chunks go first. The ring carries this out (`ring::Writer::set_rank`, `protect_from`); here
//! is decided what it is told of each stream, from what the shards say of their viewers about once a second.
//!
//! A position is that of a viewer to whom chunks are pushed, over either protocol: the next chunk that it is to be sent.
//! One that asks chunk by chunk has the oldest that it has asked for and not got, or none. A viewer that is so far
//! behind that it will be skipped ahead has the head.

use std::collections::BTreeMap;

use crate::limits::WINDOW_CHUNKS;
use crate::time::{Span, Time};
use crate::units::ChunkSeq;

/// Without a viewer for so long a stream is as idle as any (our guess: a viewer who changes channel and comes back has
/// done so).
pub const IDLE_AFTER: Span = Span::from_secs(30);

/// Chunks behind the head that are kept for viewers without a position: 5 s, where nearly all begin.
pub const JOINING_CHUNKS: u64 = 25;

/// Farther behind the head nothing is protected: a viewer far in the past of a stream with time shift must not hold
/// minutes of it against all others.
pub const PROTECTED_CHUNKS_MAX: u64 = WINDOW_CHUNKS;

/// What the ring is told of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The least loses first.
    pub rank: u64,
    /// Chunks from here on are not taken.
    pub protect_from: Option<ChunkSeq>,
}

/// What one shard's viewers of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OnShard {
    count: u32,
    lowest: Option<ChunkSeq>,
}

/// The viewers of a stream.
#[derive(Clone, Debug)]
pub struct Audience {
    shards: BTreeMap<u16, OnShard>,
    idle_since: Time,
}

impl Audience {
    /// Nobody, from `now` on.
    pub const fn new(now: Time) -> Audience {
        Audience { shards: BTreeMap::new(), idle_since: now }
    }

    /// What shard `shard` says: so many viewers, and the lowest position among them, if any has one.
    pub fn tell(&mut self, now: Time, shard: u16, count: u32, lowest: Option<ChunkSeq>) {
        if count == 0 {
            self.shards.remove(&shard);
        } else {
            self.shards.insert(shard, OnShard { count, lowest });
        }
        if self.shards.is_empty() {
            self.idle_since = now;
        }
    }

    /// Viewers on all shards.
    pub fn count(&self) -> u32 {
        self.shards.values().map(|on_shard| on_shard.count).sum()
    }

    /// Since when there has been no viewer; `None` while there is one.
    pub fn idle_since(&self) -> Option<Time> {
        self.shards.is_empty().then_some(self.idle_since)
    }

    /// Counts a time without viewers from `now` on.
    pub fn idle_again(&mut self, now: Time) {
        self.idle_since = now;
    }

    /// What the ring is told of a stream with these viewers whose newest chunk is `head`.
    pub fn standing(&self, now: Time, head: Option<ChunkSeq>) -> Standing {
        if let Some(since) = self.idle_since() {
            return Standing { rank: u64::from(since.after(IDLE_AFTER) > now), protect_from: None };
        }
        let head = head.unwrap_or(ChunkSeq::FIRST);
        let position = |on_shard: &OnShard| on_shard.lowest.unwrap_or(head.back(JOINING_CHUNKS));
        let lowest = self.shards.values().map(position).min();
        Standing {
            rank: 1 + u64::from(self.count()),
            protect_from: lowest.map(|lowest| lowest.max(head.back(PROTECTED_CHUNKS_MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(600_000);

    /// Streams as drawn, `name:viewers` or `name-SECONDS` without one for so long, in the order in which they lose.
    fn order(streams: &str) -> String {
        let standing = |stream: &&str| {
            let mut audience = Audience::new(NOW);
            match (stream.split_once(':'), stream.split_once('-')) {
                (Some((_, viewers)), _) => audience.tell(NOW, 0, viewers.parse().expect("viewers"), None),
                (_, Some((_, idle))) => {
                    audience.tell(NOW.before(Span::from_secs(idle.parse().expect("seconds"))), 0, 0, None);
                }
                _ => {}
            }
            audience.standing(NOW, None).rank
        };
        let mut streams: Vec<&str> = streams.split(' ').collect();
        streams.sort_by_key(standing);
        streams.join(" ")
    }

    #[test]
    fn idle_streams_lose_first_then_those_with_the_fewest_viewers() {
        assert_eq!(order("a:7 b:1 c-31 d:70000 e-1"), "c-31 e-1 b:1 a:7 d:70000");
        assert_eq!(order("a-40 b-31 c-1000"), "a-40 b-31 c-1000", "idle is idle: the oldest chunks decide");
    }

    fn protected(head: u64, told: &[(u16, u32, Option<u64>)]) -> Option<u64> {
        let mut audience = Audience::new(NOW);
        for (shard, count, lowest) in told {
            audience.tell(NOW, *shard, *count, lowest.map(ChunkSeq::new));
        }
        audience.standing(NOW, Some(ChunkSeq::new(head))).protect_from.map(ChunkSeq::get)
    }

    #[test]
    fn what_the_slowest_viewer_of_any_shard_is_about_to_need_is_protected() {
        assert_eq!(protected(1_000, &[(0, 3, Some(990)), (1, 1, Some(970)), (2, 9, Some(1_001))]), Some(970));
        assert_eq!(protected(1_000, &[(0, 3, Some(990)), (1, 1, Some(970)), (1, 0, None)]), Some(990), "it left");
        assert_eq!(protected(1_000, &[]), None);
        assert_eq!(protected(1_000, &[(0, 1, None)]), Some(975), "who has no position yet begins near the head");
        assert_eq!(protected(1_000, &[(0, 1, Some(3))]), Some(744), "a viewer far back does not hold the node");
        assert_eq!(protected(3, &[(0, 1, None)]), Some(0));
    }

    #[test]
    fn idleness_counts_from_the_last_viewers_leaving() {
        let mut audience = Audience::new(Time::ZERO);
        assert_eq!(audience.idle_since(), Some(Time::ZERO));
        audience.tell(Time::from_millis(5), 0, 1, None);
        audience.tell(Time::from_millis(6), 1, 1, None);
        audience.tell(Time::from_millis(7), 0, 0, None);
        assert_eq!((audience.idle_since(), audience.count()), (None, 1));
        audience.tell(Time::from_millis(8), 1, 0, None);
        assert_eq!(audience.idle_since(), Some(Time::from_millis(8)));
    }
}
