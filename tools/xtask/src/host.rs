//! The machine: who we are on it, which packages it lacks.

use std::process::Command;

use weircast_testbed::ffmpeg::host_program;

use crate::cargo::step;

/// Whether this program may do everything.
pub(crate) fn is_root() -> bool {
    // The effective user, second of the four numbers.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Installs the Debian packages of missing programs where this may be done. `programs`: program and package; `is_there`
/// finds a program.
pub(crate) fn install(programs: &[(&str, &str)], is_there: impl Fn(&str) -> bool) {
    let missing = programs.iter().filter(|(program, _)| !is_there(program));
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() || !is_root() || host_program("apt-get").is_none() {
        return;
    }
    // A package that cannot be had is no failure: what needs it says SKIP.
    let _ = step("package lists", Command::new("apt-get").args(["update", "-qq"]));
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
    let _ = step("packages", install.env("DEBIAN_FRONTEND", "noninteractive"));
}
