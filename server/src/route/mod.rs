//! The route server: [`cache_core::proto::route::Route`] behind a UDP socket, with its databases.
//!
//! | module | does |
//! |---|---|
//! | [`config`] | `route.toml` |
//! | [`compile`] | `weircast-route compile`: lists and databases into one file |
//! | [`compiled`] | that file, read |
//! | [`mmdb`] | locations and carriers from MaxMind databases |
//! | [`country`] | country codes as the eight bits of a PeerID |
//!
//! One thread, one glommio executor ([`crate::host::udp`]). SIGHUP reads the compiled file again.

pub mod compile;
pub mod compiled;
pub mod config;
pub mod country;
pub mod mmdb;

use std::net::SocketAddr;
use std::path::PathBuf;

use cache_core::outbox::Outbox;
use cache_core::proto::gate::Outgoing;
use cache_core::proto::route::geo::Locate;
use cache_core::proto::route::{Input, Route};
use cache_core::sign::{ClusterKey, CookieJar};
use cache_core::time::Time;
use cache_core::wire::Datagram;
use serde::Serialize;

use self::config::Config;
use crate::host::cli::Role;
use crate::host::clock::Clock;
use crate::host::config::{bind_udp, outwait_predecessor, warn_of_open_cluster};
use crate::host::findings::Findings;
use crate::host::program::{Ended, Failed};
use crate::host::signals::{Hangups, Signals};
use crate::host::udp::{self, DatagramServer};
use crate::host::{limits, random, ready};

/// What the program says about itself.
pub const ROLE: Role = Role {
    program: "weircast-route",
    about: "Weircast's route server: gives peers an id and a domain, and knows which domain holds which stream",
    prepares: false,
    compiles: true,
    help: "\
A peer asks it first, by UDP: it gets a PeerID made from where its address is, and the index servers of its
domain. Index servers tell it which streams their domains hold, and ask it where a stream is.

Locations come from [[location]] tables, from one compiled file and from MaxMind databases (mmdb, mmdb_asn), asked in
this order; domains from [[domain]]. A compiled file is loaded faster, is asked faster, and is read again at SIGHUP:
  weircast-route compile --config FILE --out /var/lib/weircast/places.wlpm own.csv GeoLite2-City.mmdb GeoLite2-ASN.mmdb
Lists (.csv) have lines of: cidr,country,carrier,region,city,area[,domain]; all but cidr may be empty.
Without a file it listens on 127.0.0.1:7200 and sends everybody to the index server on 127.0.0.1:7300.

Example: weircast-route --config /etc/weircast/route.toml",
};

#[derive(Serialize)]
struct Ready {
    role: &'static str,
    listen: SocketAddr,
}

/// Looks at what a start would need.
pub fn check(config: &Config, findings: &mut Findings) {
    findings.record(config.domains().map(|domains| {
        let named: Vec<String> = domains.all().iter().map(|d| format!("{} \"{}\"", d.id.0, d.name)).collect();
        format!("domains: {}", named.join(", "))
    }));
    findings.record(config.locations().map(|table| format!("locations: {} networks in the table", table.len())));
    match config.compiled.as_ref().zip(config.domains().ok()) {
        Some((file, domains)) => {
            findings.record(compiled::load(file, &domains).map(|places| compiled::describe(file, &places)));
        }
        None if config.compiled.is_some() => findings.warn("compiled: not looked at, as the domains are wrong"),
        None => findings.good("compiled: none"),
    }
    match config.database() {
        Ok(Some(database)) => findings.good(format!("database: {}", database.describe())),
        Ok(None) => findings.good("database: none; an address that nothing else knows has an area and nothing more"),
        Err(error) => findings.fail(error.to_string()),
    }
    findings.record_listen(bind_udp(config.listen).map(|_| format!("listen: {} is free", config.listen)));
    if let Some(warning) = warn_of_open_cluster(&config.cluster_secret, config.listen) {
        findings.warn(warning);
    }
}

/// Serves until a signal asks to end.
pub fn run(config: Config) -> Result<Ended, Failed> {
    limits::prepare()?;
    let (signals, hangups) = (Signals::install()?, Hangups::install()?);
    let database = config.database()?.map(|database| Box::new(database) as Box<dyn Locate>);
    let jar = CookieJar::new(random::bytes()?);
    let route = Route::new(config.machine()?, jar, random::seed()?, database);
    let mut serving = Serving { route, compiled: config.compiled.clone() };
    serving.load()?;
    let socket = outwait_predecessor(|| bind_udp(config.listen))?;
    let listen = socket.local_addr()?;
    if let Some(warning) = warn_of_open_cluster(&config.cluster_secret, listen) {
        tracing::warn!("{warning}");
    }
    let cluster = ClusterKey::derive(&config.cluster_secret);
    let executor = udp::executor(ROLE.program)?;
    let served = executor.run(async {
        ready::announce(&Ready { role: "route", listen });
        udp::serve(socket, &cluster, Clock::start(), signals, Some(hangups), &mut serving).await
    });
    served.map_err(Failed::Serving)?;
    tracing::info!(stats = ?serving.route.stats(), "ended");
    Ok(Ended::AsAsked)
}

/// The machine, and the file that it locates by.
struct Serving {
    route: Route,
    compiled: Option<PathBuf>,
}

impl Serving {
    /// Reads the compiled file, if there is one. On an error what was there stays.
    fn load(&mut self) -> Result<(), compiled::CompiledError> {
        if let Some(file) = &self.compiled {
            let places = compiled::load(file, self.route.domains())?;
            tracing::info!("{}", compiled::describe(file, &places));
            self.route.set_places(Some(places));
        }
        Ok(())
    }
}

impl DatagramServer for Serving {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>) {
        self.route.handle(now, Input::Datagram { from, datagram }, out);
    }
    fn tick(&mut self, now: Time, out: &mut Outbox<Outgoing>) {
        self.route.handle(now, Input::Tick, out);
    }
    fn next_timeout(&self) -> Time {
        self.route.next_timeout()
    }
    fn hung_up(&mut self) {
        if self.compiled.is_none() {
            tracing::warn!("SIGHUP: no compiled file is configured, nothing is read again");
        }
        if let Err(error) = self.load() {
            tracing::error!("SIGHUP: {error}; what was read before stays in use");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cache_core::proto::route::geo::Place;
    use cache_core::proto::route::places::PlaceList;
    use cache_core::units::DomainId;

    use super::*;

    fn write(file: &Path, cidr: &str, domain: u16) {
        let place = Place { domain: Some(DomainId(domain)), ..Place::default() };
        let list = PlaceList::of([vec![(cidr.parse().expect("a network"), place)]]).expect("few");
        std::fs::write(file, list.encode()).expect("written");
    }

    /// How many networks the places have that are in use.
    fn networks(serving: &Serving) -> Option<usize> {
        serving.route.places().map(|places| places.networks())
    }

    #[test]
    fn a_hangup_reads_the_file_again_and_keeps_the_old_places_when_it_is_bad() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let machine = Config::default().machine().expect("the defaults");
        let route = Route::new(machine, CookieJar::new([1; 32]), 1, None);
        let mut serving = Serving { route, compiled: Some(file.path().to_owned()) };
        assert!(serving.load().is_err(), "an empty file");
        write(file.path(), "10.0.0.0/8", 1);
        serving.hung_up();
        assert_eq!(networks(&serving), Some(1));
        std::fs::write(file.path(), b"WCPLACES and nothing more").expect("written");
        serving.hung_up();
        assert_eq!(networks(&serving), Some(1), "a bad file changes nothing");
        write(file.path(), "10.0.0.0/8", 9);
        let error = serving.load().expect_err("no such domain").to_string();
        assert!(error.contains("domain 9, which no [[domain]] has"), "{error}");
        std::fs::remove_file(file.path()).expect("removed");
        let error = serving.load().expect_err("no file").to_string();
        assert!(error.starts_with("compiled: /") && error.contains("weircast-route compile --out"), "{error}");
    }
}
