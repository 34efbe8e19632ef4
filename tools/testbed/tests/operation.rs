//! What an operator sees: errors that say what to mend, exit codes, and servers that nothing from the network disturbs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use cache_core::media::{Generator, GeneratorConfig};
use cache_core::prng::Prng;
use cache_core::wire::VERSION;
use rustix::process::Signal;
use weircast_testbed::media::is_live;
use weircast_testbed::wait::HANG;
use weircast_testbed::{Cluster, Programs, eventually, http};

const SERVERS: [&str; 3] = ["weircast-route", "weircast-index", "weircast-cache"];

/// Runs a server, or its check, with this configuration until it ends.
fn run(program: &str, verb: &[&str], config: &str) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("config.toml");
    std::fs::write(&file, config)?;
    let path = Programs::find()?.path(program)?;
    Ok(Command::new(path).args(verb).arg("--config").arg(&file).output()?)
}

/// Whether it failed before it was ready, and said in few words what to mend, each of `names` among them.
fn sentence(output: &Output, names: &[&str]) -> Result<()> {
    let [out, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let all = format!("{out}{said}");
    ensure!(!output.status.success(), "it went well: {all}");
    ensure!(!out.contains("ready {") && !all.contains("panicked"), "{all}");
    ensure!((1..=3).contains(&said.trim().lines().count()) || said.is_empty(), "not one sentence: {all}");
    for name in names {
        ensure!(all.contains(name), "{name} is not named: {all}");
    }
    Ok(())
}

#[test]
fn a_misspelt_key_is_named() -> Result<()> {
    for program in SERVERS {
        for verb in [&["check"][..], &[]] {
            let output = run(program, verb, "lisen = \"127.0.0.1:0\"\n")?;
            sentence(&output, &["lisen"]).context(program)?;
        }
    }
    Ok(())
}

#[test]
fn a_bad_value_is_named_with_its_key() -> Result<()> {
    for program in SERVERS {
        for verb in [&["check"][..], &[]] {
            let output = run(program, verb, "listen = \"at home\"\n")?;
            sentence(&output, &["listen"]).context(program)?;
        }
    }
    sentence(&run("weircast-cache", &[], "send = \"pigeon\"\n")?, &["send"])?;
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> Result<()> {
    for program in SERVERS {
        let path = Programs::find()?.path(program)?;
        let output = Command::new(path).args(["--config", "/nowhere/weircast.toml"]).output()?;
        sentence(&output, &["/nowhere/weircast.toml"]).context(program)?;
    }
    let route = "listen = \"127.0.0.1:0\"\nmmdb = \"/nowhere/city.mmdb\"\n";
    sentence(&run("weircast-route", &[], route)?, &["/nowhere/city.mmdb"])
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    for (program, taken) in SERVERS.into_iter().zip([udp.local_addr()?, udp.local_addr()?, tcp.local_addr()?]) {
        let more = if program == "weircast-index" { "domain = 1\nroute = [\"127.0.0.1:9\"]\n" } else { "" };
        let output = run(program, &[], &format!("listen = \"{taken}\"\n{more}"))?;
        sentence(&output, &[&taken.to_string()]).context(program)?;
    }
    Ok(())
}

#[test]
fn sigterm_and_sigint_end_every_server_well() -> Result<()> {
    for signal in [Signal::TERM, Signal::INT] {
        let mut cluster = Cluster::builder().domain().start()?;
        for server in cluster.servers_mut() {
            server.process.signal(signal);
            let status = server.process.wait_exit(HANG)?;
            ensure!(status.success(), "{} after {signal:?}: {status}", server.process.name());
        }
    }
    Ok(())
}

/// What a stranger may send.
fn garbage(prng: &mut Prng) -> Vec<Vec<u8>> {
    let mut noise = |len: usize| (0..len).map(|_| prng.next_u64() as u8).collect::<Vec<u8>>();
    vec![
        Vec::new(),
        vec![0xC7],
        vec![0xC7, VERSION, 2, 0, 0xFF, 0xFF, 0xFF, 0xFF],
        vec![0xC7, 99, 2, 0, 0, 0, 0, 1, 0],
        [&[0xC7, VERSION, 2, 0, 0, 0, 16, 0][..], &noise(4096)].concat(),
        [&[b'W', b'C', VERSION, 0x10][..], &noise(400)].concat(),
        [&[b'W', b'C', VERSION, 0x80][..], &noise(60)].concat(),
        noise(1),
        noise(1_400),
        noise(60_000),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"GET /live/../../etc/passwd HTTP/1.1\r\n\r\n".to_vec(),
        b"PUT /live/x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"PUT /live/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        [&b"GET /"[..], &[b'a'; 100_000]].concat(),
        b"\r\n\r\n\r\n".to_vec(),
    ]
}

fn throw_udp(at: SocketAddr, garbage: &[Vec<u8>]) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for bytes in garbage {
        // One that is too large for a datagram is not sent at all.
        let _ = socket.send_to(bytes, at);
    }
    Ok(())
}

fn throw_tcp(at: SocketAddr, garbage: &[Vec<u8>]) -> Result<()> {
    for bytes in garbage {
        let mut socket = TcpStream::connect(at)?;
        socket.set_read_timeout(Some(HANG))?;
        // The other side may close before all of it is taken.
        let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = socket.take(1 << 16).read_to_end(&mut answer);
    }
    Ok(())
}

#[test]
fn garbage_to_every_port_disturbs_nothing() -> Result<()> {
    let mut cluster = Cluster::builder().domain().start()?;
    let cache = cluster.cache(0).listen;
    let mut generator = Generator::new(GeneratorConfig::default());
    let mut media = Vec::new();
    for _ in 0..500 {
        generator.next_frame(&mut media);
    }
    let mut upload = TcpStream::connect(cache)?;
    write!(upload, "PUT /live/news HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", media.len())?;
    upload.write_all(&media)?;
    upload.write_all(b"\r\n")?;
    eventually("the stream", HANG, || is_live(&cluster, 0, "news").then_some(()))?;
    let mut viewer = cluster.watch(0, "news").start()?;
    let peer = viewer.wait_ready(HANG)?.addr;

    let garbage = garbage(&mut Prng::new(7));
    throw_udp(cluster.route().listen, &garbage)?;
    throw_udp(cluster.index_server(0).listen, &garbage)?;
    throw_udp(peer, &garbage)?;
    throw_tcp(cache, &garbage)?;
    throw_tcp(peer, &garbage)?;

    ensure!(is_live(&cluster, 0, "news"), "the stream plays on");
    ensure!(http::get(cache, "/stats")?.status == 200);
    let mut second = cluster.watch(0, "news").start()?;
    second.wait_ready(HANG).context("a viewer that joins afterwards")?;
    ensure!(viewer.process.is_running(), "the viewer goes on");
    for server in cluster.servers_mut() {
        ensure!(server.process.is_running(), "{} goes on", server.process.name());
    }
    Ok(())
}
