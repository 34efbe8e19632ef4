//! One run of the load tool against a fresh cache.

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Options;
use super::server::Programs;
use crate::calibration::Way;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) way: Way,
    pub(super) kbps: u64,
    pub(super) viewers: u64,
    pub(super) streams: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The run passed: everybody, in time, and the tool was not what limited.
    pub(super) served: bool,
    /// Every viewer got every chunk, however late.
    pub(super) everybody_served: bool,
    pub(super) tool_is_bottleneck: bool,
    pub(super) p99_ms: f64,
    pub(super) cpu_s: f64,
    pub(super) cpu_s_per_gib: f64,
    pub(super) viewer_bytes: f64,
    pub(super) seconds: f64,
    pub(super) verdict: String,
}

/// Memory of the cache's ring: a window of one stream of 40 Mbit/s, or of 200 of 2 Mbit/s shortened.
const MEMORY_MIB: u64 = 1024;

/// A ring of so many streams keeps two seconds and a half.
const WINDOW_CHUNKS_OF_MANY: u64 = 25;

/// Joins begun in a second.
const JOINS_PER_S: u64 = 2_000;

pub(super) fn run(options: &Options, programs: &Programs, level: &Level) -> Result<Seen> {
    let window = if level.streams > 1 { format!("window_chunks = {WINDOW_CHUNKS_OF_MANY}\n") } else { String::new() };
    let config = format!(
        "listen = \"127.0.0.1:0\"\nindex = []\nshards = {}\nmemory_mib = {MEMORY_MIB}\nbusy_max_permille = 1000\n\
         fanout_ms_max = 60000\n{window}",
        options.cores
    );
    let server = programs.start("weircast-cache", &config)?;
    let file = programs.work.join("load.json");
    // A report of a run before is none of this one.
    let _ = std::fs::remove_file(&file);
    let mut command = programs.command("weircast-load", programs.load_cpus.as_deref());
    command
        // Waking a client that sleeps on the same machine would be charged to the server.
        .args(["run", "--spin", "--verify", "none", "--mode", level.way.word()])
        .args(["--cache", &server.address.to_string()])
        .args(["--viewers", &level.viewers.to_string()])
        .args(["--streams", &level.streams.to_string()])
        .args(["--kbps", &level.kbps.to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .args(["--joins-per-second", &JOINS_PER_S.to_string()])
        .args(["--limit-p99-ms", &options.p99_ms_max.to_string()])
        .args(["--server-pid", &server.pid().to_string()])
        .arg("--json")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let output = command.output().context("weircast-load cannot be started")?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("weircast-load wrote no report: {}", String::from_utf8_lossy(&output.stderr)))?;
    seen(&serde_json::from_str(&text).context("the load tool's report")?)
}

fn seen(report: &Value) -> Result<Seen> {
    let number = |path: &str| {
        let value = path.split('.').try_fold(report, |value, key| value.get(key)).and_then(Value::as_f64);
        value.with_context(|| format!("the load tool's report has no {path}"))
    };
    let why: Vec<&str> = report["why"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let served = report["passed"].as_bool().unwrap_or(false);
    let (p99_ms, viewers) = (number("lateness_ms.p99")?, number("viewers")?);
    let verdict = if served { format!("served, p99 {p99_ms:.0} ms") } else { format!("not: {}", why.join("; ")) };
    Ok(Seen {
        served,
        everybody_served: number("served")? >= viewers,
        tool_is_bottleneck: report["tool"]["is_bottleneck"].as_bool().unwrap_or(false),
        p99_ms,
        cpu_s: number("server.cpu_s")?,
        cpu_s_per_gib: number("server.cpu_s_per_gib")?,
        viewer_bytes: (number("server.anon_kib_after")? - number("server.anon_kib_idle")?) * 1024.0 / viewers.max(1.0),
        seconds: number("seconds")?,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_and_one_that_lacks_a_number_names_it() {
        let mut report = serde_json::json!({
            "passed": false, "why": ["2 of 500 viewers were not served"], "viewers": 500, "served": 498, "seconds": 4.0,
            "lateness_ms": {"p99": 250.5}, "tool": {"is_bottleneck": true},
            "server": {"cpu_s": 1.5, "cpu_s_per_gib": 0.3, "anon_kib_after": 600, "anon_kib_idle": 100}
        });
        let read = seen(&report).expect("whole");
        assert!(!read.served && !read.everybody_served && read.tool_is_bottleneck);
        assert_eq!((read.viewer_bytes, read.p99_ms, read.seconds), (1_024.0, 250.5, 4.0));
        assert_eq!(read.verdict, "not: 2 of 500 viewers were not served");
        report["server"].as_object_mut().expect("a table").remove("cpu_s");
        assert_eq!(seen(&report).expect_err("lacks it").to_string(), "the load tool's report has no server.cpu_s");
    }
}
