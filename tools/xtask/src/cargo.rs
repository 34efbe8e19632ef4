//! Running cargo and finding what it built.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> Result<PathBuf> {
    // Two folders above this package's manifest.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.ancestors().nth(2).context("the workspace has a root")?.to_owned())
}

/// A cargo command in the repository's root: the cargo that started this program.
pub(crate) fn cargo() -> Result<Command> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()?);
    Ok(command)
}

/// Runs `command`; an error that says what failed and how to run it alone.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("\n=== {what}: {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{what} failed ({status}); to run it alone: {}", shown(command));
    }
    Ok(())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = cargo()?.args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata does not answer in JSON")?;
    Ok(metadata.target_directory)
}

/// The command as a person would type it.
fn shown(command: &Command) -> String {
    let mut text = String::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            text.push_str(&format!("{}='{}' ", key.display(), value.display()));
        }
    }
    let program = Path::new(command.get_program());
    text.push_str(&program.file_name().unwrap_or(program.as_os_str()).to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
