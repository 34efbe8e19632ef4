//! `cargo xtask perf-restart`: a cache in release is killed under load, again and again, and started again on its port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use weircast_testbed::Programs;
use weircast_testbed::restart::Torture;

use crate::cargo;

/// Everything has a default: the experiment that is recorded.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// How often the cache is killed.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Streams, one publisher each.
    #[arg(long, default_value_t = 16)]
    streams: u64,
    /// Viewers that read all the time.
    #[arg(long, default_value_t = 4)]
    viewers: u64,
    /// The ring's memory.
    #[arg(long, default_value_t = 1024)]
    memory_mib: u64,
    /// Longest chunk in KiB; chunks are of any length up to it.
    #[arg(long, default_value_t = 300)]
    chunk_kib: u64,
    /// How the cache sends.
    #[arg(long, default_value = "sendfile")]
    send: String,
    /// Bits turned in the ring's file between each kill and the next start.
    #[arg(long, default_value_t = 0)]
    flips: u64,
    /// Of chunks, pauses and damage; drawn when not given, and printed.
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut build = cargo::cargo()?;
    let packages = ["-p", "weircast-server", "-p", "weircast-testbed"];
    cargo::step("building", build.args(["build", "--release", "--bins"]).args(packages))?;
    // Ctrl-C ends it after the kill that is under way, so that the ring's memory is given back.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let seed = options.seed.unwrap_or_else(weircast_testbed::process::wall_clock_us);
    println!("seed {seed}");
    let torture = Torture {
        programs: Programs::in_dir(&cargo::target_dir()?.join("release")),
        seed,
        kills: options.kills,
        streams: options.streams,
        viewers: options.viewers,
        chunk_bytes_max: options.chunk_kib << 10,
        memory_mib: options.memory_mib,
        chunks_before: 300,
        flips: options.flips,
        more: format!("send = \"{}\"", options.send),
    };
    let outcome = torture.run(|kill, took| {
        if kill % 20 == 0 {
            println!("{kill} kills, the last one served again after {} ms", took.as_millis());
        }
        ensure!(!stop.load(Ordering::Relaxed), "interrupted");
        Ok(())
    })?;
    let mut times = outcome.first_chunk.clone();
    times.sort_unstable();
    let ms = |share: f64| {
        let at = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1;
        times.get(at).map_or(f64::NAN, Duration::as_secs_f64) * 1000.0
    };
    println!(
        "{} kills; from exec to the first whole chunk at a viewer: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        times.len(),
        ms(0.5),
        ms(0.99),
        ms(1.0)
    );
    println!(
        "after restarts: {} chunks served and compared, {} acknowledged ones missing; {} compared under load",
        outcome.served, outcome.missing, outcome.watched
    );
    println!("wrong: {}", outcome.wrong.len());
    for wrong in &outcome.wrong {
        println!("  {wrong}");
    }
    ensure!(outcome.wrong.is_empty(), "wrong bytes or numbers; replay with --seed {seed}");
    ensure!(outcome.missing == 0 || options.flips > 0, "committed chunks are missing; replay with --seed {seed}");
    Ok(())
}
