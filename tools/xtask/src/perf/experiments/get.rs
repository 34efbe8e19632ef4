//! Keep-alive GET of single chunks in a closed loop: a thousand connections, each asks for the next chunk as soon as it
//! has one. The web servers serve files of the same size from the same kind of tmpfs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::reach::{JOINS_PER_SECOND, reach};
use crate::perf::load::{Load, Report};
use crate::perf::outcome::{Figures, Outcome};
use crate::perf::stage::{Server, Stage};
use crate::perf::{ours, rivals};

/// A chunk of 1 KB is 200 ms of a stream of 40 kbit/s.
const KBPS_PER_KB: u64 = 40;

/// Files that are asked for in turn: 12.8 s of chunks.
const FILES: u64 = 64;

/// Where a search of paced viewers begins, and the most.
const RANGE: (usize, usize) = (8_000, 16_000);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Ceiling,
    Weircast,
    NginxHuge,
    Nginx,
    Varnish,
}

const ALL: [Who; 5] = [Who::Ceiling, Who::Weircast, Who::NginxHuge, Who::Nginx, Who::Varnish];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Ceiling => "ceiling",
            Who::Weircast => "Weircast",
            Who::NginxHuge => "nginx, huge=always",
            Who::Nginx => "nginx, /dev/shm",
            Who::Varnish => "varnish",
        }
    }
}

/// What a run needs beside the server that it measures.
struct Target {
    server: Server,
    /// The files' address; `None` for a cache.
    url: Option<String>,
    /// What stands behind a varnish.
    _behind: Option<Server>,
}

/// Chunks of `size` KB in a closed loop.
pub(super) fn run(stage: &Stage, size: u64) -> Result<Outcome> {
    let mut outcome = Outcome::new(&[
        "chunk",
        "server",
        "connections served in full",
        "GiB/s",
        "CPU-s per GiB",
        "to nginx, huge=always",
        "share of the ceiling",
    ]);
    let connections = stage.pick(1_000, 100);
    let mut figures = Figures::default();
    let kbps = size * KBPS_PER_KB;
    let (huge, small) = (files(stage, stage.dirs.best(), kbps)?, files(stage, stage.dirs.small.path(), kbps)?);
    let key = |who: Who, what: &str| format!("{} {what}", who.name());
    for pair in 0..stage.pairs {
        for who in ALL {
            eprintln!("  {size} KB, {}, run {}", who.name(), pair + 1);
            let Some(target) = start(stage, who, kbps, &huge, &small, &mut outcome)? else { continue };
            let load = target.load(kbps).words("--mode get --closed-loop --verify none --spin");
            let load = load.with("-n", connections).with("--seconds", stage.pick(5, 2));
            let report = load.run(stage, &target.server)?;
            if who == Who::Weircast || who == Who::Ceiling && stage.quick {
                report.judge(who.name(), &mut outcome);
            }
            if !report.is_measured(who.name(), &mut outcome) {
                continue;
            }
            figures.add(key(who, "served"), report.need("served")?);
            figures.add(key(who, "rate"), report.gib_per_s()?);
            figures.add(key(who, "cpu"), report.cpu_s_per_gib()?);
            outcome.runs.push(report.value);
        }
    }
    for who in ALL {
        let rate = key(who, "rate");
        if figures.median(&rate).is_none() {
            continue;
        }
        let quotient = |to: Who| figures.paired(&rate, &key(to, "rate"));
        outcome.row([
            format!("{size} KB"),
            who.name().to_owned(),
            format!("{} of {connections}", figures.fewest(&key(who, "served"))),
            figures.shown(&rate, 2),
            figures.shown(&key(who, "cpu"), 3),
            quotient(Who::NginxHuge).map_or("-".to_owned(), |times| format!("{times:.2} times")),
            quotient(Who::Ceiling).map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        ]);
    }
    for (name, to) in [("rate-to-nginx", Who::NginxHuge), ("rate-to-ceiling", Who::Ceiling)] {
        outcome.ratio(name, figures.paired(&key(Who::Weircast, "rate"), &key(to, "rate")));
    }
    Ok(outcome)
}

/// The most viewers of a 2 Mbit/s stream that ask for a chunk each 200 ms and get it in time.
pub(super) fn most(stage: &Stage) -> Result<Outcome> {
    let mut outcome =
        Outcome::new(&["server", "most viewers with p99 < 200 ms", "to nginx, huge=always", "share of the ceiling"]);
    let mut figures = Figures::default();
    let kbps = 2_000;
    let huge = files(stage, stage.dirs.best(), kbps)?;
    let who_all = [Who::Ceiling, Who::Weircast, Who::NginxHuge];
    for pair in 0..stage.pairs.div_ceil(2) {
        for who in who_all {
            if who == Who::NginxHuge && rivals::find("nginx").is_none() {
                outcome.skip(format!("{} is not installed", who.name()));
                continue;
            }
            eprintln!("  {}, run {}", who.name(), pair + 1);
            let mut skipped = Outcome::default();
            let probe = |viewers| {
                let target = start(stage, who, kbps, &huge, &huge, &mut skipped)?.context("it was found before")?;
                let load = target.load(kbps).words("--mode get --verify none --spin").with("-n", viewers);
                load.with("--seconds", 5).with("--joins-per-second", JOINS_PER_SECOND).run(stage, &target.server)
            };
            let found = reach(stage, RANGE, probe, |report: Report| outcome.runs.push(report.value))?;
            figures.add(who.name(), found as f64);
        }
    }
    for who in who_all {
        let Some(found) = figures.median(who.name()) else { continue };
        let quotient = |to: Who| figures.paired(who.name(), to.name());
        outcome.row([
            who.name().to_owned(),
            format!("{found:.0}"),
            quotient(Who::NginxHuge).map_or("-".to_owned(), |times| format!("{times:.2} times")),
            quotient(Who::Ceiling).map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share)),
        ]);
    }
    for (name, to) in [("most-to-nginx", Who::NginxHuge), ("most-to-ceiling", Who::Ceiling)] {
        outcome.ratio(name, figures.paired(Who::Weircast.name(), to.name()));
    }
    Ok(outcome)
}

impl Target {
    fn load(&self, kbps: u64) -> Load {
        match &self.url {
            Some(url) => {
                let load = Load::new("viewers").with("--url", url).with("--get-modulo", FILES).words("--generated");
                load.with("--kbps", kbps)
            }
            None => Load::new("run").with("--cache", self.server.address).with("--kbps", kbps),
        }
    }
}

/// A fresh server; `None`, and a word in `outcome`, when it is not installed.
fn start(
    stage: &Stage,
    who: Who,
    kbps: u64,
    huge: &Path,
    small: &Path,
    outcome: &mut Outcome,
) -> Result<Option<Target>> {
    let (server, path, behind) = match who {
        Who::Ceiling => (Some(ours::still_ceiling(stage, kbps)?), "/live/load/{seq}.ts", None),
        Who::Weircast => (Some(ours::cache(stage, "")?), "", None),
        Who::NginxHuge => (rivals::nginx(stage, huge)?, "/{seq}.ts", None),
        Who::Nginx => (rivals::nginx(stage, small)?, "/{seq}.ts", None),
        Who::Varnish => match rivals::nginx(stage, huge)? {
            Some(behind) => (rivals::varnish(stage, &behind)?, "/{seq}.ts", Some(behind)),
            None => (None, "", None),
        },
    };
    let Some(server) = server else {
        outcome.skip(format!("{} is not installed", who.name()));
        return Ok(None);
    };
    let url = (who != Who::Weircast).then(|| format!("http://{}{path}", server.address));
    Ok(Some(Target { server, url, _behind: behind }))
}

/// The stream's first chunks as files `0.ts`, `1.ts` ... in a new directory below `place`.
fn files(stage: &Stage, place: &Path, kbps: u64) -> Result<PathBuf> {
    let name = stage.fresh("files").file_name().context("a file has a name")?.to_owned();
    let dir = place.join(name);
    std::fs::create_dir(&dir)?;
    let args =
        ["files", "--kbps", &kbps.to_string(), "--dir", &dir.display().to_string(), "--count", &FILES.to_string()];
    let args = args.map(str::to_owned);
    let mut maker = stage.spawn("files", &stage.programs.path("weircast-ceiling")?, &args, None)?;
    let limit = std::time::Duration::from_secs(60);
    anyhow::ensure!(stage.wait(&mut maker, limit)?, "weircast-ceiling files failed");
    Ok(dir)
}
