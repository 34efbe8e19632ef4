//! A program is waited for by what it says, and never outlives its owner.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weircast_testbed::wait::HANG;
use weircast_testbed::workdir::Workdir;
use weircast_testbed::{Process, Programs, eventually};

/// A shell that runs `script`.
fn shell(dir: &Arc<Workdir>, script: &str) -> Process {
    let args = ["-c".to_owned(), script.to_owned()];
    let programs = Programs::find().expect("a directory of programs");
    Process::spawn_path(dir, &programs, "shell", Path::new("/bin/sh"), &args).expect("a shell")
}

fn workdir() -> Arc<Workdir> {
    Arc::new(Workdir::new().expect("a directory"))
}

/// Whether no process has this id, or only a dead one that nobody has reaped.
fn is_gone(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn the_ready_line_is_awaited_and_read() {
    let dir = workdir();
    let mut process = shell(&dir, r#"echo 'ready {"listen":"127.0.0.1:9"}'; exec tail -f /dev/null"#);
    let ready = process.wait_ready(HANG).expect("ready");
    assert_eq!(ready["listen"], "127.0.0.1:9");
}

#[test]
fn a_program_that_ends_instead_shows_its_log() {
    let dir = workdir();
    let mut process = shell(&dir, "echo 'listen: the port is in use' >&2; exit 3");
    let error = process.wait_ready(HANG).expect_err("it ended");
    let text = format!("{error:#}");
    assert!(text.contains("the port is in use") && text.contains("exit status: 3"), "{text}");
}

#[test]
fn a_program_that_says_nothing_is_not_waited_for_endlessly() {
    let dir = workdir();
    let mut process = shell(&dir, "exec tail -f /dev/null");
    assert!(process.wait_ready(Duration::from_millis(50)).is_err());
}

#[test]
fn a_dropped_program_is_gone() {
    let dir = workdir();
    let process = shell(&dir, "exec tail -f /dev/null");
    let pid = process.pid();
    assert!(!is_gone(pid));
    drop(process);
    assert!(is_gone(pid));
}

#[test]
fn a_program_ends_with_the_thread_that_started_it() {
    let dir = workdir();
    let starter = dir.clone();
    let thread = std::thread::spawn(move || {
        let mut process = shell(&starter, "echo 'ready {}'; exec tail -f /dev/null");
        process.wait_ready(HANG).expect("ready");
        process
    });
    // It is still owned, so that only the kernel can have ended it.
    let process = thread.join().expect("a thread that does not panic");
    let pid = process.pid();
    eventually("the end of an orphan", HANG, || is_gone(pid).then_some(())).expect("gone");
}

#[test]
fn the_directory_goes_with_its_last_user() {
    let dir = workdir();
    let path = dir.path().to_owned();
    let process = shell(&dir, "exec tail -f /dev/null");
    drop(dir);
    assert!(path.exists());
    drop(process);
    assert!(!path.exists());
}
