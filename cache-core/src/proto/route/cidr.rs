//! Longest-prefix match: networks of both families and what belongs to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: an address and how many of its leading bits count. Written `192.0.2.0/24` or `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    v6: bool,
    /// The leading bits, left-aligned in 128; the rest is zero.
    bits: u128,
    len: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write it like 192.0.2.0/24 or 2001:db8::/32, with no bit set behind the prefix")]
pub struct BadCidr(String);

impl Cidr {
    /// The network of `ip`'s first `len` bits (cut to the family's width).
    pub fn of(ip: IpAddr, len: u8) -> Cidr {
        let (v6, bits, width) = aligned(ip);
        let len = len.min(width);
        Cidr { v6, bits: masked(bits, len), len }
    }

    /// Whether it is of IPv6, its leading bits (left-aligned in 128, the rest zero), and how many count.
    pub const fn parts(self) -> (bool, u128, u8) {
        (self.v6, self.bits, self.len)
    }

    /// Whether `ip` is in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        let (v6, bits, _) = aligned(ip);
        v6 == self.v6 && masked(bits, self.len) == self.bits
    }
}

impl std::str::FromStr for Cidr {
    type Err = BadCidr;
    fn from_str(text: &str) -> Result<Cidr, BadCidr> {
        let parsed = || {
            let (ip, len) = text.split_once('/')?;
            let (ip, len): (IpAddr, u8) = (ip.parse().ok()?, len.parse().ok()?);
            let (v6, bits, width) = aligned(ip);
            (len <= width && masked(bits, len) == bits).then_some(Cidr { v6, bits, len })
        };
        parsed().ok_or_else(|| BadCidr(text.to_owned()))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.v6 {
            write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.len)
        } else {
            write!(f, "{}/{}", Ipv4Addr::from_bits((self.bits >> 96) as u32), self.len)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Cidr, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The address left-aligned in 128 bits, and its family's width. IPv4 inside IPv6 counts as IPv4.
fn aligned(ip: IpAddr) -> (bool, u128, u8) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (false, u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (true, ip.to_bits(), 128),
    }
}

const fn masked(bits: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { bits & (u128::MAX << (128 - len as u32)) }
}

/// What belongs to networks; the longest one that holds an address wins.
///
/// A lookup is one search per distinct prefix length: with the handful of lengths of a table written by hand, a few
/// hundred nanoseconds. Tables of a million networks are [`super::places`].
#[derive(Clone, Debug)]
pub struct CidrTable<T> {
    entries: BTreeMap<Cidr, T>,
    /// The lengths that occur, by family.
    lengths: [BTreeSet<u8>; 2],
}

impl<T> Default for CidrTable<T> {
    fn default() -> Self {
        CidrTable { entries: BTreeMap::new(), lengths: Default::default() }
    }
}

impl<T> CidrTable<T> {
    /// Adds a network; gives back what it replaces.
    pub fn insert(&mut self, cidr: Cidr, value: T) -> Option<T> {
        self.lengths[usize::from(cidr.v6)].insert(cidr.len);
        self.entries.insert(cidr, value)
    }

    /// The longest network that holds `ip`, and what belongs to it.
    pub fn get(&self, ip: IpAddr) -> Option<(Cidr, &T)> {
        let (v6, bits, _) = aligned(ip);
        self.lengths[usize::from(v6)].iter().rev().find_map(|len| {
            let cidr = Cidr { v6, bits: masked(bits, *len), len: *len };
            self.entries.get(&cidr).map(|value| (cidr, value))
        })
    }

    /// How many networks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_longest_network_wins() {
        let mut table = CidrTable::default();
        for (net, name) in [("0.0.0.0/0", "all"), ("10.0.0.0/8", "ten"), ("10.1.0.0/16", "ten-one"), ("::/0", "six")] {
            table.insert(cidr(net), name);
        }
        let name = |text| table.get(ip(text)).map(|(_, name)| *name);
        assert_eq!(name("10.1.2.3"), Some("ten-one"));
        assert_eq!(name("10.2.2.3"), Some("ten"));
        assert_eq!(name("11.0.0.0"), Some("all"));
        assert_eq!(name("2001:db8::1"), Some("six"));
        assert_eq!(name("::ffff:10.1.2.3"), Some("ten-one"), "IPv4 inside IPv6 is IPv4");
    }

    #[test]
    fn a_network_with_bits_behind_its_prefix_is_refused() {
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "::/129", "ten/8", "/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_holds_what_its_prefix_says() {
        assert!(cidr("2001:db8::/32").contains(ip("2001:db8:ffff::1")));
        assert!(!cidr("2001:db8::/32").contains(ip("2001:db9::")));
        assert!(!cidr("0.0.0.0/0").contains(ip("::1")));
        assert_eq!(Cidr::of(ip("192.0.2.77"), 24), cidr("192.0.2.0/24"));
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }
}
