//! Every check there is, in the order in which a failure is found soonest.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use weircast_testbed::ffmpeg::host_program;

use crate::cargo::{self, step};

/// Programs of the host that tests use, and the Debian package that has them. Without one, its tests say `SKIP`.
const HOST_PROGRAMS: &[(&str, &str)] = &[("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg")];

fn run_all() -> Result<()> {
    install_host_programs()?;
    step("format", cargo::cargo()?.args(["fmt", "--all", "--check"]))?;
    step("clippy", cargo::cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // The end-to-end tests start the programs themselves.
    step("build", cargo::cargo()?.args(["build", "--workspace", "--bins"]))?;
    if host_program("cargo-nextest").is_some() {
        step("tests", cargo::cargo()?.args(["nextest", "run", "--workspace", "--no-fail-fast"]))?;
    } else {
        step("tests", cargo::cargo()?.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]))?;
    }
    step("documentation tests", cargo::cargo()?.args(["test", "--workspace", "--doc"]))?;
    step(
        "benchmarks, each once",
        cargo::cargo()?.args(["test", "-p", "cache-core", "--features", "shm", "--benches"]),
    )?;
    step("loom: every interleaving of publish, lease and reuse", &mut loom()?)?;
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    run_all()?;
    println!("\nall checks passed in {} s", start.elapsed().as_secs());
    Ok(())
}

/// The ring's loom test. Its own target directory: `--cfg loom` would rebuild everything else each time.
fn loom() -> Result<Command> {
    let mut command = cargo::cargo()?;
    let args = ["test", "-p", "cache-core", "--features", "shm", "--test", "ring_loom", "--release"];
    command.args(args).env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", cargo::target_dir()?.join("loom"));
    Ok(command)
}

/// Installs the Debian packages of missing programs where this may be done; else says which they are.
fn install_host_programs() -> Result<()> {
    let missing: Vec<_> = HOST_PROGRAMS.iter().filter(|(program, _)| host_program(program).is_none()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if host_program("apt-get").is_some() && is_root() {
        // A package that cannot be had is no failure: its tests say SKIP.
        let _ = step("package lists", Command::new("apt-get").args(["update", "-qq"]));
        let mut install = Command::new("apt-get");
        install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
        let _ = step("packages", install.env("DEBIAN_FRONTEND", "noninteractive"));
    }
    for (program, package) in missing {
        if host_program(program).is_none() {
            eprintln!("{program} is missing: the tests that need it say SKIP (Debian package: {package})");
        }
    }
    Ok(())
}

fn is_root() -> bool {
    // The effective user, second of the four numbers.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
