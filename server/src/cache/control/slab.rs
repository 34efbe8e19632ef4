//! The chunk ring's file: where it stands, and what is left of dead processes there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_core::ring::{Backing, Recycle};
use rustix::fs::{FlockOperation, flock};

use super::config::{CacheConfig, Slab};
use crate::cache::data::SendBackend;
use crate::host::config::ConfigError;

const DIRECTORY: &str = "/dev/shm";
const PREFIX: &str = "weircast-cache-";
const SUFFIX: &str = ".ring";

/// A file younger than this may belong to a process that is about to lock it.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Where the ring's memory goes for a cache that listens on `listen`.
///
/// A file with a name can be opened by an observer process; with `auto` it is `/dev/shm/weircast-cache-IP-PORT.ring`
/// (an IPv6 address's colons as `_`).
pub(super) fn backing(config: &CacheConfig, listen: SocketAddr) -> Result<Backing, ConfigError> {
    Ok(match config.slab()? {
        Slab::Memfd => Backing::Memfd,
        Slab::Path(path) => Backing::File(path),
        Slab::Auto if !Path::new(DIRECTORY).is_dir() => {
            tracing::warn!("there is no {DIRECTORY}: the chunk ring is a memfd, which observers cannot open by name");
            Backing::Memfd
        }
        Slab::Auto => {
            let ip = listen.ip().to_string().replace(':', "_");
            Backing::File(Path::new(DIRECTORY).join(format!("{PREFIX}{ip}-{}{SUFFIX}", listen.port())))
        }
    })
}

/// How a segment is made safe for reuse under a way of sending.
pub(super) const fn recycle(send: SendBackend) -> Recycle {
    match send {
        SendBackend::Sendfile | SendBackend::Auto => Recycle::Punch,
        SendBackend::SendZc | SendBackend::Copy => Recycle::InPlace,
    }
}

/// Removes the files of caches that were killed: a living ring holds a lock on its file. Returns what was removed.
pub(super) fn sweep() -> Vec<PathBuf> {
    sweep_directory(Path::new(DIRECTORY), STALE_AFTER)
}

fn sweep_directory(directory: &Path, stale_after: Duration) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(ours);
    paths.filter(|path| is_stale(path, stale_after) && std::fs::remove_file(path).is_ok()).collect()
}

fn is_stale(path: &Path, stale_after: Duration) -> bool {
    let Ok(file) = std::fs::File::open(path) else { return false };
    let modified = file.metadata().and_then(|meta| meta.modified());
    let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= stale_after));
    old && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_caches_file_goes_and_a_living_ones_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["weircast-cache-127.0.0.1-1.ring", "weircast-cache-127.0.0.1-2.ring", "other.ring"] {
            std::fs::write(path(name), b"x").expect("written");
        }
        let living = std::fs::File::open(path("weircast-cache-127.0.0.1-2.ring")).expect("open");
        flock(&living, FlockOperation::NonBlockingLockExclusive).expect("locked");
        assert_eq!(sweep_directory(directory.path(), STALE_AFTER), Vec::<PathBuf>::new(), "all are young");
        let removed = sweep_directory(directory.path(), Duration::ZERO);
        assert_eq!(removed, [path("weircast-cache-127.0.0.1-1.ring")]);
    }

    #[test]
    fn the_file_is_named_after_the_address() {
        let config = CacheConfig::default();
        let at = |listen: &str| backing(&config, listen.parse().expect("an address")).expect("auto");
        assert_eq!(at("127.0.0.1:7400"), Backing::File("/dev/shm/weircast-cache-127.0.0.1-7400.ring".into()));
        assert_eq!(at("[::1]:7400"), Backing::File("/dev/shm/weircast-cache-__1-7400.ring".into()));
    }
}
