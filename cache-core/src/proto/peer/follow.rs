//! Following: sub-streams that partners push to us, so that their chunks need not be asked for one by one. Our own; the
//! paper only pulls.
//!
//! ```text
//!            its Have is the first                  Leads names it
//!  nobody ------------------------> asked --------------------------------> led
//!    ^                               | refused, no answer                    | behind twice in a row
//!    +-------------------------------+<------------ ending <-----------------+
//! ```
//! A sub-stream's chunks are those whose numbers leave the same remainder by [`SUB_STREAMS`]. Whoever leads in one sends each
//! of its chunks right behind the announcement, so the announcement counts as a request made when it came: the chunk is
//! waited for, given up, owed and charged like any other (`requests`, `request_rate`), and what is late is pulled. The
//! partner asked is the one that announces first: so leaders are nearer to the cache than those who follow them, and
//! nobody follows in a circle for long, as nothing comes round one in time.
//!
//! A leader is *behind* when its chunk had to be asked of somebody else. One chunk may be lost; after two in a row
//! somebody else is asked to lead.

use std::collections::BTreeMap;

use super::event::LinkId;
use super::partners::Partners;
use super::slots::Slots;
use super::turn::Turn;
use crate::limits::SUB_STREAMS;
use crate::time::{Span, Time};
use crate::units::ChunkSeq;
use crate::wire::exchange::Follow as FollowFrame;

/// Most sub-streams that one partner leads another in. Our guess: half of the stream, so that the loss of a partner is
/// not the loss of the stream.
pub(super) const LED_BY_ONE_MAX: u32 = 4;

/// Chunks in a row that a leader may be behind with. Our guess: a lost packet delays one.
const BEHIND_MAX: u32 = 2;

/// How long a partner may take to answer. Our guess: many round trips.
const ANSWER_PATIENCE: Span = Span::from_secs(1);

/// How long a partner that refused, or was behind, is not asked to lead in anything. Our guess: a sub-stream has two chunks
/// in it, and a partner's other followers may have gone.
const REST: Span = Span::from_secs(3);

/// The sub-stream of a chunk, as the bit that stands for it.
pub(super) const fn sub_of(seq: ChunkSeq) -> u8 {
    1 << (seq.get() % SUB_STREAMS)
}

/// Who leads in a sub-stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lead {
    #[default]
    Nobody,
    /// Was asked to, and has not answered.
    Asked { link: LinkId, at: Time },
    /// Does. `behind`: with so many chunks in a row, `last` being the newest of them.
    By { link: LinkId, behind: u32, last: ChunkSeq },
    /// Did, and has not confirmed that it does no longer: chunks may still come.
    Ending { link: LinkId, at: Time },
}

/// Who leads us in which sub-stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Follow {
    leads: [Lead; SUB_STREAMS as usize],
    /// Partners that are not asked before a moment.
    rests: BTreeMap<LinkId, Time>,
}

impl Follow {
    /// The sub-streams that somebody leads us in.
    pub(super) fn led(&self) -> u8 {
        self.mask(|lead| matches!(lead, Lead::By { .. }))
    }

    /// The sub-streams in which `link` leads us.
    pub(super) fn led_by(&self, link: LinkId) -> u8 {
        self.mask(|lead| matches!(lead, Lead::By { link: by, .. } if *by == link))
    }

    /// The sub-streams in which `link` leads us, or was asked to.
    pub(super) fn wanted_of(&self, link: LinkId) -> u8 {
        self.mask(|lead| matches!(lead, Lead::By { link: by, .. } | Lead::Asked { link: by, .. } if *by == link))
    }

    /// The slots whose chunks are still to be announced by who leads there, slot 0 being `base`: not those that it announced
    /// before it led, or was behind with.
    pub(super) fn waited_for(&self, base: ChunkSeq, partners: &Partners) -> Slots {
        let mut behind = Slots::NONE;
        for lead in &self.leads {
            if let Lead::By { last, .. } = lead {
                last.since(base).into_iter().for_each(|slot| behind.insert(slot));
            }
        }
        partners.iter().fold(Slots::of_subs(self.led(), base).without(behind), |waited, (link, partner)| {
            match self.led_by(link) {
                0 => waited,
                subs => waited.without(Slots::of(&partner.map, base).and(Slots::of_subs(subs, base))),
            }
        })
    }

    /// `link` announces `seq`. Whether it comes without being asked for. When nobody leads there, and `link` `may_lead`, it is
    /// asked to.
    pub(super) fn news(&mut self, t: &mut Turn<'_>, link: LinkId, seq: ChunkSeq, may_lead: bool) -> bool {
        self.give_up(t, at(seq));
        match self.leads[at(seq)] {
            Lead::By { link: by, .. } | Lead::Ending { link: by, .. } => by == link,
            Lead::Nobody if may_lead && self.may_ask(link, t.now) => {
                self.leads[at(seq)] = Lead::Asked { link, at: t.now };
                t.stats.follows += 1;
                t.send(link, FollowFrame { subs: self.wanted_of(link) });
                false
            }
            Lead::Nobody | Lead::Asked { .. } => false,
        }
    }

    /// `link` says what it leads us in. What nobody asked it for is passed over: its chunks will be unasked ones.
    pub(super) fn answered(&mut self, t: &mut Turn<'_>, link: LinkId, subs: u8) {
        let mut refused = false;
        for (sub, lead) in self.leads.iter_mut().enumerate() {
            match *lead {
                Lead::Asked { link: asked, .. } if asked == link && subs >> sub & 1 == 1 => {
                    *lead = Lead::By { link, behind: 0, last: ChunkSeq::FIRST };
                }
                Lead::Asked { link: by, .. } | Lead::By { link: by, .. } | Lead::Ending { link: by, .. }
                    if by == link && subs >> sub & 1 == 0 =>
                {
                    refused |= !matches!(lead, Lead::Ending { .. });
                    *lead = Lead::Nobody;
                }
                _ => {}
            }
        }
        if refused {
            t.stats.follows_refused += 1;
            self.rests.insert(link, t.now.after(REST));
        }
    }

    /// `seq` had to be asked of somebody else than who leads there, was refused by the leader, came too late or is farther
    /// ahead than the window.
    pub(super) fn behind(&mut self, t: &mut Turn<'_>, seq: ChunkSeq) {
        let Lead::By { link, behind, last } = &mut self.leads[at(seq)] else { return };
        if *last == seq {
            return;
        }
        (*behind, *last) = (*behind + 1, seq);
        let link = *link;
        if *behind >= BEHIND_MAX && !self.waits_for(link) {
            self.end(t, at(seq), link);
        }
    }

    /// `seq` has come from `link` and was lacked.
    pub(super) fn was_in_time(&mut self, link: LinkId, seq: ChunkSeq) {
        if let Lead::By { link: by, behind, .. } = &mut self.leads[at(seq)]
            && *by == link
        {
            *behind = 0;
        }
    }

    /// Whether `link` leads in the sub-stream of `seq`, or did until now.
    pub(super) fn is_led_by(&self, link: LinkId, seq: ChunkSeq) -> bool {
        matches!(self.leads[at(seq)], Lead::By { link: by, .. } | Lead::Ending { link: by, .. } if by == link)
    }

    /// The link is dead.
    pub(super) fn drop_link(&mut self, link: LinkId) {
        self.rests.remove(&link);
        for lead in &mut self.leads {
            if let Lead::Asked { link: by, .. } | Lead::By { link: by, .. } | Lead::Ending { link: by, .. } = *lead
                && by == link
            {
                *lead = Lead::Nobody;
            }
        }
    }

    /// Who does not answer is not waited for. An ending that is not confirmed is over; a leader that was asked is told
    /// that it need not.
    fn give_up(&mut self, t: &mut Turn<'_>, sub: usize) {
        match self.leads[sub] {
            Lead::Asked { link, at } if at.after(ANSWER_PATIENCE) <= t.now => self.end(t, sub, link),
            Lead::Ending { at, .. } if at.after(ANSWER_PATIENCE) <= t.now => self.leads[sub] = Lead::Nobody,
            _ => {}
        }
    }

    fn end(&mut self, t: &mut Turn<'_>, sub: usize, link: LinkId) {
        self.leads[sub] = Lead::Ending { link, at: t.now };
        self.rests.insert(link, t.now.after(REST));
        t.stats.follows_ended += 1;
        t.send(link, FollowFrame { subs: self.wanted_of(link) });
    }

    fn may_ask(&self, link: LinkId, now: Time) -> bool {
        let rests = self.rests.get(&link).is_some_and(|until| *until > now);
        !rests && !self.waits_for(link) && self.wanted_of(link).count_ones() < LED_BY_ONE_MAX
    }

    /// Whether `link` owes an answer. It is asked nothing else before: which question an answer is to would not be known.
    fn waits_for(&self, link: LinkId) -> bool {
        self.leads
            .iter()
            .any(|lead| matches!(lead, Lead::Asked { link: by, .. } | Lead::Ending { link: by, .. } if *by == link))
    }

    fn mask(&self, holds: impl Fn(&Lead) -> bool) -> u8 {
        (0u8..).zip(&self.leads).fold(0, |mask, (sub, lead)| mask | u8::from(holds(lead)) << sub)
    }
}

const fn at(seq: ChunkSeq) -> usize {
    (seq.get() % SUB_STREAMS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::Tuning;
    use super::super::event::Output;
    use super::super::turn::TestWorld;
    use super::*;
    use crate::wire::Frame;

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    fn seq(n: u64) -> ChunkSeq {
        ChunkSeq::new(n)
    }

    /// What was asked since the last look: `1:101` sub-streams of a link, lowest last.
    fn said(world: &mut TestWorld) -> Vec<String> {
        let text = |o| match o {
            Output::Send { link, frame: Frame::Follow(f) } => format!("{}:{:b}", link.0, f.subs),
            other => format!("{other:?}"),
        };
        world.outputs().into_iter().map(text).collect()
    }

    /// `link` leads us in the sub-stream of chunk `n`.
    fn led(world: &mut TestWorld, follow: &mut Follow, link: LinkId, n: u64) {
        assert!(!follow.news(&mut world.turn(), link, seq(n), true));
        let subs = follow.wanted_of(link);
        follow.answered(&mut world.turn(), link, subs);
        assert!(follow.is_led_by(link, seq(n)), "{follow:?}");
        world.outputs();
    }

    #[test]
    fn the_first_to_announce_is_asked_and_what_it_announces_then_comes() {
        let (mut world, mut follow) = (TestWorld::new(Tuning::default()), Follow::default());
        assert!(!follow.news(&mut world.turn(), B, seq(80), false), "it may not");
        assert!(!follow.news(&mut world.turn(), A, seq(80), true));
        assert!(!follow.news(&mut world.turn(), B, seq(80), true), "A was asked");
        assert_eq!(said(&mut world), ["1:1"]);
        assert_eq!(follow.led(), 0);
        follow.answered(&mut world.turn(), A, 0b1);
        assert_eq!((follow.led(), follow.wanted_of(A), follow.wanted_of(B)), (1, 1, 0));
        let comes = [(A, 88), (B, 88), (A, 89)].map(|(link, n)| follow.news(&mut world.turn(), link, seq(n), false));
        assert_eq!(comes, [true, false, false]);
        let waited = follow.waited_for(seq(85), &Partners::default());
        assert_eq!(waited.iter().take(3).collect::<Vec<_>>(), [3, 11, 19]);
    }

    #[test]
    fn who_refuses_rests_and_who_leads_in_half_of_the_stream_is_asked_for_no_more() {
        let (mut world, mut follow) = (TestWorld::new(Tuning::default()), Follow::default());
        (0..4).for_each(|n| led(&mut world, &mut follow, A, n));
        follow.news(&mut world.turn(), A, seq(4), true);
        assert_eq!(said(&mut world), [""; 0]);
        follow.news(&mut world.turn(), B, seq(4), true);
        follow.answered(&mut world.turn(), B, 0b1);
        assert_eq!(follow.led(), 0b1111, "what was not asked for is passed over");
        follow.news(&mut world.turn(), B, seq(5), true);
        assert_eq!((said(&mut world), world.stats.follows_refused), (vec!["2:10000".to_owned()], 1));
        world.pass(3_000);
        follow.news(&mut world.turn(), B, seq(5), true);
        assert_eq!(said(&mut world), ["2:100000"]);
    }

    #[test]
    fn one_chunk_may_be_lost_after_two_in_a_row_it_is_over() {
        let (mut world, mut follow) = (TestWorld::new(Tuning::default()), Follow::default());
        led(&mut world, &mut follow, A, 80);
        led(&mut world, &mut follow, A, 81);
        (0..9).for_each(|_| follow.behind(&mut world.turn(), seq(88)));
        let waited = follow.waited_for(seq(80), &Partners::default());
        assert!(waited.contains(16) && !waited.contains(8), "it is pulled");
        follow.was_in_time(A, seq(96));
        follow.behind(&mut world.turn(), seq(104));
        assert_eq!(said(&mut world), [""; 0]);
        follow.behind(&mut world.turn(), seq(112));
        assert_eq!((said(&mut world), world.stats.follows_ended, follow.led()), (vec!["1:10".to_owned()], 1, 0b10));
        assert!(follow.news(&mut world.turn(), A, seq(112), true), "until it confirms");
        follow.answered(&mut world.turn(), A, 0b10);
        assert!(!follow.news(&mut world.turn(), A, seq(112), true));
        assert_eq!((said(&mut world), follow.led()), (vec![], 0b10), "it rests");
    }

    #[test]
    fn an_answer_is_not_waited_for_long_and_a_dead_link_leads_nobody() {
        let (mut world, mut follow) = (TestWorld::new(Tuning::default()), Follow::default());
        follow.news(&mut world.turn(), A, seq(80), true);
        world.pass(1_000);
        follow.news(&mut world.turn(), B, seq(80), true);
        assert_eq!(said(&mut world), ["1:1", "1:0"]);
        follow.answered(&mut world.turn(), A, 0b1);
        assert_eq!(follow.led(), 0, "too late");
        world.pass(1_000);
        led(&mut world, &mut follow, B, 80);
        follow.drop_link(B);
        assert_eq!((follow.led(), follow.wanted_of(B)), (0, 0));
    }

    proptest! {
        /// Whatever partners say in whatever order, each sub-stream has one leader at most, nobody leads in more than half of
        /// them, and what is said is bounded by what happens.
        #[test]
        fn one_leader_for_each_sub_stream(
            happens in prop::collection::vec((0u8..5, 1u32..5, 0u64..64, any::<u8>(), 0u64..1_500), 0..200),
        ) {
            let (mut world, mut follow) = (TestWorld::new(Tuning::default()), Follow::default());
            for (what, link, n, subs, ms) in happens {
                let link = LinkId(link);
                match what {
                    0 => _ = follow.news(&mut world.turn(), link, seq(n), true),
                    1 => follow.answered(&mut world.turn(), link, subs),
                    2 => follow.behind(&mut world.turn(), seq(n)),
                    3 => follow.drop_link(link),
                    _ => world.pass(ms),
                }
                prop_assert!(world.outputs().len() <= 2);
                let wanted: Vec<u8> = (1..5).map(|link| follow.wanted_of(LinkId(link))).collect();
                prop_assert!(wanted.iter().all(|subs| subs.count_ones() <= LED_BY_ONE_MAX));
                prop_assert_eq!(wanted.iter().map(|subs| subs.count_ones()).sum::<u32>(),
                    wanted.iter().fold(0u8, |all, subs| all | subs).count_ones());
                prop_assert_eq!(follow.led() & !wanted.iter().fold(0u8, |all, subs| all | subs), 0);
            }
        }
    }
}
