//! Which CPUs a server runs on, and on which memory nodes these are.
//!
//! Threads inherit the CPUs of the one that starts them, and memory comes from the node of the CPU that touches it first:
//! a process that is confined to the CPUs of one node before it allocates anything has all of its memory there.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where the kernel tells of nodes.
const NODES: &str = "/sys/devices/system/node";

/// CPUs by number, as the kernel writes them: `0-15,32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(BTreeSet<usize>);

impl CpuList {
    /// Reads `text`: numbers and ranges with commas between them. `None` when it is something else or names no CPU.
    pub fn parse(text: &str) -> Option<CpuList> {
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
            let (from, to) = (number(from)?, number(to)?);
            if from > to {
                return None;
            }
            cpus.extend(from..=to);
        }
        Some(CpuList(cpus))
    }

    /// The CPUs that this thread may run on; none when that cannot be asked.
    pub fn allowed() -> CpuList {
        let Ok(set) = sched_getaffinity(None) else { return CpuList(BTreeSet::new()) };
        CpuList((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// The CPUs that this thread could be allowed: those of the machine, less what its cgroup keeps from it. A narrower
    /// choice (`taskset`) is no limit: a thread may widen its own.
    pub fn possible() -> CpuList {
        let allowed = CpuList::allowed();
        // The kernel leaves out what there is not.
        let widened = CpuList((0..CpuSet::MAX_CPU).collect()).set();
        let possible = CpuList::allowed();
        if widened.is_ok() {
            // What was allowed a moment ago still is.
            let _ = allowed.set();
        }
        possible
    }

    /// Confines this thread, and those that it will start, to these CPUs.
    ///
    /// # Errors
    /// Those that there are not, or that the cgroup keeps from this process, and which there are. Then it may run where
    /// it could before.
    pub fn confine(&self) -> Result<(), Absent> {
        let possible = CpuList::possible();
        let missing = CpuList(self.0.difference(&possible.0).copied().collect());
        // The kernel would leave them out and say nothing.
        if !missing.is_empty() || self.set().is_err() {
            return Err(Absent { missing, possible });
        }
        Ok(())
    }

    fn set(&self) -> Result<(), Errno> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|cpu| set.set(*cpu));
        sched_setaffinity(None, &set)
    }

    /// In rising order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The memory nodes that these CPUs belong to, in rising order; none when the kernel does not tell.
    pub fn nodes(&self) -> Vec<u32> {
        self.nodes_in(Path::new(NODES))
    }

    fn nodes_in(&self, directory: &Path) -> Vec<u32> {
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let mut nodes: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| {
                let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
                let cpus = CpuList::parse(&std::fs::read_to_string(entry.path().join("cpulist")).ok()?)?;
                (!cpus.0.is_disjoint(&self.0)).then_some(node)
            })
            .collect();
        nodes.sort_unstable();
        nodes
    }
}

/// As the kernel writes them; nothing for none.
impl std::fmt::Display for CpuList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(from) = rest.next() {
            let mut to = from;
            while let Some(next) = rest.next_if_eq(&(to + 1)) {
                to = next;
            }
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}-{to}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// CPUs were asked for that this process cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process cannot run on CPU {missing}; it can on {possible} (lscpu shows the machine's, the cgroup's cpuset may allow \
     fewer)"
)]
pub struct Absent {
    /// Those.
    pub missing: CpuList,
    /// What it can have.
    pub possible: CpuList,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let read = |text: &str| CpuList::parse(text).map(|list| list.iter().collect::<Vec<_>>());
        assert_eq!(read("0-3,32\n"), Some(vec![0, 1, 2, 3, 32]));
        assert_eq!(read("7, 5-6"), Some(vec![5, 6, 7]));
        for nonsense in ["", "a", "3-1", "1,,2", "0-99999999", "-1", "1-"] {
            assert_eq!(read(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn lists_are_written_as_the_kernel_writes_them() {
        for text in ["0", "0-3,32", "1,3,5-6", "0-1,1022-1023"] {
            assert_eq!(CpuList::parse(text).expect("a list").to_string(), text);
        }
    }

    #[test]
    fn cpus_that_are_not_there_are_named_and_nothing_changes() {
        let before = CpuList::allowed();
        let first = before.iter().next().expect("this test runs somewhere");
        let last = CpuSet::MAX_CPU - 1;
        let asked = CpuList::parse(&format!("{first},{}-{last}", last - 1)).expect("a list");
        let absent = asked.confine().expect_err("no machine of ours has so many");
        assert_eq!(absent.missing, CpuList::parse(&format!("{}-{last}", last - 1)).expect("a list"));
        assert!(absent.possible.iter().any(|cpu| cpu == first));
        assert_eq!(CpuList::allowed(), before);
        let said = absent.to_string();
        assert!(
            said.contains(&format!("CPU {}-{last};", last - 1)) && said.contains(&absent.possible.to_string()),
            "{said}"
        );
    }

    #[test]
    fn a_narrower_choice_of_the_caller_is_no_limit() {
        let possible = CpuList::possible();
        let first = possible.iter().next().expect("this test runs somewhere");
        std::thread::spawn(move || {
            CpuList::parse(&first.to_string()).expect("a list").confine().expect("it may run there");
            assert_eq!(CpuList::possible(), possible);
            assert_eq!(CpuList::allowed().iter().collect::<Vec<_>>(), [first], "looking changes nothing");
        })
        .join()
        .expect("no panic");
    }

    #[test]
    fn nodes_are_those_whose_cpus_are_among_them() {
        let sys = tempfile::tempdir().expect("a directory");
        for (node, cpus) in [("node0", "0-15,32-47"), ("node1", "16-31"), ("node2", "\n"), ("possible", "0-2")] {
            std::fs::create_dir(sys.path().join(node)).expect("made");
            std::fs::write(sys.path().join(node).join("cpulist"), cpus).expect("written");
        }
        let nodes = |text| CpuList::parse(text).expect("a list").nodes_in(sys.path());
        assert_eq!(nodes("0-15"), [0]);
        assert_eq!(nodes("14-17"), [0, 1]);
        assert_eq!(nodes("99"), Vec::<u32>::new());
        assert_eq!(CpuList::parse("0").expect("a list").nodes_in(Path::new("/nowhere")), Vec::<u32>::new());
    }

    #[test]
    fn a_thread_is_confined_and_so_is_what_it_starts() {
        let first = CpuList::allowed().iter().next().expect("this test runs somewhere");
        let only = CpuList::parse(&first.to_string()).expect("a list");
        let inherited = std::thread::spawn(move || {
            only.confine().expect("it may run there now");
            std::thread::spawn(CpuList::allowed).join().expect("no panic")
        });
        assert_eq!(inherited.join().expect("no panic").iter().collect::<Vec<_>>(), [first]);
    }
}
