//! `cargo xtask perf-viewers`, for whoever tries something out: a stand-alone cache and `weircast-load` in release, one after the other's readiness.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use weircast_testbed::Programs;
use weircast_testbed::cluster::StandAlone;

use crate::cargo;

/// Everything has a default: the experiment that is recorded.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Viewers.
    #[arg(short = 'n', long, default_value_t = 2_000)]
    viewers: usize,
    /// The stream's rate.
    #[arg(long, default_value_t = 2_000)]
    kbps: u64,
    /// pull, push or http.
    #[arg(long, default_value = "pull")]
    mode: String,
    /// Length of the measured span.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How the cache sends: sendfile, send_zc or copy.
    #[arg(long, default_value = "sendfile")]
    send: String,
    /// Shards of the cache.
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// all, sample:K or none.
    #[arg(long, default_value = "all")]
    verify: String,
    /// Writes weircast-load's report to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn viewers(options: &Options) -> Result<()> {
    let mut build = cargo::cargo()?;
    let packages = ["-p", "weircast-server", "-p", "weircast-load", "-p", "weircast-testbed"];
    cargo::step("building", build.args(["build", "--release", "--bins"]).args(packages))?;
    let programs = Programs::in_dir(&cargo::target_dir()?.join("release"));
    let more = format!("send = \"{}\"", options.send);
    let alone = StandAlone::start(&programs, options.shards, 512, &more)?;
    let mut load = Command::new(programs.path("weircast-load")?);
    let cache = alone.cache.listen.to_string();
    load.args(["run", "--cache", &cache, "--mode", &options.mode, "--verify", &options.verify]);
    for (key, value) in
        [("--viewers", options.viewers as u64), ("--kbps", options.kbps), ("--seconds", options.seconds)]
    {
        load.args([key, &value.to_string()]);
    }
    if let Some(path) = &options.json {
        load.arg("--json").arg(std::path::absolute(path)?);
    }
    let result = cargo::step("load", &mut load);
    let stat = process_cpu_seconds(alone.cache.process.pid()).context("the cache's CPU time")?;
    println!("cache: {stat:.1} CPU-seconds since its start");
    if let Err(error) = result {
        bail!("{error:#}\n{}", alone.logs());
    }
    Ok(())
}

/// User and system time of a process so far.
fn process_cpu_seconds(pid: u32) -> Result<f64> {
    /// Linux counts in hundredths for user space on every architecture that is built for.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: state, then 10 fields, then utime and stime.
    let rest = stat.rsplit_once(')').context("an odd stat line")?.1;
    let ticks: Vec<f64> = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}
