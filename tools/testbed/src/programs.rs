//! Where the binaries are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names the directory of the binaries when they are not beside the running program.
pub const BIN_DIR_VARIABLE: &str = "WEIRCAST_BIN_DIR";

/// A directory with Weircast's binaries.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// `WEIRCAST_BIN_DIR` if it is set, else the directory of the running program, else (for a test, which cargo puts
    /// into `deps`) the one above: cargo's profile directory.
    pub fn find() -> Result<Programs> {
        if let Some(dir) = std::env::var_os(BIN_DIR_VARIABLE) {
            return Ok(Programs { dir: PathBuf::from(dir) });
        }
        let me = std::env::current_exe().context("the running program's own path is not known")?;
        let beside = me.parent().context("the running program has no directory")?;
        let dir = match beside.parent() {
            Some(above) if beside.ends_with("deps") => above,
            _ => beside,
        };
        Ok(Programs { dir: dir.to_owned() })
    }

    /// The binaries of `dir`.
    pub fn in_dir(dir: &Path) -> Programs {
        Programs { dir: dir.to_owned() }
    }

    /// The path of `name`, which is there; the error says how to build it.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.is_file() {
            bail!(
                "{name} is not in {}: run `cargo build --workspace --bins`, or name the directory in {BIN_DIR_VARIABLE}",
                self.dir.display()
            );
        }
        Ok(path)
    }
}
