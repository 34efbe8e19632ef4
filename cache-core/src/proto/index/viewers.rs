//! The index's answers to peers: partners and caches for a stream, heartbeats, keys, and that N has changed.

use std::net::SocketAddr;
use std::ops::Bound;

use super::swarm::JoinError;
use super::{Answer, Index, UNKNOWN_RETRY_MS, sample};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::outbox::Outbox;
use crate::peer_id::PeerId;
use crate::proto::gate::Outgoing;
use crate::sign::{ClusterKey, stream_id};
use crate::time::Time;
use crate::units::StreamId;
use crate::wire::codec::Wire;
use crate::wire::datagram::{Cookie, Datagram};
use crate::wire::exchange::PeerEntry;
use crate::wire::index::{
    DialBack, DialBackAck, Join, Joined, Keys, KeysQuery, PeerHeartbeat, PeerHeartbeatAck, PeerLeave, SizeChanged,
};
use crate::wire::{List, RefusalReason};

/// A peer that finds no room may come again after this long: a heartbeat (our guess).
const FULL_RETRY_MS: u32 = 5_000;

impl Index {
    pub(super) fn join(&mut self, now: Time, from: SocketAddr, join: &Join, out: &mut Outbox<Outgoing>) -> Answer {
        let (stream, me) = (stream_id(&join.stream), join.peer);
        if me == PeerId::NONE {
            return Answer::refuse(RefusalReason::BadMessage);
        }
        let caches = match self.caches_for_viewer(now, stream, &join.stream) {
            Ok(caches) => caches,
            Err(answer) => return *answer,
        };
        if self.terms.keys(now, stream).is_empty() && self.may_locate(now, stream) {
            // A cache holds it, its keys are not known (this index server was restarted): the route server has them.
            return Answer::Wait(join.stream.clone());
        }
        let (listed, to_prove) = self.addresses(stream, me, from, join.listen);
        match self.swarms.join(now, stream, me, from, listed) {
            Ok(()) => {}
            Err(error) => {
                // A silent peer may have made way for this one, and was the stream's last.
                self.resized(stream);
                let reason = if error == JoinError::Full { RefusalReason::Full } else { RefusalReason::Busy };
                return Answer::refuse_for_now(reason, FULL_RETRY_MS);
            }
        }
        if let Some(claimed) = to_prove {
            self.dial_back(now, stream, me, claimed, out);
        }
        self.terms.touch(now, stream);
        self.resized(stream);
        if let Some(first) = caches.first() {
            self.caches.assign(*first);
        }
        let size = self.swarms.size(stream);
        let mut answer = Joined {
            stream,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            heartbeat_ms: u32::try_from(self.config.heartbeat.millis()).unwrap_or(u32::MAX),
            seen: from,
            keys: self.terms.keys(now, stream),
            caches: List::first_of(caches),
            members: List::new(),
        };
        let wanted = self.config.members_wanted(size);
        if let Some(swarm) = self.swarms.get(stream) {
            let members = sample::members(swarm, me, wanted, self.config.random_members_percent, &mut self.rng);
            answer.members = List::first_of(fitting(&answer, members));
        }
        answer.into()
    }

    pub(super) fn heartbeat(&mut self, now: Time, from: SocketAddr, beat: &PeerHeartbeat) -> Answer {
        let Some(size) = self.swarms.heartbeat(now, beat.stream, beat.peer, from) else {
            return Answer::refuse(RefusalReason::NotJoined);
        };
        self.terms.touch(now, beat.stream);
        PeerHeartbeatAck { stream: beat.stream, size: u32::try_from(size).unwrap_or(u32::MAX) }.into()
    }

    /// A farewell is not answered.
    pub(super) fn leave(&mut self, from: SocketAddr, leave: &PeerLeave) -> Answer {
        if self.swarms.leave(leave.stream, leave.peer, from) {
            self.resized(leave.stream);
        }
        Answer::Silence
    }

    /// The keys of a stream. Those of another domain's publisher may be out of date: the route server is asked first.
    pub(super) fn keys(&mut self, now: Time, query: &KeysQuery) -> Answer {
        let stream = stream_id(&query.stream);
        if !self.caches.has_origin(now, stream) && !self.just_granted(now, stream) && self.may_locate(now, stream) {
            return Answer::Wait(query.stream.clone());
        }
        self.terms.touch(now, stream);
        let keys = self.terms.keys(now, stream);
        if keys.is_empty() {
            return Answer::refuse_for_now(RefusalReason::UnknownStream, UNKNOWN_RETRY_MS);
        }
        Keys { stream, keys }.into()
    }

    pub(super) fn dial_back_ack(&mut self, now: Time, from: SocketAddr, ack: &DialBackAck) -> Answer {
        if self.gate.proves(ack.nonce, from, now)
            && let Some((stream, peer)) = self.dial_backs.answered(now, from)
        {
            self.stats.dial_backs_answered += 1;
            self.swarms.list(stream, peer, from);
        }
        Answer::Silence
    }

    /// The size of `stream` may have changed by the "certain scale".
    pub(super) fn resized(&mut self, stream: StreamId) {
        self.notices.resized(&self.config, stream, self.swarms.size(stream));
    }

    /// Goes on telling sizes.
    pub(super) fn tell_sizes(&mut self, out: &mut Outbox<Outgoing>) {
        let mut left = self.config.size_changed_per_tick;
        while left > 0
            && let Some((stream, behind)) = self.notices.next()
        {
            let size = self.swarms.size(stream);
            let mut reached = None;
            if let Some(swarm) = self.swarms.get(stream) {
                for (id, peer) in swarm.peers().range((Bound::Excluded(behind), Bound::Unbounded)).take(left) {
                    let message = SizeChanged { stream, size: u32::try_from(size).unwrap_or(u32::MAX) }.into();
                    let datagram = Datagram { exchange: 0, cookie: Cookie::default(), message };
                    out.push(Outgoing { to: peer.seen, datagram });
                    self.stats.sizes_told += 1;
                    left -= 1;
                    reached = Some(*id);
                }
            }
            let more = reached.filter(|_| left == 0);
            self.notices.reached(stream, more);
            if more.is_none() {
                self.resized(stream);
            }
        }
    }

    /// What a peer's claim to take connections at `listen` is worth: the address that is proved, and the one that is to
    /// be. Only the source of its datagrams counts as seen: behind a translation another port is another host.
    fn addresses(
        &self,
        stream: StreamId,
        me: PeerId,
        from: SocketAddr,
        listen: Option<SocketAddr>,
    ) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let Some(listen) = listen.filter(|listen| listen.port() != 0) else { return (None, None) };
        let claimed = if listen.ip().is_unspecified() { SocketAddr::new(from.ip(), listen.port()) } else { listen };
        if claimed == from {
            return (Some(from), None);
        }
        let listed = self.swarms.get(stream).and_then(|swarm| swarm.peers().get(&me)).and_then(|peer| peer.listed);
        match listed {
            Some(proved) if proved == claimed => (Some(proved), None),
            _ => (None, Some(claimed)),
        }
    }

    fn dial_back(
        &mut self,
        now: Time,
        stream: StreamId,
        peer: PeerId,
        claimed: SocketAddr,
        out: &mut Outbox<Outgoing>,
    ) {
        if self.dial_backs.claim(now, stream, peer, claimed) {
            self.stats.dial_backs += 1;
            let message = DialBack { nonce: self.gate.dial_back_nonce(claimed, now) }.into();
            out.push(Outgoing { to: claimed, datagram: Datagram { exchange: 0, cookie: Cookie::default(), message } });
        }
    }
}

/// As many of `members` as fit into one datagram beside the rest of `answer`; the farthest of the near ones, which stand in
/// front of the random quarter, are left out first.
fn fitting(answer: &Joined, mut members: Vec<PeerEntry>) -> Vec<PeerEntry> {
    let bare = Datagram { exchange: 0, cookie: Cookie::default(), message: answer.clone().into() };
    // A Joined is not sealed: its length does not depend on the cluster's key.
    let used = bare.encode(&ClusterKey::derive("")).map_or(DATAGRAM_BYTES_MAX, |bytes| bytes.len());
    let bytes_of = |members: &[PeerEntry]| {
        let mut bytes = Vec::new();
        members.iter().for_each(|entry| entry.put(&mut bytes));
        bytes.len()
    };
    while !members.is_empty() && used + bytes_of(&members) > DATAGRAM_BYTES_MAX {
        members.remove(members.len() * 3 / 4);
    }
    members
}
