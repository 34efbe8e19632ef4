//! The real program against servers of a few lines: a stream from `publish` to `watch`, and every way to end.

mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use cache_core::media::{Generator, GeneratorConfig, PayloadCheck};
use cache_core::time::Span;
use cache_core::wire::{RefusalReason, VERSION};
use fake::{HANG, Servers};

/// A running program; killed when the test ends without it.
struct Program {
    child: Child,
    ready: serde_json::Value,
}

impl Program {
    fn spawn(args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_weircast-peer"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Starts it and waits for its `ready` line.
    fn start(args: &[&str]) -> Program {
        let mut child = Program::spawn(args);
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        let json = line.strip_prefix("ready ").unwrap_or_else(|| panic!("no ready line but {line:?}"));
        Program { ready: serde_json::from_str(json).expect("JSON"), child }
    }

    fn url(&self) -> (String, String) {
        let url = self.ready["http"].as_str().expect("a URL").strip_prefix("http://").expect("http");
        let (addr, path) = url.split_once('/').expect("a path");
        (addr.to_owned(), format!("/{path}"))
    }

    fn signal(&self, signal: i32) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Its exit status and what it said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        end(&mut self.child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn end(child: &mut Child) -> (ExitStatus, String) {
    let until = Instant::now() + HANG;
    while child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < until, "the program hangs");
        std::thread::yield_now();
    }
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    (child.wait().expect("a child"), said)
}

/// Runs to the end: exit code and standard error.
fn run(args: &[&str]) -> (Option<i32>, String) {
    let mut child = Program::spawn(args);
    drop(child.stdin.take());
    let (status, said) = end(&mut child);
    (status.code(), said)
}

/// `seconds` of test stream.
fn recorded(seconds: u64) -> Vec<u8> {
    let (mut generator, mut bytes) = (Generator::new(GeneratorConfig::default()), Vec::new());
    while generator.next_frame(&mut bytes) < Span::from_secs(seconds) {}
    bytes
}

fn publisher(servers: &Servers, input: &str) -> Program {
    Program::start(&["publish", "news", "--route", &servers.addr.to_string(), "--input", input, "--status", "off"])
}

/// `part` stands in `whole` behind its first `tables` bytes, and those are packets.
fn assert_is_part_of(part: &[u8], whole: &[u8]) {
    assert!(part.len() > 100 * 188 && part.len().is_multiple_of(188), "{} bytes", part.len());
    let found = (0..16).map(|packets| &part[packets * 188..]).find(|rest| {
        let packet = &rest[..188];
        whole.chunks_exact(188).position(|p| p == packet).is_some_and(|at| whole[at * 188..].starts_with(rest))
    });
    assert!(found.is_some(), "what was played is not what was published");
}

#[test]
fn a_file_is_published_whole_and_its_end_is_confirmed() {
    let servers = Servers::start("news", 40);
    let stream = recorded(2);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &stream).expect("written");
    let program = publisher(&servers, file.path().to_str().expect("text"));
    assert_eq!((&program.ready["role"], &program.ready["next"]), (&"publisher".into(), &40.into()));
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let state = servers.state();
    assert!(state.ended);
    assert!(state.stream() == stream, "{} of {} bytes", state.stream().len(), stream.len());
}

#[test]
fn a_pipe_is_published_and_ends_with_it() {
    let servers = Servers::start("news", 0);
    let stream = recorded(1);
    let mut program = Program::spawn(&["publish", "news", "--route", &servers.addr.to_string(), "--input", "-"]);
    program.stdin.take().expect("piped").write_all(&stream).expect("written");
    let (status, said) = end(&mut program);
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(servers.state().stream() == stream);
}

#[test]
fn udp_in_rtp_is_published_until_the_signal() {
    let servers = Servers::start("news", 0);
    let free = UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound");
    let program = publisher(&servers, &format!("udp://{free}"));
    let stream = recorded(1);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for packets in stream.chunks(7 * 188) {
        let datagram = [&[0x80, 33, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], packets].concat();
        socket.send_to(&datagram, free).expect("sent");
    }
    drop(servers.wait("chunks of the datagrams", |state| state.chunks.len() >= 3));
    program.signal(15);
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let state = servers.state();
    assert!(state.ended && stream.starts_with(&state.stream()));
}

#[test]
fn a_publisher_that_loses_its_cache_goes_on_without_a_gap() {
    let servers = Servers::start("news", 7);
    let program = publisher(&servers, "test:1000");
    drop(servers.wait("chunks", |state| state.chunks.len() >= 3));
    servers.cut_publishers();
    let count = servers.wait("a second session", |state| state.sessions == 2).chunks.len();
    drop(servers.wait("more chunks", |state| state.chunks.len() >= count + 3));
    program.signal(2);
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(0), "{said}");
    let mut check = PayloadCheck::new(0);
    check.push(&servers.state().stream());
    let report = check.report();
    assert!(report.is_perfect(), "{report:?}");
}

#[test]
fn refusals_and_silence_have_their_exit_codes_and_cures() {
    let servers = Servers::start("news", 0);
    servers.state().refuse = Some(RefusalReason::NotAuthorised);
    let route = servers.addr.to_string();
    let (code, said) = run(&["publish", "news", "--route", &route, "--input", "test:"]);
    assert!(code == Some(2) && said.contains("--secret"), "{code:?} {said}");
    let (code, said) = run(&["publish", "news", "--route", &route, "--input", "/nowhere.ts"]);
    assert!(code == Some(1) && said.contains("/nowhere.ts"), "{code:?} {said}");
    let (code, said) = run(&["publish", "news", "--route", "0.0.0.0:7200", "--input", "test:"]);
    assert!(code == Some(1) && said.contains("its own address"), "{code:?} {said}");
    let (code, said) = run(&["watch", "bad/name", "--route", &route]);
    assert!(code == Some(1) && said.contains("stream name"), "{code:?} {said}");
    let (code, said) = run(&["watch", "news", "--route", &route, "--report", "/nowhere/report.json"]);
    assert!(code == Some(1) && said.contains("--report") && !said.contains("ready"), "{code:?} {said}");
    let (code, said) = run(&["check", "--route", &route]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["check"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_is_no_transport_stream_is_refused() {
    let servers = Servers::start("news", 0);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'x'; 300_000]).expect("written");
    let route = servers.addr.to_string();
    let (code, said) = run(&["publish", "news", "--route", &route, "--input", file.path().to_str().expect("text")]);
    assert!(code == Some(1) && said.contains("not an MPEG transport stream"), "{code:?} {said}");
}

/// A live stream, a watcher of it, and where its output and report go.
struct Watched {
    servers: Servers,
    publisher: Program,
    watcher: Program,
    dir: tempfile::TempDir,
}

impl Watched {
    fn start() -> Watched {
        let servers = Servers::start("news", 65_530);
        let publisher = publisher(&servers, "test:1000");
        drop(servers.wait("a join point", |state| state.chunks.len() >= 3));
        let dir = tempfile::tempdir().expect("a directory");
        let (output, report) = (dir.path().join("out.ts"), dir.path().join("report.json"));
        let (route, path) =
            (servers.addr.to_string(), |path: &std::path::Path| path.to_str().expect("text").to_owned());
        let files = [path(&output), path(&report)];
        let watcher = Program::start(&[
            "watch",
            "news",
            "--route",
            &route,
            "--bind",
            "127.0.1.5",
            "--output",
            &files[0],
            "--report",
            &files[1],
            "--status",
            "off",
        ]);
        Watched { servers, publisher, watcher, dir }
    }

    /// Plays over HTTP until `len` bytes came, after the response's head.
    fn play(&self, request: &str, len: usize) -> (String, Vec<u8>) {
        let (addr, path) = self.watcher.url();
        let mut player = TcpStream::connect(addr).expect("a player connects");
        player.set_read_timeout(Some(HANG)).expect("set");
        player.write_all(request.replace("PATH", &path).as_bytes()).expect("asked");
        let (mut bytes, mut buf) = (Vec::new(), [0; 4096]);
        let head = loop {
            let got = player.read(&mut buf).expect("a response");
            assert!(got > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buf[..got]);
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..at + 4).collect()).expect("text");
            }
        };
        while bytes.len() < len {
            let got = player.read(&mut buf).expect("media");
            assert!(got > 0, "closed after {} bytes", bytes.len());
            bytes.extend_from_slice(&buf[..got]);
        }
        bytes.truncate(len);
        (head, bytes)
    }

    /// Ends both: the report and what was written.
    fn end(self, signal: i32) -> (serde_json::Value, Vec<u8>, Servers) {
        self.watcher.signal(signal);
        let (status, said) = self.watcher.end();
        assert_eq!(status.code(), Some(0), "{said}");
        drop(self.publisher);
        let read = |name| std::fs::read(self.dir.path().join(name)).expect("written");
        (serde_json::from_slice(&read("report.json")).expect("JSON"), read("out.ts"), self.servers)
    }
}

const GET: &str = "GET PATH HTTP/1.1\r\nHost: me\r\n\r\n";

#[test]
fn what_is_played_is_what_was_published_on_every_sink() {
    let watched = Watched::start();
    let (head, first) = watched.play(GET, 188 * 1_500);
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("video/mp2t"), "{head}");
    let (_, second) = watched.play("GET / HTTP/1.0\r\n\r\n", 188 * 1_500);
    let (report, file, servers) = watched.end(15);
    let published = servers.state().stream();
    for played in [&first, &second, &file] {
        assert_is_part_of(played, &published);
    }
    assert!(report["addr"].as_str().is_some_and(|addr| addr.starts_with("127.0.1.5:")), "{report}");
    assert_eq!(
        (&report["domain"], &report["chunks_missed"], &report["chunks_refused"]),
        (&3.into(), &0.into(), &0.into())
    );
    assert_eq!((&report["continuity"], &report["ended"]), (&1.0.into(), &"left".into()), "{report}");
    assert!(report["startup_ms"].as_u64().is_some() && report["lag_ms"]["p50"].as_u64().is_some(), "{report}");
    assert_eq!(report["bytes_by_source"].as_object().map(|sources| sources.len()), Some(1), "{report}");
}

#[test]
fn nonsense_at_every_door_disturbs_nothing() {
    let watched = Watched::start();
    let addr = watched.watcher.ready["addr"].as_str().expect("an address").to_owned();
    for garbage in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xC7, VERSION, 1, 0, 0xFF, 0xFF, 0xFF, 0xFF], &[0xC7, 9, 2, 0]]
    {
        let mut link = TcpStream::connect(&addr).expect("a link");
        link.write_all(garbage).expect("sent");
        link.write_all(&[0; 8]).expect("sent");
        link.set_read_timeout(Some(HANG)).expect("set");
        assert!(matches!(link.read(&mut [0; 64]), Ok(0) | Err(_)), "the link is closed");
    }
    let udp = UdpSocket::bind("127.0.1.6:0").expect("a socket");
    udp.send_to(&[b"WC".as_slice(), &[VERSION], b"\xFFnonsense"].concat(), &addr).expect("sent");
    for (request, status) in [
        ("GET /other.ts HTTP/1.1\r\n\r\n", "404"),
        ("POST PATH HTTP/1.1\r\n\r\n", "405"),
        ("\x01\x02 nonsense\r\n\r\n", "400"),
    ] {
        let (head, _) = watched.play(request, 0);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    let (_, played) = watched.play(GET, 188 * 500);
    let (report, _, servers) = watched.end(2);
    assert_is_part_of(&played, &servers.state().stream());
    let counters = &report["counters"];
    assert_eq!(
        (&counters["net"]["garbage"], &counters["playout"]["requests_bad"]),
        (&3.into(), &3.into()),
        "{counters}"
    );
    assert_eq!(counters["net"]["datagrams_bad"], 1, "{counters}");
}

#[test]
fn the_streams_end_is_an_end_like_any_other() {
    let servers = Servers::start("news", 0);
    let publisher = publisher(&servers, "test:500");
    drop(servers.wait("a join point", |state| state.chunks.len() >= 3));
    let route = servers.addr.to_string();
    let watcher = Program::start(&["watch", "news", "--route", &route, "--status", "off"]);
    let chunks = servers.state().chunks.len();
    drop(servers.wait("some more", |state| state.chunks.len() >= chunks + 3));
    publisher.signal(15);
    assert_eq!(publisher.end().0.code(), Some(0));
    let (status, said) = watcher.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn a_stream_that_nobody_publishes_is_told() {
    let servers = Servers::start("news", 0);
    let (code, said) = run(&["watch", "other", "--route", &servers.addr.to_string(), "--status", "off"]);
    assert!(code == Some(2) && said.contains("no such stream"), "{code:?} {said}");
}

#[test]
fn a_wrong_chunk_is_neither_played_nor_kept() {
    let watched = Watched::start();
    let next = watched.servers.state().chunks.len() as u64 + 65_530;
    watched.servers.state().spoil = (next + 2..next + 4).collect();
    drop(watched.servers.wait("both were asked for", |state| state.spoil.is_empty()));
    let (_, played) = watched.play(GET, 188 * 200);
    let chunks = watched.servers.state().chunks.len();
    // Past the play position of the spoilt ones: they are 6 s behind the newest.
    drop(watched.servers.wait("they were due", |state| state.chunks.len() >= chunks + 35));
    let (report, file, servers) = watched.end(15);
    assert!(report["chunks_refused"].as_u64() >= Some(1), "{report}");
    let mut check = PayloadCheck::new(0);
    check.push(&file);
    assert!(check.report().is_unharmed(), "{:?}", check.report());
    assert_is_part_of(&played, &servers.state().stream());
}
