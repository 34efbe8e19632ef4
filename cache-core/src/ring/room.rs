//! How much memory this process can still have: what the machine has left, and what its control groups leave it.
//!
//! Memory in tmpfs and memfd counts for the group of the process that touches it first. A group over its limit is not
//! told so: the kernel kills a process of it. So the limit is looked at before anything is allocated.

use std::path::Path;

/// Bytes that can be taken without swapping, and without a control group's limit; `None` when nothing can be read.
pub(super) fn memory_available() -> Option<u64> {
    let of_groups = std::fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| room_of_groups(&groups, Path::new("/sys/fs/cgroup")));
    [of_machine(), of_groups].into_iter().flatten().min()
}

/// `MemAvailable` of /proc/meminfo.
fn of_machine() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// One version's files.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that say what would be given back when memory is wanted.
    given_back: [&'static str; 2],
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    given_back: ["total_inactive_file ", "total_active_file "],
};
const V2: Files = Files { limit: "memory.max", used: "memory.current", given_back: ["inactive_file ", "active_file "] };

/// The least that any group leaves, of those in `groups` (/proc/self/cgroup) and those around them; `root` is where
/// groups are mounted. `None` when none has a limit.
fn room_of_groups(groups: &str, root: &Path) -> Option<u64> {
    let rooms = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "memory") {
            return least(&root.join("memory"), path, &V1);
        }
        // Beside version 1 the other tree stands in a folder of its own.
        let unified = controllers.is_empty().then(|| least(&root.join("unified"), path, &V2));
        unified.map(|unified| [unified, least(root, path, &V2)].into_iter().flatten().min())?
    });
    rooms.min()
}

/// The least room of `path` below `root` and of everything above it. In a container the path may not be there; its
/// group's own files are at the root then.
fn least(root: &Path, path: &str, files: &Files) -> Option<u64> {
    let deepest = root.join(path);
    deepest.ancestors().take_while(|group| group.starts_with(root)).filter_map(|group| room(group, files)).min()
}

fn room(group: &Path, files: &Files) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    // Without a limit version 2 says "max", which is no number, and version 1 a number beyond all memory.
    let (limit, used) = (number(files.limit)?, number(files.used)?);
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let line = |key: &&str| stat.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
    let given_back: u64 = files.given_back.iter().filter_map(line).sum();
    Some(limit.saturating_sub(used.saturating_sub(given_back)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let group = root.join(path);
        std::fs::create_dir_all(&group).expect("made");
        for (file, text) in files {
            std::fs::write(group.join(file), text).expect("written");
        }
    }

    #[test]
    fn version_1_leaves_what_the_tightest_group_around_leaves() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |path, limit, used| {
            group(root.path(), path, &[("memory.limit_in_bytes", limit), ("memory.usage_in_bytes", used)]);
        };
        at("memory", "9223372036854771712", "5000000");
        at("memory/pods", "1000000", "300000");
        at("memory/pods/cache", "9223372036854771712", "1000");
        group(
            root.path(),
            "memory/pods",
            &[("memory.stat", "cache 5\ntotal_inactive_file 50000\ntotal_active_file 1\n")],
        );
        let groups = "5:cpu,cpuacct:/pods\n4:memory:/pods/cache\n0::/\n";
        assert_eq!(room_of_groups(groups, root.path()), Some(750_001));
        // In a container the path is that of the host.
        assert!(room_of_groups("4:memory:/elsewhere\n", root.path()) > Some(1 << 60));
    }

    #[test]
    fn version_2_says_max_where_there_is_no_limit() {
        let root = tempfile::tempdir().expect("a directory");
        group(root.path(), "a", &[("memory.max", "max\n"), ("memory.current", "7\n")]);
        assert_eq!(room_of_groups("0::/a\n", root.path()), None);
        group(root.path(), "a/b", &[("memory.max", "4096\n"), ("memory.current", "5000\n")]);
        assert_eq!(room_of_groups("0::/a/b\n", root.path()), Some(0));
        assert_eq!(room_of_groups("0::/a\n", root.path()), None);
        assert_eq!(room_of_groups("no such line", root.path()), None);
    }
}
