//! `weircast-guard PARENT PROGRAM ARGS...`: becomes PROGRAM, which the kernel kills when the thread that started it
//! ends, however it ends. The request survives `exec`, so that no code runs between fork and exec in the parent.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(parent), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: weircast-guard PARENT_PID PROGRAM [ARGS...]");
        return ExitCode::from(2);
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("weircast-guard: the kernel refuses a parent-death signal: {error}");
        return ExitCode::from(2);
    }
    // The parent may have ended before the request was made.
    if getppid().map(|pid| pid.as_raw_nonzero().to_string()) != parent.to_str().map(str::to_owned) {
        return ExitCode::from(2);
    }
    let error = Command::new(&program).args(args).exec();
    eprintln!("weircast-guard: cannot start {}: {error}", program.to_string_lossy());
    ExitCode::from(127)
}
