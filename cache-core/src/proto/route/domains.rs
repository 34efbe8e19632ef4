//! Which domain an address belongs to, by configuration.
//!
//! In this order: the longest of all domains' networks that holds the address; the domain that the compiled places
//! ([`super::places`]) name for it; the first domain with a location that matches; the domain that has neither networks nor locations, which takes everybody else.

use std::net::{IpAddr, SocketAddr};

use super::cidr::{Cidr, CidrTable};
use crate::peer_id::Location;
use crate::units::DomainId;

/// A location in which some fields do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Country.
    pub country: Option<u8>,
    /// Carrier.
    pub carrier: Option<u8>,
    /// Region.
    pub region: Option<u8>,
    /// City.
    pub city: Option<u8>,
}

impl Pattern {
    /// Whether every field that matters is the same.
    pub fn matches(self, at: Location) -> bool {
        let same = |wanted: Option<u8>, is: u8| wanted.is_none_or(|wanted| wanted == is);
        same(self.country, at.country)
            && same(self.carrier, at.carrier)
            && same(self.region, at.region)
            && same(self.city, at.city)
    }
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// Its name, for people.
    pub name: String,
    /// Its index servers, in the order to try.
    pub indexes: Vec<SocketAddr>,
    /// Networks that belong to it.
    pub cidrs: Vec<Cidr>,
    /// Locations that belong to it.
    pub locations: Vec<Pattern>,
}

/// Why domains contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainsError {
    /// Two have one number.
    #[error("domain id {0} is given twice; every [[domain]] needs an id of its own")]
    SameId(u16),
    /// One has no index server.
    #[error("domain {0} has no index server; give indexes = [\"address:port\"]")]
    NoIndex(u16),
    /// Two have one network.
    #[error("domains {0} and {1} both have the same network in cidrs; leave it in one of them")]
    SameCidr(u16, u16),
    /// Two would take everybody else.
    #[error("domains {0} and {1} have neither cidrs nor locations; only one domain can take everybody else")]
    TwoDefaults(u16, u16),
}

/// All domains.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    domains: Vec<Domain>,
    by_cidr: CidrTable<usize>,
    by_default: Option<usize>,
}

impl Domains {
    /// The domains, checked.
    pub fn new(domains: Vec<Domain>) -> Result<Domains, DomainsError> {
        let mut all = Domains::default();
        for (at, domain) in domains.iter().enumerate() {
            if domains[..at].iter().any(|other| other.id == domain.id) {
                return Err(DomainsError::SameId(domain.id.0));
            }
            if domain.indexes.is_empty() {
                return Err(DomainsError::NoIndex(domain.id.0));
            }
            for cidr in &domain.cidrs {
                if let Some(other) = all.by_cidr.insert(*cidr, at).filter(|other| *other != at) {
                    return Err(DomainsError::SameCidr(domains[other].id.0, domain.id.0));
                }
            }
            let takes_the_rest = domain.cidrs.is_empty() && domain.locations.is_empty();
            if takes_the_rest && let Some(other) = all.by_default.replace(at) {
                return Err(DomainsError::TwoDefaults(domains[other].id.0, domain.id.0));
            }
        }
        all.domains = domains;
        Ok(all)
    }

    /// The domain of an address at a location, for which the compiled places name domain `named`. A name that no domain
    /// has counts as none.
    pub fn of(&self, ip: IpAddr, at: Location, named: Option<DomainId>) -> Option<&Domain> {
        let by_cidr = || self.by_cidr.get(ip).map(|(_, domain)| *domain);
        let by_name = || self.domains.iter().position(|domain| Some(domain.id) == named);
        let by_location =
            || self.domains.iter().position(|domain| domain.locations.iter().any(|pattern| pattern.matches(at)));
        let at = by_cidr().or_else(by_name).or_else(by_location).or(self.by_default)?;
        self.domains.get(at)
    }

    /// Whether a domain has this number.
    pub fn contains(&self, id: DomainId) -> bool {
        self.domains.iter().any(|domain| domain.id == id)
    }

    /// The domains, in the configuration's order.
    pub fn all(&self) -> &[Domain] {
        &self.domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(id: u16, cidrs: &[&str], locations: &[Pattern]) -> Domain {
        Domain {
            id: DomainId(id),
            name: String::new(),
            indexes: vec!["127.0.0.1:7300".parse().expect("an address")],
            cidrs: cidrs.iter().map(|text| text.parse().expect("a network")).collect(),
            locations: locations.to_vec(),
        }
    }

    #[test]
    fn network_before_location_before_everybody_else() {
        let china = Pattern { country: Some(86), ..Pattern::default() };
        let domains = Domains::new(vec![
            domain(1, &["10.0.0.0/8"], &[]),
            domain(2, &["10.9.0.0/16"], &[china]),
            domain(3, &[], &[]),
        ])
        .expect("consistent");
        let of = |ip: &str, country| {
            let at = Location { country, ..Location::default() };
            domains.of(ip.parse().expect("an address"), at, None).map(|domain| domain.id.0)
        };
        assert_eq!(of("10.1.0.1", 86), Some(1), "a network outranks a location");
        assert_eq!(of("10.9.0.1", 0), Some(2), "the longer network");
        assert_eq!(of("11.0.0.1", 86), Some(2));
        assert_eq!(of("11.0.0.1", 1), Some(3));
        let named = |ip: &str, id| {
            let at = Location { country: 86, ..Location::default() };
            domains.of(ip.parse().expect("an address"), at, Some(DomainId(id))).map(|domain| domain.id.0)
        };
        assert_eq!(named("11.0.0.1", 1), Some(1), "a name outranks a location");
        assert_eq!(named("10.9.0.1", 1), Some(2), "a network outranks a name");
        assert_eq!(named("11.0.0.1", 77), Some(2), "a name that no domain has");
    }

    #[test]
    fn without_a_default_an_address_may_belong_nowhere() {
        let domains = Domains::new(vec![domain(1, &["10.0.0.0/8"], &[])]).expect("consistent");
        assert_eq!(domains.of("11.0.0.1".parse().expect("an address"), Location::default(), None), None);
    }

    #[test]
    fn contradictions_are_named() {
        let mut lonely = domain(1, &[], &[]);
        lonely.indexes.clear();
        let (one, two) = (1, 2);
        let error = |domains| Domains::new(domains).expect_err("a contradiction");
        assert_eq!(error(vec![lonely]), DomainsError::NoIndex(one));
        assert_eq!(error(vec![domain(1, &[], &[]), domain(1, &["10.0.0.0/8"], &[])]), DomainsError::SameId(one));
        assert_eq!(error(vec![domain(1, &[], &[]), domain(2, &[], &[])]), DomainsError::TwoDefaults(one, two));
        let same = vec![domain(1, &["10.0.0.0/8"], &[]), domain(2, &["10.0.0.0/8"], &[])];
        assert_eq!(error(same), DomainsError::SameCidr(one, two));
    }
}
