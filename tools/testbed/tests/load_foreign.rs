//! The load generator against servers that are not Weircast's: a small relay that speaks as icecast does, and one that
//! gives files. Each also with wrong bytes, which the run must find.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use cache_core::media::{Generator, GeneratorConfig};
use cache_core::units::BitRate;
use serde_json::Value;
use weircast_testbed::wait::HANG;
use weircast_testbed::workdir::Workdir;
use weircast_testbed::{Process, Programs};

/// Files that the file server has, a chunk each.
const FILES: usize = 8;

/// Every so-manieth byte of a relay that lies is wrong.
const LIE_EVERY: usize = 100_003;

/// Serves each connection in a thread of its own, as long as the test runs.
fn serve(each: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let each = each.clone();
            // A viewer that leaves is no error.
            std::thread::spawn(move || drop(each(socket)));
        }
    });
    Ok(address)
}

/// A request's head, as lines.
fn head(socket: &mut impl BufRead) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        ensure!(socket.read_line(&mut line)? > 0, "the connection ended");
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// Passes what a source PUTs on to everybody who GETs.
fn relay(lies: bool) -> Result<SocketAddr> {
    let viewers: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    serve(move |mut socket| {
        let mut reader = BufReader::new(socket.try_clone()?);
        let lines = head(&mut reader)?;
        if lines[0].starts_with("GET /live.ts ") {
            socket.write_all(b"HTTP/1.0 200 OK\r\nServer: relay\r\nContent-Type: video/mp2t\r\n\r\n")?;
            viewers.lock().expect("whole").push(socket);
            return Ok(());
        }
        let login = lines.iter().any(|line| line == "Authorization: Basic c291cmNlOmhhY2ttZQ==");
        if !login || !lines[0].starts_with("PUT /live.ts ") {
            socket.write_all(b"HTTP/1.1 401 Authentication Required\r\n\r\nwho are you?")?;
            return Ok(());
        }
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        let (mut some, mut sent) = ([0; 4_096], 0);
        loop {
            let got = reader.read(&mut some)?;
            if got == 0 {
                return Ok(());
            }
            for (at, byte) in (sent..).zip(&mut some[..got]) {
                *byte ^= u8::from(lies && at % LIE_EVERY == 0);
            }
            sent += got;
            viewers.lock().expect("whole").retain_mut(|viewer| viewer.write_all(&some[..got]).is_ok());
        }
    })
}

/// Gives files `/0.ts` to `/7.ts` over connections that stay.
fn files(lies: bool) -> Result<SocketAddr> {
    let mut generator = Generator::new(GeneratorConfig { rate: BitRate::from_kbps(500), ..GeneratorConfig::default() });
    let mut files: Vec<Vec<u8>> = Vec::new();
    for _ in 0..FILES {
        let mut file = Vec::new();
        for _ in 0..5 {
            generator.next_frame(&mut file);
        }
        files.push(file);
    }
    if lies {
        files[3][5_000] ^= 1;
    }
    serve(move |mut socket| {
        socket.set_nodelay(true)?;
        let mut reader = BufReader::new(socket.try_clone()?);
        loop {
            let lines = head(&mut reader)?;
            let name = lines[0].strip_prefix("GET /").and_then(|rest| rest.split_once(".ts ")).context("a name")?.0;
            let file = &files[name.parse::<usize>()?];
            write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", file.len())?;
            socket.write_all(file)?;
        }
    })
}

/// Runs `weircast-load` to its end: its report, and whether it passed.
fn load(args: &[&str]) -> Result<(Value, bool)> {
    let programs = Programs::find()?;
    let dir = Arc::new(Workdir::new()?);
    let json = dir.file("load.json");
    let json_text = json.display().to_string();
    let common = ["--kbps", "500", "-n", "10", "--seconds", "2", "--correctness-only", "--json", &json_text];
    let args: Vec<String> = args.iter().chain(&common).map(ToString::to_string).collect();
    let mut load = Process::spawn(&dir, &programs, "load", "weircast-load", &args)?;
    let status = load.wait_exit(HANG)?;
    let report = std::fs::read(json).with_context(|| dir.logs())?;
    Ok((serde_json::from_slice(&report)?, status.success()))
}

#[test]
fn a_relay_as_icecast_is_measured_and_its_lies_are_found() -> Result<()> {
    for (lies, verify, passes) in [(false, "all", true), (false, "none", true), (true, "all", false)] {
        let url = format!("http://source:hackme@{}/live.ts", relay(lies)?);
        let (report, passed) = load(&["run", "--url", &url, "--verify", verify])?;
        ensure!(passed == passes && (report["wrong"].as_u64() > Some(0)) == lies, "{lies}, {verify}: {report:#}");
        ensure!(report["chunks_due"].as_u64() >= Some(8), "{report:#}");
        ensure!(report["lateness_from_upload_ms"]["p50"].is_f64() || lies, "{report:#}");
    }
    Ok(())
}

#[test]
fn a_source_without_the_password_is_told_so() -> Result<()> {
    let url = format!("http://{}/live.ts", relay(false)?);
    ensure!(load(&["run", "--url", &url]).is_err(), "nothing to report");
    Ok(())
}

#[test]
fn files_are_got_at_a_pace_or_in_a_closed_loop_and_wrong_ones_are_found() -> Result<()> {
    for (lies, more, passes) in [
        (false, &["--generated"][..], true),
        (false, &["--verify", "none"], true),
        (false, &["--verify", "none", "--closed-loop"], true),
        (true, &["--generated"], false),
    ] {
        let url = format!("http://{}/{{seq}}.ts", files(lies)?);
        let args = [&["viewers", "--url", &url, "--mode", "get", "--get-modulo", "8"], more].concat();
        // `viewers` has a --kbps of its own, for generated streams.
        let (report, passed) = load(&args)?;
        ensure!(passed == passes && (report["wrong"].as_u64() > Some(0)) == lies, "{lies}, {more:?}: {report:#}");
    }
    Ok(())
}
