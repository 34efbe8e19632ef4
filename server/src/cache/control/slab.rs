//! The chunk ring's file: where it stands, and what is left of dead processes there.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_core::ring::{Backing, Recycle, RingObserver, is_hugetlbfs};
use cache_core::time::Span;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::config::{CacheConfig, Slab};
use super::huge;
use crate::cache::data::SendBackend;
use crate::host::config::ConfigError;

const DIRECTORY: &str = "/dev/shm";
const PREFIX: &str = "weircast-cache-";
const SUFFIX: &str = ".ring";

/// How often a cache says that its file is in use, by the file's time of change.
pub(super) const TOUCH_EVERY: Span = Span::from_secs(10);

/// A file whose cache has been dead for so long is removed by any other cache that starts here, and not taken over by its own
/// (our guess: who is started again later has an audience that has gone, and a window of 51 s that is over).
const STALE_AFTER: Duration = Duration::from_secs(60);

const _: () = assert!(STALE_AFTER.as_secs() * 1000 > 2 * TOUCH_EVERY.millis(), "a living cache's file is never stale");

/// Where the ring's memory goes for a cache that listens on `listen`.
///
/// A file with a name can be opened by an observer process; with `auto` it is `weircast-cache-IP-PORT.ring` (an
/// IPv6 address's colons as `_`) at `huge_pages_at` if that is prepared, else in `/dev/shm`, else it is a memfd.
pub(super) fn backing(config: &CacheConfig, listen: SocketAddr) -> Result<Backing, ConfigError> {
    Ok(match config.slab()? {
        Slab::Memfd => {
            tracing::warn!("slab = \"memfd\": a restart loses the chunk ring; \"auto\" or a path on a tmpfs keeps it");
            Backing::Memfd
        }
        Slab::Path(path) => Backing::File(path),
        Slab::Auto => {
            let ip = listen.ip().to_string().replace(':', "_");
            let name = format!("{PREFIX}{ip}-{}{SUFFIX}", listen.port());
            if huge::is_ready(&config.huge_pages_at) {
                Backing::File(config.huge_pages_at.join(name))
            } else if Path::new(DIRECTORY).is_dir() {
                Backing::File(Path::new(DIRECTORY).join(name))
            } else {
                tracing::warn!(
                    "there is no {DIRECTORY}: the chunk ring is a memfd, which is lost at a restart and which observers \
                     cannot open by name"
                );
                Backing::Memfd
            }
        }
    })
}

/// Whether a next process with this configuration would look at the same place. With port 0 the name is another each time.
pub(super) fn can_be_found_again(config: &CacheConfig) -> Result<bool, ConfigError> {
    Ok(config.slab()? != Slab::Auto || config.listen.port() != 0)
}

/// Whether chunks can be sent from there: neither sendfile nor splice reads a hugetlbfs (EINVAL, at the first chunk).
pub(super) fn is_sendable(send: SendBackend, backing: &Backing) -> Result<(), ConfigError> {
    match backing {
        Backing::File(path) if path.parent().is_some_and(is_hugetlbfs) => from_hugetlbfs(send, path),
        _ => Ok(()),
    }
}

fn from_hugetlbfs(send: SendBackend, path: &Path) -> Result<(), ConfigError> {
    match send {
        SendBackend::SendZc | SendBackend::Copy => Ok(()),
        // `auto` falls back to it.
        SendBackend::Sendfile | SendBackend::Auto => Err(ConfigError::value(
            "slab",
            format!(
                "{} is on a hugetlbfs, which sendfile cannot read: for huge pages leave `slab` out and run \
                 weircast-cache prepare, or set send = \"copy\" or \"send_zc\"",
                path.display()
            ),
        )),
    }
}

/// How a segment is made safe for reuse under a way of sending.
pub(super) const fn recycle(send: SendBackend) -> Recycle {
    match send {
        SendBackend::Sendfile | SendBackend::Auto => Recycle::Punch,
        SendBackend::SendZc | SendBackend::Copy => Recycle::InPlace,
    }
}

/// Removes the files of caches that were killed a while ago, but for `own`, which this cache is about to take over. A living
/// ring holds a lock on its file. Returns what was removed.
pub(super) fn sweep(own: &Backing) -> Vec<PathBuf> {
    let mut removed = sweep_directory(Path::new(DIRECTORY), own, STALE_AFTER);
    if let Backing::File(path) = own
        && let Some(directory) = path.parent().filter(|directory| *directory != Path::new(DIRECTORY))
    {
        removed.extend(sweep_directory(directory, own, STALE_AFTER));
    }
    removed
}

/// Removes this cache's own ring if the process that kept it has been dead for too long: its chunks would be served as live.
/// What is no ring is not this one's to remove. Whether it did.
pub(super) fn remove_own_if_stale(own: &Backing) -> bool {
    match own {
        Backing::File(path) => RingObserver::open(path).is_ok() && remove_if_stale(path, STALE_AFTER),
        Backing::Memfd => false,
    }
}

fn sweep_directory(directory: &Path, own: &Backing, stale_after: Duration) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX) && Backing::File(path.clone()) != *own
    };
    let paths = entries.flatten().map(|entry| entry.path()).filter(ours);
    paths.filter(|path| remove_if_stale(path, stale_after)).collect()
}

/// Removes a dead cache's file, whether it did. Everyone may make files where it looks, so it opens nothing that could keep
/// it waiting. The lock is held until the name is gone: a cache that is started again meanwhile waits, finds that the file
/// has no name any more, and makes a new one.
fn remove_if_stale(path: &Path, stale_after: Duration) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()).map(std::fs::File::from) else { return false };
    let Ok(meta) = file.metadata() else { return false };
    let old = meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= stale_after));
    meta.is_file()
        && old
        && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        // Another sweep may have come first; then the name is no longer this file's.
        && file.metadata().is_ok_and(|meta| meta.nlink() > 0)
        && std::fs::remove_file(path).is_ok()
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn a_dead_caches_file_goes_and_a_living_ones_and_ones_own_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let name = |port| format!("weircast-cache-127.0.0.1-{port}.ring");
        for name in [&name(1), &name(2), &name(3), "other.ring"] {
            std::fs::write(path(name), b"x").expect("written");
        }
        // What could keep who opens it waiting.
        rustix::fs::mknodat(rustix::fs::CWD, path(&name(4)), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        std::os::unix::fs::symlink(path("other.ring"), path(&name(5))).expect("a link");
        let own = Backing::File(path(&name(3)));
        let living = std::fs::File::open(path(&name(2))).expect("open");
        flock(&living, FlockOperation::NonBlockingLockExclusive).expect("locked");
        assert_eq!(sweep_directory(directory.path(), &own, STALE_AFTER), Vec::<PathBuf>::new(), "all are young");
        let removed = sweep_directory(directory.path(), &own, Duration::ZERO);
        assert_eq!(removed, [path(&name(1))]);
    }

    #[test]
    fn what_sends_by_sendfile_takes_no_hugetlbfs() {
        let at = |send| from_hugetlbfs(send, Path::new("/mnt/huge/ring"));
        for send in [SendBackend::Sendfile, SendBackend::Auto] {
            let said = at(send).expect_err("the kernel cannot").to_string();
            assert!(said.starts_with("slab: /mnt/huge/ring ") && said.contains("send = \"copy\""), "{said}");
        }
        assert!([SendBackend::SendZc, SendBackend::Copy].into_iter().all(|send| at(send).is_ok()));
        let in_memory = Backing::File("/dev/shm/ring".into());
        assert!(is_sendable(SendBackend::Sendfile, &in_memory).is_ok(), "no hugetlbfs");
    }

    #[test]
    fn the_file_is_named_after_the_address() {
        let config = CacheConfig::default();
        let at = |listen: &str| backing(&config, listen.parse().expect("an address")).expect("auto");
        assert_eq!(at("127.0.0.1:7400"), Backing::File("/dev/shm/weircast-cache-127.0.0.1-7400.ring".into()));
        assert_eq!(at("[::1]:7400"), Backing::File("/dev/shm/weircast-cache-__1-7400.ring".into()));
    }
}
