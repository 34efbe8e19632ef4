//! Who watches: arrivals, sessions, replacement, misbehaviour.

use cache_core::proto::peer::{End, Input, Peer, PeerConfig};
use cache_core::time::{Span, Time};

use super::build::{classes, rate_bps, stream_name};
use super::event::{Departure, Event};
use super::peer::{Manners, PeerNode};
use super::place::Point;
use super::{World, chance};

/// The part of its uplink that a peer is told to give, in chunk bytes: segments' headers take 3 %, what it says besides
/// the rest (our guess).
const UPLOAD_SHARE: f64 = 0.95;

/// When a viewer whose peer gave up starts it again. Our guess: a person's second try.
const TRIES_AGAIN: Span = Span::from_secs(2);

impl World {
    /// Puts all arrivals into the queue, and the beginning of churn.
    pub(super) fn schedule_audience(&mut self) {
        let audience = &self.scenario.audience;
        let (peers, over_us) = (u64::from(audience.peers), (audience.arrive_over_s * 1e6) as u64);
        let replaced = audience.replaced_per_s;
        for number in 0..peers {
            let at = self.origin.after(Span::from_micros(number * over_us / peers.max(1)));
            self.fabric.at(at, Event::Arrive { stays: false });
        }
        if replaced > 0.0 && peers > 0 {
            let first = self.origin.after(Span::from_micros(over_us));
            self.fabric.at(first, Event::Churn);
        }
    }

    pub(super) fn arrive(&mut self, stays: bool) {
        let at = self.fabric.map.anywhere(&mut self.luck);
        self.arrive_at(at, stays);
    }

    /// A viewer starts its peer.
    pub(super) fn arrive_at(&mut self, at: Point, stays: bool) {
        let region = self.fabric.map.region(at);
        let domain = (region % u32::from(self.scenario.network.domains.max(1))) as u16;
        let luck = &mut self.luck;
        let audience = &self.scenario.audience;
        let manners = Manners {
            free_rider: chance::happens(luck, audience.free_riders),
            liar: chance::happens(luck, audience.liars),
            polluter: chance::happens(luck, audience.polluters),
        };
        let closed = chance::happens(luck, self.scenario.network.nat_closed);
        let classes = classes(&self.scenario);
        let all: f64 = classes.iter().map(|class| class.share).sum();
        let mut left = chance::unit(luck) * all;
        let class = classes.iter().find(|class| {
            left -= class.share;
            left < 0.0
        });
        let class = *class.unwrap_or(&classes[classes.len() - 1]);
        let seed = luck.next_u64();
        let session = audience.session.filter(|_| !stays).map(|law| chance::session_us(luck, law));

        let Some(node) = self.fabric.add_peer(at, domain) else { return };
        let kbps = self.scenario.stream.kbps;
        let host = &mut self.fabric.hosts[node as usize];
        host.up_bps = rate_bps(class.up, kbps).max(1_000);
        host.down_bps = rate_bps(class.down, kbps).max(1_000);
        host.dialable = !closed;
        host.feigns = manners.liar;
        let mut tuning = self.scenario.peer.clone();
        if tuning.upload_kbps == 0 {
            tuning.upload_kbps = ((class.up * kbps as f64 * UPLOAD_SHARE) as u64).max(1);
        }
        let listen = Some(host.addr());
        let routes = self.servers.last().map(|route| self.fabric.host(route.node).addr()).into_iter().collect();
        let config = PeerConfig { stream: stream_name(), routes, listen, tuning };
        let peer = PeerNode::new(node, Peer::new(config, seed), manners, self.fabric.now);
        self.place_of.push(self.alive.len() as u32);
        self.alive.push(node);
        self.peers.push(Some(Box::new(peer)));
        self.measure.viewers += 1;
        if let Some(us) = session {
            let over = self.fabric.now.after(Span::from_micros(us));
            self.fabric.at(over, Event::Depart { node, how: Departure::Replaced });
        }
        self.with_peer(node, |peer, io| peer.tell(io, Input::Start, None));
    }

    /// A viewer goes, unless it is gone already.
    pub(super) fn depart(&mut self, node: u32, how: Departure) {
        let at = self.peer_at(node);
        if self.peers[at].is_none() {
            return;
        }
        match how {
            Departure::Killed => {
                self.kill_peer(node);
            }
            Departure::Left | Departure::Replaced => self.with_peer(node, |peer, io| peer.tell(io, Input::Leave, None)),
        }
        if self.peers[at].is_some() {
            // It stands still, or did not hear of it: the process ends all the same.
            self.kill_peer(node);
        }
        if how == Departure::Replaced {
            self.arrive(false);
        }
    }

    /// A peer's process dies: its links are reset.
    pub(super) fn kill_peer(&mut self, node: u32) {
        let at = self.peer_at(node);
        let Some(peer) = &self.peers[at] else { return };
        let links: Vec<u32> = peer.links().collect();
        self.remove(node);
        for link in links {
            let side = usize::from(self.fabric.links[link as usize].nodes[0] != node);
            self.fabric.close(link, side);
        }
        self.drop_deferred(node);
    }

    /// A peer's machine has finished.
    pub(super) fn finished(&mut self, node: u32) {
        let at = self.peer_at(node);
        let end = self.peers[at].as_ref().and_then(|peer| peer.ended());
        self.remove(node);
        match end {
            Some(End::Left | End::StreamEnded) | None => {}
            Some(End::Refused(_) | End::NoAnswer | End::NoCache) => {
                self.measure.gave_up += 1;
                self.fabric.at(self.fabric.now.after(TRIES_AGAIN), Event::Arrive { stays: false });
            }
        }
    }

    /// Takes a peer out of the world and what it has counted into the sums.
    fn remove(&mut self, node: u32) {
        let at = self.peer_at(node);
        let Some(mut peer) = self.peers[at].take() else { return };
        self.count_out(&mut peer);
        self.fabric.hosts[node as usize].alive = false;
        self.fabric.hosts[node as usize].stopped = false;
        let place = self.place_of[at] as usize;
        self.alive.swap_remove(place);
        if let Some(moved) = self.alive.get(place) {
            let moved = self.peer_at(*moved);
            self.place_of[moved] = place as u32;
        }
    }

    /// One viewer is replaced, and the next will be.
    pub(super) fn churn(&mut self) {
        let per_s = self.scenario.audience.replaced_per_s * self.alive.len().max(1) as f64;
        let pause = Span::from_micros((1e6 / per_s) as u64);
        self.fabric.at(self.fabric.now.after(pause), Event::Churn);
        if let Some(node) = self.anybody() {
            self.depart(node, Departure::Replaced);
        }
    }

    /// Some peer that is there.
    pub(super) fn anybody(&mut self) -> Option<u32> {
        let at = self.luck.below(self.alive.len());
        self.alive.get(at).copied()
    }

    /// A moment within `span` from now.
    pub(super) fn some_time_within(&mut self, span_s: f64) -> Time {
        let us = (span_s * 1e6) as usize;
        self.fabric.now.after(Span::from_micros(self.luck.below(us.max(1)) as u64))
    }
}
