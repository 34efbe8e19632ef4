//! Play-out: which chunk is played when.
//!
//! ```text
//!  Waiting --enough chunks--> Playing --nothing newer exists--> Stalled --it goes on--> Playing
//!                                |
//!                                +--the last chunk was played--> Ended
//! ```
//! The first chunk is played at once when enough are held; each next one when the one before has lasted. A chunk that
//! exists and is not here when it is due is *missed*, and play-out goes on without it (a long hole is left out at once by who is
//! farther behind than the play delay); when nothing newer exists the
//! publisher is silent, and play-out stands still (a *stall*) until it goes on.
//!
//! *Lag* is how long after its publishing a chunk is played. Its target is the lag of the first chunk, but not below
//! the play delay: chunks need that time to travel; and not above what the window reaches ahead: the newest chunks could not
//! be held. After a stall what is staler than that lag is left out, and play-out goes on as soon as its chunks have had the
//! play delay to travel: a viewer who began farther behind waits no longer than others. After an interruption of the peer
//! itself (stopped, suspended) it skips what became stale.
//!
//! Clocks drift, so that the lag would drain or grow for ever: above its target each chunk lasts up to `slew_permille`
//! shorter, below a third of the play delay (our guess; or below the first chunk's lag, if that was less) longer. In
//! between nothing is corrected: a player behind us plays at the stream's own speed, and a slower one would starve it.

use super::config::Tuning;
use super::event::Output;
use super::head::Head;
use super::play_buffer::PlayBuffer;
use super::turn::Turn;
use crate::time::{Span, Time};
use crate::units::{CHUNK_SPAN, ChunkSeq};

/// So many chunks missing in a row are left out at once by a viewer who has the lag to spare. Our guess: a second; fewer are one
/// late source.
const HOLE_MIN: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Playing { due: Time },
    Stalled,
    Ended,
}

/// The play-out clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Playout {
    phase: Phase,
    /// Whether the first chunk has been played: it is not counted as due.
    begun: bool,
    target_us: i64,
    /// The play delay: the least target.
    delay_us: i64,
    /// Below this lag chunks last longer.
    floor_us: i64,
    /// What is held when play-out begins: it is needed at once.
    startup: Span,
}

/// How the scheduler is to divide the time that a chunk has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Below this the cache is asked.
    pub(super) reserve: Span,
    /// Each time this passes, more peers seed a chunk.
    pub(super) seed_step: Span,
    /// What a chunk takes from the cache, as far as is known: asked for later it comes too late.
    pub(super) takes: Span,
}

impl Playout {
    /// Waiting for the first chunks.
    pub(super) fn new(tuning: &Tuning) -> Playout {
        let delay_us = tuning.play_delay().micros() as i64;
        let startup = CHUNK_SPAN.times(tuning.startup_chunks);
        Playout { phase: Phase::Waiting, begun: false, target_us: delay_us, delay_us, floor_us: delay_us / 3, startup }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.phase == Phase::Stalled
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// When [`Playout::advance`] has something to do; chunks that come may make it earlier.
    pub(super) const fn next_timeout(&self) -> Time {
        match self.phase {
            Phase::Playing { due } => due,
            _ => Time::NEVER,
        }
    }

    /// Plays what is due.
    pub(super) fn advance(&mut self, t: &mut Turn<'_>, buffer: &mut PlayBuffer, head: &Head) {
        if self.phase == Phase::Waiting && buffer.is_ready(t.tuning().startup_chunks) && buffer.gate_is_open() {
            let lag_us = head.age_us(buffer.position(), t.now);
            self.target_us = self.target_us.max(lag_us.min(reach_us(t.tuning())));
            self.floor_us = self.floor_us.min(lag_us);
            self.phase = Phase::Playing { due: t.now };
        }
        if self.phase == Phase::Stalled {
            self.resume(t, buffer, head);
        }
        while let Phase::Playing { due } = self.phase
            && due <= t.now
        {
            self.phase = self.play(t, due, buffer, head);
        }
    }

    /// How long until `seq` is played; zero when that is past. Before play-out it counts as beginning at once: what it begins
    /// with is due, and what follows when that has been played.
    pub(super) fn time_left(&self, seq: ChunkSeq, position: ChunkSeq, head: &Head, now: Time) -> Span {
        let ahead = CHUNK_SPAN.times(seq.since(position).unwrap_or(0));
        match self.phase {
            Phase::Playing { due } => due.after(ahead).since(now),
            // So many in a row are held before it goes on, or it would leave out one after the other for ever.
            Phase::Stalled => {
                Span::from_micros((self.delay_us - head.age_us(seq, now)).max(0) as u64).minus(self.startup)
            }
            Phase::Waiting | Phase::Ended => ahead.minus(self.startup),
        }
    }

    /// The configured reserve and step, cut down to a third and a sixth (our guess) of a lag that is shorter than
    /// planned: who joins a stream in its first seconds has little behind the head.
    pub(super) fn pace(&self, position: ChunkSeq, head: &Head, tuning: &Tuning, now: Time) -> Pace {
        let lag = self.lag(position, head, now);
        let part = |of: u64| Span::from_micros(lag.micros() / of);
        Pace {
            takes: Span::ZERO,
            reserve: tuning.cache_reserve().min(part(3)),
            seed_step: Span::from_millis(tuning.seed_step_ms).min(part(6)).max(CHUNK_SPAN),
        }
    }

    /// How far behind the publisher play-out is.
    pub(super) fn lag(&self, position: ChunkSeq, head: &Head, now: Time) -> Span {
        let lag_us = match self.phase {
            Phase::Playing { due } => head.age_us(position, due),
            Phase::Waiting => head.age_us(position, now),
            Phase::Stalled | Phase::Ended => self.target_us,
        };
        Span::from_micros(lag_us.max(0) as u64)
    }

    fn play(&mut self, t: &mut Turn<'_>, due: Time, buffer: &mut PlayBuffer, head: &Head) -> Phase {
        if buffer.is_past_end() {
            return Phase::Ended;
        }
        let late = t.now.since(due);
        if late >= Span::from_millis(t.tuning().gap_ms) {
            t.stats.stalls += 1;
            self.skip(t, late.micros() / CHUNK_SPAN.micros(), buffer, head);
            return Phase::Playing { due: t.now };
        }
        let seq = buffer.position();
        let held = buffer.held(seq).filter(|_| buffer.gate_is_open());
        let exists = head.newest() >= seq && buffer.gate_is_open();
        if held.is_none()
            && exists
            && let Some(hole) = self.hole(due, t.tuning().startup_chunks, buffer, head)
        {
            self.skip(t, hole, buffer, head);
            return Phase::Playing { due };
        }
        let lasts = match held {
            Some(held) => {
                t.out.push(Output::Play { seq });
                t.stats.chunks_played += u64::from(self.begun);
                held.duration
            }
            None if exists => {
                t.out.push(Output::Missed { seq });
                t.stats.chunks_missed += 1;
                CHUNK_SPAN
            }
            None => {
                t.stats.stalls += 1;
                return Phase::Stalled;
            }
        };
        t.stats.chunks_due += u64::from(self.begun);
        self.begun = true;
        buffer.move_to(seq.next());
        let lag = head.age_us(seq, due);
        Phase::Playing { due: due.after(self.slewed(lasts, lag, t.tuning().slew_permille)) }
    }

    /// Chunks until play-out can go on with `enough` in a row, when so many are missing that nobody is likely to have them (a cache
    /// was dead while they came) and what follows is still farther behind the publisher than it has to be. Single chunks within the
    /// hole are left out with it: nobody watches one by one.
    fn hole(&self, due: Time, enough: u64, buffer: &PlayBuffer, head: &Head) -> Option<u64> {
        let (position, map) = (buffer.position(), buffer.map());
        let left = buffer.end().since(position).unwrap_or(0);
        if (0..HOLE_MIN).any(|n| map.holds(position.ahead(n))) {
            return None;
        }
        let mut in_a_row = 0;
        let last = (HOLE_MIN..left).find(|n| {
            in_a_row = if map.holds(position.ahead(*n)) { in_a_row + 1 } else { 0 };
            in_a_row >= enough
        })?;
        let hole = (last + 1).saturating_sub(enough.max(1));
        (head.age_us(position.ahead(hole), due) >= self.delay_us).then_some(hole)
    }

    fn slewed(&self, lasts: Span, lag_us: i64, permille: u64) -> Span {
        let correction = Span::from_micros(lasts.micros() * permille / 1_000);
        if lag_us > self.target_us + CHUNK_SPAN.micros() as i64 {
            lasts.minus(correction)
        } else if lag_us < self.floor_us {
            lasts.plus(correction)
        } else {
            lasts
        }
    }

    /// After a stall: leaves out what is staler than the target's lag, and goes on when enough is held again. The lag may be
    /// less than before then, never below the play delay.
    fn resume(&mut self, t: &mut Turn<'_>, buffer: &mut PlayBuffer, head: &Head) {
        if buffer.is_past_end() {
            self.phase = Phase::Ended;
        } else if buffer.gate_is_open() && head.newest() >= buffer.position() {
            let stale = head.age_at_least_us(buffer.position(), t.now) - self.target_us;
            self.skip(t, stale.max(0) as u64 / CHUNK_SPAN.micros(), buffer, head);
            if buffer.is_ready(t.tuning().startup_chunks) {
                let age_us = head.age_at_least_us(buffer.position(), t.now);
                let early = self.delay_us - age_us;
                self.target_us = self.delay_us.max(age_us.min(reach_us(t.tuning())));
                self.phase = Phase::Playing { due: t.now.after(Span::from_micros(early.max(0) as u64)) };
            }
        }
    }

    /// Leaves out up to `chunks` chunks that exist; they were due and were not played.
    fn skip(&mut self, t: &mut Turn<'_>, chunks: u64, buffer: &mut PlayBuffer, head: &Head) {
        let left = head.newest().next().since(buffer.position()).unwrap_or(0);
        let left = buffer.last().map_or(left, |last| left.min(last.next().since(buffer.position()).unwrap_or(0)));
        let chunks = if buffer.gate_is_open() { chunks.min(left) } else { 0 };
        t.stats.chunks_due += chunks;
        t.stats.chunks_skipped += chunks;
        buffer.move_to(buffer.position().ahead(chunks));
    }
}

/// What the window reaches ahead: a viewer farther behind could not hold the newest chunks.
fn reach_us(tuning: &Tuning) -> i64 {
    CHUNK_SPAN.times(tuning.window_chunks.saturating_sub(tuning.history_chunks)).micros() as i64
}

#[cfg(test)]
mod tests {
    use super::super::play_buffer::tests::{drawn, header};
    use super::super::turn::TestWorld;
    use super::*;
    use crate::time::WallClock;

    /// A player whose buffer begins at 100, with the head at 130 when it begins.
    struct Player {
        world: TestWorld,
        buffer: PlayBuffer,
        head: Head,
        playout: Playout,
        played: Vec<(u64, String)>,
    }

    impl Player {
        fn new(held: &str) -> Player {
            let world = TestWorld::new(Tuning { startup_chunks: 5, ..Tuning::default() });
            let head = Head::new(ChunkSeq::new(130), world.now);
            let playout = Playout::new(&world.config.tuning);
            Player { head, playout, buffer: drawn(100, held), world, played: Vec::new() }
        }

        fn run(&mut self, ms: u64) -> &mut Player {
            let until = self.world.now.after(Span::from_millis(ms));
            loop {
                self.step();
                if self.playout.next_timeout() > until {
                    break;
                }
                self.world.now = self.playout.next_timeout();
            }
            self.world.now = until;
            self
        }

        fn step(&mut self) {
            self.playout.advance(&mut self.world.turn(), &mut self.buffer, &self.head);
            let ms = self.world.now.micros() / 1_000 - 1_000;
            self.played.extend(self.world.outputs().iter().filter_map(|o| match o {
                Output::Play { seq } => Some((ms, format!("{seq}"))),
                Output::Missed { seq } => Some((ms, format!("-{seq}"))),
                _ => None,
            }));
        }

        fn insert(&mut self, seqs: std::ops::Range<u64>) -> &mut Player {
            for seq in seqs {
                self.buffer.insert(&header(seq));
                // Published as it comes.
                let clock = WallClock::from_micros(self.world.now.micros());
                self.head.came(ChunkSeq::new(seq), clock, self.world.now);
            }
            self
        }

        fn names(&self) -> Vec<&str> {
            self.played.iter().map(|(_, name)| name.as_str()).collect()
        }
    }

    #[test]
    fn five_chunks_and_it_plays_one_each_200_ms() {
        let mut player = Player::new("####");
        player.run(500);
        assert!(player.played.is_empty() && player.playout.is_waiting());
        player.insert(104..105).run(500);
        let expected = [(500, "100"), (700, "101"), (900, "102")].map(|(at, seq)| (at, seq.to_owned()));
        assert_eq!(player.played, expected);
        let stats = &player.world.stats;
        assert_eq!((stats.chunks_due, stats.chunks_played, stats.continuity()), (2, 2, 1.0), "the first is not due");
    }

    #[test]
    fn a_hole_is_missed_not_waited_for() {
        let mut player = Player::new("#####.##");
        player.run(1_500);
        assert_eq!(player.names(), ["100", "101", "102", "103", "104", "-105", "106", "107"]);
        let stats = &player.world.stats;
        assert_eq!((stats.chunks_due, stats.chunks_played, stats.chunks_missed), (7, 6, 1));
    }

    #[test]
    fn a_long_hole_is_left_out_at_once_by_who_has_the_lag_to_spare() {
        let hole = format!("#####{}#####", ".".repeat(20));
        let mut player = Player::new(&hole);
        player.head = Head::new(ChunkSeq::new(160), player.world.now);
        player.run(1_200);
        assert_eq!(player.names(), ["100", "101", "102", "103", "104", "125", "126"]);
        let stats = &player.world.stats;
        assert_eq!((stats.chunks_due, stats.chunks_played, stats.chunks_skipped), (26, 6, 20));
        // Who would then be nearer to the publisher than the play delay waits.
        let mut player = Player::new(&hole);
        player.run(1_200);
        assert_eq!(player.names()[5..], ["-105", "-106"]);
    }

    #[test]
    fn single_chunks_within_a_long_hole_are_left_out_with_it() {
        let hole = format!("#####{}#{}##{}#####", ".".repeat(8), ".".repeat(6), ".".repeat(3));
        let mut player = Player::new(&hole);
        player.world.config.tuning.startup_chunks = 5;
        player.head = Head::new(ChunkSeq::new(160), player.world.now);
        player.run(1_200);
        assert_eq!(player.names(), ["100", "101", "102", "103", "104", "125", "126"]);
        assert_eq!(player.world.stats.chunks_skipped, 20);
    }

    #[test]
    fn a_silent_publisher_is_waited_for_and_the_lag_is_as_before() {
        let mut player = Player::new(&"#".repeat(31));
        player.run(20_000);
        assert!(player.playout.is_stalled());
        assert_eq!((player.names().len(), player.world.stats.stalls), (31, 1));
        for seq in 131..150 {
            player.insert(seq..seq + 1).run(200);
        }
        assert!(
            player.names().len() == 31 && !player.playout.is_stalled(),
            "5 chunks are there, due 6 s after 131 came"
        );
        player.run(6_000 - 19 * 200);
        player.run(400);
        assert_eq!(player.names()[31..], ["131", "132", "133"]);
        assert_eq!((player.world.stats.continuity(), player.world.stats.chunks_skipped), (1.0, 0));
    }

    #[test]
    fn what_a_publisher_goes_on_with_is_not_stale_for_the_silence_before_it() {
        let mut player = Player::new(&"#".repeat(31));
        player.run(20_000);
        player.head.exists(ChunkSeq::new(131), player.world.now);
        player.run(400);
        assert_eq!((player.playout.is_stalled(), player.world.stats.chunks_skipped), (true, 0));
    }

    #[test]
    fn who_was_cut_off_leaves_out_what_nobody_has_any_more() {
        let mut player = Player::new(&"#".repeat(31));
        player.run(60_000);
        player.head.exists(ChunkSeq::new(131 + 250), player.world.now);
        player.run(200);
        let skipped = player.world.stats.chunks_skipped;
        assert!((215..=225).contains(&skipped), "all but the play delay of 6 s: {skipped}");
    }

    #[test]
    fn who_began_farther_behind_does_not_wait_for_that_lag_again() {
        let mut player = Player::new(&"#".repeat(56));
        player.head = Head::new(ChunkSeq::new(155), player.world.now);
        player.run(20_000);
        assert!(player.playout.is_stalled() && player.playout.target_us == 11_000_000, "{:?}", player.playout);
        for seq in 156..161 {
            player.insert(seq..seq + 1).run(200);
        }
        player.run(4_900);
        assert_eq!(player.names().len(), 56);
        player.run(150);
        assert_eq!(player.names()[56..], ["156"], "6 s after it came");
        assert_eq!(player.playout.target_us, player.playout.delay_us);
    }

    #[test]
    fn what_is_needed_to_go_on_after_a_stall_is_urgent_in_time() {
        let mut player = Player::new(&"#".repeat(31));
        player.run(20_000);
        assert!(player.playout.is_stalled());
        player.insert(131..132).run(6_000);
        let left = |n| player.playout.time_left(ChunkSeq::new(n), ChunkSeq::new(131), &player.head, player.world.now);
        assert_eq!([131, 135, 136, 140].map(|n| left(n).millis()), [0, 0, 0, 800], "five chunks begin it, 1 s");
    }

    #[test]
    fn after_an_interruption_stale_chunks_are_skipped_not_burst() {
        let mut player = Player::new(&"#".repeat(31));
        player.run(1_000);
        player.world.pass(5_000);
        player.run(0);
        assert_eq!(player.names(), ["100", "101", "102", "103", "104", "105", "130"], "24 chunks are 4.8 s");
        let stats = &player.world.stats;
        assert_eq!((stats.chunks_skipped, stats.chunks_due, stats.stalls), (24, 30, 1));
    }

    #[test]
    fn the_end_is_played_to_its_last_chunk() {
        let mut player = Player::new("###");
        player.buffer.ends_with(ChunkSeq::new(102));
        player.run(1_000);
        assert!(player.playout.is_ended());
        assert_eq!(player.names(), ["100", "101", "102"]);
    }

    #[test]
    fn the_lag_is_kept_in_its_band_slowly() {
        let (target_us, floor_us) = (6_000_000, 2_000_000);
        let playout = Playout { target_us, floor_us, ..Playout::new(&Tuning::default()) };
        let lasts = |lag_ms: i64| playout.slewed(CHUNK_SPAN, lag_ms * 1_000, 5).micros();
        let lags = [6_300, 6_200, 2_000, 1_999].map(lasts);
        assert_eq!(lags, [199_000, 200_000, 200_000, 201_000]);
    }

    #[test]
    fn who_begins_too_far_behind_for_its_window_catches_up() {
        let target = |window_chunks| {
            let mut player = Player::new("#####");
            player.world.config.tuning.window_chunks = window_chunks;
            player.run(0);
            player.playout.target_us / 1_000
        };
        assert_eq!([256, 48 + 40].map(target), [6_000, 6_000], "30 chunks behind, which is the play delay");
        let far = |window_chunks| {
            let mut player = Player::new("#####");
            player.world.config.tuning.window_chunks = window_chunks;
            player.head = Head::new(ChunkSeq::new(145), player.world.now);
            player.run(0);
            player.playout.target_us / 1_000
        };
        assert_eq!([256, 48 + 40].map(far), [9_000, 8_000]);
    }

    #[test]
    fn the_strict_gate_freezes_on_a_hole() {
        let mut player = Player::new("");
        player.buffer = PlayBuffer::strict(ChunkSeq::new(70), 256, 48);
        player.insert(70..131).run(1_000);
        assert_eq!(player.names()[0], "118", "slot 48");
        let mut player = Player::new("");
        player.buffer = PlayBuffer::strict(ChunkSeq::new(70), 256, 48);
        player.insert(70..80).insert(81..131).run(1_000);
        assert!(player.played.is_empty());
        player.insert(80..81).run(0);
        assert_eq!(player.names(), ["118"]);
    }
}
