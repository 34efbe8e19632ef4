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
        // The machine is shared with other tests: what they do to the tool's speed is not judged.
        let mut args = vec![verb, "--cache", &cache, "--json", &json, "--correctness-only"];
        match verb {
            "soak" => args.extend(["-n", &n]),
            "joins" => args.extend(["--seconds", &seconds]),
            _ => args.extend(["-n", &n, "--seconds", &seconds]),
        }
        args.extend_from_slice(more);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        self.alone.spawn(&self.programs, "load", "weircast-load", &args)
    }

    fn json(&self) -> String {
        self.alone.file("load.json").display().to_string()
    }

    fn report(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(self.json()).context("no report")?)?)
    }

    /// The report of a run that passed.
    fn passed(&self, mut load: Process) -> Result<Value> {
        let status = load.wait_exit(HANG)?;
        let report = self.report()?;
        ensure!(status.success(), "{status}: {report:#}");
        ensure!(
            report["passed"] == true && report["served"] == VIEWERS && report["wrong"] == 0 && report["missed"] == 0,
            "{report:#}"
        );
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
fn a_run_over_http_is_not_misled_by_what_the_one_before_it_left() -> Result<()> {
    for mode in ["get", "http"] {
        let bench = Bench::start()?;
        for (verify, more) in [("none", &[][..]), ("all", &[]), ("sample:3", &["--http"])] {
            let args = [&["--mode", mode, "--verify", verify], more].concat();
            let report = bench.passed(bench.load("run", 3, &args)?).with_context(|| format!("{mode} {verify}"))?;
            ensure!(verify == "none" || report["verified"]["by_payload"].as_u64() > Some(0), "{report:#}");
        }
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
    let args = ["publish", "--to", &cache, "--stream", "news", "--correctness-only"].map(str::to_owned);
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

#[test]
fn what_is_discarded_is_counted_and_measured_as_well() -> Result<()> {
    for mode in ["pull", "push", "http"] {
        let bench = Bench::start()?;
        let report = bench.passed(bench.load("run", 3, &["--mode", mode, "--verify", "none"])?).context(mode)?;
        let verified = &report["verified"];
        ensure!(verified["not"].as_u64() >= Some(10 * VIEWERS), "{mode}: {report:#}");
        let (read, discarded) = (verified["bytes_read"].as_u64(), verified["bytes_discarded"].as_u64());
        ensure!(discarded > read.map(|bytes| 10 * bytes), "{mode}: {report:#}");
        ensure!(report["lateness_from_upload_ms"]["p50"].is_f64(), "the publisher's timetable is known: {report:#}");
    }
    Ok(())
}

#[test]
fn many_streams_from_several_processes() -> Result<()> {
    let bench = Bench::start()?;
    let page = bench.alone.file("load.html").display().to_string();
    let pid = bench.alone.cache.process.pid().to_string();
    let more = ["--streams", "7", "--kbps", "500", "--processes", "3", "--verify", "sample:2"];
    let more = [&more[..], &["--html", &page, "--server-pid", &pid]].concat();
    let report = bench.passed(bench.load("run", 3, &more)?)?;
    ensure!(report["streams"] == 7 && report["verified"]["by_signature"].as_u64() > Some(0), "{report:#}");
    ensure!(report["verified"]["not"].as_u64() > Some(0), "half of the viewers discard: {report:#}");
    ensure!(report["server"]["rss_kib_after"].as_u64() > Some(0), "{report:#}");
    ensure!(std::fs::read_to_string(page)?.contains("<svg"));
    Ok(())
}

#[test]
fn bad_viewers_are_counted_apart() -> Result<()> {
    let bench = Bench::start()?;
    let shares = ["--slow", "10%", "--stopped", "10%", "--leaving", "10%", "--reconnect", "10%"];
    let mut load = bench.load("run", 6, &shares)?;
    let status = load.wait_exit(HANG)?;
    let report = bench.report()?;
    ensure!(status.success() && report["served"] == report["viewers"], "{report:#}");
    let bad = &report["bad"];
    for temper in ["slow", "stopped", "leaving", "reconnecting"] {
        ensure!(bad["joins"][temper].as_u64() >= Some(2), "{temper}: {report:#}");
    }
    ensure!(bad["wrong"] == 0 && bad["chunks"].as_u64() > Some(0), "{report:#}");
    Ok(())
}

#[test]
fn joins_are_measured_from_their_schedule() -> Result<()> {
    let bench = Bench::start()?;
    let mut load = bench.load("joins", 3, &["--rate", "30", "--hold-ms", "500"])?;
    let status = load.wait_exit(HANG)?;
    let report = bench.report()?;
    ensure!(status.success() && report["viewers"] == 90 && report["served"] == 90, "{report:#}");
    ensure!(report["first_byte_ms"]["p50"].as_f64() <= report["join_ms"]["p50"].as_f64(), "{report:#}");
    Ok(())
}

#[test]
fn a_refused_join_has_its_reason() -> Result<()> {
    let programs = Programs::find()?;
    let bench = Bench { alone: StandAlone::start(&programs, 1, 64, "connections_max = 10")?, programs };
    for (more, passes) in [(&["--refusals-pass"][..], true), (&[][..], false)] {
        let more = [&["--rate", "30", "--hold-ms", "60000"], more].concat();
        let mut load = bench.load("joins", 2, &more)?;
        let status = load.wait_exit(HANG)?;
        let report = bench.report()?;
        let refused: u64 = report["refused"].as_object().context("reasons")?.values().filter_map(Value::as_u64).sum();
        ensure!(refused > 0 && status.success() == passes, "{report:#}");
    }
    Ok(())
}

#[test]
fn a_soak_watches_the_servers_memory() -> Result<()> {
    let bench = Bench::start()?;
    let pid = bench.alone.cache.process.pid().to_string();
    let more = ["--minutes", "0.1", "--churn", "600", "--sample-every-s", "0.2", "--server-pid", &pid];
    let mut load = bench.load("soak", 0, &more)?;
    load.wait_exit(HANG)?;
    let report = bench.report()?;
    ensure!(report["served"] == report["viewers"] && report["viewers"].as_u64() > Some(VIEWERS), "{report:#}");
    ensure!(report["soak"]["anon_kib"]["median"].as_f64() > Some(0.0), "{report:#}");
    Ok(())
}

#[test]
fn a_ramp_finds_the_largest_level() -> Result<()> {
    let bench = Bench::start()?;
    let mut load = bench.load("run", 1, &["--ramp", "10:30:10"])?;
    let status = load.wait_exit(HANG)?;
    let report = bench.report()?;
    ensure!(status.success() && report["ramp"]["largest"] == 30, "{report:#}");
    ensure!(report["ramp"]["levels"].as_array().is_some_and(|levels| levels.len() == 3), "{report:#}");
    Ok(())
}
