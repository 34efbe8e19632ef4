//! Where played chunks go: players at the local HTTP server, and a file or a pipe.
//!
//! ```text
//!   machine --Play--> Playout --+--> recent     what a new player begins with
//!                               +--> http       each player: Starter, bounded queue
//!                               +--> file       Starter, writer thread
//! ```
//! Every sink begins by the rule of [`start::Starter`] and gets whole transport stream parts from there on, in the
//! order of play-out. A sink that cannot follow leaves chunks out and begins again at a key frame.

pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod start;

use std::collections::VecDeque;

use cache_core::time::{Time, WallClock};
use serde::Serialize;

use crate::clock::Now;
use crate::net::framing::Chunk;
use crate::playout::file::FileSink;
use crate::playout::http::HttpServer;

/// Most chunks kept for players that come; with a longer distance between key frames they wait for the next one. Our
/// guess: 15 s, above any usual distance.
pub(crate) const RECENT_MAX: usize = 75;

/// What the sinks met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PlayoutCounters {
    /// Players served.
    pub(crate) players: u64,
    /// Players turned away because there were enough.
    pub(crate) players_over_limit: u64,
    /// Requests that were none for this stream.
    pub(crate) requests_bad: u64,
    /// Times that a player was too slow and began again at a key frame.
    pub(crate) player_skips: u64,
    /// Players cut off because they took nothing.
    pub(crate) players_cut: u64,
    /// Chunks that the file or pipe had no room for.
    pub(crate) file_chunks_skipped: u64,
}

/// All sinks.
#[derive(Debug)]
pub(crate) struct Playout {
    /// The local server.
    pub(crate) http: HttpServer,
    /// File or pipe.
    pub(crate) file: Option<FileSink>,
    recent: VecDeque<Chunk>,
    first_played: Option<WallClock>,
    /// Whether a sink was there when the first chunk was played: then its first byte counts.
    had_sink: bool,
}

impl Playout {
    /// Before the first chunk.
    pub(crate) const fn new(http: HttpServer, file: Option<FileSink>) -> Playout {
        Playout { http, file, recent: VecDeque::new(), first_played: None, had_sink: false }
    }

    /// Plays `chunk` out to every sink.
    pub(crate) fn play(&mut self, now: Now, chunk: &Chunk) {
        if self.first_played.is_none() {
            self.first_played = Some(now.wall);
            self.had_sink = self.file.is_some() || self.http.has_listeners();
        }
        if let Some(file) = &mut self.file {
            file.play(chunk);
        }
        self.http.play(now.time, chunk);
        self.remember(chunk);
    }

    /// Moves bytes to players and lets new ones in.
    pub(crate) fn turn(&mut self, now: Now) {
        self.http.turn(now, &self.recent);
    }

    /// When [`Playout::turn`] has something to do.
    pub(crate) fn next_timeout(&self) -> Time {
        self.http.next_timeout()
    }

    /// When the first byte went to a sink; without a sink at the first chunk's time, when that was played.
    pub(crate) fn first_byte(&self) -> Option<WallClock> {
        let file = self.file.as_ref().and_then(FileSink::first_byte);
        let to_sink = [file, self.http.first_byte()].into_iter().flatten().min();
        if self.had_sink { to_sink } else { self.first_played }
    }

    /// What the sinks met.
    pub(crate) fn counters(&self) -> PlayoutCounters {
        let file_chunks_skipped = self.file.as_ref().map_or(0, FileSink::chunks_skipped);
        PlayoutCounters { file_chunks_skipped, ..self.http.counters() }
    }

    /// Keeps the chunks from the newest join point on.
    fn remember(&mut self, chunk: &Chunk) {
        if chunk.header.is_join_point() {
            self.recent.clear();
        } else if self.recent.is_empty() {
            return;
        }
        self.recent.push_back(chunk.clone());
        if self.recent.len() > RECENT_MAX {
            self.recent.clear();
        }
    }
}
