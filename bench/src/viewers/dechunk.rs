//! Chunked transfer encoding, taken off (RFC 9112, section 7.1): some servers send an endless stream in it.

use crate::measure::Trouble;

/// Longest line of a chunk's size with its extensions.
const LINE_BYTES_MAX: usize = 256;

/// Where in the encoding a body is.
#[derive(Debug)]
pub(super) enum Dechunk {
    /// In the line with a chunk's size, or in front of it.
    Size(Vec<u8>),
    /// In a chunk.
    Data { left: usize },
    /// In the line end behind a chunk.
    End { left: usize },
}

impl Dechunk {
    pub(super) fn new() -> Dechunk {
        Dechunk::Size(Vec::new())
    }

    /// Takes some of `bytes`: what is of the body, and the rest.
    pub(super) fn step<'b>(&mut self, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), Trouble> {
        let broken = || Trouble::Protocol("the chunked encoding is broken".to_owned());
        match self {
            Dechunk::Size(line) => {
                let (some, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => bytes.split_at(end + 1),
                    None => (bytes, &b""[..]),
                };
                line.extend_from_slice(some);
                if line.len() > LINE_BYTES_MAX {
                    return Err(broken());
                }
                if line.last() == Some(&b'\n') {
                    let text = std::str::from_utf8(line).map_err(|_| broken())?;
                    let size = text.split([';', '\r', '\n']).next().unwrap_or("").trim();
                    match usize::from_str_radix(size, 16).map_err(|_| broken())? {
                        0 => return Err(Trouble::Closed),
                        left => *self = Dechunk::Data { left },
                    }
                }
                Ok((&b""[..], rest))
            }
            Dechunk::Data { left } => {
                let (some, rest) = bytes.split_at(bytes.len().min(*left));
                self.discarded(some.len());
                Ok((some, rest))
            }
            Dechunk::End { left } => {
                let rest = &bytes[bytes.len().min(*left)..];
                *left -= bytes.len() - rest.len();
                if *left == 0 {
                    *self = Dechunk::new();
                }
                Ok((&b""[..], rest))
            }
        }
    }

    /// How many bytes of the body come next without anything between.
    pub(super) fn plain(&self) -> usize {
        match self {
            Dechunk::Data { left } => *left,
            _ => 0,
        }
    }

    /// So many of these were thrown away.
    pub(super) fn discarded(&mut self, len: usize) {
        if let Dechunk::Data { left } = self {
            *left = left.saturating_sub(len);
            if *left == 0 {
                *self = Dechunk::End { left: 2 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(mut bytes: &[u8], pieces: usize) -> Result<Vec<u8>, Trouble> {
        let (mut dechunk, mut body) = (Dechunk::new(), Vec::new());
        while !bytes.is_empty() {
            let (mut piece, rest) = bytes.split_at(pieces.min(bytes.len()));
            while !piece.is_empty() {
                let (some, behind) = dechunk.step(piece)?;
                body.extend_from_slice(some);
                piece = behind;
            }
            bytes = rest;
        }
        Ok(body)
    }

    #[test]
    fn the_encoding_comes_off_however_it_is_cut() {
        let coded = b"5\r\nhello\r\n1;x=y\r\n,\r\nA \r\n wide wide\r\n";
        for pieces in 1..=coded.len() {
            assert_eq!(body(coded, pieces).as_deref(), Ok(&b"hello, wide wide"[..]), "in pieces of {pieces}");
        }
    }

    #[test]
    fn an_end_and_nonsense_are_told_apart() {
        assert_eq!(body(b"1\r\nx\r\n0\r\n\r\n", 3), Err(Trouble::Closed));
        assert!(matches!(body(b"five\r\nhello", 3), Err(Trouble::Protocol(_))));
        assert!(matches!(body(&[b'1'; 1_000], 100), Err(Trouble::Protocol(_))));
    }
}
