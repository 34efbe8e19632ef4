//! What goes wrong: faults of the scenario, begun and ended.

use cache_core::time::{Span, Time};

use super::World;
use super::build::{index, route};
use super::event::{Departure, Event};
use super::fabric::{Partition, Role};
use super::server::Machine;
use crate::scenario::{Trouble, Who};

fn span(seconds: f64) -> Span {
    Span::from_micros((seconds * 1e6) as u64)
}

impl World {
    /// Fault `number` begins, or is over.
    pub(super) fn fault(&mut self, number: u32, over: bool) {
        let Some(fault) = self.scenario.faults.get(number as usize).cloned() else { return };
        let now = self.fabric.now;
        let ends = |world: &mut World, seconds: f64| {
            world.fabric.at(now.after(span(seconds)), Event::Fault { number, over: true });
        };
        match (fault.what, over) {
            (Trouble::Kill { who, for_s }, false) => {
                self.kill(who, number, for_s.is_some());
                for_s.into_iter().for_each(|seconds| ends(self, seconds));
            }
            (Trouble::Kill { who, .. }, true) => self.restart(who, number),
            (Trouble::Stop { who, for_s }, false) => {
                for node in self.group(who) {
                    self.fabric.hosts[node as usize].stopped = true;
                }
                ends(self, for_s);
            }
            (Trouble::Stop { who, .. }, true) => self.group(who).into_iter().for_each(|node| self.go_on(node)),
            (Trouble::Partition { from, to, one_way, for_s }, false) => {
                let until = now.after(span(for_s));
                self.fabric.partitions.push(Partition { from, to, one_way, until });
                ends(self, for_s);
            }
            (Trouble::Partition { .. }, true) => self.fabric.partitions.retain(|p| p.until > now),
            (Trouble::Leave { share, over_s, killed }, _) => {
                let how = if killed { Departure::Killed } else { Departure::Left };
                for node in self.some(share) {
                    let at = self.some_time_within(over_s);
                    self.fabric.at(at, Event::Depart { node, how });
                }
            }
            (Trouble::Join { peers, over_s }, _) => {
                for _ in 0..peers {
                    let at = self.some_time_within(over_s);
                    self.fabric.at(at, Event::Arrive { stays: true });
                }
            }
            (Trouble::Throttle { share, factor, for_s }, false) => {
                for node in self.some(share) {
                    let host = &mut self.fabric.hosts[node as usize];
                    self.throttled.entry(number).or_default().push((node, host.up_bps));
                    host.up_bps = ((host.up_bps as f64 * factor) as u64).max(1);
                }
                ends(self, for_s);
            }
            (Trouble::Throttle { .. }, true) => {
                for (node, bps) in self.throttled.remove(&number).unwrap_or_default() {
                    self.fabric.hosts[node as usize].up_bps = bps;
                }
            }
        }
    }

    /// When the last fault is over; `None` without any, or when one never is.
    pub(super) fn faults_over(&self) -> Option<Time> {
        let end = |fault: &crate::scenario::Fault| {
            let lasts = match fault.what {
                Trouble::Kill { who: Who::Publisher | Who::Cache(_), for_s } => for_s?,
                Trouble::Kill { for_s, .. } => for_s.unwrap_or(0.0),
                Trouble::Stop { for_s, .. } | Trouble::Partition { for_s, .. } | Trouble::Throttle { for_s, .. } => {
                    for_s
                }
                Trouble::Leave { over_s, .. } | Trouble::Join { over_s, .. } => over_s,
            };
            Some(self.origin.after(span(fault.at_s + lasts)))
        };
        let ends: Option<Vec<Time>> = self.scenario.faults.iter().map(end).collect();
        ends?.into_iter().max()
    }

    /// A share of the peers that are there.
    fn some(&mut self, share: f64) -> Vec<u32> {
        let mut all = self.alive.clone();
        all.sort_unstable();
        self.luck.shuffle(&mut all);
        all.truncate((all.len() as f64 * share) as usize);
        all
    }

    /// The nodes of a group.
    fn group(&self, who: Who) -> Vec<u32> {
        let role = |wanted: Role| {
            let is = |(node, host): (usize, &super::fabric::Host)| (host.role == wanted).then_some(node as u32);
            self.fabric.hosts.iter().enumerate().take(self.first_peer as usize).filter_map(is).collect()
        };
        match who {
            Who::Publisher => role(Role::Publisher),
            Who::Route => role(Role::Route),
            Who::Index(domain) => role(Role::Index(domain)),
            Who::Cache(number) => role(Role::Cache(number)),
            Who::Peers => sorted(self.alive.clone()),
            Who::Region(region) => {
                let here = |node: &u32| self.fabric.host(*node).region == region;
                sorted(self.alive.iter().copied().filter(here).collect())
            }
        }
    }

    fn kill(&mut self, who: Who, fault: u32, comes_back: bool) {
        for node in self.group(who) {
            let role = self.fabric.host(node).role;
            if role == Role::Peer {
                if comes_back {
                    let at = self.fabric.host(node).at;
                    self.coming_back.entry(fault).or_default().push(at);
                }
                self.kill_peer(node);
                continue;
            }
            let host = &mut self.fabric.hosts[node as usize];
            (host.alive, host.stopped) = (false, false);
            host.forget_queues();
            let links = match role {
                Role::Cache(at) => {
                    let cache = &mut self.caches[usize::from(at)];
                    let links = cache.links().collect();
                    cache.kill();
                    links
                }
                Role::Publisher => {
                    let link = self.publisher.link().into_iter().collect();
                    self.publisher.kill();
                    link
                }
                _ => Vec::new(),
            };
            for link in links {
                let side = usize::from(self.fabric.links[link as usize].nodes[0] != node);
                self.fabric.close(link, side);
            }
            self.drop_deferred(node);
        }
    }

    fn restart(&mut self, who: Who, fault: u32) {
        for at in self.coming_back.remove(&fault).unwrap_or_default() {
            self.arrive_at(at, false);
        }
        if matches!(who, Who::Peers | Who::Region(_)) {
            return;
        }
        for node in self.group(who) {
            self.fabric.hosts[node as usize].alive = true;
            match self.fabric.host(node).role {
                Role::Cache(at) => self.caches[usize::from(at)].restart(&mut self.fabric),
                Role::Publisher => self.publisher.start(&mut self.fabric),
                Role::Index(domain) => {
                    let seed = self.luck.next_u64();
                    let route = self.servers.last().map(|route| self.fabric.host(route.node).addr());
                    if let Some(route) = route {
                        let machine = index(&self.scenario, seed, domain, route);
                        self.fresh(usize::from(domain), machine);
                    }
                }
                Role::Route => {
                    let seed = self.luck.next_u64();
                    let machine = self.fresh_route(seed);
                    self.fresh(self.servers.len() - 1, machine);
                }
                Role::Peer => {}
            }
        }
    }

    /// A server's process begins without a memory.
    fn fresh(&mut self, at: usize, machine: Machine) {
        let node = self.servers[at].node;
        self.servers[at] = super::server::Server::new(node, machine);
        self.servers[at].call(&mut self.fabric);
    }

    fn fresh_route(&self, seed: u64) -> Machine {
        let domains = u32::from(self.scenario.network.domains.max(1));
        let indexes: Vec<u32> = self.servers[..self.servers.len() - 1].iter().map(|index| index.node).collect();
        let regions = self.fabric.map.regions();
        let homes: Vec<Vec<u32>> =
            (0..domains).map(|domain| (0..regions).filter(|r| r % domains == domain).collect()).collect();
        route(&self.fabric, seed, &indexes, &homes)
    }

    /// A process that stood still goes on, with all that its kernel has taken in.
    fn go_on(&mut self, node: u32) {
        if !std::mem::take(&mut self.fabric.hosts[node as usize].stopped) {
            return;
        }
        for event in self.deferred.remove(&node).unwrap_or_default() {
            self.happen(event);
        }
        match self.fabric.host(node).role {
            Role::Peer => self.with_peer(node, |peer, io| peer.go_on(io)),
            Role::Index(at) => self.servers[usize::from(at)].call(&mut self.fabric),
            Role::Route => {
                let at = self.servers.len() - 1;
                self.servers[at].call(&mut self.fabric);
            }
            Role::Cache(at) => self.caches[usize::from(at)].go_on(&mut self.fabric),
            Role::Publisher => self.publisher.tick(&mut self.fabric),
        }
    }

    /// What waited in the kernel of a process that was killed is lost; the network is told.
    pub(super) fn drop_deferred(&mut self, node: u32) {
        for event in self.deferred.remove(&node).unwrap_or_default() {
            self.happen(event);
        }
    }
}

fn sorted(mut nodes: Vec<u32>) -> Vec<u32> {
    nodes.sort_unstable();
    nodes
}
