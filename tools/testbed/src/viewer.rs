//! `weircast-peer watch` and its report.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cluster::Cluster;
use crate::process::Process;

/// A viewer to be started.
#[derive(Debug)]
pub struct Watch<'c> {
    cluster: &'c Cluster,
    name: String,
    stream: String,
    bind: Ipv4Addr,
    more: Vec<String>,
    output: Option<PathBuf>,
}

/// A viewer's process. Its report is written when it ends by itself or by SIGINT or SIGTERM.
#[derive(Debug)]
pub struct PeerProcess {
    /// The program.
    pub process: Process,
    /// Where its media goes, when it goes to a file.
    pub output: Option<PathBuf>,
    report: PathBuf,
}

/// The viewer's ready line.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerReady {
    /// Where it takes partners.
    pub addr: SocketAddr,
    /// Where it plays out.
    #[serde(default)]
    pub http: Option<String>,
}

/// Middle and high end of a spread, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Quantiles {
    /// The median; nothing when nothing was played.
    pub p50: Option<f64>,
    /// Exceeded by one in twenty.
    pub p95: Option<f64>,
}

/// What a viewer says of itself at its end.
#[derive(Clone, Debug, Deserialize)]
pub struct PeerReport {
    /// Where it took partners.
    pub addr: SocketAddr,
    /// Wall clock at its start, in microseconds.
    pub started_at_us: u64,
    /// Wall clock of the first byte played out, in microseconds; nothing when none was.
    #[serde(default)]
    pub first_byte_at_us: Option<u64>,
    /// How far behind the publisher's clock it played.
    #[serde(default)]
    pub lag_ms: Quantiles,
    /// The same as pairs of bucket (milliseconds) and number of chunks.
    #[serde(default)]
    pub lag_histogram_ms: Vec<(u64, u64)>,
    /// Chunks played in time, the first not counted.
    pub chunks_played: u64,
    /// Chunks that came due after the first.
    pub chunks_due: u64,
    /// Chunks that came due and were not there.
    pub chunks_missed: u64,
    /// Played over due.
    pub continuity: f64,
    /// Times that play-out stopped.
    pub stalls: u64,
    /// Chunks whose hash and signature were found right.
    pub chunks_verified: u64,
    /// Chunks whose hash or signature was wrong; none of them is played or passed on.
    pub chunks_wrong: u64,
    /// Chunk bytes from peers.
    pub bytes_from_peers: u64,
    /// Chunk bytes from caches.
    pub bytes_from_caches: u64,
    /// Chunk bytes by the sender's address.
    #[serde(default)]
    pub bytes_by_source: BTreeMap<SocketAddr, u64>,
}

impl<'c> Watch<'c> {
    pub(crate) fn new(cluster: &'c Cluster, name: String, stream: &str, bind: Ipv4Addr) -> Watch<'c> {
        Watch { cluster, name, stream: stream.to_owned(), bind, more: Vec::new(), output: None }
    }

    /// Plays to `NAME.ts` in the cluster's directory.
    pub fn to_file(mut self) -> Watch<'c> {
        self.output = Some(self.cluster.file(&format!("{}.ts", self.name)));
        self
    }

    /// Further arguments.
    pub fn args(mut self, args: &[&str]) -> Watch<'c> {
        self.more.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Starts it and does not wait for it.
    pub fn start(self) -> Result<PeerProcess> {
        let report = self.cluster.file(&format!("{}.json", self.name));
        let mut args = vec!["watch".to_owned(), self.stream];
        let mut option = |key: &str, value: String| args.extend([key.to_owned(), value]);
        option("--route", self.cluster.route().listen.to_string());
        option("--bind", self.bind.to_string());
        option("--report", report.display().to_string());
        if let Some(output) = &self.output {
            option("--output", output.display().to_string());
        }
        args.extend(self.more);
        let process = self.cluster.spawn(&self.name, "weircast-peer", &args)?;
        Ok(PeerProcess { process, output: self.output, report })
    }
}

impl PeerProcess {
    /// Waits for its ready line.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<PeerReady> {
        serde_json::from_value(self.process.wait_ready(limit)?).context("a viewer's ready line lacks something")
    }

    /// Bytes of media in its output file so far.
    pub fn output_len(&self) -> u64 {
        self.output.as_deref().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len())
    }

    /// Its newest status line (`--status json`), if it has written one.
    pub fn status(&self) -> Option<serde_json::Value> {
        last_json(self.process.log())
    }

    /// Asks it to end, waits, and reads its report.
    pub fn finish(mut self, limit: Duration) -> Result<PeerReport> {
        self.process.terminate();
        self.report(limit)
    }

    /// Waits until it has ended and reads its report.
    pub fn report(&mut self, limit: Duration) -> Result<PeerReport> {
        let status = self.process.wait_exit(limit)?;
        let text = std::fs::read(&self.report)
            .with_context(|| format!("{} ended ({status}) without a report", self.process.name()))?;
        serde_json::from_slice(&text).with_context(|| format!("{}'s report lacks something", self.process.name()))
    }
}

/// The last line of a log that is a JSON object. Reads the end of the file only.
fn last_json(path: &Path) -> Option<serde_json::Value> {
    use std::io::{Read, Seek, SeekFrom};
    const END_BYTES: u64 = 4096;
    let mut file = std::fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END_BYTES))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    text.lines().rev().filter(|line| line.starts_with('{')).find_map(|line| serde_json::from_str(line).ok())
}
