//! `check`: would it run here? Reads the configuration and binds the sockets, joins nothing, leaves nothing.

use anyhow::{Context, ensure};

use crate::cli::CheckArgs;
use crate::config::ConfigFile;
use crate::entropy;
use crate::net::links::LINKS_MAX;
use crate::net::udp::bind_both;
use crate::playout::http::PLAYERS_MAX;

/// Descriptors apart from links and players: standard streams, listeners, poll, pipes, files.
const DESCRIPTORS_ELSE: usize = 24;

/// Says what it found on standard output; the first thing that does not hold is the error.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let settings = ConfigFile::read(args.common.config.as_deref())?.with(&args.common, None, None)?;
    println!("configuration: good; route servers {:?}", settings.routes);
    let (_tcp, udp) = bind_both(settings.bind)
        .with_context(|| format!("{} cannot be listened at: choose another --bind", settings.bind))?;
    println!("address: {} for TCP and UDP", udp.local_addr()?);
    std::net::TcpListener::bind(settings.http)
        .with_context(|| format!("{} cannot be listened at: choose another --http", settings.http))?;
    entropy::seed()?;
    let wanted = LINKS_MAX + PLAYERS_MAX + DESCRIPTORS_ELSE;
    if let Some(limit) = open_files_max() {
        ensure!(limit >= wanted, "only {limit} files may be open, {wanted} are wanted: raise the limit (ulimit -n)");
        println!("open files: {limit} allowed, {wanted} wanted at most");
    }
    println!("good");
    Ok(())
}

/// The soft limit of open files; `None` where the system does not tell.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
