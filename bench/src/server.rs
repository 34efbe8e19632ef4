//! The server's process, seen from outside: CPU time, memory and descriptors of it and its children (a master's
//! workers), from `/proc`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::wall_us;
use crate::publish::{Ledger, Published};
use crate::viewers::Watcher;

/// What a process and its children have and have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// User and system time since their start; to 10 ms.
    pub(crate) cpu_s: f64,
    /// Resident memory, shared memory (a ring) included.
    pub(crate) rss_kib: u64,
    /// Of it, what is the processes' own.
    pub(crate) anon_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

/// Reads [`Usage`] of `pid` and all its descendants.
pub(crate) fn usage(pid: u32) -> Result<Usage> {
    let mut all = Usage::default();
    one(pid, &mut all).with_context(|| format!("--server-pid: no process {pid}, or not ours to look at"))?;
    for child in descendants(pid) {
        // A child may end while it is looked at.
        let _ = one(child, &mut all);
    }
    Ok(all)
}

fn one(pid: u32, all: &mut Usage) -> Result<()> {
    /// Linux counts in hundredths for user space on every architecture that is built for.
    const TICKS_PER_SECOND: f64 = 100.0;
    let (_, fields) = stat(pid)?;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    all.cpu_s += ticks / TICKS_PER_SECOND;
    all.rss_kib += number("VmRSS:");
    all.anon_kib += number("RssAnon:");
    all.threads += number("Threads:");
    all.descriptors += std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64);
    Ok(())
}

/// The parent, and the fields of `/proc/PID/stat` from the state on.
fn stat(pid: u32) -> Result<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: state, parent, then 9 fields, then user and system time.
    let (_, rest) = stat.rsplit_once(')').context("an odd stat line")?;
    let parent = rest.split_whitespace().nth(1).and_then(|field| field.parse().ok()).context("an odd stat line")?;
    Ok((parent, rest.to_owned()))
}

fn descendants(pid: u32) -> Vec<u32> {
    let Ok(dir) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, stat(pid).ok()?.0))).collect();
    let mut found = HashSet::from([pid]);
    let mut ours = Vec::new();
    loop {
        let before = ours.len();
        parents.retain(|(pid, parent)| {
            let is_ours = found.contains(parent) && !found.contains(pid);
            if is_ours {
                ours.push(*pid);
            }
            !is_ours
        });
        if ours.len() == before {
            return ours;
        }
        found.extend(&ours);
    }
}

/// A look at the server at some moment of the measured span.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Since the span's beginning.
    pub(crate) at_s: f64,
    pub(crate) rss_kib: u64,
    pub(crate) anon_kib: u64,
    pub(crate) descriptors: u64,
}

/// Looks at the server while it is under load.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    pid: Option<u32>,
    every_us: Option<u64>,
    /// Before the first join, at the span's beginning, at its end.
    pub(crate) idle: Option<Usage>,
    pub(crate) start: Option<Usage>,
    pub(crate) stop: Option<Usage>,
    pub(crate) samples: Vec<Sample>,
    /// How this run's own publisher fared in the span.
    pub(crate) published: Option<Published>,
    ledger: Option<Arc<Ledger>>,
    begun_us: u64,
    next_us: u64,
}

impl Observer {
    /// Of process `pid`, if there is one, with a sample each `every`; and of the run's own publisher.
    pub(crate) fn new(pid: Option<u32>, every: Option<Duration>, ledger: Option<Arc<Ledger>>) -> Result<Observer> {
        if let Some(pid) = pid {
            usage(pid)?;
        }
        Ok(Observer { pid, every_us: every.map(|every| every.as_micros() as u64), ledger, ..Observer::default() })
    }

    fn usage(&self) -> Option<Usage> {
        usage(self.pid?).ok()
    }
}

impl Watcher for Observer {
    fn before(&mut self) {
        self.idle = self.usage();
    }

    fn begin(&mut self) {
        // What was before the span does not count.
        drop(self.ledger.as_ref().map(|ledger| ledger.take()));
        self.start = self.usage();
        self.begun_us = wall_us();
        self.next_us = self.begun_us;
    }

    fn look(&mut self) {
        let now = wall_us();
        let Some(every_us) = self.every_us.filter(|_| now >= self.next_us) else { return };
        self.next_us += every_us;
        if let Some(usage) = self.usage() {
            let Usage { rss_kib, anon_kib, descriptors, .. } = usage;
            let at_s = (now - self.begun_us) as f64 / 1e6;
            self.samples.push(Sample { at_s, rss_kib, anon_kib, descriptors });
        }
    }

    fn end(&mut self) {
        self.stop = self.usage();
        self.published = self.ledger.as_ref().map(|ledger| ledger.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let usage = usage(std::process::id()).expect("this process");
        assert!(usage.rss_kib >= usage.anon_kib && usage.anon_kib > 0 && usage.descriptors > 2 && usage.threads > 0);
        assert!(super::usage(u32::MAX).is_err());
    }
}
