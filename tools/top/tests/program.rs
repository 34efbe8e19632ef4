//! The program as an operator runs it, over rings made here.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cache_core::ring::{Backing, Node, Ring, RingConfig, Writer};
use cache_core::time::WallClock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

/// A test that hangs for this long has failed; nothing is timed by it.
const HANG: Duration = Duration::from_secs(60);

fn ring(path: &Path) -> (Writer, Ring) {
    let config = RingConfig { backing: Backing::File(path.to_owned()), ..RingConfig::memfd(8 << 20) };
    let (mut writer, ring) = Ring::create(&config).expect("room");
    ring.board().describe(&Node {
        pid: 4321,
        started: WallClock::from_micros(1_000_000),
        version: "1.2.3",
        listen: "192.0.2.1:7400",
        backend: "sendfile",
        shards: 1,
        connections_max: 100,
        huge_bytes: Some(6 << 20),
    });
    let slot = writer.open_stream(cache_core::units::StreamId(1)).expect("room");
    ring.board().stream(slot).begin("news");
    (writer, ring)
}

fn top(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weircast")).arg("top").args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn once_prints_text_or_json_and_ends() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux");
    let path = dir.path().join("ring");
    let _ring = ring(&path);
    let file = path.to_str().expect("ASCII");
    let shown = top(&[file, "--once"]);
    let out = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    for part in ["weircast-cache 1.2.3", "192.0.2.1:7400", "pid 4321", "!! node", "huge 6 MiB", "news"] {
        assert!(out.contains(part), "no {part:?} in {out}");
    }
    assert!(!out.contains('\x1b'), "no colours for a script: {out}");
    let json: serde_json::Value = serde_json::from_slice(&top(&[file, "--json"]).stdout).expect("JSON");
    assert_eq!((&json["node"]["pid"], &json["streams"][0]["name"]), (&4321.into(), &"news".into()), "{json:#}");
    assert!(json["seconds"].as_f64() >= Some(1.0), "{json:#}");
}

#[test]
fn a_ring_without_a_file_is_found_by_its_process() {
    let (_writer, _ring) = Ring::create(&RingConfig::memfd(8 << 20)).expect("room");
    let pid = std::process::id().to_string();
    let shown = top(&["--pid", &pid, "--json"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(json["node"]["pid"], 0, "this one has not described itself: {json:#}");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let letters = dir.path().join("letters");
    std::fs::File::create(&letters).and_then(|mut file| file.write_all(&[b'x'; 4096])).expect("room");
    let path = dir.path().join("ring");
    // Nobody writes into it, ever.
    let pipe = dir.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).expect("made");
    let cases = [
        (vec![pipe.to_str().expect("ASCII"), "--once"], "is not a chunk ring"),
        (vec![letters.to_str().expect("ASCII"), "--once"], "is not a chunk ring"),
        (vec!["/nowhere/at/all", "--once"], "/nowhere/at/all"),
        (vec!["--pid", "4294967295", "--once"], "cannot look at process"),
        (vec![path.to_str().expect("ASCII"), "--pid", "1"], "cannot be used with"),
    ];
    for (args, said) in cases {
        let shown = top(&args);
        let stderr = text(&shown.stderr);
        assert!(!shown.status.success() && stderr.contains(said), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

/// The program on a terminal of its own.
struct Screen {
    terminal: OwnedFd,
    /// Kept so that the terminal outlives the program.
    _line: std::fs::File,
    child: Child,
    drawn: Vec<u8>,
    before: Termios,
}

impl Screen {
    fn start(path: &Path) -> Screen {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&terminal).expect("ours");
        unlockpt(&terminal).expect("ours");
        let name = ptsname(&terminal, Vec::new()).expect("a name").into_string().expect("ASCII");
        let line = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("its other end");
        let size = Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).expect("a size");
        let before = tcgetattr(&line).expect("settings");
        let io = || Stdio::from(line.try_clone().expect("a descriptor"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_weircast"));
        let child = command.arg("top").arg(path).stdin(io()).stdout(io()).stderr(io()).spawn().expect("it runs");
        Screen { terminal, _line: line, child, drawn: Vec::new(), before }
    }

    /// Reads until `what` has been drawn.
    fn until(&mut self, what: &str) {
        let deadline = Instant::now() + HANG;
        while !text(&self.drawn).contains(what) {
            assert!(
                Instant::now() < deadline,
                "no {what:?} in {:?}",
                text(&self.drawn[self.drawn.len().saturating_sub(900)..])
            );
            self.read_some();
        }
    }

    fn read_some(&mut self) {
        let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let ready = poll(&mut [PollFd::new(&self.terminal, PollFlags::IN)], Some(&limit)).expect("poll");
        if ready > 0 {
            let mut some = [0; 4096];
            let got = rustix::io::read(&self.terminal, &mut some).expect("the line is open");
            self.drawn.extend_from_slice(&some[..got]);
        }
    }

    fn press(&self, key: &str) {
        rustix::io::write(self.terminal.as_fd(), key.as_bytes()).expect("the line is open");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self._line).expect("settings").local_modes.contains(LocalModes::ICANON)
    }

    /// It has ended, well, and the terminal is as it was.
    fn ends_clean(mut self) {
        let deadline = Instant::now() + HANG;
        let status = loop {
            self.read_some();
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
        };
        self.until("\x1b[?1049l");
        let drawn = text(&self.drawn);
        assert!(status.success(), "{status}: {drawn:?}");
        assert!(drawn.contains("\x1b[?25h") && drawn.contains("\x1b[?7h"), "cursor and margin: {drawn:?}");
        let after = tcgetattr(&self._line).expect("settings");
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_screen_obeys_its_keys_and_leaves_the_terminal_as_it_was() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("/dev/shm is there on every Linux");
    let path = dir.path().join("ring");
    let _ring = ring(&path);
    for end in ["q", "\x03", "signal"] {
        let mut screen = Screen::start(&path);
        screen.until("news");
        assert!(screen.is_raw());
        screen.press("p");
        screen.until("PAUSED");
        screen.press("s");
        screen.until("kbit/s*");
        match end {
            "signal" => {
                let pid = Pid::from_raw(screen.child.id() as i32).expect("a process id");
                kill_process(pid, Signal::TERM).expect("it runs");
            }
            key => screen.press(key),
        }
        screen.ends_clean();
    }
}
