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
//! the province).
//!
//! With `finer` = f above 1 a PeerID also says where in its region a peer is: a region is a country of its own, with f x f
//! cities of f x f areas. A region's addresses are dealt to its areas in equal blocks, so that the route server finds city
//! and area in the address, as it does outside:
//!
//! ```text
//!  16.0.0.0 + r * 2^20 + (city * f * f + area) * 2^b + n           2^b: a region's 2^20 over f^4, rounded up to a power of two
//! ```
//! Positions are whole numbers of 1/65 536 of the square's side, distances whole roots, so that every
//! delay is the same on every host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cache_core::peer_id::Location;
use cache_core::prng::Prng;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::geo::Place;

use crate::scenario::Network;

/// The square's side.
pub(crate) const SIDE: u64 = 1 << 16;

/// Bits of an address behind its region's.
const REGION_BITS: u32 = 20;

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
    /// The `n`-th peer of a block: of a region, or of an area where PeerIDs say so much.
    Peer { block: u32, number: u32 },
    /// A server.
    Server(u32),
}

/// The map of the world.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    /// Regions along a side.
    side: u32,
    /// Cities along a region's side, areas along a city's.
    finer: u32,
    /// Bits of an address behind its block's.
    block_bits: u32,
    base_us: u64,
    per_unit_us: u64,
    /// Row-major one-way delays between regions; empty: by distance.
    table_us: Vec<u64>,
}

impl Map {
    /// The map of a checked scenario.
    pub(crate) fn new(network: &Network) -> Map {
        let us = |ms: f64| (ms * 1_000.0) as u64;
        let finer = network.finer.max(1);
        let areas = finer.saturating_pow(4).checked_next_power_of_two().unwrap_or(1 << REGION_BITS);
        Map {
            side: network.regions.max(1).isqrt().max(1),
            finer,
            block_bits: REGION_BITS.saturating_sub(areas.trailing_zeros()),
            base_us: us(network.delay_base_ms),
            per_unit_us: us(network.delay_ms_per_unit),
            table_us: network.delay_table_ms.iter().flatten().map(|ms| us(*ms)).collect(),
        }
    }

    /// How many regions there are.
    pub(crate) const fn regions(&self) -> u32 {
        self.side * self.side
    }

    /// How many blocks of addresses there are.
    pub(crate) const fn blocks(&self) -> u32 {
        self.regions() << (REGION_BITS - self.block_bits)
    }

    /// Addresses of a block.
    pub(crate) const fn peers_per_block_max(&self) -> u32 {
        1 << self.block_bits
    }

    /// The block that a peer at a point has its address from.
    pub(crate) fn block(&self, at: Point) -> u32 {
        let f = u64::from(self.finer);
        let cell = |n: u32, per_side: u64| u64::from(n) * u64::from(self.side) * per_side / SIDE % f;
        let square = |per_side: u64| cell(at.y, per_side) * f + cell(at.x, per_side);
        (self.region(at) << (REGION_BITS - self.block_bits)) + (square(f) * f * f + square(f * f)) as u32
    }

    /// The address of a peer.
    pub(crate) fn peer_addr(&self, block: u32, number: u32) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from_bits(PEERS_FROM + (block << self.block_bits) + number), PORT))
    }

    /// Whose an address is; `None` for one of nobody.
    pub(crate) fn owner(&self, addr: SocketAddr) -> Option<Owner> {
        let SocketAddr::V4(v4) = addr else { return None };
        let bits = v4.ip().to_bits();
        let number = |peer: u32| peer & (self.peers_per_block_max() - 1);
        match bits.checked_sub(PEERS_FROM) {
            Some(peer) => Some(Owner::Peer { block: peer >> self.block_bits, number: number(peer) }),
            None => bits.checked_sub(SERVERS_FROM).map(Owner::Server),
        }
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

    /// The networks of each region, or of each of its areas, and where they are.
    pub(crate) fn locations(&self) -> Vec<(Cidr, Place)> {
        if self.finer > 1 {
            return self.locations_of_areas();
        }
        let place = |region: u32| {
            let (region_field, city) = (1 + (region / 64) as u8, (region % 64) as u8);
            let location = Location { country: 86, carrier: 1, region: region_field, city, area: 0 };
            Place { location, ..Place::default() }
        };
        (0..self.regions()).map(|region| (network_of(region), place(region))).collect()
    }

    fn locations_of_areas(&self) -> Vec<(Cidr, Place)> {
        let squares = self.finer * self.finer;
        let place = |region: u32, city: u32, area: u32| {
            let location = Location { country: 1 + region as u8, carrier: 1, region: 1, city: 1 + city as u8, area: 0 };
            let block = (region << (REGION_BITS - self.block_bits)) + city * squares + area;
            let first = Ipv4Addr::from_bits(PEERS_FROM + (block << self.block_bits));
            let network = Cidr::of(IpAddr::V4(first), (u32::BITS - self.block_bits) as u8);
            (network, Place { location, area: Some(1 + area as u16), domain: None })
        };
        let cities = (0..self.regions()).flat_map(|region| (0..squares).map(move |city| (region, city)));
        cities.flat_map(|(region, city)| (0..squares).map(move |area| place(region, city, area))).collect()
    }
}

/// The distance in 1/65 536 of the side.
pub(crate) fn distance(from: Point, to: Point) -> u64 {
    let square = |a: u32, b: u32| u64::from(a.abs_diff(b)).pow(2);
    (square(from.x, to.x) + square(from.y, to.y)).isqrt()
}

/// The addresses of a region's peers.
pub(crate) fn network_of(region: u32) -> Cidr {
    Cidr::of(IpAddr::V4(Ipv4Addr::from_bits(PEERS_FROM + (region << REGION_BITS))), 12)
}

/// The address of a server.
pub(crate) fn server_addr(number: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(SERVERS_FROM + number), PORT))
}

#[cfg(test)]
mod tests {
    use cache_core::peer_id::PeerId;
    use cache_core::proto::route::geo::Geo;

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
        let regions = map(100);
        for (block, number) in [(0, 0), (15, 70_000), (99, regions.peers_per_block_max() - 1)] {
            let addr = regions.peer_addr(block, number);
            assert_eq!(regions.owner(addr), Some(Owner::Peer { block, number }));
            assert!(network_of(block).contains(addr.ip()), "a block is a region");
        }
        assert_eq!(regions.owner(server_addr(7)), Some(Owner::Server(7)));
        for finer in [2, 3, 7] {
            let areas = Map::new(&Network { regions: 16, finer, ..Network::default() });
            for (block, number) in [(0, 0), (areas.blocks() - 1, areas.peers_per_block_max() - 1)] {
                assert_eq!(areas.owner(areas.peer_addr(block, number)), Some(Owner::Peer { block, number }));
            }
        }
    }

    #[test]
    fn finer_ids_say_the_city_and_the_area_and_no_region_shares_a_field_with_another() {
        for finer in [1, 2, 3, 4, 7] {
            let map = Map::new(&Network { regions: 9, finer, ..Network::default() });
            let geo = Geo::new(map.locations(), None);
            let side = 3 * finer * finer;
            let mut seen = std::collections::BTreeSet::new();
            // The middle of every area, and the last point of the square.
            let middle = |n: u32| ((2 * u64::from(n) + 1) * SIDE / (2 * u64::from(side))) as u32;
            let middles = (0..side * side).map(|n| Point { x: middle(n % side), y: middle(n / side) });
            for at in middles.chain([Point { x: 65_535, y: 65_535 }]) {
                let (region, addr) = (map.region(at), map.peer_addr(map.block(at), 0));
                assert!(network_of(region).contains(addr.ip()), "{finer}: a region's addresses are its network's");
                let found = geo.locate(addr.ip());
                assert!(found.known, "{finer}: {at:?}");
                seen.insert((found.location, region));
            }
            assert_eq!(seen.len() as u32, side * side, "{finer}: each area has a location of its own");
            let of =
                |wanted: u32| seen.iter().filter(move |(_, region)| *region == wanted).map(|(location, _)| *location);
            let (a, b) = (of(0).next().expect("an area"), of(1).next().expect("an area"));
            let tier = |a, b| PeerId::new(a, 0).tier(PeerId::new(b, 0)).0;
            assert_eq!(tier(a, b), if finer == 1 { 3 } else { 0 });
            let cities: std::collections::BTreeSet<u8> = of(0).map(|location| location.city).collect();
            assert_eq!(cities.len() as u32, finer * finer);
        }
    }
}
