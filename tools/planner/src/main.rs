//! `weircast-plan`: what hardware an audience needs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use cache_core::proto::cache::admission::Budget;
use clap::{Args, Parser, Subcommand};
use weircast_planner::calibrate::{self, Words, calibrate};
use weircast_planner::calibration::{Calibration, Way};
use weircast_planner::offload::{OffloadRun, OffloadTables};
use weircast_planner::scenario::{Latency, Scenario, Survive};
use weircast_planner::simulate::{self, Grid};
use weircast_planner::{check, plan::plan, report, trust};

/// Tells how many nodes an audience needs, what of them is full first, and what more of it buys.
///
/// Exit code 0: a plan, or what was asked; 1: there is none, and the message says which value and why; 2: the command line.
#[derive(Debug, Parser)]
#[command(name = "weircast-plan", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Plans. Try: weircast-plan example > evening.toml; weircast-plan plan evening.toml
    Plan(Box<PlanTask>),
    /// Prints a scenario to begin with: weircast-plan example > evening.toml
    Example,
    /// Measures this node: runs weircast-cache under weircast-load, index and route servers under questions.
    Calibrate(CalibrateTask),
    /// Makes a table of offload with the simulator.
    Simulate(SimulateTask),
    /// Compares predictions with capacities or simulated runs that were not used for them; fails when one is too far off.
    Check(CheckTask),
}

#[derive(Debug, Args)]
struct PlanTask {
    /// The scenario (TOML).
    scenario: PathBuf,
    /// What `weircast-plan calibrate` measured; without it, what was recorded on another machine.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// What `weircast-plan simulate` made, of the scenario's latency profile; without it, what comes with the planner.
    #[arg(long)]
    offload: Option<PathBuf>,
    /// Shows how everything was reckoned, line by line.
    #[arg(long)]
    working: bool,
    /// Writes the plan as JSON too; `-`: to standard output, instead of text.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the plan as one self-contained HTML page too.
    #[arg(long)]
    html: Option<PathBuf>,
    #[command(flatten)]
    instead: Instead,
}

/// Values that take the place of the scenario's.
#[derive(Debug, Args)]
struct Instead {
    /// Viewers at the peak.
    #[arg(long, allow_negative_numbers = true)]
    viewers: Option<i64>,
    /// Domains; 0: as many as make the fewest nodes.
    #[arg(long, allow_negative_numbers = true)]
    domains: Option<i64>,
    /// Share of every resource that stays free.
    #[arg(long, allow_negative_numbers = true)]
    headroom: Option<f64>,
    /// What may fail: none, node, domain.
    #[arg(long, value_parser = word::<Survive>)]
    survive: Option<Survive>,
    /// The latency profile: classic, mid, low.
    #[arg(long, value_parser = word::<Latency>)]
    latency: Option<Latency>,
    /// Cores of a cache.
    #[arg(long, allow_negative_numbers = true)]
    cores: Option<f64>,
    /// Speed of a cache's network card, Mbit/s.
    #[arg(long, allow_negative_numbers = true)]
    nic_mbps: Option<f64>,
    /// Memory of a cache, MiB.
    #[arg(long, allow_negative_numbers = true)]
    memory_mib: Option<i64>,
    /// Descriptors of a cache.
    #[arg(long, allow_negative_numbers = true)]
    descriptors: Option<i64>,
}

#[derive(Debug, Args)]
struct CalibrateTask {
    /// Where the calibration is written.
    #[arg(short, long)]
    out: PathBuf,
    /// The folder of weircast-cache, weircast-load, weircast-index and weircast-route, built in release. Left out: this
    /// program's own.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// CPUs of the server, as `taskset -c` takes them.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load. Left out: all others.
    #[arg(long)]
    load_cpus: Option<String>,
    /// Cores that --server-cpus are.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_023))]
    cores: u32,
    /// Ways of sending: http, pull, push.
    #[arg(long, value_delimiter = ',', default_value = "http,pull,push", value_parser = word::<Way>)]
    ways: Vec<Way>,
    /// Rates, kbit/s: a grid in which every stream planned for lies between two that are near each other.
    #[arg(long, value_delimiter = ',', default_value = "2000,4000,8000,16000", value_parser = rate())]
    kbps: Vec<u64>,
    /// How often each capacity is measured, every rate in turn; the middle counts. With --add those with the fewest rounds
    /// come first, so that a run that was cut short is gone on with.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Most viewers to try: descriptors of one process bound them.
    #[arg(long, default_value_t = 19_000, value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    viewers_max: u64,
    /// Length of each measured span.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// The longest 99th percentile of lateness that counts as in time. By default what a cache's configuration allows a
    /// chunk's fan-out before it refuses joins.
    #[arg(long, default_value_t = Budget::default().fanout_max.millis() as f64)]
    p99_ms_max: f64,
    /// Measures only the most viewers: for `check`, or with --add. What taking in, index and route servers cost stays another
    /// machine's until a run without this, and plans say so.
    #[arg(long)]
    only_capacities: bool,
    /// Keeps what --out holds already: a calibration may be made in several runs, of which the first one begins the file. What
    /// is measured again gets more rounds.
    #[arg(long)]
    add: bool,
}

#[derive(Debug, Args)]
struct SimulateTask {
    /// Where the table is written.
    #[arg(short, long)]
    out: PathBuf,
    /// A scenario of the simulator with everything but uplinks and numbers of peers. Left out: its defaults, with the
    /// profile's peers.
    #[arg(long)]
    base: Option<PathBuf>,
    /// The latency profile; with --base, of that scenario's peers.
    #[arg(long, default_value = "classic", value_parser = word::<Latency>)]
    latency: Latency,
    /// Mean uplinks over the stream's rate.
    #[arg(long, allow_negative_numbers = true, value_delimiter = ',', default_value = "0.5,0.65,0.8,1,1.15,1.3,2,3")]
    uplinks: Vec<f64>,
    /// Peers.
    #[arg(long, value_delimiter = ',', default_value = "60,200,600")]
    peers: Vec<u32>,
    /// Seeds of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Simulated seconds of each run; left out, the scenario's.
    #[arg(long)]
    seconds: Option<u64>,
    /// Keeps the tables of other profiles that --out holds already.
    #[arg(long)]
    add: bool,
}

#[derive(Debug, Args)]
struct CheckTask {
    /// The calibration that predicts; left out, the recorded one.
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// A calibration whose capacities are predicted.
    #[arg(long)]
    measured: Option<PathBuf>,
    /// Rates in kbit/s that are left out of --calibration, all at once, and each predicted from those that are left.
    #[arg(long, value_delimiter = ',')]
    leave_out: Vec<f64>,
    /// The table of offload that predicts; left out, the one that comes with the planner.
    #[arg(long)]
    offload: Option<PathBuf>,
    /// A table of offload whose runs are predicted.
    #[arg(long)]
    simulated: Option<PathBuf>,
    /// How far off a capacity may be, relative.
    #[arg(long, default_value_t = 0.10)]
    tolerance: f64,
    /// How far off an offload may be, relative.
    #[arg(long, default_value_t = 0.05)]
    offload_tolerance: f64,
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    let done = match task {
        Task::Plan(task) => run_plan(&task).map(|()| true),
        Task::Example => {
            print!("{}", include_str!("../examples/evening.toml"));
            Ok(true)
        }
        Task::Calibrate(task) => run_calibrate(&task).map(|()| true),
        Task::Simulate(task) => run_simulate(&task).map(|()| true),
        Task::Check(task) => run_check(&task),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weircast-plan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_plan(task: &PlanTask) -> Result<()> {
    let text = read(&task.scenario)?;
    let mut scenario: Scenario = toml::from_str(&text).map_err(|error| not_a_scenario(&task.scenario, &error))?;
    task.instead.put_into(&mut scenario);
    let calibration = calibration(task.calibration.as_deref())?;
    scenario.check()?;
    let tables = offload(task.offload.as_deref())?;
    let plan = plan(&scenario, &calibration, tables.of(scenario.latency)?)?;
    if let Some(path) = &task.html {
        write(path, &report::html(&plan))?;
    }
    let json = serde_json::to_string_pretty(&plan).context("the plan as JSON")?;
    match &task.json {
        Some(path) if path.as_os_str() == "-" => {
            println!("{json}");
            return Ok(());
        }
        Some(path) => write(path, &json)?,
        None => {}
    }
    print!("{}", report::text(&plan, task.working));
    Ok(())
}

/// What a reader of the scenario misses, in an operator's words.
fn not_a_scenario(path: &Path, error: &toml::de::Error) -> anyhow::Error {
    let why =
        error.to_string().replace("expected i64", "write a whole number").replace("expected f64", "write a number");
    anyhow!(
        "{}: {}\n(`weircast-plan example` prints a scenario with every key explained)",
        path.display(),
        why.trim_end()
    )
}

impl Instead {
    fn put_into(&self, scenario: &mut Scenario) {
        scenario.viewers = self.viewers.unwrap_or(scenario.viewers);
        if let Some(count) = self.domains {
            scenario.domains.count = count;
            scenario.domains.shares.clear();
        }
        scenario.headroom = self.headroom.unwrap_or(scenario.headroom);
        scenario.survive = self.survive.unwrap_or(scenario.survive);
        scenario.latency = self.latency.unwrap_or(scenario.latency);
        let cache = &mut scenario.cache;
        cache.cores = self.cores.unwrap_or(cache.cores);
        cache.nic_mbps = self.nic_mbps.unwrap_or(cache.nic_mbps);
        cache.memory_mib = self.memory_mib.unwrap_or(cache.memory_mib);
        cache.descriptors = self.descriptors.unwrap_or(cache.descriptors);
    }
}

fn run_calibrate(task: &CalibrateTask) -> Result<()> {
    let before = if task.add { begun(&task.out)? } else { None };
    can_write(&task.out)?;
    let programs = match &task.programs {
        Some(programs) => programs.clone(),
        None => {
            let own = std::env::current_exe().context("this program's own folder")?;
            own.parent().context("a program lies in a folder")?.to_owned()
        }
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus < 2 {
        bail!("this machine has one CPU: server and load would share it, and nothing could be said of either");
    }
    let load_cpus = task.load_cpus.clone().unwrap_or_else(|| format!("{}-{}", task.cores, cpus - 1));
    let options = calibrate::Options {
        programs,
        server_cpus: Some(task.server_cpus.clone()),
        load_cpus: Some(load_cpus),
        cores: task.cores,
        ways: task.ways.clone(),
        kbps: task.kbps.clone(),
        rounds: task.rounds,
        viewers_max: task.viewers_max,
        seconds: task.seconds,
        p99_ms_max: task.p99_ms_max,
        only_capacities: task.only_capacities,
    };
    let words = |values: Vec<String>| values.join(",");
    let command = format!(
        "weircast-plan calibrate --ways {} --kbps {} --rounds {} --seconds {} --server-cpus {} --cores {}{}",
        words(task.ways.iter().map(|way| way.word().to_owned()).collect()),
        words(task.kbps.iter().map(u64::to_string).collect()),
        task.rounds,
        task.seconds,
        task.server_cpus,
        task.cores,
        if task.only_capacities { " --only-capacities" } else { "" }
    );
    let with_before = |newer: Calibration, only_capacities| match &before {
        Some(before) => before.clone().and(newer, only_capacities),
        None => newer,
    };
    let save = |calibration: &Calibration| {
        write(&task.out, &serde_json::to_string_pretty(calibration).context("the calibration as JSON")?)
    };
    let words = Words { command, date: today() };
    // A run that is cut short has kept what it found.
    let keep = &mut |so_far: &Calibration| save(&with_before(so_far.clone(), true));
    let newer = calibrate(&options, before.as_ref(), &words, keep, &mut |line| eprintln!("{line}"))?;
    let calibration = with_before(newer, task.only_capacities);
    save(&calibration)?;
    trust::lines(&calibration).iter().for_each(|line| println!("{line}"));
    trust::doubts(&calibration).iter().for_each(|doubt| println!("! {doubt}"));
    Ok(())
}

/// What `--add` adds to: a file of this machine, if there is one.
fn begun(path: &Path) -> Result<Option<Calibration>> {
    if !path.try_exists().with_context(|| format!("{} cannot be read", path.display()))? {
        return Ok(None);
    }
    let (before, host) = (calibration(Some(path))?, calibrate::host());
    if before.host != host {
        bail!(
            "--add: {} was measured on \"{}\", and this is \"{host}\"; write to another file",
            path.display(),
            before.host
        );
    }
    Ok(Some(before))
}

fn run_simulate(task: &SimulateTask) -> Result<()> {
    can_write(&task.out)?;
    let before = if task.add && task.out.exists() { offload(Some(&task.out))? } else { OffloadTables::default() };
    let mut base = weircast_sim::scenario::Scenario { peer: task.latency.profile().tuning(), ..Default::default() };
    if let Some(path) = &task.base {
        base = toml::from_str(&read(path)?).with_context(|| path.display().to_string())?;
        base.check().with_context(|| path.display().to_string())?;
    }
    base.duration_s = task.seconds.unwrap_or(base.duration_s);
    let grid = Grid { base, uplinks: task.uplinks.clone(), peers: task.peers.clone(), seeds: task.seeds };
    let origin = format!(
        "weircast-plan simulate, {} s simulated, {} s of them warm-up, {} kbit/s, {} seed(s), {}",
        grid.base.duration_s,
        grid.base.warmup_s,
        grid.base.stream.kbps,
        grid.seeds,
        today()
    );
    let tell = &mut |run: &OffloadRun| {
        eprintln!(
            "uplink {} with {} peers: offload {:.4}, continuity {:.4}, control {:.4}",
            run.uplink, run.peers, run.offload, run.continuity, run.control
        );
    };
    let mut tables = before;
    tables.put(simulate::table(&grid, task.latency, &origin, tell)?);
    write(&task.out, &serde_json::to_string_pretty(&tables).context("the tables as JSON")?)
}

fn run_check(task: &CheckTask) -> Result<bool> {
    let mut good = true;
    let mut told = 0;
    let mut tell = |(within, lines): (bool, Vec<String>)| {
        good &= within;
        told += lines.len();
        lines.iter().for_each(|line| println!("{line}"));
    };
    if let Some(path) = &task.measured {
        let predicting = calibration(task.calibration.as_deref())?;
        tell(check::judge(&check::capacities(&predicting, &calibration(Some(path))?), task.tolerance));
    }
    if !task.leave_out.is_empty() {
        let compared = check::left_out(&calibration(task.calibration.as_deref())?, &task.leave_out)?;
        tell(check::judge(&compared, task.tolerance));
    }
    if let Some(path) = &task.simulated {
        let predicting = offload(task.offload.as_deref())?;
        for simulated in offload(Some(path))?.iter() {
            println!("latency {}:", simulated.latency);
            let table = predicting.of(simulated.latency)?.read()?;
            tell(check::judge(&check::offloads(&table, &simulated.runs), task.offload_tolerance));
        }
    }
    if told == 0 {
        bail!("nothing to compare: say --measured FILE, --calibration FILE --leave-out KBPS,KBPS, or --simulated FILE");
    }
    Ok(good)
}

fn calibration(path: Option<&Path>) -> Result<Calibration> {
    let Some(path) = path else { return Ok(Calibration::recorded()) };
    Calibration::read(&read(path)?).with_context(|| path.display().to_string())
}

fn offload(path: Option<&Path>) -> Result<OffloadTables> {
    let Some(path) = path else { return Ok(OffloadTables::recorded()) };
    let what = || format!("{} holds no tables made by `weircast-plan simulate`", path.display());
    serde_json::from_str(&read(path)?).with_context(what)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// Told before minutes are spent on what cannot be written then.
fn can_write(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("--out {}: there is no folder {}", path.display(), folder.display());
    }
    Ok(())
}

/// A word as the scenario's file has it.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// A rate that can be measured.
fn rate() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(trust::RATES)
}

/// The date, by the proleptic Gregorian calendar, in UTC.
fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let days = (since.as_secs() / 86_400) as i64 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
