//! One thread's viewers: sockets, readiness, alarms, and a look at its own slowness.
//!
//! Joins follow a schedule, so that a slow server does not slow the load down. The loop looks at its own lag, from above:
//! a socket that is served had become ready after the loop last knew of all that were ready. That is when it last had to
//! wait for any, or the turn before, when that one had found fewer than it had asked for. This wait is the tool's, not the
//! server's.
//!
//! Readiness is level-triggered: a viewer that has read its chunk to the end need not ask the kernel whether there is
//! more, and one that shall not read is simply not asked about.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::library::Library;
use super::plan::{Plan, Temper, Way};
use super::sink::Sink;
use super::viewer::{Alarm, Machine, Read, Token, Viewer};
use super::wheel::Wheel;
use crate::measure::{Account, Checked, Durations, Figures, Measured, SeqSet, Trouble, wall_us};
use crate::timetable::{Times, Timetable};

/// Read, or thrown away, at once: the largest chunk. Most of it is never touched.
const SCRATCH_BYTES: usize = 1 << 20;

/// Connections begun in one turn, so that arrived chunks are not kept waiting behind a crowd of joins.
const JOINS_PER_TURN: usize = 32;

/// Ready sockets served in one turn, and those between two looks at the clock for the lag.
const EVENTS_PER_TURN: usize = 2_048;
const EVENTS_PER_LOOK: usize = 32;

/// A wait for sockets that took so long had found none ready (our guess: one that does not wait takes a few
/// microseconds, and some for each that is ready).
const IDLE_MIN: Duration = Duration::from_micros(200);

/// Longest wait in one turn, so that the stop flag is seen.
const WAIT_MAX_US: u64 = 50_000;

/// Who has no whole chunk for so long after the join is given up, where joins are what is measured.
const PATIENCE_US: u64 = 10_000_000;

/// Times that a viewer goes where it is sent, one after the other.
const REDIRECTS_MAX: u64 = 3;

/// What workers and the coordinator tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Of the viewers that are scheduled: who has had a chunk, who will not have one.
    pub(crate) joined: AtomicUsize,
    pub(crate) failed: AtomicUsize,
    /// The measured span; 0 while it has not begun.
    pub(crate) start_us: AtomicU64,
    pub(crate) end_us: AtomicU64,
    pub(crate) stop: AtomicBool,
    /// The newest chunk of a live stream that is got chunk by chunk, plus one, and when it was that; 0 while unknown.
    pub(crate) head: AtomicU64,
    pub(crate) head_us: AtomicU64,
}

impl Shared {
    fn span(&self) -> Option<Measured> {
        let start_us = self.start_us.load(Ordering::Acquire);
        (start_us > 0).then(|| Measured { start_us, end_us: self.end_us.load(Ordering::Acquire) })
    }
}

/// What a worker has to tell at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Harvest {
    pub(crate) accounts: Vec<Account>,
    /// Publisher's clock by number, for each stream.
    pub(crate) published: Vec<BTreeMap<u64, u64>>,
    pub(crate) checked: Checked,
    pub(crate) figures: Figures,
    /// How long each ready socket may have waited for the tool, in the measured span.
    pub(crate) lag: Durations,
    /// Time of that span in which the thread did not wait for sockets.
    pub(crate) busy_us: u64,
}

/// A join to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Join {
    intended_us: u64,
    id: usize,
    /// Whether it is one of those that were scheduled, not somebody who comes back or takes a place.
    scheduled: bool,
}

struct Worker<'p> {
    plan: &'p Plan,
    shared: &'p Shared,
    epoll: OwnedFd,
    libraries: Vec<Library>,
    slots: Vec<Option<Viewer>>,
    free: Vec<usize>,
    joins: BinaryHeap<Reverse<Join>>,
    accounts: Vec<Account>,
    figures: Figures,
    wheel: Wheel<(Token, Alarm)>,
    scratch: Vec<u8>,
}

/// Runs the viewers numbered by `ids` (of all the tool's) until the stop flag is up.
pub(crate) fn run(plan: &Plan, shared: &Shared, ids: &[usize]) -> Result<Harvest> {
    let times = plan.times.as_ref().map(|path| Timetable::open(path)).transpose()?;
    let layout = Rc::new(RefCell::new(Layout::new(plan.kbps, plan.tables)));
    let mut libraries = Vec::new();
    for stream in 0..plan.names.len() {
        let name = plan.name(stream).context("a stream's name")?;
        libraries.push(Library::new(plan, stream, &name, times.as_ref(), layout.clone()));
    }
    let join = |(id, intended_us): (&usize, u64)| Reverse(Join { intended_us, id: *id, scheduled: true });
    let mut worker = Worker {
        plan,
        shared,
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        libraries,
        slots: Vec::with_capacity(ids.len()),
        free: Vec::new(),
        joins: ids.iter().zip(plan.joins.moments(ids)).map(join).collect(),
        accounts: Vec::with_capacity(ids.len()),
        figures: Figures::new(),
        wheel: Wheel::new(wall_us()),
        scratch: vec![0; SCRATCH_BYTES],
    };
    let (mut lag, mut busy) = (Durations::new(), Duration::ZERO);
    let (mut events, mut rung) = (Vec::with_capacity(EVENTS_PER_TURN), Vec::new());
    // When all that were ready were known, and when the last turn began, if it had all.
    let mut caught_up = Instant::now();
    let mut had_all = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let now = wall_us();
        let wait_max_us = if plan.spin { 0 } else { WAIT_MAX_US };
        let wait_us = worker.wheel.quiet_us(now, worker.next_join_us(now).min(wait_max_us));
        events.clear();
        let asked = Instant::now();
        let wait = Timespec { tv_sec: 0, tv_nsec: wait_us as i64 * 1_000 };
        match epoll::wait(&worker.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets failed"),
        }
        if plan.spin && events.is_empty() {
            // A publisher's thread may share the CPU.
            rustix::thread::sched_yield();
        }
        let turn = Instant::now();
        if turn - asked > IDLE_MIN {
            caught_up = turn;
        } else if let Some(last) = had_all {
            caught_up = last;
        }
        had_all = (events.len() < EVENTS_PER_TURN).then_some(turn);
        let span = shared.span();
        let measured = span.is_some_and(|span| span.holds(wall_us()));
        for events in events.chunks(EVENTS_PER_LOOK) {
            for event in events {
                worker.serve(Token::from_word(event.data.u64()), event.flags, span);
            }
            if measured {
                lag.record_many(caught_up.elapsed().as_micros() as u64, events.len() as u64);
            }
            worker.ring_due(&mut rung);
        }
        worker.ring_due(&mut rung);
        worker.join_due()?;
        if measured {
            busy += turn.elapsed();
        }
    }
    let Worker { libraries, accounts, figures, .. } = worker;
    let mut checked = Checked::default();
    libraries.iter().for_each(|library| checked.add(&library.checked));
    let published = libraries.into_iter().map(|library| library.published).collect();
    Ok(Harvest { accounts, published, checked, figures, lag, busy_us: busy.as_micros() as u64 })
}

impl Worker<'_> {
    /// How long until the next viewer joins.
    fn next_join_us(&self, now: u64) -> u64 {
        self.joins.peek().map_or(u64::MAX, |Reverse(join)| join.intended_us.saturating_sub(now))
    }

    /// Begins the connections whose time has come.
    fn join_due(&mut self) -> Result<()> {
        for _ in 0..JOINS_PER_TURN {
            let now = wall_us();
            let Some(Reverse(join)) = self.joins.peek().copied().filter(|next| next.0.intended_us <= now) else {
                break;
            };
            self.joins.pop();
            let Join { intended_us, id, scheduled } = join;
            let account = self.accounts.len();
            let temper = self.plan.shares.temper(id);
            let got = SeqSet::with_room(self.plan.chunks);
            let stream = id % self.plan.names.len();
            self.accounts.push(Account { temper, stream, intended_us, got, ..Account::default() });
            let place = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            match Viewer::begin(self.plan, id, account, stream, scheduled, self.plan.server) {
                Ok(viewer) => self.settle(place, viewer)?,
                Err(error) => {
                    self.free.push(place);
                    self.lose(account, scheduled, Trouble::Connect(error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Puts a new viewer into its place.
    fn settle(&mut self, place: usize, mut viewer: Viewer) -> Result<()> {
        viewer.token = Token { place, account: viewer.account };
        viewer.watch(&self.epoll, false)?;
        if self.plan.hold_us.is_some() {
            let given_up_us = self.accounts[viewer.account].intended_us + PATIENCE_US;
            self.wheel.set(given_up_us, (viewer.token, Alarm::Patience));
        }
        self.slots[place] = Some(viewer);
        Ok(())
    }

    /// Reads and writes what a socket allows.
    fn serve(&mut self, token: Token, flags: epoll::EventFlags, span: Option<Measured>) {
        let Some(Some(viewer)) = self.slots.get_mut(token.place) else { return };
        if viewer.token != token {
            return;
        }
        let account = &mut self.accounts[viewer.account];
        let had_joined = account.joined_us.is_some();
        let library = &mut self.libraries[account.stream];
        let mut sink = Sink { account, figures: &mut self.figures, span };
        let result = viewer.machine.is_over(&viewer.socket, flags, viewer.connected).and_then(|()| {
            viewer.connected = true;
            exchange(viewer, &mut self.scratch, library, &mut sink)
        });
        let joined = !had_joined && account.joined_us.is_some();
        self.after(token, joined, result);
    }

    /// What follows from an exchange.
    fn after(&mut self, token: Token, joined: bool, result: Result<(), Trouble>) {
        let Some(Some(viewer)) = self.slots.get_mut(token.place) else { return };
        if joined {
            if viewer.scheduled {
                self.shared.joined.fetch_add(1, Ordering::Relaxed);
            }
            let temper = self.accounts[viewer.account].temper;
            if let Some(stay_us) = self.plan.stay_us(temper, viewer.id, viewer.account) {
                self.wheel.set(wall_us() + stay_us, (token, Alarm::Leave));
            }
            match temper {
                Temper::Stopped => viewer.allowance = Some(0),
                Temper::Slow => {
                    viewer.allowance = Some(0);
                    self.wheel.set(wall_us() + Viewer::SLOW_STEP_US, (token, Alarm::Allowance));
                }
                Temper::Good | Temper::Leaving | Temper::Reconnecting => {}
            }
        }
        let result = result.and_then(|()| {
            if let Machine::Get(machine) = &mut viewer.machine
                && !viewer.alarmed
                && let Some(due_us) = machine.due_us(wall_us())
            {
                self.wheel.set(due_us, (token, Alarm::Request));
                viewer.alarmed = true;
            }
            viewer.watch(&self.epoll, true).map_err(|error| Trouble::Connect(error.to_string()))
        });
        let Err(trouble) = result else { return };
        let (account, scheduled, instead) = (viewer.account, viewer.scheduled, viewer.machine.instead());
        let (id, stream) = (viewer.id, self.accounts[account].stream);
        self.slots[token.place] = None;
        if instead.is_some() {
            self.accounts[account].sent_elsewhere = true;
        }
        if let (Trouble::Refused(_), true, Some(server)) = (&trouble, self.plan.follow, instead)
            && self.accounts[account].redirected < REDIRECTS_MAX
            && let Ok(viewer) = Viewer::begin(self.plan, id, account, stream, scheduled, server)
            && self.settle(token.place, viewer).is_ok()
        {
            self.accounts[account].redirected += 1;
            return;
        }
        self.free.push(token.place);
        self.lose(account, scheduled, trouble);
    }

    /// Rings the alarms whose time has come; `rung` is memory for them.
    fn ring_due(&mut self, rung: &mut Vec<(Token, Alarm)>) {
        self.wheel.ring(wall_us(), rung);
        for (token, alarm) in rung.drain(..) {
            self.ring(token, alarm);
        }
    }

    /// An alarm rings.
    fn ring(&mut self, token: Token, alarm: Alarm) {
        let Some(Some(viewer)) = self.slots.get_mut(token.place) else { return };
        if viewer.token != token {
            return;
        }
        let (id, account) = (viewer.id, viewer.account);
        match alarm {
            Alarm::Request => {
                viewer.alarmed = false;
                let Machine::Get(machine) = &mut viewer.machine else { return };
                let Some(due_us) = machine.due_us(wall_us()) else { return };
                let stream = self.accounts[account].stream;
                let seq = next_seq(self.plan, self.shared, &self.libraries[stream], due_us, &mut viewer.asked, id);
                let result = match seq {
                    Some(seq) => {
                        machine.request(seq, &mut viewer.out);
                        viewer.write()
                    }
                    // The stream has not begun: at the next moment.
                    None => {
                        machine.postpone();
                        Ok(())
                    }
                };
                if seq.is_none() {
                    viewer.alarmed = true;
                    self.wheel.set(wall_us() + WAIT_MAX_US, (token, Alarm::Request));
                }
                self.after(token, false, result);
            }
            Alarm::Allowance => {
                viewer.allowance = Some(Viewer::slow_bytes(self.plan.kbps));
                self.wheel.set(wall_us() + Viewer::SLOW_STEP_US, (token, Alarm::Allowance));
                if let Err(error) = viewer.watch(&self.epoll, true) {
                    self.after(token, false, Err(Trouble::Connect(error.to_string())));
                }
            }
            Alarm::Patience => {
                if self.accounts[account].joined_us.is_none() {
                    self.after(token, false, Err(Trouble::Silent));
                }
            }
            Alarm::Leave => {
                let now = wall_us();
                let temper = self.accounts[account].temper;
                self.accounts[account].left_us = Some(now);
                self.slots[token.place] = None;
                self.free.push(token.place);
                let intended_us = match temper {
                    Temper::Reconnecting => now + self.plan.away_us(id, account),
                    _ => now,
                };
                // Who joined to be measured joining does not come again.
                if self.plan.hold_us.is_none() {
                    self.joins.push(Reverse(Join { intended_us, id, scheduled: false }));
                }
            }
        }
    }

    /// A viewer is over.
    fn lose(&mut self, account: usize, scheduled: bool, trouble: Trouble) {
        let account = &mut self.accounts[account];
        account.trouble = Some(trouble);
        if account.joined_us.is_none() && scheduled {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The chunk to ask for at `due_us`.
fn next_seq(plan: &Plan, shared: &Shared, library: &Library, due_us: u64, asked: &mut u64, id: usize) -> Option<u64> {
    let Way::Get { back, modulo, .. } = plan.way else { return None };
    *asked += 1;
    if let Some(modulo) = modulo {
        return Some((id as u64 + *asked) % modulo);
    }
    if let Some(first) = library.times().and_then(Times::first_seq) {
        // What stands before the first chunk is an earlier publisher's.
        let seq = library.times()?.head_at(due_us)?.checked_sub(back)?;
        return (seq >= first).then_some(seq);
    }
    let head = shared.head.load(Ordering::Acquire).checked_sub(1)?;
    let since_us = due_us.saturating_sub(shared.head_us.load(Ordering::Acquire));
    (head + since_us / cache_core::units::CHUNK_SPAN.micros()).checked_sub(back)
}

fn exchange(
    viewer: &mut Viewer,
    scratch: &mut [u8],
    library: &mut Library,
    sink: &mut Sink<'_>,
) -> Result<(), Trouble> {
    while viewer.read(scratch, library, sink)? == Read::More {}
    viewer.write()
}
