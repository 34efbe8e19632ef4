//! Huge pages for the chunk ring: a tmpfs that gives them, and how much of a file really has them.
//!
//! A tmpfs mounted `huge=always` gives huge pages to files that are written through a mapping; nothing else does on most
//! machines (`shmem_enabled` is `never`), and `madvise` says yes all the same. So what was got is read back from the
//! kernel's own account of the mapping.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cache_core::ring::Ring;
use rustix::fs::{Access, access, fstat};
use serde_json::{Value, json};

/// What a tmpfs that `prepare` mounts says of where it comes from.
pub(super) const SOURCE: &str = "weircast";

/// A mounted tmpfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tmpfs {
    /// Whether its files get huge pages whenever there are some.
    pub(super) huge: bool,
    /// Its limit in bytes; `None` when the kernel does not say.
    pub(super) bytes: Option<u64>,
    /// Whether `prepare` mounted it: its source says [`SOURCE`].
    pub(super) ours: bool,
}

/// What is mounted at a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mounted {
    /// Nothing, or it cannot be said.
    Nothing,
    /// A tmpfs.
    Tmpfs(Tmpfs),
    /// Another file system, by its name.
    Other(String),
}

/// What is mounted at `directory` itself. The kernel lists mounts by their real paths, so links are followed first
/// (`/var/run` mostly is one).
pub(super) fn mounted(directory: &Path) -> Mounted {
    let real = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    std::fs::read_to_string("/proc/self/mountinfo").map_or(Mounted::Nothing, |mountinfo| mounted_in(&mountinfo, &real))
}

/// The last mount at a place covers the ones before.
fn mounted_in(mountinfo: &str, directory: &Path) -> Mounted {
    let at = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let point = place.split(' ').nth(4)?;
        let mut what = what.split(' ');
        let (kind, source, options) = (what.next()?, what.next()?, what.next().unwrap_or(""));
        (unescaped(point) == directory.as_os_str().as_bytes()).then(|| match kind {
            "tmpfs" => Mounted::Tmpfs(tmpfs(source, options)),
            other => Mounted::Other(other.to_owned()),
        })
    };
    mountinfo.lines().filter_map(at).next_back().unwrap_or(Mounted::Nothing)
}

/// A path as mountinfo writes it: spaces, tabs, line feeds and backslashes as `\040` and the like.
fn unescaped(path: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

fn tmpfs(source: &str, options: &str) -> Tmpfs {
    let option = |key: &str| options.split(',').find_map(|option| option.strip_prefix(key));
    let kib = option("size=").and_then(|size| size.strip_suffix('k')).and_then(|kib| kib.parse::<u64>().ok());
    Tmpfs { huge: option("huge=") == Some("always"), bytes: kib.map(|kib| kib * 1024), ours: source == SOURCE }
}

/// Whether a ring in `directory` would have huge pages: a tmpfs that gives them is mounted there and can be written to.
pub(super) fn is_ready(directory: &Path) -> bool {
    let huge = matches!(mounted(directory), Mounted::Tmpfs(Tmpfs { huge: true, .. }));
    let usable = huge && access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if huge && !usable {
        tracing::warn!(
            directory = %directory.display(),
            "huge pages are prepared, but not for this user: weircast-cache prepare --owner USER"
        );
    }
    usable
}

/// What the ring's memory turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlabFacts {
    /// `memfd` or the file's path.
    pub(super) place: String,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Bytes of memory that it has.
    pub(super) allocated_bytes: u64,
    /// Bytes of it that are mapped by huge pages, as of the start.
    pub(super) huge_bytes: u64,
}

impl SlabFacts {
    /// Asks the kernel. Cost: a walk over the ring's page tables, milliseconds for each GiB without huge pages; so it
    /// is done once.
    pub(super) fn of(ring: &Ring, path: Option<&Path>) -> SlabFacts {
        let directory = path.and_then(Path::parent);
        if directory.is_some_and(|directory| matches!(mounted(directory), Mounted::Tmpfs(Tmpfs { huge: true, .. }))) {
            // What a former process left is not mapped yet, and the kernel counts what is.
            ring.enter_pages();
        }
        let stat = fstat(ring.file().as_fd()).ok();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        SlabFacts {
            place: path.map_or_else(|| "memfd".to_owned(), |path| path.display().to_string()),
            bytes: stat.map_or(0, |stat| stat.st_size as u64),
            allocated_bytes: stat.map_or(0, |stat| stat.st_blocks as u64 * 512),
            huge_bytes: stat.map_or(0, |stat| huge_bytes(&smaps, stat.st_ino)),
        }
    }

    /// As `/stats` shows it.
    pub(super) fn json(&self) -> Value {
        let kind = match self.place.as_str() {
            "memfd" => "memfd",
            _ if self.huge_bytes > 0 => "huge_file",
            _ => "file",
        };
        json!({
            "kind": kind,
            "place": self.place,
            "bytes": self.bytes,
            "allocated_bytes": self.allocated_bytes,
            "huge_bytes": self.huge_bytes,
        })
    }
}

/// Bytes of the mappings of file `inode` that huge pages map. Inodes of two file systems may be equal; then both are
/// counted, but only mappings of memory have such pages.
fn huge_bytes(smaps: &str, inode: u64) -> u64 {
    let mut ours = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or("");
        match first {
            // Since Linux 4.8 and 5.4.
            "ShmemPmdMapped:" | "FilePmdMapped:" if ours => {
                kib += words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
            }
            // A mapping's head: addresses, rights, offset, device, inode, path.
            _ if !first.ends_with(':') => ours = words.nth(3).and_then(|word| word.parse().ok()) == Some(inode),
            _ => {}
        }
    }
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_place_counts() {
        let mountinfo = "\
22 27 0:20 / /proc rw,nosuid - proc proc rw
43 27 0:40 / /run/weircast/slabs rw,relatime - tmpfs weircast rw,size=65536k,mode=700
44 43 0:41 / /run/weircast/slabs rw,relatime shared:7 - tmpfs weircast rw,size=131072k,mode=700,huge=always
45 27 8:1 / /run/weircast/slabs/disk rw - ext4 /dev/sda1 rw
46 27 0:42 / /run/a\\134\\040b rw - tmpfs weircast rw,size=1024k";
        let at = |directory: &str| mounted_in(mountinfo, Path::new(directory));
        assert_eq!(at("/run/weircast/slabs"), Mounted::Tmpfs(Tmpfs { huge: true, bytes: Some(128 << 20), ours: true }));
        assert_eq!(at("/run/weircast/slabs/disk"), Mounted::Other("ext4".into()));
        assert_eq!(at("/run/weircast"), Mounted::Nothing);
        let own = Tmpfs { huge: false, bytes: Some(1 << 20), ours: true };
        assert_eq!(at("/run/a\\ b"), Mounted::Tmpfs(own));
        assert_eq!(tmpfs("shm", "rw,huge=within_size"), Tmpfs { huge: false, bytes: None, ours: false });
    }

    #[test]
    fn a_mount_is_found_by_way_of_a_link_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("run");
        std::os::unix::fs::symlink("/proc", &link).expect("a link");
        assert_eq!(mounted(&link), Mounted::Other("proc".into()));
        assert_eq!(mounted(directory.path()), Mounted::Nothing);
    }

    #[test]
    fn huge_pages_are_counted_of_the_rings_mappings_alone() {
        let smaps = "\
7f00-7f01 rw-s 00000000 00:19 77                         /dev/shm/weircast-cache-127.0.0.1-7400.ring
Size:               2048 kB
FilePmdMapped:         0 kB
ShmemPmdMapped:     4096 kB
7f10-7f11 rw-s 00200000 00:19 77                         /dev/shm/weircast-cache-127.0.0.1-7400.ring
ShmemPmdMapped:     2048 kB
7f20-7f21 rw-p 00000000 00:00 0
AnonHugePages:      2048 kB
ShmemPmdMapped:      512 kB";
        assert_eq!(huge_bytes(smaps, 77), 6 << 20);
        assert_eq!(huge_bytes(smaps, 78), 0);
    }
}
