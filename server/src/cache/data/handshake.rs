//! The first bytes of a connection: who is it, and what does it want? Pure: bytes in, a verdict out.

use cache_core::wire::exchange::{Hello, Role};
use cache_core::wire::frame::FRAME_MAGIC;
use cache_core::wire::{DecodeError, FRAME_HEAD_BYTES, Frame, FrameHead};

use super::config::HANDSHAKE_BYTES_MAX;
use super::http::{self, HttpVerdict};

/// Kind of the one frame that a handshake may consist of ([`Frame::Hello`]).
const KIND_HELLO: u8 = 2;

/// What the first bytes mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not whole yet.
    More,
    /// A viewer's Hello of `len` bytes; what follows belongs to the conversation.
    Viewer {
        /// The Hello.
        hello: Hello,
        /// Its bytes.
        len: usize,
    },
    /// A publisher's Hello: control's.
    Publisher,
    /// A whole HTTP head.
    Http(HttpVerdict),
    /// A frame of another wire version.
    Version,
    /// A frame that cannot be read, or is no Hello.
    BadFrame,
    /// More than fits, and still not whole.
    Oversize,
    /// Neither a frame nor HTTP.
    Garbage,
}

/// Judges what has been received of a connection so far. Cost: one pass over at most 4 KiB.
pub(super) fn judge(bytes: &[u8]) -> Verdict {
    match bytes.first() {
        None => Verdict::More,
        Some(&FRAME_MAGIC) => judge_frame(bytes),
        // A method's first letter; lower case is no method.
        Some(first) if first.is_ascii_uppercase() => Verdict::from(http::judge(bytes)),
        Some(_) => Verdict::Garbage,
    }
}

impl From<Option<HttpVerdict>> for Verdict {
    fn from(verdict: Option<HttpVerdict>) -> Verdict {
        verdict.map_or(Verdict::More, Verdict::Http)
    }
}

fn judge_frame(bytes: &[u8]) -> Verdict {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return Verdict::More };
    let head = match FrameHead::decode(head) {
        Ok(head) => head,
        Err(DecodeError::Version(_)) => return Verdict::Version,
        Err(DecodeError::TooLong { .. }) => return Verdict::Oversize,
        Err(_) => return Verdict::BadFrame,
    };
    if head.kind != KIND_HELLO {
        return Verdict::BadFrame;
    }
    if FRAME_HEAD_BYTES + head.body_len > HANDSHAKE_BYTES_MAX {
        return Verdict::Oversize;
    }
    let Some(body) = rest.get(..head.body_len) else { return Verdict::More };
    match Frame::decode(head.kind, body) {
        Ok(Frame::Hello(Hello { role: Role::Publisher, .. })) => Verdict::Publisher,
        Ok(Frame::Hello(hello)) => Verdict::Viewer { hello, len: FRAME_HEAD_BYTES + head.body_len },
        _ => Verdict::BadFrame,
    }
}

#[cfg(test)]
mod tests {
    use cache_core::peer_id::PeerId;
    use cache_core::units::{DomainId, StreamId};
    use cache_core::wire::Blob;

    use super::*;

    fn hello(role: Role) -> Vec<u8> {
        let mut bytes = Vec::new();
        let hello = Hello {
            role,
            peer: PeerId::NONE,
            stream: StreamId(0),
            domain: DomainId(0),
            listen: None,
            ticket: Blob::default(),
        };
        Frame::from(hello).encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_hello_is_whole_at_its_last_byte_and_not_before() {
        let bytes = hello(Role::Viewer);
        for len in 0..bytes.len() {
            assert_eq!(judge(&bytes[..len]), Verdict::More, "{len} bytes");
        }
        assert!(matches!(judge(&bytes), Verdict::Viewer { len, .. } if len == bytes.len()));
        assert_eq!(judge(&hello(Role::Publisher)), Verdict::Publisher);
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        let with = |at: usize, value: u8| {
            let mut bytes = hello(Role::Peer);
            bytes[at] = value;
            judge(&bytes)
        };
        assert_eq!(with(0, 0x16), Verdict::Garbage, "TLS");
        assert_eq!(with(1, 9), Verdict::Version);
        assert_eq!(with(2, 7), Verdict::BadFrame, "a Request is no greeting");
        assert_eq!(with(2, 1), Verdict::BadFrame, "nor is a chunk");
        assert_eq!(with(6, 0x0f), Verdict::More);
        assert_eq!(with(6, 0x10), Verdict::Oversize);
        assert_eq!(with(4, 0xff), Verdict::Oversize, "a length that lies");
        assert_eq!(with(8, 77), Verdict::BadFrame, "no such role");
        assert_eq!(judge(b"\r\n"), Verdict::Garbage);
    }
}
