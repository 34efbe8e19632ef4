//! `route.toml`: see `server/config/route.toml` for every key with its meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::peer_id::Location;
use cache_core::proto::route::cidr::Cidr;
use cache_core::proto::route::config::RouteConfig;
use cache_core::proto::route::domains::{Domain, Domains, Pattern};
use cache_core::proto::route::geo::Place;
use cache_core::proto::route::ids::IdsConfig;
use cache_core::time::Span;
use cache_core::units::DomainId;
use serde::Deserialize;

use super::country::Country;
use super::mmdb::{Carriers, Database, DatabaseError};
use crate::host::config::ConfigError;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens (UDP).
    pub listen: SocketAddr,
    /// The secret that all servers of the cluster share.
    pub cluster_secret: String,
    /// Where addresses are, as `compile` wrote it.
    pub compiled: Option<PathBuf>,
    /// A MaxMind City or Country database.
    pub mmdb: Option<PathBuf>,
    /// A MaxMind ASN database.
    pub mmdb_asn: Option<PathBuf>,
    /// How long a PeerID is leased, in seconds.
    pub lease_s: u64,
    /// Most PeerIDs leased at once.
    pub ids_max: usize,
    /// Most PeerIDs leased to one /24 (IPv6: /56).
    pub ids_per_prefix_max: u32,
    /// Most announcements of streams kept.
    pub streams_max: usize,
    /// How long an announcement holds, in seconds.
    pub stream_ttl_s: u64,
    /// The domains.
    pub domain: Vec<DomainTable>,
    /// Locations of networks.
    pub location: Vec<LocationTable>,
    /// Carriers by AS number.
    pub carrier: Vec<CarrierTable>,
}

/// `[[domain]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainTable {
    /// Its number.
    pub id: u16,
    /// Its name, for people.
    #[serde(default)]
    pub name: String,
    /// Its index servers, in the order to try.
    pub indexes: Vec<SocketAddr>,
    /// Networks that belong to it.
    #[serde(default)]
    pub cidrs: Vec<Cidr>,
    /// Locations that belong to it.
    #[serde(default)]
    pub locations: Vec<PatternTable>,
}

/// A location in which a key that is left out does not matter.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternTable {
    country: Option<Country>,
    carrier: Option<u8>,
    region: Option<u8>,
    city: Option<u8>,
}

/// `[[location]]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocationTable {
    cidr: Cidr,
    #[serde(default)]
    country: Country,
    #[serde(default)]
    carrier: u8,
    #[serde(default)]
    region: u8,
    #[serde(default)]
    city: u8,
    area: Option<u16>,
}

/// `[[carrier]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarrierTable {
    /// Its number, 1 to 15.
    pub id: u8,
    /// Its AS numbers.
    pub asns: Vec<u32>,
}

impl Default for Config {
    fn default() -> Config {
        let ids = IdsConfig::default();
        let machine = RouteConfig::new(Domains::default());
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 7200)),
            cluster_secret: String::new(),
            compiled: None,
            mmdb: None,
            mmdb_asn: None,
            lease_s: ids.lease.micros() / 1_000_000,
            ids_max: ids.ids_max,
            ids_per_prefix_max: ids.ids_per_prefix_max,
            streams_max: machine.streams_max,
            stream_ttl_s: machine.stream_ttl.micros() / 1_000_000,
            domain: vec![DomainTable {
                id: 1,
                name: "local".into(),
                indexes: vec![SocketAddr::from(([127, 0, 0, 1], 7300))],
                cidrs: Vec::new(),
                locations: Vec::new(),
            }],
            location: Vec::new(),
            carrier: Vec::new(),
        }
    }
}

impl Config {
    /// The machine's settings.
    pub fn machine(&self) -> Result<RouteConfig, ConfigError> {
        if self.lease_s < 10 {
            return Err(ConfigError::value("lease_s", "a lease shorter than 10 s keeps peers busy renewing it"));
        }
        if self.stream_ttl_s < 6 {
            return Err(ConfigError::value("stream_ttl_s", "index servers announce every 5 s; give at least 6"));
        }
        Ok(RouteConfig {
            locations: self.locations()?,
            ids: IdsConfig {
                lease: Span::from_secs(self.lease_s),
                ids_max: self.ids_max,
                ids_per_prefix_max: self.ids_per_prefix_max,
            },
            streams_max: self.streams_max,
            stream_ttl: Span::from_secs(self.stream_ttl_s),
            ..RouteConfig::new(self.domains()?)
        })
    }

    /// The domains, checked.
    pub fn domains(&self) -> Result<Domains, ConfigError> {
        let domains = self.domain.iter().map(|table| Domain {
            id: DomainId(table.id),
            name: table.name.clone(),
            indexes: table.indexes.clone(),
            cidrs: table.cidrs.clone(),
            locations: table.locations.iter().map(PatternTable::pattern).collect(),
        });
        if self.domain.is_empty() {
            return Err(ConfigError::value("domain", "no domain is configured; give at least one [[domain]]"));
        }
        let nobodys = |addr: &&SocketAddr| addr.ip().is_unspecified() || addr.port() == 0;
        if let Some(addr) = self.domain.iter().flat_map(|d| &d.indexes).find(nobodys) {
            let message =
                format!("indexes has {addr}, which no peer can reach; give the index server's own address and port");
            return Err(ConfigError::value("domain", message));
        }
        Domains::new(domains.collect()).map_err(|error| ConfigError::value("domain", error.to_string()))
    }

    /// The table of locations, checked.
    pub fn locations(&self) -> Result<Vec<(Cidr, Place)>, ConfigError> {
        let place = |table: &LocationTable| {
            let LocationTable { country, carrier, region, city, area, .. } = *table;
            let location = Location { country: country.0, carrier, region, city, area: 0 }.checked();
            location.map(|location| (table.cidr, Place { location, area, domain: None })).ok_or_else(|| {
                ConfigError::value("location", "a carrier is 0 to 15, a region and a city 0 to 63 (a PeerID's bits)")
            })
        };
        self.location.iter().map(place).collect()
    }

    /// The databases, opened.
    pub fn database(&self) -> Result<Option<Database>, DatabaseError> {
        Database::open(self.mmdb.as_deref(), self.mmdb_asn.as_deref(), self.carriers()?)
    }

    /// The carriers, checked.
    pub fn carriers(&self) -> Result<Carriers, DatabaseError> {
        let mut carriers = Carriers::default();
        for table in &self.carrier {
            if !(1..=15).contains(&table.id) {
                return Err(DatabaseError::Carrier(table.id));
            }
            for asn in &table.asns {
                carriers.insert(*asn, table.id);
            }
        }
        Ok(carriers)
    }
}

impl PatternTable {
    fn pattern(&self) -> Pattern {
        Pattern {
            country: self.country.map(|country| country.0),
            carrier: self.carrier,
            region: self.region,
            city: self.city,
        }
    }
}
