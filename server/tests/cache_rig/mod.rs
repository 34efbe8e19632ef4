//! Real cache servers on loopback, and the publishers and viewers that the tests of the control plane are made of.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it, as a module of its own")]

pub mod fake_index;
pub mod native;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cache_core::media::generator::Content;
use cache_core::media::{Generator, GeneratorConfig};
use cache_core::time::Span;
use serde_json::Value;

/// A hang, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody has at the moment.
pub fn free_port(ip: &str) -> SocketAddr {
    let listener = std::net::TcpListener::bind((ip, 0)).expect("an address of this host");
    listener.local_addr().expect("bound")
}

/// A `weircast-cache` of its own, killed at the end.
pub struct Cache {
    child: Child,
    pub listen: SocketAddr,
    directory: tempfile::TempDir,
}

impl Cache {
    /// Stand-alone, one shard, 64 MiB, and what `extra` sets.
    pub fn start(extra: &str) -> Cache {
        let (mut child, directory) = spawn(extra);
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let json = line.strip_prefix("ready ").unwrap_or_else(|| panic!("not ready: {line:?} {}", log(&directory)));
        let ready: Value = serde_json::from_str(json).expect("JSON");
        let listen = ready["listen"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
        Cache { child, listen, directory }
    }

    /// One that is expected not to start: its exit status and what it says.
    pub fn refused(extra: &str) -> (ExitStatus, String) {
        let (mut child, directory) = spawn(extra);
        let status = wait(&mut child);
        (status, log(&directory))
    }

    pub fn log(&self) -> String {
        log(&self.directory)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listen).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    pub fn slab(&self) -> PathBuf {
        let ip = self.listen.ip().to_string().replace(':', "_");
        format!("/dev/shm/weircast-cache-{ip}-{}.ring", self.listen.port()).into()
    }

    pub fn stats(&self) -> Value {
        let (status, body) = response(self.request("GET /stats HTTP/1.1\r\n\r\n"));
        assert_eq!(status, 200);
        serde_json::from_str(&body).expect("JSON")
    }

    /// What `/stats` says of a stream; null when it does not know it.
    pub fn stream(&self, name: &str) -> Value {
        let stats = self.stats();
        let streams = stats["streams"].as_array().expect("a list").clone();
        streams.into_iter().find(|stream| stream["name"] == name).unwrap_or_default()
    }

    pub fn request(&self, head: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    }

    /// A PUT in chunked coding, its head sent.
    pub fn put(&self, target: &str) -> TcpStream {
        self.request(&format!("PUT {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"))
    }

    /// Publishes all of `body`; the answer.
    pub fn put_all(&self, target: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.put(target);
        send_chunk(&mut stream, body);
        stream.write_all(b"0\r\n\r\n").expect("sent");
        response(stream)
    }

    /// Plays `/live/NAME.ts` until `len` bytes of body have come.
    pub fn play(&self, name: &str, len: usize) -> Vec<u8> {
        let mut stream = self.request(&format!("GET /live/{name}.ts HTTP/1.1\r\nHost: x\r\n\r\n"));
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = vec![0; len];
        if let Err(error) = stream.read_exact(&mut body) {
            panic!("{error}; {} {}", self.stats(), self.log());
        }
        body
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.slab());
        if std::thread::panicking() {
            eprintln!("cache {} said:\n{}", self.listen, self.log());
        }
    }
}

fn spawn(extra: &str) -> (Child, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut text = String::new();
    for (key, value) in
        [("listen", "\"127.0.0.1:0\""), ("memory_mib", "64"), ("shards", "1"), ("connections_max", "200")]
    {
        if !extra.lines().any(|line| line.trim_start().starts_with(key)) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text.push_str(extra);
    let config = directory.path().join("cache.toml");
    std::fs::write(&config, text).expect("written");
    let log = std::fs::File::create(directory.path().join("log")).expect("created");
    let child = Command::new(env!("CARGO_BIN_EXE_weircast-cache"))
        .arg("--config")
        .arg(&config)
        .args(["--log", "info"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("started");
    (child, directory)
}

fn log(directory: &tempfile::TempDir) -> String {
    std::fs::read_to_string(directory.path().join("log")).unwrap_or_default()
}

fn wait(child: &mut Child) -> ExitStatus {
    until("the cache ends", || child.try_wait().expect("waited"))
}

pub fn send_chunk(stream: &mut TcpStream, content: &[u8]) {
    stream.write_all(format!("{:x}\r\n", content.len()).as_bytes()).expect("sent");
    stream.write_all(content).expect("sent");
    stream.write_all(b"\r\n").expect("sent");
}

/// A response's head.
pub fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// A whole response: status and body.
pub fn response(mut stream: TcpStream) -> (u16, String) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("a response");
    let text = String::from_utf8(all).expect("text");
    let status = text.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{text:?}"));
    (status, text.split_once("\r\n\r\n").expect("a head").1.to_owned())
}

/// `span` of a generated stream at 1 Mbit/s with a key frame each second; its stamps carry `tag`.
pub fn transport_stream(tag: u64, span: Span) -> Vec<u8> {
    let mut generator = Generator::new(GeneratorConfig {
        rate: cache_core::units::BitRate::from_kbps(1_000),
        content: Content::Picture { fps: 25, key_frame_every: 25 },
        tag,
        ..GeneratorConfig::default()
    });
    let mut bytes = Vec::new();
    while generator.due() < span {
        generator.next_frame(&mut bytes);
    }
    bytes
}
