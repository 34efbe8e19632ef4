//! What is looked at each second, and the report in the end.

use cache_core::proto::index::IndexBounds;
use cache_core::proto::peer::{Snapshot, State, Tuning};
use cache_core::proto::route::ids::IdsConfig;
use cache_core::time::{Span, Time};
use cache_core::units::CHUNK_SPAN;

use super::World;
use super::event::Event;
use super::fabric::Role;
use super::measure::Sums;
use super::peer::PeerNode;
use super::place::{SIDE, distance};
use super::server::Machine;
use crate::invariants::recovery::WITHIN;
use crate::invariants::{Accounts, Fact};
use crate::report::{Report, Sample};

/// Seconds from one look at all partnerships to the next.
const PARTNERS_EVERY: u64 = 5;

/// Chunks that a peer's machine hands over for one link before it is told that one has left (`proto::peer::upload`).
const SENDING_MAX: u64 = 2;

/// What control messages may add to that in front of an uplink. Our guess.
const CONTROL_BACKLOG: Span = Span::from_secs(2);

/// Links of a peer at most: accepted partners (256), partners that it dialled (as many), handshakes, a cache.
const LINKS_MAX: u64 = 600;

/// What an uplink has had to carry since nothing waited for it.
///
/// What waits was handed over when it was: two chunks for each link that there was, at the rate that there was. A link that
/// is closed sends what it has begun, and what was queued in front of a slow uplink is still there when the uplink is fast
/// again. So the most links and the slowest rate since the queue was empty bound it, not those of the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uplink {
    links: u64,
    chunk: Span,
}

impl Uplink {
    /// Takes in what is seen of it: the queue in front of it, the peer's links, and how long a chunk takes. The longest that
    /// the queue may be.
    pub(super) fn look(&mut self, backlog: Span, links: u64, chunk: Span) -> Span {
        if backlog == Span::ZERO {
            *self = Uplink::default();
        }
        (self.links, self.chunk) = (self.links.max(links), self.chunk.max(chunk));
        CONTROL_BACKLOG.plus(self.chunk.times((self.links + 1) * SENDING_MAX))
    }
}

impl World {
    /// A second of the scenario has passed.
    pub(super) fn second(&mut self) {
        let now = self.fabric.now;
        // What is looked at is of the second that is over.
        self.look();
        if self.seconds == self.scenario.warmup_s {
            let (sums, traffic) = (self.sums(), self.fabric.traffic);
            self.measure.begin(sums, traffic);
            for peer in self.peers.iter_mut().flatten() {
                peer.quality().begin_again(now);
            }
        }
        if self.seconds.is_multiple_of(PARTNERS_EVERY) {
            self.look_at_partners();
        }
        if !self.recovery_checked
            && let Some(over) = self.faults_over()
            && over.after(WITHIN) <= now
        {
            self.recovery_checked = true;
            self.check_recovery(over);
        }
        self.seconds += 1;
        if self.seconds <= self.scenario.duration_s {
            self.fabric.at(now.after(Span::from_secs(1)), Event::Second);
        }
    }

    fn look(&mut self) {
        let now = self.fabric.now;
        let mut sample = Sample { at_s: self.seconds as u32, viewers: self.alive.len() as u32, ..Sample::default() };
        let mut uploaders = 0;
        let mut links_most = (0, 0);
        let mut queue_worst = (0, Span::ZERO, Span::ZERO);
        for (at, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let node = self.first_peer + at as u32;
            let started = peer.quality().startup().is_some();
            let playing = peer.quality().is_playing(now);
            sample.playing += u32::from(playing);
            sample.stalled += u32::from(started && !playing);
            uploaders += u64::from(!peer.manners.free_rider && !peer.manners.liar);
            let links = peer.links().count() as u64;
            links_most = links_most.max((links, node));
            let backlog = self.fabric.host(node).backlog(now);
            let max = peer.uplink.look(backlog, links, self.fabric.chunk_transmission(node));
            if backlog.minus(max) > queue_worst.1.minus(queue_worst.2) {
                queue_worst = (node, backlog, max);
            }
        }
        let mut peak = 0.0f64;
        let mut all = 0.0;
        for (cache, before) in self.caches.iter().zip(&mut self.cache_sent) {
            let kbps = (cache.bytes_sent - *before) as f64 * 8.0 / 1_000.0;
            *before = cache.bytes_sent;
            peak = peak.max(kbps);
            all += kbps;
        }
        sample.cache_kbps = all;
        let sums = self.sums();
        self.measure.second(sample, sums, uploaders, peak);
        self.fabric.fact(Fact::Size { node: links_most.1, what: "links", size: links_most.0, max: LINKS_MAX });
        let (node, backlog, max) = queue_worst;
        let (size, max) = (backlog.millis(), max.millis());
        self.fabric.fact(Fact::Size { node, what: "ms in front of its uplink", size, max });
        self.check_accounts(&sums);
        self.check_tables();
        if let Some(head) = self.caches.iter().filter_map(|cache| cache.head()).max() {
            self.measure.newest = head;
        }
    }

    /// The servers' tables are within their bounds.
    fn check_tables(&mut self) {
        let index_bounds = IndexBounds::default();
        for server in &self.servers {
            let (what, size, max) = match &server.machine {
                Machine::Index(index) => {
                    ("peers in its registry", index.stats().peers, index_bounds.peers_per_stream_max as u64)
                }
                Machine::Route(route) => ("leases", route.stats().peers, IdsConfig::default().ids_max as u64),
            };
            self.fabric.fact(Fact::Size { node: server.node, what, size, max });
        }
    }

    fn check_accounts(&mut self, sums: &Sums) {
        let traffic = self.fabric.traffic;
        let unclaimed =
            self.measure.departed_unclaimed + self.peers.iter().flatten().map(|peer| peer.unclaimed).sum::<u64>();
        self.fabric.fact(Fact::Accounts(Accounts {
            received: sums.from_peers,
            uploaded: sums.uploaded,
            sent: traffic.peers_sent,
            delivered: traffic.peers_delivered,
            lost: traffic.peers_lost,
            in_flight: traffic.peers_in_flight,
            untold: traffic.peers_in_uplink + traffic.peers_untold,
            unclaimed,
        }));
    }

    /// The counters of all peers that are or were there.
    fn sums(&self) -> Sums {
        let mut sums = self.measure.departed;
        for peer in self.peers.iter().flatten() {
            sums.add(peer.machine().stats(), peer.manners.liar);
        }
        sums
    }

    pub(super) fn count_out(&mut self, peer: &mut PeerNode) {
        self.measure.viewer(self.fabric.now, peer.quality());
        self.measure.departed.add(peer.machine().stats(), peer.manners.liar);
        self.measure.departed_unclaimed += peer.unclaimed;
    }

    /// Links between peers that stand, and how long they are.
    fn look_at_partners(&mut self) {
        let (mut links, mut sum) = (0, 0u64);
        for link in &self.fabric.links {
            let [a, b] = link.nodes;
            if link.open == [true; 2] && a >= self.first_peer && b >= self.first_peer {
                let (a, b) = (self.fabric.host(a), self.fabric.host(b));
                if a.role == Role::Peer && b.role == Role::Peer {
                    links += 1;
                    sum += distance(a.at, b.at);
                }
            }
        }
        self.measure.partners(self.alive.len() as u64, links, sum as f64 / SIDE as f64);
    }

    /// Who does not play after the last fault, those who have just come excepted.
    fn check_recovery(&mut self, over: Time) {
        let now = self.fabric.now;
        let (since, tuning) = (now.since(over), &self.scenario.peer);
        let mut standing = Vec::new();
        for node in &self.alive {
            let at = (*node - self.first_peer) as usize;
            let Some(peer) = &mut self.peers[at] else { continue };
            let still = peer.quality().standing(now);
            if peer.arrived.after(WITHIN) <= now && still > Span::ZERO {
                standing.push((*node, still, regains(&peer.machine().snapshot(now), still, since, tuning)));
            }
        }
        standing.sort_unstable();
        for (node, still, regains) in standing {
            self.fabric.fact(Fact::Standing { node, after: since, still, regains });
        }
    }

    /// The end of the run.
    pub(super) fn report(mut self) -> Report {
        let now = self.fabric.now;
        let sums = self.sums();
        for peer in self.peers.iter_mut().flatten() {
            self.measure.viewer(now, peer.quality());
        }
        let (traffic, chunk_bytes) = (self.fabric.traffic, self.fabric.chunks.frame_bytes());
        let metrics = self.measure.metrics(&sums, &traffic, chunk_bytes, self.scenario.stream.kbps);
        Report {
            scenario: self.scenario.name.clone(),
            seed: self.seed,
            digest: format!("{:016x}", self.fabric.digest),
            simulated_s: self.scenario.duration_s as f64,
            events: self.events,
            metrics,
            series: std::mem::take(&mut self.measure.series),
            violations: self.fabric.invariants.finish(),
            cost: Default::default(),
        }
    }
}

/// Whether a viewer that has been shown nothing for `still` has played since the last fault was over, `since` ago, holds as many
/// chunks in a row as play-out goes on with, and waits for its lag.
fn regains(snapshot: &Snapshot, still: Span, since: Span, tuning: &Tuning) -> bool {
    let enough = snapshot.buffer_ms >= CHUNK_SPAN.times(tuning.startup_chunks).millis();
    let waits = snapshot.state == State::Playing && still <= Span::from_millis(tuning.play_delay_ms);
    still < since && enough && waits
}

#[cfg(test)]
mod tests {
    use cache_core::peer_id::PeerId;
    use cache_core::units::ChunkSeq;

    use super::*;

    #[test]
    fn who_waits_for_its_lag_has_its_next_chunks_and_has_played_since() {
        let ms = Span::from_millis;
        let snapshot = Snapshot {
            peer_id: PeerId::NONE,
            domain: None,
            seen: None,
            state: State::Playing,
            position: ChunkSeq::FIRST,
            head: ChunkSeq::FIRST,
            buffer_ms: 600,
            partners: 0,
            members: 0,
            size: 0,
            cache: None,
        };
        let tuning = Tuning { startup_chunks: 3, play_delay_ms: 6_000, ..Tuning::default() };
        let see = |snapshot: &Snapshot, still| regains(snapshot, ms(still), ms(10_300), &tuning);
        assert!(see(&snapshot, 4_000) && !see(&snapshot, 6_100), "longer than the play delay");
        assert!(!regains(&snapshot, ms(4_000), ms(4_000), &tuning), "it stood when the fault was over");
        assert!(!see(&Snapshot { buffer_ms: 400, ..snapshot.clone() }, 4_000), "it has not enough");
        assert!(!see(&Snapshot { state: State::Stalled, ..snapshot }, 4_000), "it does not wait");
    }

    #[test]
    fn a_queue_is_measured_by_the_most_links_and_the_slowest_rate_since_it_was_empty() {
        let ms = Span::from_millis;
        let mut uplink = Uplink::default();
        assert_eq!(uplink.look(ms(10), 9, ms(50)).millis(), 2_000 + 20 * 50);
        assert_eq!(uplink.look(ms(10), 4, ms(500)).millis(), 2_000 + 20 * 500, "throttled, partners gone");
        assert_eq!(uplink.look(ms(9_000), 2, ms(50)).millis(), 2_000 + 20 * 500, "just after it");
        assert_eq!(uplink.look(Span::ZERO, 2, ms(50)).millis(), 2_000 + 6 * 50, "it was empty");
    }
}
