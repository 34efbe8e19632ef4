//! Where things are: positions in the unit square, regions, addresses, and the time from place to place.
//!
//! ```text
//!  region r = row * k + column       address of its n-th peer: 16.0.0.0 + r * 2^20 + n      (a /12 per region)
//!  +----+----+----+----+             location: country 86, carrier 1, province 1 + r / 64, city r % 64,
//!  | 0  | 1  | 2  | 3  |             area: the address's /16, so 65 536 peers share one, all others only the city
//!  +----+----+----+----+
//!  | 4  | 5  |...                    servers: 1.0.<kind>.<number>
//! ```
//! Regions are equally far from each other in a PeerID's eyes: their fields differ in the city (and, from 64 regions on,
//! the province). Positions are whole numbers of 1/65 536 of the square's side, distances whole roots, so that every
//! delay is the same on every host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cache_core::peer_id::Location;
use cache_core::prng::Prng;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::geo::Place;

use crate::scenario::Network;

/// The square's side.
pub(crate) const SIDE: u64 = 1 << 16;

/// Peers that one region has addresses for.
pub(crate) const PEERS_PER_REGION_MAX: u32 = 1 << 20;

const PEERS_FROM: u32 = 16 << 24;
const SERVERS_FROM: u32 = 1 << 24;
const PORT: u16 = 7_000;

/// The port that datagrams of a peer come from whose address is translated.
pub(crate) const TRANSLATED_PORT: u16 = 7_001;

/// A point of the square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) x: u32,
    pub(crate) y: u32,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The `n`-th peer of a region.
    Peer { region: u32, number: u32 },
    /// A server.
    Server(u32),
}

/// The map of the world.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    /// Regions along a side.
    side: u32,
    base_us: u64,
    per_unit_us: u64,
    /// Row-major one-way delays between regions; empty: by distance.
    table_us: Vec<u64>,
}

impl Map {
    /// The map of a checked scenario.
    pub(crate) fn new(network: &Network) -> Map {
        let us = |ms: f64| (ms * 1_000.0) as u64;
        Map {
            side: network.regions.max(1).isqrt().max(1),
            base_us: us(network.delay_base_ms),
            per_unit_us: us(network.delay_ms_per_unit),
            table_us: network.delay_table_ms.iter().flatten().map(|ms| us(*ms)).collect(),
        }
    }

    /// How many regions there are.
    pub(crate) const fn regions(&self) -> u32 {
        self.side * self.side
    }

    /// A point anywhere.
    pub(crate) fn anywhere(&self, rng: &mut Prng) -> Point {
        Point { x: rng.below(SIDE as usize) as u32, y: rng.below(SIDE as usize) as u32 }
    }

    /// The middle of a region.
    pub(crate) fn middle(&self, region: u32) -> Point {
        let at = |n: u32| ((2 * u64::from(n) + 1) * SIDE / (2 * u64::from(self.side))) as u32;
        Point { x: at(region % self.side), y: at(region / self.side) }
    }

    /// The region of a point.
    pub(crate) fn region(&self, at: Point) -> u32 {
        let row = |n: u32| (u64::from(n) * u64::from(self.side) / SIDE) as u32;
        row(at.y) * self.side + row(at.x)
    }

    /// Time from one point to another, one way, in microseconds.
    pub(crate) fn delay_us(&self, from: Point, to: Point) -> u64 {
        if !self.table_us.is_empty() {
            let at = self.region(from) * self.regions() + self.region(to);
            return self.table_us.get(at as usize).copied().unwrap_or(self.base_us);
        }
        self.base_us + distance(from, to) * self.per_unit_us / SIDE
    }

    /// The networks of each region and where they are.
    pub(crate) fn locations(&self) -> Vec<(Cidr, Place)> {
        let place = |region: u32| {
            let (region_field, city) = (1 + (region / 64) as u8, (region % 64) as u8);
            let location = Location { country: 86, carrier: 1, region: region_field, city, area: 0 };
            Place { location, area: None }
        };
        (0..self.regions()).map(|region| (network_of(region), place(region))).collect()
    }
}

/// The distance in 1/65 536 of the side.
pub(crate) fn distance(from: Point, to: Point) -> u64 {
    let square = |a: u32, b: u32| u64::from(a.abs_diff(b)).pow(2);
    (square(from.x, to.x) + square(from.y, to.y)).isqrt()
}

/// The addresses of a region's peers.
pub(crate) fn network_of(region: u32) -> Cidr {
    Cidr::of(IpAddr::V4(Ipv4Addr::from_bits(PEERS_FROM + (region << 20))), 12)
}

/// The address of a peer.
pub(crate) fn peer_addr(region: u32, number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(PEERS_FROM + (region << 20) + number), PORT))
}

/// The address of a server.
pub(crate) fn server_addr(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(SERVERS_FROM + number), PORT))
}

/// Whose an address is; `None` for one of nobody.
pub(crate) fn owner(addr: SocketAddr) -> Option<Owner> {
    let SocketAddr::V4(v4) = addr else { return None };
    let bits = v4.ip().to_bits();
    match bits.checked_sub(PEERS_FROM) {
        Some(peer) => Some(Owner::Peer { region: peer >> 20, number: peer & (PEERS_PER_REGION_MAX - 1) }),
        None => bits.checked_sub(SERVERS_FROM).map(Owner::Server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(regions: u32) -> Map {
        Map::new(&Network { regions, ..Network::default() })
    }

    #[test]
    fn regions_are_a_grid_and_each_point_is_in_one() {
        let map = map(16);
        assert_eq!(map.regions(), 16);
        for region in 0..16 {
            assert_eq!(map.region(map.middle(region)), region);
        }
        assert_eq!(map.region(Point { x: 65_535, y: 65_535 }), 15);
        assert_eq!(map.region(Point { x: 16_383, y: 16_384 }), 4);
    }

    #[test]
    fn delay_is_the_base_and_what_the_distance_adds() {
        let map = map(1);
        let (a, b) = (Point { x: 0, y: 0 }, Point { x: 3 << 13, y: 4 << 13 });
        assert_eq!(map.delay_us(a, a), 5_000);
        assert_eq!(map.delay_us(a, b), 5_000 + 60_000 * 5 / 8, "5/8 of the side");
    }

    #[test]
    fn a_table_goes_before_distances() {
        let table = vec![vec![1.0, 20.0, 30.0, 40.0]; 4];
        let map = Map::new(&Network { regions: 4, delay_table_ms: table, ..Network::default() });
        assert_eq!(map.delay_us(map.middle(1), map.middle(2)), 30_000);
        assert_eq!(map.delay_us(map.middle(3), map.middle(0)), 1_000);
    }

    #[test]
    fn addresses_come_back() {
        for (region, number) in [(0, 0), (15, 70_000), (99, PEERS_PER_REGION_MAX - 1)] {
            assert_eq!(owner(peer_addr(region, number)), Some(Owner::Peer { region, number }));
            assert!(network_of(region).contains(peer_addr(region, number).ip()));
        }
        assert_eq!(owner(server_addr(7)), Some(Owner::Server(7)));
    }
}
