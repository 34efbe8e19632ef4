//! The workers: threads of this process, and of others when one may not have enough descriptors.
//!
//! ```text
//!  parent                              child: the same program, `crew`
//!    | --- {plan, ids, threads} ------->|   standard input, one line of JSON each
//!    | --- {span} --------------------->|
//!    | --- stop ----------------------->|
//!    |<-- {joined, failed} -------------|   standard output, when they change
//!    |<-- {harvests} -------------------|   and it exits
//! ```
//! A child whose input ends is alone, and ends too.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Extent;
use super::plan::{Plan, Way};
use super::worker::{self, Harvest, Shared};
use crate::head;
use crate::measure::{Measured, wall_us};

/// Between a child's reports of joins.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// Between two questions for a live stream's newest chunk.
const HEAD_EVERY_US: u64 = 1_000_000;

/// What a parent says.
#[derive(Serialize, Deserialize)]
enum Order {
    Begin { plan: Box<Plan>, ids: Ids, threads: usize },
    Span { start_us: u64, end_us: u64 },
    Head { seq: u64, at_us: u64 },
    Stop,
}

/// What a child says.
#[derive(Serialize, Deserialize)]
enum Word {
    Joins { joined: usize, failed: usize },
    Harvests(Vec<Harvest>),
}

/// Viewers number `first`, `first + step` ... below `end`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ids {
    first: usize,
    step: usize,
    end: usize,
}

/// All workers.
pub(super) struct Crew {
    threads: Threads,
    children: Vec<Helper>,
    /// Asked for the newest chunk of a live stream, when no timetable tells it.
    head_of: Option<(std::net::SocketAddr, String)>,
    head_asked_us: u64,
}

struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<Result<Harvest>>>,
}

struct Helper {
    child: Child,
    orders: ChildStdin,
    joined: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    harvests: mpsc::Receiver<Vec<Harvest>>,
}

impl Crew {
    pub(super) fn start(plan: &Plan, extent: Extent) -> Result<Crew> {
        let ids = |first, step| Ids { first, step, end: extent.viewers };
        let mut crew = Crew {
            threads: Threads { shared: Arc::default(), handles: Vec::new() },
            children: Vec::new(),
            head_of: None,
            head_asked_us: 0,
        };
        let tells = |times: &std::path::PathBuf| {
            crate::timetable::Timetable::open(times).is_ok_and(|t| t.began(0).is_some_and(|b| b.first_seq.is_some()))
        };
        if matches!(plan.way, Way::Get { modulo: None, .. }) && !plan.times.as_ref().is_some_and(tells) {
            crew.head_of = Some((plan.server, format!("/live/{}/head", plan.names[0])));
        }
        if extent.processes == 1 {
            crew.threads = Threads::start(plan, ids(0, 1), extent.threads)?;
        } else {
            for process in 0..extent.processes.min(extent.viewers) {
                let ids = ids(process, extent.processes.min(extent.viewers));
                crew.children.push(Helper::start(plan, ids, extent.threads)?);
            }
        }
        Ok(crew)
    }

    pub(super) fn joined(&self) -> usize {
        let here = self.threads.shared.joined.load(Ordering::Relaxed);
        here + self.children.iter().map(|child| child.joined.load(Ordering::Relaxed)).sum::<usize>()
    }

    pub(super) fn failed(&self) -> usize {
        let here = self.threads.shared.failed.load(Ordering::Relaxed);
        here + self.children.iter().map(|child| child.failed.load(Ordering::Relaxed)).sum::<usize>()
    }

    /// Asks for what workers cannot ask for themselves, now and then.
    pub(super) fn look(&mut self) {
        let Some((server, path)) = &self.head_of else { return };
        let now = wall_us();
        if now < self.head_asked_us + HEAD_EVERY_US {
            return;
        }
        self.head_asked_us = now;
        // It may not be there yet, or not any more: viewers then go by the last answer.
        let Ok(seq) = head::newest(*server, path) else { return };
        self.threads.shared.head_us.store(now, Ordering::Release);
        self.threads.shared.head.store(seq + 1, Ordering::Release);
        for child in &mut self.children {
            // One that is gone is met at the end.
            let _ = child.say(&Order::Head { seq, at_us: now });
        }
    }

    /// The measured span is set.
    pub(super) fn begin(&mut self, span: Measured) -> Result<()> {
        self.threads.begin(span);
        for child in &mut self.children {
            child.say(&Order::Span { start_us: span.start_us, end_us: span.end_us })?;
        }
        Ok(())
    }

    /// Ends all and brings in what they have seen.
    pub(super) fn finish(self) -> Result<Vec<Harvest>> {
        let mut harvests = self.threads.finish()?;
        let mut children = self.children;
        for child in &mut children {
            child.say(&Order::Stop)?;
        }
        for mut child in children {
            let told = child.harvests.recv().ok().context("a process of viewers ended before it told what it saw")?;
            harvests.extend(told);
            let status = child.child.wait().context("a process of viewers cannot be waited for")?;
            if !status.success() {
                bail!("a process of viewers failed: {status}");
            }
        }
        Ok(harvests)
    }
}

impl Threads {
    fn start(plan: &Plan, ids: Ids, threads: usize) -> Result<Threads> {
        let shared = Arc::new(Shared::default());
        let plan = Arc::new(plan.clone());
        let all: Vec<usize> = (ids.first..ids.end).step_by(ids.step).collect();
        let threads = threads.min(all.len().max(1));
        let mut handles = Vec::new();
        for thread in 0..threads {
            let (plan, shared) = (plan.clone(), shared.clone());
            let ids: Vec<usize> = all.iter().skip(thread).step_by(threads).copied().collect();
            let builder = std::thread::Builder::new().name(format!("viewers-{thread}"));
            handles.push(builder.spawn(move || worker::run(&plan, &shared, &ids)).context("cannot start a thread")?);
        }
        Ok(Threads { shared, handles })
    }

    fn begin(&self, span: Measured) {
        self.shared.end_us.store(span.end_us, Ordering::Release);
        self.shared.start_us.store(span.start_us, Ordering::Release);
    }

    fn finish(self) -> Result<Vec<Harvest>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut harvests = Vec::new();
        for handle in self.handles {
            harvests.push(handle.join().map_err(|_| anyhow::anyhow!("a viewers' thread panicked"))??);
        }
        Ok(harvests)
    }
}

impl Helper {
    fn start(plan: &Plan, ids: Ids, threads: usize) -> Result<Helper> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut child = Command::new(program)
            .arg("crew")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start another process for viewers")?;
        let orders = child.stdin.take().context("a pipe to the process")?;
        let words = child.stdout.take().context("a pipe from the process")?;
        let (joined, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (tell, harvests) = mpsc::channel();
        let (now_joined, now_failed) = (joined.clone(), failed.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(words).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(Word::Joins { joined, failed }) => {
                        now_joined.store(joined, Ordering::Relaxed);
                        now_failed.store(failed, Ordering::Relaxed);
                    }
                    // The receiver is waiting, or the run has failed already.
                    Ok(Word::Harvests(harvests)) => drop(tell.send(harvests)),
                    Err(_) => break,
                }
            }
        });
        let mut helper = Helper { child, orders, joined, failed, harvests };
        helper.say(&Order::Begin { plan: Box::new(plan.clone()), ids, threads })?;
        Ok(helper)
    }

    fn say(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders.write_all(line.as_bytes()).context("a process of viewers is gone")
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its input ends and so does it; this is for one that hangs. One that has ended is not harmed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child's life: orders from standard input, words to standard output.
pub(crate) fn serve_parent() -> Result<()> {
    let (send, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str::<Order>(&line) else { break };
            if send.send(order).is_err() {
                return;
            }
        }
        // The parent is gone: nobody is left to tell.
        std::process::exit(1);
    });
    let Ok(Order::Begin { plan, ids, threads }) = orders.recv() else { bail!("a crew is begun by its parent") };
    crate::descriptors::make_room((ids.first..ids.end).step_by(ids.step).count())?;
    let threads = Threads::start(&plan, ids, threads)?;
    let told = AtomicU64::new(u64::MAX);
    loop {
        match orders.recv_timeout(TELL_EVERY) {
            Ok(Order::Span { start_us, end_us }) => threads.begin(Measured { start_us, end_us }),
            Ok(Order::Head { seq, at_us }) => {
                threads.shared.head_us.store(at_us, Ordering::Release);
                threads.shared.head.store(seq + 1, Ordering::Release);
            }
            Ok(Order::Stop) => break,
            Ok(Order::Begin { .. }) | Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the parent is out of order"),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let joined = threads.shared.joined.load(Ordering::Relaxed);
        let failed = threads.shared.failed.load(Ordering::Relaxed);
        let now = (joined as u64) << 32 | failed as u64;
        if told.swap(now, Ordering::Relaxed) != now {
            say(&Word::Joins { joined, failed })?;
        }
    }
    say(&Word::Harvests(threads.finish()?))
}

fn say(word: &Word) -> Result<()> {
    let line = serde_json::to_string(word)? + "\n";
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("the parent is gone")
}
