//! A live stream's newest chunk, as its cache tells it: `GET /live/NAME/head`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A cache that takes longer is not one to measure (our guess).
const PATIENCE: Duration = Duration::from_secs(2);

/// Largest answer: a number, and what stands around it.
const ANSWER_BYTES_MAX: u64 = 4096;

/// The newest chunk's number.
pub(crate) fn newest(server: SocketAddr, path: &str) -> Result<u64> {
    let mut socket = TcpStream::connect_timeout(&server, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    // A server that keeps the connection ends the patience, with its answer read.
    let _ = socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer);
    number(&answer).with_context(|| format!("{path}: no number"))
}

/// The number behind `"head"` in a good answer's body, or the first if it has no such key.
fn number(answer: &str) -> Result<u64> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let line = head.lines().next().unwrap_or_default();
    ensure!(line.split(' ').nth(1) == Some("200"), "{line}");
    let body = body.split_once("\"head\"").map_or(body, |(_, behind)| behind);
    let digits = body.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().context("the body holds none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_chunk_of_a_good_answer() {
        let bodies = [("412\n", 412), ("{\"seq\": 7, \"x\": 9}", 7), ("{\"oldest\":3,\"head\":258}\n", 258)];
        for (body, number_in_it) in bodies {
            assert_eq!(number(&format!("HTTP/1.1 200 OK\r\nX: 5\r\n\r\n{body}")).ok(), Some(number_in_it));
        }
        assert!(number("HTTP/1.1 404 Not Found\r\n\r\n12").is_err() && number("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
