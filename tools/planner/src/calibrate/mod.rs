//! Measures a node: `weircast-cache` under `weircast-load`, and the index and route servers under questions.
//!
//! ```text
//!  server's CPUs    weircast-cache, a fresh one for each level, its limits on joins off: a crowd of joins is none to plan for
//!  load's CPUs      weircast-load: publishes, N viewers, all of whom must get every chunk, the 99th percentile in time
//!
//!  viewers   500 ... guess x 0.85 (served) ... x 1.12 (not) ... half-way, until both are within 4 %
//! ```
//! | module | its one job |
//! |---|---|
//! | [`server`] | a server as a process: started, measured, ended |
//! | [`level`] | one run of the load tool |
//! | [`questions`] | datagrams to an index or route server as fast as it answers |
//! | [`machines`] | what the same servers decide, in this process, with a domain's peers in them |

mod level;
mod machines;
mod questions;
mod server;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::calibration::{Calibration, Capacity, Way};
use crate::node::DATAGRAMS_PER_JOIN;
use crate::sizes::{CHUNKS_PER_S, chunk_bytes};
use level::{Level, Seen};
use server::Programs;
pub use server::host;

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the programs.
    pub programs: PathBuf,
    /// CPUs for the server, as `taskset -c` takes them; `None`: wherever the kernel puts it.
    pub server_cpus: Option<String>,
    /// CPUs for the load.
    pub load_cpus: Option<String>,
    /// Cores that the server's CPUs are.
    pub cores: u32,
    /// Ways of sending.
    pub ways: Vec<Way>,
    /// Rates, kbit/s.
    pub kbps: Vec<u64>,
    /// Most viewers to try.
    pub viewers_max: u64,
    /// Length of each measured span.
    pub seconds: u64,
    /// The longest 99th percentile of lateness: what a cache allows a chunk's fan-out before it refuses joins.
    pub p99_ms_max: f64,
    /// Leaves out what does not depend on rates: taking chunks in, index and route servers. It stays another machine's.
    pub only_capacities: bool,
}

/// Two levels are near enough when the upper is at most this many times the lower.
const NEAR: f64 = 1.04;

/// Viewers of the first level, which only tells what a viewer costs.
const FIRST: u64 = 500;

/// Streams of the measurement of taking in, each with one viewer.
const STREAMS: u64 = 200;

/// Rate of those streams, kbit/s.
const STREAMS_KBPS: u64 = 2_000;

/// Measures. `tell` hears what is done. Errors: a program that is missing or fails, a load tool that is slower than the
/// cache, too few descriptors.
pub fn calibrate(options: &Options, command: String, date: String, tell: &mut dyn FnMut(&str)) -> Result<Calibration> {
    let programs = Programs::new(options)?;
    let mut capacities = Vec::new();
    let mut viewer_bytes: f64 = 0.0;
    for way in &options.ways {
        for kbps in &options.kbps {
            let (capacity, bytes) = capacity(options, &programs, *way, *kbps, tell)?;
            viewer_bytes = viewer_bytes.max(bytes);
            tell(&format!("{} at {kbps} kbit/s: {:.0} viewers in time", way.word(), capacity.viewers));
            capacities.push(capacity);
        }
    }
    let mut calibration = Calibration::of_capacities(command, date, host(), capacities, viewer_bytes.max(1.0));
    if !options.only_capacities {
        tell("taking chunks in");
        calibration.ingest_us = ingest_us(options, &programs, &calibration)?;
        tell(&format!("taking in a chunk: {:.0} us; index and route servers", calibration.ingest_us));
        let (question, join) = datagram_server(questions::index_us(&programs)?, &machines::index()?, "index")?;
        (calibration.index_question_us, calibration.index_join_us) = (question, join);
        tell(&format!("index server: a heartbeat {question:.1} us, a join {join:.1} us"));
        let (question, join) = datagram_server(questions::route_us(&programs)?, &machines::route()?, "route")?;
        (calibration.route_question_us, calibration.route_join_us) = (question, join);
        tell(&format!("route server: a renewed lease {question:.1} us, a join {join:.1} us"));
        calibration.constants_from = None;
    }
    Ok(calibration)
}

/// A question and a join at a server that took `asked_us` for a question when nobody was in it: what it took beyond its
/// machine is the datagrams' and comes once with each.
fn datagram_server(asked_us: f64, machine: &machines::Spent, name: &str) -> Result<(f64, f64)> {
    let datagram_us = asked_us - machine.idle_us;
    if datagram_us <= 0.0 {
        bail!(
            "the {name} server answered a question in {asked_us:.1} us, and its machine alone took {:.1}: measure again, \
             with nothing else running",
            machine.idle_us
        );
    }
    Ok((datagram_us + machine.question_us, DATAGRAMS_PER_JOIN * datagram_us + machine.join_us))
}

/// The most viewers in time, and the user memory of one.
fn capacity(
    options: &Options,
    programs: &Programs,
    way: Way,
    kbps: u64,
    tell: &mut dyn FnMut(&str),
) -> Result<(Capacity, f64)> {
    let mut run = |viewers: u64| -> Result<Seen> {
        let seen = level::run(options, programs, &Level { way, kbps, viewers, streams: 1 })?;
        tell(&format!("  {} at {kbps} kbit/s, {viewers} viewers: {}", way.word(), seen.verdict));
        Ok(seen)
    };
    let first = run(FIRST.min(options.viewers_max))?;
    if !first.served {
        bail!("not even {FIRST} viewers of {kbps} kbit/s were served in time: {}", first.verdict);
    }
    let bytes_per_s = chunk_bytes(kbps as f64) as f64 * CHUNKS_PER_S;
    let viewer_core = first.cpu_s_per_gib * bytes_per_s / f64::from(1 << 30);
    let guess = 0.85 * f64::from(options.cores) / viewer_core.max(1e-7);
    let (mut good, mut bad) = ((FIRST, first.clone()), None::<u64>);
    let mut next = guess.clamp(2.0 * FIRST as f64, options.viewers_max as f64) as u64;
    loop {
        let seen = run(next)?;
        if seen.served {
            good = (next, seen);
        } else if seen.tool_is_bottleneck && seen.everybody_served {
            bail!(
                "at {next} viewers of {kbps} kbit/s by {} the load tool is slower than the cache: give it more CPUs \
                 (--load-cpus), or run it on another machine",
                way.word()
            );
        } else {
            bad = Some(next);
        }
        next = match bad {
            Some(bad) if bad as f64 <= good.0 as f64 * NEAR => break,
            Some(bad) => ((bad as f64 * good.0 as f64).sqrt()).round() as u64,
            None if good.0 >= options.viewers_max => bail!(
                "all {} viewers of {kbps} kbit/s were served: the descriptors end before the cores do. Measure a faster \
                 stream (--kbps), or raise the limit (ulimit -n) and --viewers-max",
                good.0
            ),
            None => ((good.0 as f64 * 1.12) as u64).min(options.viewers_max),
        };
    }
    let (viewers, seen) = good;
    let capacity = Capacity {
        way,
        kbps: kbps as f64,
        cores: f64::from(options.cores),
        viewers: viewers as f64,
        p99_ms: seen.p99_ms,
        cpu_s_per_gib: seen.cpu_s_per_gib,
    };
    Ok((capacity, first.viewer_bytes))
}

/// What is left of the work with many streams when sending to their few viewers is taken off.
fn ingest_us(options: &Options, programs: &Programs, calibration: &Calibration) -> Result<f64> {
    let level = Level { way: Way::Push, kbps: STREAMS_KBPS, viewers: STREAMS, streams: STREAMS };
    let seen = level::run(options, programs, &level)?;
    if !seen.everybody_served {
        bail!("{STREAMS} publishers of {STREAMS_KBPS} kbit/s were too many: {}", seen.verdict);
    }
    let chunks = STREAMS as f64 * CHUNKS_PER_S * seen.seconds;
    let send_s = calibration.send(Way::Push).core_s(chunk_bytes(STREAMS_KBPS as f64));
    let each = seen.cpu_s / chunks - send_s;
    (each > 0.0).then_some(each * 1e6).context("taking chunks in cost less than sending them: measure again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_its_machine_and_its_datagrams() {
        let machine = machines::Spent { idle_us: 2.0, question_us: 3.0, join_us: 20.0 };
        // 8 us for a question of which 2 are the machine's: 6 for each datagram, three of them with a join.
        assert_eq!(datagram_server(8.0, &machine, "index").expect("measured"), (9.0, 38.0));
        let said = datagram_server(1.5, &machine, "index").expect_err("less than nothing").to_string();
        assert!(said.contains("1.5 us") && said.contains("2.0"), "{said}");
    }
}
