//! The local HTTP server: `GET /STREAM.ts`, also `/`, as an endless MPEG transport stream.
//!
//! A player begins at the newest key frame that was played and follows the play-out. One that does not keep up loses
//! what waits for it and begins again at a key frame; one that takes nothing is cut off. Every player is on its own:
//! none delays another or the peer.
//!
//! Limits: [`PLAYERS_MAX`] connections, [`HEAD_BYTES_MAX`] of request, [`QUEUE_CHUNKS_MAX`] waiting chunks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};

use cache_core::time::{Span, Time, WallClock};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};

use super::start::Starter;
use super::{PlayoutCounters, RECENT_MAX};
use crate::clock::Now;
use crate::net::framing::Chunk;
use crate::net::poll::{HTTP, player_token};
use crate::net::queue::WriteQueue;

/// Most connections at once. Our guess: a household's players.
pub(crate) const PLAYERS_MAX: usize = 16;

/// Longest request head. Our guess: four times what browsers send.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Most chunks that wait for one player: what it begins with, and 5 s.
const QUEUE_CHUNKS_MAX: usize = RECENT_MAX + 25;

/// For a whole request head, and for a player that takes nothing. Our guess for the latter: a person's short pause.
const HEAD_PATIENCE: Span = Span::from_secs(5);
const TAKE_PATIENCE: Span = Span::from_secs(10);

/// How long a connection may linger after an error was told.
const LINGER: Span = Span::from_secs(1);

/// Bytes written to one player in one turn.
const BYTES_PER_TURN: usize = 1 << 20;

/// How often deadlines are looked at.
const CHECK_PERIOD: Span = Span::from_millis(250);

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n\
                        Accept-Ranges: none\r\nConnection: close\r\n\r\n";

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

#[derive(Debug)]
struct Player {
    stream: TcpStream,
    state: State,
    queue: WriteQueue,
    moved: Time,
}

#[derive(Debug)]
enum State {
    /// Reading the request.
    Head(Vec<u8>),
    /// Playing.
    Stream(Starter),
    /// Everything is said: the queue goes out, then the connection ends.
    Ending { shut: bool },
}

/// What a request head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Incomplete,
    Stream,
    HeadOnly,
    Nothing(&'static str),
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
        self.players.values().any(|player| matches!(player.state, State::Stream(_)))
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
        self.players.values().all(|player| player.queue.is_empty())
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
                    if written > 0 && matches!(player.state, State::Stream(_)) && player.has_media_out() {
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
                        let state = State::Head(Vec::new());
                        self.players.insert(id, Player { stream, state, queue: WriteQueue::default(), moved: now });
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
            if self.players.get(&id).is_some_and(|player| matches!(player.state, State::Stream(_))) {
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

impl Player {
    /// Queues a chunk. True when the player is too slow and lost what waited.
    fn play(&mut self, now: Time, chunk: &Chunk) -> bool {
        let State::Stream(starter) = &mut self.state else { return false };
        let slow = self.queue.chunks() >= QUEUE_CHUNKS_MAX;
        if slow {
            self.queue.drop_unsent();
            starter.restart();
        }
        if self.queue.is_empty() {
            self.moved = now;
        }
        if let Some(piece) = starter.next(chunk) {
            // There is room: QUEUE_CHUNKS_MAX is below the queue's own limit.
            let _ = self.queue.push_chunk(chunk.header.seq, piece.tables, piece.stream);
        }
        slow
    }

    /// Reads and writes. An error is the connection's end.
    fn turn(
        &mut self,
        now: Time,
        path: &str,
        recent: &VecDeque<Chunk>,
        counters: &mut PlayoutCounters,
    ) -> io::Result<usize> {
        self.read(now, path, recent, counters)?;
        let written = self.queue.flush(&mut self.stream, BYTES_PER_TURN, &mut Vec::new())?;
        if written > 0 {
            self.moved = now;
        }
        if let State::Ending { shut: shut @ false } = &mut self.state
            && self.queue.is_empty()
        {
            *shut = true;
            self.moved = now;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(written)
    }

    fn read(
        &mut self,
        now: Time,
        path: &str,
        recent: &VecDeque<Chunk>,
        counters: &mut PlayoutCounters,
    ) -> io::Result<()> {
        let mut buf = [0; 2 << 10];
        // Bounded: a head, or as much as its owner discards of what follows one.
        for _ in 0..HEAD_BYTES_MAX / buf.len() + 1 {
            let len = match self.stream.read(&mut buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            let State::Head(head) = &mut self.state else { continue };
            head.extend_from_slice(&buf[..len]);
            match asked(head, path) {
                Asked::Incomplete => {}
                Asked::Stream => {
                    self.respond(RESPONSE);
                    self.state = State::Stream(Starter::default());
                    counters.players += 1;
                    for chunk in recent {
                        self.play(now, chunk);
                    }
                }
                Asked::HeadOnly => {
                    self.respond(RESPONSE);
                    self.state = State::Ending { shut: false };
                }
                Asked::Nothing(status) => {
                    counters.requests_bad += 1;
                    self.respond(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
                    self.state = State::Ending { shut: false };
                }
            }
        }
        // Somebody talks and talks: not a player.
        Err(io::ErrorKind::InvalidData.into())
    }

    fn respond(&mut self, head: &str) {
        // The queue is empty: a response is the first thing in it.
        let _ = self.queue.push_frame(head.as_bytes().to_vec());
    }

    fn has_media_out(&self) -> bool {
        self.queue.chunks_begun() > 0
    }

    fn overdue(&self, now: Time) -> bool {
        let patience = match self.state {
            State::Head(_) => HEAD_PATIENCE,
            State::Ending { shut: true } => LINGER,
            State::Ending { shut: false } => TAKE_PATIENCE,
            State::Stream(_) if self.queue.is_empty() => return false,
            State::Stream(_) => TAKE_PATIENCE,
        };
        now.since(self.moved) >= patience
    }
}

fn asked(head: &[u8], path: &str) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) if head.len() < HEAD_BYTES_MAX => return Asked::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Asked::Nothing("431 Request Header Fields Too Large");
        }
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Asked::Nothing("400 Bad Request"),
    }
    let target = request.path.unwrap_or_default();
    let target = target.split_once('?').map_or(target, |(target, _)| target);
    let known = target == path || target == "/";
    match request.method {
        Some("GET") if known => Asked::Stream,
        Some("HEAD") if known => Asked::HeadOnly,
        Some("GET" | "HEAD") => Asked::Nothing("404 Not Found"),
        _ => Asked::Nothing("405 Method Not Allowed\r\nAllow: GET, HEAD"),
    }
}

const _: () = assert!(QUEUE_CHUNKS_MAX < crate::net::queue::CHUNKS_QUEUED_MAX);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::net::poll::{Owner, owner};
    use crate::testing::chunk_with;

    /// A server, its poll, and a clock that the test moves.
    struct World {
        poll: Poll,
        http: HttpServer,
        recent: VecDeque<Chunk>,
        now: Now,
    }

    impl World {
        fn new() -> World {
            let poll = Poll::new().expect("a poll");
            let registry = poll.registry().try_clone().expect("a registry");
            let addr = "127.0.0.1:0".parse().expect("an address");
            let http = HttpServer::listen(addr, "news", registry).expect("a listener");
            World { poll, http, recent: VecDeque::new(), now: Now::default() }
        }

        /// A player that has asked for the stream and reads nothing by itself.
        fn player(&mut self) -> std::net::TcpStream {
            let before = self.http.counters().players;
            let addr = self.http.listener.local_addr().expect("bound");
            let mut player = std::net::TcpStream::connect(addr).expect("connected");
            player.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
            player.write_all(b"GET /news.ts HTTP/1.1\r\n\r\n").expect("asked");
            self.turn_until(|http| http.counters().players > before);
            player
        }

        fn turn_until(&mut self, done: impl Fn(&HttpServer) -> bool) {
            let mut events = Events::with_capacity(8);
            while !done(&self.http) {
                self.poll.poll(&mut events, Some(Duration::from_millis(20))).expect("polled");
                for event in &events {
                    match owner(event.token()) {
                        Owner::Player(player) => self.http.ready(player),
                        _ => self.http.can_accept(),
                    }
                }
                self.http.turn(self.now, &self.recent);
            }
        }

        fn play(&mut self, chunk: &Chunk) {
            self.http.play(self.now.time, chunk);
            self.http.turn(self.now, &self.recent);
        }
    }

    #[test]
    fn a_stopped_player_loses_chunks_and_then_its_connection_while_another_follows() {
        let mut world = World::new();
        let stopped = world.player();
        let mut reading = world.player();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            reading.read_to_end(&mut all).expect("read");
            all
        });
        let big = chunk_with(1, 188, Some(0), 188 * 400);
        for _ in 0..3 * QUEUE_CHUNKS_MAX {
            world.play(&big);
            // The reading player is followed at its own speed; the other one stays behind.
            world.turn_until(|http| http.players.values().any(|player| player.queue.is_empty()));
        }
        assert!(world.http.counters().player_skips > 0, "{:?}", world.http.counters());
        assert_eq!(world.http.counters().players_cut, 0);
        world.now.time = world.now.time.after(TAKE_PATIENCE);
        world.turn_until(|http| http.counters().players_cut == 1);
        assert_eq!(world.http.players(), 1);
        drop((world, stopped));
        let all = reader.join().expect("read");
        let media = 188 + 3 * QUEUE_CHUNKS_MAX * 188 * 400;
        assert_eq!(all.len(), RESPONSE.len() + media, "the other one has every byte");
    }

    #[test]
    fn a_player_begins_at_the_newest_key_frame_that_was_played() {
        let mut world = World::new();
        world.recent.extend([chunk_with(1, 188, Some(3), 6), chunk_with(2, 0, None, 3)]);
        let mut player = world.player();
        world.play(&chunk_with(3, 188, Some(0), 3));
        drop(world);
        let mut all = String::new();
        player.read_to_string(&mut all).expect("text");
        assert_eq!(all.strip_prefix(RESPONSE), Some(format!("{}...<2><3>", "T".repeat(188)).as_str()));
    }

    #[test]
    fn there_is_room_for_so_many_players_and_no_more() {
        let mut world = World::new();
        let players: Vec<_> = (0..PLAYERS_MAX).map(|_| world.player()).collect();
        let addr = world.http.listener.local_addr().expect("bound");
        let mut one_more = std::net::TcpStream::connect(addr).expect("the kernel lets it in");
        world.turn_until(|http| http.counters().players_over_limit == 1);
        assert!(matches!(one_more.read(&mut [0; 8]), Ok(0) | Err(_)), "it is turned away");
        drop(players);
        world.turn_until(|http| http.players() == 0);
        world.player();
    }

    #[test]
    fn half_a_request_is_given_five_seconds_and_a_long_one_is_refused() {
        let path = "/news.ts";
        assert_eq!(asked(b"GET /news.ts HT", path), Asked::Incomplete);
        assert_eq!(asked(b"GET /news.ts?x=1 HTTP/1.1\r\n\r\n", path), Asked::Stream);
        assert_eq!(asked(b"HEAD / HTTP/1.1\r\n\r\n", path), Asked::HeadOnly);
        let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
        assert!(matches!(asked(&long, path), Asked::Nothing(status) if status.starts_with("431")));
        let mut world = World::new();
        let addr = world.http.listener.local_addr().expect("bound");
        let mut half = std::net::TcpStream::connect(addr).expect("connected");
        half.write_all(b"GET /").expect("sent");
        world.turn_until(|http| http.players() == 1);
        world.now.time = world.now.time.after(HEAD_PATIENCE);
        world.turn_until(|http| http.players() == 0);
    }
}
