//! `weircast top` beside a real cache: it shows what `/stats` says, and still shows it when the cache stands still.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use weircast_testbed::cluster::StandAlone;
use weircast_testbed::wait::HANG;
use weircast_testbed::{Process, Programs, eventually, http};

const VIEWERS: u64 = 12;

struct Watched {
    programs: Programs,
    alone: StandAlone,
    _load: Process,
}

impl Watched {
    /// A cache of two shards with a stream and viewers, all of them served.
    fn start() -> Result<Watched> {
        let programs = Programs::find()?;
        let alone = StandAlone::start(&programs, 2, 64, "")?;
        let cache = alone.cache.listen.to_string();
        let args = ["run", "--cache", &cache, "-n", &VIEWERS.to_string(), "--seconds", "600", "--mode", "push"]
            .map(str::to_owned);
        let load = alone.spawn(&programs, "load", "weircast-load", &args)?;
        let watched = Watched { programs, alone, _load: load };
        let served = || {
            let stats = watched.stats().ok()?;
            let sent = stats["shards"].as_array()?.iter().filter_map(|shard| shard["chunks_sent"].as_u64());
            (stats["viewers"] == VIEWERS && sent.sum::<u64>() > 5 * VIEWERS).then_some(())
        };
        eventually("viewers are served", HANG, served)?;
        Ok(watched)
    }

    fn stats(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&http::get(self.alone.cache.listen, "/stats")?.body)?)
    }

    /// What `weircast top` prints with this argument.
    fn top(&self, how: &str) -> Result<String> {
        let pid = self.alone.cache.process.pid().to_string();
        let shown = Command::new(self.programs.path("weircast")?).args(["top", "--pid", &pid, how]).output()?;
        ensure!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        Ok(String::from_utf8(shown.stdout)?)
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.top("--json")?)?)
    }
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}

#[test]
fn a_cache_under_load_is_shown_as_it_is() -> Result<()> {
    let watched = Watched::start()?;
    let before = watched.stats()?;
    let shown = watched.json()?;
    let after = watched.stats()?;
    let (node, pid) = (&shown["node"], watched.alone.cache.process.pid());
    ensure!(node["pid"] == pid && node["listen"] == before["listen"], "{shown:#}");
    ensure!(node["viewers"] == VIEWERS && node["connections_max"] == before["connections_max"], "{shown:#}");
    ensure!(number(&node["out_bits_per_s"])? > 0.0 && number(&node["in_bits_per_s"])? > 0.0, "{shown:#}");
    ensure!(shown["not_counted"] == Value::Array(Vec::new()), "top looks for what is not counted: {shown:#}");
    // Every counter of /stats is there, and was read between the two questions.
    let shards = shown["shards"].as_array().context("shards")?;
    ensure!(shards.len() == 2, "{shown:#}");
    let mut tables = vec![(&before["control"], &shown["control"]["counters"], &after["control"])];
    tables.push((&before["ring"], &shown["ring"]["counters"], &after["ring"]));
    for (index, shard) in shards.iter().enumerate() {
        tables.push((&before["shards"][index], &shard["counters"], &after["shards"][index]));
    }
    for (before, shown, after) in tables {
        let mut before = before.as_object().context("an object")?.clone();
        // What was found of a former process's chunks is known in the process only: it does not stand on the board.
        before.retain(|name, _| !["inherited_whole", "inherited_broken"].contains(&name.as_str()));
        ensure!(before.len() == shown.as_object().context("an object")?.len(), "{before:?} {shown:?}");
        for (name, earlier) in &before {
            let (earlier, now, later) = (number(earlier)?, number(&shown[name])?, number(&after[name])?);
            // Levels may go up and down; what rises lies between.
            let level = ["segments_", "viewers_", "zero_copy_"].iter().any(|front| name.starts_with(front))
                || ["_permille", "_us_max", "_per_s"].iter().any(|end| name.ends_with(end))
                || ["connections", "streams_open", "admission"].contains(&name.as_str());
            ensure!(level || (earlier <= now && now <= later), "{name}: {earlier} {now} {later}");
        }
    }
    let (stream, said) = (&shown["streams"][0], &before["streams"][0]);
    for name in ["name", "id", "state", "viewers", "missing"] {
        ensure!(stream[name] == said[name], "{name}: {stream:#} {said:#}");
    }
    ensure!(number(&stream["head"])? >= number(&said["head"])?, "{stream:#} {said:#}");
    ensure!(number(&stream["kept_s"])? > 0.0 && number(&stream["in_bits_per_s"])? > 0.0, "{stream:#}");
    Ok(())
}

#[test]
fn a_cache_that_stands_still_is_shown_as_it_stood() -> Result<()> {
    let watched = Watched::start()?;
    watched.alone.cache.process.signal(Signal::STOP);
    let silent = || {
        let shown = watched.top("--once").ok()?;
        shown.contains("no sign of life for").then_some(shown)
    };
    let text = eventually("the cache falls silent", HANG, silent)?;
    ensure!(text.contains("!! node") && text.contains("weircast-cache"), "{text}");
    let shown = watched.json()?;
    ensure!(shown["node"]["viewers"] == VIEWERS && shown["streams"][0]["viewers"] == VIEWERS, "{shown:#}");
    ensure!(number(&shown["node"]["out_bits_per_s"])? == 0.0, "{shown:#}");
    ensure!(shown["troubles"][0]["level"] == "bad" && shown["troubles"][0]["whose"] == "node", "{shown:#}");
    watched.alone.cache.process.signal(Signal::CONT);
    let alive = || {
        let shown = watched.json().ok()?;
        number(&shown["node"]["silent_s"]).is_ok_and(|silent| silent < 1.0).then_some(())
    };
    eventually("it goes on", HANG, alive)?;
    Ok(())
}
