//! PeerID: where a peer is and which one it is, in 56 bits (paper, fig. 2).
//!
//! ```text
//!  55      48 47   44 43    38 37   32 31            16 15             0
//! +----------+-------+--------+-------+----------------+----------------+
//! | country 8|carrier|region 6|city 6 |    area 16     |    node 16     |
//! +----------+--- 4 -+--------+-------+----------------+----------------+
//! ```
//! The widths of the first four fields are not readable in the paper's scan; they sum to 24 (`docs/PAPER.md`).
//! Whole fields are compared, never bits, and the carrier outranks geography.

use serde::{Deserialize, Serialize};

/// Where an address is: the first five fields of a [`PeerId`]. Zero in a field means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Location {
    /// Country, 0..=255.
    pub country: u8,
    /// Network type (the carrier), 0..=15.
    pub carrier: u8,
    /// Region (province), 0..=63.
    pub region: u8,
    /// City, 0..=63.
    pub city: u8,
    /// Area inside the city, 0..=65535.
    pub area: u16,
}

/// A peer's unique name. The route server issues the node number without replacement inside an area.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerId(u64);

/// How near two peers are: the number of leading fields that agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(pub u8);

impl Tier {
    /// Country, carrier, region, city and area agree.
    pub const SAME_AREA: Tier = Tier(5);
    /// Not even the country agrees.
    pub const ELSEWHERE: Tier = Tier(0);
}

impl Location {
    /// `self` if every field fits its width.
    pub const fn checked(self) -> Option<Location> {
        if self.carrier < 16 && self.region < 64 && self.city < 64 { Some(self) } else { None }
    }
}

impl PeerId {
    /// No peer: what a cache, or a peer that has no id yet, says.
    pub const NONE: PeerId = PeerId(0);

    /// The id of node number `node` at `location`. Fields wider than their bits are cut to them.
    pub const fn new(location: Location, node: u16) -> PeerId {
        PeerId(
            (location.country as u64) << 48
                | ((location.carrier & 15) as u64) << 44
                | ((location.region & 63) as u64) << 38
                | ((location.city & 63) as u64) << 32
                | (location.area as u64) << 16
                | node as u64,
        )
    }

    /// From the low 56 bits of `bits`; `None` when a higher bit is set.
    pub const fn from_bits(bits: u64) -> Option<PeerId> {
        if bits >> 56 == 0 { Some(PeerId(bits)) } else { None }
    }

    /// The 56 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Where the peer is.
    pub const fn location(self) -> Location {
        Location {
            country: (self.0 >> 48) as u8,
            carrier: (self.0 >> 44) as u8 & 15,
            region: (self.0 >> 38) as u8 & 63,
            city: (self.0 >> 32) as u8 & 63,
            area: (self.0 >> 16) as u16,
        }
    }

    /// Which one it is there.
    pub const fn node(self) -> u16 {
        self.0 as u16
    }

    /// How near `other` is.
    pub const fn tier(self, other: PeerId) -> Tier {
        let differ = self.0 ^ other.0;
        Tier(if differ >> 48 != 0 {
            0
        } else if differ >> 44 != 0 {
            1
        } else if differ >> 38 != 0 {
            2
        } else if differ >> 32 != 0 {
            3
        } else if differ >> 16 != 0 {
            4
        } else {
            5
        })
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let l = self.location();
        write!(f, "{}-{}-{}-{}-{}-{}", l.country, l.carrier, l.region, l.city, l.area, self.node())
    }
}

impl std::fmt::Debug for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Location = Location { country: 86, carrier: 3, region: 33, city: 61, area: 40_000 };

    #[test]
    fn fields_come_back() {
        let id = PeerId::new(HERE, 65_535);
        assert_eq!((id.location(), id.node()), (HERE, 65_535));
        assert_eq!(PeerId::from_bits(id.bits()), Some(id));
        assert_eq!(PeerId::from_bits(1 << 56), None);
    }

    #[test]
    fn a_tier_is_lost_at_the_first_field_that_differs() {
        let me = PeerId::new(HERE, 1);
        let tier = |change: fn(&mut Location)| {
            let mut there = HERE;
            change(&mut there);
            me.tier(PeerId::new(there, 1)).0
        };
        assert_eq!(tier(|_| ()), 5);
        assert_eq!(tier(|l| l.area += 1), 4);
        assert_eq!(tier(|l| l.city -= 1), 3);
        assert_eq!(tier(|l| l.region -= 1), 2);
        assert_eq!(tier(|l| l.carrier -= 1), 1, "the carrier outranks geography");
        assert_eq!(tier(|l| l.country -= 1), 0);
    }
}
