//! Where an address is.
//!
//! The configuration's own table goes first, then the compiled places ([`super::places`]), then the database (an mmdb
//! file behind [`Locate`], in `server/`), then "unknown": zero in every field but the area. The first that knows an
//! address says all of its location. Which domain it belongs to only the compiled places say, whoever located it.
//!
//! Databases know no *area*. Where neither table nor database names one it is derived from the address: for IPv4 its
//! first 16 bits, so that an area is a /16 and its 65 536 node numbers can name every address in it; for IPv6 the first
//! 32 bits (what a registry gives to one provider) folded to 16. Addresses of one provider's pool in one city thus meet in
//! one area.

use std::net::IpAddr;

use super::cidr::{Cidr, CidrTable};
use super::places::Places;
use crate::peer_id::Location;
use crate::prng::mix;
use crate::units::DomainId;

/// A location as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Country, carrier, region and city; zero is unknown. Its area is not used.
    pub location: Location,
    /// The area, where it is known.
    pub area: Option<u16>,
    /// The domain, where one is named for the address itself.
    pub domain: Option<DomainId>,
}

/// Something that locates addresses.
pub trait Locate: std::fmt::Debug {
    /// Where `ip` is; `None` when nothing is known.
    fn locate(&self, ip: IpAddr) -> Option<Place>;
}

/// What was found for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The location, area included.
    pub location: Location,
    /// Whether the table, the places or the database knew the address.
    pub known: bool,
    /// The domain that the compiled places name for it.
    pub domain: Option<DomainId>,
}

/// The table, then the compiled places, then the database.
#[derive(Debug, Default)]
pub struct Geo {
    table: CidrTable<Place>,
    places: Option<Places>,
    database: Option<Box<dyn Locate>>,
}

impl Geo {
    /// Of the configuration's `table` and a `database`.
    pub fn new(table: Vec<(Cidr, Place)>, database: Option<Box<dyn Locate>>) -> Geo {
        let mut geo = Geo { table: CidrTable::default(), places: None, database };
        for (cidr, place) in table {
            geo.table.insert(cidr, place);
        }
        geo
    }

    /// Takes `places` instead of those it had.
    pub fn set_places(&mut self, places: Option<Places>) {
        self.places = places;
    }

    /// The compiled places that it has.
    pub fn places(&self) -> Option<&Places> {
        self.places.as_ref()
    }

    /// Where `ip` is.
    pub fn locate(&self, ip: IpAddr) -> Found {
        let listed = self.table.get(ip).map(|(_, place)| *place);
        let compiled = self.places.as_ref().and_then(|places| places.get(ip));
        let domain = compiled.and_then(|place| place.domain);
        let place = listed.or(compiled).or_else(|| self.database.as_ref().and_then(|database| database.locate(ip)));
        let (known, place) = (place.is_some(), place.unwrap_or_default());
        let location = Location { area: place.area.unwrap_or_else(|| area_of(ip)), ..place.location };
        Found { location, known, domain }
    }
}

/// The area of an address of which no database names one.
pub fn area_of(ip: IpAddr) -> u16 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (ip.to_bits() >> 16) as u16,
        IpAddr::V6(ip) => (mix((ip.to_bits() >> 96) as u64) >> 48) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::route::places::PlaceList;

    #[derive(Debug)]
    struct Everywhere(Place);
    impl Locate for Everywhere {
        fn locate(&self, _: IpAddr) -> Option<Place> {
            Some(self.0)
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn net(text: &str) -> Cidr {
        text.parse().expect("a network")
    }

    fn place(country: u8) -> Place {
        Place { location: Location { country, ..Location::default() }, ..Place::default() }
    }

    #[test]
    fn the_table_goes_before_the_database_and_the_area_is_the_sixteen_prefix() {
        let table = vec![(net("10.0.0.0/8"), place(7))];
        let geo = Geo::new(table, Some(Box::new(Everywhere(place(9)))));
        let listed = geo.locate(ip("10.20.30.40"));
        assert_eq!((listed.location.country, listed.location.area), (7, 0x0a14));
        assert_eq!(geo.locate(ip("11.0.0.1")).location.country, 9);
    }

    #[test]
    fn compiled_places_stand_between_table_and_database_and_alone_name_the_domain() {
        let mut geo = Geo::new(vec![(net("10.0.0.0/8"), place(7))], Some(Box::new(Everywhere(place(9)))));
        let compiled = |domain| Place { domain: Some(DomainId(domain)), ..place(8) };
        let list = PlaceList::of([vec![(net("10.1.0.0/16"), compiled(3)), (net("12.0.0.0/8"), compiled(4))]]);
        geo.set_places(Some(list.expect("few").index()));
        let found = |geo: &Geo, text| {
            let found = geo.locate(ip(text));
            (found.location.country, found.domain.map(|domain| domain.0))
        };
        assert_eq!(found(&geo, "10.1.2.3"), (7, Some(3)), "the table says where, the places which domain");
        assert_eq!(found(&geo, "12.1.2.3"), (8, Some(4)));
        assert_eq!(found(&geo, "13.1.2.3"), (9, None));
        geo.set_places(None);
        assert_eq!(found(&geo, "12.1.2.3"), (9, None));
    }

    #[test]
    fn an_unknown_address_still_has_an_area() {
        let found = Geo::default().locate(ip("192.168.3.4"));
        assert_eq!(found.location, Location { area: 0xc0a8, ..Location::default() });
        assert_eq!((found.known, found.domain), (false, None));
        let area = |text| area_of(ip(text));
        assert_eq!(area("2001:db8:1::1"), area("2001:db8:ffff::9"), "one provider's prefix is one area");
        assert_ne!(area("2001:db8::"), area("2001:db9::"));
    }
}
