//! From which parent a stream is fetched: one machine per pull.
//!
//! ```text
//!            Ask ----> Parents ----> Connect(first) ---- chunks ----> stays while they come
//!             ^                          | lost, silent, wrong
//!             |                          v
//!             +--- pause <---- none left; else Connect(next)
//! ```
//! There is one upstream link per stream, whatever the number of viewers. A parent that sent a wrong chunk is not
//! tried again while there is another. A pull that never had a chunk ends by [`RelayOutput::GiveUp`]; one that had
//! goes on looking until the stream table ends it.

use std::net::SocketAddr;

use super::config::CacheKnobs;
use crate::outbox::Outbox;
use crate::time::{Span, Time};
use crate::wire::RefusalReason;

/// First pause before the index is asked again; it doubles up to [`PAUSE_MAX`] (our guess: the index needs a report's
/// period, 1 s, to hear of a new holder).
const PAUSE_FIRST: Span = Span::from_millis(250);
const PAUSE_MAX: Span = Span::from_secs(2);

/// Parents remembered as liars; the oldest makes room.
const LIARS_MAX: usize = 8;

/// What happens to a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayInput {
    /// The index names parents, best first.
    Parents(Vec<SocketAddr>),
    /// The index did not answer, or knows nobody.
    Unresolved(RefusalReason),
    /// The present parent sent something.
    Heard,
    /// The present parent sent a chunk that was good.
    Chunk,
    /// The link to the present parent is closed, or it refused.
    Lost,
    /// The present parent sent a chunk whose signature or hash is wrong.
    Lied,
    /// Time has passed.
    Tick,
}

/// What the driver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayOutput {
    /// Ask the index for parents.
    Ask,
    /// Drop the present link, if any, and open one to this parent.
    Connect(SocketAddr),
    /// Drop the present link.
    Disconnect,
    /// Nobody has the stream: tell those who wait, and end the pull.
    GiveUp(RefusalReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Pausing { until: Time },
    Linked { parent: SocketAddr, silent_at: Time },
    Over,
}

/// One pull.
#[derive(Clone, Debug)]
pub struct Relay {
    knobs: CacheKnobs,
    own: SocketAddr,
    parents: Vec<SocketAddr>,
    liars: Vec<SocketAddr>,
    state: State,
    pause: Span,
    give_up_at: Time,
    has_chunk: bool,
}

impl Relay {
    /// A pull for the cache that is reached at `own`, which is never its own parent. `parents` may be empty: then
    /// the index is asked.
    pub fn start(
        now: Time,
        knobs: CacheKnobs,
        own: SocketAddr,
        parents: Vec<SocketAddr>,
        out: &mut Outbox<RelayOutput>,
    ) -> Relay {
        let mut relay = Relay {
            knobs,
            own,
            parents: Vec::new(),
            liars: Vec::new(),
            state: State::Asking,
            pause: PAUSE_FIRST,
            give_up_at: now.after(knobs.pull_give_up),
            has_chunk: false,
        };
        relay.take_parents(parents);
        if relay.parents.is_empty() {
            out.push(RelayOutput::Ask);
        } else {
            relay.connect_next(now, out);
        }
        relay
    }

    /// The parent that is linked, or being linked.
    pub fn parent(&self) -> Option<SocketAddr> {
        match self.state {
            State::Linked { parent, .. } => Some(parent),
            _ => None,
        }
    }

    /// One transition.
    pub fn handle(&mut self, now: Time, input: RelayInput, out: &mut Outbox<RelayOutput>) {
        match (input, self.state) {
            (_, State::Over) => {}
            (RelayInput::Parents(list), State::Asking) => {
                self.take_parents(list);
                if self.parents.is_empty() {
                    self.unresolved(now, RefusalReason::UnknownStream, out);
                } else {
                    self.connect_next(now, out);
                }
            }
            (RelayInput::Unresolved(reason), State::Asking) => self.unresolved(now, reason, out),
            (RelayInput::Heard, State::Linked { parent, .. }) => {
                self.linked(parent, now.after(self.knobs.parent_silent))
            }
            (RelayInput::Chunk, State::Linked { parent, .. }) => {
                self.has_chunk = true;
                self.pause = PAUSE_FIRST;
                self.linked(parent, now.after(self.knobs.parent_silent));
            }
            (RelayInput::Lost, State::Linked { .. }) => self.connect_next(now, out),
            (RelayInput::Lied, State::Linked { parent, .. }) => {
                if self.liars.len() == LIARS_MAX {
                    self.liars.remove(0);
                }
                self.liars.push(parent);
                self.connect_next(now, out);
            }
            (RelayInput::Tick, _) => self.tick(now, out),
            // An answer or a frame that was under way when the state changed.
            _ => {}
        }
    }

    /// When [`RelayInput::Tick`] is due.
    pub fn next_timeout(&self) -> Time {
        let give_up = if self.has_chunk { Time::NEVER } else { self.give_up_at };
        match self.state {
            State::Over => Time::NEVER,
            State::Asking => give_up,
            State::Pausing { until } => until.min(give_up),
            State::Linked { silent_at, .. } => silent_at.min(give_up),
        }
    }

    fn tick(&mut self, now: Time, out: &mut Outbox<RelayOutput>) {
        if !self.has_chunk && now >= self.give_up_at {
            self.give_up(RefusalReason::NoCache, out);
            return;
        }
        match self.state {
            State::Pausing { until } if until <= now => {
                self.state = State::Asking;
                out.push(RelayOutput::Ask);
            }
            State::Linked { silent_at, .. } if silent_at <= now => self.connect_next(now, out),
            _ => {}
        }
    }

    fn unresolved(&mut self, now: Time, reason: RefusalReason, out: &mut Outbox<RelayOutput>) {
        if self.has_chunk || reason != RefusalReason::UnknownStream {
            self.pause(now);
        } else {
            self.give_up(reason, out);
        }
    }

    fn give_up(&mut self, reason: RefusalReason, out: &mut Outbox<RelayOutput>) {
        if self.parent().is_some() {
            out.push(RelayOutput::Disconnect);
        }
        self.state = State::Over;
        out.push(RelayOutput::GiveUp(reason));
    }

    fn pause(&mut self, now: Time) {
        self.state = State::Pausing { until: now.after(self.pause) };
        self.pause = self.pause.times(2).min(PAUSE_MAX);
    }

    /// Liars last, so that one is used when there is nobody else; `parents` is kept in reverse, the next one at its end.
    fn take_parents(&mut self, mut list: Vec<SocketAddr>) {
        list.retain(|parent| *parent != self.own);
        list.sort_by_key(|parent| self.liars.contains(parent));
        list.reverse();
        self.parents = list;
    }

    fn connect_next(&mut self, now: Time, out: &mut Outbox<RelayOutput>) {
        match self.parents.pop() {
            Some(parent) => {
                self.linked(parent, now.after(self.knobs.parent_answers_within));
                out.push(RelayOutput::Connect(parent));
            }
            None => {
                if self.parent().is_some() {
                    out.push(RelayOutput::Disconnect);
                }
                self.pause(now);
            }
        }
    }

    fn linked(&mut self, parent: SocketAddr, silent_at: Time) {
        self.state = State::Linked { parent, silent_at };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn own() -> SocketAddr {
        addr(9)
    }

    struct Rig {
        relay: Relay,
        now: Time,
        out: Outbox<RelayOutput>,
    }

    impl Rig {
        fn start(parents: &[u16]) -> Rig {
            let mut out = Outbox::new();
            let parents = parents.iter().map(|p| addr(*p)).collect();
            let relay = Relay::start(Time::ZERO, CacheKnobs::default(), own(), parents, &mut out);
            Rig { relay, now: Time::ZERO, out }
        }

        fn put(&mut self, input: RelayInput) -> Vec<RelayOutput> {
            self.relay.handle(self.now, input, &mut self.out);
            self.taken()
        }

        fn taken(&mut self) -> Vec<RelayOutput> {
            self.out.drain().collect()
        }

        /// Runs to the next timeout.
        fn wait(&mut self) -> Vec<RelayOutput> {
            self.now = self.relay.next_timeout();
            self.put(RelayInput::Tick)
        }
    }

    use RelayInput::{Chunk, Lied, Lost, Parents, Unresolved};
    use RelayOutput::{Ask, Connect, Disconnect, GiveUp};

    #[test]
    fn parents_are_tried_in_order_then_the_index_is_asked_again() {
        let mut rig = Rig::start(&[1, 2]);
        assert_eq!(rig.taken(), [Connect(addr(1))]);
        assert_eq!(rig.put(Lost), [Connect(addr(2))]);
        assert_eq!(rig.put(Lost), [Disconnect]);
        assert_eq!(rig.wait(), [Ask]);
        assert_eq!(rig.put(Parents(vec![addr(3)])), [Connect(addr(3))]);
    }

    #[test]
    fn a_cache_is_never_its_own_parent() {
        let mut rig = Rig::start(&[]);
        assert_eq!(rig.taken(), [Ask]);
        assert_eq!(rig.put(Parents(vec![own(), addr(2)])), [Connect(addr(2))]);
        let mut alone = Rig::start(&[]);
        alone.taken();
        assert_eq!(alone.put(Parents(vec![own()])), [GiveUp(RefusalReason::UnknownStream)]);
    }

    #[test]
    fn a_silent_parent_is_left_for_the_next() {
        let mut rig = Rig::start(&[1, 2]);
        rig.taken();
        rig.put(Chunk);
        assert_eq!(rig.relay.next_timeout(), Time::from_millis(3_000));
        assert_eq!(rig.wait(), [Connect(addr(2))]);
    }

    #[test]
    fn a_liar_is_the_last_choice() {
        let mut rig = Rig::start(&[1, 2]);
        rig.taken();
        assert_eq!(rig.put(Lied), [Connect(addr(2))]);
        rig.put(Chunk);
        rig.put(Lost);
        assert_eq!(rig.wait(), [Ask]);
        assert_eq!(rig.put(Parents(vec![addr(1), addr(3)])), [Connect(addr(3))]);
        assert_eq!(rig.put(Lost), [Connect(addr(1))]);
    }

    #[test]
    fn nobody_has_it_is_said_at_once_and_no_answer_only_in_the_end() {
        let mut rig = Rig::start(&[]);
        rig.taken();
        assert_eq!(rig.put(Unresolved(RefusalReason::UnknownStream)), [GiveUp(RefusalReason::UnknownStream)]);
        let mut rig = Rig::start(&[]);
        rig.taken();
        let mut all = rig.put(Unresolved(RefusalReason::Busy));
        while rig.relay.next_timeout() != Time::NEVER {
            all.extend(rig.wait());
            all.extend(rig.put(Unresolved(RefusalReason::Busy)));
        }
        assert_eq!(all.last(), Some(&GiveUp(RefusalReason::NoCache)));
        assert_eq!(rig.now, Time::from_millis(10_000));
    }

    #[test]
    fn a_pull_that_had_chunks_goes_on_looking() {
        let mut rig = Rig::start(&[1]);
        rig.taken();
        rig.put(Chunk);
        rig.put(Lost);
        for _ in 0..20 {
            assert_eq!(rig.wait(), [Ask]);
            assert_eq!(rig.put(Unresolved(RefusalReason::UnknownStream)), []);
        }
        assert!(rig.now > Time::from_millis(30_000));
        assert_eq!(rig.wait(), [Ask]);
        assert_eq!(rig.put(Parents(vec![addr(1)])), [Connect(addr(1))]);
    }
}
