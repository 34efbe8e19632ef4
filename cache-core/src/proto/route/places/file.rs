//! The compiled file: a [`PlaceList`] as bytes.
//!
//! ```text
//!   0  8  "WCPLACES"                          72  8 n       places, packed
//!   8  4  version                                 4 a       first addresses of IPv4's ranges
//!  12  4  networks it was made from               4 a       their values
//!  16  4  n: places                              16 b       first addresses of IPv6's ranges
//!  20  4  a: ranges of IPv4                        4 b       their values
//!  24  4  b: ranges of IPv6
//!  28 12  zero
//!  40 32  BLAKE3 of all bytes but these
//! ```
//! All numbers are little-endian. Equal lists are equal bytes.
//!
//! Nothing is believed before it was checked, in this order: the first bytes, the version, that the counts are within their
//! bounds and explain the length, the checksum, that the ranges ascend and name places that are there.

use super::ranges::{Address, Ranges};
use super::{NETWORKS_MAX, Packed, PlaceList};

/// Bytes before the first place.
pub const HEADER_BYTES: usize = 72;

/// What this program writes and reads.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"WCPLACES";

/// Where the checksum stands.
const SUM: std::ops::Range<usize> = 40..72;

/// Each network begins a range and may end one; one range more is what lies before the first.
const RANGES_MAX: usize = 2 * NETWORKS_MAX + 1;

/// Why bytes are no list. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Something else's file.
    #[error("this is no compiled file of places; name the one that `weircast-route compile` wrote")]
    Foreign,
    /// Another version's file.
    #[error(
        "the file has version {0} and this program reads version {VERSION}; \
         write it again with this program's `weircast-route compile`"
    )]
    Version(u32),
    /// The header counts more than is allowed.
    #[error(
        "the header counts more than a list can have: the file is damaged; write it again with `weircast-route compile`"
    )]
    Counts,
    /// Torn.
    #[error(
        "the file has {is} bytes and should have {should}: it was cut short, or something was added; \
         write it again with `weircast-route compile`"
    )]
    Length {
        /// How many there are.
        is: u64,
        /// How many its header says.
        should: u64,
    },
    /// Damaged.
    #[error("the checksum does not fit: the file is damaged; write it again with `weircast-route compile`")]
    Checksum,
    /// Written by something else.
    #[error("the checksum fits and {0}: something else than `weircast-route compile` wrote the file; write it again")]
    Content(&'static str),
}

/// A header that may be believed as far as lengths go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    networks: usize,
    places: usize,
    v4: usize,
    v6: usize,
}

impl Header {
    /// Reads the header of a file that is `file_bytes` long. After that, `file_bytes` may be allocated.
    pub fn read(head: &[u8], file_bytes: u64) -> Result<Header, FileError> {
        let known = head.len().min(MAGIC.len());
        if head[..known] != MAGIC[..known] || known == 0 {
            return Err(FileError::Foreign);
        }
        let Some(head) = head.first_chunk::<HEADER_BYTES>() else {
            return Err(FileError::Length { is: file_bytes, should: HEADER_BYTES as u64 });
        };
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if number(8) != VERSION {
            return Err(FileError::Version(number(8)));
        }
        let header = Header {
            networks: number(12) as usize,
            places: number(16) as usize,
            v4: number(20) as usize,
            v6: number(24) as usize,
        };
        let fits = header.networks <= NETWORKS_MAX
            && header.places <= NETWORKS_MAX
            && header.v4 <= RANGES_MAX
            && header.v6 <= RANGES_MAX;
        if !fits {
            return Err(FileError::Counts);
        }
        let should = header.file_bytes();
        if should == file_bytes { Ok(header) } else { Err(FileError::Length { is: file_bytes, should }) }
    }

    const fn file_bytes(self) -> u64 {
        HEADER_BYTES as u64 + 8 * self.places as u64 + 8 * self.v4 as u64 + 20 * self.v6 as u64
    }
}

impl PlaceList {
    /// As the compiled file has it.
    pub fn encode(&self) -> Vec<u8> {
        let header =
            Header { networks: self.networks, places: self.places.len(), v4: self.v4.len(), v6: self.v6.len() };
        let mut bytes = Vec::with_capacity(header.file_bytes() as usize);
        bytes.extend_from_slice(MAGIC);
        for number in [VERSION as usize, header.networks, header.places, header.v4, header.v6] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        bytes.resize(HEADER_BYTES, 0);
        self.places.iter().for_each(|place| bytes.extend_from_slice(&place.0.to_le_bytes()));
        self.v4.starts().iter().for_each(|start| bytes.extend_from_slice(&start.to_le_bytes()));
        self.v4.values().iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        self.v6.starts().iter().for_each(|start| bytes.extend_from_slice(&start.to_le_bytes()));
        self.v6.values().iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        let sum = checksum(&bytes);
        bytes[SUM].copy_from_slice(&sum);
        bytes
    }

    /// From a whole file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<PlaceList, FileError> {
        let header = Header::read(bytes, bytes.len() as u64)?;
        if bytes[SUM] != checksum(bytes) {
            return Err(FileError::Checksum);
        }
        if bytes[28..SUM.start] != [0; 12] {
            return Err(FileError::Content("reserved bytes are not zero"));
        }
        // The lengths are what the header says: `read` compared them.
        let (places, rest) = bytes[HEADER_BYTES..].split_at(8 * header.places);
        let (v4, v6) = rest.split_at(8 * header.v4);
        let places: Vec<Packed> = numbers(places, u64::from_le_bytes).map(Packed).collect();
        if !places.iter().all(|packed| Packed::of(packed.place()) == *packed) {
            return Err(FileError::Content("a place has bits that no place has"));
        }
        Ok(PlaceList {
            networks: header.networks,
            v4: ranges(v4, header.v4, u32::from_le_bytes, places.len())?,
            v6: ranges(v6, header.v6, u128::from_le_bytes, places.len())?,
            places,
        })
    }
}

fn ranges<A: Address, const N: usize>(
    bytes: &[u8],
    count: usize,
    from: fn([u8; N]) -> A,
    places: usize,
) -> Result<Ranges<A>, FileError> {
    let (starts, values) = bytes.split_at(N * count);
    let (starts, values) = (numbers(starts, from).collect(), numbers(values, u32::from_le_bytes).collect());
    Ranges::checked(starts, values, places as u32)
        .ok_or(FileError::Content("its ranges do not follow each other, or name a place that is not there"))
}

fn numbers<T, const N: usize>(bytes: &[u8], from: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |number| from(*number))
}

fn checksum(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..SUM.start]).update(&bytes[SUM.end..]);
    *hasher.finalize().as_bytes()
}
