//! What a person sees while it runs: one line on standard error, rewritten on a terminal, or a JSON line a second.
//! Written by a thread, since a terminal or pipe may stop; a line that finds no room is left out.

use std::io::{self, IsTerminal};

use cache_core::proto::peer::{Snapshot, State, Stats};
use cache_core::time::{Span, Time};
use serde::Serialize;

use crate::cli::StatusMode;
use crate::report::Lag;
use crate::writer::Writer;

/// How often the status is shown on a terminal and as JSON.
const PERIOD: Span = Span::from_secs(1);

/// How often into a file or pipe, as text: a log must not fill up. Our guess.
const PERIOD_PLAIN: Span = Span::from_secs(10);

/// Where a status goes.
#[derive(Debug)]
pub(crate) struct StatusLine {
    mode: StatusMode,
    terminal: bool,
    writer: Option<Writer>,
    next: Time,
    /// Length of the line on the terminal, to know whether there is one to end.
    shown: bool,
}

/// What can be shown.
pub(crate) trait Status: Serialize {
    /// As one line of text.
    fn line(&self) -> String;
}

impl StatusLine {
    /// Shows nothing before its first period is over.
    pub(crate) fn new(mode: StatusMode) -> io::Result<StatusLine> {
        let writer = match mode {
            StatusMode::Off => None,
            StatusMode::Line | StatusMode::Json => Some(Writer::spawn("status", io::stderr(), 4, None)?),
        };
        Ok(StatusLine {
            mode,
            terminal: io::stderr().is_terminal(),
            writer,
            next: Time::ZERO.after(PERIOD),
            shown: false,
        })
    }

    /// When the next one is due.
    pub(crate) const fn next_timeout(&self) -> Time {
        if self.writer.is_some() { self.next } else { Time::NEVER }
    }

    /// Shows what `status` makes, if one is due.
    pub(crate) fn show<S: Status>(&mut self, now: Time, status: impl FnOnce() -> S) {
        let Some(writer) = self.writer.as_ref().filter(|_| self.next <= now) else { return };
        let plain = self.mode == StatusMode::Line && !self.terminal;
        self.next = now.after(if plain { PERIOD_PLAIN } else { PERIOD });
        let status = status();
        let text = match self.mode {
            StatusMode::Json => serde_json::to_string(&status).unwrap_or_default() + "\n",
            StatusMode::Line if self.terminal => format!("\r{}\x1b[K", status.line()),
            StatusMode::Line | StatusMode::Off => status.line() + "\n",
        };
        self.shown |= writer.offer(text.into());
    }

    /// Ends the line, so that what is said next begins its own.
    pub(crate) fn finish(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            if self.shown && self.terminal && self.mode == StatusMode::Line {
                writer.offer("\n".into());
            }
            writer.finish(std::time::Duration::from_millis(200));
        }
    }
}

/// A watching peer.
#[derive(Debug, Serialize)]
pub(crate) struct WatchStatus<'a> {
    stream: &'a str,
    state: State,
    buffer_ms: u64,
    partners: usize,
    members: usize,
    size: u32,
    /// Partners' share of all chunk bytes received, 0 to 1.
    share_from_peers: f64,
    lag_ms: Lag,
    chunks_played: u64,
    chunks_missed: u64,
    stalls: u64,
    players: usize,
    /// Bytes of chunks held.
    bytes_kept: usize,
}

impl<'a> WatchStatus<'a> {
    pub(crate) fn new(
        stream: &'a str,
        snapshot: &Snapshot,
        stats: &Stats,
        lag_ms: Lag,
        players: usize,
        bytes_kept: usize,
    ) -> Self {
        WatchStatus {
            stream,
            state: snapshot.state,
            buffer_ms: snapshot.buffer_ms,
            partners: snapshot.partners,
            members: snapshot.members,
            size: snapshot.size,
            share_from_peers: stats.offload(),
            lag_ms,
            chunks_played: stats.chunks_played,
            chunks_missed: stats.chunks_missed,
            stalls: stats.stalls,
            players,
            bytes_kept,
        }
    }
}

impl Status for WatchStatus<'_> {
    fn line(&self) -> String {
        let state = match self.state {
            State::Idle | State::Joining => "joining",
            State::Opening => "opening",
            State::Buffering => "buffering",
            State::Playing => "playing",
            State::Stalled => "waiting for the publisher",
            State::Finished => "finished",
        };
        let lag = self.lag_ms.p50.map_or("-".into(), |ms| format!("{:.1} s", ms as f64 / 1e3));
        format!(
            "{} {state} | buffer {:.1} s | partners {} of {} | from peers {:.0} % | lag {lag} | missed {} | players {}",
            self.stream,
            self.buffer_ms as f64 / 1e3,
            self.partners,
            self.size.saturating_sub(1),
            self.share_from_peers * 100.0,
            self.chunks_missed,
            self.players,
        )
    }
}
