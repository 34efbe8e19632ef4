//! `weircast top`: a running cache as its shared memory shows it.
//!
//! ```text
//!  find.rs        sample.rs                report.rs                       screen.rs   a person
//!  which ring --> one reading of it --+--> differences of two readings --+--------->
//!                 (read-only mapping) |    as rates       trouble.rs: what is wrong  |
//!                                     |                                  '---------> a script (--once, --json)
//!              a second later --------'
//! ```
//! Nothing is written and nobody is asked: no socket, no signal, no lock. A cache that is stopped, hangs or was killed
//! is shown as it stood, with the age of its last sign of life.

mod find;
mod report;
mod sample;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod trouble;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cache_core::ring::RingObserver;
use cache_core::time::{Span, WallClock};

use report::Report;
use sample::Sample;
use screen::Sort;
use terminal::{Key, Terminal};

/// Between two readings: long enough for rates that a person can compare, short enough to see something happen.
const EVERY: Duration = Duration::from_secs(1);

/// A node that is silent for this long may have been replaced by another one with a new file.
const LOOK_AGAIN_AFTER: Span = Span::from_secs(2);

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The ring's file (`slab` in cache.toml)
    #[arg(value_name = "FILE", conflicts_with = "pid")]
    file: Option<PathBuf>,
    /// The cache's process, for a ring without a file (slab = "memfd")
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Take two readings a second apart, print them as text, and end
    #[arg(long)]
    once: bool,
    /// Take two readings a second apart, print them as JSON, and end
    #[arg(long)]
    json: bool,
}

/// Shows what `options` asks for, until a key or a signal ends it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let path = match (&options.file, options.pid) {
        (Some(file), _) => file.clone(),
        (None, Some(pid)) => find::of_process(pid)?,
        (None, None) => match find::in_default_places()?.as_slice() {
            [only] => only.clone(),
            several => {
                say(&several.iter().map(|path| describe(path) + "\n").collect::<String>())?;
                bail!("there are several rings; say which: weircast top FILE");
            }
        },
    };
    let observer = RingObserver::open(&path)?;
    if options.once || options.json {
        return once(&observer, options.json);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("the screen needs a terminal; for a script: weircast top --once, or --json");
    }
    watch(observer, &path)
}

/// One line about a ring, for the list.
fn describe(path: &Path) -> String {
    let node = RingObserver::open(path).map_err(|error| error.to_string()).and_then(|observer| {
        observer.board().map(|board| board.node).ok_or_else(|| "its node is just starting".to_owned())
    });
    match node {
        Ok(node) => {
            let silent = node.silent_for(wall()).secs_f64();
            format!("{}  {}  pid {}  last sign of life {silent:.1} s ago", path.display(), node.listen, node.pid)
        }
        Err(why) => format!("{}  {why}", path.display()),
    }
}

/// Two readings, printed.
fn once(observer: &RingObserver, json: bool) -> Result<()> {
    let first = Sample::take(observer, wall(), Instant::now())?;
    std::thread::sleep(EVERY);
    let second = Sample::take(observer, wall(), Instant::now())?;
    let report = Report::new(&first, &second);
    if json {
        return say(&(serde_json::to_string_pretty(&report)? + "\n"));
    }
    let lines = screen::draw(&report, Sort::default(), false);
    say(&lines.iter().map(|line| line.plain() + "\n").collect::<String>())
}

/// Prints; whoever reads may stop doing so at any time.
fn say(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot print"),
    }
}

/// The screen.
fn watch(mut observer: RingObserver, path: &Path) -> Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, ended.clone()).context("cannot catch signals")?;
    }
    let mut before = Sample::take(&observer, wall(), Instant::now())?;
    let mut report = Report::new(&before, &before);
    let (mut sort, mut paused) = (Sort::default(), false);
    let terminal = Terminal::enter()?;
    let mut next = Instant::now() + EVERY;
    while !ended.load(Ordering::Relaxed) {
        terminal.show(&screen::draw(&report, sort, paused))?;
        match terminal.key(next.saturating_duration_since(Instant::now()))? {
            Some(Key::Quit) => break,
            Some(Key::Sort) => sort = sort.next(),
            Some(Key::Pause) => paused = !paused,
            None => {}
        }
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + EVERY;
        if let Some(other) = successor(path, &before) {
            observer = other;
        }
        // A board that is being laid out is read the next time.
        let Ok(sample) = Sample::take(&observer, wall(), Instant::now()) else { continue };
        if !paused {
            report = Report::new(&before, &sample);
        }
        before = sample;
    }
    Ok(())
}

/// The ring that has taken the place of one whose node is silent.
fn successor(path: &Path, silent: &Sample) -> Option<RingObserver> {
    if silent.board.node.silent_for(wall()) < LOOK_AGAIN_AFTER {
        return None;
    }
    let other = RingObserver::open(path).ok()?;
    let started = other.board()?.node.started;
    (started != silent.board.node.started).then_some(other)
}

fn wall() -> WallClock {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    WallClock::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
