//! A request's body off the wire: of a given length, chunked, or until the sender closes (RFC 9112, 6 and 7). Pure.

/// How a body comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Until the sender closes.
    UntilClose,
    /// So many bytes.
    Length(u64),
    /// In chunks, each behind its size.
    Chunked,
}

/// Longest line between chunks: size, extension or trailer field (our guess; encoders send ten bytes).
const LINE_BYTES_MAX: usize = 256;

/// Most trailer fields.
const TRAILERS_MAX: u32 = 16;

/// The body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body's chunked coding cannot be read")]
pub(super) struct BadBody;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So much of the body, or of a chunk, is still to come.
    Data(u64),
    /// Until the sender closes.
    Endless,
    /// In the line of a chunk's size.
    Size,
    /// In the empty line behind a chunk.
    AfterChunk,
    /// In the trailer, so many fields seen.
    Trailer(u32),
    Done,
}

/// A body being read.
#[derive(Debug)]
pub(super) struct Body {
    chunked: bool,
    state: State,
    line: Vec<u8>,
}

impl Body {
    /// Nothing read yet.
    pub(super) fn new(coding: Coding) -> Body {
        let state = match coding {
            Coding::UntilClose => State::Endless,
            Coding::Length(0) => State::Done,
            Coding::Length(length) => State::Data(length),
            Coding::Chunked => State::Size,
        };
        Body { chunked: coding == Coding::Chunked, state, line: Vec::new() }
    }

    /// Whether the body was there to its last byte.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the sender may close here: the body is done, or has no end of its own.
    pub(super) fn may_end(&self) -> bool {
        matches!(self.state, State::Done | State::Endless)
    }

    /// Takes the next stretch of content off the front of `bytes`; `None` when `bytes` holds no more. What follows
    /// the body's end is dropped.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, BadBody> {
        while !bytes.is_empty() {
            match self.state {
                State::Done => *bytes = &[],
                State::Endless => return Ok(Some(std::mem::take(bytes))),
                State::Data(left) => {
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (data, rest) = bytes.split_at(len);
                    *bytes = rest;
                    let left = left - len as u64;
                    self.state = match (left, self.chunked) {
                        (0, true) => State::AfterChunk,
                        (0, false) => State::Done,
                        _ => State::Data(left),
                    };
                    return Ok(Some(data));
                }
                State::Size | State::AfterChunk | State::Trailer(_) => self.take_line(bytes)?,
            }
        }
        Ok(None)
    }

    /// Collects a line and, when it is whole, goes on by what it says.
    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<(), BadBody> {
        let end = bytes.iter().position(|b| *b == b'\n');
        let (part, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
        *bytes = rest;
        if self.line.len() + part.len() > LINE_BYTES_MAX {
            return Err(BadBody);
        }
        self.line.extend_from_slice(part);
        if end.is_none() {
            return Ok(());
        }
        let line = self.line.trim_ascii();
        self.state = match self.state {
            State::Size => match size(line)? {
                0 => State::Trailer(0),
                size => State::Data(size),
            },
            State::AfterChunk if line.is_empty() => State::Size,
            State::Trailer(_) if line.is_empty() => State::Done,
            State::Trailer(seen) if seen < TRAILERS_MAX => State::Trailer(seen + 1),
            _ => return Err(BadBody),
        };
        self.line.clear();
        Ok(())
    }
}

/// The number in front of a chunk; what follows a semicolon is an extension and means nothing.
fn size(line: &[u8]) -> Result<u64, BadBody> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BadBody);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BadBody)?;
    u64::from_str_radix(digits, 16).map_err(|_| BadBody)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces of `piece`; the content.
    fn read(coding: Coding, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Body), BadBody> {
        let (mut body, mut content) = (Body::new(coding), Vec::new());
        for mut part in bytes.chunks(piece) {
            while let Some(data) = body.next(&mut part)? {
                content.extend_from_slice(data);
            }
        }
        Ok((content, body))
    }

    #[test]
    fn a_chunked_body_reads_the_same_however_it_is_split() {
        let wire = b"5\r\nhello\r\n1;name=value\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext request";
        for piece in 1..wire.len() {
            let (content, body) = read(Coding::Chunked, wire, piece).expect("well-formed");
            assert_eq!((content.as_slice(), body.is_done()), (&b"hello 0123456789"[..], true), "pieces of {piece}");
        }
    }

    #[test]
    fn a_body_with_a_length_ends_there() {
        let (content, body) = read(Coding::Length(5), b"hello, more", 2).expect("well-formed");
        assert_eq!((content.as_slice(), body.is_done()), (&b"hello"[..], true));
        let (_, body) = read(Coding::Length(5), b"hell", 2).expect("well-formed");
        assert!(!body.may_end());
    }

    #[test]
    fn a_body_without_either_goes_on_until_the_close() {
        let (content, body) = read(Coding::UntilClose, b"0\r\n\r\n", 3).expect("well-formed");
        assert_eq!((content.as_slice(), body.is_done(), body.may_end()), (&b"0\r\n\r\n"[..], false, true));
    }

    #[test]
    fn nonsense_in_the_coding_is_refused() {
        for wire in [&b"xyz\r\n"[..], b"\r\n", b"-1\r\n", b"5\r\nhelloX\r\n", b"FFFFFFFFFFFFFFFFF\r\n", &[b'1'; 400]] {
            assert!(read(Coding::Chunked, wire, 7).is_err(), "{wire:?}");
        }
        let endless: Vec<u8> = b"0\r\n".iter().copied().chain(b"a: b\r\n".repeat(50)).collect();
        assert!(read(Coding::Chunked, &endless, 100).is_err(), "a trailer without end");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), piece in 1usize..50) {
            if let Ok((content, body)) = read(Coding::Chunked, &bytes, piece) {
                prop_assert!(content.len() <= bytes.len() && body.line.len() <= LINE_BYTES_MAX);
            }
        }
    }
}
