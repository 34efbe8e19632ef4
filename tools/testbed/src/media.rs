//! A stream whose bytes are known, and whether what was played is what was published.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cache_core::limits::{TABLES_BYTES_MAX, TS_PACKET_BYTES};

use crate::cluster::Cluster;
use crate::ffmpeg::TestPicture;
use crate::http;
use crate::process::Process;
use crate::wait::{HANG, eventually};

/// Enough to name a place in a stream: continuity counters and time stamps differ from place to place.
const PROBE_BYTES: usize = 10 * TS_PACKET_BYTES;

/// ffmpeg at work: it uploads, and keeps what it uploads.
#[derive(Debug)]
pub struct KeptStream {
    /// ffmpeg.
    pub process: Process,
    kept: PathBuf,
}

impl KeptStream {
    /// Encodes `seconds` of test picture and tone (H.264 and AAC) and PUTs them to the domain's cache as `stream`;
    /// returns when the cache plays them.
    pub fn start(cluster: &Cluster, ffmpeg: &Path, domain: usize, stream: &str, seconds: u32) -> Result<KeptStream> {
        let kept = cluster.file(&format!("{stream}.kept.ts"));
        let args = TestPicture::SMALL.put_and_keep(&cluster.live_url(domain, stream), &kept, Some(seconds));
        let process = cluster.spawn_path(&format!("ffmpeg-{stream}"), ffmpeg, &args)?;
        let published = KeptStream { process, kept };
        eventually("the stream at its cache", HANG, || is_live(cluster, domain, stream).then_some(()))?;
        Ok(published)
    }

    /// Waits until everything is encoded and uploaded, and returns its bytes.
    pub fn finish(&mut self) -> Result<Vec<u8>> {
        let status = self.process.wait_exit(HANG)?;
        if !status.success() {
            bail!("ffmpeg failed ({status}): {}", crate::workdir::tail(self.process.log()));
        }
        Ok(std::fs::read(&self.kept)?)
    }
}

/// Whether the domain's cache plays the stream over HTTP.
pub fn is_live(cluster: &Cluster, domain: usize, stream: &str) -> bool {
    http::download(cluster.cache(domain).listen, &format!("/live/{stream}.ts")).is_ok_and(|answer| answer.status == 200)
}

/// Where in `published` the bytes of `played` are, the tables in front of it apart: copies of PAT and PMT packets that
/// a player needs first. An error when they are not one stretch of it, byte for byte.
pub fn stretch_of(published: &[u8], played: &[u8]) -> Result<Range<usize>> {
    let mut differs = None;
    for tables in (0..=TABLES_BYTES_MAX).step_by(TS_PACKET_BYTES) {
        let Some((front, rest)) = played.split_at_checked(tables) else { break };
        if !are_tables(front) || !front.chunks(TS_PACKET_BYTES).all(|packet| is_in(published, packet)) {
            break;
        }
        let Some(probe) = rest.get(..PROBE_BYTES) else { break };
        let Some(start) = find(published, probe) else { continue };
        let there = &published[start..published.len().min(start + rest.len())];
        if there == rest {
            return Ok(start..start + rest.len());
        }
        let same = there.iter().zip(rest).take_while(|(a, b)| a == b).count();
        differs.get_or_insert((start, same));
    }
    match differs {
        Some((start, same)) => bail!(
            "what was played begins at byte {start} of what was published and differs after {same} bytes ({} played, {} \
             published from there on)",
            played.len(),
            published.len() - start
        ),
        None => bail!("the beginning of what was played ({} bytes) was never published", played.len()),
    }
}

/// Whether packets are a PAT's and one PMT's: the first is the PAT's, and all others have its PID or one more.
fn are_tables(packets: &[u8]) -> bool {
    let pids: BTreeSet<u16> = packets.chunks(TS_PACKET_BYTES).map(pid).collect();
    packets.is_empty() || (pid(packets) == 0 && pids.len() <= 2)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1F, packet[2]])
}

/// Whether `packet` is one of the stream's packets.
fn is_in(stream: &[u8], packet: &[u8]) -> bool {
    stream.chunks(TS_PACKET_BYTES).any(|other| other == packet)
}

/// The packet of `stream` at which `probe` begins.
fn find(stream: &[u8], probe: &[u8]) -> Option<usize> {
    (0..stream.len()).step_by(TS_PACKET_BYTES).find(|at| stream[*at..].starts_with(probe))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets told apart by their letter: T is a PAT's, U a PMT's.
    fn stream(letters: &str) -> Vec<u8> {
        let packet = |letter| {
            let mut packet = [letter; TS_PACKET_BYTES];
            packet[1..3].copy_from_slice(match letter {
                b'T' => &[0x40, 0],
                b'U' => &[0x50, 0],
                _ => &[0x41, 0],
            });
            packet
        };
        letters.bytes().flat_map(packet).collect()
    }

    const PUBLISHED: &str = "TUabcdefghijklmnopqrstuvwxyz";

    #[test]
    fn a_stretch_is_found_behind_its_tables() {
        let published = stream(PUBLISHED);
        let at = |from: usize, to: usize| from * TS_PACKET_BYTES..to * TS_PACKET_BYTES;
        assert_eq!(stretch_of(&published, &stream("TUdefghijklmnop")).expect("it is there"), at(5, 18));
        assert_eq!(stretch_of(&published, &stream("defghijklmnopqrstuvwxyz")).expect("it is there"), at(5, 28));
    }

    #[test]
    fn a_hole_a_wrong_byte_and_a_foreign_table_are_seen() {
        let published = stream(PUBLISHED);
        let wrong = |played: &str| stretch_of(&published, &stream(played)).expect_err("not a stretch").to_string();
        assert!(wrong("TUdefghijklmnoqrst").contains("differs"));
        assert!(wrong("TUdefghijklmnop?").contains("differs"));
        assert!(wrong("!Udefghijklmnop").contains("never published"));
        assert!(wrong("").contains("never published"));
        assert!(wrong("wxyzabcdefghijk").contains("never published"));
    }
}
