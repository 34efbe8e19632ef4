//! The server over real sockets, its clock in the test's hand.

use std::io::{Read, Write};
use std::time::Duration;

use mio::{Events, Poll};

use super::player::{Asked, HEAD_BYTES_MAX, HEAD_PATIENCE, QUEUE_CHUNKS_MAX, RESPONSE, TAKE_PATIENCE, asked};
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
        world.turn_until(|http| http.players.values().any(Player::is_flushed));
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
