//! The shard: its parts and its loop. What is done in a turn stands in the files that are named there.

use std::collections::VecDeque;
use std::hash::RandomState;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_core::proto::cache::admission::Admission;
use cache_core::proto::cache::viewer::Patience;
use cache_core::ring::{Reader, Ring};
use cache_core::time::Time;
use rustix::thread::{CpuSet, sched_setaffinity};
use slab::Slab;

use super::config::{SendBackend, ShardConfig, TURN_CONNECTIONS};
use super::connection::{Connection, Key};
use super::counters::ShardRow;
use super::meter::Meter;
use super::overload::{Elsewhere, Lateness};
use super::sender::Sender;
use super::siblings::Own;
use super::streams::{StreamKey, Streams};
use crate::cache::bridge::{ToControl, ToShard};
use crate::uring::{Completion, Doorbell, Operation, SetupError, Token, Uring, UringConfig, Wait};

/// A shard's ends of what joins it to control.
pub(super) struct Links {
    pub(super) from_control: rtrb::Consumer<ToShard>,
    pub(super) to_control: rtrb::Producer<ToControl>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) doorbell_to_control: Arc<Doorbell>,
    pub(super) counters: ShardRow,
    pub(super) siblings: Own,
}

/// One shard.
///
/// Drop order is that of the fields: the ring of operations first. A zero-copy send that it leaves behind keeps its
/// lease and the mapped memory for good (`uring::ZeroCopy`).
pub(super) struct Shard {
    pub(super) config: ShardConfig,
    pub(super) patience: Patience,
    pub(super) uring: Uring,
    pub(super) sender: Sender,
    pub(super) links: Links,
    pub(super) listening: Listening,
    pub(super) connections: Slab<Connection>,
    pub(super) generation: u32,
    pub(super) viewers: Viewers,
    pub(super) streams: Streams,
    /// Connections that may have something to send.
    pub(super) run_queue: VecDeque<Key>,
    /// The time of this turn.
    pub(super) now: Time,
    pub(super) tick_at: Time,
    /// When viewers' positions are looked at again, and how far that has come.
    pub(super) positions_at: Time,
    pub(super) positions_next: Option<StreamKey>,
    pub(super) life: Life,
    pub(super) meter: Meter,
    /// As last measured.
    pub(super) busy_permille: u16,
    pub(super) admission: Admission,
    pub(super) elsewhere: Elsewhere,
    pub(super) lateness: Lateness,
    /// Secret: makes nonces.
    pub(super) nonces: RandomState,
    /// Received bytes of the completion at hand; kept for its memory.
    pub(super) received: Vec<u8>,
    /// Whether control has something to hear.
    pub(super) ring_control: bool,
    pub(super) warned_zero_copy: bool,
    started: Instant,
}

/// The listener, and whether it is served.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: Option<TcpListener>,
    pub(super) armed: bool,
    /// Set while accepting pauses: when it goes on.
    pub(super) again_at: Option<Time>,
}

/// How many viewers there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Viewers {
    pub(super) native: u32,
    pub(super) http: u32,
    /// Of the native ones: other caches that are served beyond the limits.
    pub(super) caches: u32,
}

/// How long the shard goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    /// Until every connection is gone, or that time.
    Draining(Time),
    /// Until every operation has completed, or that time.
    Stopping(Time),
}

impl Shard {
    pub(super) fn new(
        config: ShardConfig,
        listener: TcpListener,
        reader: Reader,
        ring: Ring,
        links: Links,
    ) -> Result<Shard, SetupError> {
        let mut uring = Uring::new(&UringConfig { connections_max: config.connections_max })?;
        uring.poll_readable_many(links.doorbell.as_fd(), Token::single(Operation::Doorbell));
        let mut shard = Shard {
            patience: Patience { skip_behind_chunks: config.skip_behind_chunks },
            uring,
            sender: Sender::new(ring, reader),
            links,
            listening: Listening { listener: Some(listener), armed: false, again_at: None },
            connections: Slab::with_capacity(config.connections_max.min(1024) as usize),
            generation: 0,
            viewers: Viewers::default(),
            streams: Streams::default(),
            run_queue: VecDeque::new(),
            now: Time::ZERO,
            tick_at: Time::ZERO,
            positions_at: Time::ZERO,
            positions_next: None,
            life: Life::Serving,
            meter: Meter::new(),
            busy_permille: 0,
            admission: Admission::new(config.budget),
            elsewhere: Elsewhere::default(),
            lateness: Lateness::default(),
            nonces: RandomState::new(),
            received: Vec::new(),
            ring_control: false,
            warned_zero_copy: false,
            started: Instant::now(),
            config,
        };
        shard.register_ring();
        shard.arm_accept();
        Ok(shard)
    }

    fn register_ring(&mut self) {
        if self.config.send != SendBackend::SendZc {
            return;
        }
        match self.sender.register(&self.uring) {
            Ok(registered) => self.links.counters.zero_copy_registered.set(u64::from(registered)),
            Err(error) => {
                self.links.counters.zero_copy_register_failed.one();
                tracing::warn!(
                    %error,
                    "the ring's memory cannot be registered for zero-copy sends, which cost more without: raise the \
                     locked-memory limit (LimitMEMLOCK=) to memory_mib for each shard, or grant CAP_IPC_LOCK"
                );
            }
        }
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self, index: u32) {
        self.pin(index);
        let mut completions = Vec::new();
        // Two readings of the clock in a turn: when its work begins and when it is done.
        let mut done = self.clock();
        while !self.is_over() {
            let deadline = if self.run_queue.is_empty() { self.next_deadline() } else { done };
            if let Err(error) = self.uring.enter(wait(deadline, done), &mut completions) {
                tracing::error!(shard = index, %error, "io_uring failed, the shard stops");
                break;
            }
            self.now = self.clock();
            self.note_stop(self.now, self.now.since(deadline.max(done)));
            for mut completion in completions.drain(..) {
                self.on_completion(&mut completion);
            }
            self.on_messages();
            self.serve();
            self.on_deadlines();
            self.look_at_positions();
            self.tell_control();
            self.links.counters.turns.one();
            done = self.clock();
            if !self.note_stop(done, done.since(self.now)) {
                self.measure(done);
            }
        }
        self.say(ToControl::Stopped);
        self.links.doorbell_to_control.ring();
    }

    fn on_completion(&mut self, completion: &mut Completion) {
        match completion.token().operation() {
            Operation::Accept => self.on_accept(completion),
            Operation::Receive => self.on_receive(completion),
            Operation::Writable => self.on_writable(completion),
            Operation::ZeroCopy => self.on_zero_copy(completion),
            Operation::Doorbell => {
                self.links.doorbell.quiet();
                self.take_given();
                if !completion.more() {
                    self.uring.poll_readable_many(self.links.doorbell.as_fd(), Token::single(Operation::Doorbell));
                }
            }
            Operation::Ignored => {}
        }
    }

    /// One round of the run queue, so that completions are looked at in between.
    fn serve(&mut self) {
        for _ in 0..self.run_queue.len().min(TURN_CONNECTIONS) {
            let Some(key) = self.run_queue.pop_front() else { return };
            self.meter.served();
            // A place whose tenant has gone may stand here; then there is nobody, or one that has nothing queued.
            if let Some(connection) = self.connections.get_mut(key as usize)
                && std::mem::take(&mut connection.queued)
            {
                self.pump(key);
            }
        }
    }

    /// Puts a connection into the run queue, unless it is there or waits for its socket.
    pub(super) fn schedule(&mut self, key: Key) {
        let connection = &mut self.connections[key as usize];
        if !connection.queued && !connection.under_way.sending_waits() {
            connection.queued = true;
            self.run_queue.push_back(key);
            self.meter.queued();
        }
    }

    /// The connection that `completion` is of, if it still exists.
    pub(super) fn tenant(&self, completion: &Completion) -> Option<Key> {
        let key = completion.token().index();
        let connection = self.connections.get(key as usize)?;
        completion.token().is_generation(connection.generation).then_some(key)
    }

    /// Sends `message` to control; false, counted, when its queue is full.
    pub(super) fn say(&mut self, message: ToControl) -> bool {
        let said = self.links.to_control.push(message).is_ok();
        if said {
            self.ring_control = true;
        } else {
            self.links.counters.messages_lost.one();
        }
        said
    }

    fn tell_control(&mut self) {
        let Shard { streams, links, ring_control, .. } = self;
        streams.flush(|stream, count, lowest| {
            let told = links.to_control.push(ToControl::Viewers { stream, count, lowest }).is_ok();
            *ring_control |= told;
            told
        });
        if std::mem::take(&mut self.ring_control) {
            self.links.doorbell_to_control.ring();
        }
        self.links.counters.connections.set(self.connections.len() as u64);
        self.links.counters.viewers_native.set(u64::from(self.viewers.native - self.viewers.caches));
        self.links.counters.viewers_http.set(u64::from(self.viewers.http));
        self.links.counters.caches.set(u64::from(self.viewers.caches));
        self.publish_load();
    }

    fn clock(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    fn pin(&self, index: u32) {
        let Some(cpu) = self.config.pin_to else { return };
        let mut set = CpuSet::new();
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
        if let Err(error) = sched_setaffinity(None, &set) {
            tracing::warn!(shard = index, cpu, %error, "cannot run on this CPU alone; the kernel chooses");
        }
    }
}

/// How to wait at `now` until `deadline`.
fn wait(deadline: Time, now: Time) -> Wait {
    match deadline {
        Time::NEVER => Wait::Forever,
        deadline if deadline <= now => Wait::No,
        deadline => Wait::AtMost(Duration::from_micros(deadline.since(now).micros())),
    }
}
