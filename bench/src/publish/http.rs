//! A PUT of MPEG-TS: to a cache with chunked transfer encoding, as ffmpeg does it; to icecast as its sources do it,
//! with a login, `Expect: 100-continue` and a body without length or encoding.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cache_core::wire::StreamName;

use crate::options::url::Url;

/// A server that takes nothing for so long is not there any more (our guess).
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer that is read for its words.
const ANSWER_BYTES_MAX: usize = 4096;

/// The body's side of an upload.
pub(super) struct Body {
    chunked: bool,
    heard: Vec<u8>,
}

/// Connects to a cache and sends the request's head. A refusal is seen at the next chunk.
pub(super) fn open(cache: SocketAddr, name: &StreamName, secret: Option<&str>) -> Result<(TcpStream, Body)> {
    let mut socket = connect(cache)?;
    let secret = secret.map(|secret| format!("Authorization: Bearer {secret}\r\n")).unwrap_or_default();
    let head = format!(
        "PUT /live/{name} HTTP/1.1\r\nHost: {cache}\r\nContent-Type: video/mp2t\r\n{secret}Transfer-Encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    Ok((socket, Body { chunked: true, heard: Vec::new() }))
}

/// Connects to another server and is told to go on.
pub(super) fn open_foreign(url: &Url, name: &StreamName) -> Result<(TcpStream, Body)> {
    let mut socket = connect(url.address)?;
    let login = url.authorization().map(|login| format!("Authorization: {login}\r\n")).unwrap_or_default();
    let path = url.path.replace("{stream}", name.as_str());
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {}\r\n{login}User-Agent: weircast-load\r\nContent-Type: video/mp2t\r\n\
         Ice-Public: 0\r\nIce-Name: {name}\r\nExpect: 100-continue\r\n\r\n",
        url.host
    );
    socket.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 512];
        let got = socket.read(&mut some).context("the server does not answer the upload")?;
        if got == 0 || answer.len() > ANSWER_BYTES_MAX {
            bail!("the server ends the upload: {}", words(&answer));
        }
        answer.extend_from_slice(&some[..got]);
    }
    match status(&answer) {
        Some(100 | 200) => Ok((socket, Body { chunked: false, heard: Vec::new() })),
        _ => bail!("the server refuses the upload: {}", words(&answer)),
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("cannot connect to the server at {address}"))?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

impl Body {
    /// What stands in front of and behind `len` bytes of the stream.
    pub(super) fn around(&self, len: usize) -> (Vec<u8>, &'static [u8]) {
        if self.chunked { (format!("{len:x}\r\n").into_bytes(), b"\r\n") } else { (Vec::new(), b"") }
    }

    /// What ends the body.
    pub(super) fn end(&self) -> &'static [u8] {
        if self.chunked { b"0\r\n\r\n" } else { b"" }
    }

    /// An error when the server has answered in the middle of the upload, with its words.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<()> {
        self.heard.extend_from_slice(bytes);
        self.heard.truncate(ANSWER_BYTES_MAX);
        match status(&self.heard) {
            Some(100) => {
                self.heard.clear();
                Ok(())
            }
            // icecast says 200 as soon as it takes the source.
            Some(200) if !self.chunked => Ok(()),
            _ => bail!("the server ends the upload: {}", words(&self.heard)),
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// The status line and the text behind the head.
fn words(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    format!("{} {}", head.lines().next().unwrap_or_default(), body.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_the_middle_ends_the_upload_with_its_words() {
        let mut body = Body { chunked: true, heard: Vec::new() };
        assert!(body.hear(b"HTTP/1.1 100 Continue\r\n\r\n").is_ok());
        let error = body.hear(b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\nno such key\n").expect_err("a refusal");
        assert_eq!(format!("{error}"), "the server ends the upload: HTTP/1.1 403 Forbidden no such key");
        assert!(Body { chunked: false, heard: Vec::new() }.hear(b"HTTP/1.0 200 OK\r\n\r\n").is_ok());
    }

    #[test]
    fn what_stands_around_a_piece() {
        assert_eq!(Body { chunked: true, heard: Vec::new() }.around(255), (b"ff\r\n".to_vec(), &b"\r\n"[..]));
        assert_eq!(Body { chunked: false, heard: Vec::new() }.around(255), (Vec::new(), &b""[..]));
    }
}
