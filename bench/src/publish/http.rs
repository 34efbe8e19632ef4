//! A PUT of MPEG-TS with chunked transfer encoding, as ffmpeg does it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Target;

/// A cache that takes nothing for so long is not there any more (our guess).
const PATIENCE: Duration = Duration::from_secs(10);

/// An upload under way.
pub(super) struct HttpLink {
    socket: TcpStream,
}

impl HttpLink {
    /// Connects and sends the request's head. A refusal is seen at the next chunk.
    pub(super) fn open(target: &Target) -> Result<HttpLink> {
        let mut socket = TcpStream::connect_timeout(&target.cache, PATIENCE)
            .with_context(|| format!("cannot connect to the cache at {}", target.cache))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let secret = target.secret.as_ref().map(|secret| format!("Authorization: Bearer {secret}\r\n"));
        let head = format!(
            "PUT /live/{} HTTP/1.1\r\nHost: {}\r\nContent-Type: video/mp2t\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            target.stream,
            target.cache,
            secret.unwrap_or_default()
        );
        socket.write_all(head.as_bytes())?;
        Ok(HttpLink { socket })
    }

    /// Sends the stream's next bytes; returns when the socket has them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        if let Err(error) = self.socket.write_all(&chunk) {
            // The reason is in the answer, if there is one.
            self.check()?;
            return Err(error).context("the cache does not take the stream any more");
        }
        Ok(())
    }

    /// Ends the upload.
    pub(super) fn end(mut self) -> Result<()> {
        self.socket.write_all(b"0\r\n\r\n").context("the cache closed the upload")
    }

    /// An error when the cache has answered in the middle of the upload, with its words.
    fn check(&mut self) -> Result<()> {
        let mut answer = [0; 1024];
        self.socket.set_nonblocking(true)?;
        let got = self.socket.read(&mut answer);
        self.socket.set_nonblocking(false)?;
        match got {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("the link to the cache broke"),
            Ok(0) => bail!("the cache closed the upload"),
            Ok(got) => {
                let text = String::from_utf8_lossy(&answer[..got]);
                if text.starts_with("HTTP/1.1 100") {
                    return Ok(());
                }
                let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
                bail!("the cache ends the upload: {} {}", head.lines().next().unwrap_or_default(), body.trim())
            }
        }
    }
}
