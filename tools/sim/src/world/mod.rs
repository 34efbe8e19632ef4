//! Runs a scenario.
//!
//! | file | job |
//! |---|---|
//! | `queue`, `event`, `ahead` | what happens next |
//! | `chance`, `place` | luck, and the map: both without a number that depends on the host |
//! | `fabric` | access links, paths, TCP links, datagrams, partitions |
//! | `chunks` | names and contents instead of bytes |
//! | `peer`, `server`, `cache`, `publisher` | drivers of the production machines |
//! | `build` | the nodes of a scenario |
//! | `audience`, `faults` | who comes and goes, what goes wrong |
//! | `sample`, `measure` | what is seen of it |
//!
//! A run is one thread and one queue: the next event is taken, told to one machine, and what that decides is put into the
//! queue again. Time is in whole microseconds; no decision depends on a float that a mathematics library computed (those
//! of the machines themselves excepted: eq. (1)'s logarithm is rounded up to a whole number of partners).
//!
//! The scenario's second 0 is some time after the beginning of the world: first the servers find each other and the
//! publisher fills a ring, so that the first viewer comes to a running stream.

mod ahead;
mod audience;
mod build;
mod cache;
mod chance;
mod chunks;
mod event;
mod fabric;
mod faults;
mod measure;
mod peer;
mod place;
mod publisher;
mod queue;
mod sample;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use cache_core::outbox::Outbox;
use cache_core::prng::Prng;
use cache_core::proto::peer::Output;
use cache_core::time::{Span, Time};

use self::cache::CacheNode;
use self::event::{Event, What};
use self::fabric::{Fabric, Role};
use self::measure::Measure;
use self::peer::{Io, PeerNode};
use self::publisher::Publisher;
use self::server::Server;
use crate::report::{Cost, Progress, Report};
use crate::scenario::Scenario;

/// Runs `scenario` with `seed`. The result is the same in any process, on any machine, in any build profile, but for
/// [`crate::report::Cost`]. `progress` is told about once per simulated second. The scenario has been checked.
pub fn run(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(Progress)) -> Report {
    run_while(scenario, seed, &mut |standing| {
        progress(standing);
        ControlFlow::Continue(())
    })
}

/// As [`run`], until `progress` breaks: then the report is of the simulated seconds up to there.
pub fn run_while(scenario: &Scenario, seed: u64, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Report {
    let begun = Instant::now();
    let mut world = World::new(scenario, seed);
    let of_s = scenario.duration_s as f64;
    let mut simulated_s = 0.0;
    for second in 0..=scenario.duration_s {
        world.run_until(world.origin.after(Span::from_secs(second)));
        let viewers = world.alive.len() as u32;
        simulated_s = second as f64;
        if progress(Progress { simulated_s, of_s, events: world.events, viewers }).is_break() {
            break;
        }
    }
    let mut report = world.report();
    report.simulated_s = simulated_s;
    let wall_s = begun.elapsed().as_secs_f64();
    report.cost = Cost { wall_s, events_per_s: report.events as f64 / wall_s.max(1e-9), peak_rss_mib: peak_rss_mib() };
    report
}

/// The process' largest resident memory; 0 where the system does not tell.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// A world that runs.
#[derive(Debug)]
struct World {
    scenario: Scenario,
    seed: u64,
    /// The scenario's second 0.
    origin: Time,
    fabric: Fabric,
    measure: Measure,
    out: Outbox<Output>,
    /// Index servers by domain, then the route server.
    servers: Vec<Server>,
    caches: Vec<CacheNode>,
    publisher: Publisher,
    /// The node of the first peer; peers stand by their node less this.
    first_peer: u32,
    peers: Vec<Option<Box<PeerNode>>>,
    /// Nodes of the peers that are there, in no order.
    alive: Vec<u32>,
    /// By peer: its place in `alive`.
    place_of: Vec<u32>,
    /// What has come to nodes that stand still.
    deferred: BTreeMap<u32, Vec<Event>>,
    /// Uplinks before they were throttled, by fault.
    throttled: BTreeMap<u32, Vec<(u32, u64)>>,
    /// Places of peers that are to come back, by fault.
    coming_back: BTreeMap<u32, Vec<place::Point>>,
    luck: Prng,
    events: u64,
    seconds: u64,
    /// Bytes of each cache at the last sample.
    cache_sent: Vec<u64>,
    recovery_checked: bool,
}

impl World {
    /// Takes events until `until`.
    fn run_until(&mut self, until: Time) {
        while let Some((at, event)) = self.fabric.queue.take(until) {
            self.look_ahead();
            self.fabric.now = at;
            if let Some(event) = self.fabric.waits(event) {
                self.events += 1;
                self.happen(event);
            }
        }
        self.fabric.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node } => self.tick(node),
            Event::Datagram { to, .. } if self.is_stopped(to) => self.defer(to, event),
            Event::Datagram { to, from, body, .. } => {
                self.fold_event(1, to, from);
                self.datagram(to, from, body);
            }
            Event::Link { link, side, .. } => {
                let to = self.fabric.links[link as usize].nodes[1 - usize::from(side)];
                if self.is_stopped(to) {
                    return self.defer(to, event);
                }
                if let Event::Link { what, .. } = event {
                    self.fold_event(2, to, link);
                    self.on_link(link, usize::from(side), to, what);
                }
            }
            Event::Sent { node, .. } if self.is_stopped(node) => self.defer(node, event),
            Event::Sent { node, link, chunk } => self.on_sent(node, link, chunk),
            Event::Cut => {
                if !self.fabric.host(self.publisher_node()).stopped {
                    self.publisher.cut(&mut self.fabric);
                } else {
                    self.defer(self.publisher_node(), Event::Cut);
                }
            }
            Event::Second => self.second(),
            Event::Arrive { stays } => self.arrive(stays),
            Event::Depart { node, how } => self.depart(node, how),
            Event::Churn => self.churn(),
            Event::Fault { number, over } => self.fault(number, over),
        }
    }

    fn fold_event(&mut self, kind: u64, a: u32, b: u32) {
        let now = self.fabric.now.micros();
        self.fabric.fold(now << 8 ^ kind ^ u64::from(a) << 40 ^ u64::from(b) << 20);
    }

    fn publisher_node(&self) -> u32 {
        self.first_peer - 1
    }

    fn is_stopped(&self, node: u32) -> bool {
        self.fabric.host(node).stopped
    }

    /// What comes to a process that stands still waits in its kernel.
    fn defer(&mut self, node: u32, event: Event) {
        self.deferred.entry(node).or_default().push(event);
    }

    fn peer_at(&self, node: u32) -> usize {
        (node - self.first_peer) as usize
    }

    /// Gives a peer's driver a turn; afterwards, if it has finished, it is taken out.
    fn with_peer(&mut self, node: u32, turn: impl FnOnce(&mut PeerNode, &mut Io<'_>)) {
        let at = self.peer_at(node);
        let Some(peer) = self.peers.get_mut(at).and_then(Option::as_mut) else { return };
        let mut io = Io { fabric: &mut self.fabric, measure: &mut self.measure, out: &mut self.out };
        turn(peer, &mut io);
        if peer.ended().is_some() {
            self.finished(node);
        }
    }

    fn tick(&mut self, node: u32) {
        let (stopped, alive, role) = {
            let host = self.fabric.host(node);
            (host.stopped, host.alive, host.role)
        };
        if stopped || !alive {
            return;
        }
        match role {
            Role::Peer => self.with_peer(node, |peer, io| peer.tick(io)),
            Role::Index(at) => self.servers[usize::from(at)].tick(&mut self.fabric),
            Role::Route => {
                if let Some(route) = self.servers.last_mut() {
                    route.tick(&mut self.fabric);
                }
            }
            Role::Cache(at) => self.caches[usize::from(at)].tick(&mut self.fabric),
            Role::Publisher => self.publisher.tick(&mut self.fabric),
        }
    }

    fn datagram(&mut self, to: u32, from: u32, body: Box<cache_core::wire::Datagram>) {
        let host = self.fabric.host(to);
        if !host.alive {
            return;
        }
        let role = host.role;
        let source = self.fabric.source(from);
        match role {
            Role::Peer => {
                let input = cache_core::proto::peer::Input::Datagram { from: source, datagram: *body };
                self.with_peer(to, |peer, io| peer.tell(io, input, None));
            }
            Role::Index(at) => self.servers[usize::from(at)].datagram(&mut self.fabric, source, *body),
            Role::Route => {
                if let Some(route) = self.servers.last_mut() {
                    route.datagram(&mut self.fabric, source, *body);
                }
            }
            Role::Cache(at) => self.caches[usize::from(at)].datagram(&mut self.fabric, source, &body),
            Role::Publisher => self.publisher.datagram(&mut self.fabric, source, &body),
        }
    }

    /// Something has come through a link to `to`.
    fn on_link(&mut self, link: u32, side: usize, to: u32, what: What) {
        self.fabric.unpend(link);
        let mine = 1 - side;
        let from = self.fabric.links[link as usize].nodes[side];
        if let What::Chunk { .. } = what {
            self.fabric.chunk_landed(from, to);
        }
        let (alive, dialable) = {
            let host = self.fabric.host(to);
            (host.alive, host.dialable)
        };
        let open = &mut self.fabric.links[link as usize].open;
        let goes_in = match what {
            What::Syn if !open[0] || !dialable => false,
            What::Syn if !alive || from == to => {
                self.fabric.answer_dial(link, false);
                false
            }
            What::Syn => {
                open[mine] = true;
                true
            }
            What::Closed => std::mem::take(&mut open[mine]),
            _ => open[mine],
        };
        if goes_in && alive {
            match self.fabric.host(to).role {
                Role::Peer => self.with_peer(to, |peer, io| peer.on_link(io, link, mine, what)),
                Role::Cache(at) => self.caches[usize::from(at)].on_link(&mut self.fabric, link, mine, what),
                Role::Publisher => self.publisher.on_link(&mut self.fabric, link, what),
                Role::Index(_) | Role::Route => self.fabric.close(link, mine),
            }
        } else if let What::Chunk { .. } = what {
            self.fabric.count_chunk(from, to, false);
        }
        self.fabric.release(link);
    }

    /// The last byte of a chunk has left `node`.
    fn on_sent(&mut self, node: u32, link: u32, chunk: u32) {
        self.fabric.unpend(link);
        let host = self.fabric.host(node);
        let (role, alive, feigns) = (host.role, host.alive, host.feigns);
        match role {
            Role::Cache(at) if alive => self.caches[usize::from(at)].on_sent(&mut self.fabric, link),
            Role::Peer => {
                let at = self.peer_at(node);
                let uploaded =
                    |world: &World| world.peers[at].as_ref().map(|peer| peer.machine().stats().bytes_uploaded);
                let before = uploaded(self);
                self.with_peer(node, |peer, io| peer.on_sent(io, link, chunk));
                if !feigns {
                    // Whose machine has let go of the link, or is gone, counts it no more.
                    let told = before.is_some() && uploaded(self) > before;
                    self.fabric.uplink_left(told);
                }
            }
            _ => {}
        }
        self.fabric.release(link);
    }
}
