//! Two domains of real servers: a route server, an index server and a cache for each, and a stream from one to the other.

mod cache_rig;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use cache_core::time::Span;
use cache_rig::{Cache, head, send_chunk, transport_stream, until};

/// An index or route server, killed at the end.
struct Server {
    child: Child,
    listen: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start(program: &str, config: &str) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, config).expect("written");
        let mut child = Command::new(program)
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let json = line.strip_prefix("ready ").expect("ready");
        let ready: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let listen = ready["listen"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
        Server { child, listen, _directory: directory }
    }

    fn index(route: SocketAddr, domain: u16) -> Server {
        let config = format!("listen = \"127.0.0.1:0\"\ndomain = {domain}\nroute = [\"{route}\"]\n");
        Server::start(env!("CARGO_BIN_EXE_weircast-index"), &config)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FROM_THE_START: &str = "http_back_chunks = 255\npull_back_chunks = 255\n";

/// Two domains of one cache each; the caches, and what must live as long as they.
fn two_domains() -> (Cache, Cache, [Server; 3]) {
    // Caches find index servers and those the route server by their configuration; peers, which ask the route server
    // for index servers, are not part of this.
    let route = "listen = \"127.0.0.1:0\"\n\
        [[domain]]\nid = 1\nname = \"a\"\nindexes = [\"127.0.0.1:1\"]\ncidrs = [\"127.0.0.0/9\"]\n\
        [[domain]]\nid = 2\nname = \"b\"\nindexes = [\"127.0.0.1:2\"]\ncidrs = [\"127.128.0.0/9\"]\n";
    let route = Server::start(env!("CARGO_BIN_EXE_weircast-route"), route);
    let (first, second) = (Server::index(route.listen, 1), Server::index(route.listen, 2));
    let cache = |index: &Server| Cache::start(&format!("index = [\"{}\"]\n{FROM_THE_START}", index.listen));
    let (a, b) = (cache(&first), cache(&second));
    (a, b, [route, first, second])
}

/// Asks again while the stream is not known there: its announcement is on its way.
fn viewer(cache: &Cache) -> std::net::TcpStream {
    until("the other domain knows the stream", || {
        let mut viewer = cache.request("GET /live/news.ts HTTP/1.1\r\n\r\n");
        head(&mut viewer).starts_with("HTTP/1.1 200").then_some(viewer)
    })
}

#[test]
fn a_viewer_in_the_other_domain_sees_the_same_bytes() {
    let (here, there, _servers) = two_domains();
    // 20 chunks at once: a viewer whose shard was not given the CPU meanwhile is not so far behind that it skips.
    let published = transport_stream(7, Span::from_secs(4));
    let (begin, rest) = published.split_at(published.len() / 2);
    let mut put = here.put("/live/news");
    send_chunk(&mut put, begin);
    let mut viewer = viewer(&there);
    send_chunk(&mut put, rest);
    put.write_all(b"0\r\n\r\n").expect("sent");
    let mut played = vec![0; published.len()];
    std::io::Read::read_exact(&mut viewer, &mut played).expect("played");
    assert!(played == published);
    assert_eq!(there.stats()["control"]["chunks_wrong"], 0);
}

#[test]
fn a_name_that_is_live_in_one_domain_is_taken_in_the_other() {
    let (here, there, _servers) = two_domains();
    let mut put = here.put("/live/news");
    send_chunk(&mut put, &transport_stream(7, Span::from_secs(3)));
    drop(viewer(&there));
    // Live: chunk after chunk, while the other one tries.
    let more = transport_stream(7, Span::from_secs(20));
    let mut chunks = more.chunks(more.len() / 200).skip(30);
    let (status, said) = until("it is refused", || {
        send_chunk(&mut put, chunks.next().expect("refused long before"));
        let answer = there.put_all("/live/news", &transport_stream(8, Span::from_secs(1)));
        (answer.0 != 503).then_some(answer)
    });
    assert_eq!(status, 409, "{said}");
}
