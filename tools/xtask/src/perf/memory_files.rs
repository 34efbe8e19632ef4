//! Where chunks lie: a tmpfs of huge pages that exists for this run alone, and one of small pages.
//!
//! The harness runs in a mount namespace of its own when it is root, so that the mount is gone with its last process,
//! however that ends.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use weircast_testbed::ffmpeg::host_program;

use crate::host::is_root;

/// Says that the namespace is there.
const VARIABLE: &str = "WEIRCAST_PERF_NAMESPACE";

/// Directories for chunks.
#[derive(Debug)]
pub(crate) struct ChunkDirs {
    /// On a tmpfs mounted `huge=always`, if that could be had.
    pub(crate) huge: Option<PathBuf>,
    /// On a tmpfs as it usually is.
    pub(crate) small: tempfile::TempDir,
}

impl ChunkDirs {
    /// Mounts below `dir`.
    pub(crate) fn new(dir: &Path) -> Result<ChunkDirs> {
        let small = tempfile::Builder::new().prefix("weircast-perf-").tempdir_in("/dev/shm");
        let small = small.context("no directory in /dev/shm")?;
        let mut dirs = ChunkDirs { huge: None, small };
        if std::env::var_os(VARIABLE).is_none() {
            eprintln!("NO HUGE PAGES: that needs root and `unshare` (util-linux); everything runs from /dev/shm");
            return Ok(dirs);
        }
        let huge = dir.join("huge");
        std::fs::create_dir(&huge)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "huge=always,size=75%,mode=0755", "weircast-perf"])
            .arg(&huge)
            .status();
        match mounted {
            Ok(status) if status.success() => dirs.huge = Some(huge),
            _ => {
                eprintln!("NO HUGE PAGES: this kernel mounts no tmpfs with huge=always; everything runs from /dev/shm")
            }
        }
        Ok(dirs)
    }

    /// The better one.
    pub(crate) fn best(&self) -> &Path {
        self.huge.as_deref().unwrap_or(self.small.path())
    }
}

impl Drop for ChunkDirs {
    fn drop(&mut self) {
        if let Some(huge) = &self.huge {
            // Lazily: a program that is just ending may have a file open there still.
            let _ = Command::new("umount").arg("-l").arg(huge).status();
        }
    }
}

/// Starts this program again in a mount namespace of its own; returns when that is not possible or not needed.
pub(crate) fn enter_namespace() {
    let Some(unshare) = host_program("unshare").filter(|_| is_root() && std::env::var_os(VARIABLE).is_none()) else {
        return;
    };
    let Ok(me) = std::env::current_exe() else { return };
    // In a container without the right to it, the first one tells.
    let probe = Command::new(&unshare).args(["--mount", "--propagation", "private", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return;
    }
    let mut command = Command::new(unshare);
    command.args(["--mount", "--propagation", "private"]).arg(me).args(std::env::args_os().skip(1));
    let error = command.env(VARIABLE, "1").exec();
    eprintln!("unshare did not start: {error}");
}
