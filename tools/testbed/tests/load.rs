//! The load generator against a real cache: it passes when every viewer was served, and only then.

use anyhow::{Context, Result, ensure};
use cache_core::sign::PublisherKey;
use serde_json::Value;
use weircast_testbed::cluster::StandAlone;
use weircast_testbed::wait::HANG;
use weircast_testbed::{Process, Programs, eventually};

const VIEWERS: u64 = 40;

struct Bench {
    programs: Programs,
    alone: StandAlone,
}

impl Bench {
    fn start() -> Result<Bench> {
        let programs = Programs::find()?;
        Ok(Bench { alone: StandAlone::start(&programs, 1, 64, "")?, programs })
    }

    /// `weircast-load VERB` for some seconds.
    fn load(&self, verb: &str, seconds: u64, more: &[&str]) -> Result<Process> {
        let (cache, json) = (self.alone.cache.listen.to_string(), self.json());
        let (n, seconds) = (VIEWERS.to_string(), seconds.to_string());
        let mut args = vec![verb, "--cache", &cache, "-n", &n, "--seconds", &seconds, "--json", &json];
        args.extend_from_slice(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        self.alone.spawn(&self.programs, "load", "weircast-load", &args)
    }

    fn json(&self) -> String {
        self.alone.file("load.json").display().to_string()
    }

    /// The report of a run that passed.
    fn passed(&self, mut load: Process) -> Result<Value> {
        let status = load.wait_exit(HANG)?;
        let report: Value = serde_json::from_slice(&std::fs::read(self.json()).context("no report")?)?;
        ensure!(status.success(), "{status}: {report:#}");
        ensure!(report["served"] == VIEWERS && report["wrong"] == 0 && report["missed"] == 0, "{report:#}");
        ensure!(report["chunks_due"].as_u64() >= Some(10), "{report:#}");
        Ok(report)
    }
}

#[test]
fn every_way_of_watching_is_served_and_verified() -> Result<()> {
    for (mode, checked) in [("pull", "by_signature"), ("push", "by_signature"), ("http", "by_payload")] {
        let bench = Bench::start()?;
        let report = bench.passed(bench.load("run", 3, &["--mode", mode])?).context(mode)?;
        ensure!(report["verified"][checked].as_u64() > Some(0) && report["verified"]["not"] == 0, "{report:#}");
    }
    Ok(())
}

#[test]
fn an_upload_over_http_is_served_and_verified() -> Result<()> {
    let bench = Bench::start()?;
    let report = bench.passed(bench.load("run", 3, &["--http"])?)?;
    ensure!(report["verified"]["by_hash"].as_u64() > Some(0), "the cache's key is not known: {report:#}");
    Ok(())
}

#[test]
fn a_publisher_and_viewers_in_programs_of_their_own() -> Result<()> {
    let bench = Bench::start()?;
    let cache = bench.alone.cache.listen.to_string();
    let args = ["publish", "--to", &cache, "--stream", "news"].map(str::to_owned);
    let mut publisher = bench.alone.spawn(&bench.programs, "publisher", "weircast-load", &args)?;
    let ready = publisher.wait_ready(HANG)?;
    let key = ready["key"].as_str().context("a key")?;
    let more = ["--stream", "news", "--key", key, "--generated"];
    let report = bench.passed(bench.load("viewers", 3, &more)?)?;
    ensure!(report["verified"]["by_signature"].as_u64() > Some(0), "{report:#}");
    // Under another key every chunk is wrong, and the run fails.
    let (epoch, _) = key.split_once(':').context("EPOCH:HEX")?;
    let stranger = PublisherKey::from_seed(&[1; 32]).public();
    let hex: String = stranger.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = format!("{epoch}:{hex}");
    let mut load = bench.load("viewers", 1, &["--stream", "news", "--key", &other])?;
    ensure!(!load.wait_exit(HANG)?.success());
    publisher.terminate();
    let status = publisher.wait_exit(HANG)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_cache_that_dies_fails_the_run() -> Result<()> {
    let mut bench = Bench::start()?;
    let mut load = bench.load("run", 600, &[])?;
    let log = load.log().to_owned();
    let measuring = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("measuring")).then_some(());
    eventually("the measured span", HANG, measuring)?;
    bench.alone.cache.process.kill();
    let status = load.wait_exit(HANG)?;
    ensure!(!status.success(), "{status}");
    Ok(())
}
