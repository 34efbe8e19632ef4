//! The route server: [`cache_core::proto::route::Route`] behind a UDP socket, with its databases.
//!
//! | module | does |
//! |---|---|
//! | [`config`] | `route.toml` |
//! | [`mmdb`] | locations and carriers from MaxMind databases |
//! | [`country`] | country codes as the eight bits of a PeerID |
//!
//! One thread, one glommio executor ([`crate::host::udp`]).

pub mod config;
pub mod country;
pub mod mmdb;

use std::net::SocketAddr;

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
use crate::host::signals::Signals;
use crate::host::udp::{self, DatagramServer};
use crate::host::{limits, random, ready};

/// What the program says about itself.
pub const ROLE: Role = Role {
    program: "weircast-route",
    about: "Weircast's route server: gives peers an id and a domain, and knows which domain holds which stream",
    prepares: false,
    help: "\
A peer asks it first, by UDP: it gets a PeerID made from where its address is, and the index servers of its
domain. Index servers tell it which streams their domains hold, and ask it where a stream is.

Locations come from [[location]] tables and from MaxMind databases (mmdb, mmdb_asn); domains from [[domain]].
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
    match config.database() {
        Ok(Some(database)) => findings.good(format!("database: {}", database.describe())),
        Ok(None) => findings.good("database: none; addresses outside the table have an area and nothing else"),
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
    let signals = Signals::install()?;
    let database = config.database()?.map(|database| Box::new(database) as Box<dyn Locate>);
    let jar = CookieJar::new(random::bytes()?);
    let mut route = Route::new(config.machine()?, jar, random::seed()?, database);
    let socket = outwait_predecessor(|| bind_udp(config.listen))?;
    let listen = socket.local_addr()?;
    if let Some(warning) = warn_of_open_cluster(&config.cluster_secret, listen) {
        tracing::warn!("{warning}");
    }
    let cluster = ClusterKey::derive(&config.cluster_secret);
    let executor = udp::executor(ROLE.program)?;
    let served = executor.run(async {
        ready::announce(&Ready { role: "route", listen });
        udp::serve(socket, &cluster, Clock::start(), signals, &mut route).await
    });
    served.map_err(Failed::Serving)?;
    tracing::info!(stats = ?route.stats(), "ended");
    Ok(Ended::AsAsked)
}

impl DatagramServer for Route {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>) {
        self.handle(now, Input::Datagram { from, datagram }, out);
    }
    fn tick(&mut self, now: Time, out: &mut Outbox<Outgoing>) {
        self.handle(now, Input::Tick, out);
    }
    fn next_timeout(&self) -> Time {
        Route::next_timeout(self)
    }
}
