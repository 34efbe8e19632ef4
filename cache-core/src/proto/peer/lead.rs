//! Leading: which sub-streams a partner is pushed. The other half of [`super::follow`].
//!
//! ```text
//!  uplink   |== promised to who follows: four fifths ==|-- requests --|
//!  each follower of a sub-stream takes an eighth of the stream's rate
//! ```
//! A promise is kept chunk by chunk, in `upload`: a chunk that would be late is refused at once like a requested one. So
//! nothing is promised that the uplink cannot carry, nor more followers of one sub-stream than can have its chunk before
//! that; nor a sub-stream in which the asker leads us, as nobody would have its chunks first.

use super::event::LinkId;
use super::follow::LED_BY_ONE_MAX;
use super::partners::Partners;
use crate::limits::SUB_STREAMS;
use crate::time::Span;
use crate::units::CHUNK_SPAN;

/// How much of the uplink is promised, in fifths. Our guess: the rest is for requests, without which what a push loses
/// would be the cache's.
const PROMISED_FIFTHS: u64 = 4;

/// What is promised before the uplink was measured, in sub-streams. Our guess: half of the stream.
const UNMEASURED: u64 = SUB_STREAMS / 2;

/// What a peer can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Sub-streams, each counted as often as it is followed.
    all: u64,
    /// Followers of one sub-stream.
    each: u64,
}

impl Room {
    /// Of an uplink of `rate` kbit/s (0: not known) for a stream of `stream_kbps`, when a chunk may wait for `patience`.
    pub(super) fn of(rate: u64, stream_kbps: u64, patience: Span) -> Room {
        if rate == 0 || stream_kbps == 0 {
            return Room { all: UNMEASURED, each: 1 };
        }
        let waiting = patience.millis().saturating_mul(rate) / stream_kbps.saturating_mul(CHUNK_SPAN.millis());
        let all = rate.saturating_mul(SUB_STREAMS * PROMISED_FIFTHS) / stream_kbps.saturating_mul(5);
        Room { all, each: 1 + waiting }
    }
}

/// Which of `wanted` the partner on `link` is pushed from here on: what it has already, and more as long as there is
/// `room`; nothing of `not`.
pub(super) fn grant(partners: &Partners, link: LinkId, wanted: u8, not: u8, room: Room) -> u8 {
    let others = || partners.iter().filter(|(other, _)| *other != link).map(|(_, partner)| partner.followed);
    let had = partners.iter().find(|(other, _)| *other == link).map_or(0, |(_, partner)| partner.followed);
    let mut granted = had & wanted & !not;
    let mut promised = u64::from(granted.count_ones() + others().map(u8::count_ones).sum::<u32>());
    let new = wanted & !granted & !not;
    for bit in (0..SUB_STREAMS).map(|sub| 1u8 << sub).filter(|bit| new & bit != 0) {
        let here = others().filter(|followed| followed & bit != 0).count() as u64;
        if promised < room.all && here < room.each && granted.count_ones() < LED_BY_ONE_MAX {
            granted |= bit;
            promised += 1;
        }
    }
    granted
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::config::Tuning;
    use super::super::partners::Partner;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::peer_id::PeerId;
    use crate::units::ChunkSeq;
    use crate::wire::BufferMap;

    /// Partners on links 1.. that follow in `followed`.
    fn partners(followed: &[u8]) -> Partners {
        let (mut world, mut partners) = (TestWorld::new(Tuning::default()), Partners::default());
        for (n, followed) in (1..).zip(followed) {
            let mut t = world.turn();
            let addr = SocketAddr::from(([127, 0, 0, 1], n));
            let mut partner = Partner::new(&t, (PeerId::NONE, Some(addr)), addr, true);
            partner.followed = *followed;
            partners.add(&mut t, LinkId(n.into()), partner, &BufferMap::new(ChunkSeq::FIRST));
        }
        partners
    }

    const WIDE: Room = Room { all: 100, each: 100 };

    #[test]
    fn four_fifths_of_the_uplink_are_promised() {
        let room = |rate| Room::of(rate, 2_000, Span::from_millis(150));
        assert_eq!(room(0), Room { all: 4, each: 1 }, "not measured yet");
        assert_eq!(room(1_000), Room { all: 3, each: 1 });
        assert_eq!(room(2_000), Room { all: 6, each: 1 });
        assert_eq!(room(5_000), Room { all: 16, each: 2 }, "the second waits for 80 ms");
        assert_eq!(room(100), Room { all: 0, each: 1 }, "nothing that it could not keep");
        assert_eq!(Room::of(u64::MAX, 1, Span::from_millis(1)).each, 1 + u64::MAX / 200);
    }

    #[test]
    fn a_follower_keeps_what_it_has_and_others_share_the_rest() {
        let partners = partners(&[0b0000_0011, 0]);
        let room = Room { all: 4, each: 1 };
        assert_eq!(grant(&partners, LinkId(1), 0b0000_0011, 0, room), 0b0000_0011);
        assert_eq!(grant(&partners, LinkId(2), 0b0000_0011, 0, room), 0, "one follower of each");
        assert_eq!(grant(&partners, LinkId(2), 0b1111_0000, 0, room), 0b0011_0000, "four in all");
        assert_eq!(grant(&partners, LinkId(1), 0, 0, room), 0, "none ends it");
    }

    #[test]
    fn nobody_follows_in_more_than_half_or_in_what_it_leads_in() {
        let partners = partners(&[0]);
        assert_eq!(grant(&partners, LinkId(1), 0xFF, 0, WIDE).count_ones(), LED_BY_ONE_MAX);
        assert_eq!(grant(&partners, LinkId(1), 0b0000_0111, 0b0000_0010, WIDE), 0b0000_0101);
        assert_eq!(grant(&partners, LinkId(9), 0, 0, WIDE), 0, "a stranger");
    }
}
