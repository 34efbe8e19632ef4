//! `weircast-cache prepare`: a tmpfs with huge pages for the chunk ring. Needs root; called again it changes only what
//! differs.

use std::ffi::CString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use super::config::CacheConfig;
use super::huge::{Mounted, SOURCE, Tmpfs, mounted};
use crate::host::cli::Prepare;

/// Where the kernel says whether it has huge pages at all, and whether for files in memory.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage";

/// The file system may hold so much more than `memory_mib`: a sixteenth and 16 MiB, for a ring that is replaced by one
/// of another size (our guess). It is a limit: memory is taken by the ring alone.
fn file_system_bytes(memory_mib: u64) -> u64 {
    (memory_mib + memory_mib / 16 + 16) << 20
}

/// Does what the command line asks; what was done, in one line.
pub(super) fn prepare(config: &CacheConfig, asked: &Prepare) -> anyhow::Result<String> {
    config.validate()?;
    let directory = config.huge_pages_at.as_path();
    if asked.remove {
        return remove(directory);
    }
    let owner = asked.owner.as_deref().map(|name| owner(name, "/etc/passwd")).transpose()?;
    let kernel = |file: &str| std::fs::read_to_string(Path::new(HUGE_PAGES).join(file));
    huge_pages_are_possible(kernel("shmem_enabled").ok().as_deref())?;
    let bytes = file_system_bytes(config.memory_mib);
    let done = match mounted(directory) {
        // Somebody's own mount, from /etc/fstab say: it serves, its size and rights are not ours to change.
        Mounted::Tmpfs(Tmpfs { ours: false, huge: true, .. }) => {
            return Ok(format!("{} is ready: a tmpfs with huge pages, not mounted by prepare", directory.display()));
        }
        Mounted::Tmpfs(Tmpfs { ours: false, .. }) => {
            bail!("{} is somebody else's tmpfs, without huge pages: choose another huge_pages_at", directory.display())
        }
        Mounted::Tmpfs(Tmpfs { huge: true, bytes: Some(there), .. }) if there == bytes => "is ready",
        Mounted::Tmpfs(_) => {
            mount_remount(directory, MountFlags::empty(), options(bytes)?)
                .map_err(|errno| complaint(directory, "resize", errno))?;
            "was resized"
        }
        Mounted::Other(kind) => {
            bail!("{} holds a mounted {kind}: choose another huge_pages_at", directory.display())
        }
        Mounted::Nothing => {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o755);
            builder.create(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            mount(SOURCE, directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options(bytes)?.as_c_str())
                .map_err(|errno| complaint(directory, "mount", errno))?;
            "was mounted"
        }
    };
    set_owner(directory, owner)?;
    Ok(format!("{} {done}: huge pages for up to {} MiB", directory.display(), bytes >> 20))
}

fn remove(directory: &Path) -> anyhow::Result<String> {
    match mounted(directory) {
        Mounted::Tmpfs(Tmpfs { ours: false, .. }) => {
            bail!("{} is a tmpfs that prepare did not mount: it stays", directory.display())
        }
        Mounted::Tmpfs(_) => {
            unmount(directory, UnmountFlags::NOFOLLOW).map_err(|errno| complaint(directory, "unmount", errno))?;
            // Made by us, or by someone who has other things in it.
            let _ = std::fs::remove_dir(directory);
            Ok(format!("{} was unmounted", directory.display()))
        }
        Mounted::Other(kind) => bail!("{} is a mounted {kind}, which is none of ours", directory.display()),
        Mounted::Nothing => Ok(format!("{}: nothing is mounted there", directory.display())),
    }
}

fn options(bytes: u64) -> anyhow::Result<CString> {
    Ok(CString::new(format!("huge=always,size={}k,mode=0700", bytes / 1024))?)
}

fn complaint(directory: &Path, what: &str, errno: Errno) -> anyhow::Error {
    let cure = match errno {
        Errno::PERM | Errno::ACCESS => "only root may (CAP_SYS_ADMIN); in a container, prepare on the host",
        Errno::BUSY => "a cache is still running on it: stop that first",
        Errno::INVAL if what == "resize" => "more is in use than memory_mib says: stop the cache first",
        Errno::INVAL => "this kernel gives files in memory no huge pages (CONFIG_TRANSPARENT_HUGEPAGE)",
        _ => "the cache does without: slab = \"auto\" takes /dev/shm then",
    };
    anyhow::anyhow!("cannot {what} {}: {errno}; {cure}", directory.display())
}

/// `shmem_enabled` is what the file of that name says: `deny` overrides every mount.
fn huge_pages_are_possible(shmem_enabled: Option<&str>) -> anyhow::Result<()> {
    match shmem_enabled {
        None => bail!(
            "this kernel has no huge pages (CONFIG_TRANSPARENT_HUGEPAGE): nothing to prepare; slab = \"auto\" takes \
             /dev/shm then"
        ),
        Some(text) if text.contains("[deny]") => bail!(
            "huge pages for files in memory are switched off: echo never > {HUGE_PAGES}/shmem_enabled (which leaves it \
             to the mount)"
        ),
        Some(_) => Ok(()),
    }
}

/// User and group of the user `name`, or of the user with that number.
fn owner(name: &str, passwd: &str) -> anyhow::Result<(u32, u32)> {
    let text = std::fs::read_to_string(passwd).with_context(|| format!("cannot read {passwd}"))?;
    let ids = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let (user, group) = (fields.get(2)?, fields.get(3)?);
        (fields[0] == name || *user == name).then(|| Some((user.parse().ok()?, group.parse().ok()?)))?
    };
    text.lines().find_map(ids).with_context(|| format!("--owner: {passwd} has no user {name}"))
}

fn set_owner(directory: &Path, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let failed = || format!("cannot give {} its owner and mode", directory.display());
    let meta = std::fs::metadata(directory).with_context(failed)?;
    if meta.permissions().mode() & 0o777 != 0o700 {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).with_context(failed)?;
    }
    if let Some((user, group)) = owner.filter(|ids| *ids != (meta.uid(), meta.gid())) {
        std::os::unix::fs::chown(directory, Some(user), Some(group)).with_context(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_said_with_the_cure() {
        let said = |text| huge_pages_are_possible(text).map_err(|error| error.to_string());
        assert_eq!(said(Some("always within_size advise [never] deny force\n")), Ok(()));
        assert!(said(Some("always never [deny] force")).is_err_and(|said| said.contains("echo never")));
        assert!(said(None).is_err_and(|said| said.contains("CONFIG_TRANSPARENT_HUGEPAGE")));
    }

    #[test]
    fn owners_are_found_by_name_and_number() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "root:x:0:0:root:/root:/bin/sh\nweircast:x:990:985::/:/sbin/nologin\n")
            .expect("written");
        let find = |name| owner(name, file.path().to_str().expect("a path"));
        assert_eq!(find("weircast").ok(), Some((990, 985)));
        assert_eq!(find("990").ok(), Some((990, 985)));
        assert!(find("nobody").is_err_and(|error| error.to_string().contains("nobody")));
    }
}
