//! Who watches what where, and what each kind of sender must send for it.

use serde::Serialize;

use crate::offload::{Offload, usable_uplink};
use crate::scenario::{Scenario, Streams};
use crate::sizes::line_bps;

/// A stream, or several alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Rate, kbit/s.
    pub kbps: f64,
    /// Streams of this kind.
    pub count: f64,
    /// Viewers of each.
    pub viewers: f64,
}

/// A class of streams in one domain. All numbers are of one stream, and expected ones, so any fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local {
    /// Rate, kbit/s.
    pub kbps: f64,
    /// Streams of this kind.
    pub count: f64,
    /// Players, who are sent everything by a cache.
    pub players: f64,
    /// Peers.
    pub peers: f64,
    /// Copies that caches send to the peers.
    pub copies: f64,
    /// Odds that the domain holds the stream at all.
    pub held: f64,
}

/// Traffic on the line by kind, in Mbit/s, of all domains together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Uploads.
    pub publisher_to_cache: f64,
    /// Pulls between domains.
    pub cache_to_cache_between_domains: f64,
    /// Pulls inside domains, where one cache is not enough for a stream.
    pub cache_to_cache_in_domains: f64,
    /// What peers get from caches.
    pub cache_to_peer: f64,
    /// What players get.
    pub cache_to_player: f64,
    /// What peers get from peers.
    pub peer_to_peer: f64,
    /// Everything that peers send and receive beside chunks.
    pub control: f64,
}

/// The streams, each with its viewers when there are `viewers` in all.
pub fn classes(scenario: &Scenario, viewers: f64) -> Vec<Class> {
    let zipf_share = scenario.zipf.map_or(0.0, |zipf| zipf.share);
    let all: f64 = scenario.streams.iter().map(|stream| stream.share).sum::<f64>() + zipf_share;
    let named = |stream: &Streams| {
        let count = stream.count as f64;
        Class { kbps: stream.kbps, count, viewers: viewers * stream.share / all / count }
    };
    let mut classes: Vec<Class> = scenario.streams.iter().map(named).collect();
    if let Some(zipf) = &scenario.zipf {
        let weights: Vec<f64> = (1..=zipf.streams).map(|rank| (rank as f64).powf(-zipf.exponent)).collect();
        let sum: f64 = weights.iter().sum();
        let of =
            |weight: &f64| Class { kbps: zipf.kbps, count: 1.0, viewers: viewers * zipf.share / all * weight / sum };
        classes.extend(weights.iter().map(of));
    }
    classes
}

/// The streams in a domain that has this share of the viewers.
pub fn local(scenario: &Scenario, offload: &Offload, classes: &[Class], share: f64) -> Vec<Local> {
    let in_domain = |class: &Class| {
        let viewers = class.viewers * share;
        let peers = viewers * (1.0 - scenario.audience.players);
        let uplink = usable_uplink(&scenario.audience, class.kbps);
        Local {
            kbps: class.kbps,
            count: class.count,
            players: viewers - peers,
            peers,
            copies: offload.copies(uplink, peers),
            held: viewers.min(1.0),
        }
    };
    classes.iter().map(in_domain).collect()
}

impl Traffic {
    /// What flows between viewers, publishers and caches; pulls are added by who knows how many caches there are.
    pub fn of_viewers(classes: &[Class], domains: &[Vec<Local>], control_share: f64) -> Traffic {
        let mut traffic = Traffic::default();
        for class in classes {
            traffic.publisher_to_cache += class.count * line_bps(class.kbps) / 1e6;
        }
        for local in domains.iter().flatten() {
            let each = local.count * line_bps(local.kbps) / 1e6;
            traffic.cache_to_peer += each * local.copies;
            traffic.cache_to_player += each * local.players;
            traffic.peer_to_peer += each * (local.peers - local.copies);
        }
        traffic.control = (traffic.cache_to_peer + traffic.peer_to_peer) * control_share / (1.0 - control_share);
        traffic
    }

    /// What all caches send.
    pub fn from_caches(&self) -> f64 {
        self.cache_to_cache_between_domains + self.cache_to_cache_in_domains + self.cache_to_peer + self.cache_to_player
    }

    /// Each kind with its name.
    pub const fn kinds(&self) -> [(&'static str, f64); 7] {
        [
            ("publisher -> cache", self.publisher_to_cache),
            ("cache -> cache, between domains", self.cache_to_cache_between_domains),
            ("cache -> cache, inside domains", self.cache_to_cache_in_domains),
            ("cache -> peer", self.cache_to_peer),
            ("cache -> player", self.cache_to_player),
            ("peer -> peer", self.peer_to_peer),
            ("control, at peers", self.control),
        ]
    }
}
