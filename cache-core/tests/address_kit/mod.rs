//! A million networks as the Internet has them, made from a seed.
#![allow(dead_code, unreachable_pub, reason = "shared by a benchmark and an example, of which each uses a part")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cache_core::peer_id::Location;
use cache_core::prng::Prng;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::geo::Place;

/// Of a thousand networks, how many have which length: our rounding of what routing tables look like in public
/// statistics, with 3 % longer than a /24.
const LENGTHS_V4: &[(u8, usize)] = &[
    (8, 1),
    (10, 1),
    (12, 2),
    (13, 3),
    (14, 4),
    (15, 5),
    (16, 14),
    (17, 8),
    (18, 14),
    (19, 25),
    (20, 45),
    (21, 52),
    (22, 110),
    (23, 95),
    (24, 591),
    (25, 4),
    (26, 4),
    (27, 4),
    (28, 4),
    (29, 4),
    (30, 4),
    (32, 6),
];

/// The same for IPv6.
const LENGTHS_V6: &[(u8, usize)] = &[
    (20, 2),
    (24, 3),
    (28, 5),
    (29, 20),
    (32, 120),
    (36, 40),
    (40, 110),
    (44, 130),
    (46, 40),
    (47, 20),
    (48, 480),
    (56, 10),
    (64, 18),
    (128, 2),
];

/// How lengths are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// As in routing tables.
    Real,
    /// Each from /8 (IPv6: /16) to a single address as often.
    Even,
}

/// `count` different networks of one family, each in one of 20 000 places.
pub fn networks(v6: bool, lengths: Lengths, count: usize, seed: u64) -> Vec<(Cidr, Place)> {
    let mut chance = Prng::new(seed);
    let mut taken = BTreeSet::new();
    let mut networks = Vec::with_capacity(count);
    while networks.len() < count {
        let cidr = Cidr::of(address(v6, &mut chance), length(v6, lengths, &mut chance));
        if taken.insert(cidr) {
            networks.push((cidr, place(chance.below(20_000))));
        }
    }
    networks
}

/// An address of the space that is in use: for IPv6 one of 4096 /24 under 2000::/3.
pub fn address(v6: bool, chance: &mut Prng) -> IpAddr {
    if !v6 {
        return Ipv4Addr::from_bits(chance.next_u64() as u32).into();
    }
    let provider = 0x20_0000_u128 + (chance.below(4096) as u128 * 0x0101);
    let rest = u128::from(chance.next_u64()) << 64 | u128::from(chance.next_u64());
    Ipv6Addr::from_bits(provider << 104 | rest >> 24).into()
}

fn length(v6: bool, lengths: Lengths, chance: &mut Prng) -> u8 {
    if lengths == Lengths::Even {
        return if v6 { 16 + chance.below(113) as u8 } else { 8 + chance.below(25) as u8 };
    }
    let of_thousand = if v6 { LENGTHS_V6 } else { LENGTHS_V4 };
    let mut at = chance.below(1000);
    for (len, share) in of_thousand {
        if at < *share {
            return *len;
        }
        at -= share;
    }
    unreachable!("the shares are a thousand")
}

fn place(number: usize) -> Place {
    let location = Location {
        country: 1 + (number % 240) as u8,
        carrier: (number / 240 % 16) as u8,
        region: (number / 3840 % 64) as u8,
        city: 1,
        area: 0,
    };
    Place { location, ..Place::default() }
}
