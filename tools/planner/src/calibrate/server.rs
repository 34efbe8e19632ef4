//! A server as a process: started with a configuration of its own, asked for its CPU time, ended.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Options;

/// Ends a program when this one ends, however it does. Does without it where it was not built.
const GUARD: &str = "weircast-guard";

/// Confines a program to CPUs (Debian package: util-linux).
fn taskset() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("taskset")).find(|program| program.is_file())
}

/// Where the programs are and where they run.
#[derive(Debug)]
pub(super) struct Programs {
    folder: PathBuf,
    pub(super) server_cpus: Option<String>,
    pub(super) load_cpus: Option<String>,
    /// For configurations and reports; removed with this value.
    pub(super) work: PathBuf,
}

/// A running server. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Programs {
    pub(super) fn new(options: &Options) -> Result<Programs> {
        let work = std::env::temp_dir().join(format!("weircast-plan-{}", std::process::id()));
        std::fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
        let programs = Programs {
            folder: options.programs.clone(),
            server_cpus: options.server_cpus.clone(),
            load_cpus: options.load_cpus.clone(),
            work,
        };
        for name in ["weircast-cache", "weircast-load", "weircast-index", "weircast-route"] {
            let path = programs.folder.join(name);
            if programs.server_cpus.is_some() && taskset().is_none() {
                bail!("there is no `taskset` to keep server and load apart: install it (Debian package util-linux)");
            }
            if !path.is_file() {
                bail!("{} is not there: cargo build --release, and say --programs FOLDER", path.display());
            }
        }
        Ok(programs)
    }

    /// A command for a program, on these CPUs.
    pub(super) fn command(&self, name: &str, cpus: Option<&str>) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        let guard = self.folder.join(GUARD);
        if guard.is_file() {
            words.extend([guard.into_os_string(), std::process::id().to_string().into()]);
        }
        if let (Some(cpus), Some(taskset)) = (cpus, taskset()) {
            words.extend([taskset.into_os_string(), "-c".into(), cpus.into()]);
        }
        words.push(self.folder.join(name).into_os_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Starts a server on the server's CPUs and waits for its `ready` line.
    pub(super) fn start(&self, name: &str, config: &str) -> Result<Server> {
        let file = self.work.join(format!("{name}.toml"));
        std::fs::write(&file, config).with_context(|| format!("{} cannot be written", file.display()))?;
        let mut command = self.command(name, self.server_cpus.as_deref());
        command.arg("--config").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let stdout = child.stdout.take().context("standard output is a pipe")?;
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        // What it read is of no use to anybody else.
        let _ = std::fs::remove_file(&file);
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        read.with_context(|| format!("{name} said nothing"))?;
        let ready = line.strip_prefix("ready ").with_context(|| format!("{name} did not start; it said: {line:?}"))?;
        let ready: serde_json::Value = serde_json::from_str(ready).context("the ready line")?;
        let listen = ready["listen"].as_str().and_then(|listen| listen.parse().ok());
        server.address = listen.with_context(|| format!("{name}'s ready line has no address: {line:?}"))?;
        Ok(server)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // What stays is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.work);
    }
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time so far, in seconds.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.pid());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // Behind the name in brackets, which may hold anything: fields 14 and 15 of the whole are user and system time.
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let both = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        Ok(both.with_context(|| format!("{path} has no CPU times"))? / TICKS_PER_S)
    }
}

/// For a server to end by itself (our guess; a cache gives a gigabyte back meanwhile).
const END_LIMIT: Duration = Duration::from_secs(5);

/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The kernel's unit for CPU times in /proc (USER_HZ), the same on every machine that Linux runs on today.
const TICKS_PER_S: f64 = 100.0;

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to end, a cache takes its ring with it. It may have ended by itself.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let deadline = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This machine, in a few words.
pub fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cpus} x {}, Linux {}", model.unwrap_or("unknown CPU"), read("/proc/sys/kernel/osrelease").trim())
}
