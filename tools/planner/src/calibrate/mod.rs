//! Measures a node: `weircast-cache` under `weircast-load`, and the index and route servers under questions.
//!
//! ```text
//!  server's CPUs    weircast-cache, a fresh one for each level, its limits on joins off: a crowd of joins is none to plan for
//!  load's CPUs      weircast-load: publishes, N viewers, all of whom must get every chunk, the 99th percentile in time
//!
//!  round 1   2  4  8  16 Mbit/s   what the machine does otherwise comes and goes: every rate is measured in every round, so
//!  round 2   2  4  8  16 Mbit/s   that each is disturbed alike, and the middle of its rounds counts
//!  round 3   2  4 | 8  16         a run that is cut short is gone on with where it was: the fewest rounds come first
//! ```
//! The search for a capacity begins at what an earlier round found; a rate's first, at what its neighbour's cost for a byte
//! lets expect.
//! | module | its one job |
//! |---|---|
//! | [`server`] | a server as a process: started, measured, ended |
//! | [`level`] | one run of the load tool |
//! | [`crossing`] | which levels are run, and the capacity that follows from them |
//! | [`questions`] | datagrams to an index or route server as fast as it answers |
//! | [`machines`] | what the same servers decide, in this process, with a domain's peers in them |

mod crossing;
mod level;
mod machines;
mod questions;
mod server;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::calibration::{Calibration, Capacity, Round, Way};
use crate::cost::GAP_MAX;
use crate::node::DATAGRAMS_PER_JOIN;
use crate::sizes::{CHUNKS_PER_S, chunk_bytes};
use crate::trust::middle;
use crossing::{Next, Search};
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
    /// How often each capacity is measured, at least once; in the mean, where some have more rounds than others before.
    pub rounds: u32,
    /// Most viewers to try.
    pub viewers_max: u64,
    /// Length of each measured span.
    pub seconds: u64,
    /// The longest 99th percentile of lateness: what a cache allows a chunk's fan-out before it refuses joins.
    pub p99_ms_max: f64,
    /// Leaves out what does not depend on rates: taking chunks in, index and route servers. It stays another machine's.
    pub only_capacities: bool,
}

/// What a calibration says of itself.
#[derive(Clone, Debug)]
pub struct Words {
    /// The command that made it.
    pub command: String,
    /// When.
    pub date: String,
}

/// Viewers of the first level, which only tells what a viewer costs.
const FIRST: u64 = 500;

/// So often the first level may fail, and the load tool be too slow, before it is no accident (our guess).
const ACCIDENTS: usize = 3;

/// Streams of the measurement of taking in, each with one viewer.
const STREAMS: u64 = 200;

/// Rate of those streams, kbit/s.
const STREAMS_KBPS: u64 = 2_000;

/// Measures: ways x rates x rounds searches, each for a capacity that has the fewest rounds in `before` and since. `keep` is
/// given what there is after each, and its error ends the run; `tell` hears what is done. Errors: a program that is missing
/// or fails, a load tool that is slower than the cache, levels that never agree, too few descriptors for all rates. A rate
/// for which they are too few is told and left out.
pub fn calibrate(
    options: &Options,
    before: Option<&Calibration>,
    words: &Words,
    keep: &mut dyn FnMut(&Calibration) -> Result<()>,
    tell: &mut dyn FnMut(&str),
) -> Result<Calibration> {
    let programs = Programs::new(options)?;
    let mut found: Vec<Capacity> = Vec::new();
    let mut viewer_bytes: f64 = 1.0;
    let so_far = |found: &[Capacity], viewer_bytes| {
        let Words { command, date } = words.clone();
        Calibration::of_capacities(command, date, host(), found.to_vec(), viewer_bytes)
    };
    let before: &[Capacity] = before.map_or(&[], |before| &before.capacities);
    let mut asked = questions_of(options);
    let mut left = asked.len() * options.rounds as usize;
    while left > 0 {
        let Some(next) = fewest_rounds(&asked, before, &found) else { break };
        let capacity = asked[next].clone();
        let (way, kbps) = (capacity.way, capacity.kbps as u64);
        let known = found.iter().chain(before);
        let Some((round, bytes)) = round_of(options, &programs, way, kbps, begin(&capacity, known), tell)? else {
            asked.remove(next);
            let done = found.iter().find(|other| other.is_like(&capacity)).map_or(0, |other| other.rounds.len());
            left = left.saturating_sub((options.rounds as usize).saturating_sub(done).max(1));
            tell(&format!(
                "{} at {kbps} kbit/s is left out: {} viewers were served, the descriptors end before the cores do; raise the \
                 limit (ulimit -n) and --viewers-max to measure it",
                way.word(),
                options.viewers_max
            ));
            continue;
        };
        left -= 1;
        let (word, viewers) = (way.word(), round.viewers);
        tell(&format!("{word} at {kbps} kbit/s: {viewers:.0} viewers in time; {left} searches to go"));
        viewer_bytes = viewer_bytes.max(bytes);
        let mut rounds = match found.iter().position(|other| other.is_like(&capacity)) {
            Some(at) => found.remove(at).rounds,
            None => Vec::new(),
        };
        rounds.push(round);
        found.push(Capacity::of_rounds(way, capacity.kbps, capacity.cores, capacity.p99_ms, rounds));
        keep(&so_far(&found, viewer_bytes))?;
    }
    if found.is_empty() {
        bail!("nothing was measured: every rate's viewers were served; measure faster streams too (--kbps)");
    }
    let mut calibration = so_far(&found, viewer_bytes);
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

/// A capacity to be measured for each way and rate, without rounds.
fn questions_of(options: &Options) -> Vec<Capacity> {
    let each = options.ways.iter().flat_map(|way| options.kbps.iter().map(move |kbps| (*way, *kbps as f64)));
    let mut asked: Vec<Capacity> = Vec::new();
    for (way, kbps) in each {
        let one = Capacity::of_rounds(way, kbps, f64::from(options.cores), options.p99_ms_max, Vec::new());
        if !asked.iter().any(|other| other.is_like(&one)) {
            asked.push(one);
        }
    }
    asked
}

/// Which of `asked` has the fewest rounds in `before` and `found`, the first of equals; `None` of none.
fn fewest_rounds(asked: &[Capacity], before: &[Capacity], found: &[Capacity]) -> Option<usize> {
    let rounds = |one: &Capacity| {
        let like = before.iter().chain(found).filter(|other| other.is_like(one) && other.p99_ms == one.p99_ms);
        like.map(|other| other.rounds.len()).sum::<usize>()
    };
    (0..asked.len()).min_by_key(|at| rounds(&asked[*at]))
}

/// Where the search for `capacity` begins, as others let expect.
fn begin<'a>(capacity: &Capacity, known: impl Iterator<Item = &'a Capacity>) -> Option<Begin> {
    let away = |other: &Capacity| (other.kbps / capacity.kbps).ln().abs();
    let alike = known.filter(|other| (other.way, other.cores) == (capacity.way, capacity.cores));
    let nearest = alike.min_by(|a, b| away(a).total_cmp(&away(b)))?;
    let bytes = chunk_bytes(nearest.kbps) as f64 / chunk_bytes(capacity.kbps) as f64;
    Some(Begin { viewers: nearest.viewers * bytes, is_near: away(nearest) <= GAP_MAX.ln() })
}

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Begin {
    viewers: f64,
    /// The capacity needs no bracket.
    is_near: bool,
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

/// The most viewers in time in one round, and the user memory of one; `None`: all that may be tried are served.
fn round_of(
    options: &Options,
    programs: &Programs,
    way: Way,
    kbps: u64,
    begin: Option<Begin>,
    tell: &mut dyn FnMut(&str),
) -> Result<Option<(Round, f64)>> {
    let most = options.viewers_max as f64;
    let mut bytes: f64 = 0.0;
    let mut run = |viewers: u64| -> Result<Seen> {
        let seen = level::run(options, programs, &Level { way, kbps, viewers, streams: 1 })?;
        tell(&format!("  {} at {kbps} kbit/s, {viewers} viewers: {}", way.word(), seen.verdict));
        bytes = bytes.max(seen.viewer_bytes);
        Ok(seen)
    };
    let Begin { viewers, is_near } = match begin {
        Some(begin) => begin,
        None => Begin { viewers: first_guess(options, kbps, &mut run)?, is_near: false },
    };
    let mut search = Search::new(options.p99_ms_max, most, viewers, is_near);
    let mut levels: Vec<(f64, f64)> = Vec::new();
    let mut slow = 0;
    let viewers = loop {
        match search.next() {
            Next::Level(viewers) => {
                let seen = run(viewers)?;
                if !seen.served && seen.tool_is_bottleneck && seen.everybody_served {
                    slow += 1;
                    if slow < ACCIDENTS {
                        continue;
                    }
                    bail!(
                        "at {viewers} viewers of {kbps} kbit/s by {} the load tool is slower than the cache: give it more \
                         CPUs (--load-cpus), or run it on another machine",
                        way.word()
                    );
                }
                let in_time_or_late = seen.served || (seen.everybody_served && seen.p99_ms > options.p99_ms_max);
                search.put(viewers, in_time_or_late.then_some(seen.p99_ms));
                levels.push((viewers as f64, seen.cpu_s_per_gib));
            }
            Next::Found(viewers) => break viewers,
            Next::AllServed => return Ok(None),
            Next::Lost => bail!(
                "the levels of {kbps} kbit/s by {} never agreed on how many viewers are in time: stop what else runs on \
                 this machine, or measure longer spans (--seconds)",
                way.word()
            ),
        }
    };
    // Far from the capacity a batch is another one and costs something else.
    let near = levels.iter().filter(|(at, _)| (viewers / 1.4..=viewers * 1.4).contains(at)).map(|(_, cpu)| *cpu);
    let cpu_s_per_gib = middle(near.collect()).unwrap_or_default();
    Ok(Some((Round { viewers, cpu_s_per_gib }, bytes)))
}

/// How many viewers the CPU time of a few lets expect.
fn first_guess(options: &Options, kbps: u64, run: &mut dyn FnMut(u64) -> Result<Seen>) -> Result<f64> {
    let few = FIRST.min(options.viewers_max);
    let mut seen = run(few)?;
    for _ in 1..ACCIDENTS {
        if seen.served {
            break;
        }
        seen = run(few)?;
    }
    if !seen.served {
        bail!("not even {few} viewers of {kbps} kbit/s were served in time: {}", seen.verdict);
    }
    let bytes_per_s = chunk_bytes(kbps as f64) as f64 * CHUNKS_PER_S;
    let viewer_core = seen.cpu_s_per_gib * bytes_per_s / f64::from(1 << 30);
    Ok((0.75 * f64::from(options.cores) / viewer_core.max(1e-7)).max(2.0 * few as f64))
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

    fn at(kbps: f64, viewers: &[f64]) -> Capacity {
        let rounds = viewers.iter().map(|viewers| Round { viewers: *viewers, cpu_s_per_gib: 0.2 }).collect();
        Capacity::of_rounds(Way::Http, kbps, 1.0, 150.0, rounds)
    }

    #[test]
    fn the_rate_with_the_fewest_rounds_comes_next() {
        let asked = [at(2_000.0, &[]), at(4_000.0, &[]), at(8_000.0, &[])];
        let next = |before: &[Capacity], found: &[Capacity]| fewest_rounds(&asked, before, found);
        assert_eq!(next(&[], &[]), Some(0));
        // Cut short after the second rate: the third, then all three in turn again.
        let before = [at(2_000.0, &[9e3]), at(4_000.0, &[5e3])];
        assert_eq!(next(&before, &[]), Some(2));
        assert_eq!(next(&before, &[at(8_000.0, &[3e3])]), Some(0));
        assert_eq!(next(&before, &[at(8_000.0, &[3e3]), at(2_000.0, &[9e3])]), Some(1));
        // What was in time by another limit is no round of it.
        let other = Capacity { p99_ms: 50.0, ..at(2_000.0, &[9e3, 9e3]) };
        assert_eq!(next(&[other, at(4_000.0, &[5e3]), at(8_000.0, &[3e3])], &[]), Some(0));
        assert_eq!(fewest_rounds(&[], &[], &[]), None);
    }

    #[test]
    fn a_search_begins_where_the_nearest_rates_cost_for_a_byte_says() {
        let known = [at(4_000.0, &[5_000.0]), at(16_000.0, &[2_000.0]), Capacity { way: Way::Pull, ..at(8e3, &[9.0]) }];
        let begin = |kbps| begin(&at(kbps, &[]), known.iter()).expect("something is known");
        // 100 152 of 150 152 bytes: two thirds of the viewers, and a bit.
        let six = begin(6_000.0);
        assert!((six.viewers - 5_000.0 * 100_152.0 / 150_152.0).abs() < 1e-6 && six.is_near, "{six:?}");
        assert_eq!(begin(16_000.0), Begin { viewers: 2_000.0, is_near: true });
        assert!(!begin(1_000.0).is_near, "four times the rate says little");
        assert_eq!(super::begin(&Capacity { way: Way::Push, ..at(8e3, &[]) }, known.iter()), None);
    }

    #[test]
    fn a_server_is_its_machine_and_its_datagrams() {
        let machine = machines::Spent { idle_us: 2.0, question_us: 3.0, join_us: 20.0 };
        // 8 us for a question of which 2 are the machine's: 6 for each datagram, three of them with a join.
        assert_eq!(datagram_server(8.0, &machine, "index").expect("measured"), (9.0, 38.0));
        let said = datagram_server(1.5, &machine, "index").expect_err("less than nothing").to_string();
        assert!(said.contains("1.5 us") && said.contains("2.0"), "{said}");
    }
}
