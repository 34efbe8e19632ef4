//! Where a million networks are: longest-prefix match by arrays that are built once and then only read.
//!
//! ```text
//!  networks, in layers           PlaceList: ranges                      Places: what answers
//!  10.0.0.0/8    -> A            0.0.0.0    nothing                     IPv4: [`v4`], at most two bitmaps deep
//!  10.1.0.0/16   -> B   flatten  10.0.0.0   A          index            IPv6: [`v6`], a search tree
//!  10.1.7.0/24   -> A  ───────>  10.1.0.0   B        ────────>
//!                                10.1.7.0   A          ^
//!                                10.1.8.0   B          │ decode (checked)
//!                                10.2.0.0   A   encode │
//!                                11.0.0.0   nothing  ──┴──  the compiled file: [`file`]
//! ```
//! | module | holds |
//! |---|---|
//! | [`ranges`] | networks cut into ranges that do not overlap; layers laid over each other |
//! | [`file`] | the ranges as bytes, and the checks before bytes are believed |
//! | [`v4`], [`v6`] | ranges made fast to find |
//!
//! A place is known by its number, and equal places have one. The file holds ranges, not indexes: what is in it can be
//! checked in one pass, and an index may change without another version of the file.

pub mod file;
pub mod ranges;
mod v4;
mod v6;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use self::ranges::{NOTHING, Ranges};
use self::v4::V4;
use self::v6::V6;
use super::cidr::Cidr;
use super::geo::Place;
use crate::peer_id::Location;
use crate::units::DomainId;

/// Most networks in one list: 16 Mi, three times what the largest free database of cities has (our guess).
pub const NETWORKS_MAX: usize = 1 << 24;

/// More networks than a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} networks are more than the {NETWORKS_MAX} that fit; leave some out, or join neighbours that are in one place"
)]
pub struct TooManyNetworks(pub usize);

/// A place in 64 bits. From the lowest: city 6, region 6, carrier 4, country 8, area 16, whether there is one 1, domain
/// 16, whether there is one 1; the rest is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packed(u64);

impl Packed {
    const HAS_AREA: u64 = 1 << 40;
    const HAS_DOMAIN: u64 = 1 << 57;

    fn of(place: Place) -> Packed {
        let Location { country, carrier, region, city, .. } = place.location;
        let location = u64::from(country) << 16
            | u64::from(carrier & 15) << 12
            | u64::from(region & 63) << 6
            | u64::from(city & 63);
        let area = place.area.map_or(0, |area| Packed::HAS_AREA | u64::from(area) << 24);
        let domain = place.domain.map_or(0, |domain| Packed::HAS_DOMAIN | u64::from(domain.0) << 41);
        Packed(location | area | domain)
    }

    fn place(self) -> Place {
        let bits = self.0;
        Place {
            location: Location {
                country: (bits >> 16) as u8,
                carrier: (bits >> 12) as u8 & 15,
                region: (bits >> 6) as u8 & 63,
                city: bits as u8 & 63,
                area: 0,
            },
            area: (bits & Packed::HAS_AREA != 0).then_some((bits >> 24) as u16),
            domain: (bits & Packed::HAS_DOMAIN != 0).then_some(DomainId((bits >> 41) as u16)),
        }
    }
}

/// Networks of both families, cut into ranges. Made from networks or from a file's bytes; asked when indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceList {
    /// How many networks it was made from.
    networks: usize,
    /// By number.
    places: Vec<Packed>,
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl PlaceList {
    /// Of `layers`, the first of which outranks the second and so on: an address that one layer knows is not looked for
    /// in the next. Inside a layer the longest network wins, and of equal ones the last. The location's own `area` and
    /// what does not fit a PeerID's fields are cut off.
    pub fn of(layers: impl IntoIterator<Item = Vec<(Cidr, Place)>>) -> Result<PlaceList, TooManyNetworks> {
        PlaceList::at_most(NETWORKS_MAX, layers)
    }

    fn at_most(
        networks_max: usize,
        layers: impl IntoIterator<Item = Vec<(Cidr, Place)>>,
    ) -> Result<PlaceList, TooManyNetworks> {
        let mut numbers = BTreeMap::new();
        let mut list = PlaceList { networks: 0, places: Vec::new(), v4: Ranges::nothing(), v6: Ranges::nothing() };
        for layer in layers {
            list.networks += layer.len();
            if list.networks > networks_max {
                return Err(TooManyNetworks(list.networks));
            }
            let mut families = [Vec::new(), Vec::new()];
            for (cidr, place) in layer {
                let packed = Packed::of(place);
                let number = *numbers.entry(packed).or_insert_with(|| {
                    list.places.push(packed);
                    list.places.len() as u32 - 1
                });
                let (v6, bits, len) = cidr.parts();
                families[usize::from(v6)].push(ranges::Network { bits, len, value: number });
            }
            let [v4, v6] = families;
            list.v4 = list.v4.over(&Ranges::flatten(v4));
            list.v6 = list.v6.over(&Ranges::flatten(v6));
        }
        Ok(list)
    }

    /// How many networks it was made from.
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// How many different places it has.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Made fast to ask. Takes a pass over the ranges.
    pub fn index(self) -> Places {
        let (v4, v6) = (V4::of(&self.v4), V6::of(&self.v6));
        let PlaceList { networks, places, .. } = self;
        Places { networks, places: places.into_boxed_slice(), v4, v6 }
    }
}

/// Where addresses are. Read-only; [`PlaceList::index`] makes it.
#[derive(Debug)]
pub struct Places {
    networks: usize,
    places: Box<[Packed]>,
    v4: V4,
    v6: V6,
}

impl Places {
    /// What is known of `ip`: its longest network's place. IPv4 inside IPv6 counts as IPv4.
    #[inline]
    pub fn get(&self, ip: IpAddr) -> Option<Place> {
        let number = match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.get(ip.to_bits()),
            IpAddr::V6(ip) => self.v6.get(ip.to_bits()),
        };
        // NOTHING is behind every number.
        self.places.get(number as usize).map(|packed| packed.place())
    }

    /// How many networks it was made from.
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// How many different places it has.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// What it takes of the heap, in bytes.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + size_of_val(&*self.places)
    }

    /// The domains that it names.
    pub fn domains(&self) -> BTreeSet<DomainId> {
        self.places.iter().filter_map(|packed| packed.place().domain).collect()
    }
}

const _: () = assert!(NETWORKS_MAX < NOTHING as usize, "every place's number is below NOTHING");

#[cfg(test)]
mod tests;
