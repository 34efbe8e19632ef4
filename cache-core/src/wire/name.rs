//! Stream names.

use super::codec::{DecodeError, Reader, Wire};
use crate::limits::STREAM_NAME_BYTES_MAX;

/// A stream's name: 1..=64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Box<str>);

/// Why a text is no stream name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream name has 1 to 64 characters of A-Z a-z 0-9 . _ - and does not begin with a dot")]
pub struct BadStreamName;

impl StreamName {
    /// The name, checked.
    pub fn new(name: &str) -> Result<StreamName, BadStreamName> {
        let good = (1..=STREAM_NAME_BYTES_MAX).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if good { Ok(StreamName(name.into())) } else { Err(BadStreamName) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for StreamName {
    type Err = BadStreamName;
    fn from_str(name: &str) -> Result<StreamName, BadStreamName> {
        StreamName::new(name)
    }
}

impl std::fmt::Display for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Wire for StreamName {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        out.extend_from_slice(self.0.as_bytes());
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u8::take(r)?);
        if len > STREAM_NAME_BYTES_MAX {
            return Err(DecodeError::TooLong { what: "stream name", got: len, max: STREAM_NAME_BYTES_MAX });
        }
        let text = std::str::from_utf8(r.bytes(len)?).map_err(|_| DecodeError::Value("stream name"))?;
        StreamName::new(text).map_err(|_| DecodeError::Value("stream name"))
    }
}
