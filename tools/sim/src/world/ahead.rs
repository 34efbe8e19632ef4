//! Reads what the next events will look at, before their turn comes.
//!
//! A world of thousands of peers is larger than any cache of a processor, and each event is another peer's: much of a run's
//! time is waiting for memory, one line after the other. What a few events will look at is independent of each other, so
//! that a processor asked for all of it waits about as long as for one of it. Nothing is changed here, and what is read
//! decides nothing.

use super::World;
use super::event::{Event, What};
use super::fabric::Fabric;

/// Events at a time. Our guess: what they look at first (some 300 lines of 64 bytes) is well within the innermost cache.
const AHEAD: usize = 16;

/// No node.
const NOBODY: u32 = u32::MAX;

impl World {
    /// Reads for the next events, if those of the last time have all happened.
    pub(super) fn look_ahead(&mut self) {
        let (mut nodes, mut count, mut read) = ([NOBODY; AHEAD], 0, 0);
        let fabric = &mut self.fabric;
        for (node, event) in nodes.iter_mut().zip(fabric.queue.coming(AHEAD)) {
            count += 1;
            *node = match event {
                Event::Tick { node } | Event::Sent { node, .. } => *node,
                Event::Datagram { to, .. } => *to,
                Event::Link { link, side, what, .. } => {
                    if let What::Frame { frame, .. } = what {
                        read ^= u64::from(frame.kind());
                    }
                    fabric.links[*link as usize].nodes[1 - usize::from(*side)]
                }
                _ => NOBODY,
            };
        }
        let nodes = &nodes[..count];
        for host in nodes.iter().filter_map(|node| fabric.hosts.get(*node as usize)) {
            read ^= host.down_bps;
        }
        let places = nodes.iter().map(|node| node.wrapping_sub(self.first_peer) as usize);
        for peer in places.filter_map(|at| self.peers.get(at)).flatten() {
            read ^= peer.looked_at();
        }
        std::hint::black_box(read);
    }
}

/// Reads for messages that are about to be sent on `links`.
pub(super) fn look_at_links(fabric: &Fabric, links: impl Iterator<Item = u32>) {
    let mut read = 0;
    for link in links {
        let [one, other] = fabric.links[link as usize].nodes;
        // A link's place may wait for a new one.
        let host = |node: u32| fabric.hosts.get(node as usize).map_or(0, |host| host.down_bps);
        read ^= host(one) ^ host(other);
    }
    std::hint::black_box(read);
}
