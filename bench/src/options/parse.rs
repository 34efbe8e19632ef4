//! Texts of the command line into values.

use std::net::SocketAddr;

use cache_core::sign::KeyRing;
use cache_core::units::{Epoch, StreamId};
use cache_core::wire::index::StreamKey;

use crate::viewers::Verify;

/// A share of all viewers, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    pub(crate) const NONE: Share = Share(0);

    pub(crate) fn per_million(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1e6)
    }
}

/// Levels to try, in viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ramp {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) step: usize,
}

/// The keys of a stream as the command line gave them.
pub(crate) fn key_ring(stream: StreamId, keys: &[(u64, [u8; 32])]) -> KeyRing {
    let keys: Vec<StreamKey> = keys.iter().map(|(epoch, key)| StreamKey { epoch: Epoch(*epoch), key: *key }).collect();
    let mut ring = KeyRing::new(stream);
    ring.replace(&keys);
    ring
}

/// As [`key`] reads it.
pub(crate) fn key_text(epoch: Epoch, key: &[u8; 32]) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", epoch.0)
}

pub(super) fn key(text: &str) -> Result<(u64, [u8; 32]), String> {
    let wrong = || "a key is EPOCH:HEX with 64 hexadecimal digits".to_owned();
    let (epoch, hex) = text.split_once(':').ok_or_else(wrong)?;
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok((epoch.parse().map_err(|_| wrong())?, bytes))
}

pub(super) fn verify(text: &str) -> Result<Verify, String> {
    match text.split_once(':') {
        None if text == "all" => Ok(Verify::All),
        None if text == "none" => Ok(Verify::None),
        Some(("sample", every)) => match every.parse() {
            Ok(every @ 1..) => Ok(Verify::Sample(every)),
            _ => Err("sample:K takes a number from 1 on".to_owned()),
        },
        _ => Err("one of `all`, `sample:K`, `none`".to_owned()),
    }
}

pub(super) fn share(text: &str) -> Result<Share, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |percent| (percent, 100.0));
    match number.parse::<f64>() {
        Ok(number) if (0.0..=whole).contains(&number) => Ok(Share((number / whole * 1e6).round() as u32)),
        _ => Err("a share of all viewers, as 0.1 or 10%".to_owned()),
    }
}

pub(super) fn ramp(text: &str) -> Result<Ramp, String> {
    let wrong = || "FROM:TO:STEP in viewers, as 1000:12000:1000".to_owned();
    let numbers: Vec<usize> = text.split(':').map_while(|number| viewers(number).ok()).collect();
    match *numbers.as_slice() {
        [from, to, step] if from <= to && text.matches(':').count() == 2 => Ok(Ramp { from, to, step }),
        _ => Err(wrong()),
    }
}

/// Most viewers of a run, and joins: more than there are loopback sources is nobody's machine (our guess).
pub(crate) const VIEWERS_MAX: usize = 1_000_000;

pub(super) fn viewers(text: &str) -> Result<usize, String> {
    ranged(text, VIEWERS_MAX)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an IP address and a port, as 127.0.0.1:7400 or [::1]:7400".to_owned())
}

/// A connection each, and 32 KiB of timetable (our guess).
pub(super) fn streams(text: &str) -> Result<usize, String> {
    ranged(text, 10_000)
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    ranged(text, 256)
}

pub(super) fn processes(text: &str) -> Result<usize, String> {
    ranged(text, 64)
}

/// Up to a day.
pub(super) fn minutes(text: &str) -> Result<f64, String> {
    positive(text, 1_440.0)
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    positive(text, 3_600.0)
}

pub(super) fn milliseconds(text: &str) -> Result<f64, String> {
    positive(text, 60_000.0)
}

/// More than all viewers in a minute are allowed: 6000 means that each stays for a second.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=6_000.0).contains(&number) => Ok(number),
        _ => Err("percent of the viewers, 0 to 6000".to_owned()),
    }
}

fn positive(text: &str, max: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= max => Ok(number),
        _ => Err(format!("a number above 0 and up to {max}")),
    }
}

fn ranged(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("a number from 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_key_is_read_back() {
        let bytes = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(key(&key_text(Epoch(9), &bytes)), Ok((9, bytes)));
        for wrong in ["", "9", "9:00", "x:00", &format!("9:{}", "é".repeat(32)), &format!("9:{}", "+1".repeat(32))] {
            assert!(key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_to_verify() {
        assert_eq!(verify("sample:8"), Ok(Verify::Sample(8)));
        assert!(verify("sample:0").is_err() && verify("some").is_err());
    }

    #[test]
    fn shares_and_levels() {
        assert_eq!(share("10%"), share("0.1"));
        assert!(share("1.1").is_err() && share("-1%").is_err() && share("NaN").is_err());
        assert_eq!(ramp("10:40:5"), Ok(Ramp { from: 10, to: 40, step: 5 }));
        for wrong in ["10:5:1", "1:2", "1:2:0", "1:2:3:4", "a:b:c"] {
            assert!(ramp(wrong).is_err(), "{wrong}");
        }
    }
}
