//! Starting the real programs of index and route server, and asking them over UDP.
#![allow(dead_code, unreachable_pub, reason = "shared by test files, of which each uses a part")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cache_core::sign::ClusterKey;
use cache_core::wire::datagram::{Cookie, Datagram, Message};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything before a test is called hung.
const HANG: Duration = Duration::from_secs(30);

/// A configuration file that is deleted with the test.
pub fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> Ended {
    let output = Command::new(program).args(args).env_remove("RUST_LOG").output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A server that has said that it is ready; killed with the test.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub ready: serde_json::Value,
    pub listen: SocketAddr,
}

impl Server {
    /// Starts `program` with a configuration and waits for its ready line.
    pub fn start(program: &str, configuration: &str) -> Server {
        let file = file(configuration);
        let mut child = Command::new(program)
            .args(["--config", file.path().to_str().expect("a path")])
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let json = line.strip_prefix("ready ").unwrap_or_else(|| panic!("a ready line, not {line:?}"));
        let ready: serde_json::Value = serde_json::from_str(json).expect("json");
        let listen = ready["listen"].as_str().expect("an address").parse().expect("an address");
        Server { child, stdout, ready, listen }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("sent");
    }

    /// Sends a signal and waits for the end: the exit code, and what was written on stdout behind the ready line.
    pub fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let since = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status.code();
            }
            assert!(since.elapsed() < HANG, "the program does not end");
            std::thread::yield_now();
        };
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        (code, rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody on loopback who asks.
pub struct Asker {
    socket: UdpSocket,
    cluster: ClusterKey,
    cookie: Cookie,
    exchange: u32,
    /// Challenges answered.
    pub challenges: u32,
}

impl Asker {
    pub fn new(cluster_secret: &str) -> Asker {
        Asker::at("127.0.0.1:0", cluster_secret)
    }

    pub fn at(listen: &str, cluster_secret: &str) -> Asker {
        let socket = UdpSocket::bind(listen).expect("a port");
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        let cluster = ClusterKey::derive(cluster_secret);
        Asker { socket, cluster, cookie: Cookie::default(), exchange: 0, challenges: 0 }
    }

    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// The cookie of the server that was asked last.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    pub fn send(&self, to: SocketAddr, exchange: u32, message: Message) {
        let packet = Datagram { exchange, cookie: self.cookie, message }.encode(&self.cluster).expect("fits");
        self.socket.send_to(&packet, to).expect("sent");
    }

    /// The next packet.
    pub fn receive(&self) -> (SocketAddr, Datagram) {
        let mut packet = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut packet).expect("an answer before the test hangs");
        (from, Datagram::decode(&packet[..len], &self.cluster).expect("readable"))
    }

    /// Asks, answers the challenge, and returns the answer. What is not the answer is dropped.
    pub fn ask(&mut self, to: SocketAddr, message: impl Into<Message>) -> Message {
        let message = message.into();
        self.exchange += 1;
        self.send(to, self.exchange, message.clone());
        loop {
            let (from, datagram) = self.receive();
            match datagram.message {
                _ if from != to || datagram.exchange != self.exchange => {}
                Message::Challenge(_) => {
                    self.challenges += 1;
                    self.cookie = datagram.cookie;
                    self.send(to, self.exchange, message.clone());
                }
                answer => return answer,
            }
        }
    }
}
