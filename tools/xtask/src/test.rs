//! Every check there is, in the order in which a failure is found soonest.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use weircast_testbed::ffmpeg::host_program;

use crate::cargo::{self, step};
use crate::host;

/// Programs of the host that tests use, and the Debian package that has them. Without one, its tests say `SKIP`.
const HOST_PROGRAMS: &[(&str, &str)] = &[("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg")];

/// `me`: this program's path, asked for before any build: one that links this program anew would leave the running
/// one without a path.
fn run_all(me: &Path) -> Result<()> {
    install_host_programs();
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
    // In a process of its own, because it goes into a namespace of its own. The binaries are those built above.
    step("harness: every experiment once", Command::new(me).args(["perf", "--quick", "--debug"]))?;
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    run_all(&std::env::current_exe()?)?;
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
fn install_host_programs() {
    host::install(HOST_PROGRAMS, |program| host_program(program).is_some());
    for (program, package) in HOST_PROGRAMS {
        if host_program(program).is_none() {
            eprintln!("{program} is missing: the tests that need it say SKIP (Debian package: {package})");
        }
    }
}
