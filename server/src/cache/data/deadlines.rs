//! Time: late handshakes, stalled viewers, unanswered wants, draining and stopping.

use cache_core::time::{Span, Time};
use cache_core::wire::exchange::Leave;
use cache_core::wire::{Frame, RefusalReason};

use super::config::TICK;
use super::connection::{Key, Phase};
use super::shard::{Life, Shard};
use crate::uring::{Operation, Token};

/// How long a stopping shard waits for the kernel to be done with its connections (our guess: it is at once, as they
/// are reset).
const STOP_DEADLINE: Span = Span::from_secs(2);

impl Shard {
    /// When to wake at the latest.
    pub(super) fn next_deadline(&self) -> Time {
        let life = match self.life {
            Life::Serving => Time::NEVER,
            Life::Draining(at) | Life::Stopping(at) => at,
        };
        // Without connections there is nothing that could be late.
        let idle = self.connections.is_empty() && self.streams.wanted() == 0 && self.meter.is_at_rest();
        let tick = if idle { Time::NEVER } else { self.tick_at };
        life.min(tick).min(self.accept_again_at()).min(self.lateness.settles_at)
    }

    pub(super) fn on_deadlines(&mut self) {
        if self.accept_again_at() <= self.now && self.life == Life::Serving {
            self.arm_accept();
        }
        if self.lateness.settles_at <= self.now {
            self.settle();
        }
        if self.tick_at <= self.now {
            self.tick_at = self.now.after(TICK);
            self.tick();
        }
        if let Life::Draining(at) = self.life
            && (self.connections.is_empty() || at <= self.now)
        {
            self.stop();
        }
    }

    /// Looks at every connection: some nanoseconds each, four times a second.
    fn tick(&mut self) {
        for key in self.keys() {
            let Some(connection) = self.connections.get(key as usize) else { continue };
            let late = connection.deadline <= self.now;
            let stalled =
                connection.has_pending() && connection.progress_at.after(self.config.stall_cutoff) <= self.now;
            match connection.phase {
                Phase::Handshake(_) if late => {
                    self.links.counters.handshakes_late.one();
                    self.cut(key);
                }
                Phase::Lingering if late => self.cut(key),
                Phase::Native(_) | Phase::Http(_) | Phase::Asker(_) | Phase::Lingering if stalled => {
                    self.links.counters.cut_stalled.one();
                    self.cut(key);
                }
                Phase::Asker(_) if late => self.on_asker_late(key),
                Phase::Native(ref native) if native.is_cache => {
                    // An opened stream may have to be fetched first. What is opened next prolongs nothing.
                    let fetching = if native.joined.is_empty() { Span::ZERO } else { self.config.want_deadline };
                    if native.takes_chunks() {
                        self.connections[key as usize].deadline = self.now.after(self.config.handshake_deadline);
                    } else if connection.deadline.after(fetching) <= self.now {
                        self.links.counters.caches_idle_closed.one();
                        self.close(key);
                    }
                }
                _ => {}
            }
        }
        let since = self.now.before(self.config.want_deadline);
        for stream in self.streams.wanted_before(since) {
            self.links.counters.wants_late.one();
            self.on_refused(stream, RefusalReason::UnknownStream);
        }
    }

    /// Takes no new connections; viewers get what is being sent and are told to go.
    pub(super) fn drain(&mut self) {
        if self.life != Life::Serving {
            return;
        }
        self.life = Life::Draining(self.now.after(self.config.drain_deadline));
        self.stop_accepting();
        for key in self.keys() {
            match self.connections[key as usize].phase {
                Phase::Handshake(_) => self.close(key),
                Phase::Native(_) => {
                    self.answer(key, Frame::from(Leave { reason: RefusalReason::Draining }));
                    self.finish(key);
                }
                Phase::Http(_) => self.finish(key),
                Phase::Asker(_) => self.finish_asking(key),
                Phase::Lingering | Phase::Closing => {}
            }
        }
    }

    /// Cuts everybody off and ends when the kernel is done with them.
    pub(super) fn stop(&mut self) {
        if matches!(self.life, Life::Stopping(_)) {
            return;
        }
        self.life = Life::Stopping(self.now.after(STOP_DEADLINE));
        self.stop_accepting();
        for key in self.keys() {
            self.cut(key);
        }
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_over(&self) -> bool {
        let Life::Stopping(at) = self.life else { return false };
        (self.connections.is_empty() && self.sender.under_way() == 0) || at <= self.now
    }

    /// Descriptors that others have given to this shard meanwhile are closed.
    fn stop_accepting(&mut self) {
        self.links.siblings.leave();
        self.take_given();
        self.listening.again_at = None;
        match self.listening.armed {
            // The listener is closed when the accept has ended.
            true => self.uring.cancel(Token::single(Operation::Accept)),
            false => self.listening.listener = None,
        }
    }

    /// All connections, to be walked over while they change.
    fn keys(&self) -> Vec<Key> {
        self.connections.iter().map(|(key, _)| key as Key).collect()
    }
}
