//! The temporary directory of one cluster: configurations, logs, reports, media.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// How much of a log is worth showing.
const TAIL_LINES: usize = 20;

/// A directory that is removed when dropped. When that happens in a panic, the ends of its logs go to stderr first.
#[derive(Debug)]
pub struct Workdir {
    dir: tempfile::TempDir,
}

impl Workdir {
    /// A new one under the system's temporary directory.
    pub fn new() -> Result<Workdir> {
        let dir = tempfile::Builder::new().prefix("weircast-").tempdir();
        Ok(Workdir { dir: dir.context("cannot make a temporary directory: set TMPDIR to one that is writable")? })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of `name` in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The ends of all logs that are not empty, by name, for a person.
    pub fn logs(&self) -> String {
        let Ok(entries) = std::fs::read_dir(self.path()) else { return String::new() };
        let mut logs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        let mut text = String::new();
        for log in logs {
            let end = tail(&log);
            if !end.is_empty() {
                text.push_str(&format!("--- {}\n{end}\n", log.display()));
            }
        }
        text
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// The last lines of a file; empty when it cannot be read.
pub fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
