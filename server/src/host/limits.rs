//! What the host allows: locked memory, descriptors, io_uring. Raise what may be raised, and say what mends the rest.

pub use cache_core::limits::DESCRIPTORS_MIN;
use cache_core::units::ByteCount;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Locked memory without which glommio's reactor does not start (its own check, `sys/uring.rs`): 512 KiB.
pub const GLOMMIO_MEMLOCK: ByteCount = ByteCount(512 * 1024);

/// Raises the soft limit of locked memory to the hard one and returns what holds (`None`: no limit).
pub fn raise_memlock() -> Option<ByteCount> {
    raise(Resource::Memlock).map(ByteCount)
}

/// Raises the soft limit of descriptors to the hard one and returns what holds (`None`: no limit).
pub fn raise_nofile() -> Option<u64> {
    raise(Resource::Nofile)
}

fn raise(resource: Resource) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    let raised = setrlimit(resource, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

/// Why this host cannot run a server. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// io_uring is forbidden.
    #[error(
        "io_uring is not permitted here: in a container use a seccomp profile that allows io_uring_setup, \
         io_uring_enter and io_uring_register; on the host set kernel.io_uring_disabled=0 (sysctl)"
    )]
    UringForbidden,
    /// The kernel has none.
    #[error("this kernel has no io_uring: Linux 6.1 or newer built with CONFIG_IO_URING is needed")]
    UringMissing,
    /// A ring cannot be made for another reason.
    #[error(
        "io_uring: {0}; if memory is short raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=), \
         if descriptors are short RLIMIT_NOFILE (ulimit -n, LimitNOFILE=)"
    )]
    Uring(String),
    /// Less locked memory than a reactor needs.
    #[error(
        "RLIMIT_MEMLOCK is {} KiB and {} KiB are needed: raise the hard limit (ulimit -Hl, LimitMEMLOCK= in the unit, \
         --ulimit memlock= for a container)", held.0 / 1024, needed.0 / 1024
    )]
    Memlock {
        /// What there is.
        held: ByteCount,
        /// What must be.
        needed: ByteCount,
    },
    /// Fewer descriptors than any server needs.
    #[error(
        "only {0} descriptors may be open, at least {DESCRIPTORS_MIN} are needed: raise the limit (ulimit -n, LimitNOFILE=)"
    )]
    Descriptors(u64),
}

/// Makes a small ring and drops it.
pub fn probe_uring() -> Result<(), LimitError> {
    match io_uring::IoUring::new(2) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            std::io::ErrorKind::PermissionDenied => LimitError::UringForbidden,
            std::io::ErrorKind::Unsupported => LimitError::UringMissing,
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOSYS.raw_os_error()) => LimitError::UringMissing,
            _ => LimitError::Uring(error.to_string()),
        }),
    }
}

/// Raises both limits, and checks what every server needs: io_uring, and locked memory for one reactor.
pub fn prepare() -> Result<Limits, LimitError> {
    let limits = Limits { memlock: raise_memlock(), nofile: raise_nofile() };
    if let Some(held) = limits.memlock.filter(|held| *held < GLOMMIO_MEMLOCK) {
        return Err(LimitError::Memlock { held, needed: GLOMMIO_MEMLOCK });
    }
    if let Some(held) = limits.nofile.filter(|held| *held < DESCRIPTORS_MIN) {
        return Err(LimitError::Descriptors(held));
    }
    probe_uring()?;
    Ok(limits)
}

/// The limits that hold; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Locked memory.
    pub memlock: Option<ByteCount>,
    /// Descriptors.
    pub nofile: Option<u64>,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.memlock {
            Some(bytes) => write!(f, "io_uring works; RLIMIT_MEMLOCK {} KiB", bytes.0 / 1024)?,
            None => write!(f, "io_uring works; RLIMIT_MEMLOCK unlimited")?,
        }
        match self.nofile {
            Some(count) => write!(f, ", RLIMIT_NOFILE {count}"),
            None => write!(f, ", RLIMIT_NOFILE unlimited"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_memlock_is_told_in_kib_with_the_cure() {
        let said = LimitError::Memlock { held: ByteCount(65_536), needed: GLOMMIO_MEMLOCK }.to_string();
        assert!(said.starts_with("RLIMIT_MEMLOCK is 64 KiB and 512 KiB are needed"), "{said}");
        assert!(said.contains("LimitMEMLOCK"), "{said}");
    }

    #[test]
    fn raising_twice_changes_nothing_more() {
        assert_eq!(raise_nofile(), raise_nofile());
    }
}
