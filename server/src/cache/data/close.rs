//! How connections end: refused, finished, closed, cut off, or handed to control.
//!
//! | way | what the other side sees |
//! |---|---|
//! | refuse | the reason, then the end |
//! | finish | everything that was begun, then the end; it has a second to close its own side, unless many wait for its place |
//! | close | the end: it has left, or said nothing that can be answered |
//! | cut | a reset; what the socket still held is thrown away, so that no page stays held by a reader that has stopped |

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use cache_core::time::Time;
use cache_core::wire::{Frame, RefusalReason, Refused};
use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};

use super::config::{HANDSHAKE_RESERVE, LINGER};
use super::connection::{Key, Phase};
use super::http::{HttpError, is_head};
use super::shard::Shard;
use crate::cache::bridge::ToControl;

impl Shard {
    /// Answers with a typed no and ends the connection.
    pub(super) fn refuse(&mut self, key: Key, refused: Refused) {
        self.answer(key, Frame::from(refused));
        self.finish(key);
    }

    /// Answers with an error response, or with `head_only` its head, and ends the connection.
    pub(super) fn refuse_http(&mut self, key: Key, error: HttpError, head_only: bool) {
        self.links.counters.http_errors.one();
        self.answer_bytes(key, error.response(head_only, true).as_bytes());
        self.finish(key);
    }

    /// Appends bytes to what the connection is sent.
    pub(super) fn answer_bytes(&mut self, key: Key, bytes: &[u8]) {
        let connection = &mut self.connections[key as usize];
        connection.about_to_append(self.now);
        connection.answers.append().extend_from_slice(bytes);
    }

    /// Ends the connection once everything that was begun is sent.
    pub(super) fn finish(&mut self, key: Key) {
        self.leave_all(key, Phase::Lingering);
        let connection = &mut self.connections[key as usize];
        connection.finishing = true;
        connection.deadline = Time::NEVER;
        if !connection.under_way.receive {
            self.receive_once(key);
        }
        self.schedule(key);
    }

    /// Everything that was begun is sent: ends our side, and waits a moment for the other one.
    pub(super) fn linger(&mut self, key: Key) {
        let connection = &mut self.connections[key as usize];
        connection.finishing = false;
        connection.deadline = self.now.after(LINGER);
        // It fails only when the other side is gone, which the receive under way tells.
        let _ = shutdown(&*connection, Shutdown::Write);
        let crowd = self.config.connections_max.saturating_add(HANDSHAKE_RESERVE / 2 + self.viewers.caches);
        if self.connections.len() >= crowd as usize {
            // A crowd is at the door. Those who have their answer wait for nothing; those behind them for a place.
            self.links.counters.lingers_cut_short.one();
            self.close(key);
        }
    }

    /// Cuts the connection off: what it has not taken is thrown away.
    pub(super) fn cut(&mut self, key: Key) {
        // It fails only on what is no socket. Closing then resets the connection.
        let _ = set_socket_linger(self.connections[key as usize].as_fd(), Some(Duration::ZERO));
        self.close(key);
    }

    /// Ends the connection; its place is free when its operations have completed.
    pub(super) fn close(&mut self, key: Key) {
        self.leave_all(key, Phase::Closing);
        let connection = &mut self.connections[key as usize];
        connection.sending = None;
        connection.finishing = false;
        connection.answers.clear();
        if !connection.under_way.none() {
            // Wakes all of them: receives end, polls report a hang-up, sends fail.
            let _ = shutdown(&*connection, Shutdown::Both);
        }
        self.retire_if_idle(key);
    }

    /// Frees the place of a closing connection that has no operation under way; its descriptor is closed.
    pub(super) fn retire_if_idle(&mut self, key: Key) {
        let connection = &self.connections[key as usize];
        if matches!(connection.phase, Phase::Closing) && connection.under_way.none() {
            self.connections.remove(key as usize);
        }
    }

    /// Takes the connection out of its streams' viewers; it is in `phase` from now on.
    fn leave_all(&mut self, key: Key, phase: Phase) {
        match std::mem::replace(&mut self.connections[key as usize].phase, phase) {
            Phase::Native(native) => {
                self.viewers.native -= 1;
                self.viewers.caches -= u32::from(native.is_cache);
                for joined in native.joined {
                    self.leave(joined.stream, joined.place);
                }
            }
            Phase::Http(http) => {
                self.viewers.http -= 1;
                self.leave(http.stream, http.place);
            }
            Phase::Asker(asker) => {
                self.viewers.http -= 1;
                if let Some((stream, place)) = asker.place() {
                    self.leave(stream, place);
                }
            }
            Phase::Handshake(_) | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// Takes the viewer at `place` out of a stream, and tells the one that moves into that place.
    pub(super) fn leave(&mut self, stream: u32, place: u32) {
        let Some(moved) = self.streams.leave(stream, place) else { return };
        match &mut self.connections[moved as usize].phase {
            Phase::Native(native) => {
                if let Some(joined) = native.joined.iter_mut().find(|joined| joined.stream == stream) {
                    joined.place = place;
                }
            }
            Phase::Http(http) => http.place = place,
            Phase::Asker(asker) => asker.moved(place),
            Phase::Handshake(_) | Phase::Lingering | Phase::Closing => {}
        }
    }

    /// Hands a publisher or an administrator to control, with all bytes received. No operation is under way on a
    /// connection in its handshake whose receive has just completed.
    pub(super) fn hand_over(&mut self, key: Key, read: Vec<u8>, http: bool) {
        if self.links.to_control.is_full() {
            self.links.counters.handovers_refused.one();
            return match http {
                true => self.refuse_http(key, HttpError::Unavailable, is_head(&read)),
                false => self.refuse(key, Refused::for_now(RefusalReason::Busy, 1000)),
            };
        }
        debug_assert!(self.connections[key as usize].under_way.none());
        let stream = TcpStream::from(self.connections.remove(key as usize).socket);
        // It has no peer when it was reset a moment ago.
        let Ok(from) = stream.peer_addr() else { return };
        let socket = stream.into();
        let message = match http {
            true => ToControl::Http { socket, from, read },
            false => ToControl::NativePublisher { socket, from, read },
        };
        if self.say(message) {
            self.links.counters.handed_over.one();
        }
    }
}
