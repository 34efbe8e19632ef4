//! Names that say whose they are, and the removal of what a killed owner left.
//!
//! A namespace is called `weircast-PID.START-N-MEMBER`: the process that made it, the moment at which that process began
//! (process ids are used again), and the how-manieth network of the process it belongs to.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::tools;

/// Where `ip netns` keeps names.
const PLACE: &str = "/run/netns";

const PREFIX: &str = "weircast-";

/// The names of one network.
#[derive(Debug)]
pub(super) struct Family(String);

impl Family {
    /// One that no other network has.
    pub(super) fn new() -> Result<Family> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let start = began(pid).context("/proc does not tell when this process began")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Family(format!("{PREFIX}{pid}.{start}-{count}")))
    }

    /// One of its namespaces.
    pub(super) fn member(&self, what: &str) -> String {
        format!("{}-{what}", self.0)
    }
}

/// The file that stands for a namespace.
pub(super) fn place(name: &str) -> PathBuf {
    Path::new(PLACE).join(name)
}

/// Deletes namespaces, whichever of them are there. Their links go with them.
pub(super) fn delete<'a>(names: impl Iterator<Item = &'a str>) {
    let there = names.filter(|name| place(name).exists());
    let lines: String = there.map(|name| format!("netns del {name}\n")).collect();
    // A name that another process was quicker to delete stops the batch: the rest, one by one.
    if tools::ip(None, &lines).is_err() {
        for line in lines.lines() {
            // What still cannot be deleted is left to the next network's look.
            let _ = tools::ip(None, &format!("{line}\n"));
        }
    }
}

/// Deletes all namespaces whose process has gone.
pub(super) fn remove() {
    let Ok(entries) = std::fs::read_dir(PLACE) else { return };
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    delete(names.iter().map(String::as_str).filter(|name| is_orphan(name)));
}

/// Whether a name is one of ours and its process has gone.
fn is_orphan(name: &str) -> bool {
    let owner =
        name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).and_then(|(owner, _)| owner.split_once('.'));
    let Some((Ok(pid), Ok(start))) = owner.map(|(pid, start)| (pid.parse::<u32>(), start.parse::<u64>())) else {
        return false;
    };
    began(pid) != Some(start)
}

/// When a process began, in the kernel's ticks since boot; nothing when there is none.
fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted behind the name, which may hold anything but ends with the last bracket: the 22nd of all.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_processes_that_are_gone_are_orphans() {
        let (pid, start) = (std::process::id(), began(std::process::id()).expect("a beginning"));
        assert!(!is_orphan(&format!("{PREFIX}{pid}.{start}-0-router")), "ours");
        assert!(is_orphan(&format!("{PREFIX}{pid}.{}-0-router", start + 1)), "of another process with our id");
        // Beyond the kernel's largest process id.
        assert!(is_orphan(&format!("{PREFIX}4194305.7-3-h12")));
        for foreign in ["blue", "weircast", "weircast-", "weircast-x.1-0-h", "weircast-1-0-h1", "docker-1.2-3"] {
            assert!(!is_orphan(foreign), "{foreign}");
        }
    }
}
