//! Partitions: between which nodes nothing passes, until when, and what becomes of what was held up.

use cache_core::time::Time;

use super::event::{Event, What};
use super::fabric::{Fabric, Role};
use crate::scenario::Who;

/// Two groups between which nothing passes.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) from: Who,
    pub(crate) to: Who,
    pub(crate) one_way: bool,
    pub(crate) until: Time,
}

impl Fabric {
    /// Until when nothing passes from one node to another; `None`: it passes.
    pub(super) fn cut_off(&self, from: u32, to: u32) -> Option<Time> {
        if self.partitions.is_empty() {
            return None;
        }
        let is = |node: u32, who: Who| {
            let host = self.host(node);
            match who {
                Who::Publisher => host.role == Role::Publisher,
                Who::Route => host.role == Role::Route,
                Who::Index(domain) => host.role == Role::Index(domain),
                Who::Cache(number) => host.role == Role::Cache(number),
                Who::Peers => host.role == Role::Peer,
                Who::Region(region) => host.role == Role::Peer && host.region == region,
            }
        };
        let cuts = |p: &&Partition| {
            p.until > self.now
                && ((is(from, p.from) && is(to, p.to)) || (!p.one_way && is(from, p.to) && is(to, p.from)))
        };
        self.partitions.iter().filter(cuts).map(|p| p.until).max()
    }

    /// Whether a message that a partition has held up comes to an end that is closed: it is not sent again.
    pub(super) fn is_refused(&self, event: &Event) -> bool {
        let Event::Link { link, side, what, .. } = event else { return false };
        let link = &self.links[*link as usize];
        link.held && !link.open[1 - usize::from(*side)] && !matches!(what, What::Syn)
    }
}
