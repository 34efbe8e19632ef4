//! `ip` and `tc`, many commands in one process.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs lines of `ip`, in `namespace` or outside any; stops at the first that fails.
pub(super) fn ip(namespace: Option<&str>, lines: &str) -> Result<()> {
    batch("ip", namespace, lines)
}

/// Runs lines of `tc` in `namespace`; stops at the first that fails.
pub(super) fn tc(namespace: &str, lines: &str) -> Result<()> {
    batch("tc", Some(namespace), lines)
}

fn batch(program: &str, namespace: Option<&str>, lines: &str) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(program);
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {program} (Debian package: iproute2)"))?;
    let mut stdin = child.stdin.take().context("a child with a pipe has it")?;
    // It may end at a line that it does not like, before it has read all: its own words say more than a broken pipe.
    let written = stdin.write_all(lines.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() || written.is_err() {
        let said = String::from_utf8_lossy(&output.stderr);
        // "Command failed -:N" names the line.
        let at = said.rsplit_once("-:").and_then(|(_, at)| at.trim().parse::<usize>().ok());
        let line = at.and_then(|at| lines.lines().nth(at.saturating_sub(1))).unwrap_or("its first line");
        bail!("{program} refuses `{line}`: {}", said.trim());
    }
    Ok(())
}
