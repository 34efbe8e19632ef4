//! Publishing at the stream's own pace: chunk `k` leaves when its schedule says so, whatever the cache does.
//!
//! The native publisher stamps chunks with the *scheduled* moment, so that its own lateness is in the viewers' numbers
//! and cannot hide; over HTTP the cache stamps. How late chunks left is recorded and reported.

mod http;
mod native;
mod source;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use cache_core::sign::PublisherKey;
use cache_core::time::WallClock;
use cache_core::units::Epoch;
use cache_core::wire::StreamName;

pub(crate) use source::{GENERATED_TAG, Source};

use crate::measure::{Durations, wall_us};

/// How the stream gets to the cache.
#[derive(Debug)]
pub(crate) enum Upload {
    /// Weircast's protocol, signed with this key under this term.
    Native { key: Box<PublisherKey>, epoch: Epoch },
    /// HTTP PUT; the cache slices and signs.
    Http,
}

/// What is published where.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) cache: SocketAddr,
    pub(crate) stream: StreamName,
    pub(crate) secret: Option<String>,
    pub(crate) upload: Upload,
}

/// 25 pictures a second are 5 in 200 ms; finer, so that the cache's slicer hands a chunk out soon after its end.
const PICTURES_PER_CHUNK: usize = 10;

/// One publisher's link to a cache.
enum Link {
    Native(Box<native::NativeLink>),
    Http(http::HttpLink),
}

/// Publishes until `done`, which is asked before each chunk; `begun` is called once the cache has taken the publisher,
/// with the moment (wall clock) at which media time 0 is due. Returns how late each chunk left.
pub(crate) fn publish(
    target: &Target,
    mut source: Source,
    begun: impl FnOnce(u64),
    done: impl Fn() -> bool,
) -> Result<Durations> {
    let mut link = match &target.upload {
        Upload::Native { key, epoch } => Link::Native(Box::new(native::NativeLink::open(target, key, *epoch)?)),
        Upload::Http => Link::Http(http::HttpLink::open(target)?),
    };
    let mut late = Durations::new();
    let mut due_us = wall_us();
    begun(due_us);
    while !done() {
        let mut slice = source.next()?;
        let begin_us = due_us;
        due_us += u64::from(slice.duration_ms.max(1)) * 1_000;
        slice.published = WallClock::from_micros(due_us);
        match &mut link {
            // A chunk leaves when its last byte would have been there.
            Link::Native(link) => {
                if !wait_until(due_us, &done) {
                    break;
                }
                link.send(&slice)?;
            }
            // Bytes leave as an encoder would send them, picture by picture.
            Link::Http(link) => {
                let bytes = slice.stream_bytes();
                let pictures = bytes.chunks(bytes.len().div_ceil(PICTURES_PER_CHUNK).max(1));
                for (at, picture) in (1..).zip(pictures) {
                    if !wait_until(begin_us + (due_us - begin_us) * at / PICTURES_PER_CHUNK as u64, &done) {
                        break;
                    }
                    link.send(picture)?;
                }
            }
        }
        late.record(wall_us().saturating_sub(due_us));
    }
    match link {
        Link::Native(_) => {}
        Link::Http(link) => link.end()?,
    }
    Ok(late)
}

/// Waits until the wall clock shows `due_us`; false when `done` came first.
fn wait_until(due_us: u64, done: &impl Fn() -> bool) -> bool {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    loop {
        let left = Duration::from_micros(due_us.saturating_sub(wall_us()));
        if left.is_zero() {
            return true;
        }
        if done() {
            return false;
        }
        std::thread::park_timeout(left.min(LOOK_EVERY));
    }
}
