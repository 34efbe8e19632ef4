//! One program: spawned, waited for, signalled, reaped.
//!
//! Standard error goes to `NAME.log` in the working directory; standard output is read for the `ready {json}` line.
//! The program gets a process group of its own, so that Ctrl-C in a terminal reaches the demo only, which then ends
//! its programs in order.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::programs::Programs;
use crate::workdir::{Workdir, tail};

/// Longest `ready` line (our guess: real ones are under 200 bytes).
const READY_BYTES_MAX: usize = 4096;

/// A running, or ended, program. Dropping it kills (SIGKILL) and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Option<ChildStdout>,
    log: PathBuf,
    started_at_us: u64,
    // Kept so that the log outlives every process that writes it.
    _dir: Arc<Workdir>,
}

impl Process {
    /// Starts `program` of `programs` as `name` (which names its log).
    pub fn spawn(
        dir: &Arc<Workdir>,
        programs: &Programs,
        name: &str,
        program: &str,
        args: &[String],
    ) -> Result<Process> {
        Process::spawn_path(dir, programs, name, &programs.path(program)?, args)
    }

    /// Starts the program at `path`, Weircast's or not.
    pub fn spawn_path(
        dir: &Arc<Workdir>,
        programs: &Programs,
        name: &str,
        path: &Path,
        args: &[String],
    ) -> Result<Process> {
        let log = dir.file(&format!("{name}.log"));
        let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(programs.path("weircast-guard")?);
        command.arg(std::process::id().to_string()).arg(path).args(args).current_dir(dir.path()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let started_at_us = wall_clock_us();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", path.display()))?;
        let stdout = child.stdout.take();
        Ok(Process { name: name.to_owned(), child, stdout, log, started_at_us, _dir: dir.clone() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The wall clock, in microseconds, just before it was started.
    pub fn started_at_us(&self) -> u64 {
        self.started_at_us
    }

    /// Its standard error so far.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for the line `ready {json}` and returns the JSON. An error when the program ends first or says something
    /// else; it carries the end of the log.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<serde_json::Value> {
        let deadline = Instant::now() + limit;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < READY_BYTES_MAX {
            let stdout = self.stdout.as_ref().context("standard output was already taken")?;
            if !readable(stdout.as_fd(), deadline)? {
                bail!("{} was not ready after {} s\n{}", self.name, limit.as_secs(), tail(&self.log));
            }
            let mut byte = [0];
            if rustix::io::read(stdout, &mut byte)? == 0 {
                break;
            }
            line.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&line);
        let Some(json) = text.trim_end().strip_prefix("ready ") else {
            let end = match self.wait_exit(Duration::from_secs(5)) {
                Ok(status) => format!("ended ({status})"),
                Err(_) => format!("said {text:?}"),
            };
            bail!("{} {end} instead of being ready:\n{}", self.name, tail(&self.log));
        };
        serde_json::from_str(json).with_context(|| format!("{}'s ready line is not JSON: {json}", self.name))
    }

    /// Sends `signal`; nothing happens when the program has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.raw_pid() {
            // The only error is that the process is gone: it is not reaped before `wait_exit` or drop.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills it (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended and returns how; an error after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = self.raw_pid().context("a child has a process id")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("cannot open a pidfd")?;
        if !readable(pidfd.as_fd(), Instant::now() + limit)? {
            bail!("{} has not ended after {} s\n{}", self.name, limit.as_secs(), tail(&self.log));
        }
        Ok(self.child.wait()?)
    }

    fn raw_pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

/// Waits until `fd` is readable or at its end; false when `deadline` comes first.
fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Microseconds since the Unix epoch.
pub fn wall_clock_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
