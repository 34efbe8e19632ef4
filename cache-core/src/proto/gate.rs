//! The answering half of every dialogue over datagrams: nobody is served, or remembered, before its address is proved.
//!
//! A question without a good cookie gets a [`Challenge`] of 24 bytes, the least that any datagram has, so that a forged
//! source address draws no more traffic than the forger spends. What cannot be read gets a refusal when that is no
//! longer than what came, else nothing. Answers, challenges and refusals are never answered: two servers cannot be made to
//! talk to each other for ever.
//!
//! The asking half is [`super::asker`].

use std::net::{IpAddr, SocketAddr};

use crate::outbox::Outbox;
use crate::sign::{COOKIE_PERIOD, ClusterKey, CookieJar};
use crate::time::Time;
use crate::wire::datagram::{Challenge, Cookie, DATAGRAM_HEAD_BYTES, Datagram, Message};
use crate::wire::{DecodeError, RefusalReason, Refused};

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Datagram,
}

/// What the gate has turned away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Challenges sent.
    pub challenges: u64,
    /// Messages that belong to no dialogue here: late answers, stray challenges.
    pub strays: u64,
}

/// Checks cookies.
#[derive(Clone, Debug)]
pub struct Gate {
    jar: CookieJar,
    stats: GateStats,
}

impl Gate {
    /// A gate that bakes from `jar`.
    pub const fn new(jar: CookieJar) -> Gate {
        Gate { jar, stats: GateStats { challenges: 0, strays: 0 } }
    }

    /// The nonce of a dial-back to `addr`: only who receives there can know it.
    pub fn dial_back_nonce(&self, addr: SocketAddr, now: Time) -> u64 {
        nonce_of(self.jar.bake(addr, now))
    }

    /// Whether `nonce` proves that its sender, `from`, receives there.
    pub fn proves(&self, nonce: u64, from: SocketAddr, now: Time) -> bool {
        let one_period_ago = now.before(COOKIE_PERIOD);
        [now, one_period_ago].iter().any(|at| nonce_of(self.jar.bake(from, *at)) == nonce)
    }

    /// A message has come that answers nothing that was asked.
    pub const fn stray(&mut self) {
        self.stats.strays += 1;
    }

    /// What was turned away so far.
    pub const fn stats(&self) -> GateStats {
        self.stats
    }

    /// True when `datagram` is a question from a proved address. Otherwise nothing is to be done for it: the challenge,
    /// where one is due, is in `out`.
    pub fn admits(&mut self, now: Time, from: SocketAddr, datagram: &Datagram, out: &mut Outbox<Outgoing>) -> bool {
        if !is_question(&datagram.message) {
            self.stray();
            return false;
        }
        // An answered dial-back carries its proof in its nonce, and is never answered.
        if matches!(datagram.message, Message::DialBackAck(_)) || self.jar.check(&datagram.cookie, from, now) {
            return true;
        }
        self.stats.challenges += 1;
        let cookie = self.jar.bake(from, now);
        let challenge = Datagram { exchange: datagram.exchange, cookie, message: Challenge {}.into() };
        out.push(Outgoing { to: from, datagram: challenge });
        false
    }
}

/// The network that bounds per network are counted by: the /24 of an IPv4 address, the /56 of an IPv6 one.
pub(super) fn prefix_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits() >> 8,
        IpAddr::V6(ip) => ip.to_bits() >> 72 << 72,
    }
}

fn nonce_of(cookie: Cookie) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = cookie.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Whether a message asks something of a server (as opposed to answering it, or ending a dialogue).
pub const fn is_question(message: &Message) -> bool {
    match message {
        Message::RouteJoin(_)
        | Message::RouteLeave(_)
        | Message::Join(_)
        | Message::PeerHeartbeat(_)
        | Message::PeerLeave(_)
        | Message::DialBackAck(_)
        | Message::KeysQuery(_)
        | Message::PublishRequest(_)
        | Message::CacheReport(_)
        | Message::CacheStreams(_)
        | Message::CacheKeys(_)
        | Message::Resolve(_)
        | Message::StreamAnnounce(_)
        | Message::LocateStream(_) => true,
        Message::Challenge(_)
        | Message::Refused(_)
        | Message::RouteJoined(_)
        | Message::Joined(_)
        | Message::PeerHeartbeatAck(_)
        | Message::SizeChanged(_)
        | Message::DialBack(_)
        | Message::Keys(_)
        | Message::PublishGrant(_)
        | Message::CacheReportAck(_)
        | Message::CachePull(_)
        | Message::CachePullAck(_)
        | Message::Resolved(_)
        | Message::StreamAnnounceAck(_)
        | Message::StreamLocated(_) => false,
    }
}

/// The refusal of a packet that could not be read; `None` when silence is right: it is not Weircast's, it is itself a
/// refusal or a challenge, or the refusal would be longer than the packet.
pub fn refusal_of(packet: &[u8], error: DecodeError, cluster: &ClusterKey) -> Option<Vec<u8>> {
    const KIND_AT: usize = 3;
    let head = packet.first_chunk::<DATAGRAM_HEAD_BYTES>()?;
    if !head.starts_with(b"WC") || matches!(head[KIND_AT], 1 | 2) {
        return None;
    }
    let reason = match error {
        DecodeError::Version(_) => RefusalReason::Version,
        DecodeError::Value("cluster tag") => RefusalReason::NotInCluster,
        DecodeError::TooLong { .. } => RefusalReason::TooLarge,
        _ => RefusalReason::BadMessage,
    };
    let exchange = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let refusal = Datagram { exchange, cookie: Cookie::default(), message: Refused::because(reason).into() };
    refusal.encode(cluster).filter(|bytes| bytes.len() <= packet.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::index::{Keys, KeysQuery};
    use crate::wire::{List, StreamName};

    fn question() -> Message {
        KeysQuery { stream: StreamName::new("a").expect("a name") }.into()
    }

    fn from() -> SocketAddr {
        "192.0.2.1:5".parse().expect("an address")
    }

    #[test]
    fn a_question_is_admitted_with_the_cookie_that_its_challenge_brought() {
        let (mut gate, mut out) = (Gate::new(CookieJar::new([1; 32])), Outbox::new());
        let bare = Datagram { exchange: 9, cookie: Cookie::default(), message: question() };
        assert!(!gate.admits(Time::ZERO, from(), &bare, &mut out));
        let challenge = out.drain().next().expect("a challenge").datagram;
        assert_eq!((challenge.exchange, challenge.message), (9, Challenge {}.into()));
        let proved = Datagram { cookie: challenge.cookie, ..bare };
        assert!(gate.admits(Time::ZERO, from(), &proved, &mut out));
        let elsewhere = "192.0.2.2:5".parse().expect("an address");
        assert!(!gate.admits(Time::ZERO, elsewhere, &proved, &mut out));
    }

    #[test]
    fn answers_and_challenges_are_met_with_silence() {
        let (mut gate, mut out) = (Gate::new(CookieJar::new([1; 32])), Outbox::new());
        let answer = Keys { stream: Default::default(), keys: List::new() }.into();
        for message in [answer, Challenge {}.into(), Refused::because(RefusalReason::Full).into()] {
            let stray = Datagram { exchange: 0, cookie: Cookie::default(), message };
            assert!(!gate.admits(Time::ZERO, from(), &stray, &mut out));
        }
        assert!(out.is_empty());
        assert_eq!(gate.stats().strays, 3);
    }

    #[test]
    fn an_unreadable_packet_is_refused_in_no_more_bytes_than_it_had() {
        let cluster = ClusterKey::derive("");
        let packet = |len: usize, version, kind| {
            let mut bytes = vec![0; len];
            bytes[..8].copy_from_slice(&[b'W', b'C', version, kind, 0, 0, 0, 7]);
            bytes
        };
        let refused = |bytes: &[u8]| {
            let error = Datagram::decode(bytes, &cluster).expect_err("unreadable");
            refusal_of(bytes, error, &cluster).map(|bytes| Datagram::decode(&bytes, &cluster).expect("a refusal"))
        };
        let answer = refused(&packet(40, 9, 16)).expect("long enough");
        assert_eq!((answer.exchange, answer.message), (7, Refused::because(RefusalReason::Version).into()));
        assert_eq!(refused(&packet(24, 9, 16)), None, "a refusal would be longer");
        assert_eq!(refused(&packet(40, 9, 2)), None, "a refusal is not refused");
        let answer = refused(&packet(40, crate::wire::VERSION, 128)).expect("long enough");
        assert_eq!(answer.message, Refused::because(RefusalReason::NotInCluster).into());
        assert_eq!(refused(&[b'x'; 100]), None);
        assert_eq!(refused(&[b'x'; 1300]), None, "too long, and still not Weircast's");
    }
}
