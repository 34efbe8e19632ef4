//! As much of an HTTP/1.1 client as the tests need: one request, one connection, no redirects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use crate::wait::HANG;

/// Largest answer that is read whole.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Download {
    /// The status code.
    pub status: u16,
    chunked: bool,
    left: Option<u64>,
    from: BufReader<TcpStream>,
}

/// `GET path`, read whole.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    request(server, &format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"), &[])
}

/// Sends `head` and `body` as they are and reads the whole answer.
pub fn request(server: SocketAddr, head: &str, body: &[u8]) -> Result<Answer> {
    let mut download = open(server, head, body)?;
    let mut body = Vec::new();
    download.read_to_end(&mut body)?;
    Ok(Answer { status: download.status, body })
}

/// `GET path`; the body is read by the caller.
pub fn download(server: SocketAddr, path: &str) -> Result<Download> {
    open(server, &format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n"), &[])
}

/// Sends `head` and `body` as they are and reads the answer's head.
pub fn open(server: SocketAddr, head: &str, body: &[u8]) -> Result<Download> {
    let mut socket =
        TcpStream::connect_timeout(&server, HANG).with_context(|| format!("cannot connect to {server}"))?;
    socket.set_read_timeout(Some(HANG))?;
    socket.set_write_timeout(Some(HANG))?;
    socket.write_all(head.as_bytes())?;
    // A refusal may come, and the connection end, while the body is being sent.
    let _ = socket.write_all(body);
    let mut from = BufReader::new(socket);
    let status = line(&mut from)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("{server} does not answer in HTTP"))?;
    let (mut chunked, mut left) = (false, None);
    loop {
        let field = line(&mut from)?.to_ascii_lowercase();
        match field.split_once(':').map(|(key, value)| (key, value.trim())) {
            None => break,
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(("content-length", value)) => left = Some(value.parse()?),
            Some(_) => {}
        }
    }
    Ok(Download { status, chunked, left, from })
}

impl Download {
    /// Reads until the end of the body, at most 16 MiB.
    pub fn read_to_end(&mut self, to: &mut Vec<u8>) -> Result<()> {
        while self.read_some(to)? {
            if to.len() as u64 > BODY_BYTES_MAX {
                bail!("an answer is over {BODY_BYTES_MAX} bytes");
            }
        }
        Ok(())
    }

    /// Appends what comes next; false at the end.
    pub fn read_some(&mut self, to: &mut Vec<u8>) -> Result<bool> {
        if self.chunked && self.left.is_none_or(|left| left == 0) {
            if self.left == Some(0) {
                line(&mut self.from)?;
            }
            let size = line(&mut self.from)?;
            self.left = Some(u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?);
            if self.left == Some(0) {
                return Ok(false);
            }
        }
        let mut some = [0; 64 << 10];
        let most = self.left.map_or(some.len(), |left| some.len().min(left as usize));
        let got = self.from.read(&mut some[..most])?;
        to.extend_from_slice(&some[..got]);
        self.left = self.left.map(|left| left - got as u64);
        Ok(got > 0)
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> Result<String> {
    const LINE_BYTES_MAX: u64 = 8 << 10;
    let mut bytes = Vec::new();
    from.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if !bytes.ends_with(b"\n") {
        bail!("the connection ended inside an HTTP head");
    }
    Ok(String::from_utf8(bytes)?.trim_end().to_owned())
}
