//! The demo: a real stream through two domains.
//!
//! ```text
//!  ffmpeg (or weircast-peer publish) --> cache 1 ------ one fetch ------> cache 2
//!                                        |                                |
//!                        viewers of 127.0.1.x <-> each other    viewers of 127.0.2.x <-> each other
//! ```
//! This file starts and ends things in order. [`publish`] makes the stream, [`live`] shows, [`report`] adds up.

mod live;
mod publish;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use weircast_testbed::{Cluster, PeerProcess, Programs};

use crate::cargo;

/// The stream's name.
const STREAM: &str = "demo";

/// Viewers play about 6 s behind the newest chunk; the stream runs for that long before the first joins.
const FILL: Duration = Duration::from_secs(7);

/// Between two viewers' starts (our guess: quick, and each process start still has a core for itself).
const STAGGER: Duration = Duration::from_millis(100);

/// How long servers and viewers may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Viewers, split over both domains.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=2000))]
    peers: u32,
    /// Ends so many seconds after the first viewer was started; without it, on Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// Writes the report's numbers to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Uses the built-in stream generator though ffmpeg is there.
    #[arg(long)]
    builtin: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone()).context("cannot catch Ctrl-C")?;
    }
    let mut build = cargo::cargo()?;
    let packages = ["-p", "weircast-server", "-p", "weircast-peer", "-p", "weircast-testbed"];
    cargo::step("building", build.args(["build", "--release", "--bins"]).args(packages))?;
    if stop.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    let programs = Programs::in_dir(&cargo::target_dir()?.join("release"));
    let cluster = Cluster::builder().domain().domain().memory_mib(256).programs(programs).start()?;
    match show(options, &cluster, &stop) {
        Ok(()) => Ok(()),
        Err(error) => {
            eprintln!("{}", cluster.logs());
            Err(error)
        }
    }
}

/// Everything between the servers' start and their end.
fn show(options: &Options, cluster: &Cluster, stop: &AtomicBool) -> Result<()> {
    println!(
        "\nroute {}; domain 1: index {}, cache {}; domain 2: index {}, cache {}",
        cluster.route().listen,
        cluster.index_server(0).listen,
        cluster.cache(0).listen,
        cluster.index_server(1).listen,
        cluster.cache(1).listen
    );
    let mut publisher = publish::start(cluster, STREAM, options.builtin)?;
    println!("publishing into domain 1: {}", publisher.what);
    println!("the stream is filling: viewers play about {} s behind the newest chunk", FILL.as_secs() - 1);
    wait(stop, Instant::now() + FILL, || publisher.check())?;

    let stopped = || stop.load(Ordering::Relaxed);
    if stopped() {
        bail!("interrupted before the first viewer joined");
    }
    println!("starting {} viewers in two domains", options.peers);
    println!("watch it in a player (VLC, mpv, ffplay), here or while the demo runs:");
    for domain in 0..cluster.domains() {
        println!("  domain {}: {}.ts", domain + 1, cluster.live_url(domain, STREAM));
    }
    let started = Instant::now();
    let end = options.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let mut viewers: Vec<PeerProcess> = Vec::new();
    let mut view = live::View::new();
    for at in 0..options.peers {
        let domain = at as usize % cluster.domains();
        viewers.push(cluster.watch(domain, STREAM).args(&["--status", "json", "--output", "/dev/null"]).start()?);
        wait(stop, started + STAGGER * (at + 1), || publisher.check())?;
        view.show(started.elapsed(), &viewers);
        if stopped() {
            break;
        }
    }
    // The first viewer of the second domain has joined; its player's URL is the peer's own.
    for viewer in viewers.iter_mut().take(cluster.domains()) {
        if let Some(url) = viewer.wait_ready(PATIENCE)?.http {
            view.note(&format!("{} plays out on {url}", viewer.process.name()));
        }
    }
    let far = started + Duration::from_secs(10 * 365 * 86_400);
    while !stopped() && end.is_none_or(|end| Instant::now() < end) {
        let next = (Instant::now() + live::EVERY).min(end.unwrap_or(far));
        wait(stop, next, || publisher.check())?;
        view.show(started.elapsed(), &viewers);
    }
    let seconds = started.elapsed().as_secs_f64();
    view.end();

    println!("\nending: viewers write their reports");
    let caches: Vec<_> = (0..cluster.domains()).map(|domain| cluster.cache_stats(domain)).collect();
    for viewer in &viewers {
        viewer.process.terminate();
    }
    let mut report = report::Report::new(viewers.len(), seconds);
    for (at, viewer) in viewers.iter_mut().enumerate() {
        report.add(cluster, at % cluster.domains(), viewer.process.started_at_us(), viewer.report(PATIENCE));
    }
    publisher.end(PATIENCE);
    print!("{}", report.text());
    print!("{}", report::caches_text(&caches));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.numbers())?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("numbers written to {}", path.display());
    }
    report.verdict()
}

/// Waits until `until` or Ctrl-C, and looks now and then whether what runs still does.
fn wait(stop: &AtomicBool, until: Instant, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    while !stop.load(Ordering::Relaxed) {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::park_timeout(left.min(LOOK_EVERY));
    }
    Ok(())
}
