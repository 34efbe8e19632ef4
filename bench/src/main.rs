//! `weircast-load`: publishes, watches, verifies every byte, and says how late each came.
//!
//! ```text
//!  publish   source (generator or file) --> pace --> native link | HTTP PUT --> cache
//!  viewers   cache --> N links: pull | push | HTTP --> verify --> accounts --> report
//!  run       both
//! ```
//! | module | its one job |
//! |---|---|
//! | [`options`] | the command line |
//! | [`publish`] | a stream at its own pace |
//! | [`viewers`] | N viewers on a few threads |
//! | [`measure`] | what counts, and when |
//! | [`report`] | the numbers and the verdict |
//! | [`descriptors`] | room for the connections |
//!
//! The load is open: chunks are published, and viewers join, by schedule and not when the cache is ready for more.

mod descriptors;
mod measure;
mod options;
mod publish;
mod report;
mod viewers;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cache_core::sign::{PublisherKey, stream_id};
use cache_core::units::Epoch;
use clap::Parser;

use measure::wall_us;
use options::{Arguments, Load, Task};
use publish::{Source, Target, Upload};
use report::Published;
use viewers::{Extent, Plan, Trust};

fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let result = catch_signals(&stop).and_then(|()| match Arguments::parse().command {
        Task::Run(options) => run(&options, &stop),
        Task::Publish(options) => publish_only(&options, &stop),
        Task::Viewers(options) => watch_only(&options, &stop),
        Task::Check(options) => check(&options),
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

/// Publishes in one thread and watches in others.
fn run(options: &options::Run, stop: &Arc<AtomicBool>) -> Result<bool> {
    options.load.check(options.stream.input.is_none())?;
    descriptors::make_room(options.load.viewers)?;
    let (target, trust) = target(options.cache, &options.stream)?;
    let source = source(&options.stream)?;
    let over = Arc::new(AtomicBool::new(false));
    let (begun, has_begun) = mpsc::channel();
    let publisher = {
        let over = over.clone();
        let begun = move |origin_us| {
            // The receiver waits for it, or is gone together with the run.
            let _ = begun.send(origin_us);
        };
        let publish = move || publish::publish(&target, source, begun, || over.load(Ordering::Relaxed));
        std::thread::Builder::new().name("publisher".to_owned()).spawn(publish).context("cannot start a thread")?
    };
    // Nothing comes when the publisher was refused.
    let seen = has_begun.recv().ok().map(|origin_us| {
        let generated = options.stream.input.is_none();
        let mut plan = plan(options.cache, &options.stream.stream, &options.load, trust, generated);
        plan.origin_us = Some(origin_us);
        viewers::watch(plan, extent(&options.load), &|| stop.load(Ordering::Relaxed) || publisher.is_finished())
    });
    over.store(true, Ordering::Relaxed);
    let late = publisher.join().map_err(|_| anyhow::anyhow!("the publisher's thread panicked"))?;
    // What was seen is told even when the publisher has failed; that the run has failed is told too.
    let seen = seen.transpose()?;
    let passed = match &seen {
        Some(seen) => tell(
            &options.load,
            seen,
            options.stream.stream.as_str(),
            late.as_ref().map_or(Published::Failed, Published::ByUs),
        )?,
        None => false,
    };
    late.context("publishing failed")?;
    Ok(passed)
}

fn publish_only(options: &options::Publish, stop: &Arc<AtomicBool>) -> Result<bool> {
    let (target, _) = target(options.to, &options.stream)?;
    let key = match &target.upload {
        Upload::Native { key, epoch } => options::key_text(*epoch, &key.public()),
        Upload::Http => String::new(),
    };
    let ready = serde_json::json!({ "role": "load", "stream": target.stream.as_str(), "key": key });
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let done = || stop.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end);
    publish::publish(&target, source(&options.stream)?, |_| println!("ready {ready}"), done)?;
    Ok(true)
}

fn watch_only(options: &options::Viewers, stop: &Arc<AtomicBool>) -> Result<bool> {
    options.load.check(options.generated)?;
    descriptors::make_room(options.load.viewers)?;
    let stream = stream_id(&options.stream);
    let trust = match options.key.as_slice() {
        [] => Trust::HashOnly(stream),
        keys => Trust::Keys(options::key_ring(stream, keys)),
    };
    let plan = plan(options.cache, &options.stream, &options.load, trust, options.generated);
    let seen = viewers::watch(plan, extent(&options.load), &|| stop.load(Ordering::Relaxed))?;
    tell(&options.load, &seen, options.stream.as_str(), Published::Elsewhere)
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

/// What is published where, and by what its viewers judge it.
fn target(cache: std::net::SocketAddr, options: &options::Stream) -> Result<(Target, Trust)> {
    let stream = stream_id(&options.stream);
    let (upload, trust) = if options.http {
        (Upload::Http, Trust::HashOnly(stream))
    } else {
        let mut seed = [0; 32];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
            .context("the kernel gives no random bytes")?;
        let key = PublisherKey::from_seed(&seed);
        // A stand-alone cache takes a greater term than the last publisher's; the clock in seconds is one.
        let epoch = Epoch(wall_us() / 1_000_000);
        let ring = options::key_ring(stream, &[(epoch.0, key.public())]);
        (Upload::Native { key: Box::new(key), epoch }, Trust::Keys(ring))
    };
    Ok((Target { cache, stream: options.stream.clone(), secret: options.secret.clone(), upload }, trust))
}

fn source(options: &options::Stream) -> Result<Source> {
    match &options.input {
        Some(path) => Source::file(path),
        None => Ok(Source::generated(options.kbps)),
    }
}

fn plan(
    cache: std::net::SocketAddr,
    stream: &cache_core::wire::StreamName,
    load: &Load,
    trust: Trust,
    generated: bool,
) -> Plan {
    Plan {
        cache,
        stream: stream.clone(),
        way: load.way(),
        verify: load.verify,
        trust,
        generated,
        origin_us: None,
        first_join_us: wall_us(),
        joins_per_second: load.joins_per_second,
    }
}

fn extent(load: &Load) -> Extent {
    Extent { viewers: load.viewers, threads: load.threads.min(load.viewers), seconds: load.seconds }
}

/// Prints and writes the report; whether the run passes.
fn tell(load: &Load, seen: &viewers::Seen, stream: &str, published: Published<'_>) -> Result<bool> {
    let report = report::report(seen, load.mode_name(), stream, load.viewers, published);
    print!("{}", report.text());
    if let Some(path) = &load.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.is_good())
}
