//! Taking connections.

use std::os::fd::{AsFd, OwnedFd};

use cache_core::time::Time;
use rustix::io::Errno;

use super::config::{ACCEPT_PAUSE, HANDSHAKE_RESERVE};
use super::connection::{Connection, Key};
use super::shard::{Life, Shard};
use super::siblings::Given;
use crate::uring::{Completion, Operation, Token};

impl Shard {
    /// Takes connections from the listener, unless that is being done.
    pub(super) fn arm_accept(&mut self) {
        let listening = &mut self.listening;
        if let Some(listener) = &listening.listener
            && !listening.armed
        {
            listening.armed = true;
            listening.again_at = None;
            self.uring.accept(listener.as_fd(), Token::single(Operation::Accept));
        }
    }

    pub(super) fn on_accept(&mut self, completion: &mut Completion) {
        if !completion.more() {
            self.listening.armed = false;
        }
        match completion.result() {
            Ok(_) => {
                if let Some(socket) = completion.take_accepted() {
                    self.deal(socket);
                }
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                // Trying again at once would spin: the kernel has the connection, and the descriptors are not back.
                self.links.counters.accept_pauses.one();
                self.admission.descriptors_short();
                self.listening.again_at = Some(self.now.after(ACCEPT_PAUSE));
            }
            // The other side was gone before it was taken, or the accept was cancelled.
            Err(_) => {}
        }
        if self.life != Life::Serving {
            if !self.listening.armed {
                self.listening.listener = None;
            }
        } else if self.listening.again_at.is_none() {
            self.arm_accept();
        }
    }

    /// Gives a connection that was accepted here to the shard that has least to do.
    fn deal(&mut self, socket: OwnedFd) {
        match self.links.siblings.give(socket) {
            Given::Passed => self.links.counters.accepted_passed.one(),
            Given::Kept(socket) => self.take(socket),
        }
    }

    /// Takes what other shards have accepted for this one.
    pub(super) fn take_given(&mut self) {
        while let Some(socket) = self.links.siblings.taken() {
            self.take(socket);
        }
    }

    fn take(&mut self, socket: OwnedFd) {
        let counters = &self.links.counters;
        counters.accepted.one();
        let most = self.config.connections_max.saturating_add(HANDSHAKE_RESERVE + self.viewers.caches) as usize;
        if self.connections.len() >= most || self.life != Life::Serving {
            counters.refused_full.one();
            return;
        }
        self.generation = self.generation.wrapping_add(1);
        let deadline = self.now.after(self.config.handshake_deadline);
        let connection = Connection::new(socket, self.generation, self.config.send.first(), self.now, deadline);
        let key = self.connections.insert(connection) as Key;
        self.receive_once(key);
        self.publish_load();
    }

    /// Tells the other shards how loaded this one is.
    pub(super) fn publish_load(&mut self) {
        let connections = self.connections.len() as u32;
        if connections.saturating_sub(self.viewers.caches) >= self.config.connections_max {
            self.links.siblings.full();
        } else {
            self.links.siblings.publish(connections, self.busy_permille);
        }
    }

    /// When accepting goes on, if it pauses.
    pub(super) fn accept_again_at(&self) -> Time {
        self.listening.again_at.unwrap_or(Time::NEVER)
    }
}
