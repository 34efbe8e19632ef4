//! How values become bytes: fields in the order they are declared, integers big-endian, lists behind a one-byte count
//! that is checked against the list's bound before anything is allocated.
//!
//! [`wire_struct!`] and [`wire_kinds!`] write both directions from one declaration, so they cannot drift apart. The
//! byte tables are in `docs/WIRE.md`, golden bytes in `tests/golden.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::peer_id::PeerId;
use crate::time::WallClock;
use crate::units::{ChunkSeq, DomainId, Epoch, StreamId};

/// Why bytes were refused. Nothing was changed and nothing beyond the stated limits was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// Bytes are left over behind the last field.
    #[error("{0} bytes are left over behind the message")]
    Trailing(usize),
    /// The first bytes are not Weircast's.
    #[error("not a Weircast message")]
    Magic,
    /// A version this program does not speak.
    #[error("wire version {0} is not spoken here (this program speaks {ours})", ours = super::VERSION)]
    Version(u8),
    /// No message has this kind number.
    #[error("unknown message kind {0}")]
    Kind(u8),
    /// A length or count above its limit.
    #[error("{what}: {got} is over the limit of {max}")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What it claimed.
        got: usize,
        /// What is allowed.
        max: usize,
    },
    /// A value outside its range.
    #[error("{0} has a value outside its range")]
    Value(&'static str),
}

/// Reads fields from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading: an error when bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }
}

/// A value with one encoding.
pub trait Wire: Sized {
    /// Appends the encoding.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads one value; on an error the reader's position is unspecified.
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! wire_integers {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.array().map(<$t>::from_be_bytes)
            }
        }
    )*};
}
wire_integers!(u8, u16, u32, u64);

macro_rules! wire_newtypes {
    ($($t:ident($inner:ty) = $make:expr, $get:expr;)*) => {$(
        impl Wire for $t {
            fn put(&self, out: &mut Vec<u8>) {
                let get: fn(&$t) -> $inner = $get;
                get(self).put(out);
            }
            fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                <$inner>::take(r).map($make)
            }
        }
    )*};
}
wire_newtypes! {
    ChunkSeq(u64) = ChunkSeq::new, |v| v.get();
    StreamId(u64) = StreamId, |v| v.0;
    Epoch(u64) = Epoch, |v| v.0;
    DomainId(u16) = DomainId, |v| v.0;
    WallClock(u64) = WallClock::from_micros, |v| v.micros();
}

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array()
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(r)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Value("flag")),
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.put(out);
            }
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::take(r)? { Some(T::take(r)?) } else { None })
    }
}

/// 7 bytes, big-endian.
impl Wire for PeerId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bits().to_be_bytes()[1..]);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let low: [u8; 7] = r.array()?;
        let mut bits = [0; 8];
        bits[1..].copy_from_slice(&low);
        PeerId::from_bits(u64::from_be_bytes(bits)).ok_or(DecodeError::Value("peer id"))
    }
}

/// Family (4 or 6), address, port: 7 or 19 bytes. An IPv4 address mapped into IPv6 is written as IPv4.
impl Wire for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self.ip().to_canonical() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        self.port().put(out);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ip = match u8::take(r)? {
            4 => IpAddr::V4(Ipv4Addr::from(r.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(r.array::<16>()?)).to_canonical(),
            _ => return Err(DecodeError::Value("address family")),
        };
        Ok(SocketAddr::new(ip, u16::take(r)?))
    }
}

/// At most `MAX` values behind a one-byte count.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// The most values it holds.
    pub const MAX: usize = MAX;

    /// An empty list.
    pub const fn new() -> Self {
        const { assert!(MAX <= 255, "the count is one byte") };
        List(Vec::new())
    }

    /// The first `MAX` of `items`; the rest is left out.
    pub fn first_of(items: impl IntoIterator<Item = T>) -> Self {
        List(items.into_iter().take(MAX).collect())
    }

    /// Appends `item`; gives it back when the list is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.0.len() == MAX {
            return Err(item);
        }
        self.0.push(item);
        Ok(())
    }

    /// Drops all but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The values.
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> std::ops::Deref for List<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Wire, const MAX: usize> Wire for List<T, MAX> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        for item in &self.0 {
            item.put(out);
        }
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(u8::take(r)?);
        if count > MAX {
            return Err(DecodeError::TooLong { what: "list", got: count, max: MAX });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::take(r)?);
        }
        Ok(List(items))
    }
}

/// At most `MAX` bytes behind a two-byte length: room for what only its maker reads (a join ticket).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Blob<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Blob<MAX> {
    /// The bytes; `None` when there are more than `MAX`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MAX).then(|| Blob(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> Wire for Blob<MAX> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.0.len() as u16).put(out);
        out.extend_from_slice(&self.0);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(u16::take(r)?);
        if len > MAX {
            return Err(DecodeError::TooLong { what: "blob", got: len, max: MAX });
        }
        Ok(Blob(r.bytes(len)?.to_vec()))
    }
}

/// Text for a person, UTF-8, cut at `MAX` bytes when made; what is not UTF-8 is refused when read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The first `MAX` bytes of `text`, cut between characters.
    pub fn cut(text: &str) -> Self {
        let mut end = text.len().min(MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Text(text[..end].to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Wire for Text<MAX> {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        out.extend_from_slice(self.0.as_bytes());
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const { assert!(MAX <= 255, "the length is one byte") };
        let len = usize::from(u8::take(r)?);
        if len > MAX {
            return Err(DecodeError::TooLong { what: "text", got: len, max: MAX });
        }
        let text = std::str::from_utf8(r.bytes(len)?).map_err(|_| DecodeError::Value("text"))?;
        Ok(Text(text.to_owned()))
    }
}

/// Declares a struct whose encoding is its fields in order.
macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $t:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $t,)* }

        impl $crate::wire::codec::Wire for $name {
            #[allow(unused_variables, reason = "a message may have no field")]
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::wire::codec::Wire::put(&self.$field, out);)*
            }
            #[allow(unused_variables, reason = "a message may have no field")]
            fn take(r: &mut $crate::wire::codec::Reader<'_>) -> Result<Self, $crate::wire::codec::DecodeError> {
                Ok($name { $($field: $crate::wire::codec::Wire::take(r)?,)* })
            }
        }
    };
}
pub(crate) use wire_struct;

/// Declares an enum of messages, each a struct with a kind number of its own.
macro_rules! wire_kinds {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $kind:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant($variant),)* }

        impl $name {
            /// The message's kind number.
            pub const fn kind(&self) -> u8 {
                match self { $($name::$variant(_) => $kind,)* }
            }
            /// The message's name, for logs.
            pub const fn name(&self) -> &'static str {
                match self { $($name::$variant(_) => stringify!($variant),)* }
            }
            pub(crate) fn put_body(&self, out: &mut Vec<u8>) {
                match self { $($name::$variant(body) => $crate::wire::codec::Wire::put(body, out),)* }
            }
            /// Reads a whole body; left-over bytes are an error.
            pub(crate) fn take_body(kind: u8, body: &[u8]) -> Result<Self, $crate::wire::codec::DecodeError> {
                let mut r = $crate::wire::codec::Reader::new(body);
                let message = match kind {
                    $($kind => $name::$variant($crate::wire::codec::Wire::take(&mut r)?),)*
                    other => return Err($crate::wire::codec::DecodeError::Kind(other)),
                };
                r.finish()?;
                Ok(message)
            }
        }

        $(impl From<$variant> for $name {
            fn from(body: $variant) -> $name {
                $name::$variant(body)
            }
        })*
    };
}
pub(crate) use wire_kinds;
