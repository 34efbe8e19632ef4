//! One call of the machine: what every part needs of the world while it lasts.

use std::net::SocketAddr;

use super::config::{PeerConfig, Tuning};
use super::event::{LinkId, Output};
use super::stats::Stats;
use crate::outbox::Outbox;
use crate::prng::Prng;
use crate::time::{Span, Time};
use crate::wire::{Frame, RefusalReason, Refused};

/// The moment, the numbers, chance, the counters, and where decisions go.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) now: Time,
    pub(super) config: &'a PeerConfig,
    pub(super) rng: &'a mut Prng,
    pub(super) stats: &'a mut Stats,
    pub(super) links: &'a mut LinkNames,
    pub(super) out: &'a mut Outbox<Output>,
}

/// Gives links their numbers, none twice.
#[derive(Debug, Default)]
pub(super) struct LinkNames(u32);

impl LinkNames {
    pub(super) const fn next(&mut self) -> LinkId {
        self.0 = self.0.wrapping_add(1);
        LinkId(self.0)
    }
}

impl<'a> Turn<'a> {
    pub(super) const fn tuning(&self) -> &'a Tuning {
        &self.config.tuning
    }

    /// The moment `ms` milliseconds from now.
    pub(super) const fn in_ms(&self, ms: u64) -> Time {
        self.now.after(Span::from_millis(ms))
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> LinkId {
        let link = self.links.next();
        self.out.push(Output::Connect { link, to });
        link
    }

    pub(super) fn send(&mut self, link: LinkId, frame: impl Into<Frame>) {
        self.out.push(Output::Send { link, frame: frame.into() });
    }

    pub(super) fn close(&mut self, link: LinkId) {
        self.out.push(Output::Close { link });
    }

    /// A typed no, then the end of the link.
    pub(super) fn refuse(&mut self, link: LinkId, reason: RefusalReason) {
        self.send(link, Refused::because(reason));
        self.close(link);
    }
}

/// A world for the unit tests of the parts.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct TestWorld {
    pub(super) now: Time,
    pub(super) config: PeerConfig,
    pub(super) rng: Prng,
    pub(super) stats: Stats,
    pub(super) links: LinkNames,
    pub(super) out: Outbox<Output>,
}

#[cfg(test)]
impl TestWorld {
    pub(super) fn new(tuning: Tuning) -> TestWorld {
        let config = PeerConfig {
            stream: crate::wire::StreamName::new("news").expect("a name"),
            routes: Vec::new(),
            listen: None,
            tuning,
        };
        TestWorld {
            now: Time::from_millis(1_000),
            config,
            rng: Prng::new(7),
            stats: Stats::default(),
            links: LinkNames::default(),
            out: Outbox::new(),
        }
    }

    pub(super) fn turn(&mut self) -> Turn<'_> {
        Turn {
            now: self.now,
            config: &self.config,
            rng: &mut self.rng,
            stats: &mut self.stats,
            links: &mut self.links,
            out: &mut self.out,
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Span::from_millis(ms));
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        self.out.drain().collect()
    }
}
