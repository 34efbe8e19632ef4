//! Where reports go: found to be writable before a run begins, written at its end.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

/// Whether a report can be written to `path` at the end of the run. What stands there stays; nothing is left behind.
pub(crate) fn can_be_written(path: &Path) -> Result<()> {
    let failed = || format!("the report cannot be written to {}", path.display());
    match std::fs::metadata(path) {
        // A pipe would hear that it has ended.
        Ok(there) if !there.is_file() && !there.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop).with_context(failed),
        // Where a link leads that leads nowhere yet, the run writes.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Ok(to) = std::fs::read_link(path) {
                return can_be_written(&path.with_file_name(to));
            }
            OpenOptions::new().write(true).create_new(true).open(path).with_context(failed)?;
            std::fs::remove_file(path).with_context(failed)
        }
        Err(error) => Err(error).with_context(failed),
    }
}

/// Writes a report.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("the report cannot be written to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_report_s_way_in_is_found_before_the_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let (new, old) = (dir.path().join("new.json"), dir.path().join("old.json"));
        can_be_written(&new).expect("a new file");
        assert!(!new.exists(), "nothing is left");
        write(&old, "before").expect("written");
        can_be_written(&old).expect("one that is there");
        assert_eq!(std::fs::read_to_string(&old).expect("there"), "before");
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink("new.json", &link).expect("a link");
        can_be_written(&link).expect("a file where it leads");
        assert!(link.is_symlink() && !new.exists(), "nothing is left, nothing gone");
        for wrong in [dir.path().to_owned(), dir.path().join("no-such/x.json"), old.join("x.json")] {
            let said = can_be_written(&wrong).expect_err("no report there").to_string();
            assert!(said.contains(&wrong.display().to_string()), "{said}");
        }
    }
}
