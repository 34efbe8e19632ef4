//! Dial-backs: a peer that names another address than its own is told of to others only after that address has answered.
//!
//! The nonce follows from the address and a secret ([`crate::proto::gate::Gate::dial_back_nonce`]), so that only who receives
//! there can return it; here stands only which peer claimed the address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::peer_id::PeerId;
use crate::time::{Span, Time};
use crate::units::StreamId;

/// How long an address has to answer, and how long it is not dialled again. Our guess.
const ANSWER_WITHIN: Span = Span::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Claim {
    stream: StreamId,
    peer: PeerId,
    until: Time,
}

/// Dial-backs under way, one for each claimed address.
#[derive(Debug)]
pub struct DialBacks {
    max: usize,
    claims: BTreeMap<SocketAddr, Claim>,
    /// Claims not looked into because too many were under way, or because the address was just dialled.
    pub turned_away: u64,
}

impl DialBacks {
    /// None; at most `max` at once.
    pub const fn new(max: usize) -> DialBacks {
        DialBacks { max, claims: BTreeMap::new(), turned_away: 0 }
    }

    /// `peer` says that it takes connections at `addr`. True: dial it.
    pub fn claim(&mut self, now: Time, stream: StreamId, peer: PeerId, addr: SocketAddr) -> bool {
        if self.claims.get(&addr).is_some_and(|claim| claim.until > now) || self.claims.len() >= self.max {
            self.turned_away += 1;
            return false;
        }
        self.claims.insert(addr, Claim { stream, peer, until: now.after(ANSWER_WITHIN) });
        true
    }

    /// `addr` has answered with the right nonce: the peer that claimed it, if the answer is in time.
    pub fn answered(&mut self, now: Time, addr: SocketAddr) -> Option<(StreamId, PeerId)> {
        let claim = self.claims.remove(&addr)?;
        (claim.until > now).then_some((claim.stream, claim.peer))
    }

    /// Forgets claims whose time is over.
    pub fn expire(&mut self, now: Time) {
        self.claims.retain(|_, claim| claim.until > now);
    }

    /// Whether none is under way.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dialled_once_and_its_answer_names_the_claimant() {
        let mut dial_backs = DialBacks::new(1);
        let (addr, other) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let (stream, peer) = (StreamId(1), PeerId::new(Default::default(), 7));
        assert!(dial_backs.claim(Time::ZERO, stream, peer, addr));
        assert!(!dial_backs.claim(Time::ZERO, stream, peer, addr), "just dialled");
        assert!(!dial_backs.claim(Time::ZERO, stream, peer, other), "one at a time");
        assert_eq!(dial_backs.answered(Time::ZERO, other), None);
        assert_eq!(dial_backs.answered(Time::from_millis(100), addr), Some((stream, peer)));
        assert_eq!(dial_backs.answered(Time::from_millis(100), addr), None, "once");
        assert!(dial_backs.claim(Time::ZERO, stream, peer, addr));
        assert_eq!(dial_backs.answered(Time::from_millis(5_000), addr), None, "too late");
    }
}
