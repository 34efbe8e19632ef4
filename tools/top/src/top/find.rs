//! Where the rings are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cache_core::ring::RingObserver;

/// Where the service's unit has its rings (every file there), and where a cache puts one by itself.
const SERVICE_DIRECTORY: &str = "/run/weircast/slabs";
const SHM: &str = "/dev/shm";
const PREFIX: &str = "weircast-cache-";
const SUFFIX: &str = ".ring";

/// Files a process may have open that are looked at (our guess: the ring is among the first, connections come after).
const DESCRIPTORS_MAX: usize = 100_000;

/// The rings in the default places, at least one.
pub(super) fn in_default_places() -> Result<Vec<PathBuf>> {
    let mut found = files(Path::new(SERVICE_DIRECTORY), |_| true);
    found.extend(files(Path::new(SHM), |name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)));
    if found.is_empty() {
        bail!(
            "there is no ring in {SERVICE_DIRECTORY} and no {SHM}/{PREFIX}*{SUFFIX}: is a cache running? \
             Name its file (`slab` in cache.toml), or its process with --pid"
        );
    }
    Ok(found)
}

fn files(directory: &Path, is_one: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let regular = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut found: Vec<_> = regular.filter(|entry| is_one(&entry.file_name().to_string_lossy())).collect();
    found.sort_by_key(std::fs::DirEntry::file_name);
    found.into_iter().map(|entry| entry.path()).collect()
}

/// The ring that process `pid` has open, by its descriptor's path, which also opens a memfd.
pub(super) fn of_process(pid: u32) -> Result<PathBuf> {
    let directory = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = std::fs::read_dir(&directory).with_context(|| {
        format!("cannot look at process {pid}: is it running, and yours? (another user's needs root or CAP_SYS_PTRACE)")
    })?;
    let mut foreign = None;
    for entry in entries.flatten().take(DESCRIPTORS_MAX) {
        let path = entry.path();
        // Only regular files are opened: opening a pipe or a device could wait, or do something.
        if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
            continue;
        }
        match RingObserver::open(&path) {
            Ok(_) => return Ok(path),
            Err(error @ cache_core::ring::RingError::Version { .. }) => foreign = Some(error),
            Err(_) => {}
        }
    }
    match foreign {
        Some(error) => Err(error.into()),
        None => bail!("process {pid} has no ring open: is it a weircast-cache?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_of_the_right_name_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["weircast-cache-b.ring", "weircast-cache-a.ring", "other.ring"] {
            std::fs::write(directory.path().join(name), b"x").expect("room");
        }
        std::fs::create_dir(directory.path().join("weircast-cache-c.ring")).expect("room");
        let names = |found: Vec<PathBuf>| found.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let found = names(files(directory.path(), |name| name.starts_with(PREFIX)));
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("weircast-cache-a.ring") && found[1].ends_with("weircast-cache-b.ring"));
        assert_eq!(files(&directory.path().join("nowhere"), |_| true), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_process_without_a_ring_is_said_to_have_none() {
        let said = of_process(std::process::id()).expect_err("this test has none").to_string();
        assert!(said.contains("has no ring open"), "{said}");
        let said = of_process(u32::MAX).expect_err("nobody has this number").to_string();
        assert!(said.contains("cannot look at process"), "{said}");
    }
}
