//! What every experiment stands on: the programs, the CPUs, a tmpfs for chunks, and processes that end with it.
//!
//! Every program is started through the test bed's guard, so that the kernel ends it when the harness ends, however it
//! does; Ctrl-C ends the running experiment, whose values then end their programs in order. A second one ends the harness at
//! once, and the janitor removes its directories.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weircast_testbed::workdir::{Workdir, tail};
use weircast_testbed::{Process, Programs};

use super::janitor::Janitor;
use super::memory_files::ChunkDirs;

/// A server that takes longer to start is broken (our guess; varnish compiles its configuration in one to two seconds).
const START_LIMIT: Duration = Duration::from_secs(30);

/// For a rival to end by itself (our guess; varnish takes a tenth of a second).
const END_LIMIT: Duration = Duration::from_secs(3);

/// Between two looks at the stop flag.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the servers run and where the load does. `None`: wherever the kernel puts them.
#[derive(Clone, Debug)]
pub(crate) struct Cpus {
    pub(crate) server: Option<String>,
    pub(crate) load: Option<String>,
}

impl Cpus {
    /// Core 0 for the server, the others for the load; unpinned when that is not possible.
    fn find() -> Cpus {
        let count = std::thread::available_parallelism().map_or(1, |count| count.get());
        let has_taskset = weircast_testbed::ffmpeg::host_program("taskset").is_some();
        if count < 2 || !has_taskset {
            let why = if count < 2 { "one CPU" } else { "no `taskset` (Debian package: util-linux)" };
            eprintln!("UNPINNED: {why}; server and load share what there is, and the figures mean little");
            return Cpus { server: None, load: None };
        }
        Cpus { server: Some("0".to_owned()), load: Some(format!("1-{}", count - 1)) }
    }
}

/// The ground that experiments run on.
pub(crate) struct Stage {
    pub(crate) programs: Programs,
    // Dropped in this order: what is mounted in the directory, the directory, who would else have removed it.
    pub(crate) dirs: ChunkDirs,
    pub(crate) dir: Arc<Workdir>,
    _janitor: Janitor,
    pub(crate) cpus: Cpus,
    /// Small numbers and short spans: does everything run?
    pub(crate) quick: bool,
    pub(crate) pairs: usize,
    stop: Arc<AtomicBool>,
    started: AtomicUsize,
}

/// A running server. Dropped, it is ended (a rival is asked first, so that its children end too) and the files that it leaves are removed.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Process,
    /// Asked to end before it is killed.
    is_asked: bool,
    files: Vec<PathBuf>,
}

impl Stage {
    /// Catches signals and makes the directories.
    pub(crate) fn new(programs: Programs, quick: bool, pairs: usize) -> Result<Stage> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second signal ends the harness at once; the guard ends its programs, the janitor removes its files.
            signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
            signal_hook::flag::register(signal, stop.clone())?;
        }
        raise_open_files()?;
        let dir = Arc::new(Workdir::new()?);
        let dirs = ChunkDirs::new(dir.path())?;
        let _janitor = Janitor::of(&[dirs.small.path(), dir.path()])?;
        Ok(Stage {
            programs,
            dir,
            _janitor,
            cpus: Cpus::find(),
            dirs,
            quick,
            pairs,
            stop,
            started: AtomicUsize::new(0),
        })
    }

    /// `quick` in a quick run, else `full`.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// An error once Ctrl-C was pressed.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// A file of this run's directory that no other call has got.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.dir.file(&format!("{}-{name}", self.started.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts a program on `cpus`.
    pub(crate) fn spawn(&self, name: &str, program: &Path, args: &[String], cpus: Option<&str>) -> Result<Process> {
        self.go_on()?;
        let name = format!("{}-{name}", self.started.fetch_add(1, Ordering::Relaxed));
        let Some(cpus) = cpus else {
            return Process::spawn_path(&self.dir, &self.programs, &name, program, args);
        };
        let taskset = weircast_testbed::ffmpeg::host_program("taskset").context("taskset has gone")?;
        let mut all = vec!["-c".to_owned(), cpus.to_owned(), program.display().to_string()];
        all.extend_from_slice(args);
        Process::spawn_path(&self.dir, &self.programs, &name, &taskset, &all)
    }

    /// Starts one of Weircast's servers on the server's CPU; its ready line says where it listens.
    pub(crate) fn ours(&self, name: &'static str, program: &str, args: &[String]) -> Result<(Server, Value)> {
        let mut process = self.spawn(name, &self.programs.path(program)?, args, self.cpus.server.as_deref())?;
        let ready = process.wait_ready(START_LIMIT)?;
        let address = ready["listen"].as_str().and_then(|listen| listen.parse().ok());
        let address = address.with_context(|| format!("{name}'s ready line has no `listen`: {ready}"))?;
        Ok((Server { name, address, process, is_asked: false, files: Vec::new() }, ready))
    }

    /// Starts a rival on the server's CPU and waits until it takes connections at `port`.
    pub(crate) fn rival(&self, name: &'static str, program: &Path, args: &[String], port: u16) -> Result<Server> {
        let mut process = self.spawn(name, program, args, self.cpus.server.as_deref())?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            self.go_on()?;
            if !process.is_running() || Instant::now() > deadline {
                bail!("{name} does not take connections at {address}:\n{}", tail(process.log()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Server { name, address, process, is_asked: true, files: Vec::new() })
    }

    /// Waits until `process` has ended; whether it did so with success. An error after `limit` or on Ctrl-C.
    pub(crate) fn wait(&self, process: &mut Process, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while process.is_running() {
            self.go_on()?;
            if Instant::now() > deadline {
                bail!("{} has not ended after {} s:\n{}", process.name(), limit.as_secs(), tail(process.log()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(process.wait_exit(LOOK_EVERY)?.success())
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        tail(self.process.log())
    }

    /// Removes `file` when the server has ended.
    pub(crate) fn leaves(mut self, file: PathBuf) -> Server {
        self.files.push(file);
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_asked {
            self.process.terminate();
            // What comes of it does not matter: it is killed now.
            let _ = self.process.wait_exit(END_LIMIT);
        }
        self.process.kill();
        for file in &self.files {
            // It may never have been made.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A port that was free a moment ago, for programs that cannot choose one themselves.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Servers inherit the limit; not all raise it themselves.
fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Where the part of a test that runs in a process of its own tells of itself.
    const TOLD: &str = "WEIRCAST_TEST_STAGE";

    fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "never happened: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A stage with files in its directories, told to `told`; says when it was asked to stop, and does not.
    fn stubborn(told: &Path) -> ! {
        let stage = Stage::new(Programs::in_dir(Path::new("/nowhere")), true, 1).expect("a stage");
        let directories = [stage.dirs.small.path(), stage.dir.path()];
        directories.iter().for_each(|directory| std::fs::write(directory.join("file"), "x").expect("written"));
        let text = directories.map(|directory| directory.display().to_string()).join("\n");
        std::fs::write(told.with_extension("new"), text).expect("written");
        std::fs::rename(told.with_extension("new"), told).expect("renamed");
        loop {
            if stage.go_on().is_err() {
                std::fs::write(told.with_extension("asked"), "").expect("written");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(child: &Child, signal: Signal) {
        kill_process(Pid::from_child(child), signal).expect("it runs");
    }

    #[test]
    fn a_second_interrupt_and_a_kill_end_it_at_once_and_leave_nothing() {
        if let Some(told) = std::env::var_os(TOLD) {
            stubborn(Path::new(&told));
        }
        for kill in [false, true] {
            let place = tempfile::tempdir().expect("a directory");
            let told = place.path().join("told");
            let me = std::env::current_exe().expect("this test");
            let (_, module) = module_path!().split_once("::").expect("a module of this program");
            let name = format!("{module}::a_second_interrupt_and_a_kill_end_it_at_once_and_leave_nothing");
            let mut child = Command::new(me)
                .args(["--exact", &name, "--nocapture"])
                .env(TOLD, &told)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("started");
            let text = until("it has a stage", || std::fs::read_to_string(&told).ok());
            let directories: Vec<&Path> = text.lines().map(Path::new).collect();
            assert!(directories.len() == 2 && directories.iter().all(|directory| directory.join("file").exists()));
            if kill {
                signal(&child, Signal::KILL);
            } else {
                signal(&child, Signal::INT);
                until("it was asked to stop", || told.with_extension("asked").exists().then_some(()));
                assert!(child.try_wait().expect("a child").is_none(), "the first lets it end in order");
                signal(&child, Signal::INT);
            }
            let status = until("it has ended", || child.try_wait().expect("a child"));
            assert_eq!(status.code(), (!kill).then_some(130));
            until("nothing is left", || directories.iter().all(|directory| !directory.exists()).then_some(()));
        }
    }
}
