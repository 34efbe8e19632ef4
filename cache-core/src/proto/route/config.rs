//! The route machine's settings.

use super::cidr::Cidr;
use super::domains::Domains;
use super::geo::Place;
use super::ids::IdsConfig;
use crate::time::Span;

/// Everything that the machine is told at its start.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The domains.
    pub domains: Domains,
    /// Locations of networks, asked before the database.
    pub locations: Vec<(Cidr, Place)>,
    /// Leases of PeerIDs.
    pub ids: IdsConfig,
    /// Most announcements (streams times the domains that hold them) kept. Our guess: 100 000, about 60 MB.
    pub streams_max: usize,
    /// How long an announcement holds: 15 s, three of the index server's periods (our guess).
    pub stream_ttl: Span,
}

impl RouteConfig {
    /// `domains`, no locations, and the defaults of all else.
    pub fn new(domains: Domains) -> RouteConfig {
        RouteConfig {
            domains,
            locations: Vec::new(),
            ids: IdsConfig::default(),
            streams_max: 100_000,
            stream_ttl: Span::from_secs(15),
        }
    }
}
