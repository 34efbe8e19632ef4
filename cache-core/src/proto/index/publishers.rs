//! The index's answer to who wants to publish.

use super::publish::Authority;
use super::pulls::Outcome;
use super::terms::{Grant, SAME_REQUEST};
use super::{Answer, Index};
use crate::sign::{check_request, stream_id};
use crate::time::Time;
use crate::units::{ChunkSeq, Epoch, StreamId};
use crate::wire::datagram::Cookie;
use crate::wire::index::{HoldState, PublishGrant, PublishRequest};
use crate::wire::{List, RefusalReason};

/// Who finds no cache, or a name taken, may come again after this long: a cache's reporting period (our guess).
const RETRY_MS: u32 = 1_000;

/// Who has a name.
enum Owner {
    Nobody,
    Key([u8; 32]),
    /// Somebody is live whose key is not known here.
    Unknown,
}

impl Index {
    /// Grants a term, or says why not. A request that is repeated gets the same term; the rightful publisher who comes
    /// again gets a greater one, which fences what is left of the former.
    pub(super) fn publish(&mut self, now: Time, cookie: &Cookie, request: &PublishRequest) -> Answer {
        let Ok(authority) = self.config.publish.judge(request, cookie) else {
            self.stats.not_authorised += 1;
            return Answer::refuse(RefusalReason::NotAuthorised);
        };
        let stream = stream_id(&request.stream);
        if !check_request(&request.key, stream, cookie, &request.possession) {
            // Everybody knows a live publisher's key: whoever only names it could fence it, and push its term out of
            // the keys that viewers are told.
            self.stats.not_authorised += 1;
            return Answer::refuse(RefusalReason::BadSignature);
        }
        let caches = self.caches_for_publisher(now, stream, request);
        if caches.is_empty() {
            return Answer::refuse_for_now(RefusalReason::NoCache, RETRY_MS);
        }
        let repeated = self.last_grant(stream).filter(|g| g.key == request.key && now.since(g.at) < SAME_REQUEST);
        let grant = match repeated {
            Some(grant) => grant,
            None if self.may_locate(now, stream) => return Answer::Wait(request.stream.clone()),
            None => {
                let mine = match self.owner(now, stream) {
                    Owner::Nobody => true,
                    Owner::Key(key) => key == request.key,
                    Owner::Unknown => false,
                };
                let may_take = request.takeover && authority == Authority::Secret;
                if !mine && !may_take {
                    self.stats.name_taken += 1;
                    return Answer::refuse_for_now(RefusalReason::NameTaken, RETRY_MS);
                }
                let above = self.greatest_epoch(now, stream);
                let Some(grant) = self.terms.grant(now, stream, &request.stream, request.key, above) else {
                    return Answer::refuse_for_now(RefusalReason::Full, RETRY_MS);
                };
                self.stats.grants += 1;
                self.announcer.changed(now, stream);
                grant
            }
        };
        if let Some(first) = caches.first() {
            self.caches.assign(*first);
        }
        let heads = self.caches.holders(now, stream).filter(|(_, held)| held.state != HoldState::Fetching);
        let next = heads.map(|(_, held)| held.head.next()).max().unwrap_or(ChunkSeq::FIRST);
        PublishGrant { stream, epoch: grant.epoch, next, caches: List::first_of(caches) }.into()
    }

    /// Whether a grant was made so recently that its publisher may still be on the way to a cache.
    pub(super) fn just_granted(&self, now: Time, stream: StreamId) -> bool {
        self.last_grant(stream).is_some_and(|grant| now.since(grant.at) < self.config.publisher_silence)
    }

    /// The cache that asks for an HTTP publisher it has; else caches that hold the stream, the furthest ahead first, so that
    /// numbering goes on; else the least loaded.
    fn caches_for_publisher(&self, now: Time, stream: StreamId, request: &PublishRequest) -> Vec<std::net::SocketAddr> {
        if let Some(asking) = request.at_cache {
            return self.caches.get(asking).map(|_| asking).into_iter().collect();
        }
        self.caches.best(|cache| {
            let head = self.caches.holding(now, stream, cache).map(|held| held.head);
            Some(std::cmp::Reverse(head))
        })
    }

    fn last_grant(&self, stream: StreamId) -> Option<Grant> {
        self.terms.get(stream)?.grant
    }

    /// Who has the name: the publisher that uploads in this domain, or is on its way to, or uploads in another domain. One
    /// that its cache calls stalled has it no longer.
    fn owner(&self, now: Time, stream: StreamId) -> Owner {
        let elsewhere = matches!(self.pulls.outcome(now, stream), Some(Outcome::Located { origin: true, .. }));
        if !self.caches.has_origin(now, stream) && !self.just_granted(now, stream) && !elsewhere {
            return Owner::Nobody;
        }
        self.terms.keys(now, stream).first().map_or(Owner::Unknown, |newest| Owner::Key(newest.key))
    }

    fn greatest_epoch(&self, now: Time, stream: StreamId) -> Epoch {
        let here = self.caches.holders(now, stream).map(|(_, held)| held.epoch).max().unwrap_or_default();
        match self.pulls.outcome(now, stream) {
            Some(Outcome::Located { epoch, .. }) => here.max(*epoch),
            _ => here,
        }
    }
}
