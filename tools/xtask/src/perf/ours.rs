//! Weircast's cache and the ceiling, as experiments start them.

use anyhow::{Context, Result};

use weircast_testbed::Process;

use super::stage::{Server, Stage};

/// Memory of the cache's rings; a window of 51.2 s of one stream of 20 Mbit/s is 128 MiB.
const MEMORY_MIB: usize = 512;

/// A minute: joins are not refused, so that the limit of what is served in time is found and not the limit of what is
/// let in.
const NO_LIMIT_MS: u32 = 60_000;

/// A stand-alone cache with one shard, its slab on the best tmpfs there is. `more`: further lines of its configuration
/// that replace no line here.
pub(crate) fn cache(stage: &Stage, more: &str) -> Result<Server> {
    cache_with(stage, MEMORY_MIB, more)
}

/// The same with other memory.
pub(crate) fn cache_with(stage: &Stage, memory_mib: usize, more: &str) -> Result<Server> {
    let config = stage.fresh("cache.toml");
    let name = config.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
    let slab = stage.dirs.best().join(format!("{name}.slab"));
    let text = format!(
        "listen = \"127.0.0.1:0\"\nindex = []\ncluster_secret = \"\"\nshards = 1\nmemory_mib = {memory_mib}\n\
         busy_max_permille = 1000\nfanout_ms_max = {NO_LIMIT_MS}\nslab = \"{}\"\n{more}\n",
        slab.display()
    );
    std::fs::write(&config, text)?;
    let args = ["--config".to_owned(), config.display().to_string()];
    Ok(stage.ours("weircast", "weircast-cache", &args)?.0.leaves(slab))
}

/// The bare sendfile loop with a stream of `kbps`, from the best tmpfs.
pub(crate) fn ceiling(stage: &Stage, kbps: u64) -> Result<Server> {
    ceiling_with(stage, kbps, &[])
}

/// The same for single chunks: none comes and none is overwritten.
pub(crate) fn still_ceiling(stage: &Stage, kbps: u64) -> Result<Server> {
    ceiling_with(stage, kbps, &["--still"])
}

fn ceiling_with(stage: &Stage, kbps: u64, more: &[&str]) -> Result<Server> {
    let dir = stage.dirs.best().display().to_string();
    let mut args = ["serve", "--kbps", &kbps.to_string(), "--dir", &dir].map(str::to_owned).to_vec();
    args.extend(more.iter().map(|word| (*word).to_owned()));
    Ok(stage.ours("ceiling", "weircast-ceiling", &args)?.0)
}

/// A bare relay of so many chunks, which tells its quantiles in its ready line. `spin`: its peer does not sleep.
pub(crate) fn relay(stage: &Stage, chunks: &str, spin: bool) -> Result<Process> {
    let mut args: Vec<String> = ["relay", "--chunks", chunks].map(str::to_owned).to_vec();
    if stage.cpus.server.is_some() {
        args.extend(["--cpu", "0", "--sink-cpu", "1"].map(str::to_owned));
    }
    args.extend(spin.then(|| "--spin".to_owned()));
    stage.spawn("relay", &stage.programs.path("weircast-ceiling")?, &args, None)
}
