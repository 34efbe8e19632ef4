//! `weircast-load`: publishes, watches, verifies, and says how late each chunk came.
//!
//! ```text
//!  publish   source (generator or file) --> pace --> native links | HTTP PUT --> server
//!  viewers   server --> N links: pull | push | HTTP | GET --> verify or discard --> accounts --> report
//!  run, joins, soak   both, joined by the timetable
//! ```
//! | module | its one job |
//! |---|---|
//! | [`options`] | the command line |
//! | [`session`] | the command line's words into plans; publisher and viewers side by side |
//! | [`publish`], [`timetable`] | streams at their own pace; when each chunk was due and written |
//! | [`viewers`] | N viewers in threads and processes |
//! | [`measure`] | what counts, and when |
//! | [`server`], [`soak`] | the server's process under load; whether its memory grows |
//! | [`ramp`] | the most viewers that are served in time |
//! | [`report`] | the numbers and the verdict |
//! | [`descriptors`], [`progress`], [`head`] | room for connections, a line on a terminal, a stream's newest chunk |
//!
//! The load is open: chunks are published, and viewers join, by schedule and not when the server is ready for more.

mod descriptors;
mod head;
mod measure;
mod options;
mod progress;
mod publish;
mod ramp;
mod report;
mod server;
mod session;
mod soak;
mod timetable;
mod viewers;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use options::{Arguments, Task};
use session::{Session, Trial};

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = || stop.load(Ordering::Relaxed);
    let result = catch_signals(&stop).and_then(|()| match Arguments::parse().command {
        Task::Run(options) => run(&options, &stopped),
        Task::Publish(options) => publish(&options, &stopped),
        Task::Viewers(options) => watch(&options, &stopped),
        Task::Joins(options) => joins(&options, &stopped),
        Task::Soak(options) => soak(&options, &stopped),
        Task::Check(options) => check(&options),
        Task::Crew => viewers::serve_parent().map(|()| true),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn catch_signals(stop: &Arc<AtomicBool>) -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone()).context("cannot catch signals")?;
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch signals")?;
    }
    Ok(())
}

/// Publishes in one thread and watches in others; a level after the other when there is a ramp.
fn run(options: &options::Run, stopped: &dyn Fn() -> bool) -> Result<bool> {
    let session = Session::publishing(&options.server, &options.stream, &options.load.watch)?;
    let trial = Trial::of_load(&options.load, options.ramp.limit_p99_ms, options.shares.shares()?);
    session.run(&trial, options.ramp.ramp, stopped)
}

/// Watches what somebody else publishes.
fn watch(options: &options::Viewers, stopped: &dyn Fn() -> bool) -> Result<bool> {
    let session = Session::watching(options)?;
    let trial = Trial::of_load(&options.load, options.ramp.limit_p99_ms, options.shares.shares()?);
    session.run(&trial, options.ramp.ramp, stopped)
}

/// Joins at a rate; every one of them is a viewer that soon leaves.
fn joins(options: &options::Joins, stopped: &dyn Fn() -> bool) -> Result<bool> {
    let trial = Trial::of_joins(options)?;
    let session = Session::publishing(&options.server, &options.stream, &options.watch)?;
    session.run(&trial, None, stopped)
}

/// A long time with viewers that come and go, and an eye on the server's memory.
fn soak(options: &options::Soak, stopped: &dyn Fn() -> bool) -> Result<bool> {
    let session = Session::publishing(&options.server, &options.stream, &options.watch)?;
    session.run(&Trial::of_soak(options)?, None, stopped)
}

fn publish(options: &options::Publish, stopped: &dyn Fn() -> bool) -> Result<bool> {
    options.json.iter().try_for_each(|path| report::files::can_be_written(path))?;
    let (target, key) = session::target(options.to, options.url.as_ref(), &options.stream)?;
    let times = match &options.times {
        Some(path) => timetable::Timetable::create(path)?,
        None => timetable::Timetable::in_memory()?,
    };
    let streams: Vec<&str> = target.names.iter().map(|name| name.as_str()).collect();
    let key = key.map(|(epoch, key)| options::key_text(epoch, &key)).unwrap_or_default();
    let ready = serde_json::json!({ "role": "load", "stream": options.stream.stream.as_str(), "key": key,
        "streams": streams.len() });
    descriptors::make_room(streams.len())?;
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let done = || stopped() || end.is_some_and(|end| Instant::now() >= end);
    let source = session::source(&options.stream)?;
    let ledger = publish::Ledger::default();
    publish::publish(&target, source, &times, &ledger, || println!("ready {ready}"), done)?;
    let published = ledger.take();
    let ms = |durations: &measure::Durations| [0.5, 0.99, 1.0].map(|quantile| durations.ms(quantile));
    let ([late50, late99, late_max], [took50, took99, took_max]) = (ms(&published.late), ms(&published.upload));
    eprintln!("began late   p50 {late50:>8.1}  p99 {late99:>8.1}  max {late_max:>8.1} ms");
    eprintln!("upload took  p50 {took50:>8.1}  p99 {took99:>8.1}  max {took_max:>8.1} ms");
    let behind = late99 > report::LAG_MS_MIN;
    if let Some(path) = &options.json {
        let report = serde_json::json!({
            "streams": streams.len(), "pieces": published.late.count(), "publisher_behind": behind,
            "publish_lateness_ms": { "p50": late50, "p99": late99, "max": late_max },
            "upload_ms": { "p50": took50, "p99": took99, "max": took_max },
        });
        report::files::write(path, &format!("{report:#}\n"))?;
    }
    if behind {
        eprintln!("FAIL: the publisher fell behind its schedule: fewer --streams, or a quieter machine");
    }
    Ok(!behind || options.correctness_only)
}

/// Says what it found; the first thing that does not hold is the error.
fn check(options: &options::Check) -> Result<bool> {
    /// A cache that takes longer is not one to measure (our guess).
    const PATIENCE: Duration = Duration::from_secs(5);
    descriptors::make_room(options.viewers)?;
    println!("ok       descriptors for {} viewers", options.viewers);
    if let Some(cache) = options.cache {
        std::net::TcpStream::connect_timeout(&cache, PATIENCE)
            .with_context(|| format!("{cache} cannot be reached: is a weircast-cache running there?"))?;
        println!("ok       {cache} takes connections");
    }
    Ok(true)
}
