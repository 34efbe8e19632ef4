//! The local HTTP server: `GET /STREAM.ts`, also `/`, as an endless MPEG transport stream.
//!
//! A player begins at the newest key frame that was played and follows the play-out. One that does not keep up loses
//! what waits for it and begins again at a key frame; one that takes nothing is cut off. Every player is on its own:
//! none delays another or the peer.
//!
//! This file accepts and keeps time; `player` is one connection. Limits: [`PLAYERS_MAX`] connections,
//! [`player::HEAD_BYTES_MAX`] of request, [`player::QUEUE_CHUNKS_MAX`] waiting chunks.

mod player;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;

use cache_core::time::{Span, Time, WallClock};
use mio::net::TcpListener;
use mio::{Interest, Registry};

use super::PlayoutCounters;
use crate::clock::Now;
use crate::net::framing::Chunk;
use crate::net::poll::{HTTP, player_token};

use player::{BYTES_PER_TURN, Player};

/// Most connections at once. Our guess: a household's players.
pub(crate) const PLAYERS_MAX: usize = 16;

/// How often deadlines are looked at.
const CHECK_PERIOD: Span = Span::from_millis(250);

/// The server.
#[derive(Debug)]
pub(crate) struct HttpServer {
    listener: TcpListener,
    registry: Registry,
    /// `/STREAM.ts`.
    path: String,
    players: BTreeMap<u32, Player>,
    /// Players with something to read or write.
    ready: BTreeSet<u32>,
    next: u32,
    accept_at: Time,
    check_at: Time,
    first_byte: Option<WallClock>,
    counters: PlayoutCounters,
}

impl HttpServer {
    /// Listens at `addr` for players of the stream called `name`.
    pub(crate) fn listen(addr: SocketAddr, name: &str, registry: Registry) -> io::Result<HttpServer> {
        let mut listener = TcpListener::bind(addr)?;
        registry.register(&mut listener, HTTP, Interest::READABLE)?;
        Ok(HttpServer {
            listener,
            registry,
            path: format!("/{name}.ts"),
            players: BTreeMap::new(),
            ready: BTreeSet::new(),
            next: 0,
            accept_at: Time::NEVER,
            check_at: Time::ZERO,
            first_byte: None,
            counters: PlayoutCounters::default(),
        })
    }

    /// What to open in a player.
    pub(crate) fn url(&self) -> io::Result<String> {
        Ok(format!("http://{}{}", self.listener.local_addr()?, self.path))
    }

    /// The poll said that connections wait.
    pub(crate) fn can_accept(&mut self) {
        self.accept_at = Time::ZERO;
    }

    /// The poll said that a player can be read or written.
    pub(crate) fn ready(&mut self, player: u32) {
        self.ready.insert(player);
    }

    /// Whether a player waits for the stream.
    pub(crate) fn has_listeners(&self) -> bool {
        self.players.values().any(Player::is_streaming)
    }

    /// Players connected.
    pub(crate) fn players(&self) -> usize {
        self.players.len()
    }

    /// When the first byte of media was written.
    pub(crate) const fn first_byte(&self) -> Option<WallClock> {
        self.first_byte
    }

    /// What was met.
    pub(crate) const fn counters(&self) -> PlayoutCounters {
        self.counters
    }

    /// Whether nothing waits to go out.
    pub(crate) fn is_flushed(&self) -> bool {
        self.players.values().all(Player::is_flushed)
    }

    /// Queues a played chunk for every player.
    pub(crate) fn play(&mut self, now: Time, chunk: &Chunk) {
        for (id, player) in &mut self.players {
            if player.play(now, chunk) {
                self.counters.player_skips += 1;
            }
            self.ready.insert(*id);
        }
    }

    /// Accepts, reads requests, writes, cuts off. `recent` is what a new player begins with.
    pub(crate) fn turn(&mut self, now: Now, recent: &VecDeque<Chunk>) {
        self.accept(now.time);
        for id in std::mem::take(&mut self.ready) {
            let Some(player) = self.players.get_mut(&id) else { continue };
            match player.turn(now.time, &self.path, recent, &mut self.counters) {
                Ok(written) => {
                    if written > 0 && player.has_media_out() {
                        self.first_byte.get_or_insert(now.wall);
                    }
                    if written >= BYTES_PER_TURN {
                        self.ready.insert(id);
                    }
                }
                Err(_) => self.remove(id),
            }
        }
        if self.check_at <= now.time {
            self.check_at = now.time.after(CHECK_PERIOD);
            self.check(now.time);
        }
    }

    /// When [`HttpServer::turn`] has something to do.
    pub(crate) fn next_timeout(&self) -> Time {
        if !self.ready.is_empty() {
            return Time::ZERO;
        }
        let check = if self.players.is_empty() { Time::NEVER } else { self.check_at };
        check.min(self.accept_at)
    }

    fn accept(&mut self, now: Time) {
        while self.accept_at <= now {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    if self.players.len() >= PLAYERS_MAX {
                        self.counters.players_over_limit += 1;
                        continue;
                    }
                    let id = self.next;
                    self.next = self.next.wrapping_add(1);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if self.registry.register(&mut stream, player_token(id), interest).is_ok() {
                        self.players.insert(id, Player::new(now, stream));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.accept_at = Time::NEVER,
                Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "no player can be let in now; raise the limit of open files (ulimit -n)");
                    self.accept_at = now.after(CHECK_PERIOD);
                }
            }
        }
    }

    fn check(&mut self, now: Time) {
        let overdue: Vec<_> =
            self.players.iter().filter(|(_, player)| player.overdue(now)).map(|(id, _)| *id).collect();
        for id in overdue {
            if self.players.get(&id).is_some_and(Player::is_streaming) {
                self.counters.players_cut += 1;
            }
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        self.ready.remove(&id);
        if let Some(mut player) = self.players.remove(&id) {
            // A failure leaves a registration that ends with the socket, here.
            let _ = self.registry.deregister(&mut player.stream);
        }
    }
}
