//! The index server: [`cache_core::proto::index::Index`] behind a UDP socket.
//!
//! One thread, one glommio executor ([`crate::host::udp`]). Settings: [`config`].

pub mod config;

use std::net::SocketAddr;

use cache_core::outbox::Outbox;
use cache_core::proto::gate::Outgoing;
use cache_core::proto::index::{Index, Input};
use cache_core::sign::{ClusterKey, CookieJar};
use cache_core::time::Time;
use cache_core::wire::Datagram;
use serde::Serialize;

use self::config::Config;
use crate::host::cli::Role;
use crate::host::clock::{self, Clock};
use crate::host::config::{advertised, bind_udp, outwait_predecessor, warn_of_open_cluster};
use crate::host::findings::Findings;
use crate::host::program::{Ended, Failed};
use crate::host::signals::Signals;
use crate::host::udp::{self, DatagramServer};
use crate::host::{limits, random, ready};

/// What the program says about itself.
pub const ROLE: Role = Role {
    program: "weircast-index",
    about: "Weircast's index server: one domain's registry of peers, caches, streams and publishers",
    prepares: false,
    compiles: false,
    help: "\
Peers ask it, by UDP, for partners and caches; caches report to it; publishers get their term and a cache from it.
When no cache of its domain holds a stream it asks the route server where it is, and tells the least loaded cache to
fetch it.

Who may publish which name stands in [[publish]] tables; a name without one is open.
Without a file it listens on 127.0.0.1:7300, is domain 1, and asks the route server on 127.0.0.1:7200.

Example: weircast-index --config /etc/weircast/index.toml",
};

#[derive(Serialize)]
struct Ready {
    role: &'static str,
    listen: SocketAddr,
    advertise: SocketAddr,
    domain: u16,
}

/// Looks at what a start would need.
pub fn check(config: &Config, findings: &mut Findings) {
    findings.record(config.machine(clock::wall()).map(|machine| {
        format!(
            "domain {}, {} route servers, heartbeat {} ms",
            config.domain,
            machine.routes.len(),
            config.heartbeat_ms
        )
    }));
    if config.route.is_empty() {
        findings.warn("route is empty: streams of other domains cannot be found");
    }
    if config.publish.is_empty() {
        findings.warn("no [[publish]] table: anybody may publish any name");
    } else if !config.publish.iter().any(|rule| rule.name == "*") {
        findings.warn("names that match no [[publish]] table are open; close them with a table of name = \"*\"");
    }
    let bound = bind_udp(config.listen);
    findings.record_listen(bound.and_then(|socket| {
        let bound = socket.local_addr().unwrap_or(config.listen);
        let advertise = advertised(bound, config.advertise, false)?;
        Ok::<_, crate::host::config::ConfigError>(format!("listen: {} is free, advertise: {advertise}", config.listen))
    }));
    if let Some(warning) = warn_of_open_cluster(&config.cluster_secret, config.listen) {
        findings.warn(warning);
    }
}

/// Serves until a signal asks to end.
pub fn run(config: Config) -> Result<Ended, Failed> {
    limits::prepare()?;
    let signals = Signals::install()?;
    let clock = Clock::start();
    let jar = CookieJar::new(random::bytes()?);
    let mut index = Index::new(config.machine(clock::wall())?, jar, random::seed()?);
    let socket = outwait_predecessor(|| bind_udp(config.listen))?;
    let listen = socket.local_addr()?;
    let advertise = advertised(listen, config.advertise, false)?;
    if let Some(warning) = warn_of_open_cluster(&config.cluster_secret, listen) {
        tracing::warn!("{warning}");
    }
    let cluster = ClusterKey::derive(&config.cluster_secret);
    let executor = udp::executor(ROLE.program)?;
    let served = executor.run(async {
        ready::announce(&Ready { role: "index", listen, advertise, domain: config.domain });
        udp::serve(socket, &cluster, clock, signals, None, &mut index).await
    });
    served.map_err(Failed::Serving)?;
    tracing::info!(stats = ?index.stats(), "ended");
    Ok(Ended::AsAsked)
}

impl DatagramServer for Index {
    fn datagram(&mut self, now: Time, from: SocketAddr, datagram: Datagram, out: &mut Outbox<Outgoing>) {
        self.handle(now, Input::Datagram { from, datagram }, out);
    }
    fn tick(&mut self, now: Time, out: &mut Outbox<Outgoing>) {
        self.handle(now, Input::Tick, out);
    }
    fn next_timeout(&self) -> Time {
        Index::next_timeout(self)
    }
}
