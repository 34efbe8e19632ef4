//! Received bytes become frames. Bytes that end inside a frame wait here, at most one frame of them.

use std::ops::ControlFlow;

use cache_core::wire::{DecodeError, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK};

/// The beginning of a frame whose end has not arrived; empty for most connections at most times.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

/// One frame from a viewer.
pub(super) enum Received {
    /// A message.
    Frame(Frame),
    /// A message of a kind that is not known here; its place in the stream is.
    UnknownKind,
}

impl Inbox {
    /// Hands every whole frame in `bytes` (behind what was kept) to `each`, which may break off; the rest is kept.
    ///
    /// # Errors
    /// Framing is lost, or a frame cannot be read, or it is a chunk, which a viewer has none of. Frames in front of it
    /// have been handed over. The connection is to be closed.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Received) -> ControlFlow<()>,
    ) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            let used = take_frames(bytes, &mut each)?;
            self.0.extend_from_slice(&bytes[used..]);
        } else {
            self.0.extend_from_slice(bytes);
            let mut kept = std::mem::take(&mut self.0);
            let used = take_frames(&kept, &mut each)?;
            kept.drain(..used);
            // Nothing kept: an idle connection holds no memory for it.
            if !kept.is_empty() {
                self.0 = kept;
            }
        }
        Ok(())
    }
}

/// How many bytes at the front of `bytes` were whole frames.
fn take_frames(bytes: &[u8], each: &mut impl FnMut(Received) -> ControlFlow<()>) -> Result<usize, DecodeError> {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
        let head = FrameHead::decode(head)?;
        if head.kind == KIND_CHUNK {
            return Err(DecodeError::Value("a viewer's frame"));
        }
        let Some((body, behind)) = behind.split_at_checked(head.body_len) else { break };
        rest = behind;
        let received = match Frame::decode(head.kind, body) {
            Ok(frame) => Received::Frame(frame),
            Err(DecodeError::Kind(_)) => Received::UnknownKind,
            Err(error) => return Err(error),
        };
        if each(received).is_break() {
            return Ok(bytes.len());
        }
    }
    Ok(bytes.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use cache_core::units::StreamId;
    use cache_core::wire::exchange::{PartnersQuery, Unsubscribe};
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame::from(Unsubscribe { stream: StreamId(1) }).encode(&mut bytes);
        bytes.extend_from_slice(&FrameHead { kind: 200, body_len: 3 }.encode());
        bytes.extend_from_slice(b"new");
        Frame::from(PartnersQuery {}).encode(&mut bytes);
        bytes
    }

    fn fed(parts: &[&[u8]]) -> Result<String, DecodeError> {
        let (mut inbox, mut seen) = (Inbox::default(), String::new());
        for part in parts {
            inbox.feed(part, |received| {
                seen.push_str(match received {
                    Received::Frame(frame) => frame.name(),
                    Received::UnknownKind => "?",
                });
                seen.push(' ');
                ControlFlow::Continue(())
            })?;
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_are_cut(a in 0usize..40, b in 0usize..40) {
            let bytes = frames();
            let (a, b) = (a.min(bytes.len()), b.min(bytes.len()));
            let (a, b) = (a.min(b), a.max(b));
            let seen = fed(&[&bytes[..a], &bytes[a..b], &bytes[b..]]);
            prop_assert_eq!(seen, Ok("Unsubscribe ? PartnersQuery ".to_owned()));
        }
    }

    #[test]
    fn a_chunk_is_refused_at_its_head() {
        let head = FrameHead { kind: KIND_CHUNK, body_len: 1 << 20 }.encode();
        assert!(fed(&[&head]).is_err(), "not a megabyte later");
    }
}
