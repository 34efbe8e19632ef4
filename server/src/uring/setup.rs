//! Setting a ring up, and what to do when the host does not allow it.

use std::io;

use io_uring::IoUring;
use rustix::io::Errno;

use super::buffers::Buffers;
use super::completion::Completion;

/// Submissions between two system calls; when more are wanted, they are submitted early. Our guess: one busy turn.
const SUBMISSIONS: u32 = 1024;

/// How large a ring is.
#[derive(Clone, Copy, Debug)]
pub struct UringConfig {
    /// The most connections there will be: completion queue and receive buffers are sized by it.
    pub connections_max: u32,
}

/// Why there is no ring. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// EPERM, EACCES.
    #[error(
        "io_uring is forbidden here: run `sysctl kernel.io_uring_disabled=0`, or allow io_uring_setup, io_uring_enter \
         and io_uring_register in the container's seccomp profile"
    )]
    Forbidden,
    /// ENOSYS, or flags that the kernel does not know.
    #[error("this kernel's io_uring is missing or too old: Linux 6.1 or newer is needed")]
    TooOld,
    /// ENOMEM.
    #[error(
        "no memory for an io_uring: raise the locked-memory limit (LimitMEMLOCK= of the unit, or `ulimit -l`), or \
         lower `connections_max`"
    )]
    NoMemory,
    /// EMFILE, ENFILE.
    #[error("no descriptor left for an io_uring: raise the limit (LimitNOFILE= of the unit, or `ulimit -n`)")]
    NoDescriptor,
    /// Anything else.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

impl From<io::Error> for SetupError {
    fn from(error: io::Error) -> SetupError {
        match Errno::from_io_error(&error) {
            Some(Errno::PERM | Errno::ACCESS) => SetupError::Forbidden,
            Some(Errno::NOSYS | Errno::INVAL) => SetupError::TooOld,
            Some(Errno::NOMEM) => SetupError::NoMemory,
            Some(Errno::MFILE | Errno::NFILE) => SetupError::NoDescriptor,
            _ => SetupError::Other(error),
        }
    }
}

/// A ring, used by the thread that made it.
///
/// Drop order: the buffers are retired first, then the ring is closed (fields are dropped in the order they stand in),
/// then the buffers' memory goes.
pub struct Uring {
    pub(super) ring: IoUring,
    pub(super) buffers: Buffers,
    /// Completions taken from the queue and not yet handed out; kept for its memory.
    pub(super) taken: Vec<Completion>,
}

impl Uring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// [`SetupError`], each with its cure.
    pub fn new(config: &UringConfig) -> Result<Uring, SetupError> {
        let per_connection = config.connections_max.clamp(64, 1 << 20).next_power_of_two();
        // Two for each zero-copy send under way and one for what is received; the kernel keeps what overflows.
        let completions = per_connection.saturating_mul(4).clamp(2 * SUBMISSIONS, 65_536);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions)
            .build(SUBMISSIONS)?;
        // Buffers come back within the turn that they were filled in, so a turn's worth is enough.
        let buffers = Buffers::new(&ring.submitter(), per_connection.min(4096) as u16)?;
        Ok(Uring { ring, buffers, taken: Vec::new() })
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.buffers.retire(&self.ring.submitter());
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uring")
    }
}
