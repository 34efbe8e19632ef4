//! The route server's machine: where an address is, which domain that is, a PeerID for it, and which other domains hold
//! a stream (paper, section 2: the control layer).
//!
//! | module | decides |
//! |---|---|
//! | [`cidr`] | longest-prefix match in tables written by hand |
//! | [`places`] | longest-prefix match in a million networks, from a compiled file |
//! | [`geo`] | address -> location, area included |
//! | [`domains`] | address and location -> domain and its index servers |
//! | [`ids`] | node numbers without replacement, leases |
//! | [`streams`] | which domain holds which stream: soft state that index servers renew |
//! | [`config`], [`stats`] | settings; counters, one for each bound |
//!
//! [`Route`] only hands a question to the module that answers it. Nothing is kept for an address that has not proved
//! itself ([`super::gate`]).

pub mod cidr;
pub mod config;
pub mod domains;
pub mod geo;
pub mod ids;
pub mod places;
pub mod stats;
pub mod streams;

use std::net::SocketAddr;

pub use config::RouteConfig;
pub use stats::RouteStats;

use self::domains::Domains;
use self::geo::{Geo, Locate};
use self::ids::{Ids, IssueError};
use self::places::Places;
use self::streams::Streams;
use super::gate::{Gate, Outgoing};
use crate::outbox::Outbox;
use crate::sign::CookieJar;
use crate::time::Time;
use crate::wire::datagram::{Cookie, Datagram, Message};
use crate::wire::route::{RouteJoin, RouteJoined, StreamAnnounceAck};
use crate::wire::{List, RefusalReason, Refused};

/// What happened.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one event at a time is handed over, and nearly all are datagrams")]
pub enum Input {
    /// Time has passed ([`Route::next_timeout`]).
    Tick,
    /// A datagram came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// What.
        datagram: Datagram,
    },
}

/// A peer whose area is full may try again after this long: a tenth of a lease is given back by then on average
/// (our guess).
const AREA_FULL_RETRY_MS: u32 = 10_000;

/// The machine.
#[derive(Debug)]
pub struct Route {
    config: RouteConfig,
    gate: Gate,
    geo: Geo,
    ids: Ids,
    streams: Streams,
    stats: RouteStats,
}

impl Route {
    /// A route server that knows no peer and no stream. `database` locates what the configuration's own table does not.
    pub fn new(config: RouteConfig, jar: CookieJar, seed: u64, database: Option<Box<dyn Locate>>) -> Route {
        Route {
            geo: Geo::new(config.locations.clone(), database),
            ids: Ids::new(config.ids, seed),
            streams: Streams::new(config.streams_max, config.stream_ttl),
            gate: Gate::new(jar),
            stats: RouteStats::default(),
            config,
        }
    }

    /// Locates by `places` from now on, instead of by those it had. Leases and streams stay.
    pub fn set_places(&mut self, places: Option<Places>) {
        self.geo.set_places(places);
    }

    /// The compiled places that it locates by.
    pub fn places(&self) -> Option<&Places> {
        self.geo.places()
    }

    /// The domains.
    pub fn domains(&self) -> &Domains {
        &self.config.domains
    }

    /// Takes in one event; what is to be sent goes into `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Outgoing>) {
        match input {
            Input::Tick => {
                self.ids.sweep(now);
                self.streams.sweep(now);
            }
            Input::Datagram { from, datagram } => {
                if self.gate.admits(now, from, &datagram, out)
                    && let Some(message) = self.answer(now, from, datagram.message)
                {
                    if matches!(message, Message::Refused(_)) {
                        self.stats.refused += 1;
                    }
                    let answer = Datagram { exchange: datagram.exchange, cookie: Cookie::default(), message };
                    out.push(Outgoing { to: from, datagram: answer });
                }
            }
        }
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn next_timeout(&self) -> Time {
        self.ids.next_sweep().min(self.streams.next_expiry())
    }

    /// The counters.
    pub fn stats(&self) -> RouteStats {
        RouteStats {
            gate: self.gate.stats(),
            ids: self.ids.stats(),
            peers: self.ids.leased() as u64,
            streams: self.streams.len() as u64,
            streams_full: self.streams.turned_away(),
            ..self.stats
        }
    }

    fn answer(&mut self, now: Time, from: SocketAddr, question: Message) -> Option<Message> {
        match question {
            Message::RouteJoin(join) => Some(self.join(now, from, &join).unwrap_or_else(Message::from)),
            Message::RouteLeave(leave) => {
                self.ids.give_back(leave.peer, from);
                None
            }
            Message::StreamAnnounce(announce) => {
                if !self.config.domains.contains(announce.domain) {
                    return Some(self.unknown_domain(from, announce.domain.0).into());
                }
                Some(match self.streams.announce(now, announce) {
                    Ok(()) => StreamAnnounceAck {}.into(),
                    Err(streams::TooMany) => Refused::for_now(RefusalReason::Full, 5_000).into(),
                })
            }
            Message::LocateStream(question) => {
                Some(match self.streams.locate(now, question.domain, &question.stream) {
                    Some(located) => located.into(),
                    None => Refused::because(RefusalReason::UnknownStream).into(),
                })
            }
            _ => {
                self.stats.misplaced += 1;
                Some(Refused::because(RefusalReason::BadMessage).into())
            }
        }
    }

    fn join(&mut self, now: Time, from: SocketAddr, join: &RouteJoin) -> Result<Message, Refused> {
        let (ip, stats) = (from.ip(), &mut self.stats);
        let found = self.geo.locate(ip);
        stats.located += u64::from(found.known);
        stats.unlocated += u64::from(!found.known);
        let domain = self.config.domains.of(ip, found.location, found.domain).ok_or_else(|| {
            stats.no_domain += 1;
            Refused::because(RefusalReason::NoDomain)
        })?;
        let peer = self.ids.issue(now, from, found.location, join.previous).map_err(|error| match error {
            IssueError::AreaFull => Refused::for_now(RefusalReason::AreaFull, AREA_FULL_RETRY_MS),
            IssueError::TooMany => Refused::for_now(RefusalReason::Full, AREA_FULL_RETRY_MS),
        })?;
        stats.joined += 1;
        Ok(RouteJoined {
            peer,
            lease_s: u32::try_from(self.config.ids.lease.micros() / 1_000_000).unwrap_or(u32::MAX),
            domain: domain.id,
            indexes: List::first_of(domain.indexes.iter().copied()),
            seen: from,
        }
        .into())
    }

    fn unknown_domain(&mut self, from: SocketAddr, domain: u16) -> Refused {
        self.stats.unknown_domain += 1;
        let detail = format!("domain {domain} is not in the route server's configuration ({from} says it is its own)");
        Refused { detail: crate::wire::Text::cut(&detail), ..Refused::because(RefusalReason::NoDomain) }
    }
}
