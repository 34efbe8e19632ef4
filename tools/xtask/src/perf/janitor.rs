//! Who cleans up when the harness cannot: after a second Ctrl-C, or a SIGKILL.
//!
//! ```text
//!  harness ==pipe== janitor (a shell, of a process group of its own: no Ctrl-C reaches it)
//!     | ends, however it does: the kernel kills its programs (the guard) and closes the pipe
//!     v
//!  janitor reads the end, unmounts and removes the directories, ends
//! ```

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Reads to the end of the pipe; then removes what it was given. Programs that are just being killed may still make files.
const SCRIPT: &str = r#"
cat > /dev/null
for directory; do umount -l "$directory/huge" 2> /dev/null; done
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$@" && exit; sleep 0.1; done
"#;

/// The process. Dropped, it has done its work.
#[derive(Debug)]
pub(crate) struct Janitor(Child);

impl Janitor {
    /// One that removes `directories` when this process has ended, or dropped it.
    pub(crate) fn of(directories: &[&Path]) -> Result<Janitor> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "weircast-janitor"]).args(directories).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Janitor(shell.spawn().context("cannot start /bin/sh")?))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
