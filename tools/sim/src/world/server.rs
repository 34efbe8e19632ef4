//! Index and route servers: machines that are told datagrams and time, and answer in datagrams.

use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::proto::gate::Outgoing;
use cache_core::proto::{index, route};
use cache_core::time::{Span, Time};
use cache_core::wire::Datagram;

use super::event::Event;
use super::fabric::Fabric;
use crate::invariants::Fact;

/// Either machine.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a handful of them")]
pub(crate) enum Machine {
    Index(index::Index),
    Route(route::Route),
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) node: u32,
    pub(crate) machine: Machine,
    tick_at: Time,
    out: Outbox<Outgoing>,
}

impl Server {
    pub(crate) fn new(node: u32, machine: Machine) -> Server {
        Server { node, machine, tick_at: Time::NEVER, out: Outbox::new() }
    }

    pub(crate) fn datagram(&mut self, fabric: &mut Fabric, from: SocketAddr, datagram: Datagram) {
        let now = fabric.now;
        match &mut self.machine {
            Machine::Index(index) => index.handle(now, index::Input::Datagram { from, datagram }, &mut self.out),
            Machine::Route(route) => route.handle(now, route::Input::Datagram { from, datagram }, &mut self.out),
        }
        self.carry_out(fabric);
    }

    pub(crate) fn tick(&mut self, fabric: &mut Fabric) {
        if self.tick_at != fabric.now {
            return;
        }
        self.call(fabric);
    }

    /// Calls the machine because time has passed.
    pub(crate) fn call(&mut self, fabric: &mut Fabric) {
        self.tick_at = Time::NEVER;
        if self.next_timeout() <= fabric.now {
            fabric.fact(Fact::Woken { node: self.node });
            match &mut self.machine {
                Machine::Index(index) => index.handle(fabric.now, index::Input::Tick, &mut self.out),
                Machine::Route(route) => route.handle(fabric.now, route::Input::Tick, &mut self.out),
            }
            if self.next_timeout() <= fabric.now {
                fabric.fact(Fact::Timer { node: self.node, next: self.next_timeout() });
            }
        }
        self.carry_out(fabric);
    }

    fn next_timeout(&self) -> Time {
        match &self.machine {
            Machine::Index(index) => index.next_timeout(),
            Machine::Route(route) => route.next_timeout(),
        }
    }

    fn carry_out(&mut self, fabric: &mut Fabric) {
        for Outgoing { to, datagram } in self.out.drain() {
            fabric.datagram(self.node, to, datagram);
        }
        let next = self.next_timeout();
        if next < self.tick_at {
            self.tick_at = next.max(fabric.now.after(Span::from_micros(1)));
            fabric.at(self.tick_at, Event::Tick { node: self.node });
        }
    }
}
