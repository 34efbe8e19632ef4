//! Locations and carriers from MaxMind databases (GeoLite2 or GeoIP2; City or Country, and ASN).
//!
//! | field of a PeerID | from | how |
//! |---|---|---|
//! | country, 8 bits | `country.iso_code` | its place among the two-letter codes ([`super::country`]) |
//! | carrier, 4 bits | `autonomous_system_number` | `[[carrier]]` of the configuration, else hashed to 1..=15 |
//! | region, 6 bits | `subdivisions[0].iso_code` | hashed to 1..=63 |
//! | city, 6 bits | `city.geoname_id` | hashed to 1..=63 |
//! | area, 16 bits | - | no database knows it: the address's prefix ([`cache_core::proto::route::geo`]) |
//!
//! Two regions or cities may meet in one number: their peers then take each other for neighbours of a tier, which costs
//! locality and nothing else. A carrier with several AS numbers belongs into `[[carrier]]`: the carrier outranks geography.
//!
//! A database is read into memory whole (City: about 70 MB): mapping it would make a file that is cut short under the
//! program a SIGBUS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cache_core::peer_id::Location;
use cache_core::prng::mix;
use cache_core::proto::route::geo::{Locate, Place};
use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

use super::country::Country;

/// Why a database cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be read, or is no MaxMind database.
    #[error("{key}: {file}: {error}; name a MaxMind database file (.mmdb), or leave {key} out")]
    Open {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        error: MaxMindDbError,
    },
    /// A carrier's number does not fit.
    #[error("carrier: id {0} does not fit; a carrier is 1 to 15 (four bits of a PeerID, 0 is unknown)")]
    Carrier(u8),
}

/// Carriers by AS number.
pub type Carriers = BTreeMap<u32, u8>;

/// One or both databases.
#[derive(Debug)]
pub struct Database {
    places: Option<Reader<Vec<u8>>>,
    networks: Option<Reader<Vec<u8>>>,
    carriers: Carriers,
}

#[derive(Deserialize)]
struct PlaceRecord<'a> {
    #[serde(borrow)]
    country: Option<CountryRecord<'a>>,
    #[serde(borrow, default)]
    subdivisions: Vec<CountryRecord<'a>>,
    city: Option<CityRecord>,
}

#[derive(Deserialize)]
struct CountryRecord<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Deserialize)]
struct CityRecord {
    geoname_id: Option<u32>,
}

#[derive(Deserialize)]
struct NetworkRecord {
    autonomous_system_number: Option<u32>,
}

impl Database {
    /// Opens what is named; `None` when nothing is.
    pub fn open(
        mmdb: Option<&Path>,
        mmdb_asn: Option<&Path>,
        carriers: Carriers,
    ) -> Result<Option<Database>, DatabaseError> {
        let open = |key: &'static str, file: &Path| {
            Reader::open_readfile(file).map_err(|error| DatabaseError::Open { key, file: file.to_owned(), error })
        };
        let places = mmdb.map(|file| open("mmdb", file)).transpose()?;
        let networks = mmdb_asn.map(|file| open("mmdb_asn", file)).transpose()?;
        let any = places.is_some() || networks.is_some();
        Ok(any.then_some(Database { places, networks, carriers }))
    }

    /// What it is, for `check`.
    pub fn describe(&self) -> String {
        let of = |reader: &Reader<Vec<u8>>| {
            let metadata = reader.metadata();
            format!("{} of {} nodes, built {}", metadata.database_type, metadata.node_count, metadata.build_epoch)
        };
        self.places.iter().chain(&self.networks).map(of).collect::<Vec<_>>().join("; ")
    }

    fn carrier(&self, ip: IpAddr) -> Option<u8> {
        let record: NetworkRecord = record_of(self.networks.as_ref()?, ip)?;
        let asn = record.autonomous_system_number?;
        Some(self.carriers.get(&asn).copied().unwrap_or_else(|| folded(asn.to_be_bytes().as_slice(), 15)))
    }

    fn place(&self, ip: IpAddr) -> Option<Location> {
        let record: PlaceRecord<'_> = record_of(self.places.as_ref()?, ip)?;
        let country = record.country.and_then(|country| Country::from_code(country.iso_code?));
        let region = record.subdivisions.first().and_then(|region| region.iso_code);
        let city = record.city.and_then(|city| city.geoname_id);
        Some(Location {
            country: country.unwrap_or_default().0,
            region: region.map_or(0, |code| folded(code.as_bytes(), 63)),
            city: city.map_or(0, |id| folded(&id.to_be_bytes(), 63)),
            ..Location::default()
        })
    }
}

impl Locate for Database {
    fn locate(&self, ip: IpAddr) -> Option<Place> {
        let (place, carrier) = (self.place(ip), self.carrier(ip));
        if place.is_none() && carrier.is_none() {
            return None;
        }
        let location = Location { carrier: carrier.unwrap_or(0), ..place.unwrap_or_default() };
        Some(Place { location, area: None })
    }
}

/// What a database has on an address; nothing, and a line in the log, where the file is damaged.
fn record_of<'a, T: Deserialize<'a>>(database: &'a Reader<Vec<u8>>, ip: IpAddr) -> Option<T> {
    let record = database.lookup(ip).and_then(|found| found.decode());
    record.inspect_err(|error| tracing::debug!(%ip, %error, "a record cannot be read")).ok()?
}

/// `bytes` as a number in 1..=`max`.
fn folded(bytes: &[u8], max: u64) -> u8 {
    let hash = bytes.iter().fold(0, |hash, byte| mix(hash ^ u64::from(*byte)));
    (1 + hash % max) as u8
}

#[cfg(test)]
mod tests {
    use mmdb_writer::Writer;
    use mmdb_writer::ipnet::IpNet;
    use serde::Serialize;

    use super::{Carriers, Country, Database, Locate, Location, Path};

    #[derive(Serialize)]
    struct Code {
        iso_code: &'static str,
    }

    #[derive(Serialize)]
    struct Place {
        country: Code,
        subdivisions: Option<[Code; 1]>,
        city: Option<City>,
        /// A key that nobody asks for.
        location: Option<[f64; 2]>,
    }

    #[derive(Serialize)]
    struct City {
        geoname_id: u32,
    }

    #[derive(Serialize)]
    struct Network {
        autonomous_system_number: u32,
        autonomous_system_organization: &'static str,
    }

    fn file<T: Serialize>(kind: &str, networks: &[(&str, T)]) -> tempfile::NamedTempFile {
        let mut writer = Writer::new(kind);
        for (network, record) in networks {
            writer.insert(network.parse::<IpNet>().expect("a network"), record).expect("a record");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        writer.write_to(&file).expect("written");
        file
    }

    fn database(carriers: Carriers) -> Database {
        let in_china = |geoname_id, region| Place {
            country: Code { iso_code: "CN" },
            subdivisions: Some([Code { iso_code: region }]),
            city: Some(City { geoname_id }),
            location: Some([31.2, 121.5]),
        };
        let germany = Place { country: Code { iso_code: "DE" }, subdivisions: None, city: None, location: None };
        let places = file(
            "GeoLite2-City",
            &[
                ("1.2.0.0/16", in_china(1_796_236, "SH")),
                ("1.3.0.0/16", in_china(1_816_670, "BJ")),
                ("5.0.0.0/8", germany),
                ("240e::/20", in_china(1_796_236, "SH")),
            ],
        );
        let of = |autonomous_system_number| Network { autonomous_system_number, autonomous_system_organization: "x" };
        let networks =
            file("GeoLite2-ASN", &[("1.2.0.0/17", of(4134)), ("1.2.128.0/17", of(4812)), ("5.0.0.0/8", of(3320))]);
        Database::open(Some(places.path()), Some(networks.path()), carriers)
            .expect("good files")
            .expect("two databases")
    }

    fn at(database: &Database, ip: &str) -> Option<Location> {
        database.locate(ip.parse().expect("an address")).map(|place| place.location)
    }

    #[test]
    fn country_region_city_and_carrier_come_from_the_databases() {
        let database = database(Carriers::from([(4134, 1), (4812, 1)]));
        let (one, two) = (at(&database, "1.2.3.4").expect("known"), at(&database, "1.2.200.4").expect("known"));
        assert_eq!(one, two, "two AS numbers of one carrier");
        assert_eq!((Some(Country(one.country)), one.carrier), (Country::from_code("CN"), 1));
        let beijing = at(&database, "1.3.0.1").expect("known");
        assert!(beijing.country == one.country && beijing.region != one.region && beijing.city != one.city);
        assert_eq!(beijing.carrier, 0, "no AS number is known there");
        let shanghai = at(&database, "240e::1").expect("known");
        assert_eq!((shanghai.region, shanghai.city), (one.region, one.city));
        let germany = at(&database, "5.1.1.1").expect("known");
        assert_eq!((germany.region, germany.city), (0, 0));
        assert!((1..=15).contains(&germany.carrier));
        assert_eq!(at(&database, "9.9.9.9"), None);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_with_its_key_and_name() {
        let other = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(other.path(), b"not a database").expect("written");
        let said = Database::open(Some(other.path()), None, Carriers::new()).expect_err("no database").to_string();
        assert!(said.starts_with("mmdb: /") && said.contains("leave mmdb out"), "{said}");
        let said = Database::open(None, Some(Path::new("/nowhere.mmdb")), Carriers::new()).expect_err("no file");
        assert!(said.to_string().starts_with("mmdb_asn: /nowhere.mmdb: "), "{said}");
    }
}
