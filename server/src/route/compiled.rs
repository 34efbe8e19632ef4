//! The compiled file, read: before the first datagram, and again at each SIGHUP.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use cache_core::proto::route::domains::Domains;
use cache_core::proto::route::places::file::{FileError, HEADER_BYTES, Header};
use cache_core::proto::route::places::{PlaceList, Places};

/// Why a compiled file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CompiledError {
    /// It cannot be read.
    #[error(
        "compiled: {file}: {error}; write it with `weircast-route compile --out {file} INPUT...`, or leave compiled out"
    )]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("compiled: {file}: {error}")]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: FileError,
    },
    /// It names a domain that the configuration has not.
    #[error(
        "compiled: {file} names domain {domain}, which no [[domain]] has as its id; add one, or compile without it"
    )]
    Domain {
        /// The file.
        file: PathBuf,
        /// The domain.
        domain: u16,
    },
}

/// Reads `file`, checks it, and makes it fast to ask.
pub fn load(file: &Path, domains: &Domains) -> Result<Places, CompiledError> {
    let bytes = read(file).map_err(|error| CompiledError::Read { file: file.to_owned(), error })?;
    let list = bytes.and_then(|bytes| PlaceList::decode(&bytes));
    let places = list.map_err(|error| CompiledError::Content { file: file.to_owned(), error })?.index();
    match places.domains().into_iter().find(|domain| !domains.contains(*domain)) {
        Some(domain) => Err(CompiledError::Domain { file: file.to_owned(), domain: domain.0 }),
        None => Ok(places),
    }
}

/// The file's bytes; no more is allocated than its header explains.
fn read(file: &Path) -> std::io::Result<Result<Vec<u8>, FileError>> {
    let mut file = File::open(file)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    if let Err(error) = Header::read(&bytes, len) {
        return Ok(Err(error));
    }
    bytes.reserve_exact((len as usize).saturating_sub(bytes.len()));
    file.take(len.saturating_sub(HEADER_BYTES as u64)).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// What was read, for `check` and the log.
pub fn describe(file: &Path, places: &Places) -> String {
    let (networks, kinds, kib) = (places.networks(), places.places(), places.bytes().div_ceil(1024));
    format!("compiled: {}: {networks} networks in {kinds} places, {kib} KiB in memory", file.display())
}
