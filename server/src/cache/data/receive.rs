//! Bytes from connections: the handshake, then what their kind makes of them.

use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use cache_core::peer_id::PeerId;
use cache_core::wire::exchange::{Role, Welcome};
use cache_core::wire::{DecodeError, Frame, RefusalReason, Refused};
use rustix::io::Errno;

use super::config::HANDSHAKE_BYTES_MAX;
use super::connection::{Key, Native, Phase};
use super::handshake::{Verdict, judge};
use super::http::{HttpVerdict, is_head};
use super::inbox::Received;
use super::shard::Shard;
use crate::uring::{Completion, Operation};

impl Shard {
    /// Receives once: connections whose descriptor may leave the shard, or that are about to close.
    pub(super) fn receive_once(&mut self, key: Key) {
        let connection = &mut self.connections[key as usize];
        connection.under_way.receive = true;
        let token = connection.token(Operation::Receive, key);
        self.uring.receive_once(connection.as_fd(), token);
    }

    /// Receives until the other side closes: viewers.
    fn receive_many(&mut self, key: Key) {
        let connection = &mut self.connections[key as usize];
        connection.under_way.receive = true;
        let token = connection.token(Operation::Receive, key);
        self.uring.receive_many(connection.as_fd(), token);
    }

    pub(super) fn on_receive(&mut self, completion: &mut Completion) {
        let mut received = std::mem::take(&mut self.received);
        received.clear();
        self.uring.take_received(completion, &mut received);
        if let Some(key) = self.tenant(completion) {
            if !completion.more() {
                self.connections[key as usize].under_way.receive = false;
            }
            self.on_bytes(key, completion.result(), &received);
        }
        self.received = received;
    }

    fn on_bytes(&mut self, key: Key, result: Result<u32, Errno>, bytes: &[u8]) {
        let connection = &mut self.connections[key as usize];
        match (result, &mut connection.phase) {
            (_, Phase::Closing) => self.retire_if_idle(key),
            (Err(Errno::NOBUFS), _) => {
                self.links.counters.receive_buffers_empty.one();
                self.receive_again(key);
            }
            (Err(Errno::INTR | Errno::AGAIN), _) => self.receive_again(key),
            (Ok(0), Phase::Asker(_)) => self.on_asked_all(key),
            (Ok(0) | Err(_), phase) => {
                if matches!(phase, Phase::Handshake(_)) {
                    self.links.counters.handshakes_bad.one();
                }
                self.close(key);
            }
            (Ok(_), Phase::Handshake(before)) => {
                before.extend_from_slice(bytes);
                let before = std::mem::take(before);
                self.on_handshake(key, before);
            }
            (Ok(_), Phase::Native(_)) => {
                self.on_frames(key, bytes);
                self.receive_again(key);
            }
            (Ok(_), Phase::Asker(_)) => {
                self.on_asked(key, bytes);
                self.receive_again(key);
            }
            // An HTTP viewer has nothing more to say, nor has one that was answered.
            (Ok(_), Phase::Http(_) | Phase::Lingering) => self.receive_again(key),
        }
    }

    /// Arms the receive again if it has ended and its connection still wants one.
    fn receive_again(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key as usize) else { return };
        if connection.under_way.receive {
            return;
        }
        match connection.phase {
            Phase::Handshake(_) | Phase::Lingering => self.receive_once(key),
            Phase::Native(_) | Phase::Http(_) | Phase::Asker(_) => self.receive_many(key),
            Phase::Closing => {}
        }
    }

    fn on_handshake(&mut self, key: Key, bytes: Vec<u8>) {
        match judge(&bytes) {
            Verdict::More if bytes.len() >= HANDSHAKE_BYTES_MAX => self.oversize(key),
            Verdict::Oversize => self.oversize(key),
            Verdict::More => {
                self.connections[key as usize].phase = Phase::Handshake(bytes);
                self.receive_again(key);
            }
            Verdict::Viewer { hello, len } => self.welcome(key, hello.role, &bytes[len..]),
            Verdict::Publisher => self.hand_over(key, bytes, false),
            Verdict::Http(HttpVerdict::Control) => self.hand_over(key, bytes, true),
            Verdict::Http(HttpVerdict::Playout { name, head_only, back }) => {
                if !self.admits(Role::Viewer) {
                    return self.send_elsewhere_http(key, &bytes);
                }
                self.play(key, name, head_only, back);
                self.receive_again(key);
            }
            Verdict::Http(HttpVerdict::Asker) => {
                if !self.admits(Role::Viewer) {
                    return self.send_elsewhere_http(key, &bytes);
                }
                self.begin_asking(key, &bytes);
                self.receive_again(key);
            }
            Verdict::Http(HttpVerdict::Error(error)) => self.refuse_http(key, error, is_head(&bytes)),
            Verdict::Version => {
                self.links.counters.versions_refused.one();
                self.refuse(key, Refused::because(RefusalReason::Version));
            }
            Verdict::BadFrame => self.bad_frame(key),
            Verdict::Garbage => {
                self.links.counters.handshakes_bad.one();
                self.close(key);
            }
        }
    }

    fn oversize(&mut self, key: Key) {
        self.links.counters.handshakes_oversize.one();
        self.refuse(key, Refused::because(RefusalReason::TooLarge));
    }

    fn welcome(&mut self, key: Key, role: Role, rest: &[u8]) {
        if !self.admits(role) {
            return self.send_elsewhere(key);
        }
        // One beyond their number was let in as a viewer, and is one.
        let is_cache = role == Role::Cache && self.viewers.caches < self.config.caches_max;
        let connection = &mut self.connections[key as usize];
        let mut nonce = [0; 16];
        for (half, bytes) in nonce.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.nonces.hash_one((connection.generation, key, half)).to_be_bytes());
        }
        if is_cache {
            connection.deadline = self.now.after(self.config.handshake_deadline);
        }
        connection.phase = Phase::Native(Native { is_cache, ..Native::default() });
        self.viewers.native += 1;
        self.viewers.caches += u32::from(is_cache);
        self.answer(key, Frame::from(Welcome { peer: PeerId::NONE, nonce }));
        if !rest.is_empty() {
            self.on_frames(key, rest);
        }
        self.receive_again(key);
        self.flush(key);
    }

    /// Takes in frames of a viewer.
    fn on_frames(&mut self, key: Key, bytes: &[u8]) {
        let Phase::Native(native) = &mut self.connections[key as usize].phase else { return };
        let mut inbox = std::mem::take(&mut native.inbox);
        let fed = inbox.feed(bytes, |received| {
            match received {
                Received::Frame(frame) => self.on_frame(key, frame),
                Received::UnknownKind => self.links.counters.frames_unknown.one(),
            }
            // A frame may have ended the conversation.
            match self.connections.get(key as usize).map(|connection| &connection.phase) {
                Some(Phase::Native(_)) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        });
        if let Some(connection) = self.connections.get_mut(key as usize)
            && let Phase::Native(native) = &mut connection.phase
        {
            native.inbox = inbox;
            match fed {
                Ok(()) => self.flush(key),
                Err(DecodeError::Version(_)) => {
                    self.links.counters.versions_refused.one();
                    self.refuse(key, Refused::because(RefusalReason::Version));
                }
                Err(DecodeError::TooLong { .. }) => {
                    self.links.counters.frames_bad.one();
                    self.refuse(key, Refused::because(RefusalReason::TooLarge));
                }
                Err(_) => self.bad_frame(key),
            }
        }
    }

    /// Counts a frame that cannot be read or does not belong, and refuses its sender.
    pub(super) fn bad_frame(&mut self, key: Key) {
        self.links.counters.frames_bad.one();
        self.refuse(key, Refused::because(RefusalReason::BadMessage));
    }
}
