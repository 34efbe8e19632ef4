//! What a peer can be told. Every number stands here with its key, unit, default and source; `paper` means the
//! section or equation of the paper, everything else is our guess or follows from another number, and says so.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::limits::{HISTORY_CHUNKS, WINDOW_CHUNKS};
use crate::time::Span;
use crate::units::CHUNK_SPAN;
use crate::wire::StreamName;

/// A peer: which stream, whom to ask, where it is reached, and its [`Tuning`].
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The stream to watch.
    pub stream: StreamName,
    /// The route servers, in the order to try; at least one.
    pub routes: Vec<SocketAddr>,
    /// Where the peer takes TCP links and, on the same port, sends its datagrams from. An unspecified address means
    /// "where the index server sees me". `None`: it takes no links and only dials.
    pub listen: Option<SocketAddr>,
    /// The numbers.
    pub tuning: Tuning,
}

/// How near to the publisher to watch: the window and the periods that go with it. Peers of different profiles are
/// partners like any others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The paper's window of 51.2 s, 6 s behind the publisher: rides out most.
    #[default]
    Classic,
    /// A window of 12.8 s, 3 s behind.
    Mid,
    /// A window of 3.2 s, 2.3 s behind.
    Low,
}

/// How the window moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sliding {
    /// Once started, one slot per chunk's length; a hole that reaches the play position is a missed chunk.
    #[default]
    Clock,
    /// The paper's words taken literally, for the simulator: play-out begins at slot 48 and moves only while the
    /// first 48 slots are all held, so that one hole freezes it.
    Strict,
}

/// Which rule sets how much is asked of a partner (paper, eq. (5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestControl {
    /// Eq. (5) as printed: 0 is absorbing.
    Paper,
    /// Eq. (5) repaired: remembers the last failure, grows by 1 above it, and probes a muted partner again.
    #[default]
    Repaired,
}

/// How "the next third of the window" is read (paper, section 3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrgentZone {
    /// A third of the window: slots 48, 85 and 123 for history, urgent and normal.
    #[default]
    ThirdOfWindow,
    /// A third of what follows the play position: 48, 69 and 139.
    ThirdOfRest,
    /// The first third of the window, of which the history is a part: 48, 37 and 171.
    FirstThird,
}

macro_rules! tuning {
    ($($(#[$doc:meta])* $key:ident: $of:ty,)*) => {
        /// A peer's numbers. Where they are read from, [`Profile`] sets those that go with its window and keys given beside it
        /// win; unknown keys are errors. [`Tuning::check`] says which value is out of range.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(from = "Given")]
        pub struct Tuning {
            /// What the numbers below were set from.
            pub profile: Profile,
            $($(#[$doc])* pub $key: $of,)*
        }

        /// The keys that a file gives.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            profile: Option<Profile>,
            $($key: Option<$of>,)*
        }

        impl From<Given> for Tuning {
            fn from(given: Given) -> Tuning {
                let mut tuning = given.profile.unwrap_or_default().tuning();
                $(if let Some(value) = given.$key {
                    tuning.$key = value;
                })*
                tuning
            }
        }
    };
}

tuning! {
    /// From the start to the first chunk on offer; after that the peer gives up. Our guess: a person's patience.
    join_deadline_ms: u64,

    /// c of eq. (1): members are `(c + 1) * log N`. Paper: "about 3 ln N", so 2.
    members_c: f64,
    /// The logarithm's base in eqs. (1) and (2). Paper: e.
    log_base: f64,
    /// Fewest members and partners wanted, however small N is (as far as so many exist). Our guess.
    neighbours_min: usize,
    /// Most accepted partners, whatever eq. (2) allows. Our guess.
    accepted_max: usize,
    /// Upload that others may have, in kbit/s; 0: unlimited. BW of eq. (2).
    upload_kbps: u64,
    /// Period after which the worst partners are exchanged. Our guess.
    optimise_period_ms: u64,
    /// k of section 3.1.5, 0 <= k < 1/2: `floor(k * partners)` are exchanged each period. Our guess.
    exchange_share: f64,
    /// p of eq. (3), 0 < p < 1: what a download is worth against an upload. Our guess.
    download_weight: f64,
    /// Period of buffer maps to partners, which are the heartbeat too. Our guess.
    gossip_ms: u64,
    /// Missed heartbeats after which a partner is gone. Our guess.
    gossip_missed_max: u64,
    /// From a TCP link's beginning to its Welcome. Our guess; below the 5 s that servers grant.
    handshake_ms: u64,
    /// For how long a peer that did not take a link is not dialled again. Our guess.
    redial_ms: u64,
    /// For how long a peer that sent a wrong chunk is refused. Our guess.
    ban_ms: u64,

    /// How the window moves.
    sliding: Sliding,
    /// Chunks of the window, at most 256. Paper, section 3.2.1: 256.
    window_chunks: u64,
    /// Chunks of the window behind the play position, kept for others. Paper, section 3.2.2: 48.
    history_chunks: u64,
    /// Contiguous chunks from the first one on before play-out begins. Our guess: what a cache's burst brings
    /// over a slow downlink in little time.
    startup_chunks: u64,
    /// How far behind the newest chunk play-out is: the time a chunk has to travel through the swarm. Our guess.
    play_delay_ms: u64,
    /// How far behind the newest chunk to begin at the least (a cache begins at the join point before that); 0: as far as
    /// `play_delay_ms`. Our guess.
    begin_back_ms: u64,
    /// Largest correction of the play-out's speed against the publisher's clock, in thousandths. Our guess: 25 times a
    /// bad crystal's 200 ppm, and too little for a player's buffer to notice.
    slew_permille: u64,
    /// Later than this by the clock, play-out was interrupted: it skips ahead instead of catching up. Our guess.
    gap_ms: u64,

    /// Which form of eq. (5) is used.
    request_control: RequestControl,
    /// k of eq. (4), 1 < k: how much more is asked for than an even share. Paper's legend gives 1 < k < M.
    request_share: f64,
    /// L of eq. (5): the least that is asked of a partner that answers. Our guess.
    request_floor: u32,
    /// The period of eq. (5). Our guess: several round trips.
    request_period_ms: u64,
    /// T of the repaired eq. (5): how long a partner that failed is not asked. Our guess.
    request_mute_ms: u64,
    /// Longest wait for a chunk from a partner; a third of the time that is left when that is less. Our guess.
    request_timeout_ms: u64,
    /// Shortest wait for a chunk. Our guess: a round trip between continents.
    request_timeout_min_ms: u64,
    /// Requests in a row that a partner may leave unanswered. Our guess.
    request_strikes_max: u32,
    /// How the urgent zone is read.
    urgent_zone: UrgentZone,
    /// An urgent chunk is asked of the cache when less than this is left before it is played; two thirds of it at a
    /// cache that is full, eleven tenths at an idle one. Our guess: two tries at a cache.
    cache_reserve_ms: u64,
    /// Longest wait for a chunk from the cache once it is published. Our guess.
    cache_timeout_ms: u64,
    /// How many chunks ahead of the newest a responsible peer asks of the cache. Our guess: covers the error of the
    /// estimate of the newest.
    seed_ahead_chunks: u64,
    /// When no partner announces a published chunk, the number of responsible peers doubles each time this passes.
    /// Our guess: time for a few hops between partners.
    seed_step_ms: u64,
    /// Whether partners are asked to push: to send the chunks of a sub-stream as soon as they have them. Every peer pushes when
    /// it is asked to. Simulated: fewer requests are refused, more chunks come twice, and caches send as much (decision
    /// 0046), so no profile does.
    push: bool,
    /// Longest time a new chunk waits to be announced together with others. Our guess; the machine's tick.
    announce_ms: u64,

    /// Chunks that one partner may have waiting for upload. Our guess.
    upload_queue_max: usize,
    /// A waiting upload older than this is refused: its asker has gone elsewhere. Follows from `request_timeout_ms`.
    upload_patience_ms: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Profile::default().tuning()
    }
}

impl Profile {
    /// The numbers of this profile.
    pub fn tuning(self) -> Tuning {
        match self {
            Profile::Classic => Tuning::classic(),
            Profile::Mid => Tuning {
                profile: self,
                window_chunks: 64,
                history_chunks: 20,
                play_delay_ms: 3_000,
                request_period_ms: 400,
                request_timeout_ms: 800,
                cache_reserve_ms: 1_000,
                cache_timeout_ms: 800,
                seed_step_ms: 500,
                announce_ms: 50,
                upload_patience_ms: 300,
                ..Tuning::classic()
            },
            Profile::Low => Tuning {
                profile: self,
                window_chunks: 16,
                history_chunks: 4,
                play_delay_ms: 2_300,
                begin_back_ms: 1_200,
                slew_permille: 30,
                gossip_ms: 1_000,
                request_period_ms: 200,
                request_mute_ms: 600,
                request_timeout_ms: 900,
                request_timeout_min_ms: 300,
                cache_reserve_ms: 1_000,
                cache_timeout_ms: 500,
                seed_step_ms: 250,
                announce_ms: 20,
                upload_patience_ms: 150,
                ..Tuning::classic()
            },
        }
    }
}

impl Tuning {
    fn classic() -> Tuning {
        Tuning {
            profile: Profile::Classic,
            join_deadline_ms: 15_000,
            members_c: 2.0,
            log_base: std::f64::consts::E,
            neighbours_min: 4,
            accepted_max: 16,
            upload_kbps: 0,
            optimise_period_ms: 10_000,
            exchange_share: 0.2,
            download_weight: 0.7,
            gossip_ms: 1_000,
            gossip_missed_max: 3,
            handshake_ms: 3_000,
            redial_ms: 10_000,
            ban_ms: 600_000,
            sliding: Sliding::Clock,
            window_chunks: WINDOW_CHUNKS,
            history_chunks: HISTORY_CHUNKS,
            startup_chunks: 3,
            play_delay_ms: 6_000,
            begin_back_ms: 0,
            slew_permille: 5,
            gap_ms: 1_000,
            request_control: RequestControl::Repaired,
            request_share: 2.0,
            request_floor: 2,
            request_period_ms: 500,
            request_mute_ms: 1_000,
            request_timeout_ms: 1_000,
            request_timeout_min_ms: 300,
            request_strikes_max: 3,
            urgent_zone: UrgentZone::ThirdOfWindow,
            cache_reserve_ms: 1_500,
            cache_timeout_ms: 1_000,
            seed_ahead_chunks: 3,
            seed_step_ms: 1_000,
            push: false,
            announce_ms: 100,
            upload_queue_max: 16,
            upload_patience_ms: 400,
        }
    }
}

/// A value out of range: the key and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {allowed}")]
pub struct BadTuning {
    /// The key.
    pub key: &'static str,
    /// What it may be.
    pub allowed: &'static str,
}

impl Tuning {
    /// Checks every range.
    pub fn check(&self) -> Result<(), BadTuning> {
        let ahead_ms = self.window_chunks.saturating_sub(self.history_chunks).saturating_mul(CHUNK_SPAN.millis());
        let rules = [
            ("members_c", "must be at least 0 and at most 20", (0.0..=20.0).contains(&self.members_c)),
            ("log_base", "must be above 1 and at most 10", self.log_base > 1.0 && self.log_base <= 10.0),
            ("neighbours_min", "must be 1 to 16", (1..=16).contains(&self.neighbours_min)),
            ("accepted_max", "must be at most 256", self.accepted_max <= 256),
            ("optimise_period_ms", "must be at least 1000", self.optimise_period_ms >= 1_000),
            ("exchange_share", "must be at least 0 and below 0.5", (0.0..0.5).contains(&self.exchange_share)),
            ("download_weight", "must be between 0 and 1", self.download_weight > 0.0 && self.download_weight < 1.0),
            ("gossip_ms", "must be at least 100", self.gossip_ms >= 100),
            ("gossip_missed_max", "must be at least 1", self.gossip_missed_max >= 1),
            ("handshake_ms", "must be at least 100", self.handshake_ms >= 100),
            ("window_chunks", "must be 8 to 256", (8..=WINDOW_CHUNKS).contains(&self.window_chunks)),
            ("history_chunks", "must be at most half of window_chunks", self.history_chunks <= self.window_chunks / 2),
            (
                "startup_chunks",
                "must be at least 1 and less than window_chunks without history_chunks",
                (1..self.window_chunks.saturating_sub(self.history_chunks)).contains(&self.startup_chunks),
            ),
            (
                "play_delay_ms",
                "must be at least 400 and below 200 ms for each chunk of window_chunks that is not of history_chunks",
                (400..ahead_ms).contains(&self.play_delay_ms),
            ),
            ("begin_back_ms", "must be in the window as play_delay_ms is", self.begin_back_ms < ahead_ms),
            ("slew_permille", "must be at most 100", self.slew_permille <= 100),
            ("gap_ms", "must be at least 200", self.gap_ms >= 200),
            ("request_share", "must be above 1", self.request_share > 1.0 && self.request_share <= 100.0),
            ("request_floor", "must be above 1 and at most 64", (2..=64).contains(&self.request_floor)),
            ("request_period_ms", "must be at least 100", self.request_period_ms >= 100),
            (
                "request_timeout_ms",
                "must be at least request_timeout_min_ms",
                self.request_timeout_ms >= self.request_timeout_min_ms,
            ),
            ("request_timeout_min_ms", "must be at least 50", self.request_timeout_min_ms >= 50),
            ("request_strikes_max", "must be at least 1", self.request_strikes_max >= 1),
            ("cache_reserve_ms", "must be below play_delay_ms", self.cache_reserve_ms < self.play_delay_ms),
            ("cache_timeout_ms", "must be at least 100", self.cache_timeout_ms >= 100),
            ("seed_ahead_chunks", "must be at most 32", self.seed_ahead_chunks <= 32),
            ("seed_step_ms", "must be at least 100", self.seed_step_ms >= 100),
            ("announce_ms", "must be 10 to 1000", (10..=1_000).contains(&self.announce_ms)),
            ("upload_queue_max", "must be 1 to 256", (1..=256).contains(&self.upload_queue_max)),
        ];
        match rules.into_iter().find(|(_, _, holds)| !holds) {
            Some((key, allowed, _)) => Err(BadTuning { key, allowed }),
            None => Ok(()),
        }
    }

    /// Slots of the urgent zone, behind the history.
    pub const fn urgent_chunks(&self) -> u64 {
        match self.urgent_zone {
            UrgentZone::ThirdOfWindow => self.window_chunks / 3,
            UrgentZone::ThirdOfRest => self.window_chunks.saturating_sub(self.history_chunks) / 3,
            UrgentZone::FirstThird => (self.window_chunks / 3).saturating_sub(self.history_chunks),
        }
    }

    /// How far behind the newest chunk to begin, in chunks.
    pub const fn back_chunks(&self) -> u16 {
        let back_ms = if self.begin_back_ms == 0 { self.play_delay_ms } else { self.begin_back_ms };
        (back_ms / CHUNK_SPAN.millis()) as u16
    }

    pub(crate) const fn play_delay(&self) -> Span {
        Span::from_millis(self.play_delay_ms)
    }

    pub(crate) const fn cache_reserve(&self) -> Span {
        Span::from_millis(self.cache_reserve_ms)
    }

    pub(crate) const fn cache_timeout(&self) -> Span {
        Span::from_millis(self.cache_timeout_ms)
    }

    /// After so long without a frame a partner is gone.
    pub(crate) const fn silence_max(&self) -> Span {
        Span::from_millis(self.gossip_ms.saturating_mul(self.gossip_missed_max))
    }

    /// Eq. (1): how many members to know in a domain of `size` peers.
    pub fn members_wanted(&self, size: u32) -> usize {
        self.neighbours(size, self.members_c + 1.0)
    }

    /// How many partners to have in a domain of `size` peers.
    pub fn partners_wanted(&self, size: u32) -> usize {
        self.neighbours(size, 1.0)
    }

    /// Eq. (2) repaired: how many links to accept. The paper's `BW / S - 1` gives a small uplink no partner at all,
    /// though in a pull mesh a partner takes only a share of the stream: so it is never below the partners wanted.
    /// `stream_kbps` is S; an upload of 0 (unlimited) or an unknown S leaves only `accepted_max`.
    pub fn accepted_limit(&self, size: u32, stream_kbps: u64) -> usize {
        let by_uplink = match (self.upload_kbps, stream_kbps) {
            (0, _) | (_, 0) => self.accepted_max,
            (uplink, stream) => (uplink / stream).saturating_sub(1).min(self.accepted_max as u64) as usize,
        };
        by_uplink.max(self.partners_wanted(size)).min(self.accepted_max)
    }

    fn neighbours(&self, size: u32, factor: f64) -> usize {
        let scaled = (factor * f64::from(size.max(1)).ln() / self.log_base.ln()).ceil();
        (scaled as usize).max(self.neighbours_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(Tuning::default().check(), Ok(()));
    }

    #[test]
    fn every_profile_is_in_range_and_nearer_to_the_publisher_than_the_one_before() {
        let profiles = [Profile::Classic, Profile::Mid, Profile::Low].map(Profile::tuning);
        assert!(profiles.iter().all(|tuning| tuning.check() == Ok(())));
        assert_eq!(profiles.each_ref().map(|tuning| tuning.window_chunks), [256, 64, 16]);
        assert!(profiles.windows(2).all(|two| two[1].play_delay_ms < two[0].play_delay_ms));
    }

    #[test]
    fn a_window_too_small_for_its_history_is_refused() {
        let wrong = Tuning { window_chunks: 16, history_chunks: 48, ..Tuning::default() };
        assert_eq!(wrong.check().map_err(|bad| bad.key), Err("history_chunks"));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let wrong = Tuning { exchange_share: 0.5, ..Tuning::default() };
        let said = wrong.check().expect_err("0.5 is not below 0.5").to_string();
        assert_eq!(said, "exchange_share: must be at least 0 and below 0.5");
    }

    #[test]
    fn neighbours_follow_equation_one() {
        let t = Tuning::default();
        let wanted = |n| (t.members_wanted(n), t.partners_wanted(n));
        assert_eq!(wanted(1), (4, 4), "never below the least");
        assert_eq!(wanted(20), (9, 4), "3 ln 20 = 8.99");
        assert_eq!(wanted(1_000), (21, 7), "3 ln 1000 = 20.7, ln 1000 = 6.9");
        assert_eq!(wanted(65_536), (34, 12));
    }

    #[test]
    fn a_small_uplink_still_serves_somebody() {
        let t = |upload_kbps| Tuning { upload_kbps, ..Tuning::default() };
        assert_eq!(t(500).accepted_limit(1_000, 2_000), 7, "the paper's eq. (2) would say -1");
        assert_eq!(t(22_000).accepted_limit(1_000, 2_000), 10, "22 / 2 - 1");
        assert_eq!(t(0).accepted_limit(1_000, 2_000), 16);
        assert_eq!(t(1_000_000).accepted_limit(1_000, 2_000), 16);
    }

    #[test]
    fn the_readings_of_the_urgent_third() {
        let zones = |urgent_zone| {
            let urgent = Tuning { urgent_zone, ..Tuning::default() }.urgent_chunks();
            (HISTORY_CHUNKS, urgent, WINDOW_CHUNKS - HISTORY_CHUNKS - urgent)
        };
        assert_eq!(zones(UrgentZone::ThirdOfWindow), (48, 85, 123));
        assert_eq!(zones(UrgentZone::ThirdOfRest), (48, 69, 139));
        assert_eq!(zones(UrgentZone::FirstThird), (48, 37, 171));
    }
}
