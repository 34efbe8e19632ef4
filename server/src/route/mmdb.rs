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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use cache_core::peer_id::Location;
use cache_core::prng::mix;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::geo::{Locate, Place};
use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};
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
    /// Two databases say the same.
    #[error("{first} and {second} are both databases of {what}; give one of them")]
    Twice {
        /// Places or AS numbers.
        what: &'static str,
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A database cannot be walked.
    #[error("{0}; the database is damaged: fetch it again")]
    Walk(#[from] MaxMindDbError),
    /// A carrier's number does not fit.
    #[error("carrier: id {0} does not fit; a carrier is 1 to 15 (four bits of a PeerID, 0 is unknown)")]
    Carrier(u8),
}

/// Carriers by AS number.
pub type Carriers = BTreeMap<u32, u8>;

/// A database in memory.
type File = Reader<Vec<u8>>;

/// One or both databases.
#[derive(Debug)]
pub struct Database {
    places: Option<File>,
    networks: Option<File>,
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

    /// Opens `files`, each of which says by itself what it knows.
    pub fn open_all(files: &[PathBuf], carriers: Carriers) -> Result<Database, DatabaseError> {
        let (mut places, mut networks) = (None, None);
        for file in files {
            let reader = Reader::open_readfile(file).map_err(|error| DatabaseError::Open {
                key: "input",
                file: file.clone(),
                error,
            })?;
            let of_networks = reader.metadata().database_type.contains("ASN");
            let (slot, what) = if of_networks { (&mut networks, "AS numbers") } else { (&mut places, "places") };
            if let Some((first, _)) = slot.replace((file.clone(), reader)) {
                return Err(DatabaseError::Twice { what, first, second: file.clone() });
            }
        }
        let reader = |opened: Option<(PathBuf, _)>| opened.map(|(_, reader)| reader);
        Ok(Database { places: reader(places), networks: reader(networks), carriers })
    }

    /// All networks, such that the longest one that holds an address has what [`Locate::locate`] says of it. IPv6
    /// addresses that stand for IPv4 ones (6to4, Teredo) are left out.
    pub fn networks(&self) -> Result<Vec<(Cidr, Place)>, DatabaseError> {
        let mut all = Vec::new();
        let mut add = |cidr, place: Option<Place>| all.extend(place.map(|place| (cidr, place)));
        if let Some(reader) = &self.places {
            walk(reader, self.networks.as_ref(), |cidr, own, around| {
                add(cidr, self.located(decoded(own), around.and_then(decoded)));
            })?;
        }
        if let Some(reader) = &self.networks {
            walk(reader, self.places.as_ref(), |cidr, own, around| {
                add(cidr, self.located(around.and_then(decoded), decoded(own)));
            })?;
        }
        Ok(all)
    }

    /// What it is, for `check`.
    pub fn describe(&self) -> String {
        let of = |reader: &File| {
            let metadata = reader.metadata();
            format!("{} of {} nodes, built {}", metadata.database_type, metadata.node_count, metadata.build_epoch)
        };
        self.places.iter().chain(&self.networks).map(of).collect::<Vec<_>>().join("; ")
    }

    /// What two records say of an address.
    fn located(&self, place: Option<PlaceRecord<'_>>, network: Option<NetworkRecord>) -> Option<Place> {
        let (place, carrier) = (place.map(location_of), network.and_then(|record| self.carrier_of(&record)));
        if place.is_none() && carrier.is_none() {
            return None;
        }
        let location = Location { carrier: carrier.unwrap_or(0), ..place.unwrap_or_default() };
        Some(Place { location, ..Place::default() })
    }

    fn carrier_of(&self, record: &NetworkRecord) -> Option<u8> {
        let asn = record.autonomous_system_number?;
        Some(self.carriers.get(&asn).copied().unwrap_or_else(|| folded(asn.to_be_bytes().as_slice(), 15)))
    }
}

impl Locate for Database {
    fn locate(&self, ip: IpAddr) -> Option<Place> {
        self.located(
            searched(self.places.as_ref(), ip).and_then(decoded),
            searched(self.networks.as_ref(), ip).and_then(decoded),
        )
    }
}

/// What a file has on an address; nothing, and a line in the log, where it is damaged.
fn searched(file: Option<&File>, ip: IpAddr) -> Option<LookupResult<'_, Vec<u8>>> {
    let found = file?.lookup(ip);
    found.inspect_err(|error| tracing::debug!(%ip, %error, "a database cannot be searched")).ok()
}

fn location_of(record: PlaceRecord<'_>) -> Location {
    let country = record.country.and_then(|country| Country::from_code(country.iso_code?));
    let region = record.subdivisions.first().and_then(|region| region.iso_code);
    let city = record.city.and_then(|city| city.geoname_id);
    Location {
        country: country.unwrap_or_default().0,
        region: region.map_or(0, |code| folded(code.as_bytes(), 63)),
        city: city.map_or(0, |id| folded(&id.to_be_bytes(), 63)),
        ..Location::default()
    }
}

/// Goes over the networks of `reader`: each with its record, and with that of `other` which holds for all of it. Smaller
/// networks of `other` are not looked at: they come when it is gone over.
fn walk<'a>(
    reader: &'a File,
    other: Option<&'a File>,
    mut each: impl FnMut(Cidr, LookupResult<'a, Vec<u8>>, Option<LookupResult<'a, Vec<u8>>>),
) -> Result<(), DatabaseError> {
    for own in reader.networks(WithinOptions::default())? {
        let own = own?;
        let network = own.network()?;
        let around = other.map(|other| other.lookup(network.ip())).transpose()?;
        let holds_all = |found: &LookupResult<'_, Vec<u8>>| {
            let around = found.network();
            around.is_ok_and(|around| around.is_ipv6() != network.is_ipv6() || around.prefix() <= network.prefix())
        };
        let around = around.filter(holds_all);
        each(Cidr::of(network.ip(), network.prefix()), own.clone(), around.clone());
        // IPv4 lies in ::/96; a network around that is IPv4's too.
        if network.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && network.prefix() <= 96 {
            each(Cidr::of(Ipv4Addr::UNSPECIFIED.into(), 0), own, around);
        }
    }
    Ok(())
}

/// A record; nothing, and a line in the log, where the file is damaged.
fn decoded<'a, T: Deserialize<'a>>(found: LookupResult<'a, Vec<u8>>) -> Option<T> {
    found.decode().inspect_err(|error| tracing::debug!(%error, "a record cannot be read")).ok()?
}

/// `bytes` as a number in 1..=`max`.
fn folded(bytes: &[u8], max: u64) -> u8 {
    let hash = bytes.iter().fold(0, |hash, byte| mix(hash ^ u64::from(*byte)));
    (1 + hash % max) as u8
}

#[cfg(test)]
mod tests {
    use cache_core::proto::route::places::PlaceList;
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

    fn files() -> [tempfile::NamedTempFile; 2] {
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
        [places, networks]
    }

    fn database(carriers: Carriers) -> Database {
        let [places, networks] = files();
        let opened = Database::open(Some(places.path()), Some(networks.path()), carriers);
        opened.expect("good files").expect("two databases")
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

    /// The first and last addresses of all networks of the test's files, and those beside them.
    const EDGES: &[&str] = &[
        "1.1.255.255",
        "1.2.0.0",
        "1.2.127.255",
        "1.2.128.0",
        "1.2.255.255",
        "1.3.0.0",
        "1.3.255.255",
        "1.4.0.0",
        "4.255.255.255",
        "5.0.0.0",
        "5.255.255.255",
        "6.0.0.0",
        "7.1.1.1",
        "240d:ffff::",
        "240e::",
        "240e:fff:ffff::",
        "240e:1000::",
        "::5",
        "9000::",
    ];

    fn assert_walked_alike(database: &Database) {
        let networks = database.networks().expect("a good file");
        let places = PlaceList::of([networks]).expect("few").index();
        for ip in EDGES.iter().map(|text| text.parse().expect("an address")) {
            assert_eq!(places.get(ip), database.locate(ip), "{ip}");
        }
    }

    #[test]
    fn the_networks_say_what_a_search_says() {
        assert_walked_alike(&database(Carriers::from([(4134, 1)])));
        let of = |autonomous_system_number| Network { autonomous_system_number, autonomous_system_organization: "x" };
        let inside = file("GeoLite2-ASN", &[("1.2.0.0/15", of(1)), ("1.2.0.0/24", of(2)), ("7.0.0.0/8", of(3))]);
        let [places, _] = files();
        let database = Database::open_all(&[inside.path().to_owned(), places.path().to_owned()], Carriers::new());
        assert_walked_alike(&database.expect("one of each"));
        let all = file("GeoLite2-ASN", &[("::/1", of(1))]);
        let database = Database::open(None, Some(all.path()), Carriers::new()).expect("good").expect("one");
        assert_walked_alike(&database);
    }

    #[test]
    fn two_databases_of_one_kind_are_refused() {
        let [places, _] = files();
        let twice = [places.path().to_owned(), places.path().to_owned()];
        let said = Database::open_all(&twice, Carriers::new()).expect_err("twice").to_string();
        assert!(said.contains("both databases of places"), "{said}");
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
